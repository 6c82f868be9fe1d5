// SPDX-License-Identifier: MIT
// The VMCS in numbers: field encodings, control bits, exit reasons and the layout of the
// information fields, with the manual's names. SDM volume 3, "Virtual Machine Control Structures",
// "Field Encoding in VMCS", "VMX Basic Exit Reasons", "VMX Capability Reporting Facility".
#pragma once

#include "vmm/lib/types.h"

// One list makes the enum and the names that explain.c prints.
#define VMCS_FIELD_LIST(X)                                                                         \
    X(VIRTUAL_PROCESSOR_ID, 0x0000)                                                                \
    X(POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x0002)                                                \
    X(GUEST_ES_SELECTOR, 0x0800)                                                                   \
    X(GUEST_CS_SELECTOR, 0x0802)                                                                   \
    X(GUEST_SS_SELECTOR, 0x0804)                                                                   \
    X(GUEST_DS_SELECTOR, 0x0806)                                                                   \
    X(GUEST_FS_SELECTOR, 0x0808)                                                                   \
    X(GUEST_GS_SELECTOR, 0x080a)                                                                   \
    X(GUEST_LDTR_SELECTOR, 0x080c)                                                                 \
    X(GUEST_TR_SELECTOR, 0x080e)                                                                   \
    X(GUEST_INTERRUPT_STATUS, 0x0810)                                                              \
    X(HOST_ES_SELECTOR, 0x0c00)                                                                    \
    X(HOST_CS_SELECTOR, 0x0c02)                                                                    \
    X(HOST_SS_SELECTOR, 0x0c04)                                                                    \
    X(HOST_DS_SELECTOR, 0x0c06)                                                                    \
    X(HOST_FS_SELECTOR, 0x0c08)                                                                    \
    X(HOST_GS_SELECTOR, 0x0c0a)                                                                    \
    X(HOST_TR_SELECTOR, 0x0c0c)                                                                    \
    X(IO_BITMAP_A, 0x2000)                                                                         \
    X(IO_BITMAP_B, 0x2002)                                                                         \
    X(MSR_BITMAPS, 0x2004)                                                                         \
    X(TSC_OFFSET, 0x2010)                                                                          \
    X(VIRTUAL_APIC_ADDRESS, 0x2012)                                                                \
    X(APIC_ACCESS_ADDRESS, 0x2014)                                                                 \
    X(POSTED_INTERRUPT_DESCRIPTOR, 0x2016)                                                         \
    X(EPT_POINTER, 0x201a)                                                                         \
    X(EOI_EXIT_BITMAP_0, 0x201c)                                                                   \
    X(EOI_EXIT_BITMAP_1, 0x201e)                                                                   \
    X(EOI_EXIT_BITMAP_2, 0x2020)                                                                   \
    X(EOI_EXIT_BITMAP_3, 0x2022)                                                                   \
    X(ENCLS_EXITING_BITMAP, 0x202e)                                                                \
    X(GUEST_PHYSICAL_ADDRESS, 0x2400)                                                              \
    X(LINK_POINTER, 0x2800)                                                                        \
    X(GUEST_IA32_DEBUGCTL, 0x2802)                                                                 \
    X(GUEST_IA32_PAT, 0x2804)                                                                      \
    X(GUEST_IA32_EFER, 0x2806)                                                                     \
    X(GUEST_PDPTE0, 0x280a)                                                                        \
    X(GUEST_PDPTE1, 0x280c)                                                                        \
    X(GUEST_PDPTE2, 0x280e)                                                                        \
    X(GUEST_PDPTE3, 0x2810)                                                                        \
    X(HOST_IA32_PAT, 0x2c00)                                                                       \
    X(HOST_IA32_EFER, 0x2c02)                                                                      \
    X(PIN_BASED_CONTROLS, 0x4000)                                                                  \
    X(PRIMARY_PROCESSOR_CONTROLS, 0x4002)                                                          \
    X(EXCEPTION_BITMAP, 0x4004)                                                                    \
    X(PAGE_FAULT_ERROR_CODE_MASK, 0x4006)                                                          \
    X(PAGE_FAULT_ERROR_CODE_MATCH, 0x4008)                                                         \
    X(CR3_TARGET_COUNT, 0x400a)                                                                    \
    X(EXIT_CONTROLS, 0x400c)                                                                       \
    X(EXIT_MSR_STORE_COUNT, 0x400e)                                                                \
    X(EXIT_MSR_LOAD_COUNT, 0x4010)                                                                 \
    X(ENTRY_CONTROLS, 0x4012)                                                                      \
    X(ENTRY_MSR_LOAD_COUNT, 0x4014)                                                                \
    X(ENTRY_INTERRUPTION_INFO, 0x4016)                                                             \
    X(ENTRY_EXCEPTION_ERROR_CODE, 0x4018)                                                          \
    X(ENTRY_INSTRUCTION_LENGTH, 0x401a)                                                            \
    X(SECONDARY_PROCESSOR_CONTROLS, 0x401e)                                                        \
    X(TPR_THRESHOLD, 0x401c)                                                                       \
    X(PLE_GAP, 0x4020)                                                                             \
    X(PLE_WINDOW, 0x4022)                                                                          \
    X(INSTRUCTION_ERROR, 0x4400)                                                                   \
    X(EXIT_REASON, 0x4402)                                                                         \
    X(EXIT_INTERRUPTION_INFO, 0x4404)                                                              \
    X(EXIT_INTERRUPTION_ERROR_CODE, 0x4406)                                                        \
    X(IDT_VECTORING_INFO, 0x4408)                                                                  \
    X(IDT_VECTORING_ERROR_CODE, 0x440a)                                                            \
    X(EXIT_INSTRUCTION_LENGTH, 0x440c)                                                             \
    X(EXIT_INSTRUCTION_INFO, 0x440e)                                                               \
    X(GUEST_ES_LIMIT, 0x4800)                                                                      \
    X(GUEST_CS_LIMIT, 0x4802)                                                                      \
    X(GUEST_SS_LIMIT, 0x4804)                                                                      \
    X(GUEST_DS_LIMIT, 0x4806)                                                                      \
    X(GUEST_FS_LIMIT, 0x4808)                                                                      \
    X(GUEST_GS_LIMIT, 0x480a)                                                                      \
    X(GUEST_LDTR_LIMIT, 0x480c)                                                                    \
    X(GUEST_TR_LIMIT, 0x480e)                                                                      \
    X(GUEST_GDTR_LIMIT, 0x4810)                                                                    \
    X(GUEST_IDTR_LIMIT, 0x4812)                                                                    \
    X(GUEST_ES_ACCESS_RIGHTS, 0x4814)                                                              \
    X(GUEST_CS_ACCESS_RIGHTS, 0x4816)                                                              \
    X(GUEST_SS_ACCESS_RIGHTS, 0x4818)                                                              \
    X(GUEST_DS_ACCESS_RIGHTS, 0x481a)                                                              \
    X(GUEST_FS_ACCESS_RIGHTS, 0x481c)                                                              \
    X(GUEST_GS_ACCESS_RIGHTS, 0x481e)                                                              \
    X(GUEST_LDTR_ACCESS_RIGHTS, 0x4820)                                                            \
    X(GUEST_TR_ACCESS_RIGHTS, 0x4822)                                                              \
    X(GUEST_INTERRUPTIBILITY, 0x4824)                                                              \
    X(GUEST_ACTIVITY_STATE, 0x4826)                                                                \
    X(GUEST_IA32_SYSENTER_CS, 0x482a)                                                              \
    X(PREEMPTION_TIMER_VALUE, 0x482e)                                                              \
    X(HOST_IA32_SYSENTER_CS, 0x4c00)                                                               \
    X(CR0_GUEST_HOST_MASK, 0x6000)                                                                 \
    X(CR4_GUEST_HOST_MASK, 0x6002)                                                                 \
    X(CR0_READ_SHADOW, 0x6004)                                                                     \
    X(CR4_READ_SHADOW, 0x6006)                                                                     \
    X(EXIT_QUALIFICATION, 0x6400)                                                                  \
    X(GUEST_LINEAR_ADDRESS, 0x640a)                                                                \
    X(GUEST_CR0, 0x6800)                                                                           \
    X(GUEST_CR3, 0x6802)                                                                           \
    X(GUEST_CR4, 0x6804)                                                                           \
    X(GUEST_ES_BASE, 0x6806)                                                                       \
    X(GUEST_CS_BASE, 0x6808)                                                                       \
    X(GUEST_SS_BASE, 0x680a)                                                                       \
    X(GUEST_DS_BASE, 0x680c)                                                                       \
    X(GUEST_FS_BASE, 0x680e)                                                                       \
    X(GUEST_GS_BASE, 0x6810)                                                                       \
    X(GUEST_LDTR_BASE, 0x6812)                                                                     \
    X(GUEST_TR_BASE, 0x6814)                                                                       \
    X(GUEST_GDTR_BASE, 0x6816)                                                                     \
    X(GUEST_IDTR_BASE, 0x6818)                                                                     \
    X(GUEST_DR7, 0x681a)                                                                           \
    X(GUEST_RSP, 0x681c)                                                                           \
    X(GUEST_RIP, 0x681e)                                                                           \
    X(GUEST_RFLAGS, 0x6820)                                                                        \
    X(GUEST_PENDING_DEBUG_EXCEPTIONS, 0x6822)                                                      \
    X(GUEST_IA32_SYSENTER_ESP, 0x6824)                                                             \
    X(GUEST_IA32_SYSENTER_EIP, 0x6826)                                                             \
    X(HOST_CR0, 0x6c00)                                                                            \
    X(HOST_CR3, 0x6c02)                                                                            \
    X(HOST_CR4, 0x6c04)                                                                            \
    X(HOST_FS_BASE, 0x6c06)                                                                        \
    X(HOST_GS_BASE, 0x6c08)                                                                        \
    X(HOST_TR_BASE, 0x6c0a)                                                                        \
    X(HOST_GDTR_BASE, 0x6c0c)                                                                      \
    X(HOST_IDTR_BASE, 0x6c0e)                                                                      \
    X(HOST_IA32_SYSENTER_ESP, 0x6c10)                                                              \
    X(HOST_IA32_SYSENTER_EIP, 0x6c12)                                                              \
    X(HOST_RSP, 0x6c14)                                                                            \
    X(HOST_RIP, 0x6c16)

