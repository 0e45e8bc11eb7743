/*
 * index: what the store knows, in LMDB: pieces by (path, chunk, stamp), gaps, paths, streams,
 * baselines.
 *
 * One environment in one directory. Several processes may read and write at once (LMDB's lock
 * orders writers). A writer transaction is all or nothing and on stable storage when index_commit()
 * returns 0; a reader sees one moment, for as long as it lives.
 *
 * Every piece belongs to a chunk of INDEX_CHUNK_BYTES of one path: what crosses a boundary is put
 * into each chunk it touches. Keys sort by path, chunk, stamp, so that the newest piece <= T of a
 * chunk is one seek, and the ones before it follow. What would touch more than 64 chunks (an UNMAP
 * of a whole volume) goes into chunks of 64, 4096, ... times the size: one record never makes more
 * than 65 pieces, and a look-up merges the few sizes that are there. A gap over a whole path has
 * its own place (floors, below). docs/store-format.md has the byte tables.
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
/* Chunk numbers below this; beyond lies what no record can name. */
#define INDEX_CHUNK_COUNT (UINT64_C(1) << 43)

struct index;
struct index_writer; /* one write transaction */
struct index_reader; /* one read transaction */

enum index_mode {
    INDEX_USE,     /* as it is: an older format is ERR_VERSION */
    INDEX_UPGRADE, /* an older format is brought up to date, in one transaction */
    INDEX_CREATE,  /* makes what is missing */
};

/*
 * A newer format is ERR_VERSION; something else, or the index of another store, ERR_FORMAT. A
 * process must not open the same index twice at once (LMDB's locks are by process), nor use it
 * after fork().
 */
int index_open(const char *dir, enum index_mode mode, uint64_t store_id, struct index **out,
               struct error *err);
/* After every writer and reader. */
void index_close(struct index *i);

/* --- what is in it --- */

enum piece_kind {
    PIECE_DATA = 1, /* extent holds the bytes of [offset, offset + length) */
    PIECE_ZERO = 2,
    PIECE_PATTERN = 3, /* extent holds a pattern, repeated from pattern_origin on */
    PIECE_GAP = 4,     /* not known what the range holds since `stamp` */
};

/*
 * Several pieces of one stamp in one chunk are told apart by their part, and the greater part hides
 * the lesser one: what was derived for an update lies above its gap (part 0), what a READ
 * contradicted above what it contradicts.
 */
#define PIECE_PART_CONTRADICTED (UINT64_C(1) << 63)
static inline uint64_t piece_part(uint64_t offset_bytes) {
    return offset_bytes + 1;
}

/* Where the index keeps a piece. */
enum piece_place {
    PIECE_ELSEWHERE = 0, /* in a larger chunk, or not merged yet */
    PIECE_IN_RUNS,
    PIECE_IN_ROWS,
};

/* One change of a part of one path. */
struct piece {
    struct stamp stamp;
    uint64_t part;
    uint64_t issued_ns;
    uint64_t offset_bytes; /* of the part inside this chunk */
    uint64_t length_bytes;
    uint64_t whole_offset; /* DATA, PATTERN: where the extent's first byte belongs (the update's
                              offset) */
    struct extent extent;  /* the whole payload of the update */
    uint32_t payload_crc32c;
    uint8_t kind;    /* enum piece_kind */
    bool stranger;   /* of another volume that may be this one: set by a walk, not stored */
    uint8_t place;   /* enum piece_place: likewise */
    uint16_t reason; /* GAP: enum gap_reason */
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
    uint16_t reason;     /* GAP */
    uint64_t base_path;  /* ZERO: pseudo-path whose pieces are the baseline's data; 0: all zeros */
    uint64_t size_bytes; /* ZERO: of the baseline; 0 unknown */
    char text[256];      /* where it came from: a file name, a gap's sentence */
};

struct path_entry {
    uint64_t path;
    uint64_t first_ns; /* first announcement */
    uint64_t last_ns;  /* last announcement */
    uint64_t lun;
    uint64_t size_bytes; /* 0 unknown */
    uint64_t size_ns;    /* when that was announced */
    uint64_t designator_ns;
    uint64_t serial_ns;
    uint64_t block_ns;
    uint32_t block_bytes; /* 0 unknown */
    uint16_t flags;
    uint8_t protocol;
    char target[LIMIT_NAME_BYTES + 1];
    char designator[LIMIT_NAME_BYTES + 1];
    char serial[LIMIT_NAME_BYTES + 1];
};

enum { STREAM_RUNS = 64 };

