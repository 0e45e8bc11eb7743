#include "tap/iscsi/framer.h"

#include "common/crc32c.h"

#include <stdlib.h>

void framer_init(struct framer *f) {
    *f = (struct framer){.state = FRAMER_IN_HEAD};
}

void framer_release(struct framer *f) {
    free(f->ahs);
    f->ahs = NULL;
}

void framer_set_digests(struct framer *f, bool header, bool data) {
    f->header_digest = header;
    f->data_digest = data;
}

bool framer_is_between(const struct framer *f) {
    return f->state == FRAMER_IN_HEAD && f->have == 0;
}

static uint32_t padding_bytes(const struct framer *f) {
    return (4 - f->pdu.data_bytes % 4) % 4;
}

static uint32_t digest_value(const uint8_t digest[PDU_DIGEST_BYTES]) {
    struct cursor c = cursor_of(digest, PDU_DIGEST_BYTES);
    return cursor_le32(&c); /* RFC 7143 13.1: the CRC goes out least significant byte first */
}

/* Collects up to `want` bytes into `to`; true when they are all there. */
static bool collect(struct framer *f, struct cursor *in, uint8_t *to, size_t want) {
    size_t missing = want - f->have;
    size_t part = cursor_left(in) < missing ? cursor_left(in) : missing;
    cursor_copy(in, to + f->have, part);
    f->have += part;
    return f->have == want;
}

static void enter(struct framer *f, enum framer_state state) {
    f->state = state;
    f->have = 0;
}

/* What follows the header: skips the parts that this PDU does not have. */
static void after_header(struct framer *f) {
    f->data_done = 0;
    f->crc = 0;
    f->unverifiable = false;
    f->data_intact = true;
    enter(f, FRAMER_IN_DATA);
}

static bool head_is_whole(struct framer *f, struct cursor *in) {
    if (!collect(f, in, f->head, PDU_HEAD_BYTES))
        return false;
    f->pdu = pdu_parse(f->head);
    framer_release(f);
    if (f->pdu.ahs_bytes > 0) {
        f->ahs = malloc(f->pdu.ahs_bytes);
        enter(f, f->ahs != NULL ? FRAMER_IN_AHS : FRAMER_LOST);
        return true;
    }
    enter(f, f->header_digest ? FRAMER_IN_HEAD_DIGEST : FRAMER_AT_HEADER);
    return true;
}

static bool ahs_is_whole(struct framer *f, struct cursor *in) {
    if (!collect(f, in, f->ahs, f->pdu.ahs_bytes))
        return false;
    enter(f, f->header_digest ? FRAMER_IN_HEAD_DIGEST : FRAMER_AT_HEADER);
    return true;
}

static bool head_digest_is_whole(struct framer *f, struct cursor *in) {
    if (!collect(f, in, f->digest, PDU_DIGEST_BYTES))
        return false;
    uint32_t crc = crc32c(0, f->head, PDU_HEAD_BYTES);
    if (f->pdu.ahs_bytes > 0)
        crc = crc32c(crc, f->ahs, f->pdu.ahs_bytes);
    enter(f, crc == digest_value(f->digest) ? FRAMER_AT_HEADER : FRAMER_LOST);
    return true;
}

static enum framer_event take_data(struct framer *f, struct cursor *in) {
    uint32_t missing = f->pdu.data_bytes - f->data_done;
    size_t part = cursor_left(in) < missing ? cursor_left(in) : missing;
    if (part == 0)
        return FRAMER_NEED;
    f->piece = cursor_bytes(in, part);
    f->piece_bytes = part;
    f->piece_offset = f->data_done;
    f->data_done += (uint32_t)part;
    if (f->data_digest)
        f->crc = crc32c(f->crc, f->piece, part);
    return FRAMER_DATA;
}

static bool padding_is_whole(struct framer *f, struct cursor *in) {
    uint8_t padding[4];
    size_t had = f->have;
    if (!collect(f, in, padding, padding_bytes(f)) && f->have == had)
        return false;
    if (f->data_digest)
        f->crc = crc32c(f->crc, padding + had, f->have - had);
    return f->have == padding_bytes(f);
}

static enum framer_event end(struct framer *f) {
    enter(f, FRAMER_IN_HEAD);
    return FRAMER_END;
}

/* A data segment of no bytes has neither padding nor digest (RFC 7143 11.2.4). */
static enum framer_event after_data(struct framer *f, struct cursor *in) {
    if (f->state == FRAMER_IN_DATA)
        enter(f, FRAMER_IN_PADDING);
    if (f->state == FRAMER_IN_PADDING) {
        if (!padding_is_whole(f, in))
            return FRAMER_NEED;
        if (!f->data_digest || f->pdu.data_bytes == 0)
            return end(f);
        enter(f, FRAMER_IN_DATA_DIGEST);
    }
    if (!collect(f, in, f->digest, PDU_DIGEST_BYTES))
        return FRAMER_NEED;
    f->data_intact = f->unverifiable || f->crc == digest_value(f->digest);
    return end(f);
}

enum framer_event framer_next(struct framer *f, struct cursor *in) {
    if (f->state == FRAMER_IN_HEAD && !head_is_whole(f, in))
        return FRAMER_NEED;
    if (f->state == FRAMER_IN_AHS && !ahs_is_whole(f, in))
        return FRAMER_NEED;
    if (f->state == FRAMER_IN_HEAD_DIGEST && !head_digest_is_whole(f, in))
        return FRAMER_NEED;
    if (f->state == FRAMER_LOST)
        return FRAMER_BAD;
    if (f->state == FRAMER_AT_HEADER) {
        after_header(f);
        return FRAMER_HEADER;
    }
    if (f->state == FRAMER_IN_DATA && f->data_done < f->pdu.data_bytes)
        return take_data(f, in);
    return after_data(f, in);
}

/* Takes up to *bytes off a part of which `have` of `whole` bytes have come. */
static uint32_t swallow(uint64_t *bytes, uint32_t have, uint32_t whole) {
    uint32_t part = whole - have;
    if (part > *bytes)
        part = (uint32_t)*bytes;
    *bytes -= part;
    return part;
}

bool framer_hole(struct framer *f, uint64_t bytes, uint32_t *lost_offset, uint32_t *lost_bytes) {
    if (f->state < FRAMER_IN_DATA || f->state == FRAMER_LOST)
        return false;
    bool has_digest = f->data_digest && f->pdu.data_bytes > 0;
    f->unverifiable = true;
    *lost_offset = f->data_done;
    *lost_bytes = 0;
    if (f->state == FRAMER_IN_DATA) {
        *lost_bytes = swallow(&bytes, f->data_done, f->pdu.data_bytes);
        f->data_done += *lost_bytes;
        if (f->data_done == f->pdu.data_bytes)
            enter(f, FRAMER_IN_PADDING);
    }
    if (f->state == FRAMER_IN_PADDING) {
        f->have += swallow(&bytes, (uint32_t)f->have, padding_bytes(f));
        if (bytes > 0 && has_digest)
            enter(f, FRAMER_IN_DATA_DIGEST);
    }
    if (f->state == FRAMER_IN_DATA_DIGEST)
        f->have += swallow(&bytes, (uint32_t)f->have, PDU_DIGEST_BYTES);
    if (bytes > 0)
        f->state = FRAMER_LOST;
    return bytes == 0;
}
