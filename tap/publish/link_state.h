/*
 * link_state: what the halves of a link share: link.c talks with the sink about streams and
 * acknowledgements, link_send.c reads the spool and sends. Only these two include this.
 */
#ifndef SANREWIND_TAP_LINK_STATE_H
#define SANREWIND_TAP_LINK_STATE_H

#include "common/clock.h"
#include "tap/publish/link.h"
#include "tap/publish/link_lane.h"

#include <pthread.h>

enum { LINK_LANES = 16 };

/* A batch that is not acknowledged yet. */
struct pending {
    uint64_t first_order;
    uint64_t end_order;
    size_t bytes;
    bool sent;
    unsigned lane;
    struct mono sent_at;
    uint64_t retry_ns; /* how long to wait for an acknowledgement before it is sent again */
    struct pending *next;
};

/* A place in the spool, and what was read there and not sent yet. */
struct link_source {
    struct spool_reader reader;
    struct spool_piece piece;
};

struct link {
    /* Fixed at creation. */
    char *endpoint;
    char *monitor;
    uint64_t monitor_id;
    struct spool *spool;
    unsigned sink;
    unsigned lane_count;
    int wake_fd;
    pthread_t thread;
    bool thread_runs;

    /* The thread's own. */
    uint64_t stream; /* that is spoken of now */
    struct lanes *lanes;
    enum lane_state states[LINK_LANES];
    unsigned next_lane;
    struct pending *first;
    struct pending **last;
    unsigned pending_count;
    uint64_t credit_bytes;
    uint64_t under_way_bytes;
    uint64_t incarnation;
    uint64_t frontier; /* of the stream, as the server said last */
    struct rangeset beyond;
    bool greeted;     /* the server said so of this stream */
    bool idle;        /* nothing goes on */
    uint64_t turn_to; /* the stream to be spoken of next; 0: none */
    struct link_source next;
    struct link_source live; /* see link_send.c */
    uint64_t live_from;      /* where it began; UINT64_MAX: it is not used */
    unsigned turn;
    struct spool_reader again;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool stopping;
    bool welcomed;
    struct error failure; /* code 0: none */
};

/* Nothing of this sink goes on. */
void link_fail(struct link *l, const struct error *err);
/*
 * What the server lacks of the stream is not in the spool any more, so that it cannot become whole.
 * A new stream begins with a gap behind what there is of the ones before it: an old stream is left
 * alone, and of that of this start no more can be sent until there is a new one.
 */
void link_give_up_stream(struct link *l, const char *why);

/* --- link_send.c --- */

/* The connection broke. */
void link_lane_is_down(struct link *l, unsigned lane);
/* The readers begin anew behind what the server has. */
void link_rewind(struct link *l);
/* The server has more. */
void link_forget_acknowledged(struct link *l);
void link_send_waiting(struct link *l);
/* Nothing is under way, and nothing is left to be sent. */
bool link_is_done(struct link *l);

#endif
