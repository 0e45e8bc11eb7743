#include "tap/decap/internal.h"

/* The addresses, which may lie in a datagram that the collection is about to drop. */
static void keep_addresses(struct decap *d, struct frame *f) {
    size_t bytes = f->family == 4 ? 4 : 16;
    memmove(d->kept, f->source, bytes);
    f->source = d->kept;
    memmove(d->kept + 16, f->destination, bytes);
    f->destination = d->kept + 16;
}

/*
 * A fragment: into the collection, and out of it comes the whole datagram, sooner or later. It may
 * carry fragments itself, when a tunnel was cut; the limit of layers ends that.
 */
static enum layer_result collect(struct decap *d, struct frame *f, struct fragment *fragment) {
    keep_addresses(d, f);
    fragment->family = f->family;
    fragment->source = f->source;
    fragment->destination = f->destination;
    fragment->bytes = f->bytes;
    fragment->cut = f->cut > 0;
    fragment->time_ns = f->time_ns;
    struct rebuilt rebuilt;
    if (!fragments_add(d->fragments, fragment, &rebuilt))
        return LAYER_DONE;
    f->bytes = rebuilt.bytes;
    f->cut = 0;
    f->rebuilt = true;
    if (rebuilt.span_ns > f->rebuilt_ns)
        f->rebuilt_ns = rebuilt.span_ns;
    return frame_next(f, SPACE_PROTOCOL, rebuilt.protocol);
}

/*
 * RFC 791, 3.1. The total length tells padding from payload. A total length of 0 is a super-frame
 * of segmentation offload, seen on the host that sends it: all of the frame is payload.
 */
enum layer_result layer_ipv4(struct decap *d, struct frame *f) {
    uint64_t wire_bytes = frame_wire_left(f);
    struct cursor *c = &f->bytes;
    uint8_t first = cursor_u8(c);
    cursor_skip(c, 1);
    uint32_t total_bytes = cursor_be16(c);
    uint32_t id = cursor_be16(c);
    uint16_t flags_offset = cursor_be16(c);
    cursor_skip(c, 1);
    uint8_t protocol = cursor_u8(c);
    cursor_skip(c, 2);
    f->source = cursor_bytes(c, 4);
    f->destination = cursor_bytes(c, 4);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    uint32_t header_bytes = (first & 0x0f) * 4u;
    if (total_bytes == 0)
        total_bytes = wire_bytes < UINT32_MAX ? (uint32_t)wire_bytes : UINT32_MAX;
    if (first >> 4 != 4 || header_bytes < 20 || total_bytes < header_bytes)
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(c, header_bytes - 20))
        return frame_drop(f, DECAP_CUT_SHORT);
    frame_limit(f, total_bytes - header_bytes);
    f->family = 4;
    bool more = (flags_offset & 0x2000) != 0;
    uint32_t offset = (flags_offset & 0x1fff) * 8u;
    if (!more && offset == 0)
        return frame_next(f, SPACE_PROTOCOL, protocol);
    struct fragment fragment = {.id = id, .protocol = protocol, .offset = offset, .last = !more};
    return collect(d, f, &fragment);
}

/*
 * RFC 8200, 3. A payload length of 0 is a jumbogram (RFC 2675) or an offload super-frame: all of
 * the frame is payload, so that the jumbo option itself need not be read.
 */
enum layer_result layer_ipv6(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor *c = &f->bytes;
    uint8_t first = cursor_u8(c);
    cursor_skip(c, 3);
    uint32_t payload_bytes = cursor_be16(c);
    uint8_t protocol = cursor_u8(c);
    cursor_skip(c, 1);
    f->source = cursor_bytes(c, 16);
    f->destination = cursor_bytes(c, 16);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (first >> 4 != 6)
        return frame_drop(f, DECAP_MALFORMED);
    if (payload_bytes > 0)
        frame_limit(f, payload_bytes);
    f->family = 6;
    return frame_next(f, SPACE_PROTOCOL, protocol);
}

static enum layer_result skip_option(struct frame *f, uint8_t protocol, size_t bytes) {
    if (bytes > frame_wire_left(f))
        return frame_drop(f, DECAP_MALFORMED);
    if (!cursor_skip(&f->bytes, bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return frame_next(f, SPACE_PROTOCOL, protocol);
}

uint64_t frame_ip_bytes(const struct frame *f) {
    struct cursor c = f->bytes;
    uint64_t wire_bytes = frame_wire_left(f);
    uint8_t first = cursor_u8(&c);
    cursor_skip(&c, 1);
    uint64_t total_bytes = cursor_be16(&c);
    uint64_t payload_bytes = cursor_be16(&c);
    if (first >> 4 == 6)
        total_bytes = payload_bytes + 40;
    else if (first >> 4 != 4 || (first & 0x0f) < 5 || total_bytes < 20)
        return 0;
    return cursor_ok(&c) && total_bytes <= wire_bytes ? total_bytes : 0;
}

/* Hop-by-hop, routing and destination options: next header, length in units of 8 behind the first.
 */
enum layer_result layer_ipv6_options(struct decap *d, struct frame *f) {
    (void)d;
    if (f->family != 6)
        return frame_drop(f, DECAP_NOT_TCP);
    uint8_t protocol = cursor_u8(&f->bytes);
    size_t units = cursor_u8(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return skip_option(f, protocol, 6 + units * 8);
}

/* RFC 4302, 2: the length counts units of 4, less two. In IPv4, too. */
enum layer_result layer_authentication(struct decap *d, struct frame *f) {
    (void)d;
    uint8_t protocol = cursor_u8(&f->bytes);
    size_t units = cursor_u8(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    return skip_option(f, protocol, 6 + units * 4);
}

/* RFC 8200, 4.5. One that is the whole datagram stands for itself (RFC 6946). */
enum layer_result layer_ipv6_fragment(struct decap *d, struct frame *f) {
    if (f->family != 6)
        return frame_drop(f, DECAP_NOT_TCP);
    struct cursor *c = &f->bytes;
    uint8_t protocol = cursor_u8(c);
    cursor_skip(c, 1);
    uint16_t offset_flags = cursor_be16(c);
    uint32_t id = cursor_be32(c);
    if (!cursor_ok(c))
        return frame_drop(f, DECAP_CUT_SHORT);
    bool more = (offset_flags & 1) != 0;
    uint32_t offset = offset_flags & 0xfff8;
    if (!more && offset == 0)
        return frame_next(f, SPACE_PROTOCOL, protocol);
    struct fragment fragment = {.id = id, .protocol = protocol, .offset = offset, .last = !more};
    return collect(d, f, &fragment);
}
