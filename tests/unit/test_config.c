// SPDX-License-Identifier: MIT
// vmm/config.c: what a configuration becomes, and every complaint with its line.

#include "tests/unit/test.h"
#include "vmm/lib/format.c"
#include "vmm/lib/parse.c"
#include "vmm/lib/suggest.c"
#include "vmm/config.c"
#include <string.h>

// The library's own string functions, which the host has not.
bool string_copy(char *to, size_t size, const char *from)
{
    int length = snprintf(to, size, "%s", from);
    return length >= 0 && (size_t)length < size;
}

int strcasecmp(const char *a, const char *b);
bool string_equal_nocase(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

static struct config_vm vms[CONFIG_VM_MAX];
static struct config config;
static char error[CONFIG_ERROR_MAX];

// From a copy of exactly its size, so that the sanitizer sees a read past the end.
static bool parse_bytes(const char *text, size_t size)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, text, size);
    bool good = config_parse(copy, size, vms, &config, error);
    free(copy);
    return good;
}

static bool parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

#define CHECK_ERROR(text, message)                                                                 \
    do {                                                                                           \
        CHECK(!parse(text));                                                                       \
        CHECK_STR(error, message);                                                                 \
    } while (0)

#define VM "[vm a]\nkernel = \\k\n"

TEST(everything_is_read)
{
    CHECK(parse("; a comment\n"
                "[plinth]\n"
                "debug-exit = yes\n"
                "log-level = debug   # loud\n"
                "\n"
                "[vm debian-12.a_b]\n"
                "engine = vmx            ; vmx | svm | bt\n"
                "  mmu=ept\n"
                "cpus = 2\n"
                "weight = 300\n"
                "pin = 1 , 0x3\n"
                "memory = 512M\n"
                "pages = 2m\n"
                "kernel = \\guests\\vmlinuz\n"
                "initrd = \\guests\\initrd gz\n"
                "cmdline = console=ttyS0 a;b x#y\n"
                "autostart = yes\n"
                "[vm b]\n"
                "kernel = \\k"));
    CHECK_STR(error, "");
    CHECK_EQ(config.vm_count, 2);
    CHECK(config.debug_exit);
    CHECK_EQ(config.log_level, LOG_DEBUG);
    CHECK_STR(vms[0].name, "debian-12.a_b");
    CHECK_STR(vms[0].engine, "vmx");
    CHECK_STR(vms[0].mmu, "ept");
    CHECK_EQ(vms[0].cpus, 2);
    CHECK_EQ(vms[0].weight, 300);
    CHECK_EQ(vms[0].pin_count, 2);
    CHECK_EQ(vms[0].pin[0], 1);
    CHECK_EQ(vms[0].pin[1], 3);
    CHECK_EQ(vms[0].memory, 512 * MIB);
    CHECK_EQ(vms[0].pages, GUEST_PAGES_2M);
    CHECK_STR(vms[0].kernel, "\\guests\\vmlinuz");
    CHECK_EQ(vms[0].kernel_line, 14);
    CHECK_STR(vms[0].initrd, "\\guests\\initrd gz");
    CHECK_EQ(vms[0].initrd_line, 15);
    CHECK_STR(vms[0].cmdline, "console=ttyS0 a;b x#y");
    CHECK(vms[0].autostart);
    CHECK_EQ(vms[0].line, 6);
    CHECK_EQ(vms[1].line, 18);
    CHECK_STR(vms[1].kernel, "\\k");
}

TEST(what_is_not_given_has_defaults)
{
    CHECK(parse(VM));
    CHECK_STR(vms[0].engine, "auto");
    CHECK_STR(vms[0].mmu, "auto");
    CHECK_EQ(vms[0].cpus, 1);
    CHECK_EQ(vms[0].weight, 100);
    CHECK_EQ(vms[0].pin_count, 0);
    CHECK_EQ(vms[0].memory, 256 * MIB);
    CHECK_EQ(vms[0].pages, GUEST_PAGES_AUTO);
    CHECK_STR(vms[0].initrd, "");
    CHECK_STR(vms[0].cmdline, "");
    CHECK(!vms[0].autostart);
    CHECK(!config.debug_exit);
    CHECK_EQ(config.log_level, LOG_INFO);
}

