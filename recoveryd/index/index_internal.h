/*
 * index_internal: what the files of the index share.
 */
#ifndef SANREWIND_RECOVERYD_INDEX_INTERNAL_H
#define SANREWIND_RECOVERYD_INDEX_INTERNAL_H

#include "recoveryd/index/change.h"
#include "recoveryd/index/index.h"
#include "recoveryd/index/journal.h"
#include "recoveryd/index/kv.h"
#include "recoveryd/index/values.h"

#include <pthread.h>

struct index {
    struct kv *kv;
    uint64_t unmerged_most; /* blocks of the journal */
    uint64_t merged_ns; /* monotonic: when index_merge_due() last did something, or found nothing */
};

struct index_reader {
    struct kv_txn *txn;
    pthread_mutex_t lock; /* guards the tail while it is made */
    bool has_tail;
    struct tail tail; /* of the journal; see reader_tail() */
};

/* Sorted at the first call. Then it stays as it is until the reader is closed. */
int reader_tail(struct index_reader *r, const struct tail **tail, struct error *err);

enum put_kind {
    PUT_VALUE,  /* replaces */
    PUT_DELETE, /* whether it is there or not */
    PUT_TAKE,   /* deletes what must be there: ERR_BUSY otherwise */
    PUT_CLEAR,  /* deletes every key that begins with this one */
};

/* One put that waits; its value lies in the writer's `values`. */
struct put {
    struct kv_key key;
    uint8_t table; /* enum index_table */
    uint8_t kind;  /* enum put_kind */
    uint16_t value_bytes;
    uint32_t value_at;
    uint32_t sequence; /* of equal keys the last one put wins */
};

/* What a commit means for content that was derived before: see index_derived.c. */
struct upset {
    bool facts;    /* one changed: what could not be resolved may be, now */
    bool resolved; /* what was resolved since `from_ns` may be wrong now */
    uint64_t from_ns;
};

/*
 * Changes that ended at a time but had begun at another: a copy that was taken between both may
 * have met either content. What is more than FLIGHTS is merged into the last one.
 */
enum { FLIGHTS = 512 };
struct flights {
    struct flight {
        uint64_t issued_ns;
        uint64_t ended_ns;
        uint64_t start; /* bytes of the volume */
        uint64_t end;
    } list[FLIGHTS];
    size_t count;
};

struct index_writer {
    struct kv *kv;
    uint64_t unmerged_most;
    struct kv_txn *txn; /* NULL until something had to be written down */
    struct put *puts;
    size_t count;
    size_t capacity;
    struct buffer values;
    struct changes changes; /* ordinary updates, for the journal */
    struct upset upset;
    struct flights flights;
    bool checks_facts; /* commits only while the facts have the number `facts` */
    uint64_t facts;
};

/* merge.c: a step of index_merge() in a transaction that is open. */
int merge_step(struct kv_txn *t, bool *merged, struct error *err);

/* thinned.c */
int thinned_put(struct kv_txn *t, const struct thinned_entry *e, struct error *err);
/* As index_thinned_at(). */
int thinned_at(struct kv_txn *t, uint64_t path, uint64_t time_ns, bool below,
               struct thinned_entry *e, struct error *err);

/* Begins a put: the value is what the caller then appends to w->values, until end_put(). */
int writer_begin(struct index_writer *w, enum index_table table, enum put_kind kind,
                 const struct kv_key *key, struct error *err);
int writer_end(struct index_writer *w, struct error *err);
/* Both, for what has no value. */
int writer_mark(struct index_writer *w, enum index_table table, enum put_kind kind,
                const struct kv_key *key, struct error *err);
/* What waits goes into the transaction, sorted. */
int writer_flush(struct index_writer *w, struct error *err);

/* Cuts `whole` at the boundaries of the chunks of its level. `clear`: nothing else of its stamp
 * stays in them. */
int writer_put_pieces(struct index_writer *w, uint64_t path, const struct piece *whole, bool clear,
                      struct error *err);
/* `part` 0: the record's own; else what tells several of one stamp apart. */
int writer_put_gap_entry(struct index_writer *w, const struct stamp *stamp, uint64_t part,
                         const struct gap_record *gap, struct error *err);

/* What has to be done for an update whose content is derived, and the gap until it is. */
int derived_put(struct index_writer *w, const struct stamp *stamp,
                const struct update_record *update, const struct extent *payload,
                struct error *err);

/* --- what a commit upsets --- */

void upset_add(struct upset *u, bool resolved, uint64_t from_ns);
void flights_add(struct flights *f, uint64_t issued_ns, uint64_t ended_ns, uint64_t offset_bytes,
                 uint64_t length_bytes);
/* Adds the first copy that was taken while one of them was in flight over its source. */
int flights_upset(struct index_writer *w, struct error *err);
/* Before the transaction is committed: reopens what is upset, and counts the facts on. */
int upset_apply(struct index_writer *w, struct error *err);
int facts_read(struct kv_txn *txn, uint64_t *facts, struct error *err);

/* --- merging puts, at the flush --- */

int put_merged_path(struct index_writer *w, const struct put *put, struct error *err);
int put_merged_size(struct index_writer *w, const struct put *put, struct error *err);
int put_merged_audited(struct index_writer *w, const struct put *put, struct error *err);

/* The value that waits. */
static inline struct kv_item put_item(const struct index_writer *w, const struct put *put) {
    return (struct kv_item){cursor_of(put->key.bytes, put->key.length),
                            cursor_of(w->values.data + put->value_at, put->value_bytes)};
}

/* The end of a table is no error. */
static inline int index_ended(int code) {
    return code == ERR_NOT_FOUND ? 0 : code;
}

#endif
