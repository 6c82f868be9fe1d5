// SPDX-License-Identifier: MIT
#include "tests/unit/disk_rig.h"

TEST(ports_show_their_drives)
{
    start();
    CHECK_EQ(rd(HBA_PI), 3);
    CHECK_EQ(rd(PORT(0) + PORT_SIG), 0x00000101);
    CHECK_EQ(rd(PORT(1) + PORT_SIG), 0xeb140101);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
    CHECK_EQ(received(0, 0x40), 0x34);
    CHECK_EQ(rd(PORT(2) + PORT_SSTS), 0);
}

TEST(dma_read_and_its_interrupt)
{
    start();
    command(0x25, 10, 4, 2048);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 10 * 512, 2048), 0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
    CHECK_EQ(rd(HBA_IS), 1);
    CHECK_EQ(moved(0), 2048);
    CHECK_EQ(received(0, 0x42), 0x50);
    unsigned line = 16 + pci_intx_line(PCI_DEVFN(0x1f, 2), 1);
    CHECK(chip_level[line]);
    wr(PORT(0) + PORT_IS, ~0u);
    wr(HBA_IS, 1);
    CHECK(!chip_level[line]);
}

TEST(pio_read_sends_a_setup_fis)
{
    start();
    command(0x20, 1, 1, 512);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 512, 512), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_PIO_SETUP);
    CHECK_EQ(received(0, 0x20), 0x5f);
    CHECK_EQ(received(0, 0x20 + 15), 0x50);
}

TEST(a_write_is_read_back_and_leaves_the_file)
{
    start();
    memset(memory + DATA, 0xab, 1024);
    command(0x35, 20, 2, 1024);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    memset(memory + DATA, 0, 2048);
    command(0xc8, 19, 4, 2048);
    CHECK_EQ(memory[DATA + 511], disk_file[19 * 512 + 511]);
    CHECK_EQ(memory[DATA + 512], 0xab);
    CHECK_EQ(memory[DATA + 1535], 0xab);
    CHECK_EQ(memory[DATA + 1536], disk_file[22 * 512]);
    CHECK_EQ(disk_file[20 * 512], (u8)(20 * 7 + 20 * 512));
}

TEST(a_transfer_is_cut_into_steps)
{
    u8 fis[20];
    const struct piece piece = {DATA, 400 * 512};
    start();
    ata_fis(fis, 0x25, 0, 400);
    prepare(0, 0, fis, NULL, &piece, 1);
    wr(PORT(0) + PORT_CI, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    CHECK(rd(PORT(0) + PORT_TFD) & ATA_STATUS_BUSY);
    CHECK(ahci.ports[0].moved <= STEP_BYTES);
    chip_pass(SECOND);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(memcmp(memory + DATA, disk_file, 400 * 512), 0);
}

TEST(a_step_ends_when_its_time_is_up)
{
    u8 fis[20];
    struct piece pieces[600];
    start();
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct piece){DATA + 2 * i, 2};
    ata_fis(fis, 0x25, 5, 2);
    prepare(0, 0, fis, NULL, pieces, ARRAY_SIZE(pieces));
    wr(PORT(0) + PORT_CI, 1);
    CHECK(ahci.ports[0].moved < 1024); // small pieces cost more than their bytes
    chip_pass(SECOND);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 5 * 512, 1024), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(queued_commands_finish_by_device_bits)
{
    u8 fis[20];
    start();
    for (unsigned slot = 0; slot < 32; slot++) {
        const struct piece piece = {DATA + slot * 512, 512};
        ata_fis(fis, 0x60, slot * 3, 0);
        fis[3] = 1;
        fis[12] = (u8)(slot << 3);
        prepare(0, slot, fis, NULL, &piece, 1);
    }
    wr(PORT(0) + PORT_SACT, ~0u);
    issue(0, ~0u);
    CHECK_EQ(rd(PORT(0) + PORT_SACT), 0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_DEVICE_BITS);
    CHECK_EQ(received(0, 0x58), 0xa1);
    for (unsigned slot = 0; slot < 32; slot++)
        CHECK_EQ(memcmp(memory + DATA + slot * 512, disk_file + slot * 3 * 512, 512), 0);
}

