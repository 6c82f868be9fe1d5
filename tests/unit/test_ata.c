// SPDX-License-Identifier: MIT
#include "tests/unit/disk_rig.h"

TEST(a_queued_command_that_fails_is_in_the_log)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0x60, SECTORS, 0);
    fis[3] = 1;
    prepare(0, 5, fis, NULL, NULL, 0);
    wr(PORT(0) + PORT_SACT, 1 << 5);
    issue(0, 1 << 5);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 1 << 5);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    recover(0);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 0);
    command(0x2f, 0x10, 1, 512);
    CHECK_EQ(memory[DATA], 5);
    CHECK_EQ(memory[DATA + 3], ATA_ERROR_NOT_FOUND);
    u8 sum = 0;
    for (unsigned i = 0; i < 512; i++)
        sum = (u8)(sum + memory[DATA + i]);
    CHECK_EQ(sum, 0);
}

TEST(an_unknown_command_is_aborted)
{
    start();
    command(0xb0, 0, 1, 0); // SMART
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_ABORT << 8 | 0x51);
}

TEST(a_write_without_host_memory_fails)
{
    start();
    no_memory = true;
    command(0x35, 0, 1, 512);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    no_memory = false;
    recover(0);
    command(0x35, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(identify_tells_the_size_and_sums_up)
{
    start();
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 120] | memory[DATA + 121] << 8, SECTORS);
    CHECK_EQ(memory[DATA + 200] | memory[DATA + 201] << 8, SECTORS);
    CHECK_EQ(memory[DATA + 54], 'l'); // a word's high byte comes first
    CHECK_EQ(memory[DATA + 55], 'P');
    u8 sum = 0;
    for (unsigned i = 0; i < 512; i++)
        sum = (u8)(sum + memory[DATA + i]);
    CHECK_EQ(sum, 0);
}

struct word {
    u8 number;
    u16 value;
};

// All others are 0, but for strings, sizes and the checksum.
static void check_words(const struct word *words, unsigned count)
{
    for (unsigned i = 0; i < 255; i++) {
        u16 wanted = 0;
        for (unsigned n = 0; n < count; n++)
            wanted = words[n].number == i ? words[n].value : wanted;
        bool varies = (i >= 10 && i < 20) || (i >= 23 && i < 47) || i == 60 || i == 100;
        if (!varies)
            CHECK_EQ(memory[DATA + 2 * i] | memory[DATA + 2 * i + 1] << 8, wanted);
    }
    CHECK_EQ(memory[DATA + 510], 0xa5);
}

TEST(identify_has_the_words_of_the_standard)
{
    static const struct word disk_has[] = {
        {0, 0x0040},  {1, 1},        {3, 16},      {6, 63},      {47, 0x8010}, {49, 0x0f00},
        {50, 0x4000}, {53, 6},       {59, 0x0110}, {63, 7},      {64, 3},      {65, 120},
        {66, 120},    {67, 120},     {68, 120},    {75, 31},     {76, 0x0106}, {80, 0x01f0},
        {82, 0x4068}, {83, 0x7400},  {84, 0x4060}, {85, 0x4068}, {86, 0x3400}, {87, 0x4060},
        {88, 0x203f}, {106, 0x4000}, {217, 1}};
    static const struct word disc_has[] = {
        {0, 0x85c0},  {49, 0x0f00}, {50, 0x4000}, {53, 6},      {63, 7},      {64, 3},
        {65, 120},    {66, 120},    {67, 120},    {68, 120},    {76, 0x0006}, {80, 0x01f0},
        {82, 0x4218}, {83, 0x4000}, {84, 0x4000}, {85, 0x4218}, {87, 0x4000}, {88, 0x203f}};
    u8 fis[20];
    const struct piece piece = {DATA, 512};
    start();
    command(0xec, 0, 0, 512);
    check_words(disk_has, ARRAY_SIZE(disk_has));
    memset(memory + DATA, 0, 512);
    ata_fis(fis, 0xa1, 0, 0);
    prepare(1, 0, fis, NULL, &piece, 1);
    issue(1, 1);
    check_words(disc_has, ARRAY_SIZE(disc_has));
}

TEST(features_show_in_identify)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0xef, 0, 0x44);
    fis[3] = TRANSFER_MODE;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    fis[3] = WRITE_CACHE_OFF;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 177], 0x10); // word 88
    CHECK_EQ(memory[DATA + 170] & 0x20, 0);
}

static u32 set_mode(u8 mode)
{
    u8 fis[20];
    ata_fis(fis, 0xef, 0, mode);
    fis[3] = TRANSFER_MODE;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    u32 result = rd(PORT(0) + PORT_TFD);
    recover(0);
    return result;
}

TEST(a_transfer_mode_is_one_of_those_offered)
{
    start();
    CHECK_EQ(set_mode(0x46), ATA_ERROR_ABORT << 8 | 0x51);
    CHECK_EQ(set_mode(0x23), ATA_ERROR_ABORT << 8 | 0x51);
    CHECK_EQ(set_mode(0x0c), 0x50);
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 177], 0x20); // still Ultra DMA 5
    CHECK_EQ(set_mode(0x21), 0x50);
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 127], 0x02);
    CHECK_EQ(memory[DATA + 177], 0);
}

