/*
 * internal: what the layers of tap/decap share, and nobody else includes.
 *
 * A layer is a function that reads its own header from the frame's cursor and says what comes next:
 * a number in one of three name spaces (link type, EtherType, IP protocol). decap.c walks.
 */
#ifndef SANREWIND_TAP_DECAP_INTERNAL_H
#define SANREWIND_TAP_DECAP_INTERNAL_H

#include "common/cursor.h"
#include "tap/decap/decap.h"

enum layer_space { SPACE_LINK, SPACE_ETHERTYPE, SPACE_PROTOCOL };

enum layer_result {
    LAYER_NEXT, /* frame->space and frame->number say what follows */
    LAYER_DONE, /* frame->result holds what it was, or kept until its other fragments come */
    LAYER_DROP, /* frame->drop says why */
};

enum {
    FRAME_LAYERS = 16,
    PROTOCOL_TCP = 6,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
};

/* A frame being opened. */
struct frame {
    struct cursor bytes; /* what is left, as captured */
    uint64_t cut;        /* bytes behind the cursor's end that were on the wire */
    uint64_t time_ns;
    enum layer_space space;
    uint32_t number;
    enum decap_drop drop;
    uint16_t vlan;  /* of the innermost tag; 0 none */
    uint8_t family; /* 4 or 6 once an IP header was read */
    uint8_t depth;
    bool rebuilt;             /* from fragments */
    const uint8_t *addresses; /* of the last Ethernet header: destination, source; may be NULL */
    const uint8_t *source;    /* 4 or 16 bytes */
    const uint8_t *destination;
    struct decap_result *result;
};

static inline enum layer_result frame_next(struct frame *f, enum layer_space space,
                                           uint32_t number) {
    f->space = space;
    f->number = number;
    return LAYER_NEXT;
}

static inline enum layer_result frame_drop(struct frame *f, enum decap_drop reason) {
    f->drop = reason;
    return LAYER_DROP;
}

static inline uint64_t frame_wire_left(const struct frame *f) {
    return cursor_left(&f->bytes) + f->cut;
}

/* What follows is `bytes` long on the wire: padding and trailers behind it are none of its
 * business. */
void frame_limit(struct frame *f, uint64_t bytes);

typedef enum layer_result layer_function(struct decap *d, struct frame *f);

struct fragment;

/* link.c */
layer_function layer_ethernet, layer_vlan, layer_sll, layer_sll2, layer_null, layer_raw, layer_raw4,
    layer_raw6;
/* ip.c */
layer_function layer_ipv4, layer_ipv6, layer_ipv6_options, layer_ipv6_fragment,
    layer_authentication;
/* Do frames of LINKTYPE_FC_2 carry their CRC? Asked for each, with whether that of this one would
 * hold: 32 bits agree by chance once in a long time, but not again and again. */
bool decap_fc2_has_crc(struct decap *d, bool holds);

/* fc.c */
layer_function layer_fcoe, layer_fip, layer_fc2, layer_fc2_delimited;
/* decap.c */
layer_function layer_tcp;
/* A fragment: into the collection. True when its datagram is whole: *whole holds it. */
bool decap_collect(struct decap *d, const struct fragment *fragment, struct cursor *whole,
                   uint8_t *protocol);

/* fragment.c: datagrams in pieces; the first copy of a byte wins. */
struct fragments;

struct fragment {
    uint8_t family;
    const uint8_t *source;
    const uint8_t *destination;
    uint32_t id;
    uint8_t protocol; /* of what the datagram carries; counts in the fragment at offset 0 */
    uint32_t offset;  /* of its bytes in the datagram's payload */
    bool last;
    struct cursor bytes;
    bool cut; /* by the capture: bytes are missing at its end */
    uint64_t time_ns;
};

struct fragments *fragments_create(void);
void fragments_destroy(struct fragments *f);
/* True when the datagram is whole: *whole is valid until the next call, *protocol is what it
 * carries. */
bool fragments_add(struct fragments *f, const struct fragment *fragment, struct cursor *whole,
                   uint8_t *protocol);
uint64_t fragments_lost(const struct fragments *f);

#endif