TEST(empty_files_are_fine)
{
    CHECK(parse(""));
    CHECK_EQ(config.vm_count, 0);
    CHECK(parse("\n\n ; nothing\n\t\n"));
    CHECK(parse("\xef\xbb\xbf"));
}

TEST(editors_on_other_systems)
{
    CHECK(parse("\xef\xbb\xbf[vm a]\r\nkernel = \\k\r\ncpus = 3\r"));
    CHECK_STR(vms[0].kernel, "\\k");
    CHECK_EQ(vms[0].cpus, 3);
    CHECK_ERROR("[vm a]\rkernel = \\k\r",
                "plinth.ini:1: byte 0x0d is not text; save the file as plain text");
}

TEST(unknown_words_with_suggestions)
{
    CHECK_ERROR(VM "memroy = 1G\n", "plinth.ini:3: unknown key 'memroy'; did you mean 'memory'?");
    CHECK_ERROR(VM "colour = red\n", "plinth.ini:3: unknown key 'colour'");
    CHECK_ERROR("[plinth]\nloglevel = info\n",
                "plinth.ini:2: unknown key 'loglevel'; did you mean 'log-level'?");
    CHECK_ERROR("[plinth]\nkernel = \\k\n", "plinth.ini:2: unknown key 'kernel'");
    CHECK_ERROR("[mv a]\n", "plinth.ini:1: unknown section 'mv'; did you mean 'vm'?");
    CHECK_ERROR("[pilnth]\n", "plinth.ini:1: unknown section 'pilnth'; did you mean 'plinth'?");
    CHECK_ERROR("[]\n", "plinth.ini:1: unknown section ''");
    CHECK_ERROR("\n\n[network]\n", "plinth.ini:3: unknown section 'network'");
}

TEST(numbers_and_sizes)
{
    CHECK_ERROR(VM "cpus = two\n", "plinth.ini:3: cpus: 'two' is not a number");
    CHECK_ERROR(VM "cpus = 0\n", "plinth.ini:3: cpus: '0' is out of range; 1 to 64");
    CHECK_ERROR(VM "cpus = 65\n", "plinth.ini:3: cpus: '65' is out of range; 1 to 64");
    CHECK_ERROR(VM "cpus = 4294967297\n",
                "plinth.ini:3: cpus: '4294967297' is out of range; 1 to 64");
    CHECK(parse(VM "cpus = 64\nmemory = 1M\n"));
    CHECK(parse(VM "cpus = 1\nmemory = 1T\n"));
    CHECK_ERROR(VM "memory = lots\n",
                "plinth.ini:3: memory: 'lots' is not a size; write a number with K, M or G");
    CHECK_ERROR(VM "memory = 1023K\n", "plinth.ini:3: memory: '1023K' is out of range; 1M to 1T");
    CHECK_ERROR(VM "memory = 512\n", "plinth.ini:3: memory: '512' is out of range; 1M to 1T");
    CHECK_ERROR(VM "memory = 2T\n", "plinth.ini:3: memory: '2T' is out of range; 1M to 1T");
    CHECK_ERROR(VM "memory = 1050K\n", "plinth.ini:3: memory: '1050K' is not a multiple of 4K");
}

TEST(shares_and_pins)
{
    CHECK(parse(VM "weight = 1"));
    CHECK(parse(VM "weight = 10000"));
    CHECK_ERROR(VM "weight = 0", "plinth.ini:3: weight: '0' is out of range; 1 to 10000");
    CHECK_ERROR(VM "weight = 10001", "plinth.ini:3: weight: '10001' is out of range; 1 to 10000");
    CHECK_ERROR(VM "weight = much", "plinth.ini:3: weight: 'much' is not a number");
    CHECK(parse(VM "pin = 63"));
    CHECK_ERROR(VM "pin = 64", "plinth.ini:3: pin: '64' is out of range; 0 to 63");
    CHECK_ERROR(VM "pin = 1,", "plinth.ini:3: pin: '' is not a number");
    CHECK_ERROR(VM "pin = ,1", "plinth.ini:3: pin: '' is not a number");
    CHECK_ERROR(VM "pin = 1 2", "plinth.ini:3: pin: '1 2' is not a number");
    CHECK_ERROR(VM "pin = 1,2", "plinth.ini:3: pin: 2 CPUs are listed, VM 'a' has only 1");
    CHECK_ERROR(VM "pin = 00000000000000000001",
                "plinth.ini:3: pin: '000000000000000' is not a number");
    CHECK(parse(VM "pin = 1,2\ncpus = 3"));
    char text[400] = VM "cpus = 64\npin = 1";
    for (unsigned i = 1; i < 64; i++)
        strcat(text, ",2");
    CHECK(parse(text));
    strcat(text, ",3");
    CHECK_ERROR(text, "plinth.ini:4: pin: too many CPUs; at most 64");
}

