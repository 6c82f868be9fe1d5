// SPDX-License-Identifier: MIT
// The I/O bus: what may be added, what an access hits, and a random walk against a map of every
// address.
#include "tests/unit/test.h"
#include "io/bus.c"

static unsigned heap_fail_after = ~0u;

void *heap_alloc(size_t size)
{
    if (heap_fail_after == 0)
        return NULL;
    heap_fail_after--;
    return calloc(1, size);
}

void heap_free(void *object)
{
    free(object);
}

struct probe {
    struct io_device device;
    u64 offset, value, answer;
    unsigned size, reads, writes;
};

static u64 probe_read(struct io_device *device, u64 offset, unsigned size)
{
    struct probe *p = container_of(device, struct probe, device);
    p->offset = offset;
    p->size = size;
    p->reads++;
    return p->answer;
}

static void probe_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    struct probe *p = container_of(device, struct probe, device);
    p->offset = offset;
    p->size = size;
    p->value = value;
    p->writes++;
}

static const struct io_device_ops probe_ops = {"probe", probe_read, probe_write};
#define PROBE                                                                                      \
    {                                                                                              \
        .device = {&probe_ops}, .answer = 0x1122334455667788                                       \
    }

TEST(an_empty_bus_is_a_hole)
{
    struct io_bus bus;
    io_bus_init(&bus, "port", 0x10000);
    u64 value = 0;
    CHECK(!io_bus_read(&bus, 0x80, 1, &value));
    CHECK_EQ(value, 0xff);
    CHECK(!io_bus_read(&bus, 0x80, 8, &value));
    CHECK_EQ(value, ~0ull);
    CHECK(!io_bus_write(&bus, 0x80, 1, 0));
    io_bus_destroy(&bus);
}

TEST(bad_ranges_are_refused)
{
    struct io_bus bus;
    struct probe p = PROBE;
    io_bus_init(&bus, "port", 0x10000);
    CHECK_EQ(io_bus_add(&bus, 0x10, 0, &p.device), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, 0x10000, 1, &p.device), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, 0xffff, 2, &p.device), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, ~0ull, 2, &p.device), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, 2, ~0ull, &p.device), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, 0x10, 1, NULL), ERR_INVALID);
    CHECK_EQ(io_bus_add(&bus, 0xffff, 1, &p.device), OK);
    CHECK_EQ(io_bus_add(&bus, 0, 0xffff, &p.device), OK);
    CHECK_EQ(bus.count, 2);
    io_bus_destroy(&bus);
}

TEST(overlap_is_refused_on_either_side)
{
    struct io_bus bus;
    struct probe p = PROBE;
    io_bus_init(&bus, "memory", ~0ull);
    CHECK_EQ(io_bus_add(&bus, 0x100, 0x10, &p.device), OK);
    CHECK_EQ(io_bus_add(&bus, 0x100, 0x10, &p.device), ERR_EXISTS);
    CHECK_EQ(io_bus_add(&bus, 0xf8, 9, &p.device), ERR_EXISTS);
    CHECK_EQ(io_bus_add(&bus, 0x10f, 1, &p.device), ERR_EXISTS);
    CHECK_EQ(io_bus_add(&bus, 0, 0x1000, &p.device), ERR_EXISTS);
    CHECK_EQ(io_bus_add(&bus, 0x104, 2, &p.device), ERR_EXISTS);
    CHECK_EQ(io_bus_add(&bus, 0xf8, 8, &p.device), OK);
    CHECK_EQ(io_bus_add(&bus, 0x110, 1, &p.device), OK);
    io_bus_destroy(&bus);
}

TEST(a_device_sees_offsets_and_cut_values)
{
    struct io_bus bus;
    struct probe p = PROBE;
    u64 value;
    io_bus_init(&bus, "memory", ~0ull);
    CHECK_EQ(io_bus_add(&bus, 0x1000, 0x100, &p.device), OK);
    CHECK(io_bus_read(&bus, 0x1010, 2, &value));
    CHECK_EQ(value, 0x7788);
    CHECK_EQ(p.offset, 0x10);
    CHECK_EQ(p.size, 2);
    CHECK(io_bus_write(&bus, 0x10f8, 8, ~0ull));
    CHECK_EQ(p.offset, 0xf8);
    CHECK_EQ(p.value, ~0ull);
    CHECK(io_bus_write(&bus, 0x10ff, 1, 0x1ff));
    CHECK_EQ(p.value, 0xff);
    io_bus_destroy(&bus);
}

TEST(straddling_and_odd_widths_reach_no_device)
{
    struct io_bus bus;
    struct probe p = PROBE, q = PROBE;
    u64 value;
    io_bus_init(&bus, "memory", ~0ull);
    CHECK_EQ(io_bus_add(&bus, 0x1000, 0x100, &p.device), OK);
    CHECK_EQ(io_bus_add(&bus, 0x1100, 0x100, &q.device), OK);
    CHECK(io_bus_read(&bus, 0x1000, 1, &value)); // and is the last hit
    CHECK(!io_bus_read(&bus, 0x10fe, 4, &value));
    CHECK_EQ(value, 0xffffffff);
    CHECK(!io_bus_write(&bus, 0x11ff, 2, 0));
    CHECK(!io_bus_write(&bus, 0xfff, 2, 0));
    static const unsigned widths[] = {0, 3, 5, 6, 7, 9, 16, 64, 65, ~0u};
    for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
        CHECK(!io_bus_read(&bus, 0x1000, widths[i], &value));
        CHECK(!io_bus_write(&bus, 0x1000, widths[i], 0));
    }
    CHECK(!io_bus_read(&bus, ~0ull, 8, &value));
    CHECK_EQ(p.reads + q.reads, 1);
    CHECK_EQ(p.writes + q.writes, 0);
    io_bus_destroy(&bus);
}

