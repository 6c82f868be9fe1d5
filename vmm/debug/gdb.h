// SPDX-License-Identifier: MIT
// A GDB on the host's second serial port debugs one VM. vmm/debug/gdb.c is what it can ask for,
// free of lines and threads; vmm/debug/gdb_port.c is the port, its thread, and the command `gdb`.
#pragma once

#include "vmm/debug/gdb_packet.h"
#include "vmm/vm.h"

// --- the server (vmm/debug/gdb.c), in the port's thread ---
enum gdb_state {
    GDB_ALONE,   // no debugger has stopped the VM yet, or it has detached
    GDB_STOPPED, // the debugger has the VM stopped
    GDB_RUNNING, // and waits for it to stop
};
struct gdb {
    struct vm *vm; // null: off
    bool wait;     // the VM is to stop at its first instruction
    bool no_ack;
    bool ended; // and started again, before GDB was told
    enum gdb_state state;
    unsigned general, control; // vCPUs that GDB's commands are for
    struct gdb_reply reply;
    void (*wake)(void); // a vCPU stopped: gdb_poll() is to be called
};
extern struct gdb gdb;

void gdb_attach(struct vm *vm, bool wait, void (*wake)(void));
void gdb_detach(void); // the guest goes on
// The three below: true, a packet is to be sent, which is in gdb.reply.
MUST_CHECK bool gdb_packet(const char *text, unsigned length);
MUST_CHECK bool gdb_interrupt(void); // Ctrl-C
MUST_CHECK bool gdb_poll(void);      // has the VM stopped or ended?

// --- the port (vmm/debug/gdb_port.c); not from its own thread ---
// An error code, said in words on the console. vm null: off.
int gdb_use(struct vm *vm, bool wait);
bool gdb_has(const struct vm *vm);         // it is being debugged
bool gdb_has_stopped(const struct vm *vm); // and stands still for the debugger
