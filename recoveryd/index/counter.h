/* counter: numbers in a table that are added to and taken from. Internal to the index. */
#ifndef SANREWIND_RECOVERYD_COUNTER_H
#define SANREWIND_RECOVERYD_COUNTER_H

#include "recoveryd/index/kv.h"

int counter_add(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t number,
                struct error *err);
/* Never below 0. */
int counter_take(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t number,
                 struct error *err);
/* 0 when there is none. */
int counter_get(struct kv_txn *t, unsigned table, const struct kv_key *key, uint64_t *number,
                struct error *err);

#endif