TEST(a_sector_past_the_end_halts_the_port_until_it_is_restarted)
{
    start();
    command(0x25, SECTORS - 1, 2, 1024);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), ATA_ERROR_NOT_FOUND << 8 | 0x51);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_TASK_FILE);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    recover(0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    command(0x25, SECTORS - 1, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
}

TEST(addresses_that_are_no_memory_are_a_host_bus_error)
{
    u8 fis[20];
    const struct piece wild = {MEMORY - 512, 1024}, rom = {DATA - PAGE_SIZE, 512};
    start();
    ata_fis(fis, 0x25, 0, 2);
    prepare(0, 0, fis, NULL, &wild, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    recover(0);
    prepare(0, 0, fis, NULL, &rom, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    recover(0);
    wr(PORT(0) + PORT_CLBU, 1);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    wr(PORT(0) + PORT_CLBU, 0);
    recover(0);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
}

TEST(a_table_that_is_too_short_ends_the_command)
{
    start();
    command(0x25, 0, 4, 512);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_OVERFLOW);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(moved(0), 512);
}

TEST(a_bad_fis_is_an_interface_error)
{
    u8 fis[20];
    start();
    ata_fis(fis, 0x25, 0, 1);
    fis[0] = 0x41;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_INTERFACE);
}

TEST(a_link_reset_brings_the_signature_again)
{
    start();
    wr(PORT(0) + PORT_CMD, PORT_CMD_FIS_ENABLE);
    wr(PORT(0) + PORT_SCTL, 1);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x7f);
    wr(PORT(0) + PORT_SCTL, 0);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_PHY_READY);
    wr(PORT(0) + PORT_IS, ~0u);
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT);
    wr(PORT(0) + PORT_SERR, ~0u);
    CHECK(!(rd(PORT(0) + PORT_IS) & PORT_IS_CONNECT));
}

TEST(a_software_reset_brings_the_signature_again)
{
    u8 fis[20] = {0x27};
    start();
    command(0x25, 7, 1, 512);
    fis[15] = ATA_CONTROL_RESET;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    fis[15] = 0;
    prepare(0, 0, fis, NULL, NULL, 0);
    issue(0, 1);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(received(0, 0x44), 1);
    CHECK_EQ(received(0, 0x4c), 1);
    CHECK_EQ(rd(PORT(0) + PORT_TFD), 0x150);
}

TEST(an_adapter_reset_gives_up_what_goes_on)
{
    u8 fis[20];
    const struct piece piece = {DATA, 400 * 512};
    start();
    ata_fis(fis, 0x25, 0, 400);
    prepare(0, 0, fis, NULL, &piece, 1);
    wr(PORT(0) + PORT_CI, 1);
    wr(HBA_GHC, GHC_RESET);
    CHECK_EQ(rd(HBA_GHC), GHC_AHCI);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK(!io_timer_armed(&ahci.step));
    CHECK_EQ(rd(PORT(0) + PORT_CLB), LIST);
}

TEST(without_bus_mastering_commands_wait)
{
    start();
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2,
                         PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
}

TEST(slots_are_served_in_turn_from_the_first_on)
{
    u8 fis[20];
    start();
    for (unsigned slot = 0; slot < 3; slot++) { // all to one place: the last one stays
        const struct piece piece = {DATA, 512};
        ata_fis(fis, 0x25, slot, 1);
        prepare(0, slot, fis, NULL, &piece, 1);
    }
    issue(0, 7);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 2 * 512, 512), 0);
    issue(0, 3);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 512, 512), 0);
    issue(0, 5); // 2 comes before 0 now
    CHECK_EQ(memcmp(memory + DATA, disk_file, 512), 0);
    recover(0);
    issue(0, 3);
    CHECK_EQ(memcmp(memory + DATA, disk_file + 512, 512), 0);
}

TEST(parts_of_registers_can_be_written)
{
    struct io_device *d = &ahci.registers;
    start();
    wr(PORT(0) + PORT_IE, 0);
    d->ops->write(d, PORT(0) + PORT_IE + 3, 1, 0x40);
    d->ops->write(d, PORT(0) + PORT_IE, 2, 0x0003);
    CHECK_EQ(rd(PORT(0) + PORT_IE), 0x40000003);
    d->ops->write(d, PORT(0) + PORT_CMD + 3, 1, 1); // ATAPI; the port goes on
    CHECK_EQ(rd(PORT(0) + PORT_CMD) & (PORT_CMD_ATAPI | PORT_CMD_START),
             PORT_CMD_ATAPI | PORT_CMD_START);
    command(0x20, 0, 1, 512);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_PIO_SETUP | PORT_IS_REGISTER);
    d->ops->write(d, PORT(0) + PORT_IS, 1, PORT_IS_PIO_SETUP);
    CHECK_EQ(rd(PORT(0) + PORT_IS), PORT_IS_REGISTER);
    d->ops->write(d, PORT(0) + PORT_CLB, 8, 1ull << 32 | 0x5000);
    CHECK_EQ(rd(PORT(0) + PORT_CLB), 0x5000);
    CHECK_EQ(rd(PORT(0) + PORT_CLBU), 1);
    d->ops->write(d, PORT(0) + PORT_CLB + 2, 4, ~0u); // across two
    CHECK_EQ(rd(PORT(0) + PORT_CLB), 0x5000);
}

