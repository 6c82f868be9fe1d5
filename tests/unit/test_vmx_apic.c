// SPDX-License-Identifier: MIT
// The engine's part of the local APIC, on a faked VMCS: which controls and MSRs go with which mode,
// when the page is mapped, and what interrupts become.
#include "tests/unit/fake_vmx.h"
#include "arch/x86_64/vmx/apic.c"

#define CPUS 2
#define ALL                                                                                        \
    (PROC2_VIRTUALIZE_APIC_ACCESSES | PROC2_VIRTUALIZE_X2APIC_MODE |                               \
     PROC2_APIC_REGISTER_VIRTUALIZATION | PROC2_VIRTUAL_INTERRUPT_DELIVERY)

struct vmx_capabilities vmx_capabilities;
static struct vm vm;
static struct vcpu vcpus[CPUS];
static struct vmx_vcpu parts[CPUS];
static struct vmx_cpu fake_vmx_cpu;
static enum lapic_page_mode mode;
static u8 frames[6][PAGE_SIZE] ALIGNED(4096);
static unsigned frames_used, flushes;
static bool mapped, reads[X2APIC_REGISTERS], writes[X2APIC_REGISTERS];
static bool news;
static u8 fake_requested, fake_in_service;

hpa_t frame_alloc_zero(unsigned order, enum frame_owner owner)
{
    CHECK(order == FRAME_ORDER_4K && owner == FRAME_ENGINE);
    return frames_used < ARRAY_SIZE(frames) ? hva_to_hpa(frames[frames_used++]) : HPA_NONE;
}

void frame_free(hpa_t hpa, unsigned order)
{
    (void)hpa;
    CHECK(order == FRAME_ORDER_4K);
    frames_used--;
}

int guest_memory_map_frame(struct guest_memory *gm, gpa_t gpa, hpa_t frame)
{
    CHECK(gm == &vm.memory && frame == access_page);
    CHECK_EQ(gpa, 0xfee00000);
    mapped = true;
    return OK;
}

int guest_memory_unmap(struct guest_memory *gm, gpa_t base, u64 size)
{
    CHECK(gm == &vm.memory && size == PAGE_SIZE);
    CHECK_EQ(base, 0xfee00000);
    mapped = false;
    return OK;
}

void lapic_tpr_attach(struct lapic *lapic, u32 *tpr)
{
    lapic->tpr_at = tpr;
}

void lapic_posted_attach(struct lapic *lapic, struct posted_interrupts *posted)
{
    lapic->posted = posted;
}

void lapic_page_attach(struct lapic *lapic, u32 *page)
{
    lapic->page = page;
}

enum lapic_page_mode lapic_page_mode(const struct lapic *lapic)
{
    (void)lapic;
    return mode;
}

bool lapic_page_serves(unsigned reg)
{
    return reg == 2 || reg == X2APIC_TPR;
}

bool lapic_page_push(struct lapic *lapic, u8 *requested, u8 *in_service)
{
    (void)lapic;
    *requested = fake_requested;
    *in_service = fake_in_service;
    return news;
}

void vmx_msr_passthrough(struct vcpu *vcpu, u32 msr, bool read, bool write)
{
    (void)vcpu;
    CHECK(msr >= 0x800 && msr < 0x840);
    reads[msr - 0x800] = read;
    writes[msr - 0x800] = write;
}

void vmx_flush(struct vcpu *vcpu)
{
    (void)vcpu;
    flushes++;
}

struct vmx_vcpu *vmcs_borrow(struct vmx_vcpu *v)
{
    struct vmx_vcpu *former = fake_vmx_cpu.current;
    fake_vmx_cpu.current = v;
    return former;
}

void vmcs_return(struct vmx_vcpu *v, struct vmx_vcpu *former)
{
    CHECK(fake_vmx_cpu.current == v);
    fake_vmx_cpu.current = former;
}

