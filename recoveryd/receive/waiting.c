#include "recoveryd/receive/waiting.h"

#include <stdlib.h>
#include <string.h>

/* A failed allocation inside the hash table must not end the program. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { FIRST_CAPACITY = 256 };

struct half {
    uint64_t order; /* key */
    struct arrival arrival;
    UT_hash_handle hh;
};

void waiting_release(struct waiting *w) {
    for (size_t i = 0; i < w->whole_count; i++)
        arrival_release(&w->whole[i]);
    free(w->whole);
    struct half *half;
    struct half *next;
    HASH_ITER(hh, w->halves, half, next) {
        HASH_DEL(w->halves, half);
        arrival_release(&half->arrival);
        free(half);
    }
    *w = (struct waiting){0};
}

static bool add_whole(struct waiting *w, struct arrival *arrival) {
    if (w->whole_count == w->whole_capacity) {
        size_t capacity = w->whole_capacity > 0 ? w->whole_capacity * 2 : FIRST_CAPACITY;
        struct arrival *grown = realloc(w->whole, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        w->whole = grown;
        w->whole_capacity = capacity;
    }
    w->whole[w->whole_count++] = *arrival;
    *arrival = (struct arrival){0};
    return true;
}

static bool add_half(struct waiting *w, struct arrival *arrival) {
    struct half *half = calloc(1, sizeof *half);
    if (half == NULL)
        return false;
    half->order = arrival->order;
    half->arrival = *arrival;
    HASH_ADD(hh, w->halves, order, sizeof half->order, half);
    if (half->hh.tbl == NULL) {
        free(half);
        return false;
    }
    w->half_count++;
    *arrival = (struct arrival){0};
    return true;
}

static void drop_half(struct waiting *w, struct half *half) {
    HASH_DEL(w->halves, half);
    w->half_count--;
    arrival_release(&half->arrival);
    free(half);
}

static struct half *find_half(struct waiting *w, uint64_t order) {
    struct half *half = NULL;
    if (w->halves != NULL)
        HASH_FIND(hh, w->halves, &order, sizeof order, half);
    return half;
}

bool waiting_add(struct waiting *w, struct arrival *arrival) {
    struct half *half = find_half(w, arrival->order);
    if (arrival_is_whole(arrival)) {
        if (!add_whole(w, arrival))
            return false;
        if (half != NULL)
            drop_half(w, half);
        return true;
    }
    if (half == NULL)
        return add_half(w, arrival);
    if (!arrival_join(&half->arrival, arrival))
        w->misfits++;
    *arrival = (struct arrival){0};
    if (arrival_is_whole(&half->arrival) && add_whole(w, &half->arrival))
        drop_half(w, half);
    return true;
}

static int by_order(const void *left, const void *right) {
    const struct arrival *a = left;
    const struct arrival *b = right;
    return (a->order > b->order) - (a->order < b->order);
}

static bool is_strictly_sorted(const struct waiting *w) {
    for (size_t i = 1; i < w->whole_count; i++) {
        if (w->whole[i - 1].order >= w->whole[i].order)
            return false;
    }
    return true;
}

void waiting_sort(struct waiting *w) {
    if (is_strictly_sorted(w))
        return;
    qsort(w->whole, w->whole_count, sizeof *w->whole, by_order);
    size_t kept = 1;
    for (size_t i = 1; i < w->whole_count; i++) {
        if (w->whole[i].order == w->whole[kept - 1].order)
            arrival_release(&w->whole[i]);
        else
            w->whole[kept++] = w->whole[i];
    }
    w->whole_count = kept;
}

/* A half that came again after its mark was whole would wait for ever. */
static void drop_half_of(struct waiting *w, uint64_t order) {
    struct half *half = find_half(w, order);
    if (half != NULL)
        drop_half(w, half);
}

void waiting_remove(struct waiting *w, const bool *done) {
    size_t kept = 0;
    for (size_t i = 0; i < w->whole_count; i++) {
        if (!done[i]) {
            w->whole[kept++] = w->whole[i];
            continue;
        }
        drop_half_of(w, w->whole[i].order);
        arrival_release(&w->whole[i]);
    }
    w->whole_count = kept;
}

size_t waiting_count(const struct waiting *w) {
    return w->whole_count + w->half_count;
}
