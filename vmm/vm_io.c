// SPDX-License-Identifier: MIT
// Routing of device accesses. Every vCPU sees its own local APIC at the address its IA32_APIC_BASE
// names, so that page is not on the bus.
#include "vmm/vm_io.h"
#include "vmm/vm.h"
#include "arch/x86_64/regs.h"

static bool lapic_page(const struct vcpu *vcpu, gpa_t gpa)
{
    u64 base = vcpu->lapic.base_msr;
    return (gpa & ~PAGE_MASK) == (base & ~PAGE_MASK) &&
           (base & (APIC_BASE_ENABLE | APIC_BASE_EXTD)) == APIC_BASE_ENABLE;
}

bool vm_port_read(struct vcpu *vcpu, u16 port, unsigned size, u64 *value)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&vm->lock);
    bool hit = io_bus_read(&vm->ports, port, size, value);
    spin_unlock(&vm->lock);
    if (unlikely(!hit))
        vm_odd_access(vm, "read of port 0x%x (%u bytes): nothing there", port, size);
    return hit;
}

bool vm_port_write(struct vcpu *vcpu, u16 port, unsigned size, u64 value)
{
    struct vm *vm = vcpu->vm;
    spin_lock(&vm->lock);
    bool hit = io_bus_write(&vm->ports, port, size, value);
    spin_unlock(&vm->lock);
    if (unlikely(!hit))
        vm_odd_access(vm, "write of 0x%llx to port 0x%x (%u bytes): nothing there",
                      (unsigned long long)value, port, size);
    return hit;
}

bool vm_mmio_read(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 *value)
{
    struct vm *vm = vcpu->vm;
    bool hit = true;
    spin_lock(&vm->lock);
    if (lapic_page(vcpu, gpa) && (gpa & PAGE_MASK) + size <= PAGE_SIZE)
        *value = vcpu->lapic.mmio.ops->read(&vcpu->lapic.mmio, gpa & PAGE_MASK, size);
    else
        hit = io_bus_read(&vm->mmio, gpa, size, value);
    spin_unlock(&vm->lock);
    if (unlikely(!hit))
        vm_odd_access(vm, "read of address 0x%llx (%u bytes): nothing there",
                      (unsigned long long)gpa, size);
    return hit;
}

bool vm_mmio_write(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value)
{
    struct vm *vm = vcpu->vm;
    bool hit = true;
    spin_lock(&vm->lock);
    if (lapic_page(vcpu, gpa) && (gpa & PAGE_MASK) + size <= PAGE_SIZE)
        vcpu->lapic.mmio.ops->write(&vcpu->lapic.mmio, gpa & PAGE_MASK, size, value);
    else
        hit = io_bus_write(&vm->mmio, gpa, size, value);
    spin_unlock(&vm->lock);
    if (unlikely(!hit))
        vm_odd_access(vm, "write of 0x%llx to address 0x%llx (%u bytes): nothing there",
                      (unsigned long long)value, (unsigned long long)gpa, size);
    return hit;
}
