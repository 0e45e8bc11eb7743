#include "tap/scsi/command.h"

#include "common/cursor.h"
#include "tap/scsi/ata.h"

#include <stdio.h>
#include <string.h>

/* Where a CDB keeps its address and length. Numbers of bytes are those of SBC-4 and SPC-5. */
enum layout {
    LAYOUT_NONE,
    LAYOUT_6,            /* LBA 21 bits at 1, length at 4, where 0 means 256 */
    LAYOUT_10,           /* LBA at 2, length 16 bits at 7 */
    LAYOUT_12,           /* LBA at 2, length 32 bits at 6 */
    LAYOUT_16,           /* LBA 64 bits at 2, length 32 bits at 10 */
    LAYOUT_16_SHORT,     /* LBA 64 bits at 2, length 16 bits at 12 */
    LAYOUT_16_BYTE,      /* LBA 64 bits at 2, length 8 bits at 13 */
    LAYOUT_10_SINGLE,    /* LBA 32 bits at 2; one block */
    LAYOUT_16_SINGLE,    /* LBA 64 bits at 2; one block */
    LAYOUT_32,           /* flags at 10, LBA 64 bits at 12, length 32 bits at 28 */
    LAYOUT_SCATTERED_16, /* offset at 4, ranges at 8, blocks at 10 */
    LAYOUT_SCATTERED_32, /* offset at 12, ranges at 16, blocks at 28 */
    LAYOUT_LIST_16,      /* LIST IDENTIFIER at 6 */
    LAYOUT_LIST_IN,      /* LIST IDENTIFIER at 2 */
};

/* What the second byte (the 11th of a 32-byte CDB) holds. */
enum flags {
    FLAGS_NONE,
    FLAGS_WRITE,    /* WRPROTECT, DPO, FUA */
    FLAGS_VERIFIED, /* WRPROTECT, DPO, BYTCHK: written through to the medium before GOOD */
    FLAGS_SAME,     /* WRPROTECT, ANCHOR, UNMAP, PBDATA, LBDATA, NDOB */
    FLAGS_SYNC,     /* IMMED */
    FLAGS_INQUIRY,  /* EVPD, page code */
    FLAGS_OR,       /* as FLAGS_WRITE, and of the 32-byte form the generation */
    FLAGS_XD,       /* as FLAGS_WRITE, DISABLE WRITE, XORPINFO */
    FLAGS_XP,       /* DPO, FUA, XORPINFO */
    FLAGS_LONG,     /* COR_DIS, WR_UNCOR, PBLOCK */
    FLAGS_REASSIGN, /* LONGLBA, LONGLIST */
    FLAGS_RESERVE,  /* SERVICE ACTION */
    FLAGS_STOP,     /* IMMED; two bytes on POWER CONDITION, NO_FLUSH, START */
};

struct row {
    const char *name;
    uint8_t kind;   /* enum command_kind */
    uint8_t layout; /* enum layout */
    uint8_t flags;  /* enum flags */
    bool long_form;
    uint8_t combination; /* enum combination */
};

struct action_row {
    uint16_t action;
    struct row row;
};

#define HARMLESS(text)                                                                             \
    { .name = (text), .kind = COMMAND_HARMLESS }
#define VOLUME(text)                                                                               \
    { .name = (text), .kind = COMMAND_OPAQUE_VOLUME }
#define ATA(text)                                                                                  \
    { .name = (text), .kind = COMMAND_OPAQUE_VOLUME }
#define SCATTERED(text, where)                                                                     \
    { .name = (text), .kind = COMMAND_SCATTERED, .layout = (where), .flags = FLAGS_WRITE }
#define LIST(text, what)                                                                           \
    { .name = (text), .kind = (what), .layout = LAYOUT_LIST_16 }
#define WRITE(text, where, bits)                                                                   \
    { .name = (text), .kind = COMMAND_WRITE, .layout = (where), .flags = (bits) }
#define READ(text, where, bits)                                                                    \
    { .name = (text), .kind = COMMAND_READ, .layout = (where), .flags = (bits) }
