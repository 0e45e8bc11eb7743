/*
 * device_time: the clocks of the devices that mirror, as they stamp frames.
 *
 * One of them may be chosen to give packets their time instead of the capturing host's clock. What
 * a device says is checked against the capture's clock: farther off than a day, it is refused. A
 * packet that carries no stamp, or one that is refused, gets the capture's time moved by as much as
 * the last stamp was off, so that all packets are on one time line.
 *
 * Stamps that are not wall time but ticks are unwrapped by the capture's clock, and anchored by the
 * device's keyframes or marker packets, or, where it has none, by the capture's clock itself
 * (then ticks give distances, and the host's clock the time of day).
 */
#ifndef SANREWIND_TAP_DEVICE_TIME_H
#define SANREWIND_TAP_DEVICE_TIME_H

#include "common/cursor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum device_clock {
    CLOCK_CAPTURE,    /* the host's, or its network card's */
    CLOCK_ERSPAN,     /* ERSPAN III header */
    CLOCK_METAMAKO,   /* trailer of Metamako and Arista 7130 */
    CLOCK_EXABLAZE,   /* trailer of ExaLINK Fusion HPT and Cisco Nexus 3550-F HPT: 16 bytes */
    CLOCK_EXALINK,    /* 4 bytes of ExaLINK Fusion and Nexus 3550-F, with keyframes */
    CLOCK_ARISTA,     /* header with EtherType D28Bh */
    CLOCK_ARISTA7150, /* 4 bytes of Arista 7150, with keyframes */
    CLOCK_VSS,        /* trailer of VSS Monitoring: 8 bytes, perhaps a port behind it */
    DEVICE_CLOCKS
};

/* NULL behind the last. */
const char *device_clock_name(enum device_clock clock);

struct device_time_counters {
    uint64_t stamped;   /* packets whose time a device gave */
    uint64_t refused;   /* stamps that cannot be right */
    uint64_t degraded;  /* the device says so of its own stamp: not used */
    uint64_t duplicate; /* the device says that it is a second copy */
    uint64_t keyframes; /* and marker packets */
};

enum { TICK_SOURCES = 16 };

/* Ticks against wall time at one moment of one device. */
struct tick_anchor {
    bool used;
    bool exact;          /* by a keyframe of the device */
    uint8_t source[16];  /* address of the device */
    uint64_t ticks;      /* low bits as on the wire */
    uint64_t wall_ns;    /* at those ticks */
    uint64_t capture_ns; /* when it was captured */
    /* Marker packets: the one before, for the length of a tick. */
    uint64_t long_ticks;
    uint64_t tick_ns; /* 0 until two markers agree */
};

struct device_time {
    enum device_clock clock;
    bool known;
    int64_t offset_ns; /* device's clock minus the capture's, by the last stamp */
    struct device_time_counters counters;
    struct tick_anchor anchors[TICK_SOURCES];
    size_t next_anchor; /* the one to replace */
};

/* The time of a packet that has no stamp (yet). */
static inline uint64_t device_time_of(const struct device_time *t, uint64_t capture_ns) {
    return t->known ? capture_ns + (uint64_t)t->offset_ns : capture_ns;
}
/* The wall time that a stamp gives; that of device_time_of() when it cannot be right. */
uint64_t device_time_stamp(struct device_time *t, uint64_t wall_ns, uint64_t capture_ns);

/* What an ERSPAN III header says (draft-foschiano-erspan-03). */
struct erspan_stamp {
    const uint8_t *source; /* 16 bytes */
    uint32_t ticks;
    uint8_t granularity; /* Gra */
    bool has_seconds;    /* a platform specific sub-header gave them */
    uint32_t seconds;
};

uint64_t device_time_erspan(struct device_time *t, const struct erspan_stamp *stamp,
                            uint64_t capture_ns);
/* Arista's header: seconds of TAI or UTC, of which it may have the low 16 bits only. */
struct arista_stamp {
    uint64_t seconds;
    uint32_t fraction_ns;
    bool short_seconds;
    unsigned ahead_s; /* of UTC */
};

uint64_t device_time_arista(struct device_time *t, const struct arista_stamp *stamp,
                            uint64_t capture_ns);
/* A marker packet of a Nexus 9000: the payload of a UDP datagram. False: it is none. */
bool device_time_marker(struct device_time *t, struct cursor payload, const uint8_t *source,
                        uint64_t capture_ns);
/*
 * A trailer at the end of a frame, without its FCS or with it. Gives the frame's time in *time_ns;
 * returns the trailer's length (0: there is none), *damaged: the device saw a wrong FCS.
 */
size_t device_time_trailer(struct device_time *t, struct cursor frame, uint64_t capture_ns,
                           uint64_t *time_ns, bool *damaged);
/* A keyframe, below Ethernet (`ethertype`) or IPv4 with protocol 253. False: it is none. */
bool device_time_keyframe(struct device_time *t, struct cursor payload, uint64_t capture_ns);

#endif