/* What is durable of one stream. */
struct stream_entry {
    uint64_t monitor;
    uint64_t stream;
    char name[LIMIT_NAME_BYTES + 1]; /* the monitor's */
    uint64_t first_ns;               /* time mark of the first record */
    uint64_t frontier;               /* every order mark below it is durable */
    uint64_t frontier_ns;            /* nothing with a time mark <= it is missing */
    uint64_t heard_ns;               /* wall_ns of the newest FRONTIER record, whole or not */
    uint64_t updates;
    uint64_t bytes;
    uint64_t packets;
    uint64_t dropped;
    uint64_t clock_error_ns;     /* bound of the monitor's clock error, newest; 0 unknown */
    uint64_t clock_error_max_ns; /* greatest ever */
    bool ended;
    /* Beyond the frontier: marks that are durable, with the time mark of the last of each. Sorted.
     */
    uint32_t run_count;
    struct stream_run {
        uint64_t start;
        uint64_t end;
        uint64_t last_ns; /* greatest promised time: see FRONTIER in docs/wire-protocol.md */
    } runs[STREAM_RUNS];
};

struct gap_entry {
    struct stamp stamp;
    uint64_t part; /* as of pieces */
    uint64_t path;
    uint64_t offset_bytes;
    uint64_t length_bytes; /* GAP_TO_END: the rest */
    uint64_t issued_ns;
    uint16_t reason;
    char text[LIMIT_REASON_BYTES + 1];
};

/* What a path was announced to be at a time. 0: that was not said. */
struct size_entry {
    uint64_t path;
    uint64_t time_ns;
    uint64_t size_bytes;
    uint32_t block_bytes;
};

/* `stream` missed nothing of the path since mark `order` of the stream `earlier`. */
struct resume_entry {
    uint64_t path;
    uint64_t monitor;
    uint64_t stream;
    uint64_t earlier;
    uint64_t order;
};

/* Why content that is derived is not (yet) known. Numbers are for ever. */
enum derived_state {
    DERIVED_RESOLVED = 0,
    DERIVED_WAITING = 1,        /* not looked at yet */
    DERIVED_NO_SOURCE = 2,      /* nobody has announced the source */
    DERIVED_INEXACT_SOURCE = 3, /* it was not exact, or changed while it was copied */
    DERIVED_INEXACT_BEFORE = 4, /* OR, XOR: what the range held before was not exact */
    DERIVED_TOO_LARGE = 5,
    DERIVED_DAMAGED = 6, /* a payload that it needs does not match its checksum */
    DERIVED_STATES
};

/* A command that takes longer has been given up by its initiator. */
#define INDEX_IN_FLIGHT_NS (UINT64_C(60) * 1000000000)

#define DERIVED_MOST_BYTES (UINT64_C(64) << 30)

/* An update whose content follows from what the volumes held. */
struct derived_entry {
    struct stamp stamp;
    uint64_t path;
    uint64_t issued_ns;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint8_t op;    /* enum update_op: COPY, OR, XOR */
    uint8_t state; /* enum derived_state */
    uint32_t block_bytes;
    /* COPY */
    uint64_t source_path;
    uint64_t source_offset_bytes;
    uint64_t source_from_ns;
    uint64_t source_until_ns;
    /* OR, XOR */
    struct extent payload;
    uint32_t payload_crc32c;
};

struct audit_entry {
    struct stamp stamp;
    uint64_t path;
    uint64_t issued_ns;
    uint64_t offset_bytes;
    uint32_t block_bytes;
    uint16_t blocks;
    uint16_t kind;       /* enum audit_sums: of another kind than ours it is only counted */
    const uint8_t *sums; /* 4 * blocks bytes, little-endian numbers */
};

/* What the audits of a path found. */
struct audited_entry {
    uint64_t path;
    uint64_t audits;
    uint64_t blocks;      /* compared, and the same */
    uint64_t skipped;     /* could not be compared */
    uint64_t proven;      /* in a gap, and the same: exact from then on */
    uint64_t mismatches;  /* blocks */
    uint64_t mismatch_ns; /* of the last one; 0: none */
    uint64_t mismatch_offset;
    uint64_t mismatch_length;
};

/* What is to be settled. Small numbers, found without a walk. */
struct waiting_counts {
    uint64_t derived;
    uint64_t stuck; /* derived content that waits for a fact to change */
    uint64_t audits;
};

/* --- writing --- */

/*
 * Puts are kept in memory and go into LMDB sorted, which takes a quarter less time than in the
 * order of arrival; the writers' lock is taken at the commit only, or when more than
 * INDEX_PENDING_BYTES wait. One thread per writer.
 */
