// SPDX-License-Identifier: MIT
// The host's consoles as one: output goes to COM1 and the framebuffer, input comes from COM1 and
// the keyboard. A guest's serial line is a struct console: its output is kept in a ring and shown
// while attached; Ctrl-] detaches.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/spinlock.h"

struct boot_info;
struct thread;

#define CONSOLE_RING   (128 * KIB)
#define CONSOLE_DETACH 0x1d // Ctrl-]

// --- a guest's line as seen from the host (vmm/console/console.c) ---
struct console {
    struct spinlock lock;
    char name[32];
    char *ring;              // what the guest wrote, CONSOLE_RING bytes
    u64 written;             // bytes so far
    u64 shown;               // up to here on the host's consoles, while attached
    bool open;               // the VM runs
    u64 opened;              // bytes before its last start
    struct thread *attached; // who shows it; null: nobody
    // Where typed bytes go; returns how many were taken. Takes the VM's lock itself. Not called
    // while closed.
    unsigned (*input)(void *context, const u8 *bytes, unsigned count);
    void *context;
    struct spinlock input_lock; // held while input() runs
};

int console_init(struct console *console, const char *name); // ERR_NO_MEMORY
void console_destroy(struct console *console);
// The VM starts, the VM ends. After console_close() input() is not called any more: close before
// what input() reaches is freed, and without the VM's lock. It waits until who is attached has seen
// the last words and left: what the log says next is seen too.
void console_open(struct console *console);
void console_close(struct console *console);
// From the guest's UART, any CPU, VM lock held: keep it, and wake the console thread if attached.
void console_output(struct console *console, const u8 *bytes, unsigned count);
// Copy from position (moved up to what is kept) and advance it. Returns the bytes copied; 0 at the
// end.
size_t console_read(struct console *console, u64 *position, char *to, size_t size);
// Where the last `lines` lines begin, no more than `bytes` back.
u64 console_tail(struct console *console, unsigned lines, u64 bytes);
// In the shell's thread: show the last part of this run, then pass bytes both ways until Ctrl-]
// (true) or the VM's end (false).
bool console_attach(struct console *console);

// --- the host's side (vmm/console/host_console.c) ---
void host_console_init_early(
    const struct boot_info *boot); // output to the UART, the log's and the panic's sinks
void host_console_init_screen(const struct boot_info *boot); // after host_map_init()
void host_console_init(const struct boot_info *boot);   // keyboard, interrupts; after smp_start()
void host_console_write(const char *text, size_t size); // to all outputs; "\n" becomes "\r\n"
void host_console_write_raw(const char *bytes, size_t size); // as they are
void host_print(const char *format, ...) PRINTF(1, 2);       // for shell commands
// Has the serial line nearly caught up with what was written? If not, the reader is woken when it
// has.
bool host_console_keeps_up(void);
void host_console_drain(void); // returns when all is on the serial line

int host_console_read(void); // one byte, blocks the calling thread
int host_console_read_until(
    u64 tsc);                // -1 if none came, or if the thread was woken for another reason
int host_console_take(void); // -1 if none is there; makes the calling thread the reader
void host_console_wait(
    u64 tsc);                 // the reader: block until woken or there may be input; ~0: no limit
void host_console_wake(void); // from an input driver's interrupt

// How lines of the log are shown.
enum host_console_mode {
    HOST_CONSOLE_PLAIN,
    HOST_CONSOLE_LINE,    // a line is being edited: in its place, and it is to be drawn anew
    HOST_CONSOLE_ATTACHED // a guest has the screen: warnings and errors only
};
void host_console_set_mode(enum host_console_mode mode);
bool host_console_take_redraw(
    void); // is the line that is being edited to be drawn anew? Asked once.
