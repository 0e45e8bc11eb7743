/*
 * decap: from a captured frame to what it carries: layer by layer, each a small function in a
 * table.
 *
 * Links: Ethernet with LLC/SNAP, Linux cooked SLL and SLL2, BSD loopback (NULL, LOOP), raw IP.
 * Below IP: VLAN tags (802.1Q, 802.1ad, 802.1ah), FabricPath, TRILL, MPLS (IP or a pseudowire
 * inside), Arista's time header. IPv4 and IPv6 in each other, with fragments, extension headers and
 * AH. Tunnels: GRE with what it carries, NVGRE, ERSPAN I, II and III, EtherIP, L2TPv3; in UDP
 * VXLAN, VXLAN-GPE, NSH, GENEVE, MPLS, L2TPv3, HP's remote mirror, TZSP. In any nesting, up to a
 * limit. In the end: TCP; FCoE, FIP, and FC frames as analysers write them. A new envelope is one
 * more function and one more row. What cannot be followed is counted by reason and dropped; nothing
 * is guessed. Checksums are not verified: offload makes them wrong on healthy hosts.
 *
 * Not thread-safe: one object per capture worker. Fragment memory is bounded.
 */
#ifndef SANREWIND_TAP_DECAP_H
#define SANREWIND_TAP_DECAP_H

#include "common/cleanup.h"
#include "tap/decap/device_time.h"
#include "tap/decap/losses.h"
#include "tap/fc/fc.h"
#include "tap/packet.h"
#include "tap/tcp/tcp.h"

struct decap;

/* Why a frame went no further. */
enum decap_drop {
    DECAP_CUT_SHORT,    /* a header reaches past the captured bytes */
    DECAP_MALFORMED,    /* a header contradicts itself */
    DECAP_UNKNOWN_LINK, /* a link type that is not in the table */
    DECAP_NOT_IP,       /* ARP, LLDP, ... */
    DECAP_NOT_TCP,
    DECAP_TOO_DEEP,      /* more envelopes than the limit */
    DECAP_FRAGMENT_LOST, /* an IP datagram whose fragments did not all come */
    DECAP_DAMAGED,       /* the mirror says that the frame was bad when it came: nobody used it */
    DECAP_OTHER_MIRROR,  /* ERSPAN with something that is neither Ethernet nor IP */
    /* Storage traffic, or what may hide it, that is recognised and not decoded: */
    DECAP_ESP,
    DECAP_ROCE,
    DECAP_AOE,
    DECAP_REASONS
};

enum decap_kind {
    DECAP_NOTHING, /* dropped, or kept until its other fragments come */
    DECAP_TCP,
    DECAP_FC,
    DECAP_FIP,
};

/* A mirror lost frames on their way here, as its own numbers say. */
struct decap_loss {
    uint64_t time_ns; /* when all was still right */
    const char *text; /* one sentence */
};

/* Who wants to know of more than what packets carried. Each may be NULL. */
struct decap_observer {
    void *context;
    void (*loss)(void *context, const struct decap_loss *loss);
    /* The first frame that was dropped for this reason. */
    void (*first_drop)(void *context, enum decap_drop reason);
};

/* What a packet carried. Borrowed until the next packet. */
struct decap_result {
    enum decap_kind kind;
    union {
        struct tcp_segment tcp;
        struct fc_frame fc;
        struct fc_fip_frame fip;
    };
};

struct decap *decap_create(void); /* NULL: out of memory */
void decap_destroy(struct decap *d);
void decap_observe(struct decap *d, const struct decap_observer *observer);
/* Whose clock gives packets their time; without it, the capture's does. See device_time.h. */
void decap_set_time(struct decap *d, enum device_clock clock);
/* Fills *result, and returns its kind. */
enum decap_kind decap_packet(struct decap *d, const struct packet *packet,
                             struct decap_result *result);
/* No packet before now_ns is still to come: decides what may have been lost before. */
void decap_tick(struct decap *d, uint64_t now_ns);
/* The capture ended: decides all that is open. */
void decap_finish(struct decap *d);
/* A time of the capture's clock, by the clock that packets have their time from. */
uint64_t decap_time(const struct decap *d, uint64_t capture_ns);

struct losses_counters decap_losses(const struct decap *d);
struct device_time_counters decap_times(const struct decap *d);
uint64_t decap_dropped(const struct decap *d, enum decap_drop reason);
const char *decap_drop_name(enum decap_drop reason); /* "cut_short", ... */
/* A link type in the table? */
bool decap_knows_link(int link_type);

DEFINE_AUTO(decap, decap_destroy)

#endif
