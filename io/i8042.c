// SPDX-License-Identifier: MIT
// IBM PS/2 Hardware Interface Technical Reference "Keyboard and Auxiliary Device Controller".
// Commands take no time, so the input buffer is always empty. A20 is a bit that reads back: the
// line itself is always on.
#include "io/i8042.h"
#include "vmm/lib/string.h"

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM      0x04
#define STATUS_COMMAND     0x08 // the last byte went to the command port
#define STATUS_UNLOCKED    0x10
#define STATUS_AUX         0x20 // the output buffer's byte is from the auxiliary device
#define STATUS_TIMEOUT     0x40

#define COMMAND_BYTE_IRQ1         0x01
#define COMMAND_BYTE_IRQ12        0x02
#define COMMAND_BYTE_SYSTEM       0x04
#define COMMAND_BYTE_KEYBOARD_OFF 0x10
#define COMMAND_BYTE_AUX_OFF      0x20
#define COMMAND_BYTE_MASK         0x7f

#define OUTPUT_PORT_NO_RESET 0x01 // the CPU's reset, active low
#define OUTPUT_PORT_A20      0x02
#define OUTPUT_PORT_IRQ1     0x10
#define OUTPUT_PORT_IRQ12    0x20
#define OUTPUT_PORT_POWER_ON 0xcf
#define INPUT_PORT_VALUE     0x80 // not inhibited

#define SELF_TEST_PASSED      0x55
#define INTERFACE_TEST_PASSED 0x00
#define DEVICE_NO_ANSWER      0xfe

// What is said to a keyboard, and what it says.
#define KEYBOARD_ECHO     0xee
#define KEYBOARD_SET      0xf0 // and a parameter; 0 asks which one it is
#define KEYBOARD_IDENTIFY 0xf2
#define KEYBOARD_RESET    0xff
#define KEYBOARD_ACK      0xfa
#define KEYBOARD_PASSED   0xaa
#define KEYBOARD_ID_FIRST 0xab
#define KEYBOARD_ID_LAST  0x83
#define SETS              3
#define SET_DEFAULT       2

enum i8042_command {
    COMMAND_READ_RAM = 0x20,  // to 0x3f
    COMMAND_WRITE_RAM = 0x60, // to 0x7f
    COMMAND_AUX_DISABLE = 0xa7,
    COMMAND_AUX_ENABLE = 0xa8,
    COMMAND_AUX_TEST = 0xa9,
    COMMAND_SELF_TEST = 0xaa,
    COMMAND_KEYBOARD_TEST = 0xab,
    COMMAND_KEYBOARD_DISABLE = 0xad,
    COMMAND_KEYBOARD_ENABLE = 0xae,
    COMMAND_READ_INPUT_PORT = 0xc0,
    COMMAND_READ_OUTPUT_PORT = 0xd0,
    COMMAND_WRITE_OUTPUT_PORT = 0xd1,
    COMMAND_WRITE_KEYBOARD_OUTPUT = 0xd2,
    COMMAND_WRITE_AUX_OUTPUT = 0xd3,
    COMMAND_WRITE_AUX = 0xd4,
    COMMAND_PULSE = 0xf0, // to 0xff: bits that are 0 are pulsed
};
#define RAM_COMMAND_MASK 0x1f
#define PULSE_NO_RESET   0x01

static void i8042_update(struct i8042 *k)
{
    bool full = k->status & STATUS_OUTPUT_FULL, aux = k->status & STATUS_AUX;
    bool irq1 = full && !aux && k->command_byte & COMMAND_BYTE_IRQ1;
    bool irq12 = full && aux && k->command_byte & COMMAND_BYTE_IRQ12;
    k->output_port &= (u8) ~(OUTPUT_PORT_IRQ1 | OUTPUT_PORT_IRQ12);
    k->output_port |= (u8)((irq1 ? OUTPUT_PORT_IRQ1 : 0) | (irq12 ? OUTPUT_PORT_IRQ12 : 0));
    irq_line_set(&k->keyboard_irq, irq1);
    irq_line_set(&k->aux_irq, irq12);
}

