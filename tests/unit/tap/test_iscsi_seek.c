/* Where PDUs begin in the middle of a stream. */
#include "tap/iscsi/seek.h"

#include "../common/seed.h"
#include "iscsi_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIB = 1 << 20, STREAM_BYTES = 9 * MIB, STREAM_PDUS = 64, SPACING = PDU_HEAD_BYTES };

static const struct seek_digests unknown = {0};

/* One direction of a connection, as bytes. */
struct stream {
    uint8_t *bytes;
    size_t length;
    size_t pdus[STREAM_PDUS]; /* where they begin */
    size_t pdu_count;
    size_t starts[STREAM_PDUS]; /* where segments begin */
    size_t start_count;
    struct iscsi_link link; /* its digests */
    uint32_t number;
    uint64_t random;
};

static struct stream stream_make(int digests) {
    struct stream s = {.bytes = calloc(1, STREAM_BYTES), .random = 88172645463325252u};
    s.link.header_digest = digests & 1;
    s.link.data_digest = digests & 2;
    s.number = 0xfffffffe; /* it wraps */
    return s;
}

static void put_random(struct stream *s, uint8_t *to, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        s->random ^= s->random << 13;
        s->random ^= s->random >> 7;
        s->random ^= s->random << 17;
        to[i] = (uint8_t)(s->random >> 32);
    }
}

static void put_noise(struct stream *s, size_t bytes) {
    put_random(s, s->bytes + s->length, bytes);
    s->length += bytes;
}

/* A WRITE with so much immediate data; without any, a NOP-Out. */
static struct made_pdu *make(struct stream *s, size_t data_bytes) {
    struct made_pdu *pdu = make_pdu(data_bytes > 0 ? 0x01 : 0x00, 5);
    if (data_bytes > 0) {
        pdu->head[1] = 0xa1;
        put_be(pdu->head + 20, data_bytes, 4);
        pdu->head[32] = 0x2a;
    }
    put_be(pdu->head + 24, s->number++, 4);
    put_be(pdu->head + 28, 77, 4);
    pdu->data_bytes = data_bytes;
    put_random(s, pdu->data, data_bytes);
    return pdu;
}

static void put_made(struct stream *s, struct made_pdu *pdu) {
    s->pdus[s->pdu_count++] = s->length;
    s->length += made_pdu_bytes(&s->link, pdu, s->bytes + s->length);
    free(pdu);
}

static void put(struct stream *s, size_t data_bytes) {
    put_made(s, make(s, data_bytes));
}

/* So many of the PDUs that prove a place, and whether data has a digest. */
static void put_run(struct stream *s) {
    for (size_t i = 0; i < 5; i++)
        put(s, i % 2 == 0 ? 0 : 100);
}

/* A header that promises more data than will ever come. */
static void put_promise(struct stream *s, uint32_t data_bytes) {
    struct made_pdu *pdu = make(s, 0);
    put_be(pdu->head + 5, data_bytes, 3);
    memcpy(s->bytes + s->length, pdu->head, PDU_HEAD_BYTES);
    s->length += PDU_HEAD_BYTES;
    free(pdu);
}

static void stream_free(struct stream *s) {
    free(s->bytes);
}

/* What the bytes from `from` to `to` show. */
static bool look(struct stream *s, struct seek *seek, size_t from, size_t to, bool last_chance,
                 struct seek_hit *hit) {
    struct seek_view view = {.bytes = s->bytes + from,
                             .length = to - from,
                             .starts = s->starts,
                             .start_count = s->start_count,
                             .last_chance = last_chance};
    bool found = seek_find(seek, &view, hit);
    if (found)
        cr_assert_lt(hit->start, view.length);
    return found;
}

static bool seek_all(struct stream *s, const struct seek_digests *digests, int phase,
                     bool last_chance, struct seek_hit *hit) {
    struct seek seek;
    seek_init(&seek, true, digests, phase);
    return look(s, &seek, 0, s->length, last_chance, hit);
}

static void expect_digests(const struct seek_hit *hit, int digests) {
    cr_assert(hit->digests.header_known && hit->digests.header == ((digests & 1) != 0));
    cr_assert(hit->digests.data_known && hit->digests.data == ((digests & 2) != 0));
}

/* What is known already, one bit each: header digest, data digest, phase. */
static struct seek_digests known_of(int digests, int known) {
    return (struct seek_digests){.header_known = known & 1,
                                 .header = (known & 1) && (digests & 1),
                                 .data_known = known & 2,
                                 .data = (known & 2) && (digests & 2)};
}