#define INDEX_PENDING_BYTES ((size_t)32 << 20)

int index_begin(struct index *i, struct index_writer **out, struct error *err);
/*
 * Frees the writer, also on failure: then nothing of it was written, and the index is as it was.
 * ERR_FULL: the disk, or the map (1 TiB, unless the process has less address space).
 */
int index_commit(struct index_writer *w, struct error *err);
void index_abort(struct index_writer *w);

/*
 * Puts the pieces of an update, or the flush point of UPDATE_FLUSH. Idempotent by stamp. `payload`
 * may be NULL when the update has none.
 */
int index_put_update(struct index_writer *w, const struct stamp *stamp,
                     const struct update_record *update, const struct extent *payload,
                     struct error *err);
/*
 * A range gap becomes pieces, a whole one (offset 0, GAP_TO_END) a floor; both are listed among the
 * gaps too. path must not be 0.
 */
int index_put_gap(struct index_writer *w, const struct stamp *stamp, const struct gap_record *gap,
                  struct error *err);
int index_put_floor(struct index_writer *w, uint64_t path, const struct floor *floor,
                    struct error *err);
/* Merges: known beats unknown, later beats earlier by time_ns. Also notes that the stream can see
 * the path. */
int index_put_path(struct index_writer *w, uint64_t monitor, uint64_t stream,
                   const struct path_record *path, struct error *err);
int index_put_stream(struct index_writer *w, const struct stream_entry *stream, struct error *err);
int index_put_resume(struct index_writer *w, const struct resume_entry *resume, struct error *err);
/* Kept until it is judged. */
int index_put_audit(struct index_writer *w, const struct stamp *stamp,
                    const struct audit_record *audit, struct error *err);

/*
 * What follows from other content (COPY, OR, XOR; audits) is settled later, by recoveryd/settle. A
 * writer that does so names the number of the facts that it relied on: when they have changed
 * meanwhile (a baseline, a path that joined, a contradiction), its commit is ERR_BUSY and writes
 * nothing. Facts that may make content wrong that was derived before make it wait again; so does an
 * update or gap that comes late and was in flight over the source of a copy at that copy's end.
 */
void index_rely_on_facts(struct index_writer *w, uint64_t facts);
/* Content of one part of an update that is derived; `piece` lies in one chunk of the lowest level.
 */
int index_put_derived_piece(struct index_writer *w, uint64_t path, const struct piece *piece,
                            struct error *err);
/* Takes away what earlier tries put into a part, which lies in one such chunk: the gap is back. */
int index_clear_derived(struct index_writer *w, const struct derived_entry *d,
                        uint64_t offset_bytes, uint64_t length_bytes, struct error *err);
/* Ends the entry's waiting, with its state, and the gap with it when it is resolved. ERR_BUSY at
 * the commit: somebody else has. */
int index_end_derived(struct index_writer *w, const struct derived_entry *d, struct error *err);
/* A READ proved the piece, or (kind GAP) contradicted what has its stamp. */
int index_put_audited_piece(struct index_writer *w, uint64_t path, const struct piece *piece,
                            const char *text, struct error *err);
/* The audit is judged: its counts are added. ERR_BUSY at the commit: somebody else has. */
int index_end_audit(struct index_writer *w, const struct audit_entry *audit,
                    const struct audited_entry *found, struct error *err);

/* --- merging --- */

/*
 * Updates are committed into a journal, and sorted later, by whoever calls this: one step of some
 * ten thousand, in a transaction of its own. *merged: there was something to do. What is read is
 * the same before and after; but what is not merged takes memory and time of every reader, so the
 * journal must be kept short: index_commit() does a step itself when it has INDEX_UNMERGED_MOST
 * blocks.
 */
#define INDEX_UNMERGED_MOST 4096
/* Another number, before the first writer; 0: every commit merges. */
void index_set_unmerged_most(struct index *i, uint64_t blocks);
int index_merge(struct index *i, bool *merged, struct error *err);
/*
 * The same when it is worth it: when a good part of a step has gathered, or has waited for some
 * seconds. By one thread, a few times a second. *again: at once.
 */
int index_merge_due(struct index *i, bool *again, struct error *err);
/* How many blocks of the journal wait, of some 80 updates each. */
int index_unmerged(struct index *i, uint64_t *blocks, struct error *err);

/* --- health --- */

