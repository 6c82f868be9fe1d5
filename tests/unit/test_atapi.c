// SPDX-License-Identifier: MIT
#include "tests/unit/disk_rig.h"

static void packet_with(const u8 packet[12], u32 room)
{
    u8 fis[20] = {0x27, 0x80, 0xa0, 1};
    const struct piece piece = {DATA, room};
    prepare(1, 0, fis, packet, &piece, room ? 1 : 0);
    issue(1, 1);
}

static void check_sense(u8 key, u8 code)
{
    recover(1);
    packet_with((const u8[12]){0x03, 0, 0, 0, 18}, 18);
    CHECK_EQ(memory[DATA] & 0x7f, 0x70);
    CHECK_EQ(memory[DATA + 2], key);
    CHECK_EQ(memory[DATA + 12], code);
}

TEST(the_first_packet_hears_of_the_reset)
{
    start();
    packet_with((const u8[12]){0x00}, 0);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x6451);
    check_sense(6, 0x29);
    check_sense(0, 0);
    packet_with((const u8[12]){0x00}, 0);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x50);
}

static void start_disc(void)
{
    start();
    packet_with((const u8[12]){0x03, 0, 0, 0, 18}, 18); // takes the unit attention
}

TEST(packets_read_the_disc)
{
    start_disc();
    packet_with((const u8[12]){0x28, 0, 0, 0, 0, 3, 0, 0, 2}, 4096);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 3 * 2048, 4096), 0);
    CHECK_EQ(moved(1), 4096);
    packet_with((const u8[12]){0xa8, 0, 0, 0, 0, 63, 0, 0, 0, 1}, 2048);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 63 * 2048, 2048), 0);
    packet_with((const u8[12]){0x28, 0, 0, 0, 0, 63, 0, 0, 2}, 4096);
    CHECK_EQ(rd(PORT(1) + PORT_TFD) >> 12, 5);
    check_sense(5, 0x21);
}

TEST(the_disc_has_a_size_and_a_track)
{
    start_disc();
    packet_with((const u8[12]){0x25}, 8);
    CHECK_EQ(memcmp(memory + DATA, "\0\0\0\77\0\0\10\0", 8), 0);
    packet_with((const u8[12]){0x43, 0, 0, 0, 0, 0, 0, 0, 20}, 20);
    CHECK_EQ(memcmp(memory + DATA, "\0\22\1\1\0\24\1\0\0\0\0\0\0\24\252\0\0\0\0\100", 20), 0);
    packet_with((const u8[12]){0x12, 0, 0, 0, 36}, 36);
    CHECK_EQ(memory[DATA], 5);
    CHECK_EQ(memory[DATA + 4], 31);
    CHECK_EQ(memcmp(memory + DATA + 8, "PLINTH  CD-ROM          1.0 ", 28), 0);
}

static void read_toc_as(u8 msf, u8 format, u8 first, u8 control)
{
    packet_with((const u8[12]){0x43, msf, format, 0, 0, 0, first, 0, 20, control}, 20);
}

TEST(the_table_of_contents_has_several_forms)
{
    start_disc();
    read_toc_as(0, 1, 0, 0); // sessions
    CHECK_EQ(moved(1), 12);
    CHECK_EQ(memcmp(memory + DATA, "\0\12\1\1\0\24\1\0\0\0\0\0", 12), 0);
    memset(memory + DATA, 0xff, 12);
    read_toc_as(0, 0, 0, 0x40); // the same, as older drives are asked for it
    CHECK_EQ(memcmp(memory + DATA, "\0\12\1\1\0\24\1\0\0\0\0\0", 12), 0);
    read_toc_as(2, 0, 0xaa, 0); // the lead-out, as minute, second and frame
    CHECK_EQ(moved(1), 12);
    CHECK_EQ(memcmp(memory + DATA, "\0\12\1\1\0\24\252\0\0\0\2\100", 12), 0);
    read_toc_as(0, 0, 1, 0);
    CHECK_EQ(moved(1), 20);
    read_toc_as(0, 0, 2, 0); // there is one track
    check_sense(5, 0x24);
    read_toc_as(0, 2, 0, 0);
    check_sense(5, 0x24);
}

TEST(sense_is_that_of_the_last_packet)
{
    start_disc();
    packet_with((const u8[12]){0x2a}, 0);
    recover(1);
    packet_with((const u8[12]){0x12, 0, 0, 0, 36}, 36);
    check_sense(0, 0);
    packet_with((const u8[12]){0x2a}, 0);
    check_sense(5, 0x20);
    check_sense(0, 0); // told once
}

