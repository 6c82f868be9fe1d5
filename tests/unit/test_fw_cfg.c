// SPDX-License-Identifier: MIT
#include "tests/unit/chip.h"
#include "io/dma.c"
#include "io/fw_cfg.c"

#define RAM_SIZE 0x4000u
#define REQUEST  0x100u

static u8 ram[RAM_SIZE] ALIGNED(8);
static struct fw_cfg fw;
static const u8 text[] = "eleven byte";

static void *map(void *context UNUSED, u64 gpa, bool write UNUSED, u64 *length)
{
    if (gpa >= RAM_SIZE)
        return NULL;
    *length = MIN(*length, RAM_SIZE - gpa);
    return ram + gpa;
}

static void start(void)
{
    memset(ram, 0xcc, sizeof(ram));
    fw_cfg_init(&fw, &(struct io_dma){map, NULL});
    fw_cfg_add_file(&fw, "etc/one", text, 11);
    fw_cfg_add_file(&fw, "etc/two", text, 5);
}

static u32 big(u32 value)
{
    return __builtin_bswap32(value);
}

// The control word afterwards.
static u32 transfer_at(u64 request, u32 control, u32 length, u64 address)
{
    bool whole = request <= RAM_SIZE - sizeof(struct dma_request);
    if (whole)
        *(struct dma_request *)(ram + request) =
            (struct dma_request){big(control), big(length), __builtin_bswap64(address)};
    fw.dma_ports.ops->write(&fw.dma_ports, 0, 4, big((u32)(request >> 32)));
    fw.dma_ports.ops->write(&fw.dma_ports, 4, 4, big((u32)request));
    return whole ? big(((struct dma_request *)(ram + request))->control) : 0;
}

static u32 transfer_of(u32 control, u32 length, u64 address)
{
    return transfer_at(REQUEST, control, length, address);
}

#define SELECT(key) ((u32)(key) << 16 | DMA_SELECT)

TEST(the_directory_names_the_files)
{
    start();
    fw.ports.ops->write(&fw.ports, 0, 2, FW_CFG_FILE_DIR);
    u8 directory[4 + 2 * sizeof(struct fw_cfg_file)];
    for (unsigned i = 0; i < sizeof(directory); i++)
        directory[i] = chip_in(&fw.ports, 1);
    const struct fw_cfg_file *files = (const void *)(directory + 4);
    CHECK_EQ(directory[3], 2);
    CHECK_STR(files[1].name, "etc/two");
    CHECK_EQ(big(files[1].size), 5);
    CHECK_EQ(__builtin_bswap16(files[1].select), FW_CFG_FILE_FIRST + 1);
}

TEST(the_port_reads_an_item_and_then_zeros)
{
    start();
    fw.ports.ops->write(&fw.ports, 0, 2, FW_CFG_FILE_FIRST);
    for (unsigned i = 0; i < 11; i++)
        CHECK_EQ(chip_in(&fw.ports, 1), text[i]);
    CHECK_EQ(chip_in(&fw.ports, 1), 0);
    fw.ports.ops->write(&fw.ports, 0, 2, 0x7777);
    CHECK_EQ(chip_in(&fw.ports, 1), 0);
}

TEST(dma_says_that_it_is_there)
{
    start();
    CHECK_EQ(big((u32)chip_read(&fw.dma_ports, 0, 4)), 0x51454d55); // "QEMU"
    CHECK_EQ(big((u32)chip_read(&fw.dma_ports, 4, 4)), 0x20434647); // " CFG"
    fw.ports.ops->write(&fw.ports, 0, 2, FW_CFG_ID);
    CHECK_EQ(chip_in(&fw.ports, 1), 3);
}

TEST(dma_selects_skips_and_reads)
{
    start();
    CHECK_EQ(transfer_of(SELECT(FW_CFG_FILE_FIRST) | DMA_SKIP, 7, 0), 0);
    CHECK_EQ(transfer_of(DMA_READ, 6, 0x1000), 0);
    CHECK(memcmp(ram + 0x1000, "byte\0\0\xcc", 7) == 0);
    CHECK_EQ(transfer_of(DMA_READ, 300, 0x1000), 0);
    CHECK_EQ(ram[0x1000 + 299], 0);
    CHECK_EQ(ram[0x1000 + 300], 0xcc);
    CHECK_EQ(transfer_of(SELECT(0x7777) | DMA_READ, 1, 0x1000), 0);
}

TEST(dma_moves_on_only_if_told)
{
    start();
    CHECK_EQ(transfer_of(SELECT(FW_CFG_FILE_FIRST), 7, 0), 0);
    CHECK_EQ(transfer_of(DMA_READ, 6, 0x1000), 0);
    CHECK(memcmp(ram + 0x1000, "eleven", 6) == 0);
}

TEST(a_reset_forgets_half_an_address)
{
    start();
    fw.dma_ports.ops->write(&fw.dma_ports, 0, 4, big(1));
    fw_cfg_reset(&fw);
    *(struct dma_request *)(ram + REQUEST) = (struct dma_request){big(DMA_WRITE), big(1), 0};
    fw.dma_ports.ops->write(&fw.dma_ports, 4, 4, big(REQUEST));
    CHECK_EQ(big(((struct dma_request *)(ram + REQUEST))->control), DMA_ERROR);
}

TEST(dma_refuses_what_cannot_be)
{
    start();
    CHECK_EQ(transfer_of(SELECT(FW_CFG_FILE_FIRST) | DMA_READ, 8, RAM_SIZE - 4), DMA_ERROR);
    CHECK_EQ(transfer_of(DMA_READ, 1, ~0ull), DMA_ERROR);
    CHECK_EQ(transfer_of(DMA_READ, DMA_LENGTH_MAX + 1, 0), DMA_ERROR);
    CHECK_EQ(transfer_of(DMA_READ, ~0u, 0), DMA_ERROR);
    CHECK_EQ(transfer_of(SELECT(FW_CFG_FILE_FIRST) | DMA_WRITE, 4, 0x1000), DMA_ERROR);
    CHECK_EQ(memcmp(text, "eleven byte", 11), 0);
    CHECK_EQ(transfer_of(SELECT(FW_CFG_FILE_FIRST) | DMA_SKIP, ~0u, 0), 0);
    CHECK_EQ(transfer_of(DMA_SKIP | DMA_READ, 16, 0x1000), 0);
    CHECK_EQ(transfer_at(RAM_SIZE - 8, 0, 0, 0), 0); // half a request: nothing happens
    u32 first = *(u32 *)ram;
    CHECK_EQ(transfer_at(BIT(40), 0, 0, 0), 0);
    CHECK_EQ(*(u32 *)ram, first); // above 4 GiB is not address 0
}

TEST(survives_anything)
{
    start();
    const struct chip_ports ports[] = {{&fw.ports, FW_CFG_PORTS},
                                       {&fw.dma_ports, FW_CFG_DMA_PORTS}};
    chip_clock_start();
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned at = 0; at < RAM_SIZE; at += 8)
            *(u64 *)(ram + at) = chip_random();
        chip_fuzz(ports, 2, 20);
        transfer_of((u32)chip_random() & ~0x7ff00000u, (u32)chip_random() % 0x20000,
                    chip_random() % 0x8000);
    }
}
