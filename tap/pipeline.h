/*
 * pipeline: the way of a packet through the monitor, wired once: decap → tcp → iscsi → tracker →
 * sink.
 *
 * One pipeline per capture worker, used by its thread alone.
 */
#ifndef SANREWIND_TAP_PIPELINE_H
#define SANREWIND_TAP_PIPELINE_H

#include "common/cleanup.h"
#include "common/clock.h"
#include "tap/decap/decap.h"
#include "tap/identity.h"
#include "tap/iscsi/iscsi.h"
#include "tap/packet.h"
#include "tap/scsi/tracker.h"
#include "tap/sink.h"
#include "tap/tcp/tcp.h"

struct pipeline;

/* How often a promise is made, in packet time. */
#define PIPELINE_HEARTBEAT_NS (250 * NS_PER_MS)

/* The sink is borrowed. NULL: out of memory. */
struct pipeline *pipeline_create(struct sink *sink);
void pipeline_destroy(struct pipeline *p);
/* Whose clock gives packets their time; before the first packet. */
void pipeline_set_clock(struct pipeline *p, enum device_clock clock);

/* The time that the first packet will get, by the clock that was set. */
uint64_t pipeline_first_time(const struct pipeline *p, const struct packet *first);
/* A time of the capture's clock, by the clock that was set, as far as that is known. */
uint64_t pipeline_time(const struct pipeline *p, uint64_t capture_ns);

void pipeline_packet(struct pipeline *p, const struct packet *packet);
/* No packet before now_ns is still to come. Here and below: by the capture's clock. */
void pipeline_tick(struct pipeline *p, uint64_t now_ns);
/* The capture ended: what is held back is decided now. The pipeline can only be destroyed
 * afterwards. */
void pipeline_finish(struct pipeline *p);

/*
 * The next portal whose name is wanted, because a session with it began unseen; each is given once.
 * False: none.
 */
bool pipeline_wants_identity(struct pipeline *p, struct portal *portal);
/* What a portal said. Borrowed. */
void pipeline_identify(struct pipeline *p, const struct identity *identity, uint64_t time_ns);

/*
 * What may be promised when packets up to seen_ns were given: no update or gap with an earlier or
 * equal time (by the clock that was set) is to come any more.
 */
uint64_t pipeline_settled_ns(const struct pipeline *p, uint64_t seen_ns);

/* Packets and PDUs that could not be understood, all reasons together. */
uint64_t pipeline_malformed(const struct pipeline *p);
/* "12626 packets, 1076 PDUs, ..." for the end of a run; counters of every stage, non-zero ones
 * only. */
void pipeline_describe(const struct pipeline *p, char *text, size_t size);

DEFINE_AUTO(pipeline, pipeline_destroy)

#endif
