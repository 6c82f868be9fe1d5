// SPDX-License-Identifier: MIT
// GDB's remote protocol: packets out of bytes, and what each asks for, on a guest without an
// engine.
#include "tests/unit/test.h"
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

bool string_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static struct gdb_parser parser;

static enum gdb_input feed(const char *bytes)
{
    enum gdb_input last = GDB_INPUT_NONE;
    for (; *bytes; bytes++)
        last = gdb_parse_byte(&parser, (u8)*bytes);
    return last;
}

// The reply, or "(none)".
static const char *ask_bytes(const char *text, unsigned length)
{
    static char reply[GDB_PACKET_MAX + 1];
    char packet[GDB_PACKET_MAX + 1];
    memcpy(packet, text, length);
    packet[length] = '\0';
    bool replies = gdb_packet(packet, length);
    memcpy(reply, gdb.reply.text, gdb.reply.length);
    reply[gdb.reply.length] = '\0';
    return replies ? reply : "(none)";
}

static const char *ask(const char *text)
{
    return ask_bytes(text, (unsigned)strlen(text));
}

static void reset(void)
{
    gdb_detach();
    fake_debugged_reset();
    debug_forget();
    parser.state = GDB_BETWEEN;
    gdb_attach(&vm, false, on_stop);
}

static void connect(void)
{
    reset();
    ask("qSupported:swbreak+");
    ask("?");
}

// --- packets ---

TEST(a_packet_has_its_checksum)
{
    reset();
    CHECK(feed("+$m1000,4#8e") == GDB_INPUT_PACKET);
    CHECK_STR(parser.text, "m1000,4");
    CHECK_EQ(parser.length, 7);
    CHECK(feed("$m1000,4#8f") == GDB_INPUT_DAMAGED);
    CHECK(feed("$g#6x") == GDB_INPUT_DAMAGED);
    CHECK(feed("$g#67") == GDB_INPUT_PACKET);
    CHECK(feed("$#00") == GDB_INPUT_PACKET && parser.length == 0);
}

TEST(between_packets_there_are_other_signs)
{
    reset();
    CHECK(feed("-") == GDB_INPUT_RESEND);
    CHECK(feed("\x03") == GDB_INPUT_INTERRUPT);
    CHECK(feed("#+") == GDB_INPUT_NONE);
    CHECK(feed("$\x03-#30") == GDB_INPUT_PACKET); // in one they are data
}

TEST(a_packet_that_breaks_off_is_forgotten_at_the_next)
{
    reset();
    CHECK(feed("$m1000$g#67") == GDB_INPUT_PACKET);
    CHECK_STR(parser.text, "g");
    CHECK(feed("$m1#$g#67") == GDB_INPUT_PACKET);
}

TEST(a_packet_that_is_too_long_is_damaged)
{
    reset();
    feed("$");
    for (unsigned i = 0; i < GDB_PACKET_MAX + 1; i++)
        CHECK(feed("a") == GDB_INPUT_NONE);
    CHECK(feed("#61") == GDB_INPUT_DAMAGED);
    CHECK(feed("$g#67") == GDB_INPUT_PACKET);
}

TEST(numbers_have_64_bits)
{
    u64 value;
    struct gdb_scan scan = {"ffffffffffffffff", NULL};
    scan.end = scan.at + 16;
    CHECK(gdb_scan_number(&scan, &value) && value == ~0ull);
    scan = (struct gdb_scan){"10000000000000000", NULL};
    scan.end = scan.at + 17;
    CHECK(!gdb_scan_number(&scan, &value));
    scan.end = scan.at;
    CHECK(!gdb_scan_number(&scan, &value));
    struct gdb_reply reply = {.length = 0};
    gdb_reply_number(&reply, 0);
    gdb_reply_number(&reply, 0x1a2b);
    gdb_reply_number(&reply, 1ull << 63);
    CHECK(reply.length == 21 && memcmp(reply.text, "01a2b8000000000000000", 21) == 0);
}

// --- coming and going ---

