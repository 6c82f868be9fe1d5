// SPDX-License-Identifier: MIT
// An ATA disk with 512-byte sectors addressed by LBA, of 28 and 48 bits; one table of commands.
// Not there: CHS addresses, SMART, security, HPA.
#include "io/ata.h"
#include "vmm/lib/bits.h"
#include "vmm/lib/string.h"

#define DEVICE_LBA        0x40u
#define LBA28_BITS        28
#define LBA28_COUNT_ALL   256u // a count of 0
#define LBA48_COUNT_ALL   65536u
#define POWER_ACTIVE      0xffu // CHECK POWER MODE: active or idle
#define POWER_STANDBY     0x00u
#define SIGNATURE_PACKET  0xeb1401u
#define SIGNATURE_DISK    0x000001u
#define LOG_DIRECTORY     0x00u
#define LOG_QUEUED_ERRORS 0x10u
#define LOG_VERSION       0x0001u
#define LOG_PAGE_LOW      8 // where in the address a page's number is
#define LOG_PAGE_HIGH     32

// SET FEATURES.
#define WRITE_CACHE_ON  0x02u
#define TRANSFER_MODE   0x03u
#define LOOK_AHEAD_OFF  0x55u
#define WRITE_CACHE_OFF 0x82u
#define LOOK_AHEAD_ON   0xaau

enum command_flags {
    WIDE = 1, // 48-bit address, 16-bit count
    TO_DRIVE = 2,
    PIO = 4,
    QUEUED = 8,
    DISK = 16, // who has it
    CD = 32,
    BOTH = DISK | CD,
};

// ACS "Command code usage".
enum ata_command {
    DEVICE_RESET = 0x08,
    RECALIBRATE = 0x10,
    READ_SECTORS = 0x20,
    READ_SECTORS_ONCE = 0x21,
    READ_SECTORS_EXT = 0x24,
    READ_DMA_EXT = 0x25,
    READ_MULTIPLE_EXT = 0x29,
    READ_LOG_EXT = 0x2f,
    WRITE_SECTORS = 0x30,
    WRITE_SECTORS_ONCE = 0x31,
    WRITE_SECTORS_EXT = 0x34,
    WRITE_DMA_EXT = 0x35,
    WRITE_MULTIPLE_EXT = 0x39,
    WRITE_DMA_FUA_EXT = 0x3d,
    READ_VERIFY = 0x40,
    READ_VERIFY_ONCE = 0x41,
    READ_VERIFY_EXT = 0x42,
    READ_LOG_DMA_EXT = 0x47,
    READ_FPDMA_QUEUED = 0x60,
    WRITE_FPDMA_QUEUED = 0x61,
    SEEK = 0x70,
    EXECUTE_DIAGNOSTIC = 0x90,
    INITIALIZE_PARAMETERS = 0x91,
    PACKET = 0xa0,
    IDENTIFY_PACKET = 0xa1,
    READ_MULTIPLE = 0xc4,
    WRITE_MULTIPLE = 0xc5,
    SET_MULTIPLE = 0xc6,
    READ_DMA = 0xc8,
    READ_DMA_ONCE = 0xc9,
    WRITE_DMA = 0xca,
    WRITE_DMA_ONCE = 0xcb,
    WRITE_MULTIPLE_FUA_EXT = 0xce,
    STANDBY_IMMEDIATE = 0xe0,
    IDLE_IMMEDIATE = 0xe1,
    STANDBY = 0xe2,
    IDLE = 0xe3,
    CHECK_POWER_MODE = 0xe5,
    SLEEP = 0xe6,
    FLUSH_CACHE = 0xe7,
    FLUSH_CACHE_EXT = 0xea,
    IDENTIFY = 0xec,
    SET_FEATURES = 0xef,
};

struct command_row {
    u8 command; // enum ata_command
    u8 flags;
    void (*run)(struct ata_drive *drive, unsigned flags);
};

// --- results ---

void ata_fail(struct ata_drive *drive, u8 error)
{
    drive->registers.status = ATA_STATUS_GOOD | ATA_STATUS_ERROR;
    drive->registers.error = error;
    drive->left = 0;
}

void ata_reply(struct ata_drive *drive, u64 length)
{
    drive->in_buffer = true;
    drive->to_drive = false;
    drive->at = 0;
    drive->left = length;
}

static void signature(struct ata_drive *drive)
{
    struct ata_registers *r = &drive->registers;
    r->count = 1;
    r->lba = drive->packet ? SIGNATURE_PACKET : SIGNATURE_DISK;
    r->device = 0;
}

