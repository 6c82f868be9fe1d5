// SPDX-License-Identifier: MIT
// A PS/2 keyboard: the i8042 (IBM PS/2 technical reference, "Keyboard/Auxiliary Device Controller")
// and scan code set 1. The decoder is pure; the unit test runs it on the host.

#include "drivers/ps2_keyboard.h"
#include "arch/x86_64/asm.h"
#include "vmm/lib/assert.h"
#include "vmm/lib/string.h"

// --- scan codes ---

#define CODE_RELEASE  0x80u
#define CODE_EXTENDED 0xe0u
#define CODE_PAUSE    0xe1u // five more codes follow: 1d 45 e1 9d c5
#define PAUSE_REST    5u

enum scan_code {
    CODE_CONTROL = 0x1d,
    CODE_SHIFT_LEFT = 0x2a,
    CODE_SHIFT_RIGHT = 0x36,
    CODE_CAPS_LOCK = 0x3a,
    CODE_KEYPAD_SLASH = 0x35, // extended
    CODE_KEYPAD_ENTER = 0x1c, // extended
};

// Indexed by scan code. The Tab, Enter, Escape and Backspace keys are in both; 0x7f is what
// terminals send for Backspace.
static const char plain_keys[] =
    "\0\0331234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shift_keys[] =
    "\0\033!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
assert_static(sizeof(plain_keys) == sizeof(shift_keys));

// Keys with a sequence of their own: with E0 in front, and on the keypad without.
static const struct {
    u8 code;
    const char *sequence;
} sequence_keys[] = {
    {0x47, "\033[H"},  // Home
    {0x48, "\033[A"},  // up
    {0x49, "\033[5~"}, // page up
    {0x4b, "\033[D"},  // left
    {0x4d, "\033[C"},  // right
    {0x4f, "\033[F"},  // End
    {0x50, "\033[B"},  // down
    {0x51, "\033[6~"}, // page down
    {0x52, "\033[2~"}, // Insert
    {0x53, "\033[3~"}, // Delete
};

static unsigned decode_sequence(u8 code, char *bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(sequence_keys); i++) {
        if (sequence_keys[i].code == code) {
            size_t length = strlen(sequence_keys[i].sequence);
            memcpy(bytes, sequence_keys[i].sequence, length);
            return (unsigned)length;
        }
    }
    return 0;
}

static bool is_letter(char c)
{
    return c >= 'a' && c <= 'z';
}

static unsigned decode_character(const struct ps2_decoder *d, u8 code, char *bytes)
{
    if (code >= sizeof(plain_keys) - 1)
        return 0;
    bool letter = is_letter(plain_keys[code]);
    bool upper = d->shift != (letter && d->caps_lock);
    char c = upper ? shift_keys[code] : plain_keys[code];
    if (!c)
        return 0;
    if (d->control) {
        // Control leaves the low five bits of the columns @A-Z[\]^_ and a-z; on other keys it
        // changes nothing.
        char column = d->shift ? shift_keys[code] : plain_keys[code];
        if ((column >= '@' && column <= '_') || letter)
            c = (char)(column & 0x1f);
    }
    bytes[0] = c;
    return 1;
}

// True: the code belongs to a key that only changes what others mean.
static bool decode_modifier(struct ps2_decoder *d, u8 code, bool released, bool extended)
{
    switch (code) {
    case CODE_SHIFT_LEFT:
    case CODE_SHIFT_RIGHT:
        if (!extended) // with E0 it is a shift that the keyboard makes up
            d->shift = !released;
        return true;
    case CODE_CONTROL:
        d->control = !released;
        return true;
    case CODE_CAPS_LOCK:
        d->caps_lock ^= !released;
        return true;
    default:
        return false;
    }
}

unsigned ps2_decode(struct ps2_decoder *d, u8 code, char bytes[PS2_SEQUENCE_MAX])
{
    if (d->pause_left) {
        d->pause_left--;
        return 0;
    }
    if (code == CODE_PAUSE) {
        d->pause_left = PAUSE_REST;
        return 0;
    }
    if (code == CODE_EXTENDED) {
        d->extended = true;
        return 0;
    }
    bool extended = d->extended, released = code & CODE_RELEASE;
    d->extended = false;
    code = (u8)(code & ~CODE_RELEASE);
    if (decode_modifier(d, code, released, extended) || released)
        return 0;
    if (extended && code != CODE_KEYPAD_SLASH && code != CODE_KEYPAD_ENTER)
        return decode_sequence(code, bytes);
    unsigned length = decode_character(d, code, bytes);
    return length ? length : decode_sequence(code, bytes);
}