TEST(a_small_disk_has_few_cylinders)
{
    start();
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 2] | memory[DATA + 3] << 8, 1);
    disk_content.size = 100ull * 16 * 63 * 512;
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 2] | memory[DATA + 3] << 8, 100);
    disk_content.size = 64 * GIB;
    command(0xec, 0, 0, 512);
    CHECK_EQ(memory[DATA + 2] | memory[DATA + 3] << 8, 16383);
    CHECK(memory[DATA + 164] & 8); // power management
    disk_content.size = sizeof(disk_file);
}

TEST(a_seek_has_no_count)
{
    start();
    command(0x70, SECTORS - 1, 0, 0);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x50);
    command(0x70, SECTORS, 0, 0);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_NOT_FOUND << 8 | 0x51);
}

TEST(a_drive_in_standby_says_so_until_it_is_read)
{
    start();
    command(0xe5, 0, 0, 0);
    CHECK_EQ(received(0, 0x4c), 0xff);
    command(0xe0, 0, 0, 0);
    command(0xe5, 0, 0, 0);
    CHECK_EQ(received(0, 0x4c), 0);
    command(0x25, 0, 1, 512);
    command(0xe5, 0, 0, 0);
    CHECK_EQ(received(0, 0x4c), 0xff);
}

TEST(idle_ends_standby)
{
    start();
    command(0xe2, 0, 0, 0);
    command(0xe1, 0, 0, 0);
    command(0xe5, 0, 0, 0);
    CHECK_EQ(received(0, 0x4c), 0xff);
}

TEST(every_command_that_reads_moves_sectors)
{
    static const struct {
        u8 code;
        bool pio;
    } reads[] = {{0x20, true}, {0x21, true},  {0x24, true},  {0x29, true},
                 {0xc4, true}, {0x25, false}, {0xc8, false}, {0xc9, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        start();
        command(reads[i].code, 5, 2, 1024);
        CHECK_EQ(memcmp(memory + DATA, disk_file + 5 * 512, 1024), 0);
        CHECK_EQ(rd(PORT(0) + PORT_IS), reads[i].pio ? PORT_IS_PIO_SETUP : PORT_IS_REGISTER);
        if (!reads[i].pio)
            continue;
        CHECK_EQ(received(0, 0x21), 0x60); // interrupt, to the host
        CHECK_EQ(received(0, 0x22), 0x58); // data is to come,
        CHECK_EQ(received(0, 0x2f), 0x50); // then no more
        CHECK_EQ(received(0, 0x30) | received(0, 0x31) << 8, 1024);
    }
}

TEST(every_command_that_writes_moves_sectors)
{
    static const u8 writes[] = {0x30, 0x31, 0x34, 0x35, 0x39, 0x3d, 0xc5, 0xca, 0xcb, 0xce};
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        start();
        memset(memory + DATA, writes[i], 1024);
        command(writes[i], 5, 2, 1024);
        CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
        memset(memory + DATA, 0, 2048);
        command(0x25, 4, 4, 2048);
        CHECK_EQ(memory[DATA + 511], disk_file[4 * 512 + 511]);
        CHECK_EQ(memory[DATA + 512], writes[i]);
        CHECK_EQ(memory[DATA + 1535], writes[i]);
        CHECK_EQ(memory[DATA + 1536], disk_file[7 * 512]);
    }
}

TEST(a_block_is_a_power_of_two_up_to_sixteen_sectors)
{
    static const struct {
        u8 count;
        bool good;
    } cases[] = {{16, true}, {32, false}, {3, false}, {12, false}, {1, true}, {0, true}};
    u8 block = 16;
    start();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        command(0xc6, 0, cases[i].count, 0);
        CHECK_EQ(rd(PORT(0) + PORT_TFD) & 1, !cases[i].good);
        recover(0);
        block = cases[i].good ? cases[i].count : block;
        command(0xec, 0, 0, 512);
        CHECK_EQ(memory[DATA + 118], block);
        CHECK_EQ(memory[DATA + 119], block != 0);
    }
}

TEST(a_refused_command_leaves_the_address)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0xff, 0x04030201, 0x0605);
    fis[9] = 0x07;
    fis[10] = 0x08;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    static const u8 kept[] = {1, 2, 3, 0x40, 4, 7, 8};
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        CHECK_EQ(received(0, 0x44 + i), kept[i]);
    CHECK_EQ(received(0, 0x4c), 5);
    CHECK_EQ(received(0, 0x4d), 6);
}

TEST(a_log_has_one_page)
{
    start();
    command(0x2f, 0, 1, 512);
    CHECK_EQ(memory[DATA + 0x20], 1);
    command(0x2f, 0x100, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_ABORT << 8 | 0x51);
}
