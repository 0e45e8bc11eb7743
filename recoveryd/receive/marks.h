/*
 * marks: which order marks of a stream are durable, and up to which time that promises all. Pure.
 *
 * A stream_entry holds the frontier (every mark below it) and a few runs beyond. Adding marks in
 * any order and any number of times leads to the same entry.
 */
#ifndef SANREWIND_RECOVERYD_MARKS_H
#define SANREWIND_RECOVERYD_MARKS_H

#include "proto/record.h"
#include "recoveryd/index/index.h"

bool marks_have(const struct stream_entry *entry, uint64_t order);

/*
 * The mark is durable now; `promise_ns` is what marks_promise() says of its record. False, and
 * nothing changed, when it would open one more run than the entry can hold: the record has to wait
 * until holes close.
 */
bool marks_add(struct stream_entry *entry, uint64_t order, uint64_t promise_ns);

/*
 * The time up to which nothing is missing once this record and all before it are there. Only a
 * FRONTIER says so: behind any other record, some with earlier time marks may follow.
 */
uint64_t marks_promise(const struct record *r);

#endif