struct index_health {
    uint64_t bytes;           /* on disk */
    uint64_t unmerged_blocks; /* of the journal */
    unsigned readers;         /* open views, of all processes */
    unsigned oldest_pid;      /* whose view is the oldest; 0: none is open */
    uint64_t oldest_commits;  /* since it was opened: what they freed cannot be used again before it
                                 closes */
};
int index_health(struct index *i, struct index_health *health, struct error *err);

/* --- reading --- */

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
/* All pieces of a chunk, newest first, from the newest with a time mark <= until_ns on. */
int index_each_piece(struct index_reader *r, uint64_t path, uint64_t chunk, uint64_t until_ns,
                     bool (*visit)(void *, const struct piece *), void *context, struct error *err);
/*
 * Chunk numbers of a path that have any piece, ascending, from `from` on. ERR_NOT_FOUND: no more. A
 * chunk near a piece of very many chunks may be named without having any.
 */
int index_next_chunk(struct index_reader *r, uint64_t path, uint64_t from, uint64_t *chunk,
                     struct error *err);
/*
 * Floors of the path with a time mark <= until_ns, newest first. Neither here nor among the gaps is
 * the gap of a monitor's restart that was found (a resume_entry) to have missed nothing.
 */
int index_each_floor(struct index_reader *r, uint64_t path, uint64_t until_ns,
                     bool (*visit)(void *, const struct floor *), void *context, struct error *err);
/* Updates and flush points of a path by stamp, for timelines: from_ns <= time mark <= until_ns. */
int index_each_event(struct index_reader *r, uint64_t path, uint64_t from_ns, uint64_t until_ns,
                     bool (*visit)(void *, const struct stamp *, uint8_t op, uint64_t offset_bytes,
                                   uint64_t length_bytes),
                     void *context, struct error *err);

/* What was announced of the path's size, by time. */
int index_each_size(struct index_reader *r, uint64_t path,
                    bool (*visit)(void *, const struct size_entry *), void *context,
                    struct error *err);
/* Pairs of paths that a monitor found to be one. */
int index_each_join(struct index_reader *r, bool (*visit)(void *, uint64_t path, uint64_t other),
                    void *context, struct error *err);
/* ERR_NOT_FOUND. */
int index_get_stream(struct index_reader *r, uint64_t monitor, uint64_t stream,
                     struct stream_entry *entry, struct error *err);
/* The sentence of a gap; empty when there is none of this stamp. */
int index_gap_text(struct index_reader *r, uint64_t path, const struct stamp *stamp,
                   char text[LIMIT_REASON_BYTES + 1], struct error *err);
/* The number of the facts: see index_rely_on_facts(). */
int index_facts(struct index_reader *r, uint64_t *facts, struct error *err);
/* The first of what waits behind `after` (NULL: from the start on), by stamp over all paths.
 * ERR_NOT_FOUND: no more. */
int index_next_derived(struct index_reader *r, const struct derived_entry *after,
                       struct derived_entry *next, struct error *err);
/* All of them: what waits, what cannot be derived as things are, and what is, which may come back.
 */
int index_each_derived(struct index_reader *r,
                       bool (*visit)(void *context, const struct derived_entry *d), void *context,
                       struct error *err);
/* Checksums are borrowed until the reader is closed. */
int index_next_audit(struct index_reader *r, const struct audit_entry *after,
                     struct audit_entry *next, struct error *err);
int index_count_waiting(struct index_reader *r, struct waiting_counts *counts, struct error *err);
/* Adds the counts; the later mismatch stays. */
void audited_entry_merge(struct audited_entry *into, const struct audited_entry *other);
/* All zeros when nothing was judged yet. */
int index_get_audited(struct index_reader *r, uint64_t path, struct audited_entry *audited,
                      struct error *err);

/* The newest update (not flush point) of a path with a time mark <= until_ns. ERR_NOT_FOUND: none.
 */
int index_newest_update(struct index_reader *r, uint64_t path, uint64_t until_ns,
                        struct stamp *stamp, struct error *err);
/* The newest of its updates and gaps up to until_ns. ERR_NOT_FOUND: neither. */
int index_newest_change(struct index_reader *r, uint64_t path, uint64_t until_ns,
                        struct stamp *stamp, struct error *err);
/*
 * How many updates (not flush points) a path has up to and including until_ns. From tallies: the
 * cost does not grow with the history. What retention took out counts, but for the last 0.13 s.
 */
int index_count_updates(struct index_reader *r, uint64_t path, uint64_t until_ns, uint64_t *count,
                        struct error *err);

DEFINE_AUTO(index, index_close)
DEFINE_AUTO(index_reader, index_reader_close)

#endif
