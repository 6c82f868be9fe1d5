// SPDX-License-Identifier: MIT
// The host's consoles as one. One lock makes what is written by several CPUs whole pieces; the
// panic path takes none. Nobody waits for the serial line but who has much to show: what it cannot
// take at once is sent on from its interrupt. Input of all kinds meets in one ring, which one
// thread reads at a time.

#include "vmm/console/console.h"
#include "vmm/thread.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/panic.h"
#include "boot/boot_info.h"
#include "drivers/framebuffer.h"
#include "drivers/ps2_keyboard.h"
#include "drivers/uart.h"
#include "mm/host_map.h"
#include <stdarg.h>

#define INPUT_RING    1024u
#define OUTPUT_PIECE  128u // bytes that are written in one go
#define PRINT_MAX     512
#define POLL_US       10000 // how often a UART is looked at that raises no interrupt, or lost one
#define LINE_LATE     256u  // bytes that wait for the serial line: 22 ms
#define HANDLER_BOUND 16u
#define IO_PORT_LIMIT 0x10000ull

static struct {
    struct spinlock lock;
    struct uart uart;
    struct framebuffer framebuffer;
    enum host_console_mode mode;
    char last; // byte that was written
    bool redraw;
    bool pacing; // the reader waits until the serial line has caught up
} output;
static char queue[UART_QUEUE]; // of bytes for the UART

static struct {
    struct spinlock lock;
    u8 ring[INPUT_RING];
    u32 read, written; // free-running
    struct thread *reader;
    bool poll; // the UART raises no interrupt
} input;

// --- output ---

static void output_piece(const char *bytes, size_t size)
{
    uart_write(&output.uart, bytes, size);
    framebuffer_write(&output.framebuffer, bytes, size);
}

static void output_text(const char *text, size_t size)
{
    char piece[OUTPUT_PIECE];
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n' && output.last != '\r')
            piece[length++] = '\r';
        piece[length++] = output.last = text[i];
        if (length + 2 > sizeof(piece)) {
            output_piece(piece, length);
            length = 0;
        }
    }
    output_piece(piece, length);
}

static void output_string(const char *text)
{
    output_text(text, strlen(text));
}

void host_console_write(const char *text, size_t size)
{
    spin_lock(&output.lock);
    output_text(text, size);
    framebuffer_flush(&output.framebuffer);
    spin_unlock(&output.lock);
}

void host_console_write_raw(const char *bytes, size_t size)
{
    spin_lock(&output.lock);
    for (size_t done = 0; done < size; done += OUTPUT_PIECE)
        output_piece(bytes + done, MIN(size - done, OUTPUT_PIECE));
    if (size)
        output.last = bytes[size - 1];
    framebuffer_flush(&output.framebuffer);
    spin_unlock(&output.lock);
}

bool host_console_keeps_up(void)
{
    spin_lock(&output.lock);
    uart_send(&output.uart);
    output.pacing = uart_waiting(&output.uart) > LINE_LATE;
    bool late = output.pacing;
    spin_unlock(&output.lock);
    return !late;
}

void host_console_drain(void)
{
    spin_lock(&output.lock);
    uart_send_all(&output.uart);
    spin_unlock(&output.lock);
}

void host_print(const char *format, ...)
{
    char text[PRINT_MAX];
    va_list arguments;
    va_start(arguments, format);
    format_text_v(text, sizeof(text), format, arguments);
    va_end(arguments);
    host_console_write(text, strlen(text));
}

void host_console_set_mode(enum host_console_mode mode)
{
    spin_lock(&output.lock);
    output.mode = mode;
    output.redraw = false;
    spin_unlock(&output.lock);
}

bool host_console_take_redraw(void)
{
    return __atomic_exchange_n(&output.redraw, false, __ATOMIC_RELAXED);
}

static void log_sink(enum log_level level, const char *line)
{
    spin_lock(&output.lock);
    bool shown = output.mode != HOST_CONSOLE_ATTACHED || level <= LOG_WARN;
    bool in_line = output.mode == HOST_CONSOLE_LINE;
    if (in_line)
        output_string("\r\033[K");
    else if (shown && output.mode == HOST_CONSOLE_ATTACHED)
        output_string("\n");
    if (shown) {
        output_string(line);
        output_string("\n");
        framebuffer_flush(&output.framebuffer);
    }
    output.redraw |= in_line;
    spin_unlock(&output.lock);
    if (in_line)
        host_console_wake();
}

// Takes no lock: the CPU that holds it may be the one that panicked.
static void panic_sink(const char *text)
{
    output_string(text);
    uart_send_all(&output.uart);
    framebuffer_flush(&output.framebuffer);
}

// --- input ---

static void input_byte(u8 byte)
{
    spin_lock(&input.lock);
    if (input.written - input.read <
        INPUT_RING) // else the reader is far behind: the newest are lost
        input.ring[input.written++ % INPUT_RING] = byte;
    spin_unlock(&input.lock);
}

void host_console_wake(void)
{
    struct thread *reader = __atomic_load_n(&input.reader, __ATOMIC_ACQUIRE);
    if (reader)
        thread_wake(reader);
}

