// SPDX-License-Identifier: MIT
// The 8259A pair (Intel 8259A datasheet: "Initialization Command Words", "Operation Command Words",
// "Priority modes"). The slave's INT is wired to the master's input 2 as a level, so that a request
// which comes up in the slave while another one is taken is not missed. An edge stays latched until
// it is acknowledged even if the line falls. The buffered mode, MCS-80 vectors and ICW1's level bit
// (ELCR stands for it) are not there.
#include "io/pic.h"
#include "vmm/lib/bits.h"

enum { MASTER, SLAVE };

#define CASCADE           2
#define SPURIOUS          7
#define CHIP_LINES        8
#define LINE_MASK         7
#define ALL_LINES         0xff
#define VECTOR_MASK       0xf8
#define ELCR_FIXED_MASTER 0x07 // lines 0, 1, 2, 8 and 13 are edges for ever
#define ELCR_FIXED_SLAVE  0x21

#define ICW1_IC4    0x01 // ICW4 follows
#define ICW1_SINGLE 0x02 // no ICW3
#define ICW1        0x10
#define ICW4_AEOI   0x02
#define ICW4_SFNM   0x10

#define OCW3       0x08
#define OCW3_RIS   0x01
#define OCW3_RR    0x02
#define OCW3_POLL  0x04
#define OCW3_SMM   0x20
#define OCW3_ESMM  0x40
#define POLL_FOUND 0x80

// OCW2's bits R, SL, EOI.
#define OCW2_SHIFT 5
enum ocw2 {
    OCW2_ROTATE_AUTOMATIC_CLEAR,
    OCW2_EOI,
    OCW2_NOTHING,
    OCW2_SPECIFIC_EOI,
    OCW2_ROTATE_AUTOMATIC_SET,
    OCW2_ROTATE_EOI,
    OCW2_SET_PRIORITY,
    OCW2_ROTATE_SPECIFIC_EOI,
    OCW2_COMMANDS,
};

#define NO_LINE (-1)

// --- one chip ---

// The set line of highest priority: the first one after `lowest`, going round.
static int chip_first(const struct pic_chip *chip, u8 lines)
{
    if (!lines)
        return NO_LINE;
    unsigned start = (chip->lowest + 1u) & LINE_MASK;
    u32 rotated = ((u32)lines | (u32)lines << CHIP_LINES) >> start;
    return (int)((bit_lowest(rotated) + start) & LINE_MASK);
}

static unsigned chip_rank(const struct pic_chip *chip, int line)
{
    return ((unsigned)line - chip->lowest - 1u) & LINE_MASK;
}

// A line that is masked in special mask mode neither holds off others nor is what a non-specific
// EOI ends.
static int chip_in_service(const struct pic_chip *chip)
{
    return chip_first(chip, chip->special_mask ? chip->isr & (u8)~chip->imr : chip->isr);
}

// The request that INT stands for. What is in service holds off its own and lower priorities; but
// in special fully nested mode a slave may ask again while it is in service.
static int chip_request(const struct pic_chip *chip)
{
    if (chip->expect != PIC_EXPECT_OCW1)
        return NO_LINE;
    int request = chip_first(chip, chip->irr & (u8)~chip->imr);
    int current = chip_in_service(chip);
    if (request == NO_LINE || current == NO_LINE ||
        chip_rank(chip, request) < chip_rank(chip, current))
        return request;
    bool nested = chip->special_nested && request == current && (chip->cascades >> request & 1);
    return nested ? request : NO_LINE;
}

static u8 chip_levels(const struct pic_chip *chip)
{
    return chip->elcr | chip->cascades;
}

static void chip_input(struct pic_chip *chip, unsigned line, bool level)
{
    u8 bit = (u8)(1u << line);
    bool rose = level && !(chip->lines & bit);
    chip->lines = (u8)(level ? chip->lines | bit : chip->lines & ~bit);
    if (rose)
        chip->irr |= bit;
    else if (!level && (chip_levels(chip) & bit))
        chip->irr &= (u8)~bit;
}

// Levels show through to IRR; of edges, those that `latched` says.
static void chip_sense(struct pic_chip *chip, u8 latched)
{
    u8 levels = chip_levels(chip);
    chip->irr = (u8)((latched & ~levels) | (chip->lines & levels));
}

static void chip_rotate(struct pic_chip *chip, int line)
{
    chip->lowest = (u8)(line & LINE_MASK);
}

