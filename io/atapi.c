// SPDX-License-Identifier: MIT
// A CD-ROM drive with a disc in it that holds one data track (INCITS MMC-5, SPC-3): one table of
// packets. What is wrong with a packet is said in the sense data; a unit attention is pending after
// a reset.
#include "io/ata.h"
#include "vmm/lib/string.h"

#define BLOCK             2048u
#define FEATURE_DMA       0x01u // of the PACKET command
#define ERROR_SENSE_SHIFT 4
#define SENSE_FIXED       0x70u
#define SENSE_SIZE        18u
#define SENSE_LENGTH      10u // of what follows byte 7
#define LEAD_OUT          0xaau
#define TRACK_DATA        0x14u // digital copy prohibited, data track
#define MSF_BIT           0x02u
#define FRAMES            75u // a second
#define MSF_LEAD_IN       150u
#define DISC_CD_ROM       0x0008u // profile
#define EJECT             0x03u   // START STOP UNIT: LoEj, Start
#define EJECT_OPEN        0x02u
#define EVENT_POLLED      0x01u
#define EVENT_MEDIA       0x10u
#define EVENT_CLASS_MEDIA 4
#define EVENT_NONE        0x80u // of the classes that were asked for
#define MEDIA_PRESENT     0x02u
#define TRAY_LOCK         0x21u // a tray, which can be locked and does not open
#define MODE_PAGE_MASK    0x3fu // MODE SENSE: the page, and which of its values
#define VALUES_SHIFT      6
#define VALUES_CHANGEABLE 1
#define VALUES_SAVED      3
#define PAGE_HEAD         2u
#define SECTOR_TYPE_SHIFT 2 // READ CD
#define SECTOR_TYPE_MASK  0x7u
#define SECTOR_ANY        0
#define SECTOR_MODE_1     2
#define MAIN_CHANNEL_USER 0x10u // the 2048 bytes alone
#define SUB_CHANNEL_MASK  0x07u

enum sense_key { NO_SENSE, ILLEGAL_REQUEST = 5, UNIT_ATTENTION = 6 };

enum packet_code {
    TEST_UNIT_READY = 0x00,
    REQUEST_SENSE = 0x03,
    INQUIRY = 0x12,
    START_STOP_UNIT = 0x1b,
    PREVENT_REMOVAL = 0x1e,
    READ_CAPACITY = 0x25,
    READ_10 = 0x28,
    SEEK_10 = 0x2b,
    READ_TOC = 0x43,
    GET_CONFIGURATION = 0x46,
    GET_EVENT_STATUS = 0x4a,
    READ_DISC_INFORMATION = 0x51,
    MODE_SENSE_10 = 0x5a,
    READ_12 = 0xa8,
    SET_CD_SPEED = 0xbb,
    MECHANISM_STATUS = 0xbd,
    READ_CD = 0xbe,
};

static const struct atapi_sense no_sense = {NO_SENSE, 0, 0};
static const struct atapi_sense bad_command = {ILLEGAL_REQUEST, 0x20, 0};
static const struct atapi_sense bad_address = {ILLEGAL_REQUEST, 0x21, 0};
static const struct atapi_sense bad_field = {ILLEGAL_REQUEST, 0x24, 0};
static const struct atapi_sense not_saved = {ILLEGAL_REQUEST, 0x39, 0};
static const struct atapi_sense bad_mode = {ILLEGAL_REQUEST, 0x64, 0};
static const struct atapi_sense was_reset = {UNIT_ATTENTION, 0x29, 0};

struct packet_row {
    u8 code;
    bool any_time; // a pending unit attention does not come first
    void (*run)(struct ata_drive *drive, const u8 *packet);
};

