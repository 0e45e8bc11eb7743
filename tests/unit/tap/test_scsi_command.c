#include "tap/scsi/command.h"

#include <criterion/criterion.h>
#include <string.h>

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
    {{0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8}, 16, COMMAND_WRITE, "ORWRITE(16)", 7, 8},
    {{0x53, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_WRITE, "XDWRITEREAD(10)", 7, 8},
    {{0x50, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_WRITE, "XDWRITE(10)", 7, 8},
    {{0x51, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_WRITE, "XPWRITE(10)", 7, 8},
    {{0x28, 0, 0, 0, 0, 7, 0, 0, 8}, 10, COMMAND_READ, "READ(10)", 7, 8},
    {{0x08, 0, 0, 7, 0}, 6, COMMAND_READ, "READ(6)", 7, 256},
    {{0x9f, 0x12, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 8},
     16,
     COMMAND_SCATTERED,
     "WRITE SCATTERED(16)",
     0,
     8},
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
            cr_expect(command_changes_media(&command) || c->kind == COMMAND_FLUSH ||
                      c->kind == COMMAND_READ);
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
    static const uint8_t pairs[][2] = {{0x94, 0x04}, {0x80, 0}, {0x81, 0}, {0x82, 0}};
    static const uint8_t formats[] = {0x04, 0x48, 0x38};
    for (size_t i = 0; i < sizeof formats; i++)
        cr_expect_eq(parse(formats[i], 1).kind, COMMAND_FORMAT, "%02xh", formats[i]);
    cr_expect_eq(parse(0x07, 0).kind, COMMAND_REASSIGN);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        cr_expect_eq(parse(pairs[i][0], pairs[i][1]).kind, COMMAND_OPAQUE_VOLUME, "%02xh",
                     pairs[i][0]);
    cr_expect_eq(parse(0x83, 0x00).kind, COMMAND_EXTENDED_COPY);
    cr_expect_eq(parse(0x83, 0x01).kind, COMMAND_EXTENDED_COPY);
    cr_expect_eq(parse(0x83, 0x11).kind, COMMAND_WRITE_TOKEN);
    cr_expect_eq(parse(0x83, 0x10).kind, COMMAND_POPULATE);
    cr_expect_eq(parse(0x84, 0x07).kind, COMMAND_TOKENS);
    cr_expect_eq(parse(0x84, 0x00).kind, COMMAND_HARMLESS);
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

Test(scsi_command, disable_write_leaves_the_medium_alone) {
    cr_assert_eq(parse(0x53, 0x04).kind, COMMAND_HARMLESS);
    cr_assert_eq(parse(0x50, 0x04).kind, COMMAND_HARMLESS);
    cr_assert(parse(0x53, 0x01).protect, "XORPINFO");
    cr_assert(parse(0x53, 0x20).protect, "WRPROTECT");
    cr_assert(parse(0x53, 0x08).fua);
    cr_assert_eq(parse(0x53, 0).combination, COMBINE_REPLACE);
    uint8_t cdb[32] = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x07, 0x04};
    struct command command;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_HARMLESS);
    cdb[10] = 0;
    cdb[19] = 5;
    cdb[31] = 6;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert(command.kind == COMMAND_WRITE && command.lba == 5 && command.blocks == 6);
}

Test(scsi_command, what_is_combined_with_what_was_there) {
    cr_assert_eq(parse(0x8b, 0).combination, COMBINE_OR);
    cr_assert(parse(0x8b, 0x20).protect);
    cr_assert_eq(parse(0x51, 0).combination, COMBINE_XOR);
    cr_assert(parse(0x51, 0x01).protect, "XORPINFO");
    cr_assert_not(parse(0x51, 0xe0).protect, "XPWRITE has no WRPROTECT");
    uint8_t cdb[32] = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x06};
    struct command command;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert(command.kind == COMMAND_WRITE && command.combination == COMBINE_XOR);
}

/* SBC-4 5.11: BMOP in byte 2, PREVIOUS GENERATION PROCESSING in 3, EXPECTED ORWGENERATION at 20. */
Test(scsi_command, generations_of_orwrite) {
    uint8_t cdb[32] = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0e};
    struct command command;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert(command.kind == COMMAND_WRITE && command.combination == COMBINE_OR);
    cr_assert_not(command.clears || command.by_generation);
    cdb[23] = 9;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert(command.by_generation && !command.clears);
    cdb[2] = 1;
    cdb[3] = 5;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert(command.clears && command.policy == 5);
    cdb[2] = 2;
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_OPAQUE_RANGE, "reserved");
}

