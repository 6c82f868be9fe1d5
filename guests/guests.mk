# SPDX-License-Identifier: MIT
# Included by the Makefile: our own test guests, then the systems of others that are run as guests.

# Test guests: bzImage-shaped and multiboot kernels, one source file each on top of guests/lib.
TEST_GUESTS := bench ipi hostile tasks forms devices debug
CHECK_GUESTS := sensitive exceptions traps cpu paging access edges apic delivery xstate mmio ahci smp time witness
GUEST_CFLAGS := $(filter-out -Os -mcmodel=kernel -fno-omit-frame-pointer,$(CORE_CFLAGS)) -O2
GUEST_LIB := $(addprefix $(B)/guests/lib/, start.o guest.o smp_start.o smp.o samples.o)
CHECK_LIB := $(GUEST_LIB) $(B)/guests/lib/check.o
TEST_GUEST_IMAGES := $(TEST_GUESTS:%=$(B)/guests/%.bin) $(CHECK_GUESTS:%=$(B)/guests/%.bin)

$(B)/guests/lib/%.o: guests/lib/%.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@

$(B)/guests/lib/%.o: guests/lib/%.asm
	@mkdir -p $(@D)
	@echo '  NASM    $@'
	@$(NASM) -f elf64 -o $@ $<

$(B)/guests/%.bin: $(B)/guests/%.elf
	@echo '  OBJCOPY $@'
	@objcopy -O binary $< $@

define test_guest_rule
$(B)/guests/$(1).o: guests/$(1)/$(1).c
	@mkdir -p $$(@D)
	@echo '  CC      $$@'
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c $$< -o $$@
$(B)/guests/$(1).elf: $(B)/guests/$(1).o $(2) guests/lib/guest.ld
	@echo '  LD      $$@'
	@ld -T guests/lib/guest.ld -nostdlib -z noexecstack --no-warn-rwx-segments $(2) $$< -o $$@
endef
$(foreach guest,$(TEST_GUESTS),$(eval $(call test_guest_rule,$(guest),$(GUEST_LIB))))
$(foreach guest,$(CHECK_GUESTS),$(eval $(call test_guest_rule,$(guest),$(CHECK_LIB))))

# The guest fuzzer: several files, and a flat image for its second CPU.
FUZZ_GUEST := $(addprefix $(B)/guests/fuzz/, fuzz.o world.o devices.o trial.o instruction.o modes.o)
TEST_GUEST_IMAGES += $(B)/guests/fuzz.bin
$(B)/guests/fuzz/%.o: guests/fuzz/%.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@
$(B)/guests/fuzz/modes.o: guests/fuzz/modes.asm
	@mkdir -p $(@D)
	@echo '  NASM    $@'
	@$(NASM) -f bin -o $(@:.o=.flat) $<
	@echo '.data; .globl fuzz_modes, fuzz_modes_end; fuzz_modes: .incbin "$(@:.o=.flat)"; fuzz_modes_end:' | \
	    $(CC) -c -x assembler -o $@ -
$(B)/guests/fuzz.elf: $(FUZZ_GUEST) $(CHECK_LIB) guests/lib/guest.ld
	@echo '  LD      $@'
	@ld -T guests/lib/guest.ld -nostdlib -z noexecstack --no-warn-rwx-segments $(CHECK_LIB) $(FUZZ_GUEST) -o $@

# The Linux guest: Debian's kernel, and a small system of busybox alone. Fetched and unpacked, not installed.
FETCH_BINARY := guests/fetch/fetch-binary
BUSYBOX := $(B)/packages/busybox-static/bin/busybox
GUESTBENCH := $(B)/guests/guestbench
INITRD_COMMON := console proc/ sys/ tmp/ root/ busybox:$(BUSYBOX) bin/guestbench=$(GUESTBENCH)
INITRD_FILES := init=guests/linux/init etc/inittab=guests/linux/inittab etc/motd=guests/linux/motd

$(B)/guests/vmlinuz:
	@mkdir -p $(@D)
	$(FETCH_BINARY) --dependency '^linux-image-[0-9]' linux-image-cloud-amd64 $(B)/packages/linux
	cp $(B)/packages/linux/boot/vmlinuz-* $@

# The same for loaders of ELF files: it is a PVH kernel as well.
$(B)/guests/vmlinux: guests/linux/extract-vmlinux $(B)/guests/vmlinuz
	$^ $@

$(BUSYBOX):
	$(FETCH_BINARY) busybox-static $(B)/packages/busybox-static
	touch $@

$(GUESTBENCH): guests/linux/guestbench.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) -std=gnu17 -O2 -ffreestanding -fno-pie -no-pie -fno-stack-protector -fcf-protection=none $(WARN) \
	    -Wl,--build-id=none -static -nostdlib -s $< -o $@

$(B)/guests/initrd.gz: guests/linux/mkinitrd $(BUSYBOX) $(GUESTBENCH) guests/linux/init guests/linux/inittab \
    guests/linux/motd
	$< $@ $(INITRD_COMMON) $(INITRD_FILES)