enum vmcs_field {
#define X(name, encoding) VMCS_##name = encoding,
    VMCS_FIELD_LIST(X)
#undef X
};

// The fields of the segment registers lie in the order ES, CS, SS, DS, FS, GS, LDTR, TR (limit and
// base: GDTR, IDTR).
#define VMCS_SEGMENT_STRIDE 2

// The EOI-exit bitmap is four fields of 64 bits.
#define VMCS_EOI_EXIT_STRIDE 2

// "Pin-Based VM-Execution Controls"
#define PIN_EXTERNAL_INTERRUPT_EXITING BIT(0)
#define PIN_NMI_EXITING                BIT(3)
#define PIN_VIRTUAL_NMIS               BIT(5)
#define PIN_PREEMPTION_TIMER           BIT(6)
#define PIN_PROCESS_POSTED_INTERRUPTS  BIT(7)

// "Processor-Based VM-Execution Controls"
#define PROC_INTERRUPT_WINDOW_EXITING BIT(2)
#define PROC_USE_TSC_OFFSETTING       BIT(3)
#define PROC_HLT_EXITING              BIT(7)
#define PROC_INVLPG_EXITING           BIT(9)
#define PROC_MWAIT_EXITING            BIT(10)
#define PROC_RDPMC_EXITING            BIT(11)
#define PROC_CR3_LOAD_EXITING         BIT(15)
#define PROC_CR3_STORE_EXITING        BIT(16)
#define PROC_CR8_LOAD_EXITING         BIT(19)
#define PROC_CR8_STORE_EXITING        BIT(20)
#define PROC_USE_TPR_SHADOW           BIT(21)
#define PROC_NMI_WINDOW_EXITING       BIT(22)
#define PROC_MOV_DR_EXITING           BIT(23)
#define PROC_USE_IO_BITMAPS           BIT(25)
#define PROC_USE_MSR_BITMAPS          BIT(28)
#define PROC_MONITOR_EXITING          BIT(29)
#define PROC_SECONDARY_CONTROLS       BIT(31)

