/*
 * fcip: Fibre Channel frames out of TCP streams: FCIP (RFC 3821) and iFCP (RFC 4172).
 *
 * Both put the encapsulation of RFC 3643 around each frame: 28 bytes whose first words, flags and
 * length come with their complements, SOF and EOF with theirs. After bytes that were lost, that
 * redundancy tells where the next frame begins. What was lost meanwhile may have been anything:
 * loss() says so, and again with all that passes while nothing can be read (vendors compress and
 * encrypt).
 *
 * Not decoded: iFCP's address translation, in which the two directions name ports differently.
 * Memory is bounded. Not thread-safe: one object per capture worker.
 */
#ifndef SANREWIND_TAP_FCIP_H
#define SANREWIND_TAP_FCIP_H

#include "common/cleanup.h"
#include "tap/fc/fc.h"
#include "tap/tcp/tcp.h"

struct fcip;

struct fcip_output {
    void *context;
    void (*frame)(void *context, const struct fc_frame *frame);
    /* `text`: one sentence; all was still right at time_ns. */
    void (*loss)(void *context, const char *text, uint64_t time_ns);
};

struct fcip_counters {
    uint64_t connections;
    uint64_t frames;
    uint64_t special; /* special frames, session control: not for the fabric */
    uint64_t lost_synchronisation;
    uint64_t skipped_bytes; /* in which no frame was found */
    uint64_t translated;    /* iFCP frames with translated addresses: not decoded */
};

/* Copies `output`. NULL: out of memory. */
struct fcip *fcip_create(const struct fcip_output *output);
void fcip_destroy(struct fcip *f);
struct tcp_consumer fcip_consumer(struct fcip *f);
const struct fcip_counters *fcip_counters(const struct fcip *f);

/* Is a connection on this port one of ours? 3225 FCIP, 3420 iFCP. */
bool fcip_knows_port(uint16_t port);
/* Can an encapsulated frame begin so? Needs 16 bytes. */
bool fcip_may_begin(const uint8_t *data, size_t bytes);

DEFINE_AUTO(fcip, fcip_destroy)

#endif
