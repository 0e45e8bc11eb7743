/*
 * journal: ordinary updates as they were committed, in the order of the commits, until merge.c has
 * sorted them into runs and history. Internal to the index.
 *
 * So a commit appends, and nothing else, whatever the updates write to. Readers look here, too: the
 * tail is what a transaction sees of the journal, sorted in memory. merge.c keeps it short.
 */
#ifndef SANREWIND_RECOVERYD_JOURNAL_H
#define SANREWIND_RECOVERYD_JOURNAL_H

#include "recoveryd/index/change.h"
#include "recoveryd/index/kv.h"

/* Behind what is there. */
int journal_append(struct kv_txn *t, const struct changes *changes, struct error *err);
/*
 * From the oldest on, at least `most` changes or all; `last` is the number of the last block that
 * was read, 0 when the journal is empty.
 */
int journal_read(struct kv_txn *t, size_t most, struct changes *changes, uint64_t *last,
                 struct error *err);
/* All blocks up to and including `last`. */
int journal_forget(struct kv_txn *t, uint64_t last, struct error *err);
/* How many blocks there are, of about 80 changes each. */

int journal_blocks(struct kv_txn *t, uint64_t *blocks, struct error *err);

/*
 * A change, or the part of it in one chunk, in the order (path, chunk, stamp). Changes of one stamp
 * are there once.
 */
struct tail_part {
    uint64_t path;
    uint64_t level_chunk;
    uint32_t change; /* of tail->changes */
};

struct tail {
    struct changes changes;  /* in the order (path, stamp) */
    struct tail_part *parts; /* owned */
    size_t count;
};

/* Sorts the changes, which it takes. */
int tail_make(struct tail *tail, struct changes *changes, struct error *err);
void tail_release(struct tail *tail);
/* The change of a part, cut to the chunk. */
struct change tail_part_change(const struct tail *tail, size_t part);
/* The number of parts that lie before (path, level_chunk, stamp), that one included. */
size_t tail_find(const struct tail *tail, uint64_t path, uint64_t level_chunk,
                 const struct stamp *stamp);
/* The same for changes and (path, stamp). */
size_t tail_find_change(const struct tail *tail, uint64_t path, const struct stamp *stamp);
/* The number of those that lie before, that one not included. */
size_t tail_first(const struct tail *tail, uint64_t path, uint64_t level_chunk);
size_t tail_first_change(const struct tail *tail, uint64_t path, const struct stamp *stamp);

#endif
