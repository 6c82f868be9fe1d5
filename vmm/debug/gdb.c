// SPDX-License-Identifier: MIT
// What GDB can ask for: one table of its packets. Threads are vCPUs, numbered from 1; when one
// stops all do. Whatever touches the VM does so while it is held. GDB manual, appendix "GDB Remote
// Serial Protocol".
#include "vmm/debug/gdb.h"
#include "vmm/debug/debug.h"
#include "vmm/debug/gdb_commands.h"
#include "vmm/debug/gdb_registers.h"
#include "vmm/thread.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "vmm/lib/string.h"

#define SIGNAL_INTERRUPT "T02"
#define SIGNAL_TRAP      "T05"
#define EXITED           "W00"
#define ABORTED          "X06"
#define RETRY_US         1000

struct gdb gdb;

static void reply_text(const char *text)
{
    gdb_reply_text(&gdb.reply, text);
}

// --- the VM stands still, and goes on ---

static bool try_hold(struct vm *vm)
{
    if (vm_hold(vm))
        return true;
    (void)vm_pause_begin(vm); // false: it is paused, or on its way
    return vm_pause_wait(vm) == OK && vm_hold(vm);
}

// A reset lets a VM out of its pause. False: it does not run, and what was set in it is gone.
static bool hold(void)
{
    struct vm *vm = gdb.vm;
    bool held = try_hold(vm);
    while (!held && vm->state == VM_RUNNING) {
        thread_sleep_us(RETRY_US);
        held = try_hold(vm);
    }
    if (held)
        debug_begin(vm, gdb.wake);
    else
        debug_forget();
    gdb.state = held ? GDB_STOPPED : GDB_ALONE;
    return held;
}

// A vCPU that stopped and was not told of yet; null: none.
static struct vcpu *find_stop(void)
{
    for (unsigned i = 0; i < gdb.vm->vcpu_count && debug.vm == gdb.vm; i++)
        if (debug.vcpus[i].stop != DEBUG_NONE)
            return &gdb.vm->vcpus[i];
    return NULL;
}

static void reply_thread(void)
{
    reply_text("thread:");
    gdb_reply_number(&gdb.reply, gdb.general + 1);
    reply_text(";");
}

static void reply_stop(struct vcpu *vcpu)
{
    static const char *const names[] = {[DEBUG_BREAKPOINT] = "swbreak:;",
                                        [DEBUG_EXECUTE] = "hwbreak:;",
                                        [DEBUG_WRITE] = "watch:",
                                        [DEBUG_READ] = "rwatch:",
                                        [DEBUG_ACCESS] = "awatch:"};
    struct debug_vcpu *d = debug_of(vcpu);
    gdb.general = gdb.control = vcpu->index;
    reply_text(SIGNAL_TRAP);
    if (d->stop >= DEBUG_BREAKPOINT)
        reply_text(names[d->stop]);
    if (d->stop >= DEBUG_WRITE) {
        gdb_reply_number(&gdb.reply, d->stop_gva);
        reply_text(";");
    }
    reply_thread();
    d->stop = DEBUG_NONE;
}

// The others that stopped at an instruction will again, if what stopped them is still there.
static void forget_stops(void)
{
    for (unsigned i = 0; i < gdb.vm->vcpu_count; i++)
        if (debug.vcpus[i].stop < DEBUG_WRITE)
            debug.vcpus[i].stop = DEBUG_NONE;
}

static void release(void)
{
    vm_release(gdb.vm);
}

static void go(void)
{
    release();
    if (vm_resume(gdb.vm) != OK) // gdb_poll() tells GDB
        log_debug("gdb: VM %s ended meanwhile", gdb.vm->config.name);
}

static bool let_run(void)
{
    gdb.state = GDB_RUNNING;
    forget_stops();
    struct vcpu *stopped = find_stop();
    if (!stopped) {
        go();
        return false;
    }
    gdb.state = GDB_STOPPED;
    reply_stop(stopped);
    release();
    return true;
}

