/*
 * capture: packets out of live interfaces and capture files, by libpcap.
 *
 * Files: pcap and pcapng, µs and ns, plain or compressed (xz, zst, gz: by libarchive). Several
 * files are merged by packet time. Live: ring size set, nanosecond stamps asked for, drops counted.
 * Several interfaces are one capture: both halves of a mirrored link can come in on two ports.
 *
 * Not thread-safe: one object per capture worker.
 */
#ifndef SANREWIND_TAP_CAPTURE_H
#define SANREWIND_TAP_CAPTURE_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/packet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct capture;

struct capture_options {
    const char *filter; /* BPF expression, or NULL */
    size_t ring_bytes;  /* live: kernel ring per interface; 0: libpcap's default */
    int snap_bytes;     /* live: 262144 keeps everything */
    /* Sources with other link types are refused (decap_knows_link). NULL: all are taken. */
    bool (*knows_link)(int link_type);
};

enum capture_outcome {
    CAPTURE_PACKET = 0, /* *packet is filled */
    CAPTURE_IDLE = 1,   /* live: nothing came in time; all up to *quiet_until_ns was seen */
    CAPTURE_END = 2,    /* files: all read; live: stop was requested */
};

struct capture_stats {
    uint64_t packets;
    uint64_t bytes;
    uint64_t dropped; /* by kernel or interface, since the start (live) */
};

struct capture *capture_create(const struct capture_options *options); /* NULL: out of memory */
void capture_destroy(struct capture *c);

/*
 * ERR_NOT_FOUND/IO/FORMAT with a sentence: no such file, not a capture, empty, cut in its header.
 * ERR_USAGE, here and below: the filter is wrong.
 */
int capture_add_file(struct capture *c, const char *path, struct error *err);
/* ERR_IO with a sentence: no such interface, no permission (say what is needed), down. */
int capture_add_interface(struct capture *c, const char *name, struct error *err);

/*
 * The next packet. Negative: an error; for a file that is cut in the middle of a packet ERR_FORMAT,
 * once, after all packets of all files were given; for an interface that fails ERR_IO, once, at
 * once. Others go on then, when called again. Live: waits up to timeout_ns, and ends early when
 * stop_fd() becomes readable; what was captured before the stop is still given before CAPTURE_END.
 */
int capture_next(struct capture *c, uint64_t timeout_ns, struct packet *packet,
                 uint64_t *quiet_until_ns, struct error *err);

/* Asks the kernel: a few times a second, not for each packet. */
struct capture_stats capture_stats(struct capture *c);

DEFINE_AUTO(capture, capture_destroy)

#endif