# The same with Debian's general kernel, whose modules drive disks.
DISKS_MODULES := scsi/scsi_common scsi/scsi_mod scsi/sd_mod scsi/sr_mod ata/libata ata/libahci ata/ahci cdrom/cdrom
DISKS_MODULES := $(DISKS_MODULES:%=drivers/%) fs/isofs/isofs block/t10-pi lib/crc-t10dif lib/crc64 lib/crc64-rocksoft \
    crypto/crct10dif_common
DISKS_SPECS = $(foreach m,$(DISKS_MODULES),lib/modules/$(1)/$(notdir $(m)).ko=$(2)/lib/modules/$(1)/kernel/$(m).ko)

$(B)/guests/vmlinuz-disks:
	@mkdir -p $(@D)
	$(FETCH_BINARY) --dependency '^linux-image-[0-9]' linux-image-amd64 $(B)/packages/linux-disks
	cp $(B)/packages/linux-disks/boot/vmlinuz-* $@

$(B)/guests/initrd-disks.gz: guests/linux/mkinitrd $(BUSYBOX) $(B)/guests/vmlinuz-disks guests/linux/init \
    guests/linux/inittab guests/linux/motd
	$< $@ $(filter-out bin/guestbench%,$(INITRD_COMMON)) $(INITRD_FILES) mnt/ \
	    $(call DISKS_SPECS,$(notdir $(wildcard $(B)/packages/linux-disks/lib/modules/*)),$(B)/packages/linux-disks)

# 32-bit: Debian's kernels with and without PAE.
BUSYBOX_I386 := $(B)/packages/busybox-static-i386/bin/busybox

$(B)/guests/vmlinuz-686-pae $(B)/guests/vmlinuz-686: $(B)/guests/vmlinuz-%:
	@mkdir -p $(@D)
	$(FETCH_BINARY) --dependency '^linux-image-[0-9]' linux-image-$*:i386 $(B)/packages/linux-$*
	cp $(B)/packages/linux-$*/boot/vmlinuz-* $@

$(BUSYBOX_I386):
	$(FETCH_BINARY) busybox-static:i386 $(B)/packages/busybox-static-i386
	touch $@

$(B)/guests/initrd-i386.gz: guests/linux/mkinitrd $(BUSYBOX_I386) guests/linux/init guests/linux/inittab guests/linux/motd
	$< $@ $(patsubst %:$(BUSYBOX),%:$(BUSYBOX_I386),$(filter-out bin/guestbench%,$(INITRD_COMMON))) $(INITRD_FILES)

$(B)/guests/initrd-bench.gz: guests/linux/mkinitrd $(GUESTBENCH)
	$< $@ console init=$(GUESTBENCH)

# Kernels that tests boot as they are.
$(B)/guests/memtest $(B)/guests/memtest32 &:
	@mkdir -p $(@D)
	$(FETCH_BINARY) memtest86+ $(B)/packages/memtest86+
	cp $(B)/packages/memtest86+/boot/memtest86+x64.bin $(B)/guests/memtest
	cp $(B)/packages/memtest86+/boot/memtest86+ia32.bin $(B)/guests/memtest32

$(B)/guests/xen:
	@mkdir -p $(@D)
	$(FETCH_BINARY) xen-hypervisor-4.17-amd64 $(B)/packages/xen
	gzip -dc $(B)/packages/xen/boot/xen-4.17-amd64.gz > $@

INSTALLER := usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
$(B)/guests/vmlinuz-installer $(B)/guests/initrd-installer.gz &:
	@mkdir -p $(@D)
	$(FETCH_BINARY) debian-installer-12-netboot-amd64 $(B)/packages/installer
	cp $(B)/packages/installer/$(INSTALLER)/linux $(B)/guests/vmlinuz-installer
	cp $(B)/packages/installer/$(INSTALLER)/initrd.gz $(B)/guests/initrd-installer.gz

$(B)/guests/u-boot.rom $(B)/guests/u-boot32.rom &:
	@mkdir -p $(@D)
	$(FETCH_BINARY) u-boot-qemu $(B)/packages/u-boot
	cp $(B)/packages/u-boot/usr/lib/u-boot/qemu-x86_64/u-boot.rom $(B)/guests/u-boot.rom
	cp $(B)/packages/u-boot/usr/lib/u-boot/qemu-x86/u-boot.rom $(B)/guests/u-boot32.rom

KERNELS := $(B)/guests/vmlinux $(B)/guests/vmlinuz-686-pae $(B)/guests/vmlinuz-686 $(B)/guests/initrd-i386.gz \
    $(B)/guests/memtest $(B)/guests/memtest32 $(B)/guests/xen $(B)/guests/vmlinuz-installer \
    $(B)/guests/initrd-installer.gz $(B)/guests/u-boot.rom $(B)/guests/u-boot32.rom

# What firmware in a VM starts: a UEFI application on a FAT disk, and GRUB on a CD.
$(B)/guests/hello.o: guests/hello/hello.c
	@mkdir -p $(@D)
	@echo '  CC      $@'
	@$(CC) $(LOADER_CFLAGS) -MMD -MP -c $< -o $@

$(B)/guests/hello.so: $(B)/guests/hello.o
	@echo '  LD      $@'
	@ld -nostdlib -shared -Bsymbolic -z noexecstack -T /usr/lib/elf_x86_64_efi.lds /usr/lib/crt0-efi-x86_64.o \
	    $< -L/usr/lib -l:libefi.a -l:libgnuefi.a -o $@

$(B)/guests/hello.efi: $(B)/guests/hello.so
	@echo '  OBJCOPY $@'
	@objcopy $(LOADER_SECTIONS:%=-j '%') --target efi-app-x86_64 --subsystem=10 $< $@

# Under UEFI, GRUB uses the firmware's console: the firmware reads the serial line itself, beside whoever else does.
GRUB_MODULES := echo lsmmap halt reboot normal smbios
GRUB_CD_MODULES := $(GRUB_MODULES) serial terminal iso9660 biosdisk
GRUB_LINUX_MODULES := linux linux16 normal serial terminal test iso9660
GRUB_EFI := $(B)/packages/grub-efi/usr/lib/grub/x86_64-efi
GRUB_EFI_MODULES := $(GRUB_EFI)/moddep.lst
$(GRUB_EFI_MODULES):
	$(FETCH_BINARY) grub-efi-amd64-bin $(B)/packages/grub-efi
	touch $@

$(B)/guests/grubx64.efi: $(GRUB_EFI_MODULES)
	@mkdir -p $(@D)
	grub-mkimage -O x86_64-efi -d $(GRUB_EFI) -p / -o $@ $(GRUB_MODULES)

$(B)/guests/efi.img: $(B)/guests/hello.efi $(B)/guests/grubx64.efi
	@echo '  FAT     $@'
	@rm -f $@ && mformat -C -f 1440 -i $@ :: && mcopy -i $@ $^ ::

# For the bench: the shell starts the application by itself.
$(B)/guests/efi-bench.img: $(B)/guests/hello.efi guests/hello/startup.nsh
	@echo '  FAT     $@'
	@rm -f $@ && mformat -C -f 1440 -i $@ :: && mcopy -i $@ $^ ::

# grub-cd MODULES,OPTIONS: a CD with GRUB and its configuration, the first prerequisite; $@.files is what else lies on it.
define grub-cd
	@mkdir -p $@.files/boot/grub && cp $< $@.files/boot/grub/grub.cfg
	@grub-mkrescue $(2) --install-modules="$(1)" --locales= --themes= --fonts= -o $@ $@.files > $@.log 2>&1 || \
	    (cat $@.log; false)
endef

$(B)/guests/grub.iso: guests/grub/grub.cfg
	@echo '  ISO     $@'
	$(call grub-cd,$(GRUB_CD_MODULES),)

# Linux on a CD: a 32-bit one for legacy firmware, a 64-bit one for UEFI.
LINUX_CDS := $(B)/guests/linux-bios.iso $(B)/guests/linux-efi.iso
$(B)/guests/linux-bios.iso: guests/grub/linux.cfg $(B)/guests/vmlinuz-686 $(B)/guests/initrd-i386.gz
$(B)/guests/linux-efi.iso: guests/grub/linux.cfg $(B)/guests/vmlinuz $(B)/guests/initrd.gz $(GRUB_EFI_MODULES)
$(B)/guests/linux-efi.iso: GRUB_CD_OPTIONS := -d $(GRUB_EFI)
$(LINUX_CDS):
	@echo '  ISO     $@'
	@mkdir -p $@.files && cp $(word 2,$^) $@.files/vmlinuz && cp $(word 3,$^) $@.files/initrd.gz
	$(call grub-cd,$(GRUB_LINUX_MODULES),$(GRUB_CD_OPTIONS))

# A CD of Syslinux' family, and iPXE in its 16-bit form, which only a BIOS' services can start.
ISOLINUX_MODULES := ldlinux libcom32 libutil libgpl libmenu menu hdt
$(B)/guests/isolinux.iso: guests/isolinux/isolinux.cfg guests/isolinux/menu.cfg
	$(FETCH_BINARY) isolinux $(B)/packages/isolinux
	$(FETCH_BINARY) syslinux-common $(B)/packages/syslinux
	$(FETCH_BINARY) ipxe $(B)/packages/ipxe
	@echo '  ISO     $@'
	@rm -rf $(@D)/isolinux && mkdir -p $(@D)/isolinux/isolinux
	@cp $^ $(B)/packages/isolinux/usr/lib/ISOLINUX/isolinux.bin $(B)/packages/syslinux/usr/lib/syslinux/memdisk \
	    $(ISOLINUX_MODULES:%=$(B)/packages/syslinux/usr/lib/syslinux/modules/bios/%.c32) $(@D)/isolinux/isolinux
	@cp $(B)/packages/ipxe/boot/ipxe.lkrn $(@D)/ && cp $(B)/packages/ipxe/boot/ipxe.lkrn $(@D)/isolinux
	@mformat -C -f 1440 -i $(@D)/isolinux/floppy.img ::
	@xorriso -as mkisofs -quiet -o $@ -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
	    -boot-load-size 4 -boot-info-table $(@D)/isolinux > $@.log 2>&1 || (cat $@.log; false)
