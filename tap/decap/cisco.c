#include "tap/decap/internal.h"

#include "common/crc32.h"

/*
 * FC frames in Ethernet as Cisco's MDS switches and port analyser adapters send them. No document
 * gives their layout; this is what analysers have read for twenty years.
 */

enum {
    FC_HEADER_BYTES = 24,
    FC_CRC_BYTES = 4,
    PAA_TAIL_BYTES = 4,
    PAA_SHORTEST = 40, /* what the adapter's head and tail leave of the least Ethernet payload */
    MDS_HEAD_BYTES = 16,
    MDS_TAIL_BYTES = 6,
};

/* Both number the delimiters alike; class 1 and 4 are of no use here. */
static uint8_t sof_of(unsigned code) {
    static const uint8_t codes[16] = {
        [4] = FC_SOF_I2, [5] = FC_SOF_N2, [6] = FC_SOF_I3, [7] = FC_SOF_N3, [8] = FC_SOF_F};
    return codes[code & 15];
}

static uint8_t eof_of(uint8_t code) {
    static const uint8_t codes[16] = {
        [1] = FC_EOF_T,   [2] = FC_EOF_DT, [3] = FC_EOF_N,   [4] = FC_EOF_A,
        [6] = FC_EOF_DTI, [7] = FC_EOF_NI, [10] = FC_EOF_RT, [14] = FC_EOF_RTI};
    return code < 16 ? codes[code] : FC_DELIMITER_UNKNOWN;
}

static bool says_bad(uint8_t eof) {
    return eof == FC_EOF_NI || eof == FC_EOF_A || eof == FC_EOF_DTI || eof == FC_EOF_RTI;
}

static bool crc_holds(struct cursor frame, size_t bytes) {
    const uint8_t *data = bytes >= FC_CRC_BYTES ? cursor_bytes(&frame, bytes - FC_CRC_BYTES) : NULL;
    return data != NULL && crc32_frame(0, data, bytes - FC_CRC_BYTES) == cursor_le32(&frame);
}

static enum layer_result deliver(struct frame *f, struct fc_frame frame, size_t bytes) {
    frame.data = cursor_bytes(&f->bytes, bytes);
    frame.bytes = (uint32_t)bytes;
    frame.time_ns = f->time_ns;
    if (frame.wire_bytes < bytes)
        frame.wire_bytes = (uint32_t)bytes;
    f->result->kind = DECAP_FC;
    f->result->fc = frame;
    return LAYER_DONE;
}

/* The adapter's error flags. */
enum {
    PAA_LENGTH = 0x01, /* the length in words, CRC included, stands before the tail */
    PAA_EMPTY = 0x02,
    PAA_NO_DATA = 0x04,
    PAA_TRUNCATED = 0x08,
    PAA_BAD_CRC = 0x10,
    PAA_JUMBO = 0x40,
    PAA_CONTROL = 0x80, /* control characters inside of the frame */
};

/* A short frame is padded: the end is where the CRC holds. */
static size_t without_padding(struct cursor bytes) {
    size_t left = cursor_left(&bytes);
    size_t end = left;
    while (left <= PAA_SHORTEST && end > FC_HEADER_BYTES + FC_CRC_BYTES && !crc_holds(bytes, end))
        end -= FC_CRC_BYTES;
    return crc_holds(bytes, end) ? end : left;
}

static void number_paa(struct decap *d, const struct frame *f, uint16_t count) {
    struct loss_key key = {.kind = LOSS_PAA};
    if (f->addresses == NULL)
        return;
    memcpy(key.source, f->addresses + 6, 6);
    losses_number(d->losses, &key, count, 16, f->time_ns);
}

