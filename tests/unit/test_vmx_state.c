// SPDX-License-Identifier: MIT
#include "tests/unit/fake_vmx.h"
#include "arch/x86_64/vmx/control_registers.c"
#include "arch/x86_64/vmx/state.c"

struct vmx_capabilities vmx_capabilities;
static struct vm vm;
static struct vcpu vcpu;
static struct vmx_vcpu engine;
static struct vmx_cpu fake_vmx_cpu;
static u64 fake_table[4];
static gpa_t fake_table_gpa;
static unsigned flushes;
static u64 swapped[VMX_SWAPPED_MSRS];

int guest_memory_read(struct guest_memory *gm, gpa_t gpa, void *to, u64 size)
{
    CHECK(gm == &vm.memory);
    if (gpa != fake_table_gpa || size != sizeof(fake_table))
        return ERR_FAULT;
    memcpy(to, fake_table, size);
    return OK;
}

void vmx_flush_linear(struct vmx_vcpu *v)
{
    (void)v;
    flushes++;
}

u64 vmx_swapped_msr_read(const struct vmx_vcpu *v, unsigned index)
{
    (void)v;
    return swapped[index];
}

void vmx_swapped_msr_write(struct vmx_vcpu *v, unsigned index, u64 value)
{
    (void)v;
    swapped[index] = value;
}

void vmx_pending_debug_adjust(void)
{
}

struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v)
{
    return v;
}

void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    (void)v;
    (void)former;
}

static void fresh(void)
{
    memset(fake_fields, 0, sizeof(fake_fields));
    memset(&engine, 0, sizeof(engine));
    fake_percpu.engine = &fake_vmx_cpu;
    fake_vmx_cpu.current = &engine;
    vcpu.engine = &engine;
    vcpu.vm = &vm;
    engine.vcpu = &vcpu;
    vmx_capabilities = (struct vmx_capabilities){
        .cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG,
        .cr0_fixed1 = 0xffffffff,
        .cr4_fixed0 = CR4_VMXE,
        .cr4_fixed1 = 0x3767ff,
        .physical_bits = 39,
        .linear_bits = 48,
    };
    fake_table_gpa = 0x1000;
    memset(fake_table, 0, sizeof(fake_table));
    flushes = 0;
}

TEST(cr0_reads_back_and_hardware_gets_what_it_needs)
{
    fresh();
    vmx_reg_write(&vcpu, REG_CR0, CR0_CD | CR0_NW | CR0_ET);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_CR0), CR0_CD | CR0_NW | CR0_ET);
    CHECK_EQ(fake_fields[VMCS_GUEST_CR0], CR0_NE | CR0_ET);
    // The guest sets bits of its own without an exit.
    fake_fields[VMCS_GUEST_CR0] |= CR0_PE | CR0_TS;
    CHECK_EQ(vmx_reg_read(&vcpu, REG_CR0), CR0_CD | CR0_NW | CR0_ET | CR0_PE | CR0_TS);
}

TEST(cr4_hides_what_the_host_sets)
{
    fresh();
    vmx_reg_write(&vcpu, REG_CR4, CR4_PAE);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_CR4), CR4_PAE);
    CHECK_EQ(fake_fields[VMCS_GUEST_CR4], CR4_PAE | CR4_VMXE | CR4_MCE);
    CHECK(vmx_cr4_mask() & CR4_VMXE);
    CHECK(vmx_cr4_mask() & CR4_MCE);
    // No exits for what changes often: VME, PVI, TSD, DE, PGE, PCE, OSFXSR, OSXMMEXCPT.
    CHECK_EQ(~vmx_cr4_mask(), 0x78f);
}

TEST(long_mode_goes_on_and_off_with_paging)
{
    fresh();
    fake_fields[VMCS_GUEST_TR_ACCESS_RIGHTS] = 0x83; // 16-bit busy TSS
    vmx_reg_write(&vcpu, REG_CR4, CR4_PAE);
    vmx_reg_write(&vcpu, REG_EFER, EFER_LME);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_EFER), EFER_LME);
    CHECK_EQ(engine.entry_controls, 0);
    vmx_reg_write(&vcpu, REG_CR0, CR0_PE | CR0_PG);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_EFER), EFER_LME | EFER_LMA);
    CHECK_EQ(fake_fields[VMCS_ENTRY_CONTROLS], ENTRY_CONTROL_IA32E_MODE_GUEST);
    CHECK_EQ(fake_fields[VMCS_GUEST_TR_ACCESS_RIGHTS], 0x8b);
    vmx_reg_write(&vcpu, REG_CR0, CR0_PE);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_EFER), EFER_LME);
    CHECK_EQ(fake_fields[VMCS_ENTRY_CONTROLS], 0);
    CHECK(flushes >= 4);
}

TEST(lma_cannot_be_written)
{
    fresh();
    vmx_reg_write(&vcpu, REG_EFER, EFER_LMA | EFER_NXE);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_EFER), EFER_NXE);
}

TEST(pae_paging_loads_the_pdptes)
{
    fresh();
    fake_table[0] = 0x2001;
    fake_table[1] = 0x3001 | BIT(5);      // reserved bit: not present
    fake_table[2] = BIT(40) | 1;          // too wide: not present
    fake_table[3] = 0x4000;               // not present
    fake_fields[VMCS_GUEST_CR3] = 0x1018; // PWT and PCD do not count
    vmx_reg_write(&vcpu, REG_CR4, CR4_PAE);
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE0], 0);
    vmx_reg_write(&vcpu, REG_CR0, CR0_PE | CR0_PG);
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE0], 0x2001);
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE1], 0);
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE2], 0);
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE3], 0);
    vmx_reg_write(&vcpu, REG_CR3, 0x7000); // no memory there
    CHECK_EQ(fake_fields[VMCS_GUEST_PDPTE0], 0);
}

