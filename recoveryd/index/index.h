/*
 * index: what the store knows, in LMDB: pieces by (path, chunk, stamp), gaps, paths, streams, baselines.
 *
 * One environment in one directory. Several processes may read and write at once (LMDB's lock orders
 * writers). A writer transaction is all or nothing and on stable storage when index_commit() returns 0; a
 * reader sees one moment, for as long as it lives.
 *
 * Every piece belongs to a chunk of INDEX_CHUNK_BYTES of one path: what crosses a boundary is put into each
 * chunk it touches. Keys sort by path, chunk, stamp, so that the newest piece <= T of a chunk is one
 * seek, and the ones before it follow. A gap over a whole path has its own place (floors, below).
 * docs/store-format.md has the byte tables.
 */
#ifndef SANREWIND_RECOVERYD_INDEX_H
#define SANREWIND_RECOVERYD_INDEX_H

#include "common/cleanup.h"
#include "common/error.h"
#include "common/rangeset.h"
#include "proto/limits.h"
#include "proto/record.h"
#include "proto/stamp.h"
#include "recoveryd/store/segments.h"

#include <stdbool.h>
#include <stdint.h>

#define INDEX_CHUNK_BYTES (UINT64_C(1) << 20)

struct index;
struct index_writer; /* one write transaction */
struct index_reader; /* one read transaction */

/* create: make what is missing. A newer format is ERR_VERSION; something else ERR_FORMAT. */
int index_open(const char *dir, bool create, struct index **out, struct error *err);
void index_close(struct index *i);

/* --- what is in it ------------------------------------------------------------------------------- */

enum piece_kind {
    PIECE_DATA = 1,    /* extent holds the bytes of [offset, offset + length) */
    PIECE_ZERO = 2,
    PIECE_PATTERN = 3, /* extent holds a pattern, repeated from pattern_origin on */
    PIECE_GAP = 4,     /* not known what the range holds since `stamp` */
};

/* One change of a part of one path. */
struct piece {
    struct stamp stamp;
    uint64_t issued_ns;
    uint64_t offset_bytes; /* of the part inside this chunk */
    uint64_t length_bytes;
    uint64_t whole_offset; /* DATA, PATTERN: where the extent's first byte belongs (the update's offset) */
    struct extent extent;  /* the whole payload of the update */
    uint32_t payload_crc32c;
    uint8_t kind;   /* enum piece_kind */
    uint16_t reason;/* GAP: enum gap_reason */
};

/*
 * What is known of a whole path at once. Baselines and whole-volume gaps are floors of one of the
 * volume's paths and hold for all of them: a view takes the union over its paths, newest first.
 */
enum floor_kind {
    FLOOR_ZERO = 1, /* baseline: zeros where `base_path` has no piece */
    FLOOR_GAP = 2,  /* the whole volume is unknown since then, but for what was written after */
};

struct floor {
    struct stamp stamp;
    uint8_t kind;
    uint16_t reason;    /* GAP */
    uint64_t base_path; /* ZERO: pseudo-path whose pieces are the baseline's data; 0: all zeros */
    uint64_t size_bytes;/* ZERO: of the baseline; 0 unknown */
    char text[256];     /* where it came from: a file name, a gap's sentence */
};

struct path_entry {
    uint64_t path;
    uint64_t first_ns; /* first announcement */
    uint64_t last_ns;  /* last change */
    uint64_t lun;
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint16_t flags;
    uint8_t protocol;
    char target[LIMIT_NAME_BYTES + 1];
    char designator[LIMIT_NAME_BYTES + 1];
    char serial[LIMIT_NAME_BYTES + 1];
};

/* What is durable of one stream. */
struct stream_entry {
    uint64_t monitor;
    uint64_t stream;
    char name[LIMIT_NAME_BYTES + 1]; /* the monitor's */
    uint64_t first_ns;    /* time mark of the first record */
    uint64_t frontier;    /* every order mark below it is durable */
    uint64_t frontier_ns; /* nothing with a time mark <= it is missing */
    uint64_t heard_ns;    /* wall_ns of the newest FRONTIER record, whole or not */
    uint64_t updates;
    uint64_t bytes;
    uint64_t packets;
    uint64_t dropped;
    bool ended;
    /* Beyond the frontier: marks that are durable, with the time mark of the last of each. Sorted. */
    uint32_t run_count;
    struct stream_run {
        uint64_t start;
        uint64_t end;
        uint64_t last_ns; /* greatest promised time: see FRONTIER in docs/wire-protocol.md */
    } runs[64];
};

