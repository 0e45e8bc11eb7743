/*
 * tally: how many updates a path had in each stretch of time. Internal to the index.
 *
 * Counts lie in buckets of four sizes, each 1,024 times the one below (about 0.13 s, 2 min, 39
 * h, 4.6 years), so that the number up to any moment is the sum of at most 1,024 buckets of each
 * size and the events of the last 0.13 s.
 */
#ifndef SANREWIND_RECOVERYD_TALLY_H
#define SANREWIND_RECOVERYD_TALLY_H

#include "recoveryd/index/kv.h"

/* The smallest bucket that is being filled: neighbours in the order of keys share one. */
struct tally {
    uint64_t path; /* 0: none */
    uint64_t bucket;
    uint64_t updates; /* not yet in the tables */
};

int tally_add(struct tally *t, struct kv_txn *txn, uint64_t path, uint64_t time_ns,
              struct error *err);
int tally_flush(struct tally *t, struct kv_txn *txn, struct error *err);

#endif
