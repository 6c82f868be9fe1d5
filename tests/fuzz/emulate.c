// SPDX-License-Identifier: MIT
// The decoder and the emulator with any instruction, in every mode, on any registers: each exit
// ends in an action that is complete, after a bounded amount of work.
#include "tests/fuzz/fuzz.h"
#include "arch/x86_64/insn.c"
#include "arch/x86_64/insn_native.c"
#include "arch/x86_64/insn_table.c"
#include "vmm/emulate/alu.c"
#include "vmm/emulate/alu_multiply.c"
#include "vmm/emulate/guest_walk.c"
#include "vmm/emulate/emulate_fetch.c"
#include "vmm/emulate/emulate_memory.c"
#include "vmm/emulate/emulate_string.c"
#include "vmm/emulate/emulate_stack.c"
#include "vmm/emulate/emulate_wide.c"
#include "vmm/emulate/emulate_vector.c"
#include "vmm/emulate/emulate_x87.c"
#include "vmm/emulate/emulate_arithmetic.c"
#include "vmm/emulate/emulate_system.c"
#include "vmm/emulate/emulate_far.c"
#include "vmm/emulate/emulate_native.c"
#include "vmm/emulate/task_segments.c"
#include "vmm/emulate/task_switch.c"
#include "vmm/emulate/emulate.c"
#include "tests/unit/fake_guest.h"

#define LENGTH_MAX   15
#define ACCESSES_MAX 100000 // of one exit
#define PORT         0x1f0

void *heap_alloc(size_t size)
{
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

bool control_register_write(struct vcpu *v, unsigned number, u64 value)
{
    (void)v;
    CHECK(number == 0);
    regs[REG_CR0] = value;
    return true;
}

bool string_copy(char *to, size_t size, const char *from)
{
    return (size_t)snprintf(to, size, "%s", from) < size;
}

static unsigned port_accesses;

bool vm_port_read(struct vcpu *v UNUSED, u16 port UNUSED, unsigned size, u64 *value)
{
    CHECK(size == 1 || size == 2 || size == 4);
    *value = ++port_accesses & bytes_mask(size);
    return true;
}

bool vm_port_write(struct vcpu *v UNUSED, u16 port UNUSED, unsigned size, u64 value)
{
    CHECK((value & ~bytes_mask(size)) == 0);
    port_accesses++;
    return true;
}

static void set_mode(struct fuzz *f)
{
    static const struct {
        u64 cr0, cr4, efer;
        u32 code;
    } modes[] = {
        {CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE, CODE64},
        {CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE, CODE32},
        {CR0_PE, 0, 0, CODE32},
        {CR0_PE, 0, 0, CODE16},
        {0, 0, 0, CODE16},
    };
    unsigned mode = fuzz_below(f, ARRAY_SIZE(modes));
    regs[REG_CR0] = modes[mode].cr0;
    regs[REG_CR4] = modes[mode].cr4;
    regs[REG_EFER] = modes[mode].efer;
    segments[SEG_CS].access = modes[mode].code;
    regs[REG_RFLAGS] = fuzz_number(f, 3) | RFLAGS_RESERVED;
    if (fuzz_below(f, 4) == 0)
        for (unsigned i = SEG_ES; i <= SEG_GS; i++)
            segments[i] =
                (struct segment){.base = fuzz_number(f, 4),
                                 .limit = (u32)fuzz_number(f, 4),
                                 .access = i == SEG_CS ? modes[mode].code : (u32)fuzz_number(f, 3)};
}

static u64 any_register(struct fuzz *f)
{
    u64 value = fuzz_number(f, 2);
    switch (fuzz_below(f, 4)) {
    case 0:
        return DEVICE + value % sizeof(device);
    case 1:
        return value << 4; // RAM, and its end
    case 2:
        return fuzz_number(f, 8);
    default:
        return value;
    }
}

static void exit_once(struct fuzz *f)
{
    u64 rip = CODE + (fuzz_below(f, 8) ? 0 : PAGE_SIZE - fuzz_below(f, 16));
    unsigned length = fuzz_below(f, LENGTH_MAX + 1);
    bool io = fuzz_below(f, 4) == 0;
    fuzz_bytes(f, ram + rip, length);
    struct vm_exit ex = {.kind = io ? EXIT_IO : EXIT_MEMORY, .rip = rip};
    if (io) {
        ex.io.port = PORT;
        ex.io.size = (u8)(1u << fuzz_below(f, 3));
        ex.io.write = fuzz_below(f, 2);
        ex.io.string = true;
    } else {
        ex.memory.gpa = DEVICE + fuzz_number(f, 2) % sizeof(device);
        ex.memory.gva = fuzz_below(f, 2) ? ex.memory.gpa : any_register(f);
        ex.memory.gva_valid = fuzz_below(f, 8);
        ex.memory.walk = fuzz_below(f, 16) == 0;
        ex.memory.access = fuzz_below(f, 8);
    }
    device_reads = device_writes = port_accesses = 0;
    enum exit_action action = io ? emulate_string_io(&vcpu, &ex) : emulate_mmio(&vcpu, &ex);
    CHECK(action == ACTION_RETRY || action == ACTION_NEXT || action == ACTION_FAULT ||
          action == ACTION_STOP);
    CHECK(action != ACTION_NEXT || (ex.length >= 1 && ex.length <= LENGTH_MAX));
    CHECK(action != ACTION_FAULT || (ex.fault.valid && ex.fault.vector < 32));
    CHECK(action != ACTION_FAULT || ex.fault.vector != 14 || ex.fault.has_error);
    CHECK(action != ACTION_STOP || killed[0]);
    CHECK(device_reads + device_writes + port_accesses < ACCESSES_MAX);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz f = {data, size};
    fake_guest_reset();
    set_mode(&f);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        vcpu_gpr_write(&vcpu, i, any_register(&f));
    for (unsigned n = 0; n < 16 && f.left; n++)
        exit_once(&f);
    emulate_destroy(&vcpu);
    fuzz_verdict();
    return 0;
}