static void i8042_pulse_reset(struct i8042 *k)
{
    irq_line_set(&k->reset, true);
    irq_line_set(&k->reset, false);
}

// Put a byte into the output buffer; flags: STATUS_AUX, STATUS_TIMEOUT.
static void i8042_answer(struct i8042 *k, u8 byte, u8 flags)
{
    k->output = byte;
    k->status &= (u8) ~(STATUS_AUX | STATUS_TIMEOUT);
    k->status |= STATUS_OUTPUT_FULL | flags;
}

static void i8042_write_command_byte(struct i8042 *k, u8 value)
{
    k->command_byte = value & COMMAND_BYTE_MASK;
    k->status &= (u8)~STATUS_SYSTEM;
    k->status |= value & COMMAND_BYTE_SYSTEM; // the same bit in both
}

static void i8042_write_output_port(struct i8042 *k, u8 value)
{
    k->output_port = value;
    if (!(value & OUTPUT_PORT_NO_RESET))
        i8042_pulse_reset(k);
}

static void i8042_set_disabled(struct i8042 *k, u8 bit, bool disabled)
{
    k->command_byte = (u8)((k->command_byte & ~bit) | (disabled ? bit : 0));
}

static void i8042_self_test(struct i8042 *k)
{
    k->status |= STATUS_SYSTEM;
    k->command_byte |= COMMAND_BYTE_SYSTEM;
    i8042_answer(k, SELF_TEST_PASSED, 0);
}

static void i8042_read_ram(struct i8042 *k, u8 command)
{
    unsigned index = command & RAM_COMMAND_MASK;
    i8042_answer(k, index ? k->ram[index] : k->command_byte, 0);
}

// The commands of which there are many codes.
static void i8042_ranged_command(struct i8042 *k, u8 command)
{
    if ((command & ~RAM_COMMAND_MASK) == COMMAND_READ_RAM)
        i8042_read_ram(k, command);
    else if ((command & ~RAM_COMMAND_MASK) == COMMAND_WRITE_RAM)
        k->command = command;
    else if (command >= COMMAND_PULSE && !(command & PULSE_NO_RESET))
        i8042_pulse_reset(k);
}

static void i8042_command(struct i8042 *k, u8 command)
{
    k->command = 0;
    switch (command) {
    case COMMAND_AUX_DISABLE:
    case COMMAND_AUX_ENABLE:
        i8042_set_disabled(k, COMMAND_BYTE_AUX_OFF, command == COMMAND_AUX_DISABLE);
        break;
    case COMMAND_KEYBOARD_DISABLE:
    case COMMAND_KEYBOARD_ENABLE:
        i8042_set_disabled(k, COMMAND_BYTE_KEYBOARD_OFF, command == COMMAND_KEYBOARD_DISABLE);
        break;
    case COMMAND_AUX_TEST:
    case COMMAND_KEYBOARD_TEST:
        i8042_answer(k, INTERFACE_TEST_PASSED, 0);
        break;
    case COMMAND_SELF_TEST:
        i8042_self_test(k);
        break;
    case COMMAND_READ_INPUT_PORT:
        i8042_answer(k, INPUT_PORT_VALUE, 0);
        break;
    case COMMAND_READ_OUTPUT_PORT:
        i8042_answer(k, k->output_port, 0);
        break;
    case COMMAND_WRITE_OUTPUT_PORT:
    case COMMAND_WRITE_KEYBOARD_OUTPUT:
    case COMMAND_WRITE_AUX_OUTPUT:
    case COMMAND_WRITE_AUX:
        k->command = command;
        break;
    default:
        i8042_ranged_command(k, command);
    }
}

// The parameter after KEYBOARD_SET; what comes from the keyboard is not translated here.
static void i8042_choose_set(struct i8042 *k, u8 value)
{
    if (value == 0)
        k->queue[k->queued++] = k->set;
    else if (value <= SETS)
        k->set = value;
}

