// SPDX-License-Identifier: MIT
// The host's consoles as one: output goes to COM1 and the framebuffer, input comes from COM1 and the keyboard. A guest's serial
// line is a struct console: its output is kept in a ring and shown while attached; Ctrl-] detaches.
#pragma once

#include "vmm/lib/types.h"
#include "vmm/lib/spinlock.h"

struct thread;

#define CONSOLE_RING (64 * KIB)

// A guest's line as seen from the host.
struct console {
    struct spinlock lock;
    char name[32];
    char *ring; // what the guest wrote, CONSOLE_RING bytes
    u64 written; // bytes so far
    u64 shown;   // up to here on the host's consoles, while attached
    // Where typed bytes go; returns how many were taken. Takes the VM's lock itself.
    unsigned (*input)(void *context, const u8 *bytes, unsigned count);
    void *context;
};

int console_init(struct console *console, const char *name); // ERR_NO_MEMORY
void console_destroy(struct console *console);
// From the guest's UART, any CPU, VM lock held: keep it, and wake the console thread if attached.
void console_output(struct console *console, const u8 *bytes, unsigned count);

// Host side.
void host_console_write(const char *text, size_t size); // raw bytes to all outputs; "\n" becomes "\r\n"
void host_print(const char *format, ...) PRINTF(1, 2);  // for shell commands
int host_console_read(void);                            // one byte, blocks the calling thread
int host_console_read_until(u64 tsc);                   // -1 if none came
void host_console_wake(void);                           // from an input driver's interrupt
