#include "tap/decap/internal.h"

/* RFC 768. A length of 0 is a super-frame or a jumbogram (RFC 2675): all of it. */
enum layer_result layer_udp(struct decap *d, struct frame *f) {
    struct cursor *c = &f->bytes;
    cursor_skip(c, 2);
    uint16_t port = cursor_be16(c);
    uint32_t length = cursor_be16(c);
    cursor_skip(c, 2);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (length > 0 && length < 8)
        return frame_drop(f, DECAP_MALFORMED);
    if (length > 0 && length - 8 < frame_wire_left(f))
        frame_limit(f, length - 8);
    if (d->time.clock == CLOCK_ERSPAN) {
        uint8_t source[16] = {0};
        memcpy(source, f->source, f->family == 4 ? 4 : 16);
        if (device_time_marker(&d->time, *c, source, f->capture_ns))
            return frame_drop(f, DECAP_NOT_TCP);
    }
    return frame_next(f, SPACE_UDP, port);
}

/* RFC 7348, 5: the I flag, a network identifier; then a frame. */
enum layer_result layer_vxlan(struct decap *d, struct frame *f) {
    (void)d;
    uint8_t flags = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 7);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if ((flags & 0x08) == 0)
        return frame_drop(f, DECAP_NOT_TCP);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/* Next protocols, the same in VXLAN-GPE and NSH (RFC 8300, 11.1.5). */
static enum layer_result next_of_service(struct frame *f, uint8_t protocol) {
    switch (protocol) {
    case 1:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV4);
    case 2:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV6);
    case 3:
        return frame_next(f, SPACE_LINK, LINK_ETHERNET);
    case 4:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_NSH);
    case 5:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_MPLS);
    default:
        return frame_drop(f, DECAP_NOT_IP);
    }
}

/* draft-ietf-nvo3-vxlan-gpe: with the P flag, the last of the reserved bytes says what follows. */
enum layer_result layer_vxlan_gpe(struct decap *d, struct frame *f) {
    (void)d;
    uint8_t flags = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 2);
    uint8_t protocol = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 4);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return next_of_service(f, (flags & 0x04) != 0 ? protocol : 3);
}

/* RFC 8300, 2.2: the length of all of it in units of 4; base and service path are 8 bytes. */
enum layer_result layer_nsh(struct decap *d, struct frame *f) {
    (void)d;
    uint16_t first = cursor_be16(&f->bytes);
    cursor_skip(&f->bytes, 1);
    uint8_t protocol = cursor_u8(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    size_t bytes = (first & 0x3fu) * 4;
    if (first >> 14 != 0 || bytes < 8 || bytes - 4 > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, bytes - 4))
        return frame_drop(f, DECAP_CUT_SHORT);
    return next_of_service(f, protocol);
}

/* RFC 8926, 3.4: options in units of 4, and an EtherType. */
enum layer_result layer_geneve(struct decap *d, struct frame *f) {
    (void)d;
    uint8_t first = cursor_u8(&f->bytes);
    cursor_skip(&f->bytes, 1);
    uint16_t protocol = cursor_be16(&f->bytes);
    cursor_skip(&f->bytes, 4);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    size_t option_bytes = (first & 0x3fu) * 4;
    if (first >> 6 != 0 || option_bytes > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, option_bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_ETHERTYPE, protocol);
}

/* HP ProCurve's remote mirror: 12 bytes of which little is known, then the frame. */
enum layer_result layer_erm(struct decap *d, struct frame *f) {
    (void)d;
    if (!cursor_skip(&f->bytes, 12))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

enum { TZSP_RECEIVED = 0, TZSP_TO_SEND = 1, TZSP_ETHERNET = 1, TAG_PADDING = 0, TAG_END = 1 };

/* TaZmen Sniffer Protocol: version, type, what is inside; tags of number, length and value. */
enum layer_result layer_tzsp(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor *c = &f->bytes;
    uint8_t version = cursor_u8(c);
    uint8_t type = cursor_u8(c);
    uint16_t inside = cursor_be16(c);
    uint8_t tag = TAG_PADDING;
    while (cursor_ok(c) && tag != TAG_END) {
        tag = cursor_u8(c);
        if (tag != TAG_PADDING && tag != TAG_END)
            cursor_skip(c, cursor_u8(c));
    }
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (version != 1)
        return frame_drop(f, DECAP_MALFORMED);
    if ((type != TZSP_RECEIVED && type != TZSP_TO_SEND) || inside != TZSP_ETHERNET)
        return frame_drop(f, DECAP_NOT_IP);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/* RFC 3931, 4.1.2: flags and version, 2 bytes reserved, then as in IP. T is control. */
enum layer_result layer_l2tp_udp(struct decap *d, struct frame *f) {
    uint16_t flags = cursor_be16(&f->bytes);
    cursor_skip(&f->bytes, 2);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if ((flags & 0x0f) != 3 || (flags & 0x8000) != 0)
        return frame_drop(f, DECAP_NOT_IP);
    return layer_l2tp(d, f);
}

/* RFC 3948: ESP, unless the first four bytes are 0 (then a key exchange) or there is but one. */
enum layer_result layer_udp_esp(struct decap *d, struct frame *f) {
    (void)d;
    uint32_t first = cursor_be32(&f->bytes);
    return frame_drop(f, cursor_ok(&f->bytes) && first != 0 ? DECAP_ESP : DECAP_NOT_TCP);
}
