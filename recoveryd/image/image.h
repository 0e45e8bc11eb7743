/*
 * image: one volume as it was at one time. Immutable: later commits do not show in it.
 *
 * The content of a byte at T is that of the newest piece <= T over all paths of the volume, above
 * the newest floor <= T; a gap piece does not hide the bytes below it (they are the best guess) but
 * taints them. What nothing covers is unknown, unless the floor is a baseline; and what lies beyond
 * an end that the volume once had is unknown, unless it was written after that.
 *
 * Where two monitors saw the volume, and what both saw of a block lies closer together than their
 * clocks agree (or was in flight at once), the block is in doubt: the order is not known.
 */
#ifndef SANREWIND_RECOVERYD_IMAGE_H
#define SANREWIND_RECOVERYD_IMAGE_H

#include "recoveryd/image/volume.h"

struct image;

enum run_kind {
    RUN_ZERO = 1,
    RUN_DATA = 2,
    RUN_PATTERN = 3,
    RUN_UNKNOWN = 4 /* never seen: reads as zeros */
};

/* A stretch of the image from one source. */
struct image_run {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint8_t kind;        /* enum run_kind */
    uint16_t gap_reason; /* 0: exact; else why it is not (RUN_UNKNOWN: 0 means "no baseline") */
    bool exact;
    struct stamp gap_stamp; /* since when, if not exact */
    struct stamp stamp;     /* of the source; all 0 for a floor */
    struct stamp holder;    /* likewise, but of a floor its own: since then it has been so */
    uint64_t issued_ns;     /* of the source's command; 0 unknown */
    struct extent extent;   /* DATA, PATTERN: the whole payload */
    uint64_t whole_offset;  /* where the payload's first byte belongs */
    uint32_t payload_crc32c;
};

struct image_info {
    uint64_t time_ns;     /* T */
    uint64_t updates;     /* how many updates <= T the volume had */
    struct stamp reached; /* newest stamp <= T that is in it; all 0: none */
    uint64_t size_bytes;  /* at T */
    uint32_t block_bytes; /* at T; 0 unknown */
};

/* A gap of the image: merged, ascending. */
struct image_gap {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint64_t since_ns;  /* 0: never known */
    uint16_t reason;    /* 0: never seen, and no baseline */
    struct stamp since; /* of the first of those that were merged */
};

/*
 * Opens the view at time_ns. Both are borrowed and must outlive it. Refuses with ERR_INEXACT a time
 * beyond the watermark or before the first, and a volume of unknown size, with the sentence that
 * says how to go on. The size is what was announced last at that time; a caller who knows better
 * sets v->size_bytes and v->size_given first. Everything below may be called from several threads
 * at once.
 */
int image_open(struct store *s, const struct volume *v, uint64_t time_ns, struct image **out,
               struct error *err);
/* The same, but of updates before `stamp` only. */
int image_open_below(struct store *s, const struct volume *v, const struct stamp *stamp,
                     struct image **out, struct error *err);
void image_close(struct image *im);
const struct image_info *image_info(const struct image *im);

/* Chunks of INDEX_CHUNK_BYTES, the last one may be shorter. */
uint64_t image_chunk_count(const struct image *im);
/* The runs of chunk number `chunk`, ascending, covering it wholly; freed by the caller with free().
 */
int image_chunk_map(struct image *im, uint64_t chunk, struct image_run **runs, size_t *count,
                    struct error *err);
/*
 * The bytes of a chunk (the last may be shorter), each payload verified against its checksum: one
 * that does not match is ERR_FORMAT naming the range. `to` has room for INDEX_CHUNK_BYTES.
 * *all_zero: every byte is, so the caller need not look.
 */
int image_chunk_read(struct image *im, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                     struct error *err);
/* The same for a range inside of one chunk. */
int image_range_map(struct image *im, uint64_t offset_bytes, uint64_t length_bytes,
                    struct image_run **runs, size_t *count, struct error *err);
/* The bytes of all of these runs; `to` is where offset_bytes belongs. */
int image_runs_read(struct image *im, struct image_run *runs, size_t count, uint64_t offset_bytes,
                    uint8_t *to, struct error *err);
/* Gaps of the whole image, merged; freed by the caller. *count 0: the image is exact. */
int image_gaps(struct image *im, struct image_gap **gaps, size_t *count, struct error *err);

DEFINE_AUTO(image, image_close)

#endif