void *ata_data(struct ata_drive *drive, u64 *length)
{
    if (drive->in_buffer) {
        *length = MIN(*length, drive->left);
        return drive->buffer + drive->at;
    }
    // Reading leaves the bytes alone: the adapter knows the direction.
    void *bytes = drive->to_drive ? disk_image_write(drive->image, drive->at, length)
                                  : (void *)disk_image_read(drive->image, drive->at, length);
    *length = MIN(*length, drive->left);
    if (!bytes)
        ata_fail(drive, ATA_ERROR_ABORT);
    return bytes;
}

void ata_data_moved(struct ata_drive *drive, u64 length)
{
    drive->at += length;
    drive->left -= length;
    if (!drive->left)
        ata_finish(drive);
}

void ata_finish(struct ata_drive *drive)
{
    drive->left = 0;
    drive->registers.status = ATA_STATUS_GOOD;
    if (drive->packet)
        drive->registers.count = ATA_REASON_COMMAND | ATA_REASON_IN;
}

void ata_note_failed(struct ata_drive *drive, u8 tag)
{
    drive->failed_tag = tag;
    drive->failed = drive->registers;
}

// --- reading and writing ---

static u64 sector_count(const struct ata_registers *r, unsigned flags)
{
    if (flags & QUEUED)
        return r->features ? r->features : LBA48_COUNT_ALL;
    if (flags & WIDE)
        return r->count ? r->count : LBA48_COUNT_ALL;
    return (u8)r->count ? (u8)r->count : LBA28_COUNT_ALL;
}

// The address in LBA form and in bytes; false: it is none, or past the end.
static bool extent(struct ata_drive *drive, unsigned flags, u64 *at, u64 *length)
{
    const struct ata_registers *r = &drive->registers;
    u64 lba = r->lba;
    if (!(flags & WIDE))
        lba = bits_get(lba, 0, 24) | (u64)(r->device & 0xf) << 24;
    u64 count = sector_count(r, flags), sectors = drive->image->size / ATA_SECTOR;
    if (!(r->device & DEVICE_LBA) || lba >= sectors || count > sectors - lba)
        return false;
    *at = lba * ATA_SECTOR;
    *length = count * ATA_SECTOR;
    return true;
}

static void transfer(struct ata_drive *drive, unsigned flags)
{
    drive->standby = false;
    drive->protocol = flags & QUEUED ? ATA_QUEUED : flags & PIO ? ATA_PIO : ATA_DMA;
    if (!extent(drive, flags, &drive->at, &drive->left)) {
        ata_fail(drive, ATA_ERROR_NOT_FOUND);
        return;
    }
    drive->to_drive = flags & TO_DRIVE;
}

static void multiple(struct ata_drive *drive, unsigned flags)
{
    if (drive->multiple)
        transfer(drive, flags);
    else
        ata_fail(drive, ATA_ERROR_ABORT);
}

static void verify(struct ata_drive *drive, unsigned flags)
{
    u64 at, length;
    drive->standby = false;
    if (!extent(drive, flags, &at, &length))
        ata_fail(drive, ATA_ERROR_NOT_FOUND);
}

static void seek(struct ata_drive *drive, unsigned flags)
{
    drive->registers.count = 1; // it has none
    verify(drive, flags);
}

// The log's directory, and what is known of a queued command that failed (ACS "NCQ Command Error
// log").
static void log_directory(u8 *log)
{
    log[0] = LOG_VERSION;
    log[LOG_QUEUED_ERRORS * 2] = 1; // pages
}

static void log_queued_errors(const struct ata_drive *drive, u8 *log)
{
    const struct ata_registers *f = &drive->failed;
    const u8 head[] = {drive->failed_tag,  0,
                       f->status,          f->error,
                       (u8)f->lba,         (u8)(f->lba >> 8),
                       (u8)(f->lba >> 16), f->device,
                       (u8)(f->lba >> 24), (u8)(f->lba >> 32),
                       (u8)(f->lba >> 40)};
    memcpy(log, head, sizeof(head));
    u8 sum = 0;
    for (unsigned i = 0; i < sizeof(head); i++)
        sum = (u8)(sum + log[i]);
    log[ATA_SECTOR - 1] = (u8)-sum;
}