TEST(read_cd_gives_user_data)
{
    start_disc();
    packet_with((const u8[12]){0xbe, 0, 0, 0, 0, 5, 0, 0, 2, 0x10}, 4096);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 5 * 2048, 4096), 0);
    packet_with((const u8[12]){0xbe, 0x08, 0, 0, 0, 7, 0, 0, 1, 0x10}, 2048);
    CHECK_EQ(memcmp(memory + DATA, disc_file + 7 * 2048, 2048), 0);
    packet_with((const u8[12]){0xbe, 0, 0, 0, 0, 5, 0, 0, 1, 0}, 2048);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x50);
    CHECK_EQ(moved(1), 0);
    packet_with((const u8[12]){0xbe, 0, 0, 0, 0, 63, 0, 0, 2, 0x10}, 4096);
    check_sense(5, 0x21);
    packet_with((const u8[12]){0xbe, 0, 0, 0, 0, 5, 0, 0, 1, 0xf8}, 2352); // raw
    check_sense(5, 0x24);
    packet_with((const u8[12]){0xbe, 0x04, 0, 0, 0, 5, 0, 0, 1, 0x10}, 2352); // audio
    check_sense(5, 0x64);
}

TEST(mode_pages_tell_what_the_drive_can)
{
    start_disc();
    packet_with((const u8[12]){0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64}, 64);
    CHECK_EQ(moved(1), 28);
    CHECK_EQ(memcmp(memory + DATA, "\0\32\0\0\0\0\0\0\52\22\3\0\100\0\41\0\20\212", 18), 0);
    packet_with((const u8[12]){0x5a, 0, 0x6a, 0, 0, 0, 0, 0, 64}, 64); // what can be changed
    CHECK_EQ(memcmp(memory + DATA + 8, "\52\22\0\0\0\0\0\0\0\0", 10), 0);
    packet_with((const u8[12]){0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 64}, 64);
    CHECK_EQ(moved(1), 8 + 8 + 20);
    CHECK_EQ(memory[DATA + 16], 0x2a);
    packet_with((const u8[12]){0x5a, 0, 0xea, 0, 0, 0, 0, 0, 64}, 64); // what was saved
    check_sense(5, 0x39);
    packet_with((const u8[12]){0x5a, 0, 0x0e, 0, 0, 0, 0, 0, 64}, 64); // of audio
    check_sense(5, 0x24);
}

TEST(the_tray_is_shut)
{
    start_disc();
    packet_with((const u8[12]){0x46, 2, 0, 3, 0, 0, 0, 0, 64}, 64);
    CHECK_EQ(moved(1), 16);
    CHECK_EQ(memory[DATA + 12], 0x21);
    packet_with((const u8[12]){0x1b, 0, 0, 0, 2}, 0);
    check_sense(5, 0x24);
}

TEST(events_are_told_if_there_are_any)
{
    start_disc();
    packet_with((const u8[12]){0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, 8);
    CHECK_EQ(memcmp(memory + DATA, "\0\6\4\20\0\2\0\0", 8), 0);
    packet_with((const u8[12]){0x4a, 1, 0, 0, 0x40, 0, 0, 0, 8}, 8);
    CHECK_EQ(moved(1), 4);
    CHECK_EQ(memcmp(memory + DATA, "\0\2\200\20", 4), 0);
}

TEST(a_seek_stays_on_the_disc)
{
    start_disc();
    packet_with((const u8[12]){0x2b, 0, 0, 0, 0, 63}, 0);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x50);
    packet_with((const u8[12]){0x2b, 0, 0, 0, 0, 64}, 0);
    check_sense(5, 0x21);
}

TEST(an_unknown_packet_is_illegal)
{
    start_disc();
    packet_with((const u8[12]){0x2a}, 0); // WRITE (10)
    CHECK_EQ(rd(PORT(1) + PORT_TFD), 0x5451);
    check_sense(5, 0x20);
}

TEST(a_disc_drive_is_no_disk)
{
    u8 fis[20];
    start_disc();
    ata_fis(fis, 0xec, 0, 0);
    prepare(1, 0, fis, NULL, NULL, 0);
    issue(1, 1);
    CHECK_EQ(rd(PORT(1) + PORT_TFD), ATA_ERROR_ABORT << 8 | 0x51);
    CHECK_EQ(received(1, 0x45), 0x14);
    CHECK_EQ(received(1, 0x46), 0xeb);
}