static void report_end(struct vm *vm)
{
    if (!gdb.ended) // else another run is on
        debug_forget();
    gdb.ended = false;
    gdb.state = GDB_ALONE;
    reply_text(vm->state == VM_CRASHED ? ABORTED : EXITED);
}

bool gdb_poll(void)
{
    struct vm *vm = gdb.vm;
    if (!vm || gdb.state != GDB_RUNNING)
        return false;
    gdb.reply.length = 0;
    if (gdb.ended || vm->state == VM_STOPPED || vm->state == VM_CRASHED) {
        report_end(vm);
        return true;
    }
    if (!find_stop() || !hold())
        return false;
    struct vcpu *stopped = find_stop(); // none: it was reset meanwhile
    if (stopped)
        reply_stop(stopped);
    else
        reply_text(SIGNAL_TRAP);
    release();
    return true;
}

bool gdb_interrupt(void)
{
    if (!gdb.vm || gdb.state != GDB_RUNNING || !hold())
        return false;
    gdb.reply.length = 0;
    reply_text(SIGNAL_INTERRUPT);
    reply_thread();
    release();
    return true;
}

// --- threads ---

static bool scan_thread(struct gdb_scan *scan, unsigned *vcpu, bool *all)
{
    u64 number = 0;
    *all = gdb_scan_char(scan, '-');
    if (!gdb_scan_number(scan, &number) || number > gdb.vm->vcpu_count)
        return false;
    *vcpu = number ? (unsigned)number - 1 : 0; // 0: any
    return true;
}

static bool command_select(struct gdb_scan *scan)
{
    unsigned vcpu = 0;
    bool all, is_general = gdb_scan_char(scan, 'g');
    bool good = is_general || gdb_scan_char(scan, 'c');
    good = good && scan_thread(scan, &vcpu, &all);
    if (good && !all && is_general)
        gdb.general = vcpu;
    else if (good && !all)
        gdb.control = vcpu;
    gdb_reply_status(&gdb.reply, good);
    return true;
}

static bool command_alive(struct gdb_scan *scan)
{
    unsigned vcpu;
    bool all;
    gdb_reply_status(&gdb.reply, scan_thread(scan, &vcpu, &all));
    return true;
}

static bool command_first_threads(struct gdb_scan *scan)
{
    (void)scan;
    for (unsigned i = 0; i < gdb.vm->vcpu_count; i++) {
        reply_text(i ? "," : "m");
        gdb_reply_number(&gdb.reply, i + 1);
    }
    return true;
}

static bool command_more_threads(struct gdb_scan *scan)
{
    (void)scan;
    reply_text("l");
    return true;
}

static bool command_thread_info(struct gdb_scan *scan)
{
    char text[64];
    unsigned index;
    bool all;
    if (!scan_thread(scan, &index, &all)) {
        gdb_reply_status(&gdb.reply, false);
        return true;
    }
    const struct vcpu *vcpu = &gdb.vm->vcpus[index];
    format_text(text, sizeof(text), "vCPU %u%s", index,
                vcpu->waiting_for_startup ? ", waits for start-up"
                : vcpu->halted            ? ", halted"
                                          : "");
    gdb_reply_hex(&gdb.reply, text, (unsigned)strlen(text));
    return true;
}

static bool command_current(struct gdb_scan *scan)
{
    (void)scan;
    reply_text("QC");
    gdb_reply_number(&gdb.reply, gdb.general + 1);
    return true;
}

// --- going on; these release the VM ---

static void set_modes(enum debug_mode controlled, enum debug_mode others)
{
    for (unsigned i = 0; i < gdb.vm->vcpu_count; i++)
        debug_set_mode(&gdb.vm->vcpus[i], i == gdb.control ? controlled : others);
}

static bool command_continue(struct gdb_scan *scan)
{
    (void)scan;
    set_modes(DEBUG_RUN, DEBUG_RUN);
    return let_run();
}

static bool command_step(struct gdb_scan *scan)
{
    (void)scan;
    set_modes(DEBUG_STEP, DEBUG_RUN);
    return let_run();
}

