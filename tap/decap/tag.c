#include "tap/decap/internal.h"

/* IEEE 802.1ah: priority and service instance, then the customer's frame with its addresses. */
enum layer_result layer_backbone(struct decap *d, struct frame *f) {
    (void)d;
    if (!cursor_skip(&f->bytes, 4))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/* Cisco FabricPath: the tree and a time to live in two bytes, then the whole frame. */
enum layer_result layer_fabricpath(struct decap *d, struct frame *f) {
    (void)d;
    if (!cursor_skip(&f->bytes, 2))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/* RFC 6325, 3: version in 2 bits, length of the options in units of 4 in 5, two nicknames. */
enum layer_result layer_trill(struct decap *d, struct frame *f) {
    (void)d;
    uint16_t first = cursor_be16(&f->bytes);
    cursor_skip(&f->bytes, 4);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    size_t option_bytes = (first >> 6 & 0x1fu) * 4;
    if (first >> 14 != 0 || option_bytes > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, option_bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/*
 * Arista's header in front of the EtherType: subtype 1 is a time; a version of time scale (0 TAI,
 * 1 UTC), format (1: 64 bits, 2: 48 bits) and hardware. Seconds in 32 or 16 bits, then nanoseconds.
 * The layout of the time is published for the hardware 0 (R and R2 series) only.
 */
enum layer_result layer_arista(struct decap *d, struct frame *f) {
    enum { TAI_MINUS_UTC_S = 37 /* since 2017-01-01 */ };
    struct cursor *c = &f->bytes;
    uint16_t subtype = cursor_be16(c);
    uint16_t version = cursor_be16(c);
    unsigned format = version >> 4 & 0x0f;
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (subtype != 1 || version >> 8 > 1 || (format != 1 && format != 2))
        return frame_drop(f, DECAP_NOT_IP);
    uint64_t seconds = format == 1 ? cursor_be32(c) : cursor_be16(c);
    struct arista_stamp stamp = {.seconds = seconds,
                                 .fraction_ns = cursor_be32(c),
                                 .short_seconds = format == 2,
                                 .ahead_s = version >> 8 == 0 ? TAI_MINUS_UTC_S : 0};
    uint32_t ethertype = cursor_be16(c);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (d->time.clock == CLOCK_ARISTA && (version & 0x0f) == 0)
        f->time_ns = device_time_arista(&d->time, &stamp, f->capture_ns);
    return frame_next(f, SPACE_ETHERTYPE, ethertype);
}

enum { LABEL_GAL = 13 };

/* RFC 3032, 2.1. True at the bottom of the stack. */
static bool read_label(struct cursor *c, uint32_t *label) {
    uint32_t entry = cursor_be32(c);
    *label = entry >> 12;
    return (entry >> 8 & 1) != 0;
}

bool frame_fits_ethernet(const struct frame *f, size_t offset) {
    struct frame inner = *f;
    cursor_skip(&inner.bytes, offset + 12);
    uint32_t ethertype = cursor_be16(&inner.bytes);
    if (!cursor_ok(&inner.bytes) || !decap_knows_ethertype(ethertype))
        return false;
    if (ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6)
        return true;
    return frame_ip_bytes(&inner) > 0 &&
           *inner.bytes.next >> 4 == (ethertype == ETHERTYPE_IPV4 ? 4 : 6);
}

/*
 * What is below the labels is not said: IP by its first nibble, or the Ethernet frame of a
 * pseudowire, with a control word (RFC 4385, RFC 4448 4.6) or without. A MAC address can begin like
 * any of them, so what follows must fit.
 */
enum layer_result layer_mpls(struct decap *d, struct frame *f) {
    (void)d;
    uint32_t label = 0;
    while (cursor_ok(&f->bytes) && !read_label(&f->bytes, &label))
        ;
    struct cursor peek = f->bytes;
    unsigned nibble = cursor_u8(&peek) >> 4;
    if (!cursor_ok(&peek))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (label == LABEL_GAL)
        return frame_drop(f, DECAP_NOT_IP);
    bool is_ip = frame_ip_bytes(f) == frame_wire_left(f) || !frame_fits_ethernet(f, 0);
    if ((nibble == 4 || nibble == 6) && is_ip)
        return frame_next(f, SPACE_ETHERTYPE, nibble == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    if (nibble == 0 && frame_fits_ethernet(f, 4))
        cursor_skip(&f->bytes, 4);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}