TEST(the_first_question_stops_the_vm)
{
    reset();
    CHECK_STR(ask("qSupported:swbreak+"),
              "PacketSize=400;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+");
    CHECK_EQ(pauses, 0);
    CHECK_STR(ask("vMustReplyEmpty"), "");
    CHECK_STR(ask("?"), "T05thread:1;");
    CHECK(vm.paused && !held_vm && pauses == 1);
    CHECK(gdb.state == GDB_STOPPED);
    CHECK(vcpus[0].ops == &debug.ops);
}

TEST(detaching_lets_the_guest_go_on_as_it_was)
{
    connect();
    CHECK_STR(ask("Z0,8000,1"), "OK");
    CHECK_EQ(ram[CODE], 0xcc);
    CHECK_STR(ask("D"), "OK");
    CHECK_EQ(ram[CODE], 0);
    CHECK(!vm.paused && resumes == 1);
    CHECK(vcpus[0].ops == &debugged_ops && gdb.state == GDB_ALONE);
}

TEST(a_new_debugger_finds_no_breakpoints)
{
    connect();
    CHECK_STR(ask("Z0,8000,1"), "OK");
    CHECK_STR(ask("QStartNoAckMode"), "OK");
    CHECK(gdb.no_ack);
    ask("qSupported");
    CHECK(!gdb.no_ack);
    CHECK_STR(ask("?"), "T05thread:1;");
    CHECK_EQ(ram[CODE], 0);
}

TEST(turning_gdb_off_lets_the_guest_go_on)
{
    connect();
    gdb_detach();
    CHECK(!vm.paused && !gdb.vm && !vm.on_start && resumes == 1);
    CHECK_STR(ask("g"), "");
}

TEST(a_vm_that_waits_for_gdb_does_not_after_it_is_off)
{
    reset();
    gdb_detach();
    gdb_attach(&vm, true, on_stop);
    vm.on_start(&vm);
    CHECK(vm.paused);
    gdb_detach();
    CHECK(!vm.paused);
}

TEST(a_vm_that_does_not_run_answers_so)
{
    reset();
    lives = false;
    vm.state = VM_STOPPED;
    CHECK_STR(ask("?"), "W00");
    CHECK_STR(ask("g"), "E01");
    CHECK_STR(ask("vCont;c"), "E01");
    CHECK_STR(ask("qC"), "QC1");
}

TEST(killing_stops_the_vm)
{
    connect();
    CHECK_STR(ask("k"), "(none)");
    CHECK(vm.state == VM_STOPPED && gdb.state == GDB_ALONE);
}

// --- running ---

TEST(a_stop_is_told_with_its_reason_and_thread)
{
    connect();
    CHECK(!gdb_poll());
    CHECK_STR(ask("vCont;c"), "(none)");
    CHECK(!vm.paused && gdb.state == GDB_RUNNING);
    CHECK(!gdb_poll());
    vm.paused = true;
    debug.vcpus[1].stop = DEBUG_WRITE;
    debug.vcpus[1].stop_gva = 0x1234;
    CHECK(gdb_poll());
    CHECK(gdb.reply.length == 23 && memcmp(gdb.reply.text, "T05watch:1234;thread:2;", 23) == 0);
    CHECK(gdb.state == GDB_STOPPED && !held_vm);
    CHECK_STR(ask("qC"), "QC2");
    CHECK(!gdb_poll());
}

TEST(a_second_watchpoint_is_told_before_the_vm_goes_on)
{
    connect();
    debug.vcpus[0].stop = DEBUG_BREAKPOINT;
    debug.vcpus[1].stop = DEBUG_ACCESS;
    CHECK_STR(ask("vCont;c"), "T05awatch:0;thread:2;");
    CHECK_EQ(resumes, 0);
    CHECK_STR(ask("vCont;c"), "(none)");
    CHECK_EQ(resumes, 1);
}

