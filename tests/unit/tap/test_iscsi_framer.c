#include "tap/iscsi/framer.h"

#include "../common/seed.h"
#include "iscsi_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_BYTES = 8192 };

/* What a framer said of a stream, as text: "H<opcode> D<bytes> E" and so on. */
struct heard {
    char text[4096];
    uint8_t data[STREAM_BYTES];
    size_t data_bytes;
};

static void say(struct heard *h, const char *format, unsigned value) {
    size_t used = strlen(h->text);
    snprintf(h->text + used, sizeof h->text - used, format, value);
}

static void hear(struct framer *f, struct heard *h, const uint8_t *bytes, size_t count) {
    struct cursor in = cursor_of(bytes, count);
    for (;;) {
        switch (framer_next(f, &in)) {
        case FRAMER_NEED:
            cr_assert_eq(cursor_left(&in), 0);
            return;
        case FRAMER_HEADER:
            say(h, "H%x ", f->pdu.opcode);
            break;
        case FRAMER_DATA:
            cr_assert_eq(f->piece_offset + f->piece_bytes <= f->pdu.data_bytes, true);
            memcpy(h->data + h->data_bytes, f->piece, f->piece_bytes);
            h->data_bytes += f->piece_bytes;
            break;
        case FRAMER_END:
            say(h, f->data_intact ? "E " : "broken ", 0);
            break;
        case FRAMER_BAD:
            say(h, "bad ", 0);
            return;
        }
    }
}

/* Three PDUs: with an AHS and data that needs padding, with no data, with aligned data. */
static size_t make_stream(uint8_t *to, bool header_digest, bool data_digest) {
    struct iscsi_link l = {.header_digest = header_digest, .data_digest = data_digest};
    static const size_t sizes[] = {7, 0, 64};
    size_t used = 0;
    for (size_t i = 0; i < 3; i++) {
        struct made_pdu *pdu = make_pdu(i == 0 ? 0x01 : 0x05, (uint32_t)i);
        pdu->ahs_bytes = i == 0 ? 20 : 0;
        pdu->data_bytes = sizes[i];
        for (size_t k = 0; k < sizes[i]; k++)
            pdu->data[k] = (uint8_t)(k + 16 * i);
        used += made_pdu_bytes(&l, pdu, to + used);
        free(pdu);
    }
    return used;
}

Test(iscsi_framer, split_at_every_byte_with_every_pair_of_digests) {
    for (int digests = 0; digests < 4; digests++) {
        uint8_t stream[STREAM_BYTES];
        size_t bytes = make_stream(stream, digests & 1, digests & 2);
        for (size_t split = 0; split <= bytes; split++) {
            struct framer f;
            struct heard h = {0};
            framer_init(&f);
            framer_set_digests(&f, digests & 1, digests & 2);
            hear(&f, &h, stream, split);
            hear(&f, &h, stream + split, bytes - split);
            cr_assert_str_eq(h.text, "H1 E H5 E H5 E ", "digests %d, split %zu: %s", digests, split,
                             h.text);
            cr_assert_eq(h.data_bytes, 71);
            cr_assert_eq(h.data[6], 6);
            cr_assert_eq(h.data[7], 32);
            cr_assert(framer_is_between(&f));
            framer_release(&f);
        }
    }
}

Test(iscsi_framer, one_byte_at_a_time) {
    uint8_t stream[STREAM_BYTES];
    size_t bytes = make_stream(stream, true, true);
    struct framer f;
    struct heard h = {0};
    framer_init(&f);
    framer_set_digests(&f, true, true);
    for (size_t i = 0; i < bytes; i++)
        hear(&f, &h, stream + i, 1);
    cr_assert_str_eq(h.text, "H1 E H5 E H5 E ");
    framer_release(&f);
}

Test(iscsi_framer, every_broken_bit_is_found) {
    uint8_t stream[STREAM_BYTES];
    size_t bytes = make_stream(stream, true, true);
    for (size_t i = 0; i < bytes; i++) {
        struct framer f;
        struct heard h = {0};
        stream[i] ^= 0x10;
        framer_init(&f);
        framer_set_digests(&f, true, true);
        hear(&f, &h, stream, bytes);
        cr_assert(strstr(h.text, "bad") != NULL || strstr(h.text, "broken") != NULL ||
                      !framer_is_between(&f),
                  "byte %zu: %s", i, h.text);
        stream[i] ^= 0x10;
        framer_release(&f);
    }
}