static void read_log(struct ata_drive *drive, unsigned flags)
{
    const struct ata_registers *r = &drive->registers;
    unsigned log = (u8)r->lba;
    u64 page = bits_get(r->lba, LOG_PAGE_LOW, 8) | bits_get(r->lba, LOG_PAGE_HIGH, 8);
    if ((log != LOG_DIRECTORY && log != LOG_QUEUED_ERRORS) || page || r->count != 1) {
        ata_fail(drive, ATA_ERROR_ABORT);
        return;
    }
    memset(drive->buffer, 0, sizeof(drive->buffer));
    if (log == LOG_DIRECTORY)
        log_directory(drive->buffer);
    else
        log_queued_errors(drive, drive->buffer);
    drive->protocol = flags & PIO ? ATA_PIO : ATA_DMA;
    ata_reply(drive, ATA_SECTOR);
}

// --- the rest ---

static void identify(struct ata_drive *drive, unsigned flags UNUSED)
{
    ata_identify(drive);
    drive->protocol = ATA_PIO;
    ata_reply(drive, ATA_SECTOR);
}

static void nothing(struct ata_drive *drive UNUSED, unsigned flags UNUSED)
{
}

// As IDENTIFY's words 63, 64 and 88 offer them. DMA keeps its mode when one of PIO is set.
static const struct {
    u8 first, last;
    bool dma;
} transfer_modes[] = {
    {0x00, 0x01, false}, // PIO, the default
    {0x08, 0x0c, false}, // PIO 0 to 4
    {0x20, 0x22, true},  // multiword DMA 0 to 2
    {0x40, 0x45, true},  // Ultra DMA 0 to 5
};

static void set_transfer_mode(struct ata_drive *drive)
{
    u8 mode = (u8)drive->registers.count;
    for (unsigned i = 0; i < ARRAY_SIZE(transfer_modes); i++) {
        if (mode < transfer_modes[i].first || mode > transfer_modes[i].last)
            continue;
        drive->transfer_mode = transfer_modes[i].dma ? mode : drive->transfer_mode;
        return;
    }
    ata_fail(drive, ATA_ERROR_ABORT);
}

static void set_features(struct ata_drive *drive, unsigned flags UNUSED)
{
    unsigned feature = (u8)drive->registers.features;
    if (feature == WRITE_CACHE_ON || feature == WRITE_CACHE_OFF)
        drive->write_cache = feature == WRITE_CACHE_ON;
    else if (feature == LOOK_AHEAD_ON || feature == LOOK_AHEAD_OFF)
        drive->look_ahead = feature == LOOK_AHEAD_ON;
    else if (feature == TRANSFER_MODE)
        set_transfer_mode(drive);
    else
        ata_fail(drive, ATA_ERROR_ABORT);
}

static void set_multiple(struct ata_drive *drive, unsigned flags UNUSED)
{
    unsigned count = (u8)drive->registers.count;
    if (count > ATA_MULTIPLE_MAX || (count & (count - 1)))
        ata_fail(drive, ATA_ERROR_ABORT);
    else
        drive->multiple = (u8)count;
}

static void check_power(struct ata_drive *drive, unsigned flags UNUSED)
{
    drive->registers.count = drive->standby ? POWER_STANDBY : POWER_ACTIVE;
}

static void standby(struct ata_drive *drive, unsigned flags UNUSED)
{
    drive->standby = true;
}

static void idle(struct ata_drive *drive, unsigned flags UNUSED)
{
    drive->standby = false;
}

static void diagnostic(struct ata_drive *drive, unsigned flags UNUSED)
{
    signature(drive);
    drive->registers.error = ATA_ERROR_DIAGNOSTIC;
}

static void device_reset(struct ata_drive *drive, unsigned flags UNUSED)
{
    ata_reset(drive);
}

