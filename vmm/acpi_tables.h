// SPDX-License-Identifier: MIT
// The ACPI tables that a guest finds: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, an SSDT with the
// processors, and HPET if there is one.
#pragma once

#include "mm/guest_memory.h"

// Place them in the firmware's reserved memory (LAYOUT_BIOS), which must be there. The RSDP's
// address comes back in *rsdp. ERR_RANGE: too many processors; else what writing guest memory says.
MUST_CHECK int acpi_tables_build(struct guest_memory *gm, unsigned cpus, bool hpet, gpa_t *rsdp);
