/*
 * waiting: what has landed of one stream and is not committed yet.
 *
 * Two kinds: halves (a control without its payload, or the other way round), and whole ones, which
 * the next commit takes, or which have to wait until holes before them close. Only marks within
 * WAITING_WINDOW of the frontier are let in: what is further away is not acknowledged, and the
 * monitor sends it again. So memory is bounded and the record that everything waits for always gets
 * in. Not thread-safe.
 */
#ifndef SANREWIND_RECOVERYD_WAITING_H
#define SANREWIND_RECOVERYD_WAITING_H

#include "recoveryd/receive/landing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WAITING_WINDOW = 1 << 18 };

struct half;

struct waiting {
    struct arrival *whole; /* ascending by order after waiting_sort() */
    size_t whole_count;
    size_t whole_capacity;
    struct half *halves; /* hash by order */
    size_t half_count;
    uint64_t misfits; /* payloads that were not what their update named */
};

void waiting_release(struct waiting *w);

/* Takes the arrival over (it is empty afterwards). False, and still the caller's: out of memory. */
bool waiting_add(struct waiting *w, struct arrival *arrival);
/* Puts the whole ones in order; of several with one mark, one stays. */
void waiting_sort(struct waiting *w);
/* Removes the whole ones with done[i] set (i: position after waiting_sort()). */
void waiting_remove(struct waiting *w, const bool *done);
/* How many marks wait. */
size_t waiting_count(const struct waiting *w);

#endif
