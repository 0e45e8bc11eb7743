#include "tap/decap/internal.h"

#include "common/crc32.h"

/* Envelopes of Fibre Channel: FCoE and FIP, and FC frames as analysers write them. */

enum {
    FC_HEADER_BYTES = 24,
    FC_CRC_BYTES = 4,
    FCOE_HEADER_BYTES = 14, /* FC-BB-6, 7.6: version, reserved, SOF */
    FCOE_EOF_BYTES = 4,     /* EOF, reserved */
    ETHERNET_FCS_BYTES = 4,
    ORDERED_SET_BYTES = 4,
    K28_5 = 0xbc,
};

static bool is_eof(uint8_t code) {
    switch (code) {
    case FC_EOF_N:
    case FC_EOF_T:
    case FC_EOF_RT:
    case FC_EOF_DT:
    case FC_EOF_NI:
    case FC_EOF_DTI:
    case FC_EOF_RTI:
    case FC_EOF_A:
        return true;
    default:
        return false;
    }
}

/* The receiver of such a frame has to discard it (FC-FS-5, 6.3.5). */
static bool says_bad(uint8_t eof) {
    return eof == FC_EOF_NI || eof == FC_EOF_A || eof == FC_EOF_DTI || eof == FC_EOF_RTI;
}

/* What is left of the frame is `wire_bytes` of an FC frame, CRC included, of which the capture may
 * have cut some. */
static enum layer_result deliver(struct frame *f, uint8_t sof, uint8_t eof, uint64_t wire_bytes) {
    size_t captured = cursor_left(&f->bytes);
    bool whole = captured >= wire_bytes;
    uint64_t without_crc = wire_bytes > FC_CRC_BYTES ? wire_bytes - FC_CRC_BYTES : 0;
    if (!whole)
        wire_bytes = without_crc;
    if (captured > wire_bytes)
        captured = (size_t)wire_bytes;
    f->result->kind = DECAP_FC;
    f->result->fc = (struct fc_frame){
        .data = cursor_bytes(&f->bytes, captured),
        .bytes = (uint32_t)captured,
        .wire_bytes = wire_bytes < UINT32_MAX ? (uint32_t)wire_bytes : UINT32_MAX,
        .sof = sof,
        .eof = eof,
        .has_crc = whole,
        .bad = says_bad(eof),
        .vsan = f->vlan,
        .time_ns = f->time_ns,
    };
    return LAYER_DONE;
}

/* The layout before T11's, of 2007: version, length in words and SOF in 16 bits, one byte of EOF.
 */
static enum layer_result first_layout(struct frame *f) {
    uint16_t head = cursor_be16(&f->bytes);
    uint64_t wire_bytes = (head & 0x3ff0u) >> 2;
    uint8_t sof = head & 15;
    struct cursor tail = f->bytes;
    cursor_skip(&tail, (size_t)wire_bytes);
    uint8_t eof = cursor_u8(&tail);
    if (wire_bytes < FC_HEADER_BYTES + FC_CRC_BYTES || wire_bytes > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    return deliver(f, sof | (sof < 8 ? 0x30 : 0x20), eof, wire_bytes);
}

static bool crc_holds(struct cursor frame, size_t bytes) {
    const uint8_t *data = cursor_bytes(&frame, bytes);
    return data != NULL && crc32_frame(0, data, bytes) == cursor_le32(&frame);
}

/* The EOF stands at the end, or before the FCS of Ethernet where the capture has kept that. */
static uint64_t frame_end(const struct frame *f, uint8_t *eof) {
    uint64_t end = frame_wire_left(f) - FCOE_EOF_BYTES;
    struct cursor tail = f->bytes;
    if (f->cut > 0)
        return end;
    cursor_skip(&tail, (size_t)end);
    *eof = cursor_u8(&tail);
    if (is_eof(*eof) || end < FC_HEADER_BYTES + FC_CRC_BYTES + ETHERNET_FCS_BYTES ||
        !crc_holds(f->bytes, (size_t)end - ETHERNET_FCS_BYTES - FC_CRC_BYTES))
        return end;
    tail = f->bytes;
    end -= ETHERNET_FCS_BYTES;
    cursor_skip(&tail, (size_t)end);
    *eof = cursor_u8(&tail);
    return end;
}

enum layer_result layer_fcoe(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor peek = f->bytes;
    uint64_t left = frame_wire_left(f);
    uint8_t eof = FC_DELIMITER_UNKNOWN;
    if (cursor_be16(&peek) != 0)
        return first_layout(f);
    cursor_skip(&peek, FCOE_HEADER_BYTES - 3);
    uint8_t sof = cursor_u8(&peek);
    if (left < FCOE_HEADER_BYTES + FC_HEADER_BYTES + FC_CRC_BYTES + FCOE_EOF_BYTES)
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, FCOE_HEADER_BYTES))
        f->bytes = cursor_of("", 0); /* a frame of which nothing is known, but that it was there */
    f->cut = left - FCOE_HEADER_BYTES - cursor_left(&f->bytes);
    uint64_t end = frame_end(f, &eof);
    return deliver(f, sof, eof, end);
}

