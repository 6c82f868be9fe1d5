// SPDX-License-Identifier: MIT
// The pair of 8259A interrupt controllers of a PC with the edge/level registers of its chipset: 15
// lines, the slave on the master's line 2. The caller holds the VM's device lock.
#pragma once

#include "io/device.h"

#define PIC_MASTER_PORT 0x20 // two ports each
#define PIC_SLAVE_PORT  0xa0
#define PIC_ELCR_PORT   0x4d0
#define PIC_PORTS       2
#define PIC_LINES       16

// What the chip waits for at its second port.
enum pic_expect { PIC_EXPECT_OCW1, PIC_EXPECT_ICW2, PIC_EXPECT_ICW3, PIC_EXPECT_ICW4 };

struct pic_chip {
    u8 lines; // levels of the inputs
    u8 irr, isr, imr;
    u8 elcr;        // bit n: line n is level-triggered
    u8 cascades;    // bit n: line n has a slave's INT, a level
    u8 vector_base; // ICW2
    u8 lowest;      // the line of lowest priority: rotation
    enum pic_expect expect;
    bool single, wants_icw4;            // ICW1
    bool automatic_eoi, special_nested; // ICW4
    bool rotate_automatic;              // OCW2
    bool special_mask, read_isr, poll;  // OCW3
};

struct pic {
    struct io_device master, slave, elcr; // 2 ports each
    struct pic_chip chips[2];             // master, slave
    struct irq_line output;               // INTR
    bool output_level;
};

void pic_init(struct pic *pic, struct irq_line output);
// Power-on: masked until the guest initialises it. The lines keep their levels.
void pic_reset(struct pic *pic);
// Of type irq_line.set: the context is the struct pic. Line 2 is the cascade and leads nowhere.
void pic_set_irq(void *pic, unsigned irq, bool level);
// INTR is up.
bool pic_pending(const struct pic *pic);
// The CPU's interrupt acknowledge: the vector. If the request went away, the vector of line 7:
// spurious.
int pic_acknowledge(struct pic *pic);