TEST(choices_are_listed)
{
    CHECK_ERROR(VM "engine = vmz\n", "plinth.ini:3: engine: 'vmz' is not one of: auto vmx svm bt");
    CHECK_ERROR(VM "mmu = eptt\n", "plinth.ini:3: mmu: 'eptt' is not one of: auto ept npt shadow");
    CHECK_ERROR(VM "pages = 4M\n", "plinth.ini:3: pages: '4M' is not one of: auto 4K 2M 1G");
    CHECK_ERROR(VM "autostart = maybe\n",
                "plinth.ini:3: autostart: 'maybe' is not one of: no yes off on false true");
    CHECK_ERROR("[plinth]\nlog-level = loud\n",
                "plinth.ini:2: log-level: 'loud' is not one of: error warn info debug");
    CHECK(parse(VM "engine = BT\nmmu = Shadow\nautostart = Off\n"));
    CHECK_STR(vms[0].engine, "bt");
    CHECK_STR(vms[0].mmu, "shadow");
    CHECK(parse(VM "gdb = wait\n"));
    CHECK(vms[0].gdb == CONFIG_GDB_WAIT);
    CHECK_ERROR(VM "gdb = maybe\n", "plinth.ini:3: gdb: 'maybe' is not one of: no yes wait");
    CHECK(parse(VM "triple-fault = reset\n"));
    CHECK(vms[0].triple_fault == CONFIG_TRIPLE_FAULT_RESET);
    CHECK_ERROR(VM "triple-fault = halt\n",
                "plinth.ini:3: triple-fault: 'halt' is not one of: stop reset");
    CHECK(parse(VM "autostart = true\n"));
    CHECK(vms[0].gdb == CONFIG_GDB_NO);
    CHECK(vms[0].triple_fault == CONFIG_TRIPLE_FAULT_STOP);
    CHECK(vms[0].autostart);
}

TEST(sections_and_names)
{
    CHECK_ERROR("kernel = \\k\n",
                "plinth.ini:1: 'kernel' stands before any section; begin with [vm NAME]");
    CHECK_ERROR("[vm a\n", "plinth.ini:1: a section header ends with ']'");
    CHECK_ERROR("[", "plinth.ini:1: a section header ends with ']'");
    CHECK_ERROR("[vm]\n", "plinth.ini:1: a VM needs a name: [vm NAME]");
    CHECK_ERROR("[vm a b]\n",
                "plinth.ini:1: VM name 'a b' may hold letters, digits, '_', '.' and '-' only");
    CHECK_ERROR("[vm \xc3\xa9]\n",
                "plinth.ini:1: VM name '\xc3\xa9' may hold letters, digits, '_', '.' and '-' only");
    CHECK_ERROR("[vm abcdefghijklmnopqrstuvwxyz0123456]\n",
                "plinth.ini:1: VM name 'abcdefghijklmnopqrstuvwxyz012345...' is too long; at most "
                "31 characters");
    CHECK_ERROR(VM VM, "plinth.ini:3: VM 'a' is defined already in line 1");
    CHECK_ERROR("[plinth]\n[plinth]\n", "plinth.ini:2: section [plinth] is given twice");
    CHECK_ERROR("[plinth x]\n", "plinth.ini:1: [plinth] takes no name");
    CHECK_ERROR(VM "hello\n", "plinth.ini:3: 'hello' is neither [section] nor key = value");
}

