// SPDX-License-Identifier: MIT
// The C library's memory and string functions that freestanding code needs, with their standard
// meanings.
#pragma once

#include "vmm/lib/types.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);

// Copy at most size - 1 characters and always terminate. Returns false if the text was cut.
bool string_copy(char *to, size_t size, const char *from);
// Compare without regard to ASCII case.
bool string_equal_nocase(const char *a, const char *b);
bool string_starts(const char *s, const char *prefix);
