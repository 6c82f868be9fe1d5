// SPDX-License-Identifier: MIT
// The crash report. Reads only; the guest's memory is looked at through the guest's own page
// tables.
#include "vmm/report.h"
#include "vmm/emulate/guest_walk.h"
#include "vmm/vm.h"
#include "vmm/lib/format.h"
#include "vmm/lib/log.h"
#include "arch/x86_64/insn.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/regs.h"

#define REPORT_EXITS 10
#define INSN_MAX     15
#define LINE_MAX     160

typedef unsigned long long ull;

static void print_registers(struct vcpu *v)
{
    static const char *const names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                 "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                 "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < GPR_COUNT; i += 4)
        log_error("  %-3s %016llx  %-3s %016llx  %-3s %016llx  %-3s %016llx", names[i],
                  (ull)vcpu_gpr_read(v, i), names[i + 1], (ull)vcpu_gpr_read(v, i + 1),
                  names[i + 2], (ull)vcpu_gpr_read(v, i + 2), names[i + 3],
                  (ull)vcpu_gpr_read(v, i + 3));
    log_error("  rip %016llx  rflags %llx  cr0 %llx  cr2 %llx  cr3 %llx  cr4 %llx  efer %llx",
              (ull)vcpu_reg(v, REG_RIP), (ull)vcpu_reg(v, REG_RFLAGS), (ull)vcpu_reg(v, REG_CR0),
              (ull)vcpu_reg(v, REG_CR2), (ull)vcpu_reg(v, REG_CR3), (ull)vcpu_reg(v, REG_CR4),
              (ull)vcpu_reg(v, REG_EFER));
}

static void print_segments(struct vcpu *v)
{
    static const char *const names[SEG_COUNT] = {"es", "cs",   "ss", "ds",   "fs",
                                                 "gs", "ldtr", "tr", "gdtr", "idtr"};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        struct segment s;
        v->ops->segment_read(v, i, &s);
        log_error("  %-4s %04x  base %016llx  limit %08x  access %05x", names[i], s.selector,
                  (ull)s.base, s.limit, s.access);
    }
}

static unsigned code_bits(struct vcpu *v)
{
    struct segment cs;
    v->ops->segment_read(v, SEG_CS, &cs);
    if ((vcpu_reg(v, REG_EFER) & EFER_LMA) && (cs.access & SEGMENT_L))
        return 64;
    return cs.access & SEGMENT_DB ? 32 : 16;
}

static unsigned code_fetch(struct vcpu *v, gva_t gva, u8 *bytes)
{
    unsigned n = 0;
    while (n < INSN_MAX) {
        gpa_t gpa;
        u32 error;
        u64 one = 1;
        const u8 *hva = NULL;
        if (guest_walk_peek(v, gva + n, &gpa, &error))
            hva = guest_memory_hva(&v->vm->memory, gpa, &one);
        if (!hva)
            break;
        bytes[n++] = *hva;
    }
    return n;
}

static void print_code(struct vcpu *v)
{
    struct segment cs;
    u8 bytes[INSN_MAX];
    char text[LINE_MAX], hex[3 * INSN_MAX + 1] = "";
    u64 rip = vcpu_reg(v, REG_RIP);
    unsigned bits = code_bits(v);
    v->ops->segment_read(v, SEG_CS, &cs);
    unsigned n = code_fetch(v, bits == 64 ? rip : cs.base + rip, bytes);
    for (unsigned i = 0; i < n; i++)
        format_text(hex + 3 * i, sizeof(hex) - 3 * i, "%02x ", bytes[i]);
    if (n == 0)
        log_error("  code at rip: not mapped to memory");
    else if (insn_format(bytes, n, bits, rip, text, sizeof(text)))
        log_error("  code at rip: %s (%s)", text, hex);
    else
        log_error("  code at rip: no instruction (%s)", hex);
}

static void print_exits(const struct trace *trace)
{
    u64 first = trace->next > REPORT_EXITS ? trace->next - REPORT_EXITS : 0;
    log_error("  the last exits, oldest first:");
    for (u64 i = first; i < trace->next; i++) {
        const struct trace_entry *e = &trace->ring[i % TRACE_RING];
        log_error("    %-12s rip %016llx  detail %llx  cycles %u",
                  exit_kind_name((enum exit_kind)e->kind), (ull)e->rip, (ull)e->detail, e->cycles);
    }
}

static void print_explain(void *context, const char *format, ...) PRINTF(2, 3);
static void print_explain(void *context, const char *format, ...)
{
    (void)context;
    char text[LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    format_text_v(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_error("  %s", text);
}

void report_crash(struct vm *vm)
{
    struct vcpu *v = this_cpu()->loaded;
    log_error("VM %s died: %s", vm->config.name, vm->why);
    if (!v || v->vm != vm)
        return;
    log_error("  vCPU %u, engine %s:", v->index, v->ops->name);
    print_registers(v);
    print_segments(v);
    print_code(v);
    v->ops->explain(v, print_explain, NULL);
    print_exits(v->trace);
}