TEST(each_thread_does_what_the_first_action_for_it_says)
{
    connect();
    CHECK_STR(ask("vCont;s:2;c"), "(none)");
    CHECK(debug.vcpus[0].mode == DEBUG_RUN && debug.vcpus[1].mode == DEBUG_STEP);
    CHECK(gdb_interrupt());
    CHECK(memcmp(gdb.reply.text, "T02thread:1;", 12) == 0);
    CHECK_STR(ask("vCont;S05:1"), "(none)");
    CHECK(debug.vcpus[0].mode == DEBUG_STEP && debug.vcpus[1].mode == DEBUG_STAY);
    CHECK(gdb_interrupt());
    CHECK_STR(ask("vCont;c:3"), "E01");
    CHECK_STR(ask("vCont;x"), "E01");
    CHECK_STR(ask("vCont;"), "E01");
    CHECK(!held_vm);
    ask("Hc2");
    CHECK_STR(ask("s"), "(none)");
    CHECK(debug.vcpus[0].mode == DEBUG_RUN && debug.vcpus[1].mode == DEBUG_STEP);
}

TEST(the_end_of_the_vm_is_told)
{
    connect();
    ask("vCont;c");
    vm.state = VM_STOPPED;
    lives = false;
    CHECK(gdb_poll());
    CHECK(memcmp(gdb.reply.text, "W00", 3) == 0 && gdb.state == GDB_ALONE);
    CHECK(!gdb_poll());
}

TEST(the_end_of_the_vm_is_told_even_if_it_was_started_again)
{
    connect();
    ask("vCont;c");
    vm.on_start(&vm);
    CHECK(gdb_poll());
    CHECK(memcmp(gdb.reply.text, "W00", 3) == 0 && gdb.state == GDB_ALONE);
    CHECK(!gdb_poll());
}

static void comes_up(unsigned nth)
{
    lives = nth == 3;
}

TEST(a_vm_that_is_being_reset_is_stopped_after_it)
{
    reset();
    lives = false; // it cannot be paused now
    on_sleep = comes_up;
    CHECK_STR(ask("?"), "T05thread:1;");
    CHECK_EQ(sleeps, 3);
}

TEST(ctrl_c_means_nothing_while_the_vm_is_stopped)
{
    connect();
    CHECK(!gdb_interrupt());
}

TEST(threads_are_vcpus)
{
    connect();
    CHECK_STR(ask("qfThreadInfo"), "m1,2");
    CHECK_STR(ask("qsThreadInfo"), "l");
    CHECK_STR(ask("T2"), "OK");
    CHECK_STR(ask("T3"), "E01");
    CHECK_STR(ask("Hg2"), "OK");
    CHECK_STR(ask("Hg-1"), "OK");
    CHECK_STR(ask("Hg0"), "OK");
    CHECK_STR(ask("Hx1"), "E01");
    CHECK_STR(ask("Hg99999999999999999"), "E01");
    CHECK_STR(ask("qThreadExtraInfo,1"), "764350552030");
    CHECK_STR(ask("qThreadExtraInfo,9"), "E01");
}

// --- registers ---

TEST(registers_are_read_and_written)
{
    connect();
    vcpus[0].gpr[GPR_RBX] = 0x1122334455667788;
    CHECK_STR(ask("p1"), "8877665544332211");
    CHECK_STR(ask("p10"), "0080000000000000");
    CHECK_EQ(strlen(ask("g")), 2 * (16 * 8 + 8 + 4 + 6 * 4));
    CHECK_STR(ask("P1=0100000000000000"), "OK");
    CHECK_EQ(vcpus[0].gpr[GPR_RBX], 1);
    vcpus[0].halted = true;
    CHECK_STR(ask("P10=0090000000000000"), "OK");
    CHECK(regs[REG_RIP] == 0x9000 && !vcpus[0].halted);
    CHECK_STR(ask("P10=0000000000800000"), "E01"); // not canonical
    CHECK_STR(ask("P1=01"), "E01");
    CHECK_STR(ask("Pff=01"), "E01");
    CHECK_STR(ask("p48"), "E01");
    CHECK_STR(ask("P12=0000000000000000"), "E01"); // a selector
    CHECK_STR(ask("pffffffffffffffff"), "E01");
}