static void fresh(void)
{
    memset(fake_fields, 0, sizeof(fake_fields));
    memset(parts, 0, sizeof(parts));
    memset(&vm, 0, sizeof(vm));
    memset(frames, 0, sizeof(frames));
    frames_used = 0;
    access_page = HPA_NONE;
    mapped = false;
    mode = LAPIC_PAGE_UNUSED;
    fake_percpu.engine = &fake_vmx_cpu;
    vmx_capabilities = (struct vmx_capabilities){
        .allowed = {[CONTROLS_PROC] = PROC_USE_TPR_SHADOW, [CONTROLS_PROC2] = ALL}};
    vm.apic_hardware = true;
    vm.vcpu_count = CPUS;
    vm.vcpus = vcpus;
    for (unsigned i = 0; i < CPUS; i++) {
        vcpus[i] = (struct vcpu){.vm = &vm, .engine = &parts[i], .index = i};
        parts[i].vcpu = &vcpus[i];
        CHECK_EQ(vmx_apic_create(&parts[i]), OK);
    }
    fake_vmx_cpu.current = &parts[0];
}

static u32 proc2(void)
{
    return (u32)fake_fields[VMCS_SECONDARY_PROCESSOR_CONTROLS];
}

TEST(a_software_apic_needs_nothing_of_a_cpu_without_a_shadow)
{
    fresh();
    struct vmx_vcpu v = {.vcpu = &vcpus[0]};
    vm.apic_hardware = false;
    vmx_capabilities.allowed[CONTROLS_PROC] = 0;
    unsigned before = frames_used;
    CHECK_EQ(vmx_apic_create(&v), OK);
    CHECK(!v.apic_page);
    CHECK_EQ(frames_used, before);
    vmx_apic_destroy(&v);
}

TEST(the_page_is_given_back)
{
    fresh();
    struct vmx_vcpu v = {.vcpu = &vcpus[0]};
    CHECK_EQ(vmx_apic_create(&v), OK);
    unsigned with_page = frames_used;
    CHECK(v.apic_page);
    vmx_apic_destroy(&v);
    CHECK_EQ(frames_used, with_page - 1);
}

TEST(posted_interrupts_have_a_descriptor_where_the_cpu_processes_them)
{
    fresh();
    struct vmx_vcpu v = {.vcpu = &vcpus[0]};
    unsigned before = frames_used;
    vmx_capabilities.controls[CONTROLS_PIN] = PIN_NMI_EXITING;
    vmx_capabilities.allowed[CONTROLS_PIN] = PIN_PROCESS_POSTED_INTERRUPTS;
    vmcs_write_apic(&parts[0]); // made before
    CHECK_EQ(fake_fields[VMCS_PIN_BASED_CONTROLS], 0);
    CHECK_EQ(vmx_apic_create(&v), OK);
    CHECK_EQ(frames_used, before + 2);
    CHECK(v.posted && vcpus[0].lapic.posted == v.posted);
    CHECK_EQ(hva_to_hpa(v.posted) % 64, 0);
    fake_vmx_cpu.current = &v;
    vmcs_write_apic(&v);
    CHECK_EQ(fake_fields[VMCS_PIN_BASED_CONTROLS], PIN_PROCESS_POSTED_INTERRUPTS | PIN_NMI_EXITING);
    CHECK_EQ(fake_fields[VMCS_POSTED_INTERRUPT_NOTIFICATION_VECTOR], HOST_VECTOR_POSTED);
    CHECK_EQ(fake_fields[VMCS_POSTED_INTERRUPT_DESCRIPTOR], hva_to_hpa(v.posted));
    vmx_apic_destroy(&v);
    CHECK(!vcpus[0].lapic.posted);
    CHECK_EQ(frames_used, before);
    frames_used = ARRAY_SIZE(frames) - 1; // enough for the page alone
    v = (struct vmx_vcpu){.vcpu = &vcpus[0]};
    CHECK_EQ(vmx_apic_create(&v), ERR_NO_MEMORY);
    vmx_apic_destroy(&v);
    vm.apic_hardware = false; // software needs none
    v = (struct vmx_vcpu){.vcpu = &vcpus[0]};
    CHECK_EQ(vmx_apic_create(&v), OK);
    CHECK(!v.posted);
    vmx_apic_destroy(&v);
}

