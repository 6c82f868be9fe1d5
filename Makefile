# SPDX-License-Identifier: MIT
# Plinth. `make help` lists what a person would call. Sources are listed by folder, in reading order.

# As many jobs as there are CPUs, unless the command line says otherwise.
ifeq ($(filter -j% --jobs%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

B := build
CC := gcc
NASM := nasm

.DEFAULT_GOAL := image
.DELETE_ON_ERROR:

# Packages: an included file is made before anything else, so whatever is built finds its tools.
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),image)),)
include $(B)/setup.mk
endif
$(B)/setup.mk: tests/packages tests/setup
	@mkdir -p $(@D)
	@tests/setup
	@touch $@

# -Os: most of the core runs once; what runs at every exit is HOT_SOURCES, below.
# -mgeneral-regs-only: the guest's FPU state stays in the CPU while the core runs.
# -ffunction-sections, -fdata-sections: the linker leaves out what nobody uses.
# -mno-red-zone: traps come on the same stack.  -fno-omit-frame-pointer: backtraces.
# -mcmodel=kernel: the core is linked into the top 2 GiB.
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Werror
CORE_CFLAGS := -std=gnu17 -Os -g -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone \
    -mgeneral-regs-only -ffunction-sections -fdata-sections -fno-omit-frame-pointer -fno-stack-protector -fno-asynchronous-unwind-tables \
    -fcf-protection=none -ffile-prefix-map=$(CURDIR)=. -I. $(WARN)

LIB_SOURCES := vmm/lib/memory.c vmm/lib/string.c vmm/lib/format.c vmm/lib/parse.c vmm/lib/error.c vmm/lib/log.c \
    vmm/lib/calendar.c vmm/lib/suggest.c
ARCH_SOURCES := arch/x86_64/entry.asm arch/x86_64/cpu.c arch/x86_64/trap_stubs.asm arch/x86_64/traps.c \
    arch/x86_64/trap_report.c arch/x86_64/panic.c arch/x86_64/apic.c arch/x86_64/ioapic.c arch/x86_64/tsc.c \
    arch/x86_64/context.asm arch/x86_64/trampoline.asm arch/x86_64/smp.c arch/x86_64/firmware.c arch/x86_64/page_table.c \
    arch/x86_64/insn.c arch/x86_64/insn_table.c arch/x86_64/insn_native.c arch/x86_64/vector.asm arch/x86_64/x87.asm \
    arch/x86_64/native_call.asm arch/x86_64/native.c arch/x86_64/xstate.c
MM_SOURCES := mm/frame.c mm/heap.c mm/host_map.c mm/guest_memory.c
DRIVER_SOURCES := drivers/uart.c drivers/ps2_keyboard.c drivers/font.asm drivers/framebuffer.c drivers/rtc.c
IO_SOURCES := io/bus.c io/clock.c io/lapic.c io/lapic_registers.c io/lapic_page.c io/posted_interrupts.c io/lapic_timer.c io/apic_bus.c \
    io/ioapic.c io/pic.c io/pit.c io/rtc.c io/hpet.c io/serial.c io/i8042.c io/acpi_pm.c io/system_ports.c io/pci.c \
    io/debug_exit.c io/debugcon.c io/testdev.c io/fw_cfg.c io/flash.c io/acpi/tables.asm io/pci_msi.c io/dma.c \
    io/disk_image.c io/ata.c io/ata_identify.c io/atapi.c io/ahci.c io/ahci_command.c
