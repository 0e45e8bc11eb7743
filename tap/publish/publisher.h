/*
 * publisher: the sink that turns the tracker's findings into stamped records, in batches, to the
 * links.
 *
 * A batch goes out when it is full, when publisher_flush() says so, and with every heartbeat. It
 * belongs to the thread of its capture worker, and waits there when every batch is under way: that
 * is the back-pressure from the recovery server to the capture.
 */
#ifndef SANREWIND_TAP_PUBLISHER_H
#define SANREWIND_TAP_PUBLISHER_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/publish/batch.h"
#include "tap/sink.h"

struct publisher;

/* Where filled batches go. Takes a reference of its own if it keeps the batch. */
struct outlet {
    void (*send)(void *context, struct batch *batch);
    void *context;
};

/* What a heartbeat tells of the monitor. */
struct publisher_vitals {
    uint64_t packets;
    uint64_t bytes;
    uint64_t dropped;
    uint64_t malformed;
    uint64_t clock_error_ns; /* bound of the error of the clock that stamps; 0 unknown */
};

/*
 * `outlets` are copied, their contexts borrowed; none is the null sink: all the work but the
 * sending. `pool` is borrowed. NULL: out of memory.
 */
struct publisher *publisher_create(uint64_t monitor, uint64_t stream, struct batch_pool *pool,
                                   const struct outlet *outlets, size_t outlet_count);
void publisher_destroy(struct publisher *p);
struct sink *publisher_sink(struct publisher *p);

/*
 * The stream before this one, which its checkpoint knows: nothing is given a time mark that it has
 * promised, and what is resumed refers to it.
 */
struct publisher_past {
    uint64_t stream;
    uint64_t next_order;
    uint64_t promised_ns;
};
void publisher_set_past(struct publisher *p, const struct publisher_past *past);

/* Nothing with a time up to seen_ns will be given to the sink any more: promise it, and send what
 * is waiting. */
void publisher_heartbeat(struct publisher *p, uint64_t seen_ns,
                         const struct publisher_vitals *vitals);
/* The last record: the stream ends at last_ns. Nothing may be given to the sink afterwards. */
void publisher_end(struct publisher *p, uint64_t last_ns, const struct publisher_vitals *vitals);
/* Likewise, when the next start goes on with what is under way: nothing behind promise_ns is
 * promised. */
void publisher_suspend(struct publisher *p, uint64_t promise_ns,
                       const struct publisher_vitals *vitals);
void publisher_flush(struct publisher *p);

/* The order mark that the next record would get: how many there are. */
uint64_t publisher_next_order(const struct publisher *p);
uint64_t publisher_promised_ns(const struct publisher *p);
uint64_t publisher_updates(const struct publisher *p);
uint64_t publisher_update_bytes(const struct publisher *p);
uint64_t publisher_gaps(const struct publisher *p);

DEFINE_AUTO(publisher, publisher_destroy)

#endif
