// SPDX-License-Identifier: MIT
// The VMX instructions as functions (SDM volume 3, "VMX Instruction Reference"). A failure is a bug
// of ours and panics; that branch is never taken, so a VMREAD costs itself and one jump not taken.
#pragma once

#include "vmm/lib/types.h"
#include "arch/x86_64/vmx/vmcs.h"

// explain.c: names the instruction, its operand and the VM-instruction error. Panics.
NORETURN COLD void vmx_instruction_failed(const char *instruction, u64 operand);

static inline u64 vmread(u32 field)
{
    u64 value;
    __asm__ goto("vmread %1, %0\n\tjna %l2" : "=r"(value) : "r"((u64)field) : "cc" : failed);
    return value;
failed:
    vmx_instruction_failed("VMREAD", field);
}

static inline void vmwrite(u32 field, u64 value)
{
    __asm__ goto("vmwrite %1, %0\n\tjna %l2" : : "r"((u64)field), "rm"(value) : "cc" : failed);
    return;
failed:
    vmx_instruction_failed("VMWRITE", field);
}

// The three that take the physical address of a region.
#define VMX_REGION_INSTRUCTION(name, text)                                                         \
    static inline void name(hpa_t region)                                                          \
    {                                                                                              \
        __asm__ goto(text " %0\n\tjna %l1" : : "m"(region) : "cc", "memory" : failed);             \
        return;                                                                                    \
    failed:                                                                                        \
        vmx_instruction_failed(text, region);                                                      \
    }
VMX_REGION_INSTRUCTION(vmxon, "vmxon")
VMX_REGION_INSTRUCTION(vmclear, "vmclear")
VMX_REGION_INSTRUCTION(vmptrld, "vmptrld")
#undef VMX_REGION_INSTRUCTION

static inline void vmxoff(void)
{
    __asm__ volatile("vmxoff" : : : "cc", "memory");
}

enum invalidation { INVALIDATE_CONTEXT = 1, INVALIDATE_ALL = 2 };

static inline void invept(enum invalidation type, u64 eptp)
{
    const u64 descriptor[2] = {eptp, 0};
    __asm__ goto("invept %0, %1\n\tjna %l2"
                 :
                 : "m"(descriptor), "r"((u64)type)
                 : "cc", "memory"
                 : failed);
    return;
failed:
    vmx_instruction_failed("INVEPT", eptp);
}

static inline void invvpid(enum invalidation type, u16 vpid)
{
    const u64 descriptor[2] = {vpid, 0};
    __asm__ goto("invvpid %0, %1\n\tjna %l2"
                 :
                 : "m"(descriptor), "r"((u64)type)
                 : "cc", "memory"
                 : failed);
    return;
failed:
    vmx_instruction_failed("INVVPID", vpid);
}

// Hand an NMI or a machine check that ended a guest's run to the host's own handler; its IRET also
// lifts the blocking of NMIs that such an exit leaves behind.
static inline void host_nmi_take(void)
{
    __asm__ volatile("int $2" : : : "memory");
}

static inline void host_machine_check_take(void)
{
    __asm__ volatile("int $18" : : : "memory");
}
