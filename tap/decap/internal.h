/*
 * internal: what the layers of tap/decap share, and nobody else includes.
 *
 * A layer is a function that reads its own header from the frame's cursor and says what comes next:
 * a number in one of the name spaces below. decap.c walks. link.c and tag.c hold what lies below
 * IP, ip.c IP itself, tunnel.c what IP carries, overlay.c what UDP carries; losses.c counts what a
 * mirror lost, device_time.c reads the clocks of mirrors.
 */
#ifndef SANREWIND_TAP_DECAP_INTERNAL_H
#define SANREWIND_TAP_DECAP_INTERNAL_H

#include "common/cursor.h"
#include "tap/decap/decap.h"
#include "tap/decap/device_time.h"
#include "tap/decap/losses.h"

enum layer_space {
    SPACE_LINK,      /* DLT_… */
    SPACE_ETHERTYPE, /* behind Ethernet and what puts an EtherType in front of its payload */
    SPACE_PROTOCOL,  /* IP protocols */
    SPACE_GRE,       /* EtherTypes, and what means something in GRE only */
    SPACE_UDP,       /* destination ports */
};

enum layer_result {
    LAYER_NEXT, /* frame->space and frame->number say what follows */
    LAYER_DONE, /* frame->result holds what it was, or kept until its other fragments come */
    LAYER_DROP, /* frame->drop says why */
};

enum {
    FRAME_LAYERS = 20, /* an overlay in ERSPAN in an overlay has 17 */
    LINK_ETHERNET = 1,
    PROTOCOL_TCP = 6,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    ETHERTYPE_TEB = 0x6558, /* transparent Ethernet bridging: an Ethernet frame */
    ETHERTYPE_MPLS = 0x8847,
    ETHERTYPE_NSH = 0x894f,
};

/* A frame being opened. */
struct frame {
    struct cursor bytes; /* what is left, as captured */
    uint64_t cut;        /* bytes behind the cursor's end that were on the wire */
    uint64_t capture_ns;
    uint64_t time_ns; /* by the clock that was chosen */
    enum layer_space space;
    uint32_t number;
    enum decap_drop drop;
    uint16_t vlan;  /* of the innermost tag; 0 none */
    uint8_t family; /* 4 or 6 once an IP header was read */
    uint8_t depth;
    bool rebuilt;        /* something around it was put together from fragments */
    uint64_t rebuilt_ns; /* that came within so long */
    uint16_t gre_flags;
    uint32_t gre_sequence;
    const uint8_t *addresses; /* of the last Ethernet header: destination, source; may be NULL */
    const uint8_t *source;    /* 4 or 16 bytes */
    const uint8_t *destination;
    struct decap_result *result;
};

struct decap {
    struct decap_observer observer;
    struct fragments *fragments;
    struct losses *losses;
    const uint64_t *losses_due_ns;
    struct device_time time;
    uint8_t kept[32]; /* addresses whose packet does not last as long as the frame */
    uint64_t dropped[DECAP_REASONS];
    unsigned fc2_crcs; /* frames of LINKTYPE_FC_2 in a row with a CRC that holds */
    unsigned paa_crcs; /* the same of port analyser adapters */
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
/* tag.c */
layer_function layer_backbone, layer_fabricpath, layer_trill, layer_mpls, layer_arista;
/* ip.c */
layer_function layer_ipv4, layer_ipv6, layer_ipv6_options, layer_ipv6_fragment,
    layer_authentication;
/* Do frames of this kind carry their CRC? Asked for each, with whether that of this one would
 * hold: 32 bits agree by chance once in a long time, but not again and again. */
bool decap_has_crc(unsigned *in_a_row, bool holds);

/* cisco.c */
layer_function layer_paa, layer_mds;
/* fc.c */
layer_function layer_fcoe, layer_fip, layer_fc2, layer_fc2_delimited;
/* tunnel.c */
layer_function layer_gre, layer_erspan1or2, layer_erspan3, layer_etherip, layer_l2tp;
/* overlay.c */
layer_function layer_udp, layer_vxlan, layer_vxlan_gpe, layer_nsh, layer_geneve, layer_erm,
    layer_tzsp, layer_l2tp_udp, layer_udp_esp;
/* decap.c */
layer_function layer_tcp;
/* Known, and not decoded. */
layer_function layer_esp, layer_roce, layer_aoe;
/* What maps the ticks of a device to wall time. */
layer_function layer_keyframe;

/* Is the EtherType one that leads on? For envelopes that do not say where their payload begins. */
bool decap_knows_ethertype(uint32_t ethertype);
/* Bytes of the IP packet that can stand here, by its version and lengths; 0: none can. */
uint64_t frame_ip_bytes(const struct frame *f);
/* Can an Ethernet frame begin `offset` bytes on? Its EtherType is known, and what it announces
 * fits. */
bool frame_fits_ethernet(const struct frame *f, size_t offset);

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
/* A datagram that is whole. */
struct rebuilt {
    struct cursor bytes; /* valid until the next call of fragments_add() */
    uint8_t protocol;
    uint64_t span_ns; /* from its first fragment to its last */
};

/* True when the datagram is whole: *rebuilt holds it. */
bool fragments_add(struct fragments *f, const struct fragment *fragment, struct rebuilt *rebuilt);
uint64_t fragments_lost(const struct fragments *f);

#endif