#define PROC2_VIRTUALIZE_APIC_ACCESSES     BIT(0)
#define PROC2_ENABLE_EPT                   BIT(1)
#define PROC2_ENABLE_RDTSCP                BIT(3)
#define PROC2_VIRTUALIZE_X2APIC_MODE       BIT(4)
#define PROC2_ENABLE_VPID                  BIT(5)
#define PROC2_WBINVD_EXITING               BIT(6)
#define PROC2_UNRESTRICTED_GUEST           BIT(7)
#define PROC2_APIC_REGISTER_VIRTUALIZATION BIT(8)
#define PROC2_VIRTUAL_INTERRUPT_DELIVERY   BIT(9)
#define PROC2_PAUSE_LOOP_EXITING           BIT(10)
#define PROC2_ENABLE_INVPCID               BIT(12)
#define PROC2_ENCLS_EXITING                BIT(15)

// "VM-Exit Controls", "VM-Entry Controls"
#define EXIT_CONTROL_SAVE_DEBUG_CONTROLS BIT(2)
#define EXIT_CONTROL_HOST_64BIT          BIT(9)
#define EXIT_CONTROL_ACKNOWLEDGE         BIT(15)
#define EXIT_CONTROL_LOAD_PAT            BIT(19)
#define EXIT_CONTROL_LOAD_EFER           BIT(21)