TEST(a_vm_has_a_kernel_or_firmware)
{
    CHECK_ERROR("[vm a]\nkernel = \\k\nfirmware = \\f\n",
                "plinth.ini:3: VM 'a' has a kernel too; give one of the two");
    CHECK_ERROR("[vm a]\nkernel = \\k\nnvram = \\n\n",
                "plinth.ini:3: nvram is for firmware, and VM 'a' has a kernel");
    CHECK_ERROR("[vm a]\nfirmware = \\f\ncmdline = quiet\n",
                "plinth.ini:2: initrd and cmdline are for a kernel, and VM 'a' has firmware");
    CHECK_ERROR("[vm a]\nfirmware = \\f\ninitrd = \\i\n",
                "plinth.ini:2: initrd and cmdline are for a kernel, and VM 'a' has firmware");
}

TEST(keys)
{
    CHECK_ERROR(VM "cpus = 1\ncpus = 1\n", "plinth.ini:4: cpus is given twice in this section");
    CHECK_ERROR(VM "cpus =\n", "plinth.ini:3: cpus has no value");
    CHECK_ERROR(VM "cpus = ; two\n", "plinth.ini:3: cpus has no value");
    CHECK_ERROR(VM "[vm b]\ncpus = 1\n",
                "plinth.ini:3: VM 'b' has no kernel; add kernel = \\path\\file, or firmware");
    CHECK_ERROR(
        "[vm a]\nkernel = vmlinuz\n",
        "plinth.ini:2: kernel: 'vmlinuz' must be a path from the volume's root: \\folder\\file");
    CHECK_ERROR("[vm a]\nkernel = \\a/b\n",
                "plinth.ini:2: kernel: a path cannot hold '/'; folders are divided by '\\'");
}

TEST(limits_on_length)
{
    char text[4096];
    snprintf(text, sizeof(text), VM "cmdline = %0*d\n", CONFIG_CMDLINE_MAX - 1, 7);
    CHECK(parse(text));
    CHECK_EQ(strlen(vms[0].cmdline), CONFIG_CMDLINE_MAX - 1);
    snprintf(text, sizeof(text), VM "cmdline = %0*d\n", CONFIG_CMDLINE_MAX, 7);
    CHECK_ERROR(text, "plinth.ini:3: cmdline is too long; at most 1023 characters");
    snprintf(text, sizeof(text), VM "initrd = \\%0*d\n", BOOT_NAME_MAX - 1, 7);
    CHECK_ERROR(text, "plinth.ini:3: initrd is too long; at most 127 characters");
    snprintf(text, sizeof(text), "\n;%0*d\n", CONFIG_LINE_MAX, 7);
    CHECK_ERROR(text, "plinth.ini:2: line too long; at most 1151 characters");
}

TEST(bytes_that_are_not_text)
{
    CHECK(!parse_bytes("[plinth]\nlog\0level", 18));
    CHECK_STR(error, "plinth.ini:2: byte 0x00 is not text; save the file as plain text");
    CHECK_ERROR("[vm \033[2J]\n",
                "plinth.ini:1: byte 0x1b is not text; save the file as plain text");
}

TEST(too_many_vms)
{
    char text[4096];
    int length = 0;
    for (int i = 0; i <= CONFIG_VM_MAX; i++)
        length +=
            snprintf(text + length, sizeof(text) - (size_t)length, "[vm v%d]\nkernel = \\k\n", i);
    CHECK_ERROR(text, "plinth.ini:65: too many VMs; at most 32");
    text[length - 23] = 0;
    CHECK(parse(text));
    CHECK_EQ(config.vm_count, CONFIG_VM_MAX);
}

TEST(any_bytes_are_harmless)
{
    static const char pieces[][12] = {"[vm ",     "a",  "]",  "\n", "[plinth]\n",   "kernel", "=",
                                      " ",        "\\", ";",  "#",  "cpus",         "memory", "1",
                                      "99999999", "M",  "\r", "\t", "\xef\xbb\xbf", "["};
    srand(1);
    for (int i = 0; i < 20000; i++) {
        char text[512] = "";
        for (int n = rand() % 30; n; n--)
            strcat(text, pieces[rand() % (int)ARRAY_SIZE(pieces)]);
        parse(text);
        CHECK(strlen(error) < CONFIG_ERROR_MAX);
    }
}

