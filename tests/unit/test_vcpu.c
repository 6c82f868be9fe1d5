// SPDX-License-Identifier: MIT
// vmm/vcpu.c: how exceptions merge, what a request does to the vCPU's thread and CPU, whose state
// is in a CPU.

#include "tests/unit/test.h"
#define this_cpu real_this_cpu
#include "arch/x86_64/percpu.h"
#undef this_cpu

static struct percpu *here;

static struct percpu *this_cpu(void)
{
    return here;
}

#include "vmm/lib/format.c"
#include "vmm/vcpu.c"

struct percpu percpus[CPU_MAX];

static struct vm vm;
static struct vcpu vcpus[2];
static struct thread threads[2];
static struct thread *self;
static u64 cr2, rflags;
static char triple_fault[32];
static unsigned wakes, ipis, loads, unloads;
static u32 ipi_to;
static u8 ipi_vector;

void vm_triple_fault(struct vm *m, unsigned vcpu, const char *cause)
{
    CHECK(m == &vm);
    CHECK_EQ(vcpu, 0);
    snprintf(triple_fault, sizeof(triple_fault), "%s", cause);
}

struct thread *thread_self(void)
{
    return self;
}

void thread_wake(struct thread *thread)
{
    CHECK(vcpus[0].requests); // asked before it is woken
    CHECK(thread == &threads[0]);
    wakes++;
}

void apic_send_ipi(u32 apic_id, u8 vector)
{
    CHECK(vector == HOST_VECTOR_WAKE || vector == HOST_VECTOR_POSTED);
    ipi_vector = vector;
    ipi_to = apic_id;
    ipis++;
}

static void fake_reg_write(struct vcpu *v, enum vcpu_reg reg, u64 value)
{
    (void)v;
    CHECK(reg == REG_CR2 || reg == REG_RFLAGS);
    *(reg == REG_CR2 ? &cr2 : &rflags) = value;
}

static u64 fake_reg_read(struct vcpu *v, enum vcpu_reg reg)
{
    (void)v;
    CHECK(reg == REG_RFLAGS);
    return rflags;
}

static void fake_load(struct vcpu *v)
{
    CHECK(here->loaded == v);
    loads++;
}

static void fake_unload(struct vcpu *v)
{
    CHECK(here->loaded == v);
    unloads++;
}

static const struct cpu_ops fake_ops = {.reg_read = fake_reg_read,
                                        .reg_write = fake_reg_write,
                                        .vcpu_load = fake_load,
                                        .vcpu_unload = fake_unload};

static void reset(void)
{
    memset(vcpus, 0, sizeof(vcpus));
    memset(threads, 0, sizeof(threads));
    memset(percpus, 0, sizeof(percpus));
    rflags = RFLAGS_RESERVED;
    triple_fault[0] = 0;
    cr2 = wakes = ipis = loads = unloads = ipi_to = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(vcpus); i++) {
        percpus[i].index = i;
        percpus[i].apic_id = 8 + i;
        threads[i].cpu = i;
        threads[i].state = THREAD_RUNNING;
        vcpus[i].index = i;
        vcpus[i].vm = &vm;
        vcpus[i].ops = &fake_ops;
        vcpus[i].thread = &threads[i];
    }
    here = &percpus[0];
    self = &threads[0];
}

static struct vcpu_event exception(u8 vector)
{
    return (struct vcpu_event){.valid = true, .vector = vector, .type = EVENT_EXCEPTION};
}

static void inject(struct vcpu_event event)
{
    vcpu_inject(&vcpus[0], &event);
}

// SDM volume 3, "Conditions for Generating a Double Fault": benign, contributory, page fault.
TEST(two_exceptions_merge_as_the_table_says)
{
    static const u8 benign[] = {VECTOR_DB, VECTOR_BP, VECTOR_UD, VECTOR_NM, VECTOR_AC, VECTOR_XM};
    static const u8 contributory[] = {VECTOR_DE, VECTOR_TS, VECTOR_NP, VECTOR_SS, VECTOR_GP};
    static const u8 page_fault[] = {VECTOR_PF};
    static const struct {
        const u8 *vectors;
        unsigned count;
    } classes[] = {{benign, ARRAY_SIZE(benign)},
                   {contributory, ARRAY_SIZE(contributory)},
                   {page_fault, ARRAY_SIZE(page_fault)}};
    static const bool makes_double[3][3] = {
        {false, false, false}, {false, true, false}, {false, true, true}};
    for (unsigned a = 0; a < 3; a++)
        for (unsigned b = 0; b < 3; b++)
            for (unsigned i = 0; i < classes[a].count; i++)
                for (unsigned j = 0; j < classes[b].count; j++) {
                    reset();
                    inject(exception(classes[a].vectors[i]));
                    CHECK_EQ(vcpus[0].event.vector, classes[a].vectors[i]);
                    inject(exception(classes[b].vectors[j]));
                    CHECK(vcpus[0].event.valid);
                    CHECK_EQ(vcpus[0].event.vector,
                             makes_double[a][b] ? (u8)VECTOR_DF : classes[b].vectors[j]);
                    CHECK_STR(triple_fault, "");
                }
}