TEST(cr3_loses_the_no_flush_bit)
{
    fresh();
    vmx_reg_write(&vcpu, REG_CR3, BIT(63) | 0x5000);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_CR3), 0x5000);
}

TEST(rflags_keeps_its_fixed_bits)
{
    fresh();
    vmx_reg_write(&vcpu, REG_RFLAGS, ~0ull);
    CHECK_EQ(fake_fields[VMCS_GUEST_RFLAGS], 0x3f7fd7);
    vmx_reg_write(&vcpu, REG_RFLAGS, 0);
    CHECK_EQ(fake_fields[VMCS_GUEST_RFLAGS], RFLAGS_RESERVED);
}

TEST(interruptibility_shows_three_bits_and_keeps_the_rest)
{
    fresh();
    fake_fields[VMCS_GUEST_INTERRUPTIBILITY] = 0x1f;
    CHECK_EQ(vmx_reg_read(&vcpu, REG_INTERRUPTIBILITY), 0xb);
    vmx_reg_write(&vcpu, REG_INTERRUPTIBILITY, BLOCKED_STI);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], 0x15);
}

TEST(registers_outside_the_vmcs)
{
    fresh();
    vmx_reg_write(&vcpu, REG_KERNEL_GS_BASE, 5);
    CHECK_EQ(swapped[REG_KERNEL_GS_BASE - REG_STAR], 5);
    vmx_reg_write(&vcpu, REG_CR2, 7);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_CR2), 7);
    CHECK_EQ(fake_cr2, 0);
    fake_dr6 = 0;
    vmx_reg_write(&vcpu, REG_DR6, 0x4ff0);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_DR6), 0x4ff0);
    CHECK_EQ(fake_dr6, 0);
    engine.loaded = true;
    vmx_reg_write(&vcpu, REG_CR2, 9);
    CHECK_EQ(fake_cr2, 9);
    vmx_reg_write(&vcpu, REG_DR6, 0x8ff0);
    CHECK_EQ(fake_dr6, 0x8ff0);
}

// Every register is somewhere, and none lands in another's field.
TEST(every_register_reads_back)
{
    fresh();
    engine.loaded = false;
    for (unsigned reg = 0; reg < REG_COUNT; reg++) {
        u64 value = reg == REG_INTERRUPTIBILITY ? BLOCKED_NMI : reg == REG_EFER ? EFER_NXE : 0;
        if (reg >= REG_STAR && reg <= REG_TSC_AUX)
            value = 0x100 + reg;
        vmx_reg_write(&vcpu, reg, value);
    }
    CHECK_EQ(vmx_reg_read(&vcpu, REG_EFER), EFER_NXE);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_INTERRUPTIBILITY), BLOCKED_NMI);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_STAR), 0x100 + REG_STAR);
    CHECK_EQ(vmx_reg_read(&vcpu, REG_TSC_AUX), 0x100 + REG_TSC_AUX);
    CHECK_EQ(fake_fields[VMCS_VIRTUAL_PROCESSOR_ID], 0);
}

TEST(segments)
{
    fresh();
    struct segment s = {.selector = 0x10, .access = 0xc092, .limit = 0xffffffff, .base = 0x1234};
    vmx_segment_write(&vcpu, SEG_GS, &s);
    CHECK_EQ(fake_fields[VMCS_GUEST_GS_SELECTOR], 0x10);
    CHECK_EQ(fake_fields[VMCS_GUEST_GS_BASE], 0x1234);
    CHECK_EQ(fake_fields[VMCS_GUEST_GS_LIMIT], 0xffffffff);
    CHECK_EQ(fake_fields[VMCS_GUEST_GS_ACCESS_RIGHTS], 0xc093); // accessed
    struct segment back;
    vmx_segment_read(&vcpu, SEG_GS, &back);
    CHECK_EQ(back.base, 0x1234);
    struct segment table = {.selector = 7, .access = 7, .limit = 0x7f, .base = 0x5000};
    vmx_segment_write(&vcpu, SEG_IDTR, &table);
    CHECK_EQ(fake_fields[VMCS_GUEST_IDTR_BASE], 0x5000);
    CHECK_EQ(fake_fields[VMCS_GUEST_IDTR_LIMIT], 0x7f);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPTIBILITY], 0);
    struct segment unusable = {.access = SEGMENT_UNUSABLE};
    vmx_segment_write(&vcpu, SEG_LDTR, &unusable);
    CHECK_EQ(fake_fields[VMCS_GUEST_LDTR_ACCESS_RIGHTS], SEGMENT_UNUSABLE);
}

TEST(a_segment_loaded_in_real_mode_after_null_is_enterable)
{
    const u32 ds = VMCS_GUEST_ES_ACCESS_RIGHTS + SEG_DS * VMCS_SEGMENT_STRIDE;
    const u32 fs = VMCS_GUEST_ES_ACCESS_RIGHTS + SEG_FS * VMCS_SEGMENT_STRIDE;
    fresh();
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        fake_fields[VMCS_GUEST_ES_ACCESS_RIGHTS + s * VMCS_SEGMENT_STRIDE] = 0x93;
    CHECK(!vmx_real_segments_repair());
    fake_fields[ds] = 0x90;
    fake_fields[fs] = SEGMENT_UNUSABLE;
    fake_fields[VMCS_GUEST_CR0] = CR0_PE;
    CHECK(!vmx_real_segments_repair());
    fake_fields[VMCS_GUEST_CR0] = 0;
    CHECK(vmx_real_segments_repair());
    CHECK_EQ(fake_fields[ds], 0x93);
    CHECK_EQ(fake_fields[fs], SEGMENT_UNUSABLE);
    CHECK(!vmx_real_segments_repair());
}
