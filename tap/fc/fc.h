/*
 * fc: Fibre Channel frames (FC-FS-5, FCP-4, FC-LS-4) and FIP (FC-BB-6) into the SCSI tracker.
 *
 * Envelopes (FCoE, analyser captures, FCIP, ...) give it one frame at a time, in any order within a
 * window and any number of times. docs/ARCHITECTURE.md has what it can prove and what not. Time is
 * packet time. Not thread-safe: one object per capture worker. Memory is bounded.
 */
#ifndef SANREWIND_TAP_FC_H
#define SANREWIND_TAP_FC_H

#include "common/cleanup.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fc;
struct tracker;

/* FC-BB-6, 4.4: codes of SOF and EOF. */
enum fc_delimiter {
    FC_DELIMITER_UNKNOWN = 0,
    FC_SOF_F = 0x28,
    FC_SOF_I2 = 0x2d,
    FC_SOF_I3 = 0x2e,
    FC_SOF_N2 = 0x35,
    FC_SOF_N3 = 0x36,
    FC_EOF_N = 0x41,
    FC_EOF_T = 0x42,
    FC_EOF_RT = 0x44,
    FC_EOF_DT = 0x46,
    FC_EOF_NI = 0x49,
    FC_EOF_DTI = 0x4e,
    FC_EOF_RTI = 0x4f,
    FC_EOF_A = 0x50,
};

/* One FC frame: what an envelope found. */
struct fc_frame {
    const uint8_t *data; /* from the (first extended) frame header on, without SOF/EOF; borrowed */
    uint32_t bytes;      /* captured, header and payload and CRC when has_crc */
    uint32_t wire_bytes; /* on the wire; larger when cut */
    uint8_t sof, eof;    /* enum fc_delimiter */
    bool has_crc;        /* the last 4 bytes of `data` are the FC CRC */
    bool bad;            /* the envelope says that it was damaged (EOFni, EOFa, error flags) */
    uint16_t vsan;       /* 0 unknown */
    uint64_t time_ns;
};

/* One FIP frame (FC-BB-6, 7): what follows the EtherType. */
struct fc_fip_frame {
    const uint8_t *data; /* borrowed */
    uint32_t bytes;      /* captured */
    uint8_t source[6];   /* MAC addresses */
    uint8_t destination[6];
    uint16_t vsan;
    uint64_t time_ns;
};

#endif