Test(iscsi_framer, a_broken_data_digest_does_not_lose_the_place) {
    struct iscsi_link l = {.data_digest = true};
    uint8_t stream[STREAM_BYTES];
    struct made_pdu *pdu = make_pdu(0x05, 0);
    pdu->data_bytes = 5;
    pdu->break_data_digest = true;
    size_t bytes = made_pdu_bytes(&l, pdu, stream);
    pdu->break_data_digest = false;
    bytes += made_pdu_bytes(&l, pdu, stream + bytes);
    struct framer f;
    struct heard h = {0};
    framer_init(&f);
    framer_set_digests(&f, false, true);
    hear(&f, &h, stream, bytes);
    cr_assert_str_eq(h.text, "H5 broken H5 E ");
    framer_release(&f);
    free(pdu);
}

/* RFC 7143 13.1 gives the digest of 32 zero bytes: aa 36 91 8a on the wire. */
Test(iscsi_framer, digest_as_on_the_wire) {
    uint8_t stream[PDU_HEAD_BYTES + 32 + 4] = {0x05};
    stream[7] = 32;
    static const uint8_t digest[] = {0xaa, 0x36, 0x91, 0x8a};
    memcpy(stream + PDU_HEAD_BYTES + 32, digest, 4);
    struct framer f;
    struct heard h = {0};
    framer_init(&f);
    framer_set_digests(&f, false, true);
    hear(&f, &h, stream, sizeof stream);
    cr_assert_str_eq(h.text, "H5 E ");
    framer_release(&f);
}

/* The PDU after a hole must be found wherever the hole lies within the data and what belongs to it.
 */
Test(iscsi_framer, holes_within_a_data_segment) {
    struct iscsi_link l = {.header_digest = true, .data_digest = true};
    uint8_t stream[STREAM_BYTES];
    struct made_pdu *pdu = make_pdu(0x05, 0);
    pdu->data_bytes = 37;
    size_t first = made_pdu_bytes(&l, pdu, stream);
    size_t bytes = first + made_pdu_bytes(&l, pdu, stream + first);
    size_t head = PDU_HEAD_BYTES + 4;
    for (size_t start = head; start < first; start++) {
        for (size_t end = start + 1; end <= first; end++) {
            struct framer f;
            struct heard h = {0};
            uint32_t offset = 0;
            uint32_t lost = 0;
            framer_init(&f);
            framer_set_digests(&f, true, true);
            hear(&f, &h, stream, start);
            cr_assert(framer_hole(&f, end - start, &offset, &lost), "%zu-%zu", start, end);
            size_t data_end = head + 37;
            cr_assert_eq(offset, (start < data_end ? start : data_end) - head);
            cr_assert_eq(offset + lost, (end < data_end ? end : data_end) - head);
            hear(&f, &h, stream + end, bytes - end);
            cr_assert_str_eq(h.text, "H5 E H5 E ", "%zu-%zu: %s", start, end, h.text);
            framer_release(&f);
        }
    }
    free(pdu);
}

Test(iscsi_framer, holes_that_hide_the_next_header) {
    struct iscsi_link l = {0};
    uint8_t stream[STREAM_BYTES];
    struct made_pdu *pdu = make_pdu(0x05, 0);
    pdu->data_bytes = 37;
    size_t bytes = made_pdu_bytes(&l, pdu, stream);
    for (size_t start = 0; start <= bytes; start++) {
        struct framer f;
        struct heard h = {0};
        uint32_t offset = 0;
        uint32_t lost = 0;
        framer_init(&f);
        hear(&f, &h, stream, start);
        cr_assert_not(framer_hole(&f, bytes - start + 1, &offset, &lost), "%zu", start);
        framer_release(&f);
    }
    free(pdu);
}

Test(iscsi_framer, random_pieces) {
    uint8_t stream[STREAM_BYTES];
    size_t bytes = make_stream(stream, true, true);
    srand(test_seed());
    for (int round = 0; round < 500; round++) {
        struct framer f;
        struct heard h = {0};
        framer_init(&f);
        framer_set_digests(&f, true, true);
        for (size_t done = 0; done < bytes;) {
            size_t part = (size_t)rand() % 40;
            part = part < bytes - done ? part : bytes - done;
            hear(&f, &h, stream + done, part);
            done += part;
        }
        cr_assert_str_eq(h.text, "H1 E H5 E H5 E ");
        framer_release(&f);
    }
}