#define ENTRY_CONTROL_LOAD_DEBUG_CONTROLS BIT(2)
#define ENTRY_CONTROL_IA32E_MODE_GUEST    BIT(9)
#define ENTRY_CONTROL_LOAD_PAT            BIT(14)
#define ENTRY_CONTROL_LOAD_EFER           BIT(15)

// "VMX Basic Exit Reasons"
enum vmx_exit_reason {
    VMX_EXIT_EXCEPTION_OR_NMI = 0,
    VMX_EXIT_EXTERNAL_INTERRUPT = 1,
    VMX_EXIT_TRIPLE_FAULT = 2,
    VMX_EXIT_INIT = 3,
    VMX_EXIT_SIPI = 4,
    VMX_EXIT_INTERRUPT_WINDOW = 7,
    VMX_EXIT_NMI_WINDOW = 8,
    VMX_EXIT_TASK_SWITCH = 9,
    VMX_EXIT_CPUID = 10,
    VMX_EXIT_GETSEC = 11,
    VMX_EXIT_HLT = 12,
    VMX_EXIT_INVD = 13,
    VMX_EXIT_RDPMC = 15,
    VMX_EXIT_RSM = 17,
    VMX_EXIT_VMCALL = 18,
    VMX_EXIT_VMCLEAR = 19,
    VMX_EXIT_VMLAUNCH = 20,
    VMX_EXIT_VMPTRLD = 21,
    VMX_EXIT_VMPTRST = 22,
    VMX_EXIT_VMREAD = 23,
    VMX_EXIT_VMRESUME = 24,
    VMX_EXIT_VMWRITE = 25,
    VMX_EXIT_VMXOFF = 26,
    VMX_EXIT_VMXON = 27,
    VMX_EXIT_CR_ACCESS = 28,
    VMX_EXIT_DR_ACCESS = 29,
    VMX_EXIT_IO = 30,
    VMX_EXIT_RDMSR = 31,
    VMX_EXIT_WRMSR = 32,
    VMX_EXIT_INVALID_GUEST_STATE = 33,
    VMX_EXIT_MSR_LOADING = 34,
    VMX_EXIT_MWAIT = 36,
    VMX_EXIT_MONITOR = 39,
    VMX_EXIT_PAUSE = 40,
    VMX_EXIT_MACHINE_CHECK = 41,
    VMX_EXIT_TPR_BELOW_THRESHOLD = 43,
    VMX_EXIT_APIC_ACCESS = 44,
    VMX_EXIT_VIRTUALIZED_EOI = 45,
    VMX_EXIT_EPT_VIOLATION = 48,
    VMX_EXIT_EPT_MISCONFIGURATION = 49,
    VMX_EXIT_INVEPT = 50,
    VMX_EXIT_PREEMPTION_TIMER = 52,
    VMX_EXIT_INVVPID = 53,
    VMX_EXIT_WBINVD = 54,
    VMX_EXIT_XSETBV = 55,
    VMX_EXIT_APIC_WRITE = 56,
    VMX_EXIT_VMFUNC = 59,
    VMX_EXIT_ENCLS = 60,
    VMX_EXIT_UMWAIT = 67,
    VMX_EXIT_TPAUSE = 68,
    VMX_EXIT_SEAMCALL = 76,
    VMX_EXIT_TDCALL = 77,
    VMX_EXIT_RDMSR_IMMEDIATE = 84,
    VMX_EXIT_WRMSRNS_IMMEDIATE = 85,
    VMX_EXIT_REASON_COUNT
};
#define EXIT_REASON_BASIC_MASK   0xffffull
#define EXIT_REASON_ENTRY_FAILED BIT(31)