TEST(a_fault_has_rf_in_its_frame)
{
    static const u8 faults[] = {VECTOR_DE, VECTOR_UD, VECTOR_GP, VECTOR_PF, VECTOR_AC};
    static const u8 others[] = {VECTOR_DB, VECTOR_BP, VECTOR_OF};
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        reset();
        inject(exception(faults[i]));
        CHECK_EQ(rflags, RFLAGS_RESERVED | RFLAGS_RF);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        reset();
        inject(exception(others[i]));
        CHECK_EQ(rflags, RFLAGS_RESERVED);
    }
}

TEST(a_double_fault_has_an_error_code_of_zero)
{
    reset();
    struct vcpu_event gp = exception(VECTOR_GP);
    gp.has_error = true;
    gp.error = 0x18;
    inject(gp);
    inject(gp);
    CHECK_EQ(vcpus[0].event.vector, VECTOR_DF);
    CHECK_EQ(vcpus[0].event.type, EVENT_EXCEPTION);
    CHECK(vcpus[0].event.has_error);
    CHECK_EQ(vcpus[0].event.error, 0);
}

TEST(a_fault_in_a_double_fault_is_the_end)
{
    static const u8 ends[] = {VECTOR_GP, VECTOR_PF, VECTOR_DF};
    static const char *const causes[] = {"exception 13", "exception 14", "exception 8"};
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        reset();
        inject(exception(VECTOR_DF));
        inject(exception(ends[i]));
        CHECK_STR(triple_fault, causes[i]);
    }
    reset();
    inject(exception(VECTOR_GP));
    inject(exception(VECTOR_GP));
    inject(exception(VECTOR_DB));
    CHECK_STR(triple_fault, "");
    CHECK_EQ(vcpus[0].event.vector, VECTOR_DF); // a benign one does not take its place
    CHECK(vcpus[0].event.valid && vcpus[0].event.has_error);
}

TEST(vectors_of_interrupts_are_of_no_class)
{
    reset();
    inject((struct vcpu_event){.valid = true, .vector = VECTOR_GP, .type = EVENT_SOFT_INTERRUPT});
    inject(exception(VECTOR_GP)); // INT 13 met a fault: that one, and the INT is run again
    CHECK_EQ(vcpus[0].event.vector, VECTOR_GP);
    CHECK_EQ(vcpus[0].event.type, EVENT_EXCEPTION);
    CHECK(!vcpus[0].interrupted.valid);
}

TEST(an_interrupt_whose_delivery_faults_waits)
{
    reset();
    inject((struct vcpu_event){.valid = true, .vector = 0x31, .type = EVENT_EXTERNAL});
    CHECK_EQ(vcpus[0].requests, 0);
    inject(exception(VECTOR_PF));
    CHECK_EQ(vcpus[0].event.vector, VECTOR_PF);
    CHECK(vcpus[0].interrupted.valid);
    CHECK_EQ(vcpus[0].interrupted.vector, 0x31);
    CHECK_EQ(vcpus[0].nmi_pending, 0);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT);
    inject(exception(VECTOR_GP)); // and one on top of that
    CHECK_EQ(vcpus[0].event.vector, VECTOR_DF);
    CHECK_EQ(vcpus[0].interrupted.vector, 0x31);
}

TEST(an_nmi_whose_delivery_faults_is_pending_again)
{
    reset();
    inject((struct vcpu_event){.valid = true, .vector = VECTOR_NMI, .type = EVENT_NMI});
    inject(exception(VECTOR_PF));
    CHECK_EQ(vcpus[0].event.vector, VECTOR_PF);
    CHECK(vcpus[0].nmi_pending);
    CHECK(!vcpus[0].interrupted.valid);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT);
}

TEST(a_page_fault_brings_its_address)
{
    reset();
    struct vcpu_event pf = exception(VECTOR_PF);
    pf.cr2 = 0xabc000;
    inject(pf); // reflected: CR2 is the CPU's already
    CHECK_EQ(cr2, 0);
    reset();
    pf.has_cr2 = true;
    inject(pf);
    CHECK_EQ(cr2, 0xabc000);
}

TEST(a_request_reaches_a_vcpu_on_another_cpu)
{
    reset();
    self = &threads[1];
    here = &percpus[1];
    vcpu_request(&vcpus[0], VCPU_REQUEST_STOP);
    vcpu_request(&vcpus[0], VCPU_REQUEST_EVENT);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_STOP | VCPU_REQUEST_EVENT);
    CHECK_EQ(wakes, 2);
    CHECK_EQ(ipis, 2);
    CHECK_EQ(ipi_to, 8);
}