// A command or its parameter: each is acknowledged.
static void i8042_keyboard(struct i8042 *k, u8 value)
{
    k->queued = 0;
    if (!k->keyboard) {
        i8042_answer(k, DEVICE_NO_ANSWER, STATUS_TIMEOUT);
        return;
    }
    i8042_answer(k, value == KEYBOARD_ECHO ? KEYBOARD_ECHO : KEYBOARD_ACK, 0);
    if (k->choosing_set)
        i8042_choose_set(k, value);
    k->choosing_set = value == KEYBOARD_SET;
    if (value == KEYBOARD_RESET) {
        k->queue[k->queued++] = KEYBOARD_PASSED;
        k->set = SET_DEFAULT;
    }
    if (value == KEYBOARD_IDENTIFY) { // the last first
        k->queue[k->queued++] = KEYBOARD_ID_LAST;
        k->queue[k->queued++] = KEYBOARD_ID_FIRST;
    }
}

// A byte to the data port: the parameter of the command before, else it is for the keyboard.
static void i8042_parameter(struct i8042 *k, u8 value)
{
    u8 command = k->command;
    k->command = 0;
    switch (command) {
    case 0:
        i8042_keyboard(k, value);
        break;
    case COMMAND_WRITE_RAM:
        i8042_write_command_byte(k, value);
        break;
    case COMMAND_WRITE_OUTPUT_PORT:
        i8042_write_output_port(k, value);
        break;
    case COMMAND_WRITE_KEYBOARD_OUTPUT:
        i8042_answer(k, value, 0);
        break;
    case COMMAND_WRITE_AUX_OUTPUT:
        i8042_answer(k, value, STATUS_AUX);
        break;
    case COMMAND_WRITE_AUX:
        i8042_answer(k, DEVICE_NO_ANSWER, STATUS_AUX | STATUS_TIMEOUT);
        break;
    default: // the other bytes of the RAM
        k->ram[command & RAM_COMMAND_MASK] = value;
    }
}

static u64 data_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    struct i8042 *k = container_of(device, struct i8042, data);
    u8 value = k->output;
    k->status &= (u8) ~(STATUS_OUTPUT_FULL | STATUS_AUX | STATUS_TIMEOUT);
    i8042_update(k); // an edge for each byte
    if (k->queued) {
        i8042_answer(k, k->queue[--k->queued], 0);
        i8042_update(k);
    }
    return value;
}

static void data_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED, u64 value)
{
    struct i8042 *k = container_of(device, struct i8042, data);
    k->status &= (u8)~STATUS_COMMAND;
    i8042_parameter(k, (u8)value);
    i8042_update(k);
}

static u64 control_read(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED)
{
    return container_of(device, struct i8042, control)->status;
}

static void control_write(struct io_device *device, u64 offset UNUSED, unsigned size UNUSED,
                          u64 value)
{
    struct i8042 *k = container_of(device, struct i8042, control);
    k->status |= STATUS_COMMAND;
    i8042_command(k, (u8)value);
    i8042_update(k);
}

static const struct io_device_ops data_ops = {"i8042-data", data_read, data_write};
static const struct io_device_ops control_ops = {"i8042", control_read, control_write};

void i8042_init(struct i8042 *k, struct irq_line keyboard_irq, struct irq_line aux_irq,
                struct irq_line reset)
{
    *k = (struct i8042){
        .data = {&data_ops},
        .control = {&control_ops},
        .keyboard_irq = keyboard_irq,
        .aux_irq = aux_irq,
        .reset = reset,
    };
    i8042_reset(k);
}

void i8042_reset(struct i8042 *k)
{
    k->status = STATUS_UNLOCKED | STATUS_SYSTEM;
    k->command_byte = COMMAND_BYTE_SYSTEM | COMMAND_BYTE_KEYBOARD_OFF | COMMAND_BYTE_AUX_OFF;
    k->output_port = OUTPUT_PORT_POWER_ON;
    k->output = 0;
    k->command = 0;
    k->queued = 0;
    k->choosing_set = false;
    k->set = SET_DEFAULT;
    memset(k->ram, 0, sizeof(k->ram));
    i8042_update(k);
}