// VM-entry interruption information, VM-exit interruption information, IDT-vectoring information:
// one layout.
#define INTERRUPTION_VECTOR_MASK   0xffull
#define INTERRUPTION_TYPE_SHIFT    8
#define INTERRUPTION_TYPE_WIDTH    3
#define INTERRUPTION_HAS_ERROR     BIT(11)
#define INTERRUPTION_NMI_UNBLOCKED BIT(12) // "NMI unblocking due to IRET", on exits
#define INTERRUPTION_VALID         BIT(31)

// "Guest Non-Register State": the low bits of the interruptibility state are enum
// vcpu_interruptibility.
#define INTERRUPTIBILITY_STI     BIT(0)
#define INTERRUPTIBILITY_MOV_SS  BIT(1)
#define INTERRUPTIBILITY_SMI     BIT(2)
#define INTERRUPTIBILITY_NMI     BIT(3)
#define INTERRUPTIBILITY_SHADOW  (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS)
#define INTERRUPTIBILITY_DEFINED 0x1full
#define ACTIVITY_ACTIVE          0
#define ACTIVITY_LAST            3       // wait-for-SIPI
#define PENDING_DEBUG_BREAKPOINT BIT(12) // one that is enabled
#define PENDING_DEBUG_BS         BIT(14)
#define PENDING_DEBUG_DEFINED    (0xfull | PENDING_DEBUG_BREAKPOINT | PENDING_DEBUG_BS | BIT(16))
#define VMCS_LINK_NONE           (~0ull)

// "Exit Qualification for Control-Register Accesses"
#define CR_ACCESS_NUMBER_MASK  0xfull
#define CR_ACCESS_TYPE_SHIFT   4
#define CR_ACCESS_TYPE_WIDTH   2
#define CR_ACCESS_GPR_SHIFT    8
#define CR_ACCESS_GPR_WIDTH    4
#define CR_ACCESS_SOURCE_SHIFT 16
#define CR_ACCESS_SOURCE_WIDTH 16
enum cr_access_type { CR_ACCESS_TO_CR, CR_ACCESS_FROM_CR, CR_ACCESS_CLTS, CR_ACCESS_LMSW };

// "Exit Qualification for I/O Instructions"
#define IO_SIZE_MASK  7ull // less one
#define IO_IN         BIT(3)
#define IO_STRING     BIT(4)
#define IO_REP        BIT(5)
#define IO_PORT_SHIFT 16
#define IO_PORT_WIDTH 16

// "Exit Qualification for EPT Violations"
#define EPT_VIOLATION_READ          BIT(0)
#define EPT_VIOLATION_WRITE         BIT(1)
#define EPT_VIOLATION_FETCH         BIT(2)
#define EPT_VIOLATION_ALLOWED_SHIFT 3
#define EPT_VIOLATION_ALLOWED_WIDTH 3
#define EPT_VIOLATION_GVA_VALID     BIT(7)
#define EPT_VIOLATION_FINAL         BIT(8) // the access itself, not the walk of the guest's tables
#define EPT_VIOLATION_NMI_UNBLOCKED BIT(12)

// "Exit Qualification for APIC-Access VM Exits"; for APIC writes and virtualized EOIs it is the
// offset or the vector.
#define APIC_ACCESS_OFFSET_MASK 0xfffull
#define APIC_ACCESS_TYPE_SHIFT  12
#define APIC_ACCESS_TYPE_WIDTH  4
enum apic_access_type { APIC_ACCESS_READ, APIC_ACCESS_WRITE }; // others: no instruction's operand

