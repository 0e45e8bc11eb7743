#include "tap/decap/internal.h"

/* RFC 2784, RFC 2890; routing as in RFC 1701. */
enum {
    GRE_CHECKSUM = 0x8000,
    GRE_ROUTING = 0x4000,
    GRE_KEY = 0x2000,
    GRE_SEQUENCE = 0x1000,
    GRE_VERSION = 0x0007,
};

/* Source route entries: address family, offset, length, data; one of length 0 ends them. */
static bool skip_routing(struct cursor *c) {
    for (;;) {
        cursor_skip(c, 3);
        uint8_t length = cursor_u8(c);
        if (!cursor_skip(c, length))
            return false;
        if (length == 0)
            return true;
    }
}

enum layer_result layer_gre(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor *c = &f->bytes;
    f->gre_flags = cursor_be16(c);
    uint16_t protocol = cursor_be16(c);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if ((f->gre_flags & GRE_VERSION) != 0) /* 1 is PPTP, which carries PPP */
        return frame_drop(f, DECAP_NOT_IP);
    if ((f->gre_flags & (GRE_CHECKSUM | GRE_ROUTING)) != 0)
        cursor_skip(c, 4);
    if ((f->gre_flags & GRE_KEY) != 0)
        cursor_skip(c, 4);
    f->gre_sequence = (f->gre_flags & GRE_SEQUENCE) != 0 ? cursor_be32(c) : 0;
    if ((f->gre_flags & GRE_ROUTING) != 0 && !skip_routing(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_GRE, protocol);
}

/* --- ERSPAN: draft-foschiano-erspan-03 -------------------------------------------------------- */

static void number_frame(struct decap *d, const struct frame *f, enum loss_kind kind,
                         uint16_t session, uint16_t engine) {
    if ((f->gre_flags & GRE_SEQUENCE) == 0)
        return;
    struct loss_key key = {
        .kind = (uint8_t)kind, .family = f->family, .session = session, .engine = engine};
    memcpy(key.source, f->source, f->family == 4 ? 4 : 16);
    memcpy(key.destination, f->destination, f->family == 4 ? 4 : 16);
    losses_number(d->losses, &key, f->gre_sequence, 32, f->time_ns);
}

/* The T bit: it was longer than the mirror can send. How long, what is inside may know. */
static void note_truncated(struct frame *f, uint16_t session_word) {
    if ((session_word & 0x0400) != 0 && f->cut == 0)
        f->cut = 1;
}

/* Type I has no header: the frame follows at once. GRE's sequence tells it from type II. */
enum layer_result layer_erspan1or2(struct decap *d, struct frame *f) {
    if ((f->gre_flags & GRE_SEQUENCE) == 0)
        return frame_next(f, SPACE_LINK, LINK_ETHERNET);
    struct cursor *c = &f->bytes;
    unsigned version = cursor_be16(c) >> 12;
    uint16_t session_word = cursor_be16(c);
    cursor_skip(c, 4);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (version != 1)
        return frame_drop(f, DECAP_MALFORMED);
    number_frame(d, f, LOSS_ERSPAN2, session_word & 0x03ff, 0);
    note_truncated(f, session_word);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

static void stamp_erspan(struct decap *d, struct frame *f, uint32_t ticks, uint16_t flags,
                         struct cursor subheader) {
    uint8_t source[16] = {0};
    memcpy(source, f->source, f->family == 4 ? 4 : 16);
    struct erspan_stamp stamp = {.source = source, .ticks = ticks, .granularity = flags >> 1 & 3};
    unsigned platform = cursor_be32(&subheader) >> 26;
    stamp.seconds = cursor_be32(&subheader);
    stamp.has_seconds = cursor_ok(&subheader) && (platform == 5 || platform == 6);
    f->time_ns = device_time_erspan(&d->time, &stamp, f->capture_ns);
}

enum { DAMAGED_BSO = 3, FRAME_ETHERNET = 0, FRAME_IP = 2 };

static enum layer_result next_erspan3(struct frame *f, uint16_t flags) {
    struct cursor peek = f->bytes;
    switch (flags >> 10 & 0x1f) {
    case FRAME_ETHERNET:
        return frame_next(f, SPACE_LINK, LINK_ETHERNET);
    case FRAME_IP:
        return frame_next(f, SPACE_ETHERTYPE,
                          cursor_u8(&peek) >> 4 == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    default:
        return frame_drop(f, DECAP_OTHER_MIRROR);
    }
}

enum layer_result layer_erspan3(struct decap *d, struct frame *f) {
    struct cursor *c = &f->bytes;
    unsigned version = cursor_be16(c) >> 12;
    uint16_t session_word = cursor_be16(c);
    uint32_t ticks = cursor_be32(c);
    cursor_skip(c, 2);
    uint16_t flags = cursor_be16(c);
    struct cursor subheader = cursor_child(c, (flags & 1) != 0 ? 8 : 0);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (version != 2)
        return frame_drop(f, DECAP_MALFORMED);
    if (d->time.clock == CLOCK_ERSPAN)
        stamp_erspan(d, f, ticks, flags, subheader);
    number_frame(d, f, LOSS_ERSPAN3, session_word & 0x03ff, flags >> 4 & 0x3f);
    note_truncated(f, session_word);
    if ((session_word >> 11 & 3) == DAMAGED_BSO)
        return frame_drop(f, DECAP_DAMAGED);
    return next_erspan3(f, flags);
}

/* --- Ethernet in IP --------------------------------------------------------------------------- */

/* RFC 3378: version 3 and zeros. */
enum layer_result layer_etherip(struct decap *d, struct frame *f) {
    (void)d;
    uint16_t head = cursor_be16(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (head != 0x3000)
        return frame_drop(f, DECAP_MALFORMED);
    return frame_next(f, SPACE_LINK, LINK_ETHERNET);
}

/*
 * RFC 3931, 4.1.1: a session, then a cookie of 0, 4 or 8 bytes and a sublayer of 0 or 4, as both
 * ends agreed: nothing in the packet says it. The least at which a frame fits is taken. Session 0
 * is the tunnel's own control.
 */
enum layer_result layer_l2tp(struct decap *d, struct frame *f) {
    (void)d;
    uint32_t session = cursor_be32(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    for (size_t offset = 0; session != 0 && offset <= 12; offset += 4) {
        if (!frame_fits_ethernet(f, offset))
            continue;
        cursor_skip(&f->bytes, offset);
        return frame_next(f, SPACE_LINK, LINK_ETHERNET);
    }
    return frame_drop(f, DECAP_NOT_IP);
}