TEST(the_interrupt_status_is_cleared_by_ones_in_it)
{
    struct io_device *d = &ahci.registers;
    start();
    command(0x25, 0, 1, 512);
    wr(PORT(0) + PORT_IS, ~0u); // it stays
    CHECK_EQ(rd(HBA_IS), 1);
    d->ops->write(d, HBA_IS + 1, 1, 0);
    wr(HBA_PI, 1);
    wr(HBA_CAP, 1);
    CHECK_EQ(rd(HBA_IS), 1);
    CHECK_EQ(chip_read(d, HBA_CAP + 1, 4), rd(HBA_CAP) >> 8 | rd(HBA_GHC) << 24);
    ahci.pci.reset(&ahci.pci);
    CHECK_EQ(rd(HBA_IS), 0);
    CHECK_EQ(rd(PORT(0) + PORT_CLB), 0);
    CHECK_EQ(rd(PORT(0) + PORT_FB), 0);
}

TEST(the_link_is_no_faster_than_its_limit)
{
    start();
    wr(PORT(0) + PORT_CMD, PORT_CMD_FIS_ENABLE);
    wr(PORT(0) + PORT_SCTL, 0x11);
    wr(PORT(0) + PORT_SCTL, 0x10);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x113);
    wr(PORT(0) + PORT_SCTL, 0x30);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x113); // until the next time it comes up
    wr(PORT(0) + PORT_SCTL, 0x31);
    wr(PORT(0) + PORT_SCTL, 0x30);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
}

TEST(an_error_of_a_stopped_port_is_gone_when_it_starts)
{
    start();
    wr(PORT(0) + PORT_CMD, 0);
    wr(PORT(0) + PORT_FBU, 1);
    wr(PORT(0) + PORT_SCTL, 1);
    wr(PORT(0) + PORT_SCTL, 0);
    wr(PORT(0) + PORT_CMD, PORT_CMD_FIS_ENABLE); // the signature goes nowhere
    CHECK(rd(PORT(0) + PORT_IS) & PORT_IS_HOST_BUS);
    wr(PORT(0) + PORT_CMD, 0);
    wr(PORT(0) + PORT_FBU, 0);
    start_port(0);
    command(0x25, 0, 1, 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
}

TEST(each_event_is_a_message)
{
    start();
    u64 msi = 0xfa000 + ahci.msi.offset;
    host.ecam.ops->write(&host.ecam, msi + MSI_ADDRESS, 4, 0xfee00000);
    host.ecam.ops->write(&host.ecam, msi + MSI_DATA, 2, 0x55);
    host.ecam.ops->write(&host.ecam, msi + MSI_CONTROL, 2, MSI_ENABLE);
    command(0x25, 0, 1, 512);
    CHECK_EQ(messages, 1);
    CHECK(!chip_level[16 + pci_intx_line(PCI_DEVFN(0x1f, 2), 1)]);
    wr(PORT(0) + PORT_IS, ~0u);
    wr(HBA_IS, 1);
    CHECK_EQ(messages, 1);
    command(0x25, 0, 1, 512);
    CHECK_EQ(messages, 2);
    wr(HBA_IS, 1); // while the port still has something to say
    CHECK_EQ(messages, 3);
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    wr(HBA_IS, 1);
    CHECK_EQ(messages, 3); // a message is a write to memory
}

static void set_command(u16 value)
{
    host.ecam.ops->write(&host.ecam, 0xfa000 + PCI_COMMAND, 2, value);
}

TEST(a_message_waits_for_bus_mastering)
{
    start();
    u64 msi = 0xfa000 + ahci.msi.offset;
    host.ecam.ops->write(&host.ecam, msi + MSI_ADDRESS, 4, 0xfee00000);
    host.ecam.ops->write(&host.ecam, msi + MSI_DATA, 2, 0x55);
    host.ecam.ops->write(&host.ecam, msi + MSI_CONTROL, 2, MSI_ENABLE);
    wr(PORT(0) + PORT_IE, 0);
    command(0x25, 0, 1, 512);
    set_command(PCI_COMMAND_MEMORY);
    wr(PORT(0) + PORT_IE, ~0u); // now there is something to say
    CHECK_EQ(rd(HBA_IS), 1);
    CHECK_EQ(messages, 0);
    set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    CHECK_EQ(messages, 1);
    set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    CHECK_EQ(messages, 1);
    set_command(PCI_COMMAND_MEMORY);
    wr(HBA_IS, 1); // once more,
    wr(PORT(0) + PORT_IS, ~0u);
    wr(HBA_IS, 1); // and it is all over
    set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    CHECK_EQ(messages, 1);
}

TEST(a_link_reset_stops_a_port_that_runs)
{
    u8 fis[20];
    const struct piece piece = {DATA, 400 * 512};
    start();
    ata_fis(fis, 0x25, 0, 400);
    prepare(0, 0, fis, NULL, &piece, 1);
    wr(PORT(0) + PORT_CI, 1);
    wr(PORT(0) + PORT_SCTL, 1);
    wr(PORT(0) + PORT_SCTL, 0);
    CHECK_EQ(rd(PORT(0) + PORT_SSTS), 0x123);
    memset(memory + DATA, 0xee, 512);
    chip_pass(SECOND);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 1);
    CHECK_EQ(memory[DATA], 0xee);
    recover(0);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    command(0x25, 0, 400, 400 * 512);
    CHECK_EQ(rd(PORT(0) + PORT_CI), 0);
    CHECK_EQ(memcmp(memory + DATA, disk_file, 400 * 512), 0);
}