Test(scsi_command, write_scattered) {
    struct command command;
    const uint8_t cdb[16] = {0x9f, 0x12, 0x28, 0, 1, 2, 0, 0, 3, 4, 5, 6, 7, 8};
    command_parse(cdb, sizeof cdb, &command);
    cr_assert_eq(command.kind, COMMAND_SCATTERED);
    cr_assert_eq(command.data_offset, 0x0102);
    cr_assert_eq(command.range_count, 0x0304);
    cr_assert_eq(command.blocks, 0x05060708);
    cr_assert(command.protect && command.fua);
    uint8_t longer[32] = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x11, 0x08, 0, 1, 2, 0, 0, 3, 4};
    longer[31] = 7;
    command_parse(longer, sizeof longer, &command);
    cr_assert(command.kind == COMMAND_SCATTERED && command.data_offset == 0x0102);
    cr_assert(command.range_count == 0x0304 && command.blocks == 7);
    cr_assert(command.fua && !command.protect);
    for (size_t bytes = 0; bytes < sizeof longer; bytes++) {
        command_parse(longer, bytes, &command);
        cr_expect_eq(command.kind, COMMAND_UNKNOWN, "%zu", bytes);
    }
}

Test(scsi_command, small_fields) {
    cr_assert(parse(0x3f, 0x40).spoils && parse(0x3f, 0x80).spoils && !parse(0x3f, 0x20).spoils);
    cr_assert(parse(0x3f, 0x20).physical);
    cr_assert(parse(0x9f, 0x71).spoils && parse(0x9f, 0x71).physical);
    cr_assert(parse(0x07, 0x02).long_form && parse(0x07, 0x01).long_list);
    cr_assert(parse(0x5f, 0x05).aborts);
    for (uint8_t action = 0; action < 0x20; action++)
        cr_expect_eq(parse(0x5f, action).aborts, action == 5);
    const uint8_t token[16] = {0x83, 0x11, 0, 0, 0, 0, 1, 2, 3, 4};
    struct command command;
    command_parse(token, sizeof token, &command);
    cr_assert(command.kind == COMMAND_WRITE_TOKEN && command.list_id == 0x01020304);
    const uint8_t information[16] = {0x84, 0x07, 1, 2, 3, 4};
    command_parse(information, sizeof information, &command);
    cr_assert(command.kind == COMMAND_TOKENS && command.list_id == 0x01020304);
}

/* SBC-4 5.30: only a stop that is waited for leaves nothing in the cache. */
Test(scsi_command, start_stop_unit) {
    const struct {
        uint8_t cdb[6];
        enum command_kind kind;
    } cases[] = {
        {{0x1b, 0, 0, 0, 0x00}, COMMAND_FLUSH},    {{0x1b, 1, 0, 0, 0x00}, COMMAND_HARMLESS},
        {{0x1b, 0, 0, 0, 0x01}, COMMAND_HARMLESS}, {{0x1b, 0, 0, 0, 0x04}, COMMAND_HARMLESS},
        {{0x1b, 0, 0, 0, 0x30}, COMMAND_HARMLESS}, {{0x1b, 0, 0, 0, 0x02}, COMMAND_FLUSH},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct command command;
        command_parse(cases[i].cdb, 6, &command);
        cr_expect_eq(command.kind, cases[i].kind, "%zu", i);
    }
}

Test(scsi_command, extended_cdb_is_unknown_and_named) {
    char text[64];
    struct command command = parse(0x7e, 0);
    cr_assert_eq(command.kind, COMMAND_UNKNOWN);
    cr_assert(command_changes_media(&command));
    cr_assert_not_null(strstr(command_text(&command, text, sizeof text), "7eh"));
}

/* SAT-5 12.2: byte 1 has PROTOCOL and EXTEND; then features, count, LBA, device, command. */
static struct command ata16(uint8_t protocol, bool extended, uint8_t features, uint8_t count,
                            uint8_t ata) {
    uint8_t cdb[16] = {0x85};
    cdb[1] = (uint8_t)(protocol << 1 | (extended ? 1 : 0));
    cdb[4] = features;
    cdb[5] = extended ? 1 : 0;
    cdb[6] = count;
    cdb[7] = 0x44; /* LBA 24 to 31 */
    cdb[8] = 0x11;
    cdb[9] = 0x55;
    cdb[10] = 0x22;
    cdb[11] = 0x66;
    cdb[12] = 0x33;
    cdb[13] = 0x4a;
    cdb[14] = ata;
    struct command command;
    command_parse(cdb, sizeof cdb, &command);
    return command;
}

enum { NO_DATA = 3, PIO_IN = 4, PIO_OUT = 5, DMA = 6, DMA_OUT = 11 };