/* `f` holds the frame and nothing behind it. */
static enum layer_result deliver_paa(struct decap *d, struct frame *f, struct fc_frame frame,
                                     uint8_t errors, uint32_t words) {
    size_t bytes = without_padding(f->bytes);
    bool cut = (errors & (PAA_TRUNCATED | PAA_NO_DATA)) != 0;
    frame.has_crc = !cut && decap_has_crc(&d->paa_crcs, crc_holds(f->bytes, bytes));
    frame.bad = says_bad(frame.eof) || (errors & (PAA_BAD_CRC | PAA_JUMBO | PAA_CONTROL)) != 0;
    if (cut)
        frame.wire_bytes =
            words > 1 && words < UINT16_MAX ? words * 4 - FC_CRC_BYTES : (uint32_t)bytes + 1;
    return deliver(f, frame, bytes);
}

/*
 * "Boardwalk": SOF in 4 bits and VSAN in 12; the frame; perhaps its length; in the last 4 bytes a
 * count of frames in 16 bits, error flags, EOF.
 */
enum layer_result layer_paa(struct decap *d, struct frame *f) {
    uint16_t head = cursor_be16(&f->bytes);
    size_t left = cursor_left(&f->bytes);
    struct fc_frame frame = {.sof = sof_of(head >> 12), .vsan = head & 0x0fff};
    if (!cursor_ok(&f->bytes) || (f->cut > 0 && left < FC_HEADER_BYTES))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (f->cut > 0) { /* by the capture: the tail is not there */
        uint64_t behind = PAA_TAIL_BYTES + FC_CRC_BYTES;
        uint64_t wire_bytes = left + f->cut - (f->cut > behind ? behind : f->cut - 1);
        frame.wire_bytes = wire_bytes < UINT32_MAX ? (uint32_t)wire_bytes : UINT32_MAX;
        return deliver(f, frame, left);
    }
    if (left < PAA_TAIL_BYTES)
        return frame_drop(f, DECAP_MALFORMED);
    struct cursor tail = f->bytes;
    cursor_skip(&tail, left - PAA_TAIL_BYTES);
    number_paa(d, f, cursor_be16(&tail));
    uint8_t errors = cursor_u8(&tail);
    frame.eof = eof_of(cursor_u8(&tail));
    if ((errors & PAA_EMPTY) != 0)
        return frame_drop(f, DECAP_DAMAGED);
    size_t behind = PAA_TAIL_BYTES + ((errors & PAA_LENGTH) != 0 ? 4 : 0);
    if (left < behind + FC_HEADER_BYTES)
        return frame_drop(f, DECAP_MALFORMED);
    struct cursor length = f->bytes;
    cursor_skip(&length, left - behind);
    uint32_t words = (errors & PAA_LENGTH) != 0 ? cursor_be32(&length) : 0;
    frame_limit(f, words > 0 && words < (left - behind) / 4 ? words * UINT64_C(4) : left - behind);
    return deliver_paa(d, f, frame, errors, words);
}

/*
 * The header inside of an MDS: SOF in the low half of byte 1, the length in 13 bits of bytes 2 and
 * 3, VSAN in 12 bits of bytes 13 and 14; the frame; then EOF, a byte, and a CRC that is not looked
 * at, as no capture tells its byte order. The length counts the frame and these 6 bytes.
 */
enum layer_result layer_mds(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor *c = &f->bytes;
    cursor_skip(c, 1);
    struct fc_frame frame = {.sof = sof_of(cursor_u8(c) & 15)};
    size_t length = cursor_be16(c) & 0x1fff;
    cursor_skip(c, 9);
    frame.vsan = cursor_be16(c) & 0x0fff;
    cursor_skip(c, 1);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (length < FC_HEADER_BYTES + MDS_TAIL_BYTES || length > frame_wire_left(f))
        return frame_drop(f, f->number == 0 ? DECAP_NOT_IP : DECAP_MALFORMED);
    size_t bytes = length - MDS_TAIL_BYTES;
    struct cursor tail = *c;
    frame.wire_bytes = (uint32_t)bytes;
    if (cursor_skip(&tail, bytes))
        frame.eof = eof_of(cursor_u8(&tail));
    frame.bad = says_bad(frame.eof);
    return deliver(f, frame, bytes < cursor_left(c) ? bytes : cursor_left(c));
}