VMM_SOURCES := vmm/main.c vmm/engine.c vmm/load/boot_files.c vmm/vm.c vmm/vm_fit.c vmm/load/guest_boot.c vmm/layout.c \
    vmm/load/guest_image.c vmm/load/load_linux.c vmm/load/load_plan.c vmm/load/elf_image.c vmm/load/load_multiboot.c \
    vmm/load/load_multiboot2.c vmm/load/load_pvh.c vmm/load/load_flat.c vmm/vcpu.c vmm/run.c vmm/exit.c \
    vmm/guest_cpu/control_registers.c vmm/vm_io.c vmm/report.c vmm/run_queue.c vmm/thread.c vmm/vm_pause.c \
    vmm/debug/debug.c vmm/debug/debug_step.c vmm/debug/debug_registers.c vmm/debug/debug_memory.c \
    vmm/debug/gdb_packet.c vmm/debug/gdb_registers.c vmm/debug/gdb_state.c vmm/debug/gdb.c vmm/debug/gdb_port.c \
    vmm/emulate/guest_walk.c vmm/emulate/alu.c vmm/emulate/emulate.c vmm/emulate/emulate_fetch.c \
    vmm/emulate/emulate_memory.c vmm/emulate/emulate_string.c vmm/emulate/emulate_stack.c vmm/emulate/emulate_wide.c \
    vmm/emulate/emulate_vector.c vmm/emulate/emulate_x87.c vmm/emulate/task_switch.c vmm/emulate/task_segments.c \
    vmm/emulate/alu_multiply.c vmm/emulate/emulate_arithmetic.c vmm/emulate/emulate_system.c \
    vmm/emulate/emulate_far.c vmm/emulate/emulate_native.c vmm/guest_cpu/guest_xstate.c vmm/guest_cpu/cpuid.c vmm/guest_cpu/cpuid_timing.c \
    vmm/guest_cpu/msr.c vmm/guest_cpu/msr_mtrr.c vmm/guest_cpu/pvclock.c vmm/config.c vmm/console/console.c \
    vmm/console/host_console.c vmm/console/line_edit.c vmm/console/shell.c vmm/console/commands.c \
    vmm/console/commands_vm.c vmm/console/text_filter.c vmm/console/trace_view.c vmm/console/commands_trace.c vmm/console/commands_host.c \
    vmm/console/commands_top.c vmm/machine.c vmm/storage.c vmm/load/firmware.c vmm/load/fw_config.c \
    vmm/load/acpi_loader.c vmm/test_devices.c vmm/load/acpi_tables.c vmm/load/smbios.c
VMX_SOURCES := $(addprefix arch/x86_64/vmx/, engine.c capabilities.c enable.c vmcs_setup.c vcpu.c apic.c run.c \
    entry.asm decode.c event.c state.c control_registers.c explain.c explain_state.c explain_segments.c)
CORE_SOURCES := $(LIB_SOURCES) $(ARCH_SOURCES) $(MM_SOURCES) $(DRIVER_SOURCES) $(IO_SOURCES) \
    $(VMM_SOURCES) $(VMX_SOURCES)
CORE_OBJECTS := $(patsubst %,$(B)/core/%.o,$(basename $(CORE_SOURCES)))

# Compiled for speed: the way from a guest's exit back into the guest, and what it calls on the way.
HOT_SOURCES := $(addprefix arch/x86_64/vmx/, run.c decode.c event.c state.c vcpu.c apic.c control_registers.c) \
    vmm/lib/memory.c arch/x86_64/apic.c arch/x86_64/page_table.c arch/x86_64/insn.c mm/frame.c mm/guest_memory.c \
    io/bus.c io/clock.c io/lapic.c io/lapic_registers.c io/lapic_page.c io/posted_interrupts.c io/lapic_timer.c io/apic_bus.c io/ioapic.c \
    io/pic.c io/serial.c $(addprefix vmm/, run.c exit.c vcpu.c vm_io.c guest_cpu/control_registers.c \
    guest_cpu/cpuid.c guest_cpu/msr.c run_queue.c thread.c emulate/emulate.c emulate/emulate_fetch.c \
    emulate/emulate_memory.c emulate/emulate_string.c emulate/alu.c emulate/guest_walk.c)
HOT_OBJECTS := $(HOT_SOURCES:%.c=$(B)/core/%.o)
$(HOT_OBJECTS): CORE_CFLAGS += -O2

UNIT_TESTS := $(patsubst tests/unit/test_%.c,$(B)/unit/test_%,$(wildcard tests/unit/test_*.c))
UNIT_CFLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I. -Wall -Wextra \
    -Wno-unused-function -Werror

# Instruction decoder: Debian's source package, compiled with our flags but its own warnings, for size: its tables are
# what counts, and most of the largest one is left out. The unit tests have objects of their own, for the host.
ZYDIS_DIR := $(B)/src/zydis
ZYDIS_NAMES := Decoder DecoderData Formatter FormatterATT FormatterBase FormatterBuffer FormatterIntel \
    Mnemonic Register SharedData String Utils