Test(scsi_command, ata_pass_through_that_changes_nothing) {
    cr_assert_eq(ata16(PIO_IN, false, 0, 1, 0xec).kind, COMMAND_HARMLESS, "IDENTIFY DEVICE");
    cr_assert_eq(ata16(NO_DATA, false, 0xda, 0, 0xb0).kind, COMMAND_HARMLESS, "SMART");
    cr_assert_eq(ata16(NO_DATA, false, 0, 0, 0xe5).kind, COMMAND_HARMLESS, "CHECK POWER MODE");
    cr_assert_eq(ata16(NO_DATA, true, 0, 0, 0xea).kind, COMMAND_HARMLESS, "FLUSH CACHE EXT");
    cr_assert_eq(ata16(DMA, true, 0, 8, 0x25).kind, COMMAND_HARMLESS, "READ DMA EXT");
    cr_assert_eq(ata16(PIO_IN, false, 0, 0, 0xfc).kind, COMMAND_HARMLESS, "unknown, data-in");
    cr_assert_eq(ata16(NO_DATA, true, 0, 0, 0xb4).kind, COMMAND_HARMLESS, "SANITIZE STATUS EXT");
    cr_assert_eq(ata16(PIO_OUT, false, 0xd6, 1, 0xb0).kind, COMMAND_HARMLESS, "log 11h");
}

Test(scsi_command, ata_pass_through_that_writes) {
    char text[64];
    struct command command = ata16(DMA_OUT, true, 0, 2, 0x35);
    cr_assert_eq(command.kind, COMMAND_OPAQUE_RANGE);
    cr_assert_eq(command.lba, 0x665544332211);
    cr_assert_eq(command.blocks, 0x102);
    cr_assert_str_eq(command_text(&command, text, sizeof text),
                     "ATA PASS-THROUGH(16) (WRITE DMA EXT)");
    command = ata16(DMA_OUT, false, 0, 0, 0xca);
    cr_assert_eq(command.kind, COMMAND_OPAQUE_RANGE);
    cr_assert_eq(command.lba, 0x0a332211, "28 bits, the highest in the device register");
    cr_assert_eq(command.blocks, 256);
    cr_assert(ata16(NO_DATA, true, 0x55, 2, 0x45).spoils, "WRITE UNCORRECTABLE EXT");
    cr_assert_eq(ata16(DMA_OUT, false, 0, 2, 0x35).kind, COMMAND_OPAQUE_VOLUME, "without EXTEND");
    cr_assert_eq(ata16(DMA, true, 1, 1, 0x06).kind, COMMAND_ATA_TRIM);
    cr_assert_eq(ata16(PIO_OUT, false, 0, 1, 0xf4).kind, COMMAND_OPAQUE_VOLUME, "SECURITY ERASE");
    cr_assert_eq(ata16(NO_DATA, true, 0x12, 0, 0xb4).kind, COMMAND_OPAQUE_VOLUME, "BLOCK ERASE");
    cr_assert_eq(ata16(NO_DATA, true, 0, 0, 0x37).kind, COMMAND_FORMAT, "SET MAX ADDRESS EXT");
    cr_assert_eq(ata16(DMA_OUT, false, 0, 0, 0xfc).kind, COMMAND_OPAQUE_VOLUME, "unknown");
}

Test(scsi_command, ata_pass_through_of_other_lengths) {
    const uint8_t twelve[12] = {0xa1, DMA_OUT << 1, 0, 0, 4, 0x11, 0x22, 0x33, 0x4a, 0xca};
    struct command command;
    command_parse(twelve, sizeof twelve, &command);
    cr_assert(command.kind == COMMAND_OPAQUE_RANGE && command.lba == 0x0a332211);
    cr_assert_eq(command.blocks, 4);
    uint8_t thirty_two[32] = {0x7f, 0, 0, 0,   0, 0, 0, 0x18, 0x1f, 0xf0, DMA_OUT << 1 | 1,
                              0,    0, 0, 1,   2, 3, 4, 5,    6,    0,    0,
                              7,    8, 0, 0x35};
    command_parse(thirty_two, sizeof thirty_two, &command);
    cr_assert(command.kind == COMMAND_OPAQUE_RANGE && command.lba == 0x010203040506);
    cr_assert_eq(command.blocks, 0x0708);
    for (size_t bytes = 10; bytes < sizeof thirty_two; bytes++) {
        command_parse(thirty_two, bytes, &command);
        cr_expect_eq(command.kind, COMMAND_OPAQUE_VOLUME, "cut to %zu bytes", bytes);
    }
}
