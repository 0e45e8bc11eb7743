/*
 * segments: append-only files that hold the batches as they came.
 *
 * A segment file is a 4096-byte head (magic, format version, store id, segment number) and then
 * batches, byte for byte the messages of docs/wire-protocol.md, each at a multiple of 8. The same
 * bytes travel, rest in LOGs and rest here, so that an index can be rebuilt from segments alone.
 * docs/store-format.md has the table.
 *
 * Numbers are handed out by creating the file with O_EXCL: any number of processes may append at
 * once, each to files of its own. Readers may read whatever an index points at.
 */
#ifndef SANREWIND_RECOVERYD_SEGMENTS_H
#define SANREWIND_RECOVERYD_SEGMENTS_H

#include "common/cleanup.h"
#include "common/error.h"
#include "common/rangeset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where bytes lie. Zero-initialised: nowhere. */
struct extent {
    uint32_t segment; /* from 1 */
    uint32_t bytes;
    uint64_t offset; /* in the file */
};

struct segments;
struct segment_writer;

/*
 * `dir` must exist when opened for reading; made when `create`. Thread-safe from then on.
 * `store_id` goes into every new head; a file of another store is ERR_FORMAT when read.
 */
int segments_open(const char *dir, bool create, uint64_t store_id, struct segments **out,
                  struct error *err);
/* After every writer. */
void segments_close(struct segments *s);
/* Before the first append: a file that has reached this is followed by the next. 0: 1 GiB. */
void segments_set_limit(struct segments *s, uint64_t bytes);

/* Reads exactly extent->bytes, or `bytes` at `skip` inside the extent. Thread-safe. ERR_IO,
 * ERR_FORMAT. */
int segments_read(struct segments *s, const struct extent *extent, uint32_t skip, void *to,
                  uint32_t bytes, struct error *err);
/*
 * The whole extent; bytes of payloads that were reclaimed, as nothing points at them, are zeros,
 * and told (as offsets in the segment). What points at such bytes is damage: segments_read() says
 * so.
 */
int segments_read_present(struct segments *s, const struct extent *extent, void *to,
                          struct rangeset *absent, struct error *err);
struct segment_size {
    uint64_t logical_bytes; /* as offsets count */
    uint64_t disk_bytes;    /* that it takes */
    uint64_t absent_bytes;  /* logical ones that were reclaimed */
    uint64_t changed_ns;    /* when its file was written last */
    bool packed;
};
int segments_size(struct segments *s, uint32_t segment, struct segment_size *size,
                  struct error *err);
/* Bytes of all segment files. */
uint64_t segments_total_bytes(struct segments *s);
struct segments_total {
    uint64_t files;
    uint64_t packed_files;
    uint64_t disk_bytes; /* that all of them take */
};
void segments_sum(struct segments *s, struct segments_total *total);
/* Every segment file that there is, in no order, with the bytes of its file now. ERR_IO. */
int segments_each(struct segments *s, void (*visit)(void *, uint32_t segment, uint64_t bytes),
                  void *context, struct error *err);

/* One writer per thread. The first append makes its first file; a full file is followed by the
 * next. */
struct segment_writer *segments_writer_create(struct segments *s);
/* Does not sync. */
void segments_writer_destroy(struct segment_writer *w);
/*
 * The bytes are in the file, not yet on stable storage. A failure leaves nothing behind that
 * matters: the place is used again by the next append, so trying again later is fine (ERR_FULL).
 */
int segments_append(struct segment_writer *w, const void *data, size_t bytes, struct extent *where,
                    struct error *err);
/*
 * All appends of this writer before the call are on stable storage. May be called from another
 * thread, while this one appends. A failed sync (ERR_IO) is for good, because the kernel may have
 * dropped what it could not write and a second sync would not say so: every later append and sync
 * of the writer fails too. What was appended since the last good sync must then come again, through
 * another writer.
 */
int segments_sync(struct segment_writer *w, struct error *err);

DEFINE_AUTO(segments, segments_close)
DEFINE_AUTO(segment_writer, segments_writer_destroy)

#endif