#define LONG(text, where)                                                                          \
    { .name = (text), .kind = COMMAND_OPAQUE_RANGE, .layout = (where), .flags = FLAGS_LONG }
#define COMBINE(text, where, bits, how)                                                            \
    {                                                                                              \
        .name = (text), .kind = COMMAND_WRITE, .layout = (where), .flags = (bits),                 \
        .combination = (how)                                                                       \
    }
#define SAME(text, where)                                                                          \
    { .name = (text), .kind = COMMAND_WRITE_SAME, .layout = (where), .flags = FLAGS_SAME }

static const struct row by_opcode[256] = {
    [0x00] = HARMLESS("TEST UNIT READY"),
    [0x01] = HARMLESS("REZERO UNIT"),
    [0x03] = HARMLESS("REQUEST SENSE"),
    [0x04] = {.name = "FORMAT UNIT", .kind = COMMAND_FORMAT},
    [0x07] = {.name = "REASSIGN BLOCKS", .kind = COMMAND_REASSIGN, .flags = FLAGS_REASSIGN},
    [0x08] = READ("READ(6)", LAYOUT_6, FLAGS_NONE),
    [0x0a] = WRITE("WRITE(6)", LAYOUT_6, FLAGS_NONE),
    [0x0b] = HARMLESS("SEEK(6)"),
    [0x12] = {.name = "INQUIRY", .kind = COMMAND_INQUIRY, .flags = FLAGS_INQUIRY},
    [0x15] = {.name = "MODE SELECT(6)", .kind = COMMAND_MODE_SELECT},
    [0x16] = HARMLESS("RESERVE(6)"),
    [0x17] = HARMLESS("RELEASE(6)"),
    [0x18] = VOLUME("COPY"),
    [0x1a] = HARMLESS("MODE SENSE(6)"),
    [0x1b] = {.name = "START STOP UNIT", .kind = COMMAND_HARMLESS, .flags = FLAGS_STOP},
    [0x1c] = HARMLESS("RECEIVE DIAGNOSTIC RESULTS"),
    [0x1d] = HARMLESS("SEND DIAGNOSTIC"),
    [0x1e] = HARMLESS("PREVENT ALLOW MEDIUM REMOVAL"),
    [0x25] = {.name = "READ CAPACITY(10)", .kind = COMMAND_CAPACITY},
    [0x28] = READ("READ(10)", LAYOUT_10, FLAGS_WRITE),
    [0x2a] = WRITE("WRITE(10)", LAYOUT_10, FLAGS_WRITE),
    [0x2b] = HARMLESS("SEEK(10)"),
    [0x2e] = WRITE("WRITE AND VERIFY(10)", LAYOUT_10, FLAGS_VERIFIED),
    [0x2f] = HARMLESS("VERIFY(10)"),
    [0x33] = HARMLESS("SET LIMITS(10)"),
    [0x34] = HARMLESS("PRE-FETCH(10)"),
    [0x35] = {.name = "SYNCHRONIZE CACHE(10)",
              .kind = COMMAND_FLUSH,
              .layout = LAYOUT_10,
              .flags = FLAGS_SYNC},
    [0x36] = HARMLESS("LOCK UNLOCK CACHE(10)"),
    [0x37] = HARMLESS("READ DEFECT DATA(10)"),
    [0x38] = {.name = "FORMAT WITH PRESET", .kind = COMMAND_FORMAT},
    [0x39] = HARMLESS("COMPARE"),
    [0x3a] = VOLUME("COPY AND VERIFY"),
    [0x3b] = HARMLESS("WRITE BUFFER"), /* firmware and buffers, not the medium */
    [0x3c] = HARMLESS("READ BUFFER(10)"),
    [0x3e] = HARMLESS("READ LONG(10)"),
    [0x3f] = LONG("WRITE LONG(10)", LAYOUT_10_SINGLE),
    [0x41] = SAME("WRITE SAME(10)", LAYOUT_10),
    [0x42] = {.name = "UNMAP", .kind = COMMAND_UNMAP},
    [0x48] = {.name = "SANITIZE", .kind = COMMAND_FORMAT},
    [0x4c] = HARMLESS("LOG SELECT"),
    [0x4d] = HARMLESS("LOG SENSE"),
    [0x50] = WRITE("XDWRITE(10)", LAYOUT_10, FLAGS_XD),
    [0x51] = COMBINE("XPWRITE(10)", LAYOUT_10, FLAGS_XP, COMBINE_XOR),
    [0x52] = HARMLESS("XDREAD(10)"),
    [0x53] = WRITE("XDWRITEREAD(10)", LAYOUT_10, FLAGS_XD),
    [0x55] = {.name = "MODE SELECT(10)", .kind = COMMAND_MODE_SELECT, .long_form = true},
    [0x56] = HARMLESS("RESERVE(10)"),
    [0x57] = HARMLESS("RELEASE(10)"),
    [0x5a] = HARMLESS("MODE SENSE(10)"),
    [0x5e] = HARMLESS("PERSISTENT RESERVE IN"),
    [0x5f] = {.name = "PERSISTENT RESERVE OUT", .kind = COMMAND_RESERVE, .flags = FLAGS_RESERVE},
    [0x7e] = {.name = "extended CDB (operation code 7eh)", .kind = COMMAND_UNKNOWN},
    [0x80] = VOLUME("XDWRITE EXTENDED(16)"),
    [0x81] = VOLUME("REBUILD(16)"),
    [0x82] = VOLUME("REGENERATE(16)"),
    [0x85] = ATA("ATA PASS-THROUGH(16)"),
    [0x86] = HARMLESS("ACCESS CONTROL IN"),
    [0x87] = HARMLESS("ACCESS CONTROL OUT"),
    [0x88] = READ("READ(16)", LAYOUT_16, FLAGS_WRITE),
    [0x89] = {.name = "COMPARE AND WRITE",
              .kind = COMMAND_COMPARE_WRITE,
              .layout = LAYOUT_16_BYTE,
              .flags = FLAGS_WRITE},
    [0x8a] = WRITE("WRITE(16)", LAYOUT_16, FLAGS_WRITE),
    [0x8b] = COMBINE("ORWRITE(16)", LAYOUT_16, FLAGS_OR, COMBINE_OR),
    [0x8c] = HARMLESS("READ ATTRIBUTE"),
    [0x8d] = HARMLESS("WRITE ATTRIBUTE"),
    [0x8e] = WRITE("WRITE AND VERIFY(16)", LAYOUT_16, FLAGS_VERIFIED),
    [0x8f] = HARMLESS("VERIFY(16)"),
    [0x90] = HARMLESS("PRE-FETCH(16)"),
    [0x91] = {.name = "SYNCHRONIZE CACHE(16)",
              .kind = COMMAND_FLUSH,
              .layout = LAYOUT_16,
              .flags = FLAGS_SYNC},
    [0x92] = HARMLESS("LOCK UNLOCK CACHE(16)"),
    [0x93] = SAME("WRITE SAME(16)", LAYOUT_16),
    [0x95] = HARMLESS("ZONING IN"),
    [0x9a] = WRITE("WRITE STREAM(16)", LAYOUT_16_SHORT, FLAGS_WRITE),
    [0x9b] = HARMLESS("READ BUFFER(16)"),
    [0x9c] = WRITE("WRITE ATOMIC(16)", LAYOUT_16_SHORT, FLAGS_WRITE),
    [0xa0] = HARMLESS("REPORT LUNS"),
    [0xa1] = ATA("ATA PASS-THROUGH(12)"),
    [0xa2] = HARMLESS("SECURITY PROTOCOL IN"),
    [0xa3] = HARMLESS("MAINTENANCE IN"),
    [0xa8] = READ("READ(12)", LAYOUT_12, FLAGS_WRITE),
    [0xaa] = WRITE("WRITE(12)", LAYOUT_12, FLAGS_WRITE),
    [0xab] = HARMLESS("SERVICE ACTION IN(12)"),
    [0xae] = WRITE("WRITE AND VERIFY(12)", LAYOUT_12, FLAGS_VERIFIED),
    [0xaf] = HARMLESS("VERIFY(12)"),
    [0xb5] = VOLUME("SECURITY PROTOCOL OUT"), /* may erase or lock: key changes, revert */
    [0xb7] = HARMLESS("READ DEFECT DATA(12)"),
};

