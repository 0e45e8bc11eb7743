/* Which 48 bytes can be a header (RFC 7143, section 11). */
#include "tap/iscsi/shape.h"

#include "../common/seed.h"
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

enum { WORDS = PDU_HEAD_BYTES / 4 };

/*
 * A header in its good form, every field that may hold something holding something, and a mask of
 * the bits that must be as they are: whichever of them is turned, the header does not fit. Those of
 * the operation code are tested apart.
 */
struct good {
    const char *name;
    bool of_initiator;
    uint32_t head[WORDS];
    uint32_t fixed[WORDS];
};

enum { ANY = 0, FIX = -1, AHS = 0xff000000 };
#define NO_DATA 0xffffffff
#define WINDOW  0xfff00000

static const struct good goods[] = {
    {"NOP-Out",
     true,
     {0x40800000, 0x00000008, 0x00010000, 0, 0x11, 0xffffffff, 7, 9, 0, 0, 0, 0},
     {0x80ffffff, AHS, ANY, ANY, ANY, ANY, ANY, ANY, NO_DATA, NO_DATA, NO_DATA, NO_DATA}},
    {"NOP-Out without a tag",
     true,
     {0x40800000, 0, 0x00010000, 0, 0xffffffff, 0x22, 7, 9, 0, 0, 0, 0},
     {0x80ffffff, AHS, ANY, ANY, ANY, ANY, ANY, ANY, NO_DATA, NO_DATA, NO_DATA, NO_DATA}},
    {"WRITE",
     true,
     {0x01a10000, 0x00000200, 0x00010000, 0, 0x11, 0x400, 7, 9, 0x2a000000, 1, 2, 3},
     {0x8018ffff, AHS, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY}},
    {"WRITE(32)",
     true,
     {0x01a10000, 0x05000200, 0x00010000, 0, 0x11, 0x400, 7, 9, 0x7f000000, 24, 11, 3},
     {0x8018ffff, 0x80000000, ANY, ANY, ANY, ANY, ANY, ANY, 0x06000000, ANY, ANY, ANY}},
    {"READ",
     true,
     {0x01c40000, 0, 0x00010000, 0, 0x11, 0x400, 7, 9, 0x28000000, 1, 2, 3},
     {0x80dbffff, 0x80ffffff, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY}},
    {"TEST UNIT READY",
     true,
     {0x01800000, 0, 0x00010000, 0, 0x11, 0, 7, 9, 0, 0, 0, 0},
     {0x8098ffff, 0x80ffffff, ANY, ANY, ANY, NO_DATA, ANY, ANY, ANY, ANY, ANY, ANY}},
    {"Task Management Request",
     true,
     {0x42810000, 0, 0x00010000, 0, 0x11, 0x12, 7, 9, 5, 6, 0, 0},
     {0x8080ffff, NO_DATA, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, NO_DATA, NO_DATA}},
    {"Login Request",
     true,
     {0x43870000, 0x00000100, 0x40000001, 0x00370000, 0, 0x00010000, 1, 0, 0, 0, 0, 0},
     {0x8030ffff, AHS, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY}},
    {"Text Request",
     true,
     {0x04800000, 0x00000010, 0, 0, 0x11, 0xffffffff, 7, 9, 0, 0, 0, 0},
     {0x803fffff, AHS, ANY, ANY, ANY, ANY, ANY, ANY, NO_DATA, NO_DATA, NO_DATA, NO_DATA}},
    {"Data-Out",
     true,
     {0x05800000, 0x00002000, 0x00010000, 0, 0x11, 0x31, 0, 9, 0, 4, 0x2000, 0},
     {0xc07fffff, AHS, ANY, ANY, ANY, ANY, NO_DATA, ANY, NO_DATA, ANY, ANY, NO_DATA}},
    {"Data-Out without data",
     true,
     {0x05800000, 0, 0x00010000, 0, 0x11, 0x31, 0, 9, 0, 4, 0x2000, 0},
     {0xc0ffffff, AHS, ANY, ANY, ANY, ANY, NO_DATA, ANY, NO_DATA, ANY, ANY, NO_DATA}},
    {"Logout Request",
     true,
     {0x46810000, 0, 0, 0, 0x11, 0x00010000, 7, 9, 0, 0, 0, 0},
     {0x80fcffff, NO_DATA, FIX, FIX, ANY, 0xffff, ANY, ANY, FIX, FIX, FIX, FIX}},
    {"Data SNACK",
     true,
     {0x10800000, 0, 0x00010000, 0, 0x11, 0x31, 0, 9, 0, 0, 3, 2},
     {0xc0feffff, NO_DATA, ANY, ANY, ANY, ANY, FIX, ANY, FIX, FIX, ANY, ANY}},
    {"Status SNACK",
     true,
     {0x10810000, 0, 0, 0, 0xffffffff, 0xffffffff, 0, 9, 0, 0, 3, 2},
     {0xc0fdffff, NO_DATA, ANY, ANY, FIX, ANY, FIX, ANY, FIX, FIX, ANY, ANY}},
    {"DataACK",
     true,
     {0x10820000, 0, 0x00010000, 0, 0xffffffff, 0x31, 0, 9, 0, 0, 3, 0},
     {0xc0feffff, NO_DATA, ANY, ANY, FIX, ANY, FIX, ANY, FIX, FIX, ANY, ANY}},
    {"NOP-In",
     false,
     {0x20800000, 0x00000008, 0x00010000, 0, 0xffffffff, 0x31, 7, 9, 40, 0, 0, 0},
     {0xc0ffffff, AHS, ANY, ANY, ANY, ANY, ANY, WINDOW, WINDOW, FIX, FIX, FIX}},
    {"SCSI Response",
     false,
     {0x21800002, 0x00000060, 0, 0, 0x11, 0, 7, 9, 40, 1, 0, 0},
     {0xc0e10000, AHS, 0xffff, FIX, ANY, ANY, ANY, WINDOW, WINDOW, ANY, FIX, FIX}},
    {"SCSI Response with residuals",
     false,
     {0x21920000, 0, 0, 0, 0x11, 0, 7, 9, 40, 1, 0x200, 0x200},
     {0xc0e10000, AHS, 0xffff, FIX, ANY, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"Task Management Response",
     false,
     {0x22800000, 0, 0, 0, 0x11, 0, 7, 9, 40, 0, 0, 0},
     {0xc0ff00ff, NO_DATA, FIX, FIX, ANY, FIX, ANY, WINDOW, WINDOW, FIX, FIX, FIX}},
    {"Login Response",
     false,
     {0x23870000, 0x00000100, 0x40000001, 0x00370001, 0, 0, 1, 1, 40, 0, 0, 0},
     {0xc030ffff, AHS, ANY, ANY, ANY, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"Text Response",
     false,
     {0x24800000, 0x00000010, 0, 0, 0x11, 0xffffffff, 7, 9, 40, 0, 0, 0},
     {0xc0bfffff, AHS, ANY, ANY, ANY, FIX, ANY, WINDOW, WINDOW, FIX, FIX, FIX}},
    {"Data-In",
     false,
     {0x25800000, 0x00002000, 0x00010000, 0, 0x11, 0xffffffff, 0xffffffff, 9, 40, 1, 0x200, 0},
     {0xc03effff, AHS, ANY, ANY, ANY, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"Data-In with status",
     false,
     {0x25830002, 0x00002000, 0x00010000, 0, 0x11, 0xffffffff, 7, 9, 40, 1, 0x200, 4},
     {0xc0b9ff00, AHS, ANY, ANY, ANY, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"Logout Response",
     false,
     {0x26800000, 0, 0, 0, 0x11, 0, 7, 9, 40, 0, 0x00020014, 0},
     {0xc0fffcff, NO_DATA, FIX, FIX, ANY, FIX, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"R2T",
     false,
     {0x31800000, 0, 0x00010000, 0, 0x11, 0x31, 7, 9, 40, 1, 0x200, 0x400},
     {0xc0ffffff, NO_DATA, ANY, ANY, ANY, ANY, ANY, WINDOW, WINDOW, ANY, ANY, 0xfe000400}},
    {"Asynchronous Message",
     false,
     {0x32800000, 0, 0x00010000, 0, 0xffffffff, 0, 7, 9, 40, 0x01000000, 0, 0},
     {0xc0ffffff, AHS, ANY, ANY, FIX, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
    {"Reject",
     false,
     {0x3f800200, 0x00000030, 0, 0, 0xffffffff, 0, 7, 9, 40, 0, 0, 0},
     {0xc0ff02ff, 0xff000030, FIX, FIX, FIX, ANY, ANY, WINDOW, WINDOW, ANY, ANY, ANY}},
};

static void put_words(uint8_t head[PDU_HEAD_BYTES], const uint32_t words[WORDS]) {
    for (size_t i = 0; i < WORDS; i++)
        put_be(head + 4 * i, words[i], 4);
}

static const struct good *good_named(const char *name) {
    for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
        if (strcmp(goods[i].name, name) == 0)
            return &goods[i];
    }
    cr_assert_fail("%s", name);
    return NULL;
}

/* `name` with `value` in its word `word`. */
static bool fits_with(const char *name, size_t word, uint32_t value) {
    uint8_t head[PDU_HEAD_BYTES];
    const struct good *g = good_named(name);
    put_words(head, g->head);
    put_be(head + 4 * word, value, 4);
    return shape_fits(head, g->of_initiator);
}

Test(iscsi_shape, good_forms) {
    for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
        uint8_t head[PDU_HEAD_BYTES];
        put_words(head, goods[i].head);
        cr_expect(shape_fits(head, goods[i].of_initiator), "%s", goods[i].name);
        cr_expect_not(shape_fits(head, !goods[i].of_initiator), "%s of the other side",
                      goods[i].name);
    }
}

/* All reserved fields, flags and lengths, bit by bit; and those that are free. */
Test(iscsi_shape, each_bit) {
    for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
        for (size_t bit = 0; bit < PDU_HEAD_BYTES * 8; bit++) {
            uint8_t head[PDU_HEAD_BYTES];
            uint32_t mask = UINT32_C(1) << (31 - bit % 32);
            if (bit >= 2 && bit < 8)
                continue; /* the operation code */
            put_words(head, goods[i].head);
            head[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            bool fixed = (goods[i].fixed[bit / 32] & mask) != 0;
            if (fixed)
                cr_expect_not(shape_fits(head, goods[i].of_initiator), "%s: bit %zu of byte %zu",
                              goods[i].name, 7 - bit % 8, bit / 8);
        }
    }
}

/* Free bits, all random at once: whoever sends them is understood. */
Test(iscsi_shape, whatever_is_in_the_free_fields) {
    static const char *const names[] = {
        "NOP-Out",       "Text Request", "Data-Out",       "Data SNACK",         "R2T",
        "SCSI Response", "NOP-In",       "Login Response", "Data-In with status"};
    srand(test_seed());
    for (int round = 0; round < 10000; round++) {
        uint8_t head[PDU_HEAD_BYTES];
        const struct good *g = good_named(names[(size_t)round % (sizeof names / sizeof *names)]);
        put_words(head, g->head);
        for (size_t i = 8; i < PDU_HEAD_BYTES; i++) {
            uint8_t free_bits = (uint8_t) ~(g->fixed[i / 4] >> (24 - 8 * (i % 4)));
            if (i >= 16 && i < 20)
                continue; /* the tag must not be FFFFFFFFh by chance */
            head[i] ^= (uint8_t)rand() & free_bits;
        }
        if (!g->of_initiator)
            memcpy(head + 32, head + 28, 4);
        if (g->head[0] >> 24 == 0x31)
            put_be(head + 44, 1 + (uint32_t)rand() % (1 << 24), 4);
        cr_assert(shape_fits(head, g->of_initiator), "%s", g->name);
    }
}

Test(iscsi_shape, operation_codes) {
    static const uint8_t known[2][10] = {
        {0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f},
        {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x10, 0x10}};
    for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
        for (unsigned opcode = 0; opcode < 64; opcode++) {
            uint8_t head[PDU_HEAD_BYTES];
            put_words(head, goods[i].head);
            head[0] = (uint8_t)((head[0] & 0xc0) | opcode);
            if (memchr(known[goods[i].of_initiator], (int)opcode, 10) == NULL)
                cr_expect_not(shape_fits(head, goods[i].of_initiator), "%s as %02x", goods[i].name,
                              opcode);
        }
    }
}

Test(iscsi_shape, task_tags) {
    static const char *const tagged[] = {
        "WRITE",     "READ",          "Task Management Request",  "Text Request",  "Data-Out",
        "R2T",       "SCSI Response", "Task Management Response", "Text Response", "Data-In",
        "Data SNACK"};
    for (size_t i = 0; i < sizeof tagged / sizeof *tagged; i++)
        cr_expect_not(fits_with(tagged[i], 4, UINT32_MAX), "%s", tagged[i]);
    cr_expect(fits_with("NOP-In", 4, 5));
    cr_expect(fits_with("NOP-Out", 4, UINT32_MAX));
}

Test(iscsi_shape, commands) {
    cr_expect(fits_with("WRITE", 1, 0x400), "as much data as is expected");
    cr_expect_not(fits_with("WRITE", 1, 0x401), "more");
    cr_expect(fits_with("WRITE(32)", 1, 64u << 24 | 0x200), "the longest AHS");
    cr_expect_not(fits_with("WRITE(32)", 1, 65u << 24 | 0x200));
    cr_expect(fits_with("WRITE(32)", 8, 0x7e000000) && fits_with("WRITE(32)", 8, 0xc1000000));
    cr_expect_not(fits_with("WRITE(32)", 8, 0x53000000), "one way");
    cr_expect_not(fits_with("WRITE", 1, 0x02000200), "an AHS with nothing to say");
    cr_expect_not(fits_with("READ", 1, 1), "nothing is sent with a READ");
    cr_expect(fits_with("READ", 0, 0x01e00000), "both ways");
    for (uint32_t attribute = 0; attribute < 8; attribute++)
        cr_expect_eq(fits_with("WRITE", 0, 0x01a00000 | attribute << 16), attribute <= 4);
}

Test(iscsi_shape, small_numbers) {
    for (uint32_t function = 0; function < 128; function++)
        cr_expect_eq(fits_with("Task Management Request", 0, 0x42800000 | function << 16),
                     function > 0 && function <= 14, "function %u", function);
    for (uint32_t type = 0; type < 128; type++) {
        cr_expect_eq(fits_with("Data SNACK", 0, 0x10800000 | type << 16), type == 0 || type == 3);
        cr_expect_eq(fits_with("Status SNACK", 0, 0x10800000 | type << 16), type == 1 || type == 2);
    }
    for (uint32_t response = 0; response < 256; response++) {
        cr_expect_eq(fits_with("Logout Response", 0, 0x26800000 | response << 8), response <= 3);
        cr_expect_eq(fits_with("Reject", 0, 0x3f800000 | response << 8), response > 0);
    }
    cr_expect_not(fits_with("R2T", 11, 0), "wants nothing");
    cr_expect(fits_with("R2T", 11, 1 << 24));
    cr_expect_not(fits_with("R2T", 11, (1 << 24) + 1));
    cr_expect_not(fits_with("Reject", 1, 0x2f), "not the whole of the header that it rejects");
    cr_expect_not(fits_with("Data-In with status", 0, 0x25030002), "not its last one");
}

/* From one less than what is expected, which lets nothing in. */
Test(iscsi_shape, windows_of_commands) {
    static const char *const names[] = {"NOP-In", "SCSI Response", "Data-In", "R2T", "Reject"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cr_expect(fits_with(names[i], 8, 8));
        cr_expect_not(fits_with(names[i], 8, 7));
        cr_expect(fits_with(names[i], 8, 9 + (1 << 20) - 1));
        cr_expect_not(fits_with(names[i], 8, 9 + (1 << 20)));
    }
}

Test(iscsi_shape, data_segments_without_data) {
    cr_expect(fits_with("Data-Out without data", 0, 0x05800000));
    cr_expect_not(fits_with("Data-Out without data", 0, 0x05000000), "nothing, and more to come");
    cr_expect_not(fits_with("Data-In", 1, 0), "neither data nor status");
    cr_expect(fits_with("Data-In with status", 1, 0));
}

/* Some targets repeat it. */
Test(iscsi_shape, lun_in_a_response) {
    cr_expect(fits_with("SCSI Response", 2, 0x012c0000));
    cr_expect_not(fits_with("SCSI Response", 2, 0x012c0001));
}

/* xorshift64: faster than rand(), and of 64 bits. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static unsigned count_fits(const uint8_t head[PDU_HEAD_BYTES]) {
    return (unsigned)shape_fits(head, true) + (unsigned)shape_fits(head, false);
}

/* Of 10 million, 0.04 are expected to pass on either side: 2 would be a rule that is missing. */
Test(iscsi_shape, random_bytes_do_not_fit) {
    enum { STRINGS = 10000000 };
    uint64_t state = (uint64_t)test_seed() << 1 | 1;
    unsigned fits = 0;
    for (unsigned i = 0; i < STRINGS; i++) {
        uint64_t words[PDU_HEAD_BYTES / 8];
        uint8_t head[PDU_HEAD_BYTES];
        for (size_t k = 0; k < PDU_HEAD_BYTES / 8; k++)
            words[k] = next_random(&state);
        memcpy(head, words, sizeof head);
        fits += count_fits(head);
    }
    fprintf(stderr, "%u of %d random strings fit\n", fits, STRINGS);
    cr_assert_leq(fits, 1);
}

/* Two bytes again and again, and two of four: arrays of numbers. */
Test(iscsi_shape, repeated_patterns_do_not_fit) {
    unsigned fits = 0;
    for (unsigned pattern = 0; pattern < 1 << 16; pattern++) {
        uint8_t head[PDU_HEAD_BYTES];
        for (size_t i = 0; i < PDU_HEAD_BYTES; i++)
            head[i] = (uint8_t)(i % 2 == 0 ? pattern >> 8 : pattern);
        fits += count_fits(head);
        for (size_t i = 0; i < PDU_HEAD_BYTES; i++)
            head[i] = (uint8_t)(i % 4 == 0 ? pattern >> 8 : i % 4 == 1 ? pattern : 0);
        unsigned more = count_fits(head);
        if (more > 0)
            fprintf(stderr, "%04x0000 again and again fits\n", pattern);
        fits += more;
    }
    cr_assert_eq(fits, 0, "%u", fits);
}

Test(iscsi_shape, text_does_not_fit) {
    uint64_t state = (uint64_t)test_seed() << 1 | 1;
    for (unsigned i = 0; i < 1000000; i++) {
        uint8_t head[PDU_HEAD_BYTES];
        for (size_t k = 0; k < PDU_HEAD_BYTES; k++)
            head[k] = (uint8_t)(' ' + next_random(&state) % 95);
        cr_assert_eq(count_fits(head), 0);
    }
}