static void chip_take(struct pic_chip *chip, int line)
{
    u8 bit = (u8)(1u << line);
    if (!(chip_levels(chip) & bit))
        chip->irr &= (u8)~bit;
    if (!chip->automatic_eoi)
        chip->isr |= bit;
    else if (chip->rotate_automatic)
        chip_rotate(chip, line);
}

static void chip_icw1(struct pic_chip *chip, u8 value)
{
    chip_sense(chip, 0); // the edge sense circuit starts anew
    chip->isr = chip->imr = 0;
    chip->lowest = SPURIOUS;
    chip->special_mask = chip->read_isr = chip->poll = chip->rotate_automatic = false;
    chip->automatic_eoi = chip->special_nested = false;
    chip->single = value & ICW1_SINGLE;
    chip->wants_icw4 = value & ICW1_IC4;
    chip->expect = PIC_EXPECT_ICW2;
}

static void chip_eoi(struct pic_chip *chip, int line, bool rotate)
{
    if (line == NO_LINE)
        return;
    chip->isr &= (u8) ~(1u << line);
    if (rotate)
        chip_rotate(chip, line);
}

static void chip_ocw2(struct pic_chip *chip, u8 value)
{
    int line = value & LINE_MASK;
    switch ((enum ocw2)(value >> OCW2_SHIFT)) {
    case OCW2_ROTATE_AUTOMATIC_CLEAR:
    case OCW2_ROTATE_AUTOMATIC_SET:
        chip->rotate_automatic = value >> OCW2_SHIFT == OCW2_ROTATE_AUTOMATIC_SET;
        break;
    case OCW2_EOI:
    case OCW2_ROTATE_EOI:
        chip_eoi(chip, chip_in_service(chip), value >> OCW2_SHIFT == OCW2_ROTATE_EOI);
        break;
    case OCW2_SPECIFIC_EOI:
    case OCW2_ROTATE_SPECIFIC_EOI:
        chip_eoi(chip, line, value >> OCW2_SHIFT == OCW2_ROTATE_SPECIFIC_EOI);
        break;
    case OCW2_SET_PRIORITY:
        chip_rotate(chip, line);
        break;
    default:
        break;
    }
}

static void chip_ocw3(struct pic_chip *chip, u8 value)
{
    if (value & OCW3_ESMM)
        chip->special_mask = value & OCW3_SMM;
    chip->poll = value & OCW3_POLL;
    if (value & OCW3_RR)
        chip->read_isr = value & OCW3_RIS;
}

// The second port: ICW2 to ICW4 in turn after an ICW1, the mask otherwise.
static void chip_data_write(struct pic_chip *chip, u8 value)
{
    switch (chip->expect) {
    case PIC_EXPECT_OCW1:
        chip->imr = value;
        break;
    case PIC_EXPECT_ICW2:
        chip->vector_base = value & VECTOR_MASK;
        chip->expect = !chip->single      ? PIC_EXPECT_ICW3
                       : chip->wants_icw4 ? PIC_EXPECT_ICW4
                                          : PIC_EXPECT_OCW1;
        break;
    case PIC_EXPECT_ICW3: // the cascade is wired
        chip->expect = chip->wants_icw4 ? PIC_EXPECT_ICW4 : PIC_EXPECT_OCW1;
        break;
    case PIC_EXPECT_ICW4:
        chip->automatic_eoi = value & ICW4_AEOI;
        chip->special_nested = value & ICW4_SFNM;
        chip->expect = PIC_EXPECT_OCW1;
        break;
    }
}

static void chip_command_write(struct pic_chip *chip, u8 value)
{
    if (value & ICW1)
        chip_icw1(chip, value);
    else if (value & OCW3)
        chip_ocw3(chip, value);
    else
        chip_ocw2(chip, value);
}

// --- the pair ---

// After any change: the slave's INT to the master's input, the master's to the CPU.
static void pic_update(struct pic *pic)
{
    bool slave = chip_request(&pic->chips[SLAVE]) != NO_LINE;
    chip_input(&pic->chips[MASTER], CASCADE, slave);
    bool level = chip_request(&pic->chips[MASTER]) != NO_LINE;
    if (level == pic->output_level)
        return;
    pic->output_level = level;
    irq_line_set(&pic->output, level);
}

void pic_set_irq(void *context, unsigned irq, bool level)
{
    struct pic *pic = context;
    if (irq >= PIC_LINES || irq == CASCADE)
        return;
    chip_input(&pic->chips[irq / CHIP_LINES], irq % CHIP_LINES, level);
    pic_update(pic);
}

bool pic_pending(const struct pic *pic)
{
    return pic->output_level;
}

