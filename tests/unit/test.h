// SPDX-License-Identifier: MIT
// The host's unit tests. A test file includes the .c files under test, then has TEST(name) { ... }
// bodies with CHECKs; each file is one program, whose exit status is the verdict. panic() ends the
// test as failed unless it is expected: CHECK_PANICS(statement).
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "vmm/lib/types.h"
#include "vmm/lib/string.h"

struct test_case {
    const char *name;
    void (*body)(void);
    struct test_case *next;
};

static struct test_case *test_first, **test_last = &test_first;
static bool test_failed;
static bool test_panic_expected;
static jmp_buf test_panic_jump;

#define TEST(id)                                                                                   \
    static void test_body_##id(void);                                                              \
    static struct test_case test_case_##id = {#id, test_body_##id, 0};                             \
    __attribute__((constructor)) static void test_register_##id(void)                              \
    {                                                                                              \
        *test_last = &test_case_##id;                                                              \
        test_last = &test_case_##id.next;                                                          \
    }                                                                                              \
    static void test_body_##id(void)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition);                   \
            test_failed = true;                                                                    \
        }                                                                                          \
    } while (0)

// Compare two integers and show both.
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        unsigned long long test_a = (unsigned long long)(a), test_b = (unsigned long long)(b);     \
        if (test_a != test_b) {                                                                    \
            printf("%s:%d: CHECK_EQ(%s, %s): 0x%llx, 0x%llx\n", __FILE__, __LINE__, #a, #b,        \
                   test_a, test_b);                                                                \
            test_failed = true;                                                                    \
        }                                                                                          \
    } while (0)

#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *test_a = (a), *test_b = (b);                                                   \
        if (strcmp(test_a, test_b) != 0) {                                                         \
            printf("%s:%d: CHECK_STR(%s, %s): \"%s\", \"%s\"\n", __FILE__, __LINE__, #a, #b,       \
                   test_a, test_b);                                                                \
            test_failed = true;                                                                    \
        }                                                                                          \
    } while (0)

#define CHECK_PANICS(statement)                                                                    \
    do {                                                                                           \
        test_panic_expected = true;                                                                \
        if (setjmp(test_panic_jump) == 0) {                                                        \
            statement;                                                                             \
            printf("%s:%d: no panic: %s\n", __FILE__, __LINE__, #statement);                       \
            test_failed = true;                                                                    \
        }                                                                                          \
        test_panic_expected = false;                                                               \
    } while (0)

__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);
void panic(const char *format, ...)
{
    if (test_panic_expected)
        longjmp(test_panic_jump, 1);
    va_list arguments;
    va_start(arguments, format);
    printf("panic: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    abort();
}

#ifndef TEST_OTHER_MAIN // a fuzzer has its own
int main(int argc, char **argv)
{
    (void)argc;
    unsigned passed = 0, failed = 0;
    for (struct test_case *t = test_first; t; t = t->next) {
        test_failed = false;
        t->body();
        if (test_failed)
            printf("FAIL %s: %s\n", argv[0], t->name);
        if (test_failed)
            failed++;
        else
            passed++;
    }
    printf("%s: %u passed, %u failed\n", argv[0], passed, failed);
    return failed || !passed ? 1 : 0;
}
#endif