ZYDIS_FLAGS := -DZYAN_NO_LIBC -DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD -DZYDIS_DISABLE_ENCODER \
    -DZYDIS_DISABLE_SEGMENT -DZYDIS_DISABLE_AVX512 -DZYDIS_DISABLE_KNC -isystem $(ZYDIS_DIR)/include
ZYDIS_OBJECTS := $(ZYDIS_NAMES:%=$(B)/zydis/%.o)
ZYDIS_HOST_OBJECTS := $(ZYDIS_NAMES:%=$(B)/zydis-host/%.o)
ZYDIS_HEADER := $(ZYDIS_DIR)/include/Zydis/Zydis.h
ZYDIS_PRUNED := $(B)/zydis/Generated/InstructionDefinitions.inc
ZYDIS_INCLUDES := -I$(B)/zydis -I$(ZYDIS_DIR)/src

$(ZYDIS_HEADER):
	guests/fetch/fetch-source zydis $(ZYDIS_DIR)

$(ZYDIS_PRUNED): arch/x86_64/zydis-prune $(ZYDIS_HEADER)
	@echo '  PRUNE   $(@D)'
	@arch/x86_64/zydis-prune $(ZYDIS_DIR)/src/Generated $(@D)

$(ZYDIS_OBJECTS): $(B)/zydis/%.o: $(ZYDIS_PRUNED)
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(filter-out $(WARN),$(CORE_CFLAGS)) $(ZYDIS_FLAGS) $(ZYDIS_INCLUDES) -c $(ZYDIS_DIR)/src/$*.c -o $@

$(ZYDIS_HOST_OBJECTS): $(B)/zydis-host/%.o: $(ZYDIS_PRUNED)
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) -std=gnu17 -O1 -g $(ZYDIS_FLAGS) $(ZYDIS_INCLUDES) -c $(ZYDIS_DIR)/src/$*.c -o $@

CORE_OBJECTS += $(ZYDIS_OBJECTS)
INSN_OBJECTS := $(patsubst %,$(B)/core/arch/x86_64/%.o,insn insn_table insn_native)
$(INSN_OBJECTS): CORE_CFLAGS += $(ZYDIS_FLAGS)
$(INSN_OBJECTS): $(ZYDIS_HEADER)

ZYDIS_TESTS := $(B)/unit/test_insn $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_emulate*.c))
$(ZYDIS_TESTS): UNIT_CFLAGS += $(ZYDIS_FLAGS)
$(ZYDIS_TESTS): UNIT_OBJECTS := $(ZYDIS_HOST_OBJECTS)
$(ZYDIS_TESTS): $(ZYDIS_HOST_OBJECTS)
$(B)/unit/test_emulate_compute: UNIT_OBJECTS += $(B)/core/arch/x86_64/native_call.o
$(B)/unit/test_emulate_compute: $(B)/core/arch/x86_64/native_call.o

$(B)/core/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(CORE_CFLAGS) -MMD -MP -c $< -o $@

$(B)/core/%.o: %.asm
	@mkdir -p $(@D)
	@echo '  NASM    $@'
	@$(NASM) -f elf64 -g -F dwarf -MD $(@:.o=.d) -MP -o $@ $<

$(B)/unit/test_%: tests/unit/test_%.c tests/unit/test.h
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(UNIT_CFLAGS) -MMD -MP -MF $@.d $< $(UNIT_OBJECTS) -o $@

# The framebuffer console's font.
FONT_PACKAGE := console-setup-linux
$(B)/font.psf: guests/fetch/fetch-binary
	guests/fetch/fetch-binary $(FONT_PACKAGE) $(B)/packages/$(FONT_PACKAGE)
	gzip -dc $(B)/packages/$(FONT_PACKAGE)/usr/share/consolefonts/Lat15-VGA16.psf.gz > $@.new
	mv $@.new $@
$(B)/core/drivers/font.o: $(B)/font.psf

# The guest's ACPI tables. iasl takes AML and data tables alike; its own preprocessor knows less than the C one.
ACPI_TABLES := dsdt facp facs mcfg
$(B)/acpi/%.aml: io/acpi/%.asl io/acpi/platform.h
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) -E -P -x c -undef -nostdinc -I. $< -o $(B)/acpi/$*.i
	@iasl -we -p $(B)/acpi/$* $(B)/acpi/$*.i > $(B)/acpi/$*.log || (cat $(B)/acpi/$*.log; false)