TEST(ways_to_boot)
{
    CHECK(parse(VM));
    CHECK_EQ(vms[0].boot, GUEST_BOOT_AUTO);
    CHECK_EQ(vms[0].mode, GUEST_MODE_REAL);
    CHECK_EQ(vms[0].load, 0x7c00);
    CHECK(parse(VM "boot = flat\nload = 0x100000\nmode = long\n"));
    CHECK_EQ(vms[0].boot, GUEST_BOOT_FLAT);
    CHECK_EQ(vms[0].mode, GUEST_MODE_LONG);
    CHECK_EQ(vms[0].load, 0x100000);
    CHECK_ERROR(VM "boot = grub\n",
                "plinth.ini:3: boot: 'grub' is not one of: auto linux multiboot2 multiboot pvh "
                "flat");
    CHECK_ERROR(VM "load = here\n", "plinth.ini:3: load: 'here' is not an address");
}

TEST(modules)
{
    CHECK(parse(VM "module = \\xen dom0 a=b  c ; comment\nmodule=\\m\t\nboot = pvh\n"
                   "[vm b]\nkernel = \\k\nmodule = \\third \\x\n"));
    CHECK_EQ(vms[0].boot, GUEST_BOOT_PVH);
    CHECK_EQ(vms[0].module_count, 2);
    CHECK_STR(vms[0].modules[0].name, "\\xen");
    CHECK_STR(vms[0].modules[0].arguments, "dom0 a=b  c");
    CHECK_EQ(vms[0].modules[0].line, 3);
    CHECK_STR(vms[0].modules[1].name, "\\m");
    CHECK_STR(vms[0].modules[1].arguments, "");
    CHECK_EQ(vms[0].modules[1].line, 4);
    CHECK_STR(vms[1].modules[0].arguments, "\\x");
    CHECK_ERROR(VM "module = file x\n",
                "plinth.ini:3: module: 'file' must be a path from the volume's root: "
                "\\folder\\file");
    CHECK_ERROR(VM "module =\n", "plinth.ini:3: module has no value");
    char text[4096];
    snprintf(text, sizeof(text), VM "module = \\a %0*d\n", CONFIG_MODULE_ARGUMENTS_MAX, 7);
    CHECK_ERROR(text, "plinth.ini:3: the text behind module is too long; at most 255 characters");
    snprintf(text, sizeof(text), VM "module = \\%0*d x\n", BOOT_NAME_MAX - 1, 7);
    CHECK_ERROR(text, "plinth.ini:3: module: the path is too long; at most 127 characters");
    int length = snprintf(text, sizeof(text), VM);
    for (int i = 0; i <= CONFIG_MODULES_MAX; i++)
        length += snprintf(text + length, sizeof(text) - (size_t)length, "module = \\m%d\n", i);
    CHECK_ERROR(text, "plinth.ini:11: too many modules; at most 8");
}

TEST(lists_of_devices)
{
    CHECK(parse(VM));
    CHECK_EQ(vms[0].devices, 0);
    CHECK(parse(VM "devices = fwcfg\n"));
    CHECK_EQ(vms[0].devices, CONFIG_FW_CFG);
    CHECK(parse(VM "devices = debug-exit,testdev ,  debugcon\n"));
    CHECK_EQ(vms[0].devices, CONFIG_DEBUG_EXIT | CONFIG_TESTDEV | CONFIG_DEBUGCON);
    CHECK_ERROR(
        VM "devices = debug-exit, disk\n",
        "plinth.ini:3: devices: 'disk' is not one of: debug-exit debugcon testdev fwcfg hpet");
    CHECK_ERROR(VM "devices = testdev,\n",
                "plinth.ini:3: devices: '' is not one of: debug-exit debugcon testdev fwcfg hpet");
    CHECK_ERROR(VM "devices = 0123456789012345678901234567890123456789\n",
                "plinth.ini:3: devices: '01234567890123456789012345678901' is too long for a name");
}

TEST(disks)
{
    CHECK(parse(VM "disk = \\one.img\ndisk2 = \\two.img\ncdrom = \\disc.iso"));
    CHECK_STR(vms[0].disk[0].name, "\\one.img");
    CHECK_EQ(vms[0].disk[0].line, 3);
    CHECK_STR(vms[0].disk[1].name, "\\two.img");
    CHECK_EQ(vms[0].disk[1].line, 4);
    CHECK_STR(vms[0].cdrom.name, "\\disc.iso");
    CHECK_EQ(vms[0].cdrom.line, 5);
    CHECK_ERROR(
        VM "disk = one.img",
        "plinth.ini:3: disk: 'one.img' must be a path from the volume's root: \\folder\\file");
}
