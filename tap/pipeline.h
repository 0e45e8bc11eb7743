/*
 * pipeline: the way of a packet through the monitor, wired once: decap → tcp → iscsi, or decap → fc
 * → tracker → sink.
 *
 * One pipeline per capture worker, used by its thread alone.
 */
#ifndef SANREWIND_TAP_PIPELINE_H
#define SANREWIND_TAP_PIPELINE_H

#include "common/cleanup.h"
#include "common/clock.h"
#include "tap/decap/decap.h"
#include "tap/fc/fc.h"
#include "tap/identity.h"
#include "tap/iscsi/iscsi.h"
#include "tap/packet.h"
#include "tap/scsi/tracker.h"
#include "tap/sink.h"
#include "tap/tcp/tcp.h"

struct pipeline;

/* How often a promise is made, in packet time. */
#define PIPELINE_HEARTBEAT_NS (250 * NS_PER_MS)

/*
 * What the tables and buffers of a pipeline may take. Whatever is full gives up its oldest, counts
 * it, and says a gap where data may have been lost with it.
 */
struct pipeline_options {
    uint64_t memory_bytes; /* 32 MiB to 64 GiB */
    uint64_t connections;  /* TCP connections followed at once, about 1 KiB each */
    uint32_t audit_one_in; /* see struct tracker_limits */
};

/* 256 MiB, 65536 connections, no audits */
struct pipeline_options pipeline_default_options(void);

/* The sink is borrowed; options NULL: the default ones. NULL: out of memory. */
struct pipeline *pipeline_create(struct sink *sink, const struct pipeline_options *options);
void pipeline_destroy(struct pipeline *p);
/* Whose clock gives packets their time; before the first packet. */
void pipeline_set_clock(struct pipeline *p, enum device_clock clock);

/* The time that the first packet will get, by the clock that was set. */
uint64_t pipeline_first_time(const struct pipeline *p, const struct packet *first);
/* A time of the capture's clock, by the clock that was set, as far as that is known. */
uint64_t pipeline_time(const struct pipeline *p, uint64_t capture_ns);

/* See fc_load_names(). */
int pipeline_load_fc_names(struct pipeline *p, const char *file, struct error *err);

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
/* See iscsi_wants_probe(): packets up to seen_ns were given. For live captures only. */
bool pipeline_wants_probe(struct pipeline *p, uint64_t seen_ns, struct identity_probe *probe);
void pipeline_probe_answer(struct pipeline *p, const struct identity_probe *answer);

/*
 * For the next start (see tap/save.h). whole: with data that is under way; nothing may be given to
 * the pipeline any more, and it can only be destroyed, which says nothing about what is in flight.
 */
void pipeline_save(struct pipeline *p, bool whole, struct buffer *b);
/* Into a new pipeline; newest_ns: the greatest packet time of before. False: it cannot be read, and
 * the pipeline is to be thrown away. */
bool pipeline_load(struct pipeline *p, struct cursor *c, uint64_t newest_ns);
/* Nothing that is held back or undecided is older than this; UINT64_MAX: nothing is. */
uint64_t pipeline_pending_ns(const struct pipeline *p);

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