static const struct action_row actions_7f[] = {
    {0x0003, HARMLESS("XDREAD(32)")},
    {0x0006, COMBINE("XPWRITE(32)", LAYOUT_32, FLAGS_XP, COMBINE_XOR)},
    {0x0007, WRITE("XDWRITEREAD(32)", LAYOUT_32, FLAGS_XD)},
    {0x0009, READ("READ(32)", LAYOUT_32, FLAGS_WRITE)},
    {0x000a, HARMLESS("VERIFY(32)")},
    {0x000b, WRITE("WRITE(32)", LAYOUT_32, FLAGS_WRITE)},
    {0x000c, WRITE("WRITE AND VERIFY(32)", LAYOUT_32, FLAGS_VERIFIED)},
    {0x000d, SAME("WRITE SAME(32)", LAYOUT_32)},
    {0x000e, COMBINE("ORWRITE(32)", LAYOUT_32, FLAGS_OR, COMBINE_OR)},
    {0x000f, WRITE("WRITE ATOMIC(32)", LAYOUT_32, FLAGS_WRITE)},
    {0x0010, WRITE("WRITE STREAM(32)", LAYOUT_32, FLAGS_WRITE)},
    {0x0011, SCATTERED("WRITE SCATTERED(32)", LAYOUT_SCATTERED_32)},
    {0x0012, HARMLESS("GET LBA STATUS(32)")},
    {0x1ff0, ATA("ATA PASS-THROUGH(32)")},
};

