/*
 * internal: what the files of tap/tcp share, and nobody else includes.
 *
 * table.c finds and evicts connections, connection.c delivers the bytes of one, handshake.c decides
 * where its streams begin and end, tcp.c takes segments and lets time pass.
 *
 * Offsets: the sequence numbers of a direction, widened to 64 bits so that they never wrap. The
 * first number seen gets SIDE_START, which leaves room for what turns out to lie before it.
 */
#ifndef SANREWIND_TAP_TCP_INTERNAL_H
#define SANREWIND_TAP_TCP_INTERNAL_H

#include "tap/tcp/acks.h"
#include "tap/tcp/held.h"
#include "tap/tcp/passed.h"
#include "tap/tcp/tcp.h"

#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define SIDE_START UINT64_C(0x80000000)
#define SIDE_NEVER UINT64_MAX
/* The largest window there can be (RFC 7323, 2.3): what lies farther ahead isn't of this
 * connection. */
#define SIDE_WINDOW UINT64_C(0x40000000)

/* One direction: what its sender sent. */
struct side {
    bool placed;     /* offsets mean something */
    bool exact;      /* its SYN was seen, or the answer to it: initial_sequence is known */
    bool seen;       /* a segment of it was seen (or else it is placed by acknowledgements) */
    bool closed;     /* its FIN was reached */
    uint32_t origin; /* the sequence number of offset 0 */
    uint32_t initial_sequence;
    uint64_t next;         /* the next byte to deliver */
    uint64_t low;          /* while joining: the least offset seen */
    uint64_t acked;        /* the other side has received everything below */
    uint64_t settled;      /* `acked` as it was a reorder window ago */
    uint64_t fin_at;       /* SIDE_NEVER until its FIN is seen */
    uint64_t fin_needs;    /* offset that the other side must have reached first */
    uint64_t reset_at;     /* SIDE_NEVER until its RST is seen */
    uint64_t last_ns;      /* packet time of its last segment that fitted */
    uint64_t delivered_ns; /* time given with its last bytes */
    struct held held;
    uint64_t high;        /* end of the farthest bytes seen */
    uint32_t high_stamp;  /* TSval of the segment that carried them first */
    struct acks acks;     /* of bytes at and behind `next` */
    struct passed passed; /* of those before it */
};

enum connection_state {
    CONNECTION_JOINING, /* where the streams begin isn't known yet: all is held */
    CONNECTION_OPEN,    /* bytes are delivered */
    CONNECTION_IGNORED, /* the consumer doesn't want it */
    CONNECTION_CLOSED,  /* kept for a while to recognise late copies */
};

/* Addresses and ports, the smaller endpoint first: the same for both directions. */
struct connection_key {
    uint8_t address[2][16];
    uint16_t port[2];
    uint8_t family;
    uint8_t padding[3];
};

struct connection {
    struct connection_key key;
    UT_hash_handle hh;
    enum connection_state state;
    struct side sides[2]; /* as in the key */
    bool client_known;
    uint8_t client;      /* index of the client's side */
    bool opened;         /* the consumer's open() was called */
    bool waiting;        /* in tcp->waiting */
    bool in_holding;     /* in tcp->holding */
    bool in_busy;        /* in tcp->busy, otherwise in tcp->cheap */
    size_t accounted;    /* its part of tcp->held_memory */
    void *user;          /* what open() returned */
    uint64_t last_ns;    /* packet time of its last segment */
    uint64_t due_ns;     /* when a waiting one is looked at again */
    uint64_t pending_ns; /* of a waiting one: what is missing was not known before */
    uint64_t ended_ns;   /* when it was closed, or its RST came */
    struct connection *age_prev, *age_next;
    struct connection *wait_prev, *wait_next;
    struct connection *hold_prev, *hold_next;
};

struct tcp {
    struct tcp_consumer consumer;
    struct tcp_limits limits;
    struct tcp_counters counters;
    uint64_t now_ns;    /* the latest packet time seen */
    uint64_t hash_seed; /* so that nobody can aim at one bucket */
    size_t held_memory; /* of all connections */
    struct passed_budget passed;
    struct connection *connections; /* uthash */
    struct connection *last;        /* found last; NULL: none, or it is gone */
    /* Every connection is in one of these two, least recently active first. Cheap: nothing is lost
     * with it. */
    struct connection *cheap;
    struct connection *busy;
    struct connection *waiting; /* by due_ns */
    struct connection *holding; /* longest holding first */
};

/* table.c */
struct connection *table_find(struct tcp *t, const struct connection_key *key);
/* A new entry, JOINING; makes room by evicting. NULL: out of memory. */
struct connection *table_add(struct tcp *t, const struct connection_key *key);
/* Without a word to the consumer: end it first. */
void table_remove(struct tcp *t, struct connection *c);
/* It was active: the last to be evicted from now on. */
void table_touch(struct tcp *t, struct connection *c);
/* Put it into the list that fits its state. */
void table_sort_in(struct tcp *t, struct connection *c);
/* Look at it again after a reorder window, unless that is planned already. */
void table_watch(struct tcp *t, struct connection *c);
/* What it holds may have changed: keep the sum and the list of holders right. */
void table_account(struct tcp *t, struct connection *c);

/* handshake.c */
uint64_t side_offset(const struct side *side, uint32_t sequence);
void side_place(struct side *side, uint32_t sequence);
/*
 * A SYN: sets where streams begin, or ends what was there and starts anew. Returns the connection
 * to go on with; NULL when there is none.
 */
struct connection *handshake_syn(struct tcp *t, struct connection *c, unsigned from,
                                 const struct tcp_segment *segment);
/* No SYN came in time: the streams begin with the first byte that was seen. */
void handshake_settle(struct tcp *t, struct connection *c);
/* A RST: ends the connection a reorder window later, when what was under way has come in. */
void handshake_reset(struct tcp *t, struct connection *c, unsigned from,
                     const struct tcp_segment *segment);

/* connection.c */
struct tcp_endpoints connection_endpoints(const struct connection *c);
size_t connection_held(const struct connection *c);
/* Is something held back, or are acknowledged bytes missing? */
bool connection_waits(const struct connection *c);
/* The segment's bytes: delivered at once where possible, otherwise held. */
void connection_take(struct tcp *t, struct connection *c, unsigned from,
                     const struct tcp_segment *segment, uint64_t offset, uint64_t needs);
/* The other side has all below `end`: which of two copies had it received? */
void connection_answered(struct tcp *t, struct connection *c, unsigned from, uint64_t end,
                         const struct tcp_segment *acknowledgement);
/* Deliver all that has become deliverable. */
void connection_pump(struct tcp *t, struct connection *c);
/* Acknowledged a window ago and not here: lost. True when something was declared or forced. */
bool connection_lose_settled(struct tcp *t, struct connection *c);
/* Give up whatever blocks the first held bytes. False when nothing is held. */
bool connection_force(struct tcp *t, struct connection *c);
/* Deliver what is held, declaring holes, and close. The entry stays, CLOSED. */
void connection_finish(struct tcp *t, struct connection *c, enum tcp_end why);

#endif
