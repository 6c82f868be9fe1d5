// SPDX-License-Identifier: MIT
// The paravirtual clock as a guest reads it.
#include "tests/unit/test.h"
#include "vmm/guest_cpu/pvclock.c"

u64 tsc_hz = 2400000000ull;
static u64 wall_ns = 1700000000123456789ull;
u64 rtc_wall_clock_ns(void)
{
    return wall_ns;
}

static unsigned odd_accesses;
void vm_odd_access(struct vm *vm, const char *format, ...)
{
    (void)vm;
    (void)format;
    odd_accesses++;
}

static u8 ram[0x10000];
static u32 versions[16]; // of every write to the structure's first word, in order
static unsigned version_count;
static bool fields_written_while_even;
static gpa_t watched;

int guest_memory_write(struct guest_memory *gm, gpa_t gpa, const void *from, u64 size)
{
    (void)gm;
    if (gpa >= sizeof(ram) || size > sizeof(ram) - gpa)
        return -1;
    memcpy(ram + gpa, from, size);
    if (gpa == watched && version_count < ARRAY_SIZE(versions))
        memcpy(&versions[version_count++], ram + gpa, 4);
    else if (!(ram[watched] & 1))
        fields_written_while_even = true;
    return 0;
}

static struct vm vm;
static struct vcpu vcpu = {.vm = &vm};

static u64 guest_ns(const struct time_info *t, u64 tsc)
{
    u64 delta = tsc - t->tsc_timestamp;
    delta = t->tsc_shift >= 0 ? delta << t->tsc_shift : delta >> -t->tsc_shift;
    return t->system_time + (u64)(((unsigned __int128)delta * t->tsc_to_system_mul) >> 32);
}

static struct time_info page(gpa_t gpa)
{
    struct time_info t;
    memcpy(&t, ram + gpa, sizeof(t));
    return t;
}

TEST(layout)
{
    CHECK_EQ(sizeof(struct time_info), 32);
    CHECK_EQ(offsetof(struct time_info, tsc_timestamp), 8);
    CHECK_EQ(offsetof(struct time_info, tsc_to_system_mul), 24);
    CHECK_EQ(offsetof(struct time_info, flags), 29);
    CHECK_EQ(sizeof(struct wall_clock), 12);
}

TEST(scales_are_precise_at_every_rate)
{
    static const u64 rates[] = {1,          999,        50000000,   999999999,
                                1000000000, 1000000001, 2400000000, 2394370123,
                                4000000000, 9999999999, 1ull << 40};
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        struct pvclock_scale s = pvclock_scale(rates[i]);
        CHECK(s.multiplier >= 1u << 31);
        struct time_info t = {.tsc_to_system_mul = s.multiplier, .tsc_shift = s.shift};
        u64 ns = guest_ns(&t, rates[i] * 3600 & ~0ull >> 20); // an hour, if it fits
        u64 want = mul_div(rates[i] * 3600 & ~0ull >> 20, 1000000000, rates[i]);
        u64 error = ns > want ? ns - want : want - ns;
        CHECK(error <= want / 1000000000 + 1); // a part in 10^9
    }
}

TEST(a_page_is_published_with_an_odd_version_first)
{
    watched = 0x1040;
    version_count = 0;
    fields_written_while_even = false;
    vcpu.lapic.tsc_adjust = 0;
    CHECK(pvclock_enable(&vcpu, 0x1041));
    CHECK_EQ(version_count, 2);
    CHECK_EQ(odd_accesses, 0);
    CHECK(versions[0] % 2 == 1 && versions[1] == versions[0] + 1);
    CHECK(!fields_written_while_even);
    struct time_info t = page(0x1040);
    CHECK_EQ(t.flags, 1);
    CHECK_EQ(guest_ns(&t, 0), 0);
    u64 second = guest_ns(&t, 2400000000ull);
    CHECK(second >= 999999999 && second <= 1000000000);
    vcpu.lapic.tsc_adjust = 5000; // this vCPU's TSC runs ahead: the same time at a later count
    pvclock_publish(&vcpu);
    struct time_info ahead = page(0x1040);
    CHECK(ahead.version > t.version);
    CHECK_EQ(guest_ns(&ahead, 5000 + 12345678), guest_ns(&t, 12345678));
    vcpu.lapic.tsc_adjust = (u64)-7000; // behind
    pvclock_publish(&vcpu);
    ahead = page(0x1040);
    CHECK_EQ(guest_ns(&ahead, 12345678 - 7000), guest_ns(&t, 12345678));
}

TEST(bad_addresses)
{
    odd_accesses = 0;
    CHECK(!pvclock_enable(&vcpu, 0x1043));
    CHECK(!pvclock_wall_clock(&vcpu, 2));
    CHECK(pvclock_enable(&vcpu, 0xfffffffffffffffdull)); // no memory there
    CHECK(pvclock_enable(&vcpu, sizeof(ram) - 8 + 1));   // not all of it
    CHECK(pvclock_wall_clock(&vcpu, 1ull << 50));
    CHECK_EQ(odd_accesses, 3);
    memset(ram, 0, sizeof(ram));
    CHECK(pvclock_enable(&vcpu, 0)); // off
    pvclock_publish(&vcpu);
    CHECK_EQ(page(0).version, 0);
    CHECK(pvclock_enable(&vcpu, 0x1040)); // still off
    CHECK_EQ(page(0x1040).version, 0);
}

TEST(nothing_is_published_into_rom)
{
    odd_accesses = 0;
    memset(ram, 0, sizeof(ram));
    vm.memory.other_kinds = true;
    vm.memory.slot_count = 1;
    vm.memory.slots[0] =
        (struct guest_slot){.base = 0x3000, .size = PAGE_SIZE, .kind = GUEST_SLOT_ROM};
    CHECK(pvclock_enable(&vcpu, 0x3001));
    CHECK(pvclock_wall_clock(&vcpu, 0x3ffc));
    CHECK(pvclock_wall_clock(&vcpu, 0x2ff8)); // its end
    CHECK_EQ(odd_accesses, 3);
    for (unsigned i = 0; i < sizeof(ram); i++)
        CHECK(!ram[i]);
    vm.memory.other_kinds = false;
    vm.memory.slot_count = 0;
    CHECK(pvclock_enable(&vcpu, 0));
}

TEST(the_wall_clock_is_that_of_the_start)
{
    struct wall_clock wall;
    watched = 0x2000;
    vm.tsc_offset = 5 * tsc_hz - rdtsc(); // five seconds ago
    CHECK(pvclock_wall_clock(&vcpu, 0x2000));
    memcpy(&wall, ram + 0x2000, sizeof(wall));
    CHECK(wall.version && wall.version % 2 == 0);
    u64 start = wall.seconds * 1000000000ull + wall.nanoseconds;
    CHECK(start <= wall_ns - 5000000000ull && start > wall_ns - 6000000000ull);
    CHECK(wall.nanoseconds < 1000000000);
    u32 version = wall.version;
    CHECK(pvclock_wall_clock(&vcpu, 0x2000));
    memcpy(&wall, ram + 0x2000, sizeof(wall));
    CHECK_EQ(wall.version, version + 2);
}