static const struct action_row actions_83[] = {
    {0x00, {.name = "EXTENDED COPY(LID1)", .kind = COMMAND_EXTENDED_COPY}},
    {0x01, {.name = "EXTENDED COPY(LID4)", .kind = COMMAND_EXTENDED_COPY, .long_form = true}},
    {0x10, LIST("POPULATE TOKEN", COMMAND_POPULATE)},
    {0x11, LIST("WRITE USING TOKEN", COMMAND_WRITE_TOKEN)},
    {0x1c, HARMLESS("COPY OPERATION ABORT")},
};

/* SPC-5 6.24 and on: what the copy manager did. */
static const struct action_row actions_84[] = {
    {0x00, HARMLESS("RECEIVE COPY STATUS(LID1)")},
    {0x01, HARMLESS("RECEIVE COPY DATA(LID1)")},
    {0x03, HARMLESS("RECEIVE COPY OPERATING PARAMETERS")},
    {0x04, HARMLESS("RECEIVE COPY FAILURE DETAILS(LID1)")},
    {0x05, HARMLESS("RECEIVE COPY STATUS(LID4)")},
    {0x06, HARMLESS("RECEIVE COPY DATA(LID4)")},
    {0x07,
     {.name = "RECEIVE ROD TOKEN INFORMATION", .kind = COMMAND_TOKENS, .layout = LAYOUT_LIST_IN}},
    {0x08, HARMLESS("REPORT ALL ROD TOKENS")},
};

/* ZBC-2: close, finish and open a zone move its write pointer at most; reset drops its content. */
static const struct action_row actions_94[] = {
    {0x01, HARMLESS("CLOSE ZONE")},
    {0x02, HARMLESS("FINISH ZONE")},
    {0x03, HARMLESS("OPEN ZONE")},
    {0x04, VOLUME("RESET WRITE POINTER")},
};

