// SPDX-License-Identifier: MIT
// Error codes. A command returns 0 (OK) or one of these, all negative; a predicate returns bool.
#pragma once

#define ERROR_LIST(X)                                                                              \
    X(ERR_NO_MEMORY, -1, "out of memory")                                                          \
    X(ERR_INVALID, -2, "invalid argument")                                                         \
    X(ERR_NOT_FOUND, -3, "not found")                                                              \
    X(ERR_EXISTS, -4, "exists already")                                                            \
    X(ERR_BUSY, -5, "busy")                                                                        \
    X(ERR_RANGE, -6, "out of range")                                                               \
    X(ERR_UNSUPPORTED, -7, "not supported")                                                        \
    X(ERR_FORMAT, -8, "malformed")                                                                 \
    X(ERR_FAULT, -9, "address not backed by memory")                                               \
    X(ERR_STATE, -10, "wrong state for this")

enum error_code {
    OK = 0,
#define X(name, value, text) name = value,
    ERROR_LIST(X)
#undef X
};

// A few words for an error code, for messages. Never null.
const char *error_text(int error);
