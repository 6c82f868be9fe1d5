// SPDX-License-Identifier: MIT
// Words for error codes.

#include "vmm/lib/error.h"
#include "vmm/lib/types.h"

static const struct {
    int code;
    const char *text;
} error_texts[] = {{OK, "ok"},
#define X(name, value, words) {name, words},
                   ERROR_LIST(X)
#undef X
};

const char *error_text(int error)
{
    for (size_t i = 0; i < ARRAY_SIZE(error_texts); i++)
        if (error_texts[i].code == error)
            return error_texts[i].text;
    return "unknown error";
}
