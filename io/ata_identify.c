// SPDX-License-Identifier: MIT
// IDENTIFY DEVICE and IDENTIFY PACKET DEVICE data (ACS, tables of the same names): a table of the
// words that never change, and the few that do.
#include "io/ata.h"
#include "vmm/lib/string.h"

enum identify_word {
    WORD_CYLINDERS = 1,
    WORD_SERIAL = 10,
    WORD_FIRMWARE = 23,
    WORD_MODEL = 27,
    WORD_MULTIPLE = 59,
    WORD_LBA28 = 60,
    WORD_MULTIWORD_DMA = 63,
    WORD_COMMANDS_ENABLED = 85,
    WORD_ULTRA_DMA = 88,
    WORD_LBA48 = 100,
    WORD_CHECKSUM = 255,
};

#define MULTIPLE_VALID   0x100u
#define ULTRA_DMA_MODE   0x40u // of a transfer mode: Ultra DMA, the number in the low bits
#define DMA_MODE_MASK    0x07u
#define WRITE_CACHE_WORD 0x0020u // of word 85
#define LOOK_AHEAD_WORD  0x0040u
#define LBA28_MAX        0x0fffffffull
#define HEADS            16u
#define TRACK_SECTORS    63u
#define CYLINDERS_MAX    16383u // of every disk over 8 GB
#define CHECKSUM_MARK    0xa5u

#define SERIAL_LENGTH   20
#define FIRMWARE_LENGTH 8
#define MODEL_LENGTH    40

static const struct identify_entry {
    u8 word;
    u16 value;
} disk_words[] =
    {
        {0, 0x0040}, // fixed
        {3, HEADS},    {6, TRACK_SECTORS}, {47, 0x8000 | ATA_MULTIPLE_MAX},
        {49, 0x0f00},                // LBA, DMA, IORDY
        {50, 0x4000},  {53, 0x0006}, // words 64-70 and 88 are valid
        {63, 0x0007},                // multiword DMA 0-2
        {64, 0x0003},                // PIO 3, 4
        {65, 120},                   // ns a cycle, four times
        {66, 120},     {67, 120},          {68, 120},
        {75, 31},     // queue depth - 1
        {76, 0x0106}, // SATA: NCQ, generations 1, 2
        {80, 0x01f0}, // ATA/ATAPI-4 to 8
        {82, 0x4068}, // NOP, look-ahead, write cache, power management
        {83, 0x7400}, // FLUSH CACHE, the same EXT, 48 bits
        {84, 0x4060}, // FUA, general purpose logging
        {85, 0x4008},  {86, 0x3400},       {87, 0x4060},
        {88, 0x003f},  // Ultra DMA 0-5
        {106, 0x4000}, // a physical sector is a logical one
        {217, 1},      // does not rotate
},
  cd_words[] =
      {
          {0, 0x85c0}, // packets of 12 bytes, CD-ROM, removable
          {49, 0x0f00}, {50, 0x4000}, {53, 0x0006}, {63, 0x0007}, {64, 0x0003},
          {65, 120},    {66, 120},    {67, 120},    {68, 120},    {76, 0x0006},
          {80, 0x01f0}, {82, 0x4218}, // NOP, DEVICE RESET, PACKET, power management
          {83, 0x4000}, {84, 0x4000}, {85, 0x4218}, {87, 0x4000}, {88, 0x003f},
};

static void set_word(struct ata_drive *drive, unsigned word, unsigned value)
{
    drive->buffer[word * 2] = (u8)value;
    drive->buffer[word * 2 + 1] = (u8)(value >> 8);
}

// Padded with blanks; the first character of a pair is the word's high byte.
static void set_string(struct ata_drive *drive, unsigned word, const char *text, unsigned length)
{
    bool ended = false;
    for (unsigned i = 0; i < length; i++) {
        ended = ended || !text[i];
        drive->buffer[(word * 2 + i) ^ 1] = (u8)(ended ? ' ' : text[i]);
    }
}

static void set_disk_words(struct ata_drive *drive)
{
    u64 sectors = drive->image->size / ATA_SECTOR, sectors28 = MIN(sectors, LBA28_MAX);
    u64 cylinders = MIN(MAX(sectors / (HEADS * TRACK_SECTORS), 1u), CYLINDERS_MAX);
    set_word(drive, WORD_CYLINDERS, (unsigned)cylinders);
    for (unsigned i = 0; i < 2; i++)
        set_word(drive, WORD_LBA28 + i, (unsigned)(sectors28 >> 16 * i) & 0xffff);
    for (unsigned i = 0; i < 4; i++)
        set_word(drive, WORD_LBA48 + i, (unsigned)(sectors >> 16 * i) & 0xffff);
    set_word(drive, WORD_MULTIPLE, drive->multiple ? MULTIPLE_VALID | drive->multiple : 0);
    drive->buffer[WORD_COMMANDS_ENABLED * 2] |= (u8)((drive->write_cache ? WRITE_CACHE_WORD : 0) |
                                                     (drive->look_ahead ? LOOK_AHEAD_WORD : 0));
}

// The mode in use is a bit in the high byte of the word of its kind.
static void set_dma_mode(struct ata_drive *drive)
{
    bool ultra = drive->transfer_mode & ULTRA_DMA_MODE;
    unsigned word = ultra ? WORD_ULTRA_DMA : WORD_MULTIWORD_DMA;
    drive->buffer[word * 2 + 1] = (u8)(1u << (drive->transfer_mode & DMA_MODE_MASK));
}

void ata_identify(struct ata_drive *drive)
{
    const struct identify_entry *entries = drive->packet ? cd_words : disk_words;
    unsigned count = drive->packet ? ARRAY_SIZE(cd_words) : ARRAY_SIZE(disk_words);
    char serial[] = "PLINTH0000";
    serial[sizeof(serial) - 2] = (char)('0' + drive->number % 10);
    memset(drive->buffer, 0, sizeof(drive->buffer));
    for (unsigned i = 0; i < count; i++)
        set_word(drive, entries[i].word, entries[i].value);
    set_string(drive, WORD_SERIAL, serial, SERIAL_LENGTH);
    set_string(drive, WORD_FIRMWARE, "1.0", FIRMWARE_LENGTH);
    set_string(drive, WORD_MODEL, drive->packet ? "Plinth CD-ROM" : "Plinth disk", MODEL_LENGTH);
    if (!drive->packet)
        set_disk_words(drive);
    set_dma_mode(drive);
    drive->buffer[WORD_CHECKSUM * 2] = CHECKSUM_MARK;
    u8 sum = 0;
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (u8)(sum + drive->buffer[i]);
    drive->buffer[ATA_SECTOR - 1] = (u8)-sum;
}