struct gap_entry {
    struct stamp stamp;
    uint64_t path;
    uint64_t offset_bytes;
    uint64_t length_bytes; /* GAP_TO_END: the rest */
    uint64_t issued_ns;
    uint16_t reason;
    char text[LIMIT_REASON_BYTES + 1];
};

/* --- writing ------------------------------------------------------------------------------------- */

int index_begin(struct index *i, struct index_writer **out, struct error *err);
/* Frees the writer, also on failure (then nothing of it was written). A full map grows and is retried within. */
int index_commit(struct index_writer *w, struct error *err);
void index_abort(struct index_writer *w);

/* Puts the pieces of an update (chunk by chunk), or the flush point of UPDATE_FLUSH. Idempotent by stamp. */
int index_put_update(struct index_writer *w, const struct stamp *stamp,
                     const struct update_record *update, const struct extent *payload,
                     struct error *err);
/* A range gap becomes pieces, a whole one a floor; both are listed in gaps too. path must not be 0. */
int index_put_gap(struct index_writer *w, const struct stamp *stamp, const struct gap_record *gap,
                  struct error *err);
int index_put_floor(struct index_writer *w, uint64_t path, const struct floor *floor,
                    struct error *err);
/* Merges: known beats unknown, later beats earlier by time_ns. Also notes that the stream can see the path. */
int index_put_path(struct index_writer *w, uint64_t monitor, uint64_t stream,
                   const struct path_record *path, struct error *err);
int index_put_stream(struct index_writer *w, const struct stream_entry *stream, struct error *err);

/* --- reading ------------------------------------------------------------------------------------- */

int index_read(struct index *i, struct index_reader **out, struct error *err);
void index_reader_close(struct index_reader *r);

/* Visitors return true to go on, false to stop early. */
int index_each_path(struct index_reader *r, bool (*visit)(void *, const struct path_entry *),
                    void *context, struct error *err);
int index_each_stream(struct index_reader *r, bool (*visit)(void *, const struct stream_entry *),
                      void *context, struct error *err);
/* Streams that have announced the path. */
int index_each_stream_of_path(struct index_reader *r, uint64_t path,
                              bool (*visit)(void *, uint64_t monitor, uint64_t stream),
                              void *context, struct error *err);
/* Gaps of a path by stamp, up to and including time until_ns. */
int index_each_gap(struct index_reader *r, uint64_t path, uint64_t until_ns,
                   bool (*visit)(void *, const struct gap_entry *), void *context,
                   struct error *err);
/* Pieces of a chunk, newest first, from the newest with a time mark <= until_ns on. */
int index_each_piece(struct index_reader *r, uint64_t path, uint64_t chunk, uint64_t until_ns,
                     bool (*visit)(void *, const struct piece *), void *context,
                     struct error *err);
/* Chunk numbers of a path that have any piece, ascending, from `from` on. ERR_NOT_FOUND: no more. */
int index_next_chunk(struct index_reader *r, uint64_t path, uint64_t from, uint64_t *chunk,
                     struct error *err);
/* The newest floor of the path with a time mark <= until_ns; floors older than `before` only when given. */
int index_each_floor(struct index_reader *r, uint64_t path, uint64_t until_ns,
                     bool (*visit)(void *, const struct floor *), void *context,
                     struct error *err); /* newest first */
/* Updates and flush points of a path by time, for timelines: time_ns, op, bytes. */
int index_each_event(struct index_reader *r, uint64_t path, uint64_t from_ns, uint64_t until_ns,
                     bool (*visit)(void *, const struct stamp *, uint8_t op, uint64_t offset_bytes,
                                   uint64_t length_bytes),
                     void *context, struct error *err);

DEFINE_AUTO(index, index_close)
DEFINE_AUTO(index_reader, index_reader_close)

#endif