// "Guest Interrupt Status": the highest vector that is requested, and that is in service
#define INTERRUPT_STATUS_REQUESTED_MASK   0xffull
#define INTERRUPT_STATUS_IN_SERVICE_SHIFT 8

// "Exit Qualification for Task Switches"
#define TASK_SWITCH_SELECTOR_MASK 0xffffull
#define TASK_SWITCH_SOURCE_SHIFT  30
#define TASK_SWITCH_SOURCE_WIDTH  2

// "Exit Qualification for MOV DR"
#define DR_ACCESS_NUMBER_MASK 7ull
#define DR_ACCESS_FROM_DR     BIT(4)
#define DR_ACCESS_GPR_SHIFT   8
#define DR_ACCESS_GPR_WIDTH   4

// "Exit Qualification for Debug Exceptions": the same places as in DR6
#define DEBUG_EXIT_MASK (DR6_B_MASK | DR6_BD | DR6_BS)
#define DEBUGCTL_LBR    BIT(0)
#define DEBUGCTL_BTF    BIT(1)

// "Extended-Page-Table Pointer (EPTP)"
#define EPTP_WRITE_BACK 6ull
#define EPTP_WALK_4     (3ull << 3)

// "MSR-Bitmap Address": four bitmaps in one page
#define MSR_BITMAP_READ_LOW   0
#define MSR_BITMAP_READ_HIGH  1024
#define MSR_BITMAP_WRITE_LOW  2048
#define MSR_BITMAP_WRITE_HIGH 3072
#define MSR_BITMAP_HIGH_FIRST 0xc0000000u
#define MSR_BITMAP_MSRS       0x2000u

// "VMX Capability Reporting Facility"
#define MSR_IA32_VMX_PINBASED_CTLS       0x481
#define MSR_IA32_VMX_PROCBASED_CTLS      0x482
#define MSR_IA32_VMX_EXIT_CTLS           0x483
#define MSR_IA32_VMX_ENTRY_CTLS          0x484
#define MSR_IA32_VMX_MISC                0x485
#define MSR_IA32_VMX_CR0_FIXED0          0x486
#define MSR_IA32_VMX_CR0_FIXED1          0x487
#define MSR_IA32_VMX_CR4_FIXED0          0x488
#define MSR_IA32_VMX_CR4_FIXED1          0x489
#define MSR_IA32_VMX_PROCBASED_CTLS2     0x48b
#define MSR_IA32_VMX_EPT_VPID_CAP        0x48c
#define MSR_IA32_VMX_TRUE_PINBASED_CTLS  0x48d
#define MSR_IA32_VMX_TRUE_PROCBASED_CTLS 0x48e
#define MSR_IA32_VMX_TRUE_EXIT_CTLS      0x48f
#define MSR_IA32_VMX_TRUE_ENTRY_CTLS     0x490

#define VMX_BASIC_REVISION_MASK 0x7fffffffull
#define VMX_REVISION_BOCHS      0x2bu // no CPU's and no other hypervisor's
#define VMX_BASIC_TRUE_CONTROLS BIT(55)
#define VMX_MISC_TIMER_MASK                                                                        \
    0x1full // the preemption timer counts at the TSC's rate shifted right by this

#define EPT_CAP_WALK_4           BIT(6)
#define EPT_CAP_WRITE_BACK       BIT(14)
#define EPT_CAP_2M               BIT(16)
#define EPT_CAP_1G               BIT(17)
#define EPT_CAP_INVEPT           BIT(20)
#define EPT_CAP_ACCESSED_DIRTY   BIT(21)
#define EPT_CAP_INVEPT_SINGLE    BIT(25)
#define EPT_CAP_INVEPT_ALL       BIT(26)
#define VPID_CAP_INVVPID         BIT(32)
#define VPID_CAP_INVVPID_CONTEXT BIT(41)
#define VPID_CAP_INVVPID_ALL     BIT(42)

#define FEATURE_CONTROL_LOCK              BIT(0)
#define FEATURE_CONTROL_VMXON_OUTSIDE_SMX BIT(2)
#define CPUID_1_ECX_VMX                   BIT(5)
#define CPUID_80000001_EDX_RDTSCP         BIT(27)