static const struct command_row command_rows[] = {
    {DEVICE_RESET, CD, device_reset},
    {RECALIBRATE, DISK, nothing},
    {READ_SECTORS, DISK | PIO, transfer},
    {READ_SECTORS_ONCE, DISK | PIO, transfer},
    {READ_SECTORS_EXT, DISK | PIO | WIDE, transfer},
    {READ_DMA_EXT, DISK | WIDE, transfer},
    {READ_MULTIPLE_EXT, DISK | PIO | WIDE, multiple},
    {READ_LOG_EXT, DISK | PIO, read_log},
    {WRITE_SECTORS, DISK | PIO | TO_DRIVE, transfer},
    {WRITE_SECTORS_ONCE, DISK | PIO | TO_DRIVE, transfer},
    {WRITE_SECTORS_EXT, DISK | PIO | WIDE | TO_DRIVE, transfer},
    {WRITE_DMA_EXT, DISK | WIDE | TO_DRIVE, transfer},
    {WRITE_MULTIPLE_EXT, DISK | PIO | WIDE | TO_DRIVE, multiple},
    {WRITE_DMA_FUA_EXT, DISK | WIDE | TO_DRIVE, transfer},
    {READ_VERIFY, DISK, verify},
    {READ_VERIFY_ONCE, DISK, verify},
    {READ_VERIFY_EXT, DISK | WIDE, verify},
    {READ_LOG_DMA_EXT, DISK, read_log},
    {READ_FPDMA_QUEUED, DISK | WIDE | QUEUED, transfer},
    {WRITE_FPDMA_QUEUED, DISK | WIDE | QUEUED | TO_DRIVE, transfer},
    {SEEK, DISK, seek},
    {EXECUTE_DIAGNOSTIC, BOTH, diagnostic},
    {INITIALIZE_PARAMETERS, DISK, nothing},
    {IDENTIFY_PACKET, CD, identify},
    {READ_MULTIPLE, DISK | PIO, multiple},
    {WRITE_MULTIPLE, DISK | PIO | TO_DRIVE, multiple},
    {SET_MULTIPLE, DISK, set_multiple},
    {READ_DMA, DISK, transfer},
    {READ_DMA_ONCE, DISK, transfer},
    {WRITE_DMA, DISK | TO_DRIVE, transfer},
    {WRITE_DMA_ONCE, DISK | TO_DRIVE, transfer},
    {WRITE_MULTIPLE_FUA_EXT, DISK | PIO | WIDE | TO_DRIVE, multiple},
    {STANDBY_IMMEDIATE, BOTH, standby},
    {IDLE_IMMEDIATE, BOTH, idle},
    {STANDBY, BOTH, standby},
    {IDLE, BOTH, idle},
    {CHECK_POWER_MODE, BOTH, check_power},
    {SLEEP, BOTH, standby},
    {FLUSH_CACHE, BOTH, nothing},
    {FLUSH_CACHE_EXT, DISK, nothing},
    {IDENTIFY, DISK, identify},
    {SET_FEATURES, BOTH, set_features},
};

static const struct command_row *command_find(const struct ata_drive *drive, u8 command)
{
    unsigned who = drive->packet ? CD : DISK;
    for (unsigned i = 0; i < ARRAY_SIZE(command_rows); i++)
        if (command_rows[i].command == command && command_rows[i].flags & who)
            return &command_rows[i];
    return NULL;
}

// A CD-ROM drive tells who takes it for a disk that it is none: its signature is in the registers.
static void refuse(struct ata_drive *drive, u8 command)
{
    if (drive->packet && (command == IDENTIFY || command == READ_SECTORS))
        signature(drive);
    ata_fail(drive, ATA_ERROR_ABORT);
}

void ata_execute(struct ata_drive *drive, const struct ata_registers *registers, const u8 *packet)
{
    const struct command_row *row = command_find(drive, registers->command);
    drive->registers = *registers;
    drive->registers.status = ATA_STATUS_GOOD;
    drive->registers.error = 0;
    drive->protocol = ATA_NON_DATA;
    drive->in_buffer = drive->to_drive = false;
    drive->left = 0;
    if (drive->packet && packet && registers->command == PACKET)
        atapi_execute(drive, packet);
    else if (row)
        row->run(drive, row->flags);
    else
        refuse(drive, registers->command);
}

// --- life ---

void ata_drive_init(struct ata_drive *drive, struct disk_image *image, bool packet, unsigned number)
{
    *drive = (struct ata_drive){.image = image, .packet = packet, .number = number};
    ata_power_on(drive);
}

void ata_power_on(struct ata_drive *drive)
{
    drive->multiple = ATA_MULTIPLE_MAX;
    drive->transfer_mode = ATA_TRANSFER_DEFAULT;
    drive->write_cache = drive->look_ahead = true;
    drive->standby = false;
    ata_reset(drive);
}

void ata_reset(struct ata_drive *drive)
{
    struct ata_registers *r = &drive->registers;
    signature(drive);
    r->status = drive->packet ? 0 : ATA_STATUS_GOOD;
    r->error = ATA_ERROR_DIAGNOSTIC;
    drive->left = 0;
    if (drive->packet)
        atapi_reset(drive);
}