TEST(what_is_posted_interrupts_with_its_own_vector)
{
    reset();
    self = &threads[1];
    here = &percpus[1];
    vcpu_lapic_ops.posted(&vcpus[0].lapic);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT); // for when it is not in its guest
    CHECK_EQ(wakes, 1);
    CHECK_EQ(ipis, 1);
    CHECK_EQ(ipi_vector, HOST_VECTOR_POSTED);
    vcpu_lapic_ops.changed(&vcpus[0].lapic);
    CHECK_EQ(ipi_vector, HOST_VECTOR_WAKE);
}

TEST(a_request_to_a_vcpu_that_waits_for_its_turn_interrupts_nobody)
{
    static const enum thread_state waits[] = {THREAD_READY, THREAD_BLOCKED};
    for (unsigned i = 0; i < ARRAY_SIZE(waits); i++) {
        reset();
        self = &threads[1];
        here = &percpus[1];
        threads[0].state = waits[i];
        vcpu_lapic_ops.nmi(&vcpus[0].lapic);
        CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT);
        CHECK_EQ(wakes, 1); // which sends what a blocked one needs
        CHECK_EQ(ipis, 0);
    }
}

TEST(a_request_on_the_same_cpu_needs_no_interrupt)
{
    reset();
    self = &threads[1];
    vcpu_request(&vcpus[0], VCPU_REQUEST_EVENT);
    CHECK_EQ(wakes, 1);
    CHECK_EQ(ipis, 0);
}

TEST(a_vcpu_s_request_to_itself_is_a_note)
{
    reset();
    vcpu_request(&vcpus[0], VCPU_REQUEST_TIMER);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_TIMER);
    CHECK_EQ(wakes + ipis, 0);
    vcpus[0].thread = NULL; // a machine that is being built
    vcpu_request(&vcpus[0], VCPU_REQUEST_EVENT);
    CHECK_EQ(wakes + ipis, 0);
}

TEST(an_init_signal_voids_a_start_up_before_it)
{
    reset();
    vcpu_lapic_ops.startup(&vcpus[0].lapic, 0x12);
    CHECK_EQ(vcpus[0].startup_page, 0x12);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_STARTUP);
    vcpu_lapic_ops.init(&vcpus[0].lapic);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_INIT);
    vcpu_lapic_ops.startup(&vcpus[0].lapic, 0x34);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_INIT | VCPU_REQUEST_STARTUP);
    CHECK_EQ(vcpus[0].startup_page, 0x34);
}

TEST(the_local_apic_tells_of_nmis)
{
    reset();
    for (unsigned i = 1; i <= 3; i++) {
        vcpu_lapic_ops.nmi(&vcpus[0].lapic);
        CHECK_EQ(vcpus[0].nmi_pending, MIN(i, NMIS_PENDING));
    }
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT);
}

TEST(the_local_apic_tells_of_its_mode)
{
    reset();
    vcpus[0].apic_moved = false;
    vcpu_lapic_ops.mode(&vcpus[0].lapic);
    CHECK(vcpus[0].apic_moved);
    CHECK_EQ(vcpus[0].requests, VCPU_REQUEST_EVENT);
}

static unsigned modes;

static void fake_apic_mode(struct vcpu *v)
{
    CHECK(!v->apic_moved);
    modes++;
}

TEST(the_hardware_hears_of_the_mode_if_it_has_the_apic)
{
    const struct cpu_ops apic_ops = {.apic_mode = fake_apic_mode};
    reset();
    vcpus[0].ops = &apic_ops;
    for (unsigned hardware = 0; hardware < 2; hardware++) {
        vm.apic_hardware = hardware;
        vcpus[0].apic_moved = true;
        vcpu_apic_mode(&vcpus[0]);
        CHECK(!vcpus[0].apic_moved);
        CHECK_EQ(modes, hardware);
    }
    vm.apic_hardware = false;
}

TEST(one_vcpu_s_state_is_in_a_cpu)
{
    reset();
    vcpu_load_here(&vcpus[0]);
    vcpu_load_here(&vcpus[0]);
    CHECK_EQ(loads, 1);
    CHECK_EQ(unloads, 0);
    vcpu_load_here(&vcpus[1]);
    CHECK_EQ(loads, 2);
    CHECK_EQ(unloads, 1);
    vcpu_unload_here(&vcpus[0]); // is not in
    CHECK_EQ(unloads, 1);
    vcpu_unload_here(&vcpus[1]);
    CHECK_EQ(unloads, 2);
    CHECK(here->loaded == NULL);
}