static unsigned get16(const u8 *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static u32 get32(const u8 *p)
{
    return (u32)get16(p) << 16 | get16(p + 2);
}

static void put16(u8 *p, unsigned value)
{
    p[0] = (u8)(value >> 8);
    p[1] = (u8)value;
}

static void put32(u8 *p, u32 value)
{
    put16(p, value >> 16);
    put16(p + 2, value & 0xffff);
}

static u32 blocks(const struct ata_drive *drive)
{
    return (u32)(drive->image->size / BLOCK);
}

static void check_condition(struct ata_drive *drive, const struct atapi_sense *sense)
{
    drive->sense = *sense;
    ata_fail(drive, (u8)(sense->key << ERROR_SENSE_SHIFT | ATA_ERROR_ABORT));
}

// The first bytes of the buffer, as many as the host has room for.
static void reply(struct ata_drive *drive, u64 length, u64 room)
{
    ata_reply(drive, MIN(length, room));
}

// --- packets ---

static void no_action(struct ata_drive *drive UNUSED, const u8 *packet UNUSED)
{
}

static void request_sense(struct ata_drive *drive, const u8 *packet)
{
    u8 *b = drive->buffer;
    if (drive->attention && drive->sense.key == NO_SENSE) {
        drive->sense = was_reset;
        drive->attention = false;
    }
    b[0] = SENSE_FIXED;
    b[2] = drive->sense.key;
    b[7] = SENSE_LENGTH;
    b[12] = drive->sense.code;
    b[13] = drive->sense.qualifier;
    drive->sense = no_sense;
    reply(drive, SENSE_SIZE, packet[4]);
}

static void inquiry(struct ata_drive *drive, const u8 *packet)
{
    static const char text[] = "PLINTH  CD-ROM          1.0 "; // vendor, product, revision
    enum { HEAD = 8, LENGTH = HEAD + sizeof(text) - 1 };
    static const u8 head[HEAD] = {0x05, 0x80, 0x05, 0x32, LENGTH - 5}; // CD-ROM, removable, SPC-3
    if (packet[1] & 1 || packet[2]) {                                  // vital product data
        check_condition(drive, &bad_field);
        return;
    }
    memcpy(drive->buffer, head, sizeof(head));
    memcpy(drive->buffer + HEAD, text, sizeof(text) - 1);
    reply(drive, LENGTH, get16(packet + 3));
}

static void start_stop(struct ata_drive *drive, const u8 *packet)
{
    if ((packet[4] & EJECT) == EJECT_OPEN) // the tray does not open
        check_condition(drive, &bad_field);
}

static void read_capacity(struct ata_drive *drive, const u8 *packet UNUSED)
{
    put32(drive->buffer, blocks(drive) - 1);
    put32(drive->buffer + 4, BLOCK);
    reply(drive, 8, 8);
}

static void read_blocks(struct ata_drive *drive, u32 lba, u32 count)
{
    if (lba > blocks(drive) || count > blocks(drive) - lba) {
        check_condition(drive, &bad_address);
        return;
    }
    drive->standby = false;
    drive->at = (u64)lba * BLOCK;
    drive->left = (u64)count * BLOCK;
}

static void read_10(struct ata_drive *drive, const u8 *packet)
{
    read_blocks(drive, get32(packet + 2), get16(packet + 7));
}

static void read_12(struct ata_drive *drive, const u8 *packet)
{
    read_blocks(drive, get32(packet + 2), get32(packet + 6));
}

// Sectors of data have their user data only; who asks for no channel has the address checked.
static void read_cd(struct ata_drive *drive, const u8 *packet)
{
    unsigned type = packet[1] >> SECTOR_TYPE_SHIFT & SECTOR_TYPE_MASK;
    if (type != SECTOR_ANY && type != SECTOR_MODE_1) {
        check_condition(drive, &bad_mode);
        return;
    }
    if ((packet[9] && packet[9] != MAIN_CHANNEL_USER) || packet[10] & SUB_CHANNEL_MASK) {
        check_condition(drive, &bad_field);
        return;
    }
    read_blocks(drive, get32(packet + 2), get32(packet + 5) & 0xffffff);
    if (!packet[9])
        drive->left = 0;
}

static void seek_10(struct ata_drive *drive, const u8 *packet)
{
    if (get32(packet + 2) >= blocks(drive))
        check_condition(drive, &bad_address);
}

static void put_address(u8 *p, u32 lba, bool msf)
{
    if (!msf) {
        put32(p, lba);
        return;
    }
    u32 frames = lba + MSF_LEAD_IN;
    p[1] = (u8)(frames / FRAMES / 60);
    p[2] = (u8)(frames / FRAMES % 60);
    p[3] = (u8)(frames % FRAMES);
}

// A descriptor of READ TOC's formats 0 and 1.
static void put_track(u8 *p, u8 track, u32 lba, bool msf)
{
    p[1] = TRACK_DATA;
    p[2] = track;
    put_address(p + 4, lba, msf);
}

static void read_toc(struct ata_drive *drive, const u8 *packet)
{
    enum { TRACKS, SESSIONS };
    u8 *b = drive->buffer;
    bool msf = packet[1] & MSF_BIT;
    unsigned format = packet[2] & 0xf ? packet[2] & 0xf : packet[9] >> 6, length = 12;
    u8 first = packet[6];
    if (format > SESSIONS || (format == TRACKS && first > 1 && first != LEAD_OUT)) {
        check_condition(drive, &bad_field);
        return;
    }
    b[2] = b[3] = 1; // first and last
    if (format == SESSIONS || first <= 1) {
        put_track(b + 4, 1, 0, msf);
        length = 4 + 8;
    }
    if (format == TRACKS) {
        unsigned at = first <= 1 ? 4 + 8 : 4;
        put_track(b + at, LEAD_OUT, blocks(drive), msf);
        length = at + 8;
    }
    put16(b, length - 2);
    reply(drive, length, get16(packet + 7));
}

// The features core, morphing, removable medium, random reading, and CD read; profile CD-ROM.
static void get_configuration(struct ata_drive *drive, const u8 *packet)
{
    static const u8 features[] = {
        0x00, 0x00, 0x03, 4, 0x00,      DISC_CD_ROM, 0x01,       0, // profile list
        0x00, 0x01, 0x0b, 8, 0,         0,           0,          0x02,
        0,    0,    0,    0,                                        // core: ATAPI
        0x00, 0x03, 0x03, 4, TRAY_LOCK, 0,           0,          0, // removable
        0x00, 0x10, 0x03, 8, 0,         0,           BLOCK >> 8, BLOCK & 0xff,
        0,    1,    0,    0,                                        // random reading
        0x00, 0x1e, 0x0b, 4, 0,         0,           0,          0, // CD read
    };
    enum { HEAD = 8, ALL = 0, ONE = 2 };
    unsigned wanted = get16(packet + 2), kind = packet[1] & 3, length = HEAD;
    for (unsigned at = 0; at < sizeof(features); at += 4u + features[at + 3]) {
        unsigned size = 4u + features[at + 3], code = get16(features + at);
        if (kind == ONE ? code != wanted : code < wanted)
            continue;
        memcpy(drive->buffer + length, features + at, size);
        length += size;
    }
    put32(drive->buffer, length - 4);
    put16(drive->buffer + 6, DISC_CD_ROM);
    reply(drive, length, get16(packet + 7));
}

static void get_event(struct ata_drive *drive, const u8 *packet)
{
    u8 *b = drive->buffer;
    if (!(packet[1] & EVENT_POLLED)) {
        check_condition(drive, &bad_field);
        return;
    }
    unsigned length = 4;
    b[2] = EVENT_NONE;
    b[3] = EVENT_MEDIA; // supported
    if (packet[4] & EVENT_MEDIA) {
        b[2] = EVENT_CLASS_MEDIA;
        b[5] = MEDIA_PRESENT; // no change
        length = 8;
    }
    put16(b, length - 2);
    reply(drive, length, get16(packet + 7));
}

// The beginnings of the pages, zeros follow.
static const struct mode_page {
    u8 code, length, values[8];
} mode_pages[] = {
    {0x01, 6, {0, 5}}, // read error recovery
    // Capabilities and mechanical status: CD-R and CD-RW are read, several sessions; 24-fold speed.
    {0x2a, 18, {0x03, 0, 0x40, 0, TRAY_LOCK, 0, 0x10, 0x8a}},
};

// No value can be changed, so their masks are zeros.
static void mode_sense(struct ata_drive *drive, const u8 *packet)
{
    enum { HEAD = 8, PAGE_ALL = MODE_PAGE_MASK };
    unsigned wanted = packet[2] & MODE_PAGE_MASK, values = packet[2] >> VALUES_SHIFT, length = HEAD;
    for (unsigned i = 0; i < ARRAY_SIZE(mode_pages); i++) {
        const struct mode_page *page = &mode_pages[i];
        if (wanted != page->code && wanted != PAGE_ALL)
            continue;
        memcpy(drive->buffer + length, page,
               values == VALUES_CHANGEABLE ? PAGE_HEAD
                                           : MIN(sizeof(*page), PAGE_HEAD + page->length));
        length += PAGE_HEAD + page->length;
    }
    if (length == HEAD || values == VALUES_SAVED) {
        check_condition(drive, length == HEAD ? &bad_field : &not_saved);
        return;
    }
    put16(drive->buffer, length - 2);
    reply(drive, length, get16(packet + 7));
}

static void disc_information(struct ata_drive *drive, const u8 *packet)
{
    enum { LENGTH = 34, COMPLETE = 0x0e };
    u8 *b = drive->buffer;
    put16(b, LENGTH - 2);
    b[2] = COMPLETE;               // disc and last session
    b[3] = b[4] = b[5] = b[6] = 1; // first track, sessions, its first and last track
    memset(b + 16, 0xff, 8);       // no lead-in, nor lead-out to be written
    reply(drive, LENGTH, get16(packet + 7));
}

static void mechanism_status(struct ata_drive *drive, const u8 *packet)
{
    reply(drive, 8, get16(packet + 8));
}

static const struct packet_row packet_rows[] = {
    {TEST_UNIT_READY, false, no_action},
    {REQUEST_SENSE, true, request_sense},
    {INQUIRY, true, inquiry},
    {START_STOP_UNIT, false, start_stop},
    {PREVENT_REMOVAL, false, no_action},
    {READ_CAPACITY, false, read_capacity},
    {READ_10, false, read_10},
    {SEEK_10, false, seek_10},
    {READ_TOC, false, read_toc},
    {GET_CONFIGURATION, true, get_configuration},
    {GET_EVENT_STATUS, true, get_event},
    {READ_DISC_INFORMATION, false, disc_information},
    {MODE_SENSE_10, false, mode_sense},
    {READ_12, false, read_12},
    {SET_CD_SPEED, false, no_action},
    {MECHANISM_STATUS, false, mechanism_status},
    {READ_CD, false, read_cd},
};

static const struct packet_row *packet_find(u8 code)
{
    for (unsigned i = 0; i < ARRAY_SIZE(packet_rows); i++)
        if (packet_rows[i].code == code)
            return &packet_rows[i];
    return NULL;
}

void atapi_reset(struct ata_drive *drive)
{
    drive->sense = no_sense;
    drive->attention = true;
}

void atapi_execute(struct ata_drive *drive, const u8 *packet)
{
    const struct packet_row *row = packet_find(packet[0]);
    drive->registers.count = ATA_REASON_COMMAND | ATA_REASON_IN;
    drive->protocol = drive->registers.features & FEATURE_DMA ? ATA_DMA : ATA_PIO;
    memset(drive->buffer, 0, sizeof(drive->buffer));
    if (packet[0] != REQUEST_SENSE)
        drive->sense = no_sense;
    if (!row) {
        check_condition(drive, &bad_command);
    } else if (drive->attention && !row->any_time) {
        drive->attention = false;
        check_condition(drive, &was_reset);
    } else {
        row->run(drive, packet);
    }
}