// --- the controller ---

#define I8042_DATA    0x60
#define I8042_STATUS  0x64 // read
#define I8042_COMMAND 0x64 // write

#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_INPUT_FULL  0x02u
#define STATUS_AUXILIARY   0x20u // the byte is the mouse's
#define STATUS_ABSENT      0xffu

#define COMMAND_READ_CONFIG    0x20u
#define COMMAND_WRITE_CONFIG   0x60u
#define COMMAND_DISABLE_MOUSE  0xa7u
#define COMMAND_DISABLE_KEYS   0xadu
#define COMMAND_ENABLE_KEYS    0xaeu
#define CONFIG_KEY_INTERRUPT   0x01u
#define CONFIG_MOUSE_INTERRUPT 0x02u
#define CONFIG_KEYS_DISABLED   0x10u
#define CONFIG_TRANSLATE       0x40u
#define KEYBOARD_ENABLE        0xf4u
#define KEYBOARD_ACKNOWLEDGE   0xfau

#define WAIT_READS    100000u // port reads of about a microsecond
#define RECEIVE_BOUND 64u

static struct ps2_decoder decoder;
static void (*keyboard_received)(u8 byte);

static bool wait_status(u8 bits, u8 wanted)
{
    for (unsigned i = 0; i < WAIT_READS; i++)
        if ((in8(I8042_STATUS) & bits) == wanted)
            return true;
    return false;
}

static bool controller_write(u16 port, u8 value)
{
    if (!wait_status(STATUS_INPUT_FULL, 0))
        return false;
    out8(port, value);
    return true;
}

static bool controller_read(u8 *value)
{
    if (!wait_status(STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL))
        return false;
    *value = in8(I8042_DATA);
    return true;
}

static void controller_drain(void)
{
    for (unsigned i = 0; i < RECEIVE_BOUND && in8(I8042_STATUS) & STATUS_OUTPUT_FULL; i++)
        in8(I8042_DATA);
}

static bool controller_configure(void)
{
    u8 config;
    if (!controller_write(I8042_COMMAND, COMMAND_READ_CONFIG) || !controller_read(&config))
        return false;
    config |= CONFIG_KEY_INTERRUPT | CONFIG_TRANSLATE;
    config = (u8)(config & ~(CONFIG_KEYS_DISABLED | CONFIG_MOUSE_INTERRUPT));
    return controller_write(I8042_COMMAND, COMMAND_WRITE_CONFIG) &&
           controller_write(I8042_DATA, config) &&
           controller_write(I8042_COMMAND, COMMAND_ENABLE_KEYS);
}

static bool keyboard_enable(void)
{
    u8 answer;
    return controller_write(I8042_DATA, KEYBOARD_ENABLE) && controller_read(&answer) &&
           answer == KEYBOARD_ACKNOWLEDGE;
}

bool ps2_keyboard_init(void (*received)(u8 byte))
{
    if (in8(I8042_STATUS) == STATUS_ABSENT)
        return false;
    if (!controller_write(I8042_COMMAND, COMMAND_DISABLE_KEYS) ||
        !controller_write(I8042_COMMAND, COMMAND_DISABLE_MOUSE))
        return false;
    controller_drain();
    if (!controller_configure() || !keyboard_enable())
        return false;
    decoder = (struct ps2_decoder){0};
    keyboard_received = received;
    controller_drain();
    return true;
}

void ps2_keyboard_receive(void)
{
    if (!keyboard_received)
        return;
    for (unsigned i = 0; i < RECEIVE_BOUND; i++) {
        u8 status = in8(I8042_STATUS);
        if (!(status & STATUS_OUTPUT_FULL))
            return;
        u8 code = in8(I8042_DATA);
        if (status & STATUS_AUXILIARY)
            continue;
        char bytes[PS2_SEQUENCE_MAX];
        unsigned count = ps2_decode(&decoder, code, bytes);
        for (unsigned j = 0; j < count; j++)
            keyboard_received((u8)bytes[j]);
    }
}
