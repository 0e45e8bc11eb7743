#include "tap/fc/frame.h"

#include "common/crc32.h"
#include "common/cursor.h"

enum { CRC_BYTES = 4, VFT_BYTES = 8, IFR_BYTES = 8, ENCAPSULATION_BYTES = 24, MOST_EXTENDED = 4 };

/* FC-FS-5, 12.2. */
enum { DF_CTL_ESP = 0x40, DF_CTL_NETWORK = 0x20, DF_CTL_ASSOCIATION = 0x10, DF_CTL_DEVICE = 0x03 };

/* FC-FS-5, 11: extended headers stand before the frame header, each told by its R_CTL. */
static bool skip_extended(struct cursor *c, uint16_t *vsan) {
    for (int i = 0; i < MOST_EXTENDED; i++) {
        struct cursor peek = *c;
        switch (cursor_u8(&peek)) {
        case R_CTL_VFT:
            cursor_skip(&peek, 1);
            *vsan = cursor_be16(&peek) >> 1 & 0xfff;
            cursor_skip(c, VFT_BYTES);
            break;
        case R_CTL_IFR:
            cursor_skip(c, IFR_BYTES);
            break;
        case R_CTL_ENCAPSULATION:
            cursor_skip(c, ENCAPSULATION_BYTES);
            break;
        default:
            return true;
        }
    }
    return false;
}

static uint8_t read_header(struct cursor *c, struct frame *to) {
    to->r_ctl = cursor_u8(c);
    to->d_id = cursor_be24(c);
    cursor_skip(c, 1); /* CS_CTL */
    to->s_id = cursor_be24(c);
    to->type = cursor_u8(c);
    to->f_ctl = cursor_be24(c);
    to->seq_id = cursor_u8(c);
    uint8_t df_ctl = cursor_u8(c);
    to->seq_cnt = cursor_be16(c);
    to->ox_id = cursor_be16(c);
    to->rx_id = cursor_be16(c);
    to->parameter = cursor_be32(c);
    return df_ctl;
}

static uint32_t optional_bytes(uint8_t df_ctl) {
    static const uint8_t device[] = {0, 16, 32, 64};
    uint32_t bytes = device[df_ctl & DF_CTL_DEVICE];
    bytes += (df_ctl & DF_CTL_NETWORK) != 0 ? 16 : 0;
    bytes += (df_ctl & DF_CTL_ASSOCIATION) != 0 ? 32 : 0;
    return bytes;
}

/* The payload is what is left of `wire_left` bytes, behind optional headers and before fill bytes.
 */
static bool find_payload(struct cursor *c, uint64_t wire_left, uint8_t df_ctl, struct frame *to) {
    uint32_t front = optional_bytes(df_ctl);
    uint32_t fill = to->f_ctl & F_CTL_FILL;
    if (front + fill > wire_left)
        return false;
    to->wire_bytes = (uint32_t)(wire_left - front - fill);
    if (!cursor_skip(c, front))
        *c = cursor_of("", 0);
    size_t left = cursor_left(c);
    to->bytes = left < to->wire_bytes ? (uint32_t)left : to->wire_bytes;
    to->payload = cursor_bytes(c, to->bytes);
    return true;
}

enum frame_verdict frame_parse(const struct fc_frame *from, struct frame *to) {
    uint32_t crc_bytes = from->has_crc ? CRC_BYTES : 0;
    bool whole = from->bytes >= from->wire_bytes;
    struct cursor c = cursor_of(from->data, from->bytes);
    *to = (struct frame){.vsan = from->vsan};
    if (from->bytes < crc_bytes || from->bytes > from->wire_bytes)
        return FRAME_MALFORMED;
    size_t covered = from->bytes - crc_bytes;
    const uint8_t *start = cursor_bytes(&c, covered);
    to->checksum = crc32_frame(0, start, covered);
    if (from->bad || (from->has_crc && whole && cursor_le32(&c) != to->checksum))
        return FRAME_DAMAGED;
    c = cursor_of(start, covered);
    if (!skip_extended(&c, &to->vsan))
        return FRAME_MALFORMED;
    uint8_t df_ctl = read_header(&c, to);
    if (!cursor_ok(&c))
        return whole ? FRAME_MALFORMED : FRAME_UNREADABLE;
    if ((df_ctl & DF_CTL_ESP) != 0)
        return FRAME_ENCRYPTED;
    uint64_t headers = covered - cursor_left(&c);
    if (!find_payload(&c, from->wire_bytes - crc_bytes - headers, df_ctl, to))
        return FRAME_MALFORMED;
    return FRAME_GOOD;
}