static const struct action_row actions_9e[] = {
    {0x10, {.name = "READ CAPACITY(16)", .kind = COMMAND_CAPACITY, .long_form = true}},
    {0x11, HARMLESS("READ LONG(16)")},
    {0x12, HARMLESS("GET LBA STATUS(16)")},
    {0x13, HARMLESS("REPORT REFERRALS")},
    {0x14, HARMLESS("STREAM CONTROL")},
    {0x15, HARMLESS("BACKGROUND CONTROL")},
    {0x16, HARMLESS("GET STREAM STATUS")},
};

static const struct action_row actions_9f[] = {
    {0x11, LONG("WRITE LONG(16)", LAYOUT_16_SINGLE)},
    {0x12, SCATTERED("WRITE SCATTERED(16)", LAYOUT_SCATTERED_16)},
    {0x13, VOLUME("COALESCING COPY")},
};

static const struct action_row actions_a4[] = {
    {0x06, HARMLESS("SET IDENTIFYING INFORMATION")},
    {0x0a, HARMLESS("SET TARGET PORT GROUPS")},
    {0x0b, HARMLESS("CHANGE ALIASES")},
    {0x0e, HARMLESS("SET PRIORITY")},
    {0x0f, HARMLESS("SET TIMESTAMP")},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct action_table {
    uint8_t opcode;
    uint8_t width; /* 2: bytes 8 and 9; 1: the low five bits of byte 1 */
    const struct action_row *rows;
    size_t count;
};

static const struct action_table action_tables[] = {
    {0x7f, 2, actions_7f, COUNT(actions_7f)}, {0x83, 1, actions_83, COUNT(actions_83)},
    {0x84, 1, actions_84, COUNT(actions_84)}, {0x94, 1, actions_94, COUNT(actions_94)},
    {0x9e, 1, actions_9e, COUNT(actions_9e)}, {0x9f, 1, actions_9f, COUNT(actions_9f)},
    {0xa4, 1, actions_a4, COUNT(actions_a4)},
};

static uint16_t read_action(struct cursor cdb, const struct action_table *table) {
    if (table->width == 1) {
        cursor_skip(&cdb, 1);
        return cursor_u8(&cdb) & 0x1f;
    }
    cursor_skip(&cdb, 8);
    return cursor_be16(&cdb);
}

static const struct row *find_action(struct cursor cdb, struct command *command) {
    for (size_t i = 0; i < COUNT(action_tables); i++) {
        const struct action_table *table = &action_tables[i];
        if (table->opcode != command->opcode)
            continue;
        command->has_service_action = true;
        command->service_action = read_action(cdb, table);
        for (size_t k = 0; k < table->count; k++) {
            if (table->rows[k].action == command->service_action)
                return &table->rows[k].row;
        }
    }
    return NULL;
}

/* `c` stands behind the byte of flags, except for LAYOUT_6, which begins in it. */
static void read_range(struct cursor c, enum layout layout, uint8_t flags, struct command *to) {
    switch (layout) {
    case LAYOUT_NONE:
        break;
    case LAYOUT_6:
        to->lba = (uint64_t)(flags & 0x1f) << 16 | cursor_be16(&c);
        to->blocks = cursor_u8(&c);
        if (to->blocks == 0)
            to->blocks = 256;
        break;
    case LAYOUT_10:
        to->lba = cursor_be32(&c);
        cursor_skip(&c, 1);
        to->blocks = cursor_be16(&c);
        break;
    case LAYOUT_12:
        to->lba = cursor_be32(&c);
        to->blocks = cursor_be32(&c);
        break;
    case LAYOUT_16:
        to->lba = cursor_be64(&c);
        to->blocks = cursor_be32(&c);
        break;
    case LAYOUT_16_SHORT:
        to->lba = cursor_be64(&c);
        cursor_skip(&c, 2);
        to->blocks = cursor_be16(&c);
        break;
    case LAYOUT_16_BYTE:
        to->lba = cursor_be64(&c);
        cursor_skip(&c, 3);
        to->blocks = cursor_u8(&c);
        break;
    case LAYOUT_10_SINGLE:
        to->lba = cursor_be32(&c);
        to->blocks = 1;
        break;
    case LAYOUT_16_SINGLE:
        to->lba = cursor_be64(&c);
        to->blocks = 1;
        break;
    case LAYOUT_32:
        cursor_skip(&c, 1);
        to->lba = cursor_be64(&c);
        cursor_skip(&c, 8);
        to->blocks = cursor_be32(&c);
        break;
    case LAYOUT_SCATTERED_16: /* the flags are in byte 2, as it begins there */
        cursor_skip(&c, 1);
        to->data_offset = cursor_be16(&c);
        cursor_skip(&c, 2);
        to->range_count = cursor_be16(&c);
        to->blocks = cursor_be32(&c);
        break;
    case LAYOUT_SCATTERED_32:
        cursor_skip(&c, 1);
        to->data_offset = cursor_be16(&c);
        cursor_skip(&c, 2);
        to->range_count = cursor_be16(&c);
        cursor_skip(&c, 10);
        to->blocks = cursor_be32(&c);
        break;
    case LAYOUT_LIST_16:
        cursor_skip(&c, 4);
        to->list_id = cursor_be32(&c);
        break;
    case LAYOUT_LIST_IN:
        to->list_id = cursor_be32(&c);
        break;
    }
    if (!cursor_ok(&c))
        to->kind = COMMAND_UNKNOWN;
}

/* SBC-4 5.11: what the 32-byte form has beyond the 16-byte one. */
static void read_generation(struct cursor cdb, struct command *to) {
    if (to->opcode != 0x7f)
        return;
    cursor_skip(&cdb, 2);
    unsigned operation = cursor_u8(&cdb) & 0x07;
    to->policy = cursor_u8(&cdb) & 0x0f;
    cursor_skip(&cdb, 16);
    to->by_generation = cursor_be32(&cdb) != 0;
    to->clears = operation != 0;
    if (operation > 1)
        to->kind = COMMAND_OPAQUE_RANGE;
}

/*
 * SBC-4 5.30: a unit that stops writes its cache to the medium first, unless NO_FLUSH. With IMMED
 * the status comes before it has.
 */
static void read_stop(struct cursor c, uint8_t flags, struct command *to) {
    cursor_skip(&c, 2);
    uint8_t what = cursor_u8(&c);
    bool stops = (what & 0xf0) == 0 && (what & 0x01) == 0;
    if (cursor_ok(&c) && stops && (what & 0x04) == 0 && (flags & 0x01) == 0)
        to->kind = COMMAND_FLUSH;
}

static void read_flags(struct cursor c, enum flags meaning, uint8_t flags, struct command *to) {
    switch (meaning) {
    case FLAGS_NONE:
        break;
    case FLAGS_WRITE:
    case FLAGS_OR:
        to->protect = (flags & 0xe0) != 0;
        to->fua = (flags & 0x08) != 0;
        break;
    case FLAGS_VERIFIED:
        to->protect = (flags & 0xe0) != 0;
        to->fua = true;
        break;
    case FLAGS_SAME:
        to->protect = (flags & 0xe0) != 0;
        to->unmap = (flags & 0x08) != 0;
        to->altered = (flags & 0x06) != 0;
        /* WRITE SAME(10) has no NDOB: the bit is obsolete there. */
        to->no_data = to->opcode != 0x41 && (flags & 0x01) != 0;
        break;
    case FLAGS_SYNC:
        to->immediate = (flags & 0x02) != 0;
        break;
    case FLAGS_INQUIRY:
        to->vital = (flags & 0x01) != 0;
        to->page = cursor_u8(&c);
        break;
    case FLAGS_XD: /* SBC-3 5.49: DISABLE WRITE leaves the medium alone, the XOR is read only */
        to->protect = (flags & 0xe1) != 0;
        to->fua = (flags & 0x08) != 0;
        if ((flags & 0x04) != 0)
            to->kind = COMMAND_HARMLESS;
        break;
    case FLAGS_XP:
        to->protect = (flags & 0x01) != 0;
        to->fua = (flags & 0x08) != 0;
        break;
    case FLAGS_LONG:
        to->spoils = (flags & 0xc0) != 0;
        to->physical = (flags & 0x20) != 0;
        break;
    case FLAGS_REASSIGN:
        to->long_form = (flags & 0x02) != 0;
        to->long_list = (flags & 0x01) != 0;
        break;
    case FLAGS_RESERVE:
        to->aborts = (flags & 0x1f) == 0x05;
        break;
    case FLAGS_STOP:
        read_stop(c, flags, to);
        break;
    }
    if (!cursor_ok(&c))
        to->kind = COMMAND_UNKNOWN;
}

static void read_ata(const uint8_t *cdb, size_t bytes, struct command *to) {
    struct ata_effect effect = ata_parse(cdb, bytes);
    to->ata = effect.name;
    to->lba = effect.lba;
    to->blocks = effect.blocks;
    to->spoils = effect.spoils;
    switch (effect.kind) {
    case ATA_HARMLESS:
        to->kind = COMMAND_HARMLESS;
        break;
    case ATA_RANGE:
        to->kind = COMMAND_OPAQUE_RANGE;
        break;
    case ATA_TRIM:
        to->kind = COMMAND_ATA_TRIM;
        break;
    case ATA_CAPACITY:
        to->kind = COMMAND_FORMAT;
        break;
    case ATA_VOLUME:
        to->kind = COMMAND_OPAQUE_VOLUME;
        break;
    }
}

static bool is_ata(const struct command *command) {
    return command->opcode == 0x85 || command->opcode == 0xa1 ||
           (command->opcode == 0x7f && command->service_action == 0x1ff0);
}

/* Bytes before the one with the flags. */
static size_t flags_at(enum layout layout) {
    if (layout == LAYOUT_32 || layout == LAYOUT_SCATTERED_32)
        return 9;
    return layout == LAYOUT_SCATTERED_16 ? 1 : 0;
}

void command_parse(const uint8_t *cdb, size_t cdb_bytes, struct command *command) {
    struct cursor c = cursor_of(cdb, cdb_bytes);
    struct cursor whole = c;
    *command = (struct command){.opcode = cursor_u8(&c)};
    if (!cursor_ok(&c))
        return;
    const struct row *row = &by_opcode[command->opcode];
    if (row->name == NULL)
        row = find_action(whole, command);
    if (row == NULL)
        return;
    command->name = row->name;
    command->kind = (enum command_kind)row->kind;
    command->long_form = row->long_form;
    command->combination = (enum combination)row->combination;
    cursor_skip(&c, flags_at((enum layout)row->layout));
    uint8_t flags = cursor_u8(&c);
    read_range(c, (enum layout)row->layout, flags, command);
    read_flags(c, (enum flags)row->flags, flags, command);
    if (row->flags == FLAGS_OR)
        read_generation(whole, command);
    if (is_ata(command))
        read_ata(cdb, cdb_bytes, command);
}

bool command_changes_media(const struct command *command) {
    switch (command->kind) {
    case COMMAND_HARMLESS:
    case COMMAND_INQUIRY:
    case COMMAND_CAPACITY:
    case COMMAND_READ:
    case COMMAND_RESERVE:
    case COMMAND_POPULATE:
    case COMMAND_TOKENS:
    case COMMAND_FLUSH:
        return false;
    default:
        return true;
    }
}

const char *command_text(const struct command *command, char *text, size_t size) {
    if (command->ata != NULL) {
        snprintf(text, size, "%s (%s)", command->name, command->ata);
    } else if (command->name != NULL) {
        /* On the way of every write: snprintf would be a twentieth of its whole cost. */
        if (memccpy(text, command->name, '\0', size) == NULL)
            text[size - 1] = '\0';
    } else if (command->has_service_action) {
        snprintf(text, size, "operation code %02xh, service action %04xh", command->opcode,
                 command->service_action);
    } else {
        snprintf(text, size, "operation code %02xh", command->opcode);
    }
    return text;
}
