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
    uint16_t vsan;       /* 0 unknown; of FCoE the VLAN, which stands for it */
    uint64_t time_ns;
};

/* One FIP frame (FC-BB-6, 7): what follows the EtherType. */
struct fc_fip_frame {
    const uint8_t *data; /* borrowed */
    uint32_t bytes;      /* captured */
    uint8_t source[6];   /* MAC addresses */
    uint8_t destination[6];
    uint16_t vsan; /* or the VLAN, which stands for it */
    uint64_t time_ns;
};

struct fc_counters {
    uint64_t frames;
    uint64_t commands;
    uint64_t cut;              /* frames cut by the capture */
    uint64_t unreadable;       /* cut or encrypted before anything of use */
    uint64_t damaged;          /* a wrong CRC, or an EOF that says so */
    uint64_t malformed;        /* they break FC-FS-5, FCP-4 or FC-BB-6 */
    uint64_t repeated;         /* commands and responses that came twice, and data that was there */
    uint64_t late;             /* too late for the window: their order is as they came */
    uint64_t unknown_exchange; /* frames of exchanges of which no command was seen */
    uint64_t lost_status;      /* commands whose response never passed */
    uint64_t lost_commands;    /* exchanges that must have had a command */
    uint64_t strangers;        /* sessions with targets that were not known before a restart */
    uint64_t aborts;
    uint64_t logins;
    uint64_t fip;
    uint64_t nvme;       /* frames of FC-NVMe: not protected */
    uint64_t other_type; /* IP, fabric services, ... */
    uint64_t overflow;   /* given up for want of room */
};

/*
 * The tracker is borrowed and must outlive it. Frames wait for older ones in at most
 * `window_bytes`; when it is full, they wait less long. NULL: out of memory.
 */
struct fc *fc_create(struct tracker *tracker, size_t window_bytes);
void fc_destroy(struct fc *f);
/* The capture ended: what is held back is decided now. Only fc_counters() and fc_destroy() follow.
 */
void fc_finish(struct fc *f);

/*
 * "FCID WWPN" in each line (010203 20:00:52:54:00:00:00:0b), for ports whose logins are not seen;
 * `#` begins a comment. A login that is seen counts more.
 */
int fc_load_names(struct fc *f, const char *file, struct error *err);

/*
 * The tracker has what a monitor before this one knew up to since_ns. Fibre Channel has no numbers
 * to show what passed meanwhile: nothing goes on, and a target that was not known has a gap.
 */
void fc_restarted(struct fc *f, uint64_t since_ns);

void fc_frame(struct fc *f, const struct fc_frame *frame);
void fc_fip(struct fc *f, const struct fc_fip_frame *frame);
/* A loss counter of an envelope jumped: anything may have passed unseen since before time_ns. */
void fc_loss(struct fc *f, uint16_t vsan, const char *text, uint64_t time_ns);
/* Packet time has reached now_ns without a packet. */
void fc_tick(struct fc *f, uint64_t now_ns);
/* What is held back or undecided now did not happen before this time. UINT64_MAX: nothing is. */
uint64_t fc_oldest_pending(const struct fc *f);
const struct fc_counters *fc_counters(const struct fc *f);

DEFINE_AUTO(fc, fc_destroy)

#endif