int host_console_take(void)
{
    __atomic_store_n(&input.reader, thread_self(), __ATOMIC_RELEASE);
    if (input.poll)
        (void)uart_receive(&output.uart);
    int byte = -1;
    spin_lock(&input.lock);
    if (input.read != input.written)
        byte = input.ring[input.read++ % INPUT_RING];
    spin_unlock(&input.lock);
    return byte;
}

// Sends on what waits, should the interrupt that asks for it have been lost.
static bool output_sent(void)
{
    spin_lock(&output.lock);
    uart_send(&output.uart);
    bool sent = !uart_waiting(&output.uart);
    spin_unlock(&output.lock);
    return sent;
}

void host_console_wait(u64 tsc)
{
    if (input.poll || !output_sent())
        tsc = MIN(tsc, rdtsc() + tsc_from_us(POLL_US));
    if (tsc == ~0ull)
        thread_block();
    else
        (void)thread_block_until(tsc);
}

int host_console_read_until(u64 tsc)
{
    int byte = host_console_take();
    if (byte >= 0)
        return byte;
    host_console_wait(tsc);
    return host_console_take();
}

int host_console_read(void)
{
    int byte;
    while ((byte = host_console_read_until(~0ull)) < 0)
        ;
    return byte;
}

// --- set-up ---

// True: the reader waits for this.
static bool uart_serve(void)
{
    bool wanted = uart_receive(&output.uart);
    spin_lock(&output.lock);
    uart_send(&output.uart);
    if (output.pacing && uart_waiting(&output.uart) <= LINE_LATE) {
        output.pacing = false;
        wanted = true;
    }
    spin_unlock(&output.lock);
    return wanted;
}

static void uart_interrupt(void *context)
{
    (void)context;
    bool wanted = false;
    for (unsigned i = 0; i < HANDLER_BOUND; i++) {
        wanted |= uart_serve();
        if (!uart_interrupting(&output.uart))
            break;
    }
    if (wanted)
        host_console_wake();
}

static void keyboard_interrupt(void *context)
{
    (void)context;
    ps2_keyboard_receive();
    host_console_wake();
}

void host_console_init_early(const struct boot_info *boot)
{
    if (boot->serial_base < IO_PORT_LIMIT)
        uart_init(&output.uart, (u16)boot->serial_base);
    panic_print_sink = panic_sink;
    log_set_sink(log_sink);
}

static void init_uart_input(const struct boot_info *boot)
{
    if (!output.uart.base)
        return;
    unsigned irq = uart_isa_irq(&output.uart);
    int error = interrupt_route_isa(boot, irq, uart_interrupt, NULL);
    input.poll = error != OK;
    uart_receive_start(&output.uart, input_byte);
    if (error == OK)
        uart_queue_start(&output.uart, queue);
    if (error != OK && irq != UART_IRQ_NONE)
        log_warn("console: UART interrupt: %s; the UART is polled", error_text(error));
}

// The interrupt comes first: a byte that arrives before it would stay in the controller and hold up
// all others.
static bool init_keyboard(const struct boot_info *boot)
{
    if (!boot->has_i8042)
        return false;
    int error = interrupt_route_isa(boot, PS2_KEYBOARD_IRQ, keyboard_interrupt, NULL);
    if (error != OK)
        log_warn("console: keyboard interrupt: %s; the keyboard is not used", error_text(error));
    return error == OK && ps2_keyboard_init(input_byte);
}

static void replay_line(void *context, const char *text)
{
    framebuffer_write(context, text, strlen(text));
    framebuffer_write(context, "\r\n", 2);
}

void host_console_init_screen(const struct boot_info *boot)
{
    const struct boot_framebuffer *mode = &boot->framebuffer;
    if (mode->format == BOOT_PIXEL_NONE)
        return;
    u64 offset = mode->base & PAGE_MASK;
    u8 *mapped = host_map_device(mode->base - offset, ALIGN_UP(mode->size + offset, PAGE_SIZE),
                                 HOST_WRITE_COMBINING);
    spin_lock(&output.lock);
    bool good = mapped && framebuffer_init(&output.framebuffer, mapped + offset, mode, font_psf,
                                           (size_t)(font_psf_end - font_psf));
    if (good) {
        log_for_each(replay_line, &output.framebuffer);
        framebuffer_flush(&output.framebuffer);
    }
    spin_unlock(&output.lock);
    if (!good)
        log_warn("console: the framebuffer (%ux%u) cannot be used", mode->width, mode->height);
}

void host_console_init(const struct boot_info *boot)
{
    init_uart_input(boot);
    bool keyboard = init_keyboard(boot);
    log_info("console: UART %s, framebuffer %s, PS/2 keyboard %s", output.uart.base ? "on" : "none",
             output.framebuffer.pixels ? "on" : "none", keyboard ? "on" : "none");
    if (!output.uart.base && !keyboard)
        log_warn("console: nobody can type: a USB keyboard is not read; connect a serial line");
}
