#include "tap/fc/els.h"
#include "tap/fc/internal.h"

/*
 * FC-LS-4, 6.3: what ends the login of two ports with each other leaves them without one, and a
 * port takes no commands of a port that has not logged in since. When the next command passes and
 * that login did not, the mirror lost it, and with it who has the target's FC_ID now.
 */

enum { MAX_PAIRS = 16384 };
/* The PRLI that follows a PLOGI has long been sent, and sent again. */
#define PRLI_NS (60 * NS_PER_SECOND)

struct pair_key {
    uint32_t low; /* FC_IDs */
    uint32_t high;
    uint32_t vsan;
};

struct pair {
    struct pair_key key;
    bool confirmed; /* it was said who they are, and no command came since; else: a login is due */
    bool early;     /* that was before the request for it */
    uint16_t ox_id; /* of the login's exchange */
    uint32_t by;    /* who ended the login before; 0: that was not seen, and is long ago */
    uint64_t time_ns;
    UT_hash_handle hh;
};

struct pairs {
    struct pair *list; /* a hash table; the least recently changed one first */
    uint64_t changes;  /* begins with 1 */
};

struct pairs *pairs_create(void) {
    struct pairs *p = calloc(1, sizeof *p);
    if (p != NULL)
        p->changes = 1;
    return p;
}

static void drop(struct pairs *p, struct pair *pair) {
    HASH_DEL(p->list, pair);
    free(pair);
}

void pairs_destroy(struct pairs *p) {
    struct pair *pair, *next;
    if (p == NULL)
        return;
    HASH_ITER(hh, p->list, pair, next) {
        drop(p, pair);
    }
    free(p);
}

uint64_t pairs_changes(const struct pairs *p) {
    return p->changes;
}

static struct pair_key key_of(uint16_t vsan, uint32_t a, uint32_t b) {
    return (struct pair_key){a < b ? a : b, a < b ? b : a, vsan};
}

static struct pair *find(const struct pairs *p, uint16_t vsan, uint32_t a, uint32_t b) {
    struct pair_key key = key_of(vsan, a, b);
    struct pair *pair = NULL;
    HASH_FIND(hh, p->list, &key, sizeof key, pair);
    return pair;
}

/* Whoever has this FC_ID now: the login that would have told was not seen. */
static void doubt(struct fc *f, uint16_t vsan, uint32_t target, uint64_t time_ns) {
    bool talked = nexus_leave(
        f, vsan, target, "a login that the monitor did not see, or not all of, ended it", time_ns);
    if (talked || names_find(f->names, vsan, target) != 0)
        names_forget(f->names, vsan, target);
}

/* Which of them is the target, if not both? */
static void doubt_targets(struct fc *f, uint16_t vsan, uint32_t a, uint32_t b, uint64_t time_ns) {
    bool from_b = nexus_find(f, vsan, b, a) != NULL;
    doubt(f, vsan, b, time_ns);
    if (from_b)
        doubt(f, vsan, a, time_ns);
}

static void forget_oldest(struct fc *f, uint64_t time_ns) {
    struct pair oldest = *f->pairs->list;
    drop(f->pairs, f->pairs->list);
    if (!oldest.confirmed)
        doubt_targets(f, (uint16_t)oldest.key.vsan, oldest.key.low, oldest.key.high, time_ns);
}

/* Makes it, or makes it anew. NULL: no memory. */
static struct pair *renew(struct fc *f, uint16_t vsan, uint32_t a, uint32_t b, uint64_t time_ns) {
    struct pair *pair = find(f->pairs, vsan, a, b);
    f->pairs->changes++;
    if (pair != NULL)
        HASH_DEL(f->pairs->list, pair);
    else if (HASH_COUNT(f->pairs->list) >= MAX_PAIRS)
        forget_oldest(f, time_ns);
    if (pair == NULL)
        pair = malloc(sizeof *pair);
    if (pair == NULL)
        return NULL;
    *pair = (struct pair){.key = key_of(vsan, a, b), .time_ns = time_ns};
    HASH_ADD(hh, f->pairs->list, key, sizeof pair->key, pair);
    if (pair->hh.tbl != NULL)
        return pair;
    free(pair);
    return NULL;
}

static bool are_ports(const struct frame *frame) {
    return frame->s_id > 0 && frame->s_id < FC_WELL_KNOWN && frame->d_id > 0 &&
           frame->d_id < FC_WELL_KNOWN;
}

/* The direction of the target is ahead: its LS_ACC was there before the PLOGI. */
static bool was_answered(const struct pair *pair, const struct frame *frame, uint64_t time_ns) {
    return pair != NULL && pair->confirmed && pair->early && pair->ox_id == frame->ox_id &&
           frame->payload[0] == ELS_PLOGI && time_ns < pair->time_ns + SKEW_NS;
}

static void end_login(struct fc *f, const struct frame *frame, uint32_t by, uint64_t time_ns) {
    if (!are_ports(frame))
        return;
    struct pair *pair = renew(f, frame->vsan, frame->s_id, frame->d_id, time_ns);
    if (pair != NULL) {
        pair->by = by;
        return;
    }
    f->counters.overflow++;
    doubt_targets(f, frame->vsan, frame->s_id, frame->d_id, time_ns);
}

void pairs_end_login(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    struct pair *pair = find(f->pairs, frame->vsan, frame->s_id, frame->d_id);
    if (was_answered(pair, frame, time_ns))
        pair->early = false;
    else
        end_login(f, frame, frame->s_id, time_ns);
}

void pairs_confirm(struct fc *f, const struct frame *frame, bool early, uint64_t time_ns) {
    if (!are_ports(frame))
        return;
    struct pair *pair = renew(f, frame->vsan, frame->s_id, frame->d_id, time_ns);
    if (pair == NULL)
        return;
    pair->confirmed = true;
    pair->early = early;
    pair->ox_id = frame->ox_id;
}

bool pairs_is_due(const struct fc *f, const struct frame *frame) {
    const struct pair *pair = find(f->pairs, frame->vsan, frame->s_id, frame->d_id);
    return pair != NULL && !pair->confirmed;
}

void pairs_process_login(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    const struct pair *pair = find(f->pairs, frame->vsan, frame->s_id, frame->d_id);
    if (!pairs_is_due(f, frame) && (pair == NULL || time_ns >= pair->time_ns + PRLI_NS))
        end_login(f, frame, 0, time_ns);
}

bool pairs_before_frame(struct fc *f, const struct frame *frame, uint32_t initiator,
                        uint32_t target, uint64_t time_ns) {
    struct pair *pair = find(f->pairs, frame->vsan, initiator, target);
    if (pair == NULL)
        return true;
    bool due = !pair->confirmed;
    /* What the other one had sent before may still have been on its way. */
    bool crosses = pair->by != 0 && pair->by != frame->s_id;
    if (due && crosses && time_ns < pair->time_ns + SKEW_NS)
        return false;
    drop(f->pairs, pair);
    if (due)
        doubt(f, frame->vsan, target, time_ns);
    return true;
}
