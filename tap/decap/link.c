#include "tap/decap/internal.h"

/* Below this a number is a length: IEEE 802.3 with LLC (IEEE 802.3, 3.2.6). */
enum { ETHERTYPE_MINIMUM = 0x0600 };

/*
 * IEEE 802.2: DSAP, SSAP, control. AAh with unnumbered information is SNAP (IEEE 802, 10.3): an OUI
 * and a number, which is an EtherType for the OUIs 0 and F8h (802.1H); 06h is IP.
 */
static enum layer_result next_llc(struct frame *f) {
    uint32_t head = cursor_be24(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (head == 0x060603)
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV4);
    if (head != 0xaaaa03)
        return frame_drop(f, DECAP_NOT_IP);
    uint32_t organisation = cursor_be24(&f->bytes);
    uint32_t number = cursor_be16(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (organisation != 0 && organisation != 0xf8)
        return frame_drop(f, DECAP_NOT_IP);
    return frame_next(f, SPACE_ETHERTYPE, number);
}

static enum layer_result next_ethertype(struct frame *f, uint32_t ethertype) {
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (ethertype >= ETHERTYPE_MINIMUM || ethertype == 0)
        return frame_next(f, SPACE_ETHERTYPE, ethertype);
    frame_limit(f, ethertype);
    return next_llc(f);
}

/* The trailer of a device that stamps: its time, and out of the way. Not for most: kept apart. */
__attribute__((noinline)) static bool take_trailer(struct decap *d, struct frame *f) {
    bool damaged = false;
    size_t bytes = device_time_trailer(&d->time, f->bytes, f->capture_ns, &f->time_ns, &damaged);
    if (bytes > 0)
        frame_limit(f, cursor_left(&f->bytes) - bytes);
    return !damaged;
}

enum layer_result layer_ethernet(struct decap *d, struct frame *f) {
    if (d->time.clock != CLOCK_CAPTURE && f->depth == 1 && f->cut == 0 && !take_trailer(d, f))
        return frame_drop(f, DECAP_DAMAGED);
    f->addresses = cursor_bytes(&f->bytes, 12);
    return next_ethertype(f, cursor_be16(&f->bytes));
}

/* IEEE 802.1Q and 802.1ad tags: two bytes of tag, then the EtherType of what follows. */
enum layer_result layer_vlan(struct decap *d, struct frame *f) {
    (void)d;
    f->vlan = cursor_be16(&f->bytes) & 0x0fff;
    return next_ethertype(f, cursor_be16(&f->bytes));
}

/* A protocol of Linux's cooked frames: an EtherType, or 4 for IEEE 802.2 behind no length. */
static enum layer_result next_cooked(struct frame *f, uint32_t protocol) {
    if (cursor_ok(&f->bytes) && protocol < ETHERTYPE_MINIMUM)
        return protocol == 4 ? next_llc(f) : frame_drop(f, DECAP_NOT_IP);
    return next_ethertype(f, protocol);
}

/* LINKTYPE_LINUX_SLL: packet type, ARPHRD_, address length, address, protocol. */
enum layer_result layer_sll(struct decap *d, struct frame *f) {
    (void)d;
    cursor_skip(&f->bytes, 14);
    return next_cooked(f, cursor_be16(&f->bytes));
}

/* LINKTYPE_LINUX_SLL2: the protocol comes first of 20 bytes. */
enum layer_result layer_sll2(struct decap *d, struct frame *f) {
    (void)d;
    uint32_t ethertype = cursor_be16(&f->bytes);
    cursor_skip(&f->bytes, 18);
    return next_cooked(f, ethertype);
}

/*
 * LINKTYPE_NULL and LINKTYPE_LOOP: the AF_ number of the system that captured, in its own byte
 * order (NULL) or big-endian (LOOP). IPv6 has a number of its own in Linux, NetBSD, FreeBSD and
 * macOS.
 */
enum layer_result layer_null(struct decap *d, struct frame *f) {
    (void)d;
    uint32_t family = cursor_be32(&f->bytes);
    if (!cursor_ok(&f->bytes))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (family > 0xffff)
        family = __builtin_bswap32(family);
    switch (family) {
    case 2:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV4);
    case 10:
    case 24:
    case 28:
    case 30:
        return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV6);
    default:
        return frame_drop(f, DECAP_NOT_IP);
    }
}

/* LINKTYPE_RAW: an IP header at once; its version says which. */
enum layer_result layer_raw(struct decap *d, struct frame *f) {
    (void)d;
    struct cursor peek = f->bytes;
    uint8_t version = cursor_u8(&peek) >> 4;
    if (!cursor_ok(&peek))
        return frame_drop(f, DECAP_CUT_SHORT);
    if (version != 4 && version != 6)
        return frame_drop(f, DECAP_NOT_IP);
    return frame_next(f, SPACE_ETHERTYPE, version == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
}

enum layer_result layer_raw4(struct decap *d, struct frame *f) {
    (void)d;
    return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV4);
}

enum layer_result layer_raw6(struct decap *d, struct frame *f) {
    (void)d;
    return frame_next(f, SPACE_ETHERTYPE, ETHERTYPE_IPV6);
}
