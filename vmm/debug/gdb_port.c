// SPDX-License-Identifier: MIT
// The host's second serial port as a line to GDB: a thread that takes packets and sends replies. It
// alone changes the server's state; the shell asks it and waits.
#include "vmm/debug/gdb.h"
#include "vmm/console/commands.h"
#include "vmm/console/console.h"
#include "vmm/main.h"
#include "vmm/thread.h"
#include "vmm/lib/error.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/cpu.h"
#include "boot/boot_info.h"
#include "drivers/uart.h"

#define COM1 0x3f8
#define COM2 0x2f8

#define INPUT_RING 4096u  // longer than a packet, of which GDB sends one at a time
#define SEND_PIECE 16u    // what the chip takes at once
#define SEND_US    1400   // and how long that lasts
#define POLL_US    2000   // a port without an interrupt
#define LOOK_US    100000 // has the VM ended?
#define ASK_US     1000

static struct {
    struct uart uart;
    bool polled, routed;
    struct spinlock lock; // of the ring
    u8 ring[INPUT_RING];
    u32 read, written; // free-running
    struct thread *thread;
    struct gdb_parser parser;
    // What the shell asks for; taken by the thread.
    bool asked, wait;
    struct vm *vm;
} port;

// --- bytes ---

static void received(u8 byte)
{
    spin_lock(&port.lock);
    if (port.written - port.read < INPUT_RING) // else the checksum will tell
        port.ring[port.written++ % INPUT_RING] = byte;
    spin_unlock(&port.lock);
}

static void wake(void)
{
    thread_wake(port.thread);
}

static void uart_interrupt(void *context)
{
    (void)context;
    uart_receive(&port.uart);
    wake();
}

static int take(void)
{
    int byte = -1;
    if (port.polled)
        uart_receive(&port.uart);
    spin_lock(&port.lock);
    if (port.read != port.written)
        byte = port.ring[port.read++ % INPUT_RING];
    spin_unlock(&port.lock);
    return byte;
}

// The line is slow: others run while the chip sends.
static void send(const char *bytes, unsigned count)
{
    for (unsigned done = 0; done < count; done += SEND_PIECE) {
        uart_write(&port.uart, bytes + done, MIN(count - done, SEND_PIECE));
        if (count - done > SEND_PIECE)
            thread_sleep_us(SEND_US);
    }
}

static void send_reply(void)
{
    u8 sum = gdb_checksum(&gdb.reply);
    const char end[] = {'#', gdb_digits[sum / 16], gdb_digits[sum % 16]};
    send("$", 1);
    send(gdb.reply.text, gdb.reply.length);
    send(end, sizeof(end));
}

// --- the thread ---

static void take_packet(void)
{
    bool acknowledged = !gdb.no_ack || string_starts(port.parser.text, "qSupported"); // a new GDB
    if (acknowledged)
        send("+", 1);
    if (gdb_packet(port.parser.text, port.parser.length))
        send_reply();
}

static void take_byte(u8 byte)
{
    switch (gdb_parse_byte(&port.parser, byte)) {
    case GDB_INPUT_PACKET:
        take_packet();
        break;
    case GDB_INPUT_DAMAGED:
        send("-", 1);
        break;
    case GDB_INPUT_RESEND:
        send_reply();
        break;
    case GDB_INPUT_INTERRUPT:
        if (gdb_interrupt())
            send_reply();
        break;
    case GDB_INPUT_NONE:
        break;
    }
}

static void take_request(void)
{
    if (!__atomic_load_n(&port.asked, __ATOMIC_ACQUIRE))
        return;
    gdb_detach();
    if (port.vm)
        gdb_attach(port.vm, port.wait, wake);
    __atomic_store_n(&port.asked, false, __ATOMIC_RELEASE);
}

static void wait(void)
{
    u64 us = port.polled ? POLL_US : LOOK_US;
    if (port.polled || gdb.state == GDB_RUNNING)
        (void)thread_block_until(rdtsc() + tsc_from_us(us));
    else
        thread_block();
}

static void port_thread(void *unused)
{
    (void)unused;
    for (;;) {
        int byte;
        take_request();
        while ((byte = take()) >= 0 && gdb.vm)
            take_byte((u8)byte);
        if (gdb_poll())
            send_reply();
        wait();
    }
}

// --- from outside ---

static int port_open(void)
{
    const struct boot_info *boot = core_boot_info();
    if (!port.uart.base && !uart_init(&port.uart, boot->serial_base == COM2 ? COM1 : COM2)) {
        log_error("gdb: the host has no second serial port: a 16550 at %Xh is wanted",
                  boot->serial_base == COM2 ? COM1 : COM2);
        return ERR_NOT_FOUND;
    }
    if (!port.thread)
        port.thread = thread_create("gdb", 0, port_thread, NULL);
    if (!port.thread)
        return ERR_NO_MEMORY;
    if (port.routed)
        return OK;
    port.routed = true;
    port.polled = interrupt_route_isa(boot, uart_isa_irq(&port.uart), uart_interrupt, NULL) != OK;
    uart_receive_start(&port.uart, received);
    return OK;
}

int gdb_use(struct vm *vm, bool waits)
{
    int error = vm ? port_open() : OK;
    if (error != OK || !port.thread)
        return error;
    port.vm = vm;
    port.wait = waits;
    __atomic_store_n(&port.asked, true, __ATOMIC_RELEASE);
    while (__atomic_load_n(&port.asked, __ATOMIC_ACQUIRE)) {
        wake();
        thread_sleep_us(ASK_US);
    }
    if (vm)
        log_info("VM %s: gdb may attach at port %Xh%s", vm->config.name, port.uart.base,
                 waits ? "; the VM waits for it at its first instruction" : "");
    return OK;
}

bool gdb_has(const struct vm *vm)
{
    return gdb.vm == vm;
}

bool gdb_has_stopped(const struct vm *vm)
{
    return gdb_has(vm) && gdb.state == GDB_STOPPED;
}

static void print_state(void)
{
    static const char *const texts[] = {[GDB_ALONE] = "no debugger has stopped it",
                                        [GDB_STOPPED] = "stopped by a debugger",
                                        [GDB_RUNNING] = "runs under a debugger"};
    if (gdb.vm)
        host_print("gdb: VM %s, port %Xh: %s\n", gdb.vm->config.name, port.uart.base,
                   texts[gdb.state]);
    else
        host_print("gdb: off\n");
}

void command_gdb(unsigned count, char **words)
{
    bool off = count == 2 && strcmp(words[1], "off") == 0;
    struct vm *vm = count == 2 && !off ? command_vm(words[1]) : NULL;
    if (count == 2 && (vm || off)) {
        int error = gdb_use(vm, vm && vm->state != VM_RUNNING);
        if (error == ERR_NO_MEMORY)
            host_print("gdb: %s\n", error_text(error));
        if (error != OK)
            return;
    }
    if (count == 1 || vm || off)
        print_state();
}
