// SPDX-License-Identifier: MIT
// A drive as its host adapter sees it: a command goes in with its registers; registers and perhaps
// a data phase come out. The adapter moves the data, piece by piece. ATA/ATAPI-8 ACS; a CD-ROM
// drive takes packets (io/atapi.c).
#pragma once

#include "io/disk_image.h"

#define ATA_SECTOR      512u
#define ATA_PACKET_SIZE 12u

#define ATA_MULTIPLE_MAX     16u
#define ATA_TRANSFER_DEFAULT 0x45u // Ultra DMA mode 5

#define ATA_STATUS_BUSY  0x80u
#define ATA_STATUS_READY 0x40u
#define ATA_STATUS_SEEK  0x10u // seek complete
#define ATA_STATUS_DRQ   0x08u
#define ATA_STATUS_ERROR 0x01u
#define ATA_STATUS_GOOD  (ATA_STATUS_READY | ATA_STATUS_SEEK)

#define ATA_ERROR_ABORT      0x04u
#define ATA_ERROR_NOT_FOUND  0x10u // IDNF: no such sector
#define ATA_ERROR_DIAGNOSTIC 0x01u // after a reset: passed

#define ATA_CONTROL_RESET 0x04u // SRST

// PACKET's interrupt reason, in the count register.
#define ATA_REASON_COMMAND 0x01u
#define ATA_REASON_IN      0x02u

enum ata_protocol { ATA_NON_DATA, ATA_PIO, ATA_DMA, ATA_QUEUED };

struct ata_registers {
    u8 command, device, status, error;
    u16 features, count;
    u64 lba;
};

struct atapi_sense {
    u8 key, code, qualifier;
};

struct ata_drive {
    struct disk_image *image;
    bool packet;     // a CD-ROM drive
    unsigned number; // for its serial number
    struct ata_registers registers;
    // The data phase, if `left` is not 0: from or to the image, or from the buffer.
    enum ata_protocol protocol;
    bool to_drive, in_buffer;
    u64 at, left;
    u8 buffer[ATA_SECTOR];
    u8 multiple;      // sectors a block of READ MULTIPLE
    u8 transfer_mode; // of DMA, as SET FEATURES gave it
    bool write_cache, look_ahead, standby;
    u8 failed_tag; // what the log of queued errors shows
    struct ata_registers failed;
    struct atapi_sense sense; // of a CD-ROM drive: what the last packet came to,
    bool attention;           // and whether the host is yet to hear of a reset
};

void ata_drive_init(struct ata_drive *drive, struct disk_image *image, bool packet,
                    unsigned number);
void ata_power_on(struct ata_drive *drive);
// A hardware or software reset: the signature is in the registers.
void ata_reset(struct ata_drive *drive);
// Registers as the host wrote them, and the packet if there is one (else null). When it returns,
// either it is done (`left` is 0) or the data phase is to be carried out.
void ata_execute(struct ata_drive *drive, const struct ata_registers *registers, const u8 *packet);
// The next bytes of the data phase; *length: in, bytes wanted; out, how many are contiguous. Null:
// the command has failed.
void *ata_data(struct ata_drive *drive, u64 *length);
// So many of them are through; after the last, or without one if the host ends it early.
void ata_data_moved(struct ata_drive *drive, u64 length);
void ata_finish(struct ata_drive *drive);
// Queued commands only: which one failed.
void ata_note_failed(struct ata_drive *drive, u8 tag);

// --- between io/ata.c, io/ata_identify.c and io/atapi.c ---
void ata_fail(struct ata_drive *drive, u8 error);
// The data phase is the first `length` bytes of the buffer, for the host.
void ata_reply(struct ata_drive *drive, u64 length);
void ata_identify(struct ata_drive *drive); // into the buffer
void atapi_reset(struct ata_drive *drive);
void atapi_execute(struct ata_drive *drive, const u8 *packet);
