/*
 * fip: frames of the FCoE Initialization Protocol (FC-BB-6, 7.7). Pure.
 */
#ifndef SANREWIND_TAP_FC_FIP_H
#define SANREWIND_TAP_FC_FIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fip_operation {
    FIP_DISCOVERY = 1,
    FIP_LINK_SERVICE = 2,
    FIP_CONTROL = 3, /* keep alive, clear virtual links */
    FIP_VLAN = 4,
    FIP_VN2VN = 5,
};

enum fip_subcode {
    FIP_REQUEST = 1,
    FIP_REPLY = 2,
    FIP_CLEAR_LINKS = 2, /* of FIP_CONTROL */
    /* of FIP_VN2VN */
    FIP_PROBE_REQUEST = 1,
    FIP_PROBE_REPLY = 2,
    FIP_CLAIM_NOTIFY = 3,
    FIP_CLAIM_RESPONSE = 4,
    FIP_BEACON = 5,
};

enum { FIP_PORTS_MOST = 256 };

struct fip_port {
    uint32_t fc_id;
    uint64_t wwpn;
};

struct fip {
    uint16_t operation;
    uint8_t subcode;
    /* Vx_Port identification descriptors (type 11). */
    struct fip_port ports[FIP_PORTS_MOST];
    size_t port_count;
    /* The FC frame in a FLOGI, FDISC, LOGO or ELP descriptor (types 7 to 10); NULL none. */
    const uint8_t *frame;
    size_t frame_bytes;
};

/* False: shorter than a descriptor says, or not of version 1. */
bool fip_parse(const uint8_t *data, size_t bytes, struct fip *to);

#endif
