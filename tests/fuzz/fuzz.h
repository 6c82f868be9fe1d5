// SPDX-License-Identifier: MIT
// The fuzzers' frame (libFuzzer): a fuzzer takes what it does from its input, as a sequence of
// numbers that never ends (zeros follow). What the sanitizers find, a panic and a CHECK that fails
// end the run and leave the input in a file. See docs/testing.md.
#pragma once

#define TEST_OTHER_MAIN
#include "tests/unit/test.h"
#include "vmm/lib/bits.h"

struct fuzz {
    const u8 *at;
    size_t left;
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static UNUSED void fuzz_bytes(struct fuzz *f, void *to, size_t size)
{
    size_t taken = MIN(size, f->left);
    memset(to, 0, size);
    if (taken)
        memcpy(to, f->at, taken);
    f->at += taken;
    f->left -= taken;
}

// A number of 1 to 8 bytes.
static UNUSED u64 fuzz_number(struct fuzz *f, unsigned bytes)
{
    u64 value = 0;
    fuzz_bytes(f, &value, bytes);
    return value;
}

// From 0 to limit - 1, by one byte.
static UNUSED unsigned fuzz_below(struct fuzz *f, unsigned limit)
{
    return (unsigned)fuzz_number(f, 1) % limit;
}

// A copy of exactly its size, so that the sanitizer sees a read past the end. To be freed.
static UNUSED void *fuzz_copy(const void *bytes, size_t size)
{
    void *copy = malloc(MAX(size, (size_t)1));
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

// At the end of each input.
static void fuzz_verdict(void)
{
    if (test_failed)
        abort();
}