// An action: c, s, or C, S with a signal, which no vCPU can be given; and for which thread.
static bool scan_action(struct gdb_scan *scan, enum debug_mode *mode, unsigned *vcpu, bool *all)
{
    bool step = gdb_scan_char(scan, 's'), step_signal = gdb_scan_char(scan, 'S');
    bool run = gdb_scan_char(scan, 'c'), run_signal = gdb_scan_char(scan, 'C');
    u64 signal;
    if ((step_signal || run_signal) && !gdb_scan_number(scan, &signal))
        return false;
    *mode = step || step_signal ? DEBUG_STEP : DEBUG_RUN;
    *all = true;
    if (gdb_scan_char(scan, ':') && !scan_thread(scan, vcpu, all))
        return false;
    return step || step_signal || run || run_signal;
}

// The first action that names a thread, or names none, is its; a thread without one stays.
static bool scan_actions(struct gdb_scan *scan, u8 modes[CONFIG_CPUS_MAX])
{
    enum debug_mode mode;
    unsigned vcpu;
    bool all, given[CONFIG_CPUS_MAX] = {false};
    memset(modes, DEBUG_STAY, CONFIG_CPUS_MAX);
    do {
        if (!scan_action(scan, &mode, &vcpu, &all))
            return false;
        for (unsigned i = 0; i < gdb.vm->vcpu_count; i++) {
            if (given[i] || (!all && i != vcpu))
                continue;
            given[i] = true;
            modes[i] = (u8)mode;
        }
    } while (gdb_scan_char(scan, ';'));
    return true;
}

static bool command_actions(struct gdb_scan *scan)
{
    u8 modes[CONFIG_CPUS_MAX];
    if (!scan_actions(scan, modes)) {
        gdb_reply_status(&gdb.reply, false);
        release();
        return true;
    }
    for (unsigned i = 0; i < gdb.vm->vcpu_count; i++)
        debug_set_mode(&gdb.vm->vcpus[i], (enum debug_mode)modes[i]);
    return let_run();
}

static bool command_detach(struct gdb_scan *scan)
{
    (void)scan;
    debug_end();
    gdb.state = GDB_ALONE;
    go();
    reply_text("OK");
    return true;
}

static bool command_kill(struct gdb_scan *scan)
{
    (void)scan;
    release();
    if (vm_stop(gdb.vm) == OK)
        log_info("VM %s: killed by gdb", gdb.vm->config.name);
    debug_forget();
    gdb.state = GDB_ALONE;
    return false;
}

static bool command_kill_replied(struct gdb_scan *scan)
{
    (void)command_kill(scan);
    reply_text("OK");
    return true;
}

// --- what is there ---

// A debugger that comes anew finds no breakpoints of the one before.
static bool command_reason(struct gdb_scan *scan)
{
    (void)scan;
    debug_end();
    debug_begin(gdb.vm, gdb.wake);
    reply_text(SIGNAL_TRAP);
    reply_thread();
    return true;
}

// Packets may be lost on a line without flow control: it is left to the user to go without
// acknowledgements.
static bool command_supported(struct gdb_scan *scan)
{
    char text[64];
    (void)scan;
    gdb.no_ack = false;
    gdb.general = gdb.control = 0;
    format_text(text, sizeof(text), "PacketSize=%x;", GDB_PACKET_MAX);
    reply_text(text);
    reply_text("qXfer:features:read+;swbreak+;hwbreak+;vContSupported+");
    return true;
}

static bool command_no_ack(struct gdb_scan *scan)
{
    (void)scan;
    gdb.no_ack = true;
    reply_text("OK");
    return true;
}

static bool command_actions_known(struct gdb_scan *scan)
{
    (void)scan;
    reply_text("vCont;c;C;s;S");
    return true;
}

static bool command_attached(struct gdb_scan *scan)
{
    (void)scan;
    reply_text("1");
    return true;
}