TEST(all_general_registers_are_written_at_once)
{
    char text[GDB_PACKET_MAX];
    connect();
    snprintf(text, sizeof(text), "G%s", ask("g"));
    memcpy(text + 1, "ff", 2);
    CHECK_STR(ask(text), "OK");
    CHECK_EQ(vcpus[0].gpr[GPR_RAX], 0xff);
    text[100] = '\0';
    CHECK_STR(ask(text), "E01");
}

TEST(flags_cannot_make_a_virtual_8086_guest)
{
    connect();
    CHECK_STR(ask("P11=ffffffff"), "OK");
    CHECK(!(regs[REG_RFLAGS] & RFLAGS_VM));
}

TEST(fpu_registers_are_those_of_the_xsave_area)
{
    connect();
    memcpy(xstate + 160, "0123456789abcdef", 16);
    CHECK_STR(ask("p28"), "30313233343536373839616263646566");
    CHECK_STR(ask("P18=00010203040506070809"), "OK");
    CHECK_EQ(xstate[32 + 9], 9);
    CHECK_EQ(xstate[512], 3);
    CHECK_STR(ask("p22"), "ffff0000"); // tags: all empty
    CHECK_STR(ask("P22=fcff0000"), "OK");
    CHECK_EQ(xstate[4], 1);
    CHECK_STR(ask("P38=ffffffff"), "OK"); // MXCSR: only what the CPU takes
    CHECK_STR(ask("p38"), "bfff0000");
}

TEST(the_description_comes_in_parts_and_is_whole)
{
    static char text[16384];
    size_t length = 0;
    connect();
    for (;;) {
        char packet[64];
        snprintf(packet, sizeof(packet), "qXfer:features:read:target.xml:%zx,3fb", length);
        const char *reply = ask(packet);
        CHECK(*reply == 'm' || *reply == 'l');
        memcpy(text + length, reply + 1, strlen(reply));
        length += strlen(reply) - 1;
        if (*reply == 'l' || length > sizeof(text) - GDB_PACKET_MAX)
            break;
    }
    CHECK(string_starts(text, "<?xml") && strcmp(text + length - 9, "</target>") == 0);
    unsigned count = 0;
    for (const char *at = text; *at; at++)
        count += string_starts(at, "<reg name=");
    CHECK_EQ(count, gdb_register_count);
    CHECK(!strchr(text, '#') && !strchr(text, '$') && !strchr(text, '}') && !strchr(text, '*'));
    CHECK_STR(ask("qXfer:features:read:target.xml:100000,10"), "l");
    CHECK_STR(ask("qXfer:features:read:target.xml:zz"), "E01");
    CHECK_STR(ask("qXfer:features:read:other.xml:0,10"), "");
}

// --- memory, breakpoints ---

TEST(memory_is_read_and_written)
{
    connect();
    CHECK_STR(ask("M8000,3:a1b2c3"), "OK");
    CHECK_STR(ask("m8000,4"), "a1b2c300");
    CHECK_STR(ask_bytes("X8001,2:}\x03z", 12), "OK"); // '}' escapes: 0x23
    CHECK_STR(ask("m8000,3"), "a1237a");
    CHECK_STR(ask("m40000000000,4"), "E01");
    CHECK_STR(ask("M8000,3:a1b2"), "E01");
    CHECK_STR(ask("M8000,ffffffff:a1b2"), "E01");
    CHECK_STR(ask("m8000"), "E01");
    CHECK_EQ(strlen(ask("m8000,ffffffffffffffff")), GDB_PACKET_MAX);
    CHECK_STR(ask("X8000,0:"), "OK");
}

TEST(breakpoints_of_all_types)
{
    connect();
    for (char type = '0'; type <= '4'; type++) {
        char set[] = "Z0,8000,1", clear[] = "z0,8000,1";
        set[1] = clear[1] = type;
        CHECK_STR(ask(set), "OK");
        CHECK_STR(ask(clear), "OK");
        CHECK_STR(ask(clear), "E01");
    }
    CHECK_STR(ask("Z5,8000,1"), "E01");
    CHECK_STR(ask("Z2,8001,4"), "E01");
    CHECK_STR(ask("Z0,ffffffffffff,1"), "E01");
    CHECK_STR(ask("Z0"), "E01");
}
