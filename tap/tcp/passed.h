/*
 * passed: what was given of one direction lately, when it had been sent, and what the receiver
 * answered.
 *
 * Of bytes that were sent twice, the receiver took one copy, and the monitor may have given the
 * other one: the copies need not be the same (see acks.h), and a mirror may deliver the second one
 * first, or one direction later than the other. What tells is the timestamps (RFC 7323): an
 * acknowledgement echoes that of the segment that filled the receiver's hole, so that a copy with a
 * later one came when the bytes were there already. Where nothing tells, bytes of which copies
 * differ are in doubt. Kept for a reorder window. Offsets as in internal.h. Not thread-safe.
 */
#ifndef SANREWIND_TAP_PASSED_H
#define SANREWIND_TAP_PASSED_H

#include "tap/tcp/acks.h"

enum {
    PASSED_MOST = 1024, /* runs of one direction: about one for each millisecond */
};

/* How a copy of some bytes came. */
struct passed_copy {
    uint64_t start;
    uint64_t end;
    uint64_t time_ns; /* packet time */
    uint32_t stamp;   /* TSval */
    bool stamped;
    bool again; /* it was sent after what lies behind it, so that it is no first copy */
};

/* Bytes that were given together, and of which the same is known. */
struct passed_run {
    struct passed_copy given;
    uint64_t seen_ns;     /* tap's clock when it was noted */
    uint64_t answered_ns; /* packet time of the first acknowledgement; 0: none came */
    uint32_t echo;        /* the oldest TSecr of those that came */
    bool echoed;          /* there was one */
    bool disputed;        /* another copy differs, and no acknowledgement told of it yet */
    bool lost;            /* said once */
    struct passed_copy other;
    bool compared; /* another copy was the same */
    uint32_t compared_stamp;
};

struct passed {
    struct passed_run *runs; /* owned; by offset */
    uint32_t count;
    uint32_t capacity;
    uint32_t unanswered; /* index of the first that was not acknowledged */
    uint32_t newest_echo;
    uint32_t newest_stamp; /* of all runs */
};

/* How many runs there are, of all directions together; without room, the oldest are forgotten. */
struct passed_budget {
    size_t runs;
    size_t most;
};

/* found: of bytes [start, end), the receiver may have taken others. */
struct passed_doubt {
    void *context;
    void (*found)(void *context, uint64_t start, uint64_t end);
    struct passed_budget *budget;
    uint64_t old_ns; /* runs noted before are kept only where there is room */
};

/* What most segments need, and no more: true when they only make the last run longer. */
static inline bool passed_extend(struct passed *p, const struct passed_copy *given,
                                 uint64_t now_ns) {
    if (p->count == 0)
        return false;
    struct passed_run *last = &p->runs[p->count - 1];
    bool answered = p->unanswered == p->count;
    /* That it was answered as usual is told again with what is added. */
    if (answered && given->stamped && (!last->echoed || last->echo != last->given.stamp))
        return false;
    if (last->given.end != given->start || last->given.stamped != given->stamped ||
        last->given.stamp != given->stamp || last->given.again != given->again || last->disputed ||
        last->lost || last->compared)
        return false;
    if (!given->stamped && given->time_ns - last->given.time_ns >= ACKS_TOGETHER_NS)
        return false;
    last->given.end = given->end;
    last->seen_ns = now_ns;
    if (answered) {
        last->answered_ns = 0;
        last->echoed = false;
        p->unanswered--;
    }
    return true;
}

/* Can an acknowledgement of all below `end` say something? */
static inline bool passed_awaits(const struct passed *p, uint64_t end,
                                 const struct tcp_segment *acknowledgement) {
    if (p->count == 0)
        return false;
    return (p->unanswered < p->count && p->runs[p->unanswered].given.start < end) ||
           (acknowledgement->stamped && acks_stamp_is_later(p->newest_echo, acknowledgement->echo));
}

/* Was something sent later than this? */
static inline bool passed_has_later(const struct passed *p, uint32_t stamp) {
    return p->count > 0 && acks_stamp_is_later(p->newest_stamp, stamp);
}

/*
 * These bytes were given, behind all others. `doubt` is told of what is forgotten before it was
 * known: old runs, or those PASSED_MOST ago.
 */
void passed_note(struct passed *p, const struct passed_copy *given, uint64_t now_ns,
                 const struct passed_doubt *doubt);
/* The receiver has all below `end`. */
void passed_answer(struct passed *p, uint64_t end, const struct tcp_segment *acknowledgement,
                   const struct passed_doubt *doubt);
/* Bytes from `offset` on were sent with `stamp`: what lies before them and was sent later is no
 * first copy. */
void passed_behind(struct passed *p, uint64_t offset, uint32_t stamp,
                   const struct passed_doubt *doubt);
/* Of these bytes another copy came, which is the same. */
void passed_equals(struct passed *p, const struct passed_copy *copy,
                   const struct passed_doubt *doubt);
/* The first offset that is kept; UINT64_MAX: nothing is. */
uint64_t passed_start(const struct passed *p);
/* Of these bytes another copy came, which is not the same. */
void passed_differs(struct passed *p, const struct passed_copy *copy,
                    const struct passed_doubt *doubt);
/*
 * Of these bytes another copy came, and what was given is not known any more: mostly, the same
 * segment again, or one that was not needed any more. Nothing is said of old runs: no mirror is so
 * late with one direction.
 */
void passed_forgotten(struct passed *p, const struct passed_copy *copy,
                      const struct passed_doubt *doubt);
void passed_release(struct passed *p, struct passed_budget *budget);

#endif