Test(iscsi_seek, every_offset_of_the_first_pdu) {
    for (int digests = 0; digests < 4; digests++) {
        struct stream s = stream_make(digests);
        put(&s, 333);
        put_run(&s);
        for (size_t cut = 0; cut <= s.pdus[1]; cut++) {
            for (int known = 0; known < 8; known++) {
                struct seek_digests given = known_of(digests, known);
                struct seek seek;
                struct seek_hit hit;
                seek_init(&seek, true, &given, (known & 4) != 0 ? (int)((4 - cut % 4) % 4) : -1);
                cr_assert(look(&s, &seek, cut, s.length, false, &hit), "digests %d cut %zu",
                          digests, cut);
                cr_assert_eq(cut + hit.start, cut == 0 ? 0 : s.pdus[1], "digests %d cut %zu",
                             digests, cut);
                expect_digests(&hit, digests);
            }
        }
        stream_free(&s);
    }
}

Test(iscsi_seek, data_of_any_size) {
    static const size_t sizes[] = {1, 2, 3, 4, 5, 47, 48, 49, 511, 4096, 65537, 262144};
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
        int digests = (int)(i % 4);
        struct stream s = stream_make(digests);
        struct seek_hit hit;
        put_noise(&s, 1001);
        for (int k = 0; k < 4; k++)
            put(&s, sizes[i / 4]);
        cr_assert(seek_all(&s, &unknown, -1, false, &hit), "%zu bytes", sizes[i / 4]);
        cr_assert_eq(hit.start, 1001);
        expect_digests(&hit, digests);
        stream_free(&s);
    }
}

/* Of the place, not of more: whether there are digests in data may show later. */
Test(iscsi_seek, byte_by_byte) {
    for (int digests = 0; digests < 4; digests++) {
        struct stream s = stream_make(digests);
        struct seek_hit at_once;
        struct seek_hit hit;
        struct seek seek;
        put(&s, 333);
        put_run(&s);
        size_t cut = 100;
        seek_init(&seek, true, &unknown, -1);
        cr_assert(look(&s, &seek, cut, s.length, false, &at_once));
        seek_init(&seek, true, &unknown, -1);
        size_t to = cut;
        while (!look(&s, &seek, cut, to, false, &hit))
            to++;
        cr_assert_eq(hit.start, at_once.start);
        cr_assert_eq(hit.digests.header, at_once.digests.header);
        cr_assert(!hit.digests.data_known || hit.digests.data == at_once.digests.data);
        cr_assert_lt(to, s.length);
        stream_free(&s);
    }
}

Test(iscsi_seek, phase_that_is_known_leaves_others_out) {
    struct stream s = stream_make(0);
    struct seek_hit hit;
    put_noise(&s, 1001);
    put_run(&s);
    for (int phase = 0; phase < 4; phase++)
        cr_assert_eq(seek_all(&s, &unknown, phase, true, &hit), phase == 1, "phase %d", phase);
    stream_free(&s);
}

Test(iscsi_seek, digests_that_are_known_to_be_others) {
    struct stream s = stream_make(1);
    struct seek_hit hit;
    put_run(&s);
    put_run(&s);
    for (int wrong = 0; wrong < 4; wrong++) {
        struct seek_digests given = known_of(wrong, 3);
        bool found = seek_all(&s, &given, -1, true, &hit);
        cr_assert_eq(found, (wrong & 1) != 0, "digests %d: a header digest is enough", wrong);
    }
    stream_free(&s);
}

/* Numbers that do not go on are not of one stream. */
Test(iscsi_seek, numbers_that_step_back) {
    struct stream s = stream_make(0);
    struct seek_hit hit;
    for (int i = 0; i < 6; i++) {
        s.number -= 2;
        put(&s, 0);
    }
    cr_assert_not(seek_all(&s, &unknown, -1, true, &hit));
    for (int i = 0; i < 6; i++) {
        s.number += 2 << 20;
        put(&s, 0);
    }
    cr_assert_not(seek_all(&s, &unknown, -1, true, &hit));
    stream_free(&s);
}

/*
 * Seen in a capture: task tags that count up in their first byte. Of Responses without data in a
 * row, read from their tags on, one seemed a Login Response, and the next ones those of other
 * codes that follow it.
 */
Test(iscsi_seek, tags_that_look_like_operation_codes) {
    struct stream s = stream_make(0);
    for (uint32_t i = 0; i < 12; i++) {
        struct made_pdu *pdu = make_response((0x1f + i) << 24, 0);
        put_be(pdu->head + 24, 0xd9e8f7fb + i, 4);
        put_be(pdu->head + 28, 0x422, 4);
        put_be(pdu->head + 32, 0x455 + i, 4);
        put_made(&s, pdu);
    }
    for (size_t cut = 1; cut < s.pdus[7]; cut++) {
        struct seek_digests given = known_of(0, 3);
        struct seek_hit hit;
        struct seek seek;
        s.start_count = 1;
        seek_init(&seek, false, &given, -1);
        cr_assert(look(&s, &seek, cut, s.length, false, &hit), "cut %zu", cut);
        cr_assert_eq((cut + hit.start) % PDU_HEAD_BYTES, 0, "cut %zu", cut);
    }
    stream_free(&s);
}