TEST(no_memory_for_the_page_is_an_error)
{
    fresh();
    frames_used = ARRAY_SIZE(frames);
    struct vmx_vcpu v = {.vcpu = &vcpus[0]};
    CHECK_EQ(vmx_apic_create(&v), ERR_NO_MEMORY);
    vmx_apic_destroy(&v);
}

TEST(cr8_goes_to_the_shadow)
{
    fresh();
    parts[0].proc_controls = PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING | PROC_HLT_EXITING;
    vmcs_write_apic(&parts[0]);
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], PROC_USE_TPR_SHADOW | PROC_HLT_EXITING);
    CHECK_EQ(fake_fields[VMCS_VIRTUAL_APIC_ADDRESS], hva_to_hpa(parts[0].apic_page));
    CHECK_EQ(proc2(), PROC2_APIC_REGISTER_VIRTUALIZATION | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
}

TEST(a_software_apic_has_its_tpr_in_the_shadow)
{
    fresh();
    struct vmx_vcpu v = {.vcpu = &vcpus[0], .proc_controls = PROC_CR8_LOAD_EXITING};
    vm.apic_hardware = false;
    vcpus[0].lapic.page = NULL;
    CHECK_EQ(vmx_apic_create(&v), OK);
    CHECK(v.apic_page);
    CHECK(vcpus[0].lapic.tpr_at == &v.apic_page[PAGE_WORD(X2APIC_TPR)]);
    CHECK(!vcpus[0].lapic.page);
    fake_fields[VMCS_SECONDARY_PROCESSOR_CONTROLS] = 0x5a;
    vmcs_write_apic(&v);
    CHECK_EQ(fake_fields[VMCS_PRIMARY_PROCESSOR_CONTROLS], PROC_USE_TPR_SHADOW);
    CHECK_EQ(fake_fields[VMCS_VIRTUAL_APIC_ADDRESS], hva_to_hpa(v.apic_page));
    CHECK_EQ(proc2(), 0x5a);
    vmx_tpr_threshold(&vcpus[0], 7);
    CHECK_EQ(fake_fields[VMCS_TPR_THRESHOLD], 7);
}

TEST(x2apic_mode_opens_its_msrs)
{
    fresh();
    mode = LAPIC_PAGE_X2APIC;
    vmx_apic_mode(&vcpus[0]);
    CHECK_EQ(proc2() & PROC2_VIRTUALIZE_X2APIC_MODE, PROC2_VIRTUALIZE_X2APIC_MODE);
    CHECK(!(proc2() & PROC2_VIRTUALIZE_APIC_ACCESSES));
    CHECK(reads[2] && reads[X2APIC_TPR] && !reads[X2APIC_EOI] && !reads[0x39]);
    CHECK(writes[X2APIC_TPR] && writes[X2APIC_EOI] && writes[X2APIC_SELF_IPI] && !writes[0x30]);
    mode = LAPIC_PAGE_UNUSED;
    vmx_apic_mode(&vcpus[0]);
    CHECK(!(proc2() & PROC2_VIRTUALIZE_X2APIC_MODE));
    for (unsigned reg = 0; reg < X2APIC_REGISTERS; reg++)
        CHECK(!reads[reg] && !writes[reg]);
}

TEST(what_the_cpu_lacks_is_not_asked_of_it)
{
    fresh();
    vmx_capabilities.allowed[CONTROLS_PROC2] = ALL & ~(u32)PROC2_VIRTUALIZE_X2APIC_MODE;
    mode = LAPIC_PAGE_X2APIC;
    vmx_apic_mode(&vcpus[0]);
    CHECK(!(proc2() & PROC2_VIRTUALIZE_X2APIC_MODE));
    CHECK(!writes[X2APIC_EOI]);
    vmx_capabilities.allowed[CONTROLS_PROC2] = ALL & ~(u32)PROC2_VIRTUALIZE_APIC_ACCESSES;
    mode = LAPIC_PAGE_XAPIC;
    vmx_apic_mode(&vcpus[0]);
    vmx_apic_mode(&vcpus[1]);
    CHECK(!(proc2() & PROC2_VIRTUALIZE_APIC_ACCESSES));
    CHECK(!mapped);
}

