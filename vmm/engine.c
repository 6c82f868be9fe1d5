// SPDX-License-Identifier: MIT
// The engines of this build, and which of them this machine can run.
#include "vmm/engine.h"
#include "vmm/lib/string.h"

struct engine engines[] = {
    {&vmx_ops, "not probed"},
};
const unsigned engine_count = ARRAY_SIZE(engines);

void engine_probe_all(void)
{
    for (unsigned i = 0; i < engine_count; i++)
        engines[i].refused = engines[i].ops->probe();
}

struct engine *engine_find(const char *name)
{
    bool any = !name || !strcmp(name, "auto");
    for (unsigned i = 0; i < engine_count; i++) {
        if (any ? !engines[i].refused : !strcmp(name, engines[i].ops->name))
            return &engines[i];
    }
    return NULL;
}
