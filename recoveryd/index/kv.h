/*
 * kv: sorted tables of bytes with transactions: LMDB, and nothing of it shows. Internal to the
 * index.
 *
 * Keys sort as memcmp orders them. What a read returns is borrowed from the map until the
 * transaction ends (or, in a write transaction, until its next put). Functions return 0,
 * ERR_NOT_FOUND without a text, or an error.
 */
#ifndef SANREWIND_RECOVERYD_KV_H
#define SANREWIND_RECOVERYD_KV_H

#include "common/cleanup.h"
#include "common/cursor.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_TABLES = 32, KV_KEY_BYTES = 56 };

struct kv;
struct kv_txn;
struct kv_cursor;

/* A key being made: big-endian numbers one after the other. */
struct kv_key {
    uint8_t bytes[KV_KEY_BYTES];
    uint8_t length;
};

static inline void kv_key_add(struct kv_key *key, uint64_t value, unsigned width) {
    for (unsigned i = 0; i < width; i++)
        key->bytes[key->length + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    key->length = (uint8_t)(key->length + width);
}

struct kv_item {
    struct cursor key;
    struct cursor value;
};

/* The directory must exist, on a disk of this machine (ERR_USAGE). Without `create` the files must,
 * too. */
int kv_open(const char *dir, bool create, struct kv **out, struct error *err);
void kv_close(struct kv *kv);
/* By the type that statfs() tells. */
bool kv_file_system_is_shared(uint64_t type);
/* Opens the tables `names` under the numbers first, first + 1, ... ERR_FORMAT: one is missing. */
int kv_open_tables(struct kv *kv, unsigned first, const char *const *names, unsigned count,
                   bool create, struct error *err);

/* One write transaction at a time over all processes: waits. Begin and end in one thread. */
int kv_write(struct kv *kv, struct kv_txn **out, struct error *err);
/* Many at once; one thread at a time each. */
int kv_read(struct kv *kv, struct kv_txn **out, struct error *err);
/* Frees the transaction in any case. 0: durable. */
int kv_commit(struct kv_txn *t, struct error *err);
void kv_abort(struct kv_txn *t);

int kv_get(struct kv_txn *t, unsigned table, const struct kv_key *key, struct cursor *value,
           struct error *err);
/* Replaces. Fastest in ascending order of keys. */
int kv_put(struct kv_txn *t, unsigned table, const struct kv_key *key, const void *value,
           size_t bytes, struct error *err);
/* Likewise; *fresh: the key was not there. */
int kv_put_fresh(struct kv_txn *t, unsigned table, const struct kv_key *key, const void *value,
                 size_t bytes, bool *fresh, struct error *err);

/* *found: the key was there. */
int kv_delete(struct kv_txn *t, unsigned table, const struct kv_key *key, bool *found,
              struct error *err);
/* All keys that begin with `prefix`. */
int kv_delete_prefix(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                     struct error *err);
/*
 * The state of the environment. A reader that lives long keeps every page that was freed since it
 * began. Clears what killed readers left behind.
 */
struct kv_health {
    uint64_t bytes; /* of the file that are in use, or free for reuse */
    unsigned readers;
    unsigned oldest_pid;     /* process of the reader that began first; 0: there is none */
    uint64_t oldest_commits; /* commits since it began */
};
int kv_health(struct kv *kv, struct kv_health *health, struct error *err);

/* Moments are numbered by the commits before them. */
uint64_t kv_moment(const struct kv_txn *t);
/* That of the oldest reader of all processes; UINT64_MAX: there is none. */
int kv_oldest_moment(struct kv *kv, uint64_t *moment, struct error *err);

/* How many keys the table has. */
int kv_count(struct kv_txn *t, unsigned table, uint64_t *count, struct error *err);

/* Before the end of its transaction the cursor must be closed. */
int kv_cursor_open(struct kv_txn *t, unsigned table, struct kv_cursor **out, struct error *err);
void kv_cursor_close(struct kv_cursor *c);
/* The least key >= `key`; the greatest one <= `key`. */
int kv_seek_up(struct kv_cursor *c, const struct kv_key *key, struct kv_item *item,
               struct error *err);
int kv_seek_down(struct kv_cursor *c, const struct kv_key *key, struct kv_item *item,
                 struct error *err);
int kv_next(struct kv_cursor *c, struct kv_item *item, struct error *err);
int kv_previous(struct kv_cursor *c, struct kv_item *item, struct error *err);

DEFINE_AUTO(kv, kv_close)
DEFINE_AUTO(kv_txn, kv_abort)
DEFINE_AUTO(kv_cursor, kv_cursor_close)

#endif