static bool command_description(struct gdb_scan *scan)
{
    u64 offset, length;
    if (!gdb_scan_range(scan, &offset, &length)) {
        gdb_reply_status(&gdb.reply, false);
        return true;
    }
    reply_text("m");
    if (!gdb_description(&gdb.reply, offset, MIN(length, GDB_PACKET_MAX - 1)))
        gdb.reply.text[0] = 'l';
    return true;
}

// --- the table: the first row that fits counts ---

enum need {
    ALONE,     // nothing of the VM
    HELD,      // the VM held, and released afterwards
    RELEASING, // the VM held; the command releases it
};

struct command {
    const char *name;
    bool whole;                         // the packet is the name and nothing more
    u8 need;                            // enum need
    bool (*run)(struct gdb_scan *scan); // is there a reply?
};

static const struct command commands[] = {
    {"?", true, HELD, command_reason},
    {"g", true, HELD, gdb_command_registers_read},
    {"G", false, HELD, gdb_command_registers_write},
    {"p", false, HELD, gdb_command_register_read},
    {"P", false, HELD, gdb_command_register_write},
    {"m", false, HELD, gdb_command_memory_read},
    {"M", false, HELD, gdb_command_memory_write},
    {"X", false, HELD, gdb_command_memory_write_binary},
    {"Z", false, HELD, gdb_command_breakpoint_set},
    {"z", false, HELD, gdb_command_breakpoint_clear},
    {"vCont?", true, ALONE, command_actions_known},
    {"vCont;", false, RELEASING, command_actions},
    {"c", true, RELEASING, command_continue},
    {"s", true, RELEASING, command_step},
    {"H", false, ALONE, command_select},
    {"T", false, ALONE, command_alive},
    {"qSupported", false, ALONE, command_supported},
    {"qXfer:features:read:target.xml:", false, ALONE, command_description},
    {"qfThreadInfo", true, ALONE, command_first_threads},
    {"qsThreadInfo", true, ALONE, command_more_threads},
    {"qThreadExtraInfo,", false, ALONE, command_thread_info},
    {"qC", true, ALONE, command_current},
    {"qAttached", true, ALONE, command_attached},
    {"QStartNoAckMode", true, ALONE, command_no_ack},
    {"D", true, RELEASING, command_detach},
    {"k", true, RELEASING, command_kill},
    {"vKill", false, RELEASING, command_kill_replied},
};

static const struct command *find_command(const char *text, unsigned length)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        size_t size = strlen(commands[i].name);
        if (string_starts(text, commands[i].name) && (!commands[i].whole || length == size))
            return &commands[i];
    }
    return NULL;
}

// An unknown packet gets an empty reply, as the protocol has it.
bool gdb_packet(const char *text, unsigned length)
{
    gdb.reply.length = 0;
    const struct command *command = gdb.vm ? find_command(text, length) : NULL;
    if (!command)
        return true;
    struct gdb_scan scan = {text + strlen(command->name), text + length};
    if (command->need == ALONE)
        return command->run(&scan);
    if (!hold()) {
        reply_text(command->run == command_reason ? EXITED : "E01");
        return true;
    }
    bool replies = command->run(&scan);
    if (command->need == HELD)
        release();
    return replies;
}

// --- attaching ---

static void on_start(struct vm *vm)
{
    debug_forget();
    gdb.ended = gdb.state == GDB_RUNNING;
    if (!gdb.ended)
        gdb.state = GDB_ALONE;
    vm->paused = gdb.wait;
}

void gdb_attach(struct vm *vm, bool wait, void (*wake)(void))
{
    gdb = (struct gdb){.vm = vm, .wait = wait, .wake = wake};
    vm->on_start = on_start;
}

void gdb_detach(void)
{
    struct vm *vm = gdb.vm;
    if (!vm)
        return;
    bool stopped = gdb.state != GDB_ALONE || debug.vm == vm || (gdb.wait && vm->paused);
    if (stopped && hold()) {
        debug_end();
        go();
    }
    vm->on_start = NULL;
    gdb.vm = NULL;
}