$(B)/core/io/acpi/tables.o: $(ACPI_TABLES:%=$(B)/acpi/%.aml)
$(B)/unit/test_acpi_tables: UNIT_OBJECTS := $(B)/core/io/acpi/tables.o
$(B)/unit/test_acpi_tables: $(B)/core/io/acpi/tables.o

# The whole machine, with the chips as the core has them: their code is for fixed addresses.
MACHINE_OBJECTS := $(patsubst %.c,$(B)/core/%.o,$(filter io/%.c,$(IO_SOURCES)) vmm/lib/calendar.c)
MACHINE_TESTS := $(B)/unit/test_machine $(B)/unit/test_machine_options
$(MACHINE_TESTS): UNIT_CFLAGS += -no-pie
$(MACHINE_TESTS): UNIT_OBJECTS := $(MACHINE_OBJECTS)
$(MACHINE_TESTS): $(MACHINE_OBJECTS)

# Fuzzers: tests/fuzz/NAME.c and what it is linked with, all instrumented by clang but the decoder's tables.
FUZZ_SECONDS := 60
FUZZ_CC := clang
FUZZ_CFLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I. -Wall -Wextra -Wno-unused \
    -Werror
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_CHIPS := $(patsubst %.c,$(B)/fuzz/%.o,$(filter io/%.c,$(IO_SOURCES)) vmm/lib/calendar.c)
FUZZ_BOOT := $(B)/fuzz/boot/ini_files.o $(B)/fuzz/boot/elf.o
FUZZ_LOADERS := $(patsubst %,$(B)/fuzz/vmm/%.o,lib/format layout load/guest_image load/load_plan load/elf_image load/load_multiboot \
    load/load_multiboot2 load/load_pvh load/load_flat)
$(B)/fuzz/chips: $(FUZZ_CHIPS)
$(B)/fuzz/load_multiboot: $(FUZZ_LOADERS)
$(B)/fuzz/config: $(B)/fuzz/boot/ini_files.o
$(B)/fuzz/elf: $(B)/fuzz/boot/elf.o
$(B)/fuzz/emulate: $(ZYDIS_HOST_OBJECTS)
$(B)/fuzz/emulate: FUZZ_CFLAGS += $(ZYDIS_FLAGS)
$(B)/fuzz/boot/%.o: FUZZ_CFLAGS += -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

$(B)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CLANG   $@'
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

$(FUZZERS): $(B)/fuzz/%: tests/fuzz/%.c tests/fuzz/fuzz.h
	@mkdir -p $(@D)
	@echo '  CLANG   $@'
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -MMD -MP -MF $@.d $< $(filter %.o,$^) -o $@

# The core, with and without what a debugger wants. libgcc: 128-bit division (mul_div() in vmm/lib/bits.h).
LIBGCC := $(shell $(CC) -print-libgcc-file-name)
$(B)/core.elf.debug: $(CORE_OBJECTS) arch/x86_64/core.ld
	@echo '  LD      $@'
	@ld -T arch/x86_64/core.ld -nostdlib -static --gc-sections -z noexecstack -z max-page-size=4096 $(CORE_OBJECTS) $(LIBGCC) -o $@

$(B)/core.elf: $(B)/core.elf.debug
	@echo '  OBJCOPY $@'
	@objcopy --strip-debug $< $@

# The loader: an ELF shared object by GNU-EFI's start-up code and linker script, converted to a UEFI application.
# GNU_EFI_USE_MS_ABI: firmware calls are plain calls.  -fshort-wchar: UEFI's strings are UTF-16.
LOADER_SOURCES := boot/main.c boot/console.c boot/volume.c boot/core_file.c boot/elf.c boot/files.c boot/ini_files.c \
    boot/platform.c boot/acpi.c boot/memory.c boot/memory_map.c boot/page_table.c boot/handover.c
LOADER_OBJECTS := $(LOADER_SOURCES:%.c=$(B)/%.o)
LOADER_CFLAGS := -std=gnu17 -O2 -g -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector \
    -fcf-protection=none -ffile-prefix-map=$(CURDIR)=. -DGNU_EFI_USE_MS_ABI -I. -isystem /usr/include/efi \
    -isystem /usr/include/efi/x86_64 $(WARN)
LOADER_SECTIONS := .text .sdata .data .rodata .dynamic .dynsym .rel .rela .rel.* .rela.* .reloc