TEST(remove_takes_all_regions_of_a_device)
{
    struct io_bus bus;
    struct probe p = PROBE, q = PROBE;
    u64 value;
    io_bus_init(&bus, "port", 0x10000);
    for (u64 i = 0; i < 40; i++)
        CHECK_EQ(io_bus_add(&bus, i * 8, 8, i % 2 ? &p.device : &q.device), OK);
    CHECK(io_bus_read(&bus, 39 * 8, 1, &value)); // the last hit goes away
    io_bus_remove(&bus, &p.device);
    CHECK_EQ(bus.count, 20);
    CHECK(!io_bus_read(&bus, 39 * 8, 1, &value));
    CHECK(io_bus_read(&bus, 38 * 8, 1, &value));
    CHECK(!io_bus_read(&bus, 8, 1, &value));
    io_bus_remove(&bus, &q.device);
    CHECK(!io_bus_read(&bus, 0, 1, &value));
    CHECK_EQ(io_bus_add(&bus, 8, 8, &p.device), OK);
    io_bus_destroy(&bus);
}

TEST(no_memory_leaves_the_bus_as_it_was)
{
    struct io_bus bus;
    struct probe p = PROBE;
    u64 value;
    io_bus_init(&bus, "port", 0x10000);
    heap_fail_after = 1;
    for (u64 i = 0; i < BUS_FIRST_CAPACITY; i++)
        CHECK_EQ(io_bus_add(&bus, i, 1, &p.device), OK);
    CHECK_EQ(io_bus_add(&bus, 0x100, 1, &p.device), ERR_NO_MEMORY);
    heap_fail_after = ~0u;
    CHECK_EQ(bus.count, BUS_FIRST_CAPACITY);
    CHECK(!io_bus_read(&bus, 0x100, 1, &value));
    CHECK(io_bus_read(&bus, 15, 1, &value));
    CHECK_EQ(io_bus_add(&bus, 0x100, 1, &p.device), OK);
    io_bus_destroy(&bus);
}

static struct io_bus self_bus;

static void remover_write(struct io_device *device, u64 offset, unsigned size, u64 value)
{
    (void)offset, (void)size, (void)value;
    io_bus_remove(&self_bus, device);
    io_bus_destroy(&self_bus);
}

TEST(a_device_may_take_itself_off_while_it_is_written)
{
    static const struct io_device_ops ops = {"remover", probe_read, remover_write};
    struct io_device device = {&ops};
    io_bus_init(&self_bus, "port", 0x10000);
    CHECK_EQ(io_bus_add(&self_bus, 0, 4, &device), OK);
    CHECK(io_bus_write(&self_bus, 0, 4, 0));
    CHECK_EQ(self_bus.count, 0);
}

// Random adds, removes and accesses against an array that knows the owner of every address.
#define MAP_SIZE 256
#define PROBES   8

static bool map_range_is(struct probe *const *map, u64 base, u64 size, struct probe *owner)
{
    for (u64 i = base; i < base + size; i++) {
        if (i >= MAP_SIZE || map[i] != owner)
            return false;
    }
    return true;
}

TEST(random_walk_agrees_with_a_map)
{
    struct probe probes[PROBES];
    struct probe *map[MAP_SIZE] = {0};
    struct io_bus bus;
    io_bus_init(&bus, "port", MAP_SIZE);
    for (unsigned i = 0; i < PROBES; i++)
        probes[i] = (struct probe)PROBE;
    srand(1);
    for (unsigned step = 0; step < 300000 && !test_failed; step++) {
        struct probe *p = &probes[rand() % PROBES];
        u64 base = (u64)(rand() % (MAP_SIZE + 8)), size = (u64)(rand() % 12), value;
        switch (rand() % 16) {
        case 0:
            io_bus_remove(&bus, &p->device);
            for (unsigned i = 0; i < MAP_SIZE; i++)
                map[i] = map[i] == p ? NULL : map[i];
            break;
        case 1: {
            bool fits = size && map_range_is(map, base, size, NULL);
            CHECK_EQ(io_bus_add(&bus, base, size, &p->device) == OK, fits);
            for (u64 i = base; fits && i < base + size; i++)
                map[i] = p;
            break;
        }
        default: {
            unsigned reads = 0, width = 1u << rand() % 4;
            for (unsigned i = 0; i < PROBES; i++)
                reads -= probes[i].reads;
            bool hit = io_bus_read(&bus, base, width, &value);
            for (unsigned i = 0; i < PROBES; i++)
                reads += probes[i].reads;
            CHECK_EQ(reads, hit);
            struct probe *owner = base < MAP_SIZE ? map[base] : NULL;
            if (hit)
                CHECK(owner && map_range_is(map, base, width, owner));
            else
                CHECK_EQ(value, bytes_mask(width));
            if (!owner)
                CHECK(!hit);
            if (owner && width == 1)
                CHECK(hit);
        }
        }
        for (unsigned i = 1; i < bus.count; i++)
            CHECK(bus.regions[i - 1].base + bus.regions[i - 1].size <= bus.regions[i].base);
    }
    io_bus_destroy(&bus);
}
