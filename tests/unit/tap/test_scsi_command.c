#include "tap/scsi/command.h"

#include <criterion/criterion.h>

struct range_case {
    uint8_t cdb[32];
    size_t bytes;
    enum command_kind kind;
    const char *name;
    uint64_t lba;
    uint64_t blocks;
};

/* Every layout, with a number in each byte of its address and length. */
static const struct range_case range_cases[] = {
    {{0x0a, 0x1f, 0x22, 0x33, 0x05}, 6, COMMAND_WRITE, "WRITE(6)", 0x1f2233, 5},
    {{0x0a, 0xff, 0x22, 0x33, 0x00}, 6, COMMAND_WRITE, "WRITE(6)", 0x1f2233, 256},
    {{0x2a, 0, 1, 2, 3, 4, 9, 5, 6}, 10, COMMAND_WRITE, "WRITE(10)", 0x01020304, 0x0506},
    {{0x2a, 0, 1, 2, 3, 4, 9, 0, 0}, 10, COMMAND_WRITE, "WRITE(10)", 0x01020304, 0},
    {{0xaa, 0, 1, 2, 3, 4, 5, 6, 7, 8}, 12, COMMAND_WRITE, "WRITE(12)", 0x01020304, 0x05060708},
    {{0x8a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
     16,
     COMMAND_WRITE,
     "WRITE(16)",
     0x0102030405060708,
     0x090a0b0c},
    {{0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0b, 0, 0, 1, 2,  3,  4,
      5,    6, 7, 8, 0, 0, 0, 0,    0, 0,    0, 0, 9, 10, 11, 12},
     32,
     COMMAND_WRITE,
     "WRITE(32)",
     0x0102030405060708,
     0x090a0b0c},
    {{0x2e, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_WRITE, "WRITE AND VERIFY(10)", 7, 8},
    {{0xae, 0, 0, 0, 0, 7, 0, 0, 0, 8}, 12, COMMAND_WRITE, "WRITE AND VERIFY(12)", 7, 8},
    {{0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8},
     16,
     COMMAND_WRITE,
     "WRITE AND VERIFY(16)",
     7,
     8},
    {{0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 7, 99, 99, 0x01, 8},
     16,
     COMMAND_WRITE,
     "WRITE ATOMIC(16)",
     7,
     0x108},
    {{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 9, 9, 9, 8},
     16,
     COMMAND_COMPARE_WRITE,
     "COMPARE AND WRITE",
     7,
     8},
    {{0x41, 0, 0, 0, 0, 7, 0, 1, 0}, 10, COMMAND_WRITE_SAME, "WRITE SAME(10)", 7, 256},
    {{0x93, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0},
     16,
     COMMAND_WRITE_SAME,
     "WRITE SAME(16)",
     7,
     65536},
    {{0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0d, 0, 0, 0, 0, 0, 0,
      0,    0, 0, 7, 0, 0, 0, 0,    0, 0,    0, 0, 0, 0, 0, 8},
     32,
     COMMAND_WRITE_SAME,
     "WRITE SAME(32)",
     7,
     8},
    {{0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8}, 16, COMMAND_OPAQUE_RANGE, "ORWRITE(16)", 7, 8},
    {{0x53, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_OPAQUE_RANGE, "XDWRITEREAD(10)", 7, 8},
    {{0x3f, 0x40, 0, 0, 0, 7, 0, 2, 8}, 10, COMMAND_OPAQUE_RANGE, "WRITE LONG(10)", 7, 1},
    {{0x9f, 0x11, 0, 0, 0, 0, 0, 0, 0, 7}, 16, COMMAND_OPAQUE_RANGE, "WRITE LONG(16)", 7, 1},
    {{0x35, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_FLUSH, "SYNCHRONIZE CACHE(10)", 7, 8},
};

Test(scsi_command, ranges_of_every_layout) {
    for (size_t i = 0; i < sizeof range_cases / sizeof range_cases[0]; i++) {
        const struct range_case *c = &range_cases[i];
        struct command command;
        command_parse(c->cdb, c->bytes, &command);
        cr_expect_eq(command.kind, c->kind, "%s", c->name);
        cr_expect_str_eq(command.name, c->name);
        cr_expect_eq(command.lba, c->lba, "%s", c->name);
        cr_expect_eq(command.blocks, c->blocks, "%s: %lu", c->name, command.blocks);
    }
}

/* A CDB that ends before its length field must not be taken for a command of fewer blocks. */
Test(scsi_command, cut_anywhere_is_unknown) {
    for (size_t i = 0; i < sizeof range_cases / sizeof range_cases[0]; i++) {
        const struct range_case *c = &range_cases[i];
        for (size_t bytes = 0; bytes < c->bytes; bytes++) {
            struct command command;
            command_parse(c->cdb, bytes, &command);
            bool whole =
                command.kind == c->kind && command.lba == c->lba && command.blocks == c->blocks;
            cr_expect(whole || command.kind == COMMAND_UNKNOWN, "%s cut to %zu bytes", c->name,
                      bytes);
            cr_expect(command_changes_media(&command) || c->kind == COMMAND_FLUSH);
        }
    }
}

static struct command parse(uint8_t opcode, uint8_t flags) {
    const uint8_t cdb[16] = {opcode, flags};
    struct command command;
    command_parse(cdb, sizeof cdb, &command);
    return command;
}

Test(scsi_command, flags) {
    cr_assert(parse(0x2a, 0x08).fua);
    cr_assert_not(parse(0x2a, 0x10).fua, "DPO is not FUA");
    cr_assert_not(parse(0x0a, 0x08).fua, "these are address bits in WRITE(6)");
    cr_assert(parse(0x2e, 0x00).fua, "WRITE AND VERIFY reaches the medium");
    cr_assert(parse(0x8a, 0x20).protect);
    cr_assert_not(parse(0x8a, 0x1f).protect);
    cr_assert(parse(0x93, 0x08).unmap);
    cr_assert(parse(0x93, 0x01).no_data);
    cr_assert_not(parse(0x41, 0x01).no_data, "WRITE SAME(10) has no NDOB");
    cr_assert(parse(0x93, 0x02).altered && parse(0x93, 0x04).altered);
    cr_assert(parse(0x35, 0x02).immediate);
    cr_assert(parse(0x12, 0x01).vital);
}

Test(scsi_command, what_changes_nothing_is_known_as_such) {
    static const uint8_t harmless[] = {0x00, 0x03, 0x08, 0x12, 0x1a, 0x1b, 0x1d, 0x1e, 0x25,
                                       0x28, 0x2f, 0x3b, 0x4c, 0x5a, 0x5e, 0x5f, 0x84, 0x88,
                                       0x8f, 0x35, 0x91, 0xa0, 0xa3, 0xa8, 0xaf};
    for (size_t i = 0; i < sizeof harmless; i++) {
        struct command command = parse(harmless[i], 0);
        cr_expect_neq(command.kind, COMMAND_UNKNOWN, "%02xh", harmless[i]);
        cr_expect_not(command_changes_media(&command), "%02xh", harmless[i]);
    }
}

Test(scsi_command, what_may_change_everything_is_known_as_such) {
    static const uint8_t pairs[][2] = {{0x04, 0},    {0x07, 0}, {0x48, 1}, {0x38, 0}, {0x94, 0x04},
                                       {0x9f, 0x12}, {0x80, 0}, {0x81, 0}, {0x82, 0}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        cr_expect_eq(parse(pairs[i][0], pairs[i][1]).kind, COMMAND_OPAQUE_VOLUME, "%02xh",
                     pairs[i][0]);
    cr_expect_eq(parse(0x83, 0x00).kind, COMMAND_EXTENDED_COPY);
    cr_expect_eq(parse(0x83, 0x01).kind, COMMAND_EXTENDED_COPY);
    cr_expect_eq(parse(0x83, 0x11).kind, COMMAND_WRITE_TOKEN);
    cr_expect_eq(parse(0x83, 0x10).kind, COMMAND_HARMLESS);
    cr_expect_eq(parse(0x83, 0x1f).kind, COMMAND_UNKNOWN);
}

Test(scsi_command, vendor_codes_are_unknown_and_named) {
    char text[64];
    for (unsigned opcode = 0xc0; opcode <= 0xff; opcode++) {
        struct command command = parse((uint8_t)opcode, 0);
        cr_expect_eq(command.kind, COMMAND_UNKNOWN);
        cr_expect(command_changes_media(&command));
    }
    struct command vendor = parse(0xc1, 0);
    cr_assert_str_eq(command_text(&vendor, text, sizeof text), "operation code c1h");
    struct command action = parse(0x9f, 0x1e);
    cr_assert_str_eq(command_text(&action, text, sizeof text),
                     "operation code 9fh, service action 001eh");
}

/* SAT: PROTOCOL in byte 1, the ATA command in byte 14 of the 16-byte form, 9 of the 12-byte one. */
Test(scsi_command, ata_pass_through) {
    uint8_t cdb[16] = {0x85};
    struct command command;
    cdb[1] = 4 << 1; /* PIO data-in: IDENTIFY DEVICE, SMART READ DATA */
    cdb[14] = 0xec;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_HARMLESS);
    cdb[1] = 3 << 1; /* no data: CHECK POWER MODE */
    cdb[14] = 0xe5;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_HARMLESS);
    cdb[14] = 0xf4; /* SECURITY ERASE UNIT */
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_ATA);
    cdb[1] = 6 << 1; /* DMA: DATA SET MANAGEMENT (TRIM) */
    cdb[14] = 0x06;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_ATA);
    cr_assert(command_changes_media(&command));
}
