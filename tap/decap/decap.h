/*
 * decap: from a captured frame to what it carries: layer by layer, each a small function in a
 * table.
 *
 * Today: Ethernet with VLAN tags (802.1Q, 802.1ad, any depth up to a limit), Linux cooked SLL and
 * SLL2, BSD loopback (NULL, LOOP), raw IP; IPv4 with fragments, IPv6 with extension headers and
 * fragments; TCP; FCoE, FIP, and FC frames as analysers write them. A new envelope is one more row.
 * What cannot be followed is counted by reason and dropped; nothing is guessed. Checksums are not
 * verified: offload makes them wrong on healthy hosts.
 *
 * Not thread-safe: one object per capture worker. Fragment memory is bounded.
 */
#ifndef SANREWIND_TAP_DECAP_H
#define SANREWIND_TAP_DECAP_H

#include "common/cleanup.h"
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
    DECAP_REASONS
};

enum decap_kind {
    DECAP_NOTHING, /* dropped, or kept until its other fragments come */
    DECAP_TCP,
    DECAP_FC,
    DECAP_FIP,
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
/* Fills *result, and returns its kind. */
enum decap_kind decap_packet(struct decap *d, const struct packet *packet,
                             struct decap_result *result);

uint64_t decap_dropped(const struct decap *d, enum decap_drop reason);
const char *decap_drop_name(enum decap_drop reason); /* "cut_short", ... */
/* A link type in the table? */
bool decap_knows_link(int link_type);

DEFINE_AUTO(decap, decap_destroy)

#endif