/* They have no digests, and what follows them may have. */
Test(iscsi_seek, logins_are_passed_over) {
    for (int digests = 0; digests < 4; digests++) {
        struct stream s = stream_make(0);
        struct seek_hit hit;
        for (int i = 0; i < 6; i++) {
            struct made_pdu *pdu = make_login(&s.link, true, i == 5, "HeaderDigest=CRC32C");
            put_made(&s, pdu);
        }
        size_t behind = s.length;
        s.link.header_digest = digests & 1;
        s.link.data_digest = digests & 2;
        put_run(&s);
        cr_assert(seek_all(&s, &unknown, -1, false, &hit));
        cr_assert_eq(hit.start, behind);
        expect_digests(&hit, digests);
        stream_free(&s);
    }
}

/* A number that was taken is not taken again. */
Test(iscsi_seek, numbers_that_stand_still) {
    struct stream s = stream_make(0);
    struct seek_hit hit;
    for (int i = 0; i < 6; i++) {
        s.number = 7;
        put(&s, 0);
    }
    cr_assert_not(seek_all(&s, &unknown, -1, true, &hit));
    stream_free(&s);
}

/* Four headers in a row, or two where segments began, or one with a digest, are enough. */
Test(iscsi_seek, what_is_enough) {
    struct seek_digests none = known_of(0, 3);
    struct seek_digests some = known_of(1, 3);
    struct stream s = stream_make(0);
    struct seek_hit hit;
    for (int i = 0; i < 3; i++)
        put(&s, 8);
    cr_assert_not(seek_all(&s, &none, -1, false, &hit));
    put(&s, 8);
    cr_assert(seek_all(&s, &none, -1, false, &hit));
    s.length = s.pdus[2];
    s.start_count = 2;
    s.starts[0] = s.pdus[0];
    s.starts[1] = s.pdus[1];
    cr_assert(seek_all(&s, &none, -1, false, &hit));
    s.starts[1]++;
    cr_assert_not(seek_all(&s, &none, -1, false, &hit));
    stream_free(&s);
    s = stream_make(1);
    put(&s, 0);
    cr_assert(seek_all(&s, &some, -1, false, &hit));
    stream_free(&s);
}

/* A PDU that came alone, in a segment of its own, and nothing behind it. */
Test(iscsi_seek, last_chance) {
    struct stream s = stream_make(0);
    struct seek_hit hit;
    put_noise(&s, 500);
    put(&s, 8);
    s.start_count = 1;
    s.starts[0] = 500;
    cr_assert_not(seek_all(&s, &unknown, -1, false, &hit));
    cr_assert(seek_all(&s, &unknown, -1, true, &hit));
    cr_assert_eq(hit.start, 500);
    s.length--;
    cr_assert_not(seek_all(&s, &unknown, -1, true, &hit), "not whole");
    s.length++;
    s.starts[0]--;
    cr_assert_not(seek_all(&s, &unknown, -1, true, &hit), "not where a segment began");
    stream_free(&s);
}

/* A WRITE whose data is a run of PDUs. */
static size_t put_nested(struct stream *s) {
    struct stream inner = stream_make((int)s->link.header_digest | (int)s->link.data_digest << 1);
    put_run(&inner);
    put_run(&inner);
    struct made_pdu *pdu = make(s, 30000);
    memcpy(pdu->data + 10000, inner.bytes, inner.length);
    put_made(s, pdu);
    stream_free(&inner);
    return s->pdus[s->pdu_count - 1] + PDU_HEAD_BYTES + (s->link.header_digest ? 4u : 0u) + 10000;
}

Test(iscsi_seek, pdus_in_the_data_of_a_whole_pdu) {
    for (int digests = 0; digests < 4; digests++) {
        struct stream s = stream_make(digests);
        struct seek_hit hit;
        struct seek seek;
        put_noise(&s, 501);
        size_t nested = put_nested(&s);
        put_run(&s);
        cr_assert(seek_all(&s, &unknown, -1, false, &hit));
        cr_assert_eq(hit.start, 501, "digests %d", digests);
        /* As long as it may be the outer one, the inner ones wait. */
        seek_init(&seek, true, &unknown, -1);
        cr_assert_not(look(&s, &seek, 0, nested + 900, false, &hit), "digests %d", digests);
        cr_assert(look(&s, &seek, 0, s.length, false, &hit));
        cr_assert_eq(hit.start, 501);
        stream_free(&s);
    }
}