TEST(the_page_is_mapped_while_every_vcpu_has_it)
{
    fresh();
    mode = LAPIC_PAGE_XAPIC;
    vmx_apic_mode(&vcpus[0]);
    CHECK_EQ(proc2() & PROC2_VIRTUALIZE_APIC_ACCESSES, PROC2_VIRTUALIZE_APIC_ACCESSES);
    CHECK(!mapped);
    vmx_apic_mode(&vcpus[1]);
    CHECK(mapped);
    vmx_apic_mode(&vcpus[1]); // again
    CHECK_EQ(vm.apic_inside, 2);
    mode = LAPIC_PAGE_X2APIC;
    flushes = 0;
    vmx_apic_mode(&vcpus[0]);
    CHECK(!mapped);
    CHECK_EQ(flushes, 1);
    mode = LAPIC_PAGE_UNUSED;
    vcpus[0].waiting_for_startup = true; // it accesses nothing
    vmx_apic_mode(&vcpus[0]);
    CHECK(mapped);
}

TEST(a_dropped_page_stays_away)
{
    fresh();
    mode = LAPIC_PAGE_XAPIC;
    vmx_apic_mode(&vcpus[0]);
    vmx_apic_mode(&vcpus[1]);
    vmx_apic_page_drop(&vcpus[0]);
    CHECK(!mapped);
    vmx_apic_mode(&vcpus[0]);
    CHECK(!mapped);
}

TEST(interrupts_become_the_status_and_levels_exit_at_their_end)
{
    fresh();
    news = false;
    fake_requested = 0x45;
    fake_in_service = 0x31;
    vmx_apic_push(&vcpus[0]);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPT_STATUS], 0);
    news = true;
    vcpus[0].lapic.tmr[2] = BIT(5);
    vcpus[0].lapic.tmr[7] = 1u << 31;
    vmx_apic_push(&vcpus[0]);
    CHECK_EQ(fake_fields[VMCS_GUEST_INTERRUPT_STATUS], 0x3145);
    CHECK_EQ(fake_fields[VMCS_EOI_EXIT_BITMAP_1], BIT(5));
    CHECK_EQ(fake_fields[VMCS_EOI_EXIT_BITMAP_3], BIT(63));
    fake_writes = 0;
    vmx_apic_push(&vcpus[0]); // the bitmap has not changed
    CHECK_EQ(fake_writes, 1);
}

TEST(pending_is_above_the_priority_and_with_interrupts_enabled)
{
    fresh();
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
    fake_fields[VMCS_GUEST_INTERRUPT_STATUS] = 0x3145;
    parts[0].apic_page[PAGE_WORD(X2APIC_PPR)] = 0x30;
    CHECK(vmx_apic_pending(&vcpus[0]));
    parts[0].apic_page[PAGE_WORD(X2APIC_PPR)] = 0x40;
    CHECK(!vmx_apic_pending(&vcpus[0]));
    parts[0].apic_page[PAGE_WORD(X2APIC_PPR)] = 0;
    fake_fields[VMCS_GUEST_RFLAGS] = 0;
    CHECK(!vmx_apic_pending(&vcpus[0]));
}

TEST(a_stale_vectoring_is_the_interrupt_in_service)
{
    fresh();
    u32 stale = (u32)INTERRUPTION_VALID;
    CHECK_EQ(vmx_apic_vectoring(&vcpus[0], stale), stale);
    fake_fields[VMCS_GUEST_INTERRUPT_STATUS] = 0x3145;
    CHECK_EQ(vmx_apic_vectoring(&vcpus[0], stale), stale);
    fake_fields[VMCS_GUEST_RFLAGS] = ~RFLAGS_IF; // interrupts are disabled
    CHECK_EQ(vmx_apic_vectoring(&vcpus[0], stale), stale);
    fake_fields[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
    CHECK_EQ(vmx_apic_vectoring(&vcpus[0], stale), stale | 0x31);
    vm.apic_hardware = false;
    CHECK_EQ(vmx_apic_vectoring(&vcpus[0], stale), stale);
}