// Mostly commands that there are, mostly with addresses that are memory.
static void random_command(unsigned port, unsigned slot)
{
    bool wild = chip_random() % 8 == 0;
    const struct piece pieces[2] = {
        {chip_random() % (wild ? 2 * MEMORY : MEMORY / 2) + DATA / 2,
         (u32)chip_random() % 4096 + 1},
        {chip_random() % (wild ? ~0ull : MEMORY / 2), (u32)chip_random() + 1}};
    u8 fis[20], packet[12] = {packet_rows[chip_random() % ARRAY_SIZE(packet_rows)].code};
    u8 code = command_rows[chip_random() % ARRAY_SIZE(command_rows)].command;
    ata_fis(fis, wild ? (u8)chip_random() : code, chip_random() % (SECTORS + 10),
            (u16)chip_random() % (wild ? 65536 : 64));
    fis[3] = (u8)chip_random() % 16;
    for (unsigned i = 1; i < 12; i++)
        packet[i] = (u8)(chip_random() & (i % 3 ? 0x3f : 0xff));
    memset(packet + 2, 0, wild ? 0 : 3); // an address on the disc or just behind it
    memset(packet + 6, 0, wild ? 0 : 2);
    if (port && chip_random() % 4)
        fis[2] = PACKET;
    prepare(port, slot, fis, port ? packet : NULL, pieces, 2);
}

static void random_registers(void)
{
    const struct chip_ports registers = {&ahci.registers, AHCI_BAR_SIZE / 8};
    if (chip_random() % 8 == 0)
        chip_fuzz(&registers, 1, 4);
    for (unsigned i = 0; i < 2; i++) {
        if (ahci.ports[i].linked && !ahci.ports[i].halted && chip_random() % 16)
            continue;
        wr(PORT(i) + PORT_CMD, 0);
        wr(PORT(i) + PORT_SCTL, SCTL_INITIALIZE);
        wr(PORT(i) + PORT_SCTL, 0);
        wr(PORT(i) + PORT_CLBU, 0);
        wr(PORT(i) + PORT_FBU, 0);
        start_port(i);
    }
}

TEST(random_registers_and_lists_do_no_harm)
{
    unsigned moving = 0;
    start();
    for (unsigned round = 0; round < 20000; round++) {
        unsigned port = chip_random() % 2, slot = chip_random() % 32;
        random_command(port, slot);
        wr(PORT(port) + PORT_CI, 1u << slot);
        chip_pass(chip_random() % MS);
        moving += ahci.ports[port].moved != 0;
        random_registers();
    }
    CHECK(moving > 3000); // most of it is not about ports that stand still
    ahci_destroy(&ahci);
    CHECK(!io_timer_armed(&ahci.step));
}
