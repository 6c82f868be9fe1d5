// SPDX-License-Identifier: MIT
// The VT-x engine as the core sees it.
#include "arch/x86_64/vmx/vmx.h"

const struct cpu_ops vmx_ops = {
    .name = "vmx",
    .description = "Intel VT-x",
    .probe = vmx_probe,
    .cpu_enable = vmx_cpu_enable,
    .cpu_disable = vmx_cpu_disable,
    .stage2_format = &page_format_ept,
    .stage2_max_leaf = vmx_stage2_max_leaf,
    .describe = vmx_describe,
    .vcpu_create = vmx_vcpu_create,
    .vcpu_destroy = vmx_vcpu_destroy,
    .vcpu_reset = vmx_vcpu_reset,
    .vcpu_load = vmx_vcpu_load,
    .vcpu_unload = vmx_vcpu_unload,
    .run = vmx_run,
    .reg_read = vmx_reg_read,
    .reg_write = vmx_reg_write,
    .segment_read = vmx_segment_read,
    .segment_write = vmx_segment_write,
    .skip = vmx_skip,
    .can_take_interrupt = vmx_can_take_interrupt,
    .can_take_nmi = vmx_can_take_nmi,
    .want_window = vmx_want_window,
    .want_nmi_window = vmx_want_nmi_window,
    .flush = vmx_flush,
    .set_tsc_offset = vmx_set_tsc_offset,
    .msr_passthrough = vmx_msr_passthrough,
    .explain = vmx_explain,
};
