// SPDX-License-Identifier: MIT
// A guest's serial line: a ring of what it wrote, and the loop that shows it and passes typed bytes
// on. The guest never waits for the host's consoles: who shows the line copies from the ring, and
// says how much was overwritten meanwhile.

#include "vmm/console/console.h"
#include "vmm/thread.h"
#include "vmm/lib/error.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"
#include "arch/x86_64/asm.h"
#include "arch/x86_64/cpu.h"
#include "mm/heap.h"

#define ATTACH_TAIL    (4 * KIB)
#define ATTACH_LINES   24
#define OUTPUT_PIECE   256 // shown between two looks at the keyboard
#define INPUT_PENDING  64  // typed, not yet taken by the guest; more is dropped
#define INPUT_RETRY_US 2000
#define CLOSE_POLL_US  1000

int console_init(struct console *c, const char *name)
{
    *c = (struct console){.ring = heap_alloc(CONSOLE_RING)};
    if (!c->ring)
        return ERR_NO_MEMORY;
    string_copy(c->name, sizeof(c->name), name);
    return OK;
}

void console_destroy(struct console *c)
{
    heap_free(c->ring);
    c->ring = NULL;
}

static void wake_attached(struct console *c)
{
    struct thread *thread = __atomic_load_n(&c->attached, __ATOMIC_ACQUIRE);
    if (thread)
        thread_wake(thread);
}

void console_open(struct console *c)
{
    spin_lock(&c->input_lock);
    c->open = true;
    c->opened = c->written;
    spin_unlock(&c->input_lock);
}

void console_close(struct console *c)
{
    spin_lock(&c->input_lock);
    // Seen by all before the look at who is attached, who in turn says so before looking at this.
    __atomic_store_n(&c->open, false, __ATOMIC_SEQ_CST);
    spin_unlock(&c->input_lock);
    wake_attached(c);
    while (__atomic_load_n(&c->attached, __ATOMIC_ACQUIRE))
        thread_sleep_us(CLOSE_POLL_US);
}

// --- the ring; positions count bytes since the console was made ---

static u64 ring_oldest(const struct console *c)
{
    return c->written > CONSOLE_RING ? c->written - CONSOLE_RING : 0;
}

void console_output(struct console *c, const u8 *bytes, unsigned count)
{
    spin_lock(&c->lock);
    for (unsigned i = 0; i < count; i++)
        c->ring[c->written++ % CONSOLE_RING] = (char)bytes[i];
    spin_unlock(&c->lock);
    wake_attached(c);
}

size_t console_read(struct console *c, u64 *position, char *to, size_t size)
{
    spin_lock(&c->lock);
    *position = MAX(*position, ring_oldest(c));
    size_t count = 0;
    while (count < size && *position < c->written)
        to[count++] = c->ring[(*position)++ % CONSOLE_RING];
    spin_unlock(&c->lock);
    return count;
}

u64 console_tail(struct console *c, unsigned lines, u64 bytes)
{
    spin_lock(&c->lock);
    u64 first = ring_oldest(c);
    if (c->written - first > bytes)
        first = c->written - bytes;
    u64 position = c->written;
    // The last line's own end does not count; the line feed before the first line does, and stays
    // outside.
    for (unsigned ends = 0; position > first; position--) {
        bool end = c->ring[(position - 1) % CONSOLE_RING] == '\n' && position != c->written;
        ends += end;
        if (end && ends == lines)
            break;
    }
    spin_unlock(&c->lock);
    return position;
}

// --- attached ---

struct typed {
    u8 bytes[INPUT_PENDING];
    unsigned count;
};

// Takes all that was typed. False: Ctrl-] was among it.
static bool take_typed(struct typed *typed)
{
    int byte;
    while ((byte = host_console_take()) >= 0) {
        if (byte == CONSOLE_DETACH)
            return false;
        if (typed->count < INPUT_PENDING)
            typed->bytes[typed->count++] = (u8)byte;
    }
    return true;
}

static void pass_typed(struct console *c, struct typed *typed)
{
    unsigned taken = typed->count; // a closed line takes and forgets
    spin_lock(&c->input_lock);
    if (c->open && c->input)
        taken = c->input(c->context, typed->bytes, typed->count);
    spin_unlock(&c->input_lock);
    taken = MIN(taken, typed->count);
    memmove(typed->bytes, typed->bytes + taken, typed->count - taken);
    typed->count -= taken;
}

static u64 half_a_ring_behind(struct console *c)
{
    spin_lock(&c->lock);
    u64 position = c->written > CONSOLE_RING / 2 ? c->written - CONSOLE_RING / 2 : 0;
    spin_unlock(&c->lock);
    return position;
}

// A viewer that is too slow misses much at once, and is told, rather than a bit of every piece.
static void say_missing(struct console *c, u64 from)
{
    char text[64];
    c->shown = half_a_ring_behind(c);
    format_text(text, sizeof(text), "\r\n[%llu bytes not shown]\r\n",
                (unsigned long long)(c->shown - from));
    host_console_write_raw(text, strlen(text));
}

static bool show_piece(struct console *c)
{
    char piece[OUTPUT_PIECE];
    u64 from = c->shown;
    size_t count = console_read(c, &c->shown, piece, sizeof(piece));
    if (c->shown - count == from)
        host_console_write_raw(piece, count);
    else
        say_missing(c, from);
    return count;
}

static bool attached_loop(struct console *c)
{
    struct typed typed = {.count = 0};
    for (;;) {
        if (!take_typed(&typed))
            return true;
        if (typed.count)
            pass_typed(c, &typed);
        bool open =
            __atomic_load_n(&c->open, __ATOMIC_ACQUIRE); // before the look at its last words
        if (!host_console_keeps_up())
            host_console_wait(~0ull);
        else if (show_piece(c))
            thread_yield();
        else if (!open)
            return false;
        else
            host_console_wait(typed.count ? rdtsc() + tsc_from_us(INPUT_RETRY_US) : ~0ull);
    }
}

bool console_attach(struct console *c)
{
    c->shown = MAX(console_tail(c, ATTACH_LINES, ATTACH_TAIL), c->opened);
    __atomic_store_n(&c->attached, thread_self(), __ATOMIC_SEQ_CST);
    host_console_set_mode(HOST_CONSOLE_ATTACHED);
    bool detached = attached_loop(c);
    host_console_set_mode(HOST_CONSOLE_PLAIN);
    __atomic_store_n(&c->attached, NULL, __ATOMIC_RELEASE);
    return detached;
}