/*
 * Without its header, nothing tells such data from PDUs: they are taken for what they seem. They
 * are of no consequence unless the target answers them, and end in a PDU that cannot be one.
 */
Test(iscsi_seek, pdus_in_the_data_of_a_pdu_that_is_cut) {
    struct stream s = stream_make(0);
    struct seek_hit hit;
    struct seek seek;
    size_t nested = put_nested(&s);
    put_run(&s);
    seek_init(&seek, true, &unknown, -1);
    cr_assert(look(&s, &seek, 100, s.length, false, &hit));
    cr_assert_eq(100 + hit.start, nested);
    /* And when the end of the outer one is not waited for any more. */
    seek_init(&seek, true, &unknown, -1);
    cr_assert_not(look(&s, &seek, 0, nested + 900, false, &hit));
    cr_assert(look(&s, &seek, 0, nested + 900, true, &hit));
    cr_assert_eq(hit.start, nested);
    stream_free(&s);
}

Test(iscsi_seek, here) {
    for (int digests = 0; digests < 4; digests++) {
        struct seek_digests given = known_of(digests, 1);
        struct stream s = stream_make(digests);
        struct seek_hit hit;
        struct seek seek;
        put(&s, 333);
        size_t first = s.length;
        put_run(&s);
        seek_init_here(&seek, true, &given);
        size_t to = 0;
        while (!look(&s, &seek, 0, to, false, &hit))
            to++;
        cr_assert_eq(hit.start, 0);
        expect_digests(&hit, digests);
        cr_assert_geq(to, first);
        seek_init_here(&seek, true, &given);
        cr_assert_not(look(&s, &seek, 1, s.length, true, &hit), "nowhere else");
        stream_free(&s);
    }
}

/* They fill the table. When what they promise does not come, it is looked at what is behind. */
Test(iscsi_seek, more_fake_headers_than_are_kept) {
    for (int last_chance = 0; last_chance < 2; last_chance++) {
        struct stream s = stream_make(0);
        struct seek_hit hit;
        struct seek seek;
        for (int i = 0; i < 100; i++) {
            put_promise(&s, last_chance ? 8 * MIB : 4001);
            put_noise(&s, 2);
        }
        size_t behind = s.length;
        put_run(&s);
        if (!last_chance)
            put_noise(&s, 8000);
        seek_init(&seek, true, &unknown, -1);
        cr_assert_not(look(&s, &seek, 0, behind + 200, false, &hit));
        cr_assert(look(&s, &seek, 0, s.length, last_chance, &hit));
        cr_assert_eq(hit.start, behind);
        stream_free(&s);
    }
}

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Shown in segments, and at last once more. The time is far from what a square of it would take. */
static void expect_quick(struct stream *s, const char *what, double most) {
    struct seek seek;
    struct seek_hit hit;
    double begun = cpu_seconds();
    seek_init(&seek, true, &unknown, -1);
    for (size_t to = 0; to < s->length; to += 1460)
        cr_assert_not(look(s, &seek, 0, to, false, &hit), "%s", what);
    look(s, &seek, 0, s->length, true, &hit);
    double took = cpu_seconds() - begun;
    fprintf(stderr, "%s: %.3f s for %zu bytes\n", what, took, s->length);
    cr_assert_lt(took, most, "%s: %f s", what, took);
    stream_free(s);
}

Test(iscsi_seek, work_for_noise) {
    struct stream s = stream_make(0);
    put_noise(&s, 8 * MIB);
    expect_quick(&s, "noise", 5);
}

Test(iscsi_seek, work_for_a_flood_of_headers) {
    for (uint32_t promised = 4096; promised <= 8 * MIB; promised *= 8) {
        struct stream s = stream_make(0);
        while (s.length < 8 * MIB)
            put_promise(&s, promised);
        /* None of them leads to another one. */
        for (size_t at = 24; at < s.length; at += SPACING)
            put_be(s.bytes + at, (s.length - at) / SPACING, 4);
        expect_quick(&s, "headers", 1.5);
    }
}

/* Behind a promise that keeps them from being believed, a chain that leads to nothing. */
Test(iscsi_seek, work_for_a_long_chain) {
    struct stream s = stream_make(0);
    put_promise(&s, 4 * MIB);
    while (s.length < 4 * MIB)
        put_promise(&s, 0);
    put_noise(&s, 2 * MIB);
    expect_quick(&s, "chain", 1.5);
}
