/*
 * packet: one captured frame on its way from capture/ to decap/.
 */
#ifndef SANREWIND_TAP_PACKET_H
#define SANREWIND_TAP_PACKET_H

#include <stdint.h>

struct packet {
    const uint8_t *data;  /* borrowed until the next packet is asked for */
    uint32_t caplen;      /* bytes at data */
    uint32_t wire_length; /* bytes that were on the wire: larger when the capture cut it */
    uint64_t time_ns;     /* wall time at which it was captured */
    int link_type;        /* DLT_… / LINKTYPE_… of its source */
};

#endif
