// SPDX-License-Identifier: MIT
// Whatever comes in over the line to GDB: bytes to the packets' parser, and packets to the server,
// on a guest without an engine whose runs end in any way.
#include "tests/fuzz/fuzz.h"
#include "vmm/lib/format.c"
#include "vmm/emulate/guest_walk.c"
#include "vmm/debug/debug.c"
#include "vmm/debug/debug_step.c"
#include "vmm/debug/debug_registers.c"
#include "vmm/debug/debug_memory.c"
#include "vmm/debug/gdb_packet.c"
#include "vmm/debug/gdb_registers.c"
#include "vmm/debug/gdb_state.c"
#include "vmm/debug/gdb.c"
#include "tests/unit/fake_debugged.h"

#define STEPS 64 // packets and runs of one input

bool string_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static struct fuzz *input;

static void any_exit(struct vcpu *v, struct vm_exit *exit)
{
    static const u8 kinds[] = {EXIT_EXCEPTION, EXIT_NMI_WINDOW, EXIT_TIMER, EXIT_CPUID};
    (void)v;
    exit->kind = (enum exit_kind)kinds[fuzz_below(input, ARRAY_SIZE(kinds))];
    exit->event = (struct vcpu_event){
        .valid = true, .vector = (u8)fuzz_below(input, 4), .type = (u8)fuzz_below(input, 7)};
    regs[REG_DR6] = fuzz_number(input, 2);
    regs[REG_RIP] = CODE + fuzz_below(input, 16);
}

static void run_any(void)
{
    struct vm_exit exit;
    struct vcpu *v = &vcpus[fuzz_below(input, VCPUS)];
    v->event.valid = false;
    v->ops->run(v, &exit, 1);
    if (exit.kind == EXIT_CPUID)
        v->ops->skip(v, regs[REG_RIP] + 2);
}

// A packet with a good checksum, or bytes as they are.
static void send_any(struct gdb_parser *parser, bool framed)
{
    char text[GDB_PACKET_MAX + 16];
    unsigned length = (unsigned)fuzz_number(input, 2);
    length = MIN(length, (unsigned)MIN(sizeof(text), input->left));
    fuzz_bytes(input, text, length);
    if (framed && length <= GDB_PACKET_MAX) {
        char packet[GDB_PACKET_MAX + 1];
        memcpy(packet, text, length);
        packet[length] = '\0';
        (void)gdb_packet(packet, length);
        return;
    }
    for (unsigned i = 0; i < length; i++)
        if (gdb_parse_byte(parser, (u8)text[i]) == GDB_INPUT_PACKET)
            (void)gdb_packet(parser->text, parser->length);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct gdb_parser parser;
    u8 *copy = fuzz_copy(data, size);
    struct fuzz f = {copy, size};
    input = &f;
    gdb_detach();
    fake_debugged_reset();
    debug_forget();
    on_run = any_exit;
    parser.state = GDB_BETWEEN;
    gdb_attach(&vm, false, on_stop);
    for (unsigned i = 0; i < STEPS && f.left; i++) {
        unsigned what = fuzz_below(&f, 4);
        if (what < 2)
            send_any(&parser, what == 0);
        else if (what == 2)
            run_any();
        else
            (void)(gdb_poll() || gdb_interrupt());
        CHECK(gdb.reply.length <= GDB_PACKET_MAX);
        CHECK(gdb.general < VCPUS && gdb.control < VCPUS);
        CHECK(!held_vm);
    }
    free(copy);
    fuzz_verdict();
    return 0;
}
