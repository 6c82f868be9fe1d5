# SPDX-License-Identifier: MIT
# Plinth. `make help` lists what a person would call. Sources are listed by folder, in reading order.

B := build
CC := gcc
NASM := nasm

# -mgeneral-regs-only: the guest's FPU state stays in the CPU while the core runs.
# -mno-red-zone: traps come on the same stack.  -fno-omit-frame-pointer: backtraces.
# -mcmodel=kernel: the core is linked into the top 2 GiB.
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Werror
CORE_CFLAGS := -std=gnu17 -O2 -g -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone \
    -mgeneral-regs-only -fno-omit-frame-pointer -fno-stack-protector -fno-asynchronous-unwind-tables \
    -fcf-protection=none -ffile-prefix-map=$(CURDIR)=. -I. $(WARN)

LIB_SOURCES := vmm/lib/memory.c vmm/lib/string.c vmm/lib/format.c vmm/lib/parse.c vmm/lib/error.c vmm/lib/log.c
ARCH_SOURCES := arch/x86_64/entry.asm arch/x86_64/page_table.c
MM_SOURCES :=
DRIVER_SOURCES := drivers/uart.c drivers/ps2_keyboard.c drivers/font.asm drivers/framebuffer.c
IO_SOURCES := io/bus.c io/clock.c
VMM_SOURCES :=
VMX_SOURCES :=
CORE_SOURCES := $(LIB_SOURCES) $(ARCH_SOURCES) $(MM_SOURCES) $(DRIVER_SOURCES) $(IO_SOURCES) \
    $(VMM_SOURCES) $(VMX_SOURCES)
CORE_OBJECTS := $(patsubst %,$(B)/core/%.o,$(basename $(CORE_SOURCES)))

UNIT_TESTS := $(patsubst tests/unit/test_%.c,$(B)/unit/test_%,$(wildcard tests/unit/test_*.c))
UNIT_CFLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I. -Wall -Wextra \
    -Wno-unused-function -Werror

$(B)/core/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) -MMD -MP -c $< -o $@

$(B)/core/%.o: %.asm
	@mkdir -p $(@D)
	$(NASM) -f elf64 -g -F dwarf -MD $(@:.o=.d) -MP -o $@ $<

$(B)/unit/test_%: tests/unit/test_%.c tests/unit/test.h
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -MMD -MP -MF $@.d $< -o $@

# The framebuffer console's font.
FONT_PACKAGE := console-setup-linux
$(B)/font.psf: guests/fetch/fetch-binary
	guests/fetch/fetch-binary $(FONT_PACKAGE) $(B)/packages/$(FONT_PACKAGE)
	gzip -dc $(B)/packages/$(FONT_PACKAGE)/usr/share/consolefonts/Lat15-VGA16.psf.gz > $@.new
	mv $@.new $@
$(B)/core/drivers/font.o: $(B)/font.psf

.PHONY: unit
unit: $(UNIT_TESTS)
	@for t in $^; do ./$$t || exit 1; done

-include $(CORE_OBJECTS:.o=.d) $(UNIT_TESTS:=.d)