static int chip_acknowledge(struct pic_chip *chip)
{
    int line = chip_request(chip);
    if (line != NO_LINE)
        chip_take(chip, line);
    return line;
}

static int chip_vector(const struct pic_chip *chip, int line)
{
    return chip->vector_base + (line == NO_LINE ? SPURIOUS : line);
}

int pic_acknowledge(struct pic *pic)
{
    struct pic_chip *chip = &pic->chips[MASTER];
    int line = chip_acknowledge(chip);
    if (line == CASCADE) {
        chip = &pic->chips[SLAVE];
        line = chip_acknowledge(chip);
    }
    int vector = chip_vector(chip, line);
    pic_update(pic);
    return vector;
}

// --- ports ---

// A read after the poll command is an acknowledge of this chip alone.
static u8 chip_poll(struct pic *pic, unsigned index)
{
    pic->chips[index].poll = false;
    int line = chip_acknowledge(&pic->chips[index]);
    pic_update(pic);
    return line == NO_LINE ? 0 : (u8)(POLL_FOUND | line);
}

static u8 port_read(struct pic *pic, unsigned index, unsigned port)
{
    const struct pic_chip *chip = &pic->chips[index];
    if (chip->poll)
        return chip_poll(pic, index);
    if (port)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip->irr;
}

static void port_write(struct pic *pic, unsigned index, unsigned port, u8 value)
{
    struct pic_chip *chip = &pic->chips[index];
    if (port)
        chip_data_write(chip, value);
    else
        chip_command_write(chip, value);
    pic_update(pic);
}

static u8 elcr_port_read(struct pic *pic, unsigned port)
{
    return pic->chips[port].elcr;
}

static void elcr_port_write(struct pic *pic, unsigned port, u8 value)
{
    struct pic_chip *chip = &pic->chips[port];
    chip->elcr = value & (u8) ~(port == MASTER ? ELCR_FIXED_MASTER : ELCR_FIXED_SLAVE);
    chip_sense(chip, chip->irr);
    pic_update(pic);
}

// --- the three register blocks; an access of two bytes is one to each port in turn ---

enum { ELCR = 2 }; // beside MASTER and SLAVE

static u8 block_port_read(struct pic *pic, unsigned block, unsigned port)
{
    return block == ELCR ? elcr_port_read(pic, port) : port_read(pic, block, port);
}

static u64 block_read(struct pic *pic, unsigned block, u64 offset, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size && offset + i < PIC_PORTS; i++)
        value |= (u64)block_port_read(pic, block, (unsigned)offset + i) << i * 8;
    return value;
}

static void block_write(struct pic *pic, unsigned block, u64 offset, unsigned size, u64 value)
{
    for (unsigned i = 0; i < size && offset + i < PIC_PORTS; i++) {
        u8 byte = (u8)(value >> i * 8);
        if (block == ELCR)
            elcr_port_write(pic, (unsigned)offset + i, byte);
        else
            port_write(pic, block, (unsigned)offset + i, byte);
    }
}

#define BLOCK_DEVICE(name, block)                                                                  \
    static u64 name##_read(struct io_device *device, u64 offset, unsigned size)                    \
    {                                                                                              \
        return block_read(container_of(device, struct pic, name), block, offset, size);            \
    }                                                                                              \
    static void name##_write(struct io_device *device, u64 offset, unsigned size, u64 value)       \
    {                                                                                              \
        block_write(container_of(device, struct pic, name), block, offset, size, value);           \
    }                                                                                              \
    static const struct io_device_ops name##_ops = {"pic-" #name, name##_read, name##_write};
BLOCK_DEVICE(master, MASTER)
BLOCK_DEVICE(slave, SLAVE)
BLOCK_DEVICE(elcr, ELCR)

static void chip_reset(struct pic_chip *chip, u8 cascades)
{
    *chip = (struct pic_chip){
        .lines = chip->lines,
        .cascades = cascades,
        .imr = ALL_LINES,
        .lowest = SPURIOUS,
    };
    chip_sense(chip, 0);
}

void pic_reset(struct pic *pic)
{
    chip_reset(&pic->chips[MASTER], 1u << CASCADE);
    chip_reset(&pic->chips[SLAVE], 0);
    pic_update(pic);
}

void pic_init(struct pic *pic, struct irq_line output)
{
    *pic = (struct pic){
        .master = {&master_ops},
        .slave = {&slave_ops},
        .elcr = {&elcr_ops},
        .output = output,
    };
    pic_reset(pic);
}