/* FC-BB-6, 7.7; its own lengths are read where it is understood. */
enum layer_result layer_fip(struct decap *d, struct frame *f) {
    (void)d;
    size_t bytes = cursor_left(&f->bytes);
    if (f->addresses == NULL)
        return frame_drop(f, DECAP_MALFORMED);
    f->result->kind = DECAP_FIP;
    f->result->fip = (struct fc_fip_frame){
        .data = cursor_bytes(&f->bytes, bytes),
        .bytes = (uint32_t)bytes,
        .vsan = f->vlan,
        .time_ns = f->time_ns,
    };
    memcpy(f->result->fip.destination, f->addresses, 6);
    memcpy(f->result->fip.source, f->addresses + 6, 6);
    return LAYER_DONE;
}

/*
 * LINKTYPE_FC_2: from the frame header to the end of the data field. Whether the CRC follows is not
 * said: it does where it holds.
 */
enum layer_result layer_fc2(struct decap *d, struct frame *f) {
    uint64_t wire_bytes = frame_wire_left(f);
    if (wire_bytes < FC_HEADER_BYTES)
        return frame_drop(f, DECAP_MALFORMED);
    bool holds = f->cut == 0 && wire_bytes >= FC_HEADER_BYTES + FC_CRC_BYTES &&
                 crc_holds(f->bytes, (size_t)wire_bytes - FC_CRC_BYTES);
    bool has_crc = decap_has_crc(&d->fc2_crcs, holds);
    return deliver(f, FC_DELIMITER_UNKNOWN, FC_DELIMITER_UNKNOWN,
                   has_crc ? wire_bytes : wire_bytes + FC_CRC_BYTES);
}

/* FC-FS-5, 6.3: the last two bytes say which SOF it is; class 1 is obsolete. */
static uint8_t sof_of(const uint8_t *set) {
    switch (set[3]) {
    case 0x55:
        return FC_SOF_I2;
    case 0x35:
        return FC_SOF_N2;
    case 0x56:
        return FC_SOF_I3;
    case 0x36:
        return FC_SOF_N3;
    case 0x58:
        return FC_SOF_F;
    default:
        return FC_DELIMITER_UNKNOWN;
    }
}

/* The second byte says whether the frame is invalid, and the running disparity before it. */
static uint8_t eof_of(const uint8_t *set) {
    bool invalid = set[1] == 0x8a || set[1] == 0xaa;
    switch (set[3]) {
    case 0xd5:
        return invalid ? FC_EOF_NI : FC_EOF_N;
    case 0x75:
        return FC_EOF_T;
    case 0x95:
        return invalid ? FC_EOF_DTI : FC_EOF_DT;
    case 0x99:
        return invalid ? FC_EOF_RTI : FC_EOF_RT;
    case 0xf5:
        return FC_EOF_A;
    default:
        return FC_DELIMITER_UNKNOWN;
    }
}

/* LINKTYPE_FC_2_WITH_FRAME_DELIMS: SOF, frame header to CRC, EOF, as ordered sets of 4 bytes. */
enum layer_result layer_fc2_delimited(struct decap *d, struct frame *f) {
    (void)d;
    uint64_t left = frame_wire_left(f);
    uint8_t eof = FC_DELIMITER_UNKNOWN;
    if (left < 2 * ORDERED_SET_BYTES + FC_HEADER_BYTES + FC_CRC_BYTES)
        return frame_drop(f, DECAP_MALFORMED);
    const uint8_t *sof = cursor_bytes(&f->bytes, ORDERED_SET_BYTES);
    if (sof == NULL)
        return frame_drop(f, DECAP_CUT_SHORT);
    if (sof[0] != K28_5)
        return frame_drop(f, DECAP_MALFORMED);
    uint64_t wire_bytes = left - 2 * ORDERED_SET_BYTES;
    struct cursor tail = f->bytes;
    cursor_skip(&tail, (size_t)wire_bytes);
    const uint8_t *set = cursor_bytes(&tail, ORDERED_SET_BYTES);
    if (set != NULL)
        eof = eof_of(set);
    return deliver(f, sof_of(sof), eof, wire_bytes);
}
