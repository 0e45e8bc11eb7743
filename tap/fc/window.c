#include "tap/fc/internal.h"

#include <utlist.h>

/*
 * Frames wait here for those that come later but are older. Which frames were seen lately is kept
 * as a table of their hashes with two places for each: what is pushed out early is taken for new.
 */
enum { TABLE_SETS = 1 << 16, WAYS = 2 };
/*
 * Where a late one belongs is found by stripes of time, 16 µs each and more of them than fit into
 * WINDOW_NS. What is noted of them is where to begin looking, no more: two of the same number,
 * further apart, do no harm.
 */
enum { STRIPES = 4096, STRIPE_SHIFT = 14, WORD_BITS = 64, WORDS = STRIPES / WORD_BITS };

struct trace {
    uint64_t hash;
    uint64_t time_ns;
};

struct window {
    struct seen *oldest; /* utlist: ->prev is the newest */
    struct shelves *shelves;
    size_t bytes;
    size_t limit_bytes;
    struct seen *last[STRIPES]; /* in the list, of each stripe; NULL: none */
    uint64_t filled[WORDS];     /* a bit for each of them that is not NULL */
    struct trace table[TABLE_SETS][WAYS];
};

DEFINE_AUTO(window, window_destroy)

struct window *window_create(size_t limit_bytes) {
    AUTO(window) w = calloc(1, sizeof *w);
    if (w == NULL || (w->shelves = shelves_create()) == NULL)
        return NULL;
    w->limit_bytes = limit_bytes;
    return take_pointer(&w);
}

void window_destroy(struct window *w) {
    struct seen *seen, *next;
    if (w == NULL)
        return;
    DL_FOREACH_SAFE(w->oldest, seen, next) {
        seen_free(seen);
    }
    shelves_destroy(w->shelves);
    free(w);
}

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t hash_of(const struct frame *f) {
    uint64_t hash = mix(f->checksum, (uint64_t)f->s_id << 32 | f->d_id);
    hash = mix(hash, (uint64_t)f->ox_id << 48 | (uint64_t)f->rx_id << 32 | f->f_ctl << 8 | f->type);
    hash = mix(hash, (uint64_t)f->parameter << 32 | (uint64_t)f->seq_cnt << 16 |
                         (uint64_t)f->seq_id << 8 | f->r_ctl);
    return mix(hash, (uint64_t)f->vsan << 32 | f->wire_bytes);
}

/* Stripes */

static size_t stripe_of(uint64_t time_ns) {
    return (size_t)(time_ns >> STRIPE_SHIFT) % STRIPES;
}

static void note_last(struct window *w, struct seen *seen) {
    size_t at = stripe_of(seen->time_ns);
    if (w->last[at] != NULL && w->last[at]->time_ns > seen->time_ns)
        return;
    w->last[at] = seen;
    w->filled[at / WORD_BITS] |= UINT64_C(1) << at % WORD_BITS;
}

static void forget_last(struct window *w, const struct seen *seen) {
    size_t at = stripe_of(seen->time_ns);
    if (w->last[at] != seen)
        return;
    w->last[at] = NULL;
    w->filled[at / WORD_BITS] &= ~(UINT64_C(1) << at % WORD_BITS);
}

/* One that waits, in the stripe of that time or the next before it that is not empty. */
static struct seen *near(const struct window *w, uint64_t time_ns) {
    size_t at = stripe_of(time_ns);
    uint64_t word = w->filled[at / WORD_BITS] & (UINT64_MAX >> (WORD_BITS - 1 - at % WORD_BITS));
    size_t i = at / WORD_BITS;
    for (size_t steps = 0; word == 0 && steps < WORDS; steps++) {
        i = (i + WORDS - 1) % WORDS;
        word = w->filled[i];
    }
    if (word == 0)
        return w->oldest;
    return w->last[i * WORD_BITS + WORD_BITS - 1 - (size_t)__builtin_clzll(word)];
}

/* The last one that is not younger; NULL: all are. */
static struct seen *find_before(const struct window *w, uint64_t time_ns) {
    struct seen *oldest = w->oldest;
    if (oldest == NULL || oldest->time_ns > time_ns)
        return NULL;
    if (oldest->prev->time_ns <= time_ns)
        return oldest->prev;
    struct seen *before = near(w, time_ns);
    while (before->time_ns > time_ns)
        before = before->prev;
    while (before->next->time_ns <= time_ns)
        before = before->next;
    return before;
}

bool window_add(struct window *w, const struct frame *frame, uint64_t time_ns) {
    struct seen *seen = shelves_put(w->shelves, frame, time_ns);
    if (seen == NULL)
        return false;
    seen->likeness = hash_of(frame);
    w->bytes += seen_size(seen);
    struct seen *before = find_before(w, time_ns);
    if (before == NULL)
        DL_PREPEND(w->oldest, seen);
    else
        DL_APPEND_ELEM(w->oldest, before, seen);
    note_last(w, seen);
    return true;
}

static struct trace *set_of(struct window *w, uint64_t hash) {
    return w->table[hash % TABLE_SETS];
}

/* Was one like it seen lately? And from now on it was. */
static bool was_seen(struct window *w, const struct seen *seen) {
    uint64_t hash = seen->likeness;
    struct trace *set = set_of(w, hash);
    struct trace *place = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].hash == hash) {
            place = &set[i];
            break;
        }
        if (set[i].time_ns < place->time_ns)
            place = &set[i];
    }
    bool again = place->hash == hash && place->time_ns > 0 &&
                 seen->time_ns < place->time_ns + REPEAT_NS &&
                 place->time_ns < seen->time_ns + REPEAT_NS;
    *place = (struct trace){hash, seen->time_ns};
    return again;
}

/*
 * What waits has left the cache long ago. Fetching what the next two frames need while this one is
 * looked at takes 0.1 µs from each, and fetching data that is about to be copied some 8% of all
 * time; that of READs is not looked at. (Not inlined, it has no effect that gcc 12 knows of, and is
 * dropped.)
 */
__attribute__((always_inline)) static inline void fetch_ahead(struct window *w) {
    enum { LINE_BYTES = 64 };
    const struct seen *next = w->oldest;
    if (next == NULL)
        return;
    __builtin_prefetch(set_of(w, next->likeness), 1);
    bool copied = next->frame.r_ctl == R_CTL_DATA && (next->frame.f_ctl & F_CTL_RESPONDER) == 0;
    for (size_t i = 0; copied && i < next->frame.bytes; i += LINE_BYTES)
        __builtin_prefetch(next->data + i);
    if (next->next == NULL)
        return;
    __builtin_prefetch(next->next, 1);
    __builtin_prefetch((const uint8_t *)next->next + LINE_BYTES, 1);
}

struct seen *window_next(struct window *w, uint64_t until_ns) {
    struct seen *seen = w->oldest;
    if (seen == NULL || (seen->time_ns > until_ns && w->bytes <= w->limit_bytes))
        return NULL;
    DL_DELETE(w->oldest, seen);
    forget_last(w, seen);
    w->bytes -= seen_size(seen);
    seen->prev = seen->next = NULL;
    seen->again = was_seen(w, seen);
    fetch_ahead(w);
    return seen;
}

uint64_t window_oldest(const struct window *w) {
    return w->oldest != NULL ? w->oldest->time_ns : UINT64_MAX;
}
