/*
 * internal: what the files of settling share.
 */
#ifndef SANREWIND_RECOVERYD_SETTLE_INTERNAL_H
#define SANREWIND_RECOVERYD_SETTLE_INTERNAL_H

#include "common/buffer.h"
#include "common/clock.h"
#include "recoveryd/image/clock.h"
#include "recoveryd/image/image.h"
#include "recoveryd/settle/settle.h"

/* One moment of the store, and what is written on its grounds. */
struct ground {
    struct store *store;
    struct index_reader *reader;
    struct volume_list volumes;
    uint64_t facts;
    uint64_t latest_ns;          /* greatest watermark of all volumes: what is later has to wait */
    struct index_writer *writer; /* relies on the facts; NULL: nothing is written yet */
    uint64_t bytes;              /* in the segment, not synced yet */
    struct segment_writer *segment;
    struct buffer batch;
    uint8_t *content; /* INDEX_CHUNK_BYTES */
    uint8_t *operand; /* likewise: the payload of an OR or XOR */
};

int ground_create(struct store *s, struct ground *g, struct error *err);
void ground_release(struct ground *g);
/* The newest moment; what was written before must be committed. */
int ground_renew(struct ground *g, struct error *err);
/* The writer, made when there is none. NULL with the error set. */
struct index_writer *ground_writer(struct ground *g, struct error *err);
/* Segment, then index. ERR_BUSY: the ground was no longer firm; nothing is written. */
int ground_commit(struct ground *g, struct error *err);

/*
 * The bytes at g->content, which belong to bytes `offset` and following of the update `d`, into the
 * segment, as a write of the update's own stamp.
 */
int ground_append(struct ground *g, const struct derived_entry *d, uint64_t offset, uint32_t bytes,
                  const uint8_t *content, struct extent *extent, uint32_t *crc, struct error *err);

enum outcome {
    OUTCOME_ENDED,   /* one way or the other */
    OUTCOME_NOT_YET, /* the watermark has not passed */
};

/* Derives what can be derived into the writer. *state: enum derived_state. */
int derive(struct ground *g, const struct derived_entry *d, enum outcome *outcome,
           enum derived_state *state, struct error *err);

/* Compares an audit with the image, and puts what follows into the writer; *found: the counts. */
int judge(struct ground *g, const struct audit_entry *audit, enum outcome *outcome,
          struct audited_entry *found, struct error *err);

/*
 * Adds to `busy` the ranges inside [start, end), a part of one chunk, of which a change was in
 * flight at moment_ns and ended later: what somebody read of them then may have been either
 * content.
 */
int ground_in_flight(struct ground *g, const struct volume *v, uint64_t start, uint64_t end,
                     uint64_t moment_ns, struct rangeset *busy, struct error *err);

/*
 * How far time marks of what `monitor` saw and of what others saw of the volume may be apart.
 * *alone: there are no others.
 */
int ground_clock_error(struct ground *g, const struct volume *v, uint64_t monitor,
                       uint64_t *error_ns, bool *alone, struct error *err);

/*
 * Whether another monitor than this one tells of a gap over the whole volume soon after moment_ns:
 * what is behind it may have been in flight then.
 */
int ground_others_lost(struct ground *g, const struct volume *v, uint64_t monitor,
                       uint64_t moment_ns, bool *lost, struct error *err);

#endif
