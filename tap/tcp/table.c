#include "tap/tcp/internal.h"

#include <stdlib.h>
#include <utlist.h>

/* Multiply and fold, seeded: quick, and not to be aimed at from outside. */
static unsigned hash_of(const struct tcp *t, const struct connection_key *key) {
    uint64_t words[sizeof *key / sizeof(uint64_t)];
    _Static_assert(sizeof words == sizeof *key, "the key is whole words");
    memcpy(words, key, sizeof words);
    uint64_t hash = t->hash_seed;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        hash = (hash ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return (unsigned)hash;
}

/* Most segments are of the connection of the one before. */
struct connection *table_find(struct tcp *t, const struct connection_key *key) {
    struct connection *found = t->last;
    if (found != NULL && memcmp(&found->key, key, sizeof *key) == 0)
        return found;
    HASH_FIND_BYHASHVALUE(hh, t->connections, key, sizeof *key, hash_of(t, key), found);
    if (found != NULL)
        t->last = found;
    return found;
}

static void unlink_age(struct tcp *t, struct connection *c) {
    if (c->in_busy)
        DL_DELETE2(t->busy, c, age_prev, age_next);
    else
        DL_DELETE2(t->cheap, c, age_prev, age_next);
}

static void append_age(struct tcp *t, struct connection *c) {
    if (c->in_busy)
        DL_APPEND2(t->busy, c, age_prev, age_next);
    else
        DL_APPEND2(t->cheap, c, age_prev, age_next);
}

void table_touch(struct tcp *t, struct connection *c) {
    c->last_ns = t->now_ns;
    if (!c->in_busy || t->busy->age_prev == c)
        return; /* the cheap go by age alone; the head's previous is the tail */
    unlink_age(t, c);
    append_age(t, c);
}

void table_sort_in(struct tcp *t, struct connection *c) {
    bool busy = c->state == CONNECTION_OPEN;
    if (busy == c->in_busy)
        return;
    unlink_age(t, c);
    c->in_busy = busy;
    append_age(t, c);
}

void table_watch(struct tcp *t, struct connection *c) {
    if (c->waiting)
        return;
    c->waiting = true;
    c->due_ns = t->now_ns + t->limits.reorder_window_ns;
    c->pending_ns = t->now_ns;
    for (unsigned i = 0; i < 2; i++)
        c->sides[i].settled = c->sides[i].acked;
    DL_APPEND2(t->waiting, c, wait_prev, wait_next);
}

void table_account(struct tcp *t, struct connection *c) {
    size_t held = connection_held(c);
    t->held_memory = t->held_memory - c->accounted + held;
    c->accounted = held;
    if ((held > 0) == c->in_holding)
        return;
    c->in_holding = held > 0;
    if (c->in_holding)
        DL_APPEND2(t->holding, c, hold_prev, hold_next);
    else
        DL_DELETE2(t->holding, c, hold_prev, hold_next);
}

void table_remove(struct tcp *t, struct connection *c) {
    for (unsigned i = 0; i < 2; i++) {
        held_release(&c->sides[i].held);
        acks_release(&c->sides[i].acks);
        passed_release(&c->sides[i].passed, &t->passed);
    }
    table_account(t, c);
    if (c->waiting)
        DL_DELETE2(t->waiting, c, wait_prev, wait_next);
    unlink_age(t, c);
    if (t->last == c)
        t->last = NULL;
    HASH_DEL(t->connections, c);
    free(c);
}

/* The cheapest loss first; what the consumer knows of is told that it ends. */
static void evict_one(struct tcp *t) {
    struct connection *c = t->cheap != NULL ? t->cheap : t->busy;
    if (c->state == CONNECTION_JOINING || c->state == CONNECTION_OPEN)
        t->counters.evicted++;
    connection_finish(t, c, TCP_END_EVICTED);
    table_remove(t, c);
}

struct connection *table_add(struct tcp *t, const struct connection_key *key) {
    while (HASH_COUNT(t->connections) > 0 && HASH_COUNT(t->connections) >= t->limits.connections)
        evict_one(t);
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->key = *key;
    c->last_ns = t->now_ns;
    for (unsigned i = 0; i < 2; i++)
        c->sides[i] =
            (struct side){.fin_at = SIDE_NEVER, .reset_at = SIDE_NEVER, .delivered_ns = t->now_ns};
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, t->connections, &c->key, sizeof c->key, hash_of(t, key), c);
    if (c->hh.tbl == NULL) {
        free(c);
        return NULL;
    }
    append_age(t, c);
    return c;
}