$(B)/boot/%.o: boot/%.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(LOADER_CFLAGS) -MMD -MP -c $< -o $@

$(B)/boot/loader.so: $(LOADER_OBJECTS)
	@echo '  LD      $@'
	@ld -nostdlib -shared -Bsymbolic -z noexecstack -T /usr/lib/elf_x86_64_efi.lds /usr/lib/crt0-efi-x86_64.o \
	    $(LOADER_OBJECTS) -L/usr/lib -l:libefi.a -l:libgnuefi.a -o $@

$(B)/BOOTX64.EFI: $(B)/boot/loader.so
	@echo '  OBJCOPY $@'
	@objcopy $(LOADER_SECTIONS:%=-j '%') --target efi-app-x86_64 --subsystem=10 $< $@

include guests/guests.mk

# The disk image: what goes onto a stick.
IMAGE_FILES := guests/vmlinuz guests/initrd.gz

$(B)/plinth.img: boot/mkimage $(B)/BOOTX64.EFI $(B)/core.elf guests/plinth.ini $(IMAGE_FILES:%=$(B)/%)
	$< $@ $(B)/BOOTX64.EFI $(B)/core.elf guests/plinth.ini $(foreach f,$(IMAGE_FILES),$(f)=$(B)/$(f))

.PHONY: image guests run run-usb help clean
image: $(B)/plinth.img
guests: $(B)/guests/vmlinuz $(B)/guests/initrd.gz $(B)/guests/initrd-bench.gz

# What a person may set; an empty MODEL takes the emulator's default.
CPUS := 1
MEMORY := 1024
MODEL :=
EMULATOR := auto
IMAGE := $(B)/plinth.img
RUN = tests/emulate --image $(IMAGE) --cpus $(CPUS) --memory $(MEMORY) --model '$(MODEL)' --emulator $(EMULATOR)

run: $(IMAGE)
	@$(RUN)

run-usb: $(IMAGE)
	@$(RUN) --usb

help:
	@echo 'make image    build $(B)/plinth.img, to be written to a USB stick'
	@echo 'make run      build it and start it in an emulator, its serial console in this terminal'
	@echo 'make run-usb  the same from an emulated USB stick'
	@echo 'make test     run every test;  make check: lint, unit tests and one boot, in under three minutes'
	@echo 'make bench    what exits and a Linux boot cost, in instructions, beside KVM and Xen'
	@echo 'make unit     only the unit tests;  make lint: only lint;  make format: apply .clang-format'
	@echo 'make fuzz     fuzz each parser and device model for FUZZ_SECONDS=$(FUZZ_SECONDS); FUZZER=NAME: that one'
	@echo 'make guests   fetch and build the guests alone'
	@echo 'make clean    remove $(B)/'
	@echo
	@echo 'Variables of run and run-usb, with their present values:'
	@echo '  CPUS=$(CPUS)'
	@echo '  MEMORY=$(MEMORY)          MiB'
	@echo '  EMULATOR=$(EMULATOR)        auto: QEMU with KVM where it offers VT-x, else Bochs; or kvm, bochs, qemu (no VT-x)'
	@echo '  MODEL=$(MODEL)               CPU model; Bochs: corei7_skylake_x unless given; `bochs-bin --help cpu` lists them'
	@echo '  IMAGE=$(IMAGE)'

clean:
	rm -rf $(B)

# Tests. tests/run.py's exit status is the verdict. The quick ones do without most of what has to be fetched.
CHECK_INPUTS := $(B)/BOOTX64.EFI $(B)/core.elf $(B)/guests/vmlinuz $(B)/guests/initrd.gz $(UNIT_TESTS) $(FUZZERS) \
    $(TEST_GUEST_IMAGES)
TEST_INPUTS := $(CHECK_INPUTS) $(B)/guests/vmlinuz-disks $(B)/guests/initrd-disks.gz $(B)/guests/initrd-bench.gz \
    $(KERNELS) $(B)/guests/efi.img $(B)/guests/grub.iso $(B)/guests/isolinux.iso $(LINUX_CDS)
BENCH_INPUTS := $(B)/BOOTX64.EFI $(B)/core.elf $(TEST_GUEST_IMAGES) $(B)/guests/vmlinuz $(B)/guests/initrd.gz \
    $(B)/guests/initrd-bench.gz $(B)/guests/efi-bench.img

