/*
 * blocks: changes under one prefix, in the order of their stamps, packed into blocks of a table.
 * Internal to the index.
 *
 * The key of a block is the prefix and the stamp of its first change. Blocks do not overlap.
 */
#ifndef SANREWIND_RECOVERYD_BLOCKS_H
#define SANREWIND_RECOVERYD_BLOCKS_H

#include "recoveryd/index/change.h"
#include "recoveryd/index/kv.h"

/*
 * Six fill a page: (4096 - 16) / 6, less the key and LMDB's own. Of those that are appended LMDB
 * (0.9.24) leaves all but one on the page that is full.
 */
enum { BLOCK_MOST_BYTES = 620 };

/*
 * Puts changes, sorted by stamp, among those that are there. One whose stamp is there already
 * changes nothing. `fresh`, if not NULL, says of each whether it was new. *blocks: how many blocks
 * were added.
 */
int blocks_insert(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                  const struct change *list, size_t count, bool *fresh, size_t *blocks,
                  struct error *err);

/*
 * Takes changes out, whose stamps are sorted; what is not there is no error. `gone`, if not NULL,
 * says of each whether it was there. What is left of the blocks between the first and the last of
 * them is packed anew.
 */
int blocks_drop(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                const struct stamp *stamps, size_t count, bool *gone, struct error *err);

/* One prefix being read. Not longer than its transaction. */
struct block_cursor;
int blocks_open(struct kv_txn *t, unsigned table, struct block_cursor **out, struct error *err);
void block_cursor_close(struct block_cursor *c);
/* The newest change of the prefix with a stamp <= until. The change is valid until the next call.
 * ERR_NOT_FOUND without a text: there is none. */
int blocks_seek_down(struct block_cursor *c, const struct kv_key *prefix, const struct stamp *until,
                     const struct change **change, struct error *err);
/* The next older one. */
int blocks_previous(struct block_cursor *c, const struct change **change, struct error *err);
/* The oldest one with a stamp >= from, and the next newer one. */
int blocks_seek_up(struct block_cursor *c, const struct kv_key *prefix, const struct stamp *from,
                   const struct change **change, struct error *err);
int blocks_next(struct block_cursor *c, const struct change **change, struct error *err);

/* The stamp behind the prefix of a block's key. False: the key is of another prefix. */
bool block_key_stamp(struct cursor key, const struct kv_key *prefix, struct stamp *stamp);
struct kv_key block_key(const struct kv_key *prefix, const struct stamp *stamp);

DEFINE_AUTO(block_cursor, block_cursor_close)

#endif