.PHONY: test check bench unit fuzz lint format
test: $(TEST_INPUTS) image
	@tests/run.py

check: $(CHECK_INPUTS)
	@tests/run.py --quick

bench: $(BENCH_INPUTS)
	@tests/bench.py

unit: $(UNIT_TESTS)
	@for t in $^; do ./$$t || exit 1; done

# What is found stays in $(B)/fuzz/corpus for the next time; an input that fails, in $(B)/fuzz.
fuzz: $(if $(FUZZER),$(FUZZER:%=$(B)/fuzz/%),$(FUZZERS))
	@for f in $(notdir $^); do echo "fuzz $$f"; mkdir -p $(B)/fuzz/corpus/$$f; \
	    $(B)/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 -verbosity=1 \
	    -artifact_prefix=$(B)/fuzz/$$f- $(B)/fuzz/corpus/$$f tests/fuzz/corpus/$$f || exit 1; done

lint:
	@tests/lint.py

format:
	find . -path ./$(B) -prune -o -name '*.[ch]' -exec clang-format -i {} +

# What is made by a variable's value is made again when that changes: the value is kept in a file of the variable's name.
# Where the tree lies is no difference.
REMEMBERED := CORE_CFLAGS HOT_SOURCES ZYDIS_FLAGS CORE_OBJECTS UNIT_CFLAGS FUZZ_CFLAGS GUEST_CFLAGS LOADER_CFLAGS \
    LOADER_OBJECTS LOADER_SECTIONS GRUB_MODULES GRUB_CD_MODULES GRUB_LINUX_MODULES ISOLINUX_MODULES INITRD_COMMON \
    INITRD_FILES DISKS_MODULES IMAGE_FILES
VALUES := $(B)/values
remembered = $(filter-out -ffile-prefix-map=%,$($(1)))
define remember
ifneq ($$(file <$(VALUES)/$(1)),$$(call remembered,$(1)))
$$(shell mkdir -p $(VALUES))$$(file >$(VALUES)/$(1),$$(call remembered,$(1)))
endif
endef
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),image)),)
$(foreach variable,$(REMEMBERED),$(eval $(call remember,$(variable))))
$(CORE_OBJECTS): $(addprefix $(VALUES)/,CORE_CFLAGS HOT_SOURCES ZYDIS_FLAGS)
$(B)/core.elf.debug: $(VALUES)/CORE_OBJECTS
$(UNIT_TESTS): $(VALUES)/UNIT_CFLAGS
$(ZYDIS_HOST_OBJECTS): $(VALUES)/ZYDIS_FLAGS
$(FUZZERS) $(FUZZ_CHIPS) $(FUZZ_BOOT) $(FUZZ_LOADERS): $(VALUES)/FUZZ_CFLAGS
$(GUEST_LIB) $(CHECK_LIB) $(FUZZ_GUEST) $(TEST_GUEST_IMAGES:.bin=.o): $(VALUES)/GUEST_CFLAGS
$(LOADER_OBJECTS) $(B)/guests/hello.o: $(VALUES)/LOADER_CFLAGS
$(B)/boot/loader.so: $(VALUES)/LOADER_OBJECTS
$(B)/BOOTX64.EFI $(B)/guests/hello.efi: $(VALUES)/LOADER_SECTIONS
$(B)/guests/grubx64.efi: $(VALUES)/GRUB_MODULES
$(B)/guests/grub.iso: $(VALUES)/GRUB_CD_MODULES
$(LINUX_CDS): $(VALUES)/GRUB_LINUX_MODULES
$(B)/guests/isolinux.iso: $(VALUES)/ISOLINUX_MODULES
$(addprefix $(B)/guests/initrd,.gz -disks.gz -i386.gz): $(addprefix $(VALUES)/,INITRD_COMMON INITRD_FILES DISKS_MODULES)
$(B)/plinth.img: $(VALUES)/IMAGE_FILES
endif

# Only what is there: a rule must not try to make these.
-include $(wildcard $(patsubst %.o,%.d,$(CORE_OBJECTS) $(LOADER_OBJECTS) $(FUZZ_CHIPS) $(FUZZ_BOOT) $(FUZZ_LOADERS)) $(UNIT_TESTS:=.d) $(FUZZERS:=.d) \
    $(B)/guests/*.d $(B)/guests/*/*.d)
