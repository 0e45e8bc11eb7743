/*
 * image_internal: what the files of an image share.
 */
#ifndef SANREWIND_RECOVERYD_IMAGE_INTERNAL_H
#define SANREWIND_RECOVERYD_IMAGE_INTERNAL_H

#include "recoveryd/image/clock.h"
#include "recoveryd/image/image.h"
#include "recoveryd/image/overlay.h"
#include "recoveryd/index/piece_walk.h"

#include <pthread.h>

/* Beside enum floor_kind: the volume ended here once, and nothing older lies beyond. */
enum { FLOOR_END = 0 };

/* What is under the pieces, newest first. The list ends at the newest baseline, if there is one. */
struct image_floor {
    struct stamp stamp;
    uint64_t base_path;  /* FLOOR_ZERO */
    uint64_t size_bytes; /* FLOOR_ZERO: what it covers, 0: all; FLOOR_END: where */
    uint16_t reason;     /* FLOOR_GAP */
    uint8_t kind;        /* enum floor_kind, FLOOR_END */
    bool stranger;       /* FLOOR_GAP: of another volume that may be this one */
};

/*
 * So many paths of strangers are looked at piece by piece. Of those beyond, all of the volume is in
 * doubt since their newest change: what a look-up costs must not grow with every one of them.
 */
enum { IMAGE_STRANGERS = 16 };

struct image {
    struct store *store;
    struct image_info info;
    struct stamp limit; /* nothing newer is in it */
    struct clock_table clocks;
    uint64_t *paths; /* behind them, those of strangers */
    size_t path_count;
    size_t stranger_count;
    bool has_strangers; /* that changed anything: also beyond IMAGE_STRANGERS */
    struct image_floor *floors;
    size_t floor_count;
    pthread_mutex_t lock; /* guards all below: a reader is one thread's at a time */
    struct index_reader *reader;
    struct piece_walk *walk; /* of the volume's paths */
    struct piece_walk *base; /* of the baseline's pseudo-path; NULL: none */
    struct {
        struct extent a;
        struct extent b;
        bool same;
    } compared; /* the last two payloads, because many blocks may ask for the same two */
};

/* The baseline under everything; NULL: none. */
const struct image_floor *image_baseline(const struct image *im);
/* From here on the floors are not the same everywhere; the size when there is no such place. */
uint64_t image_even_bytes(const struct image *im);
/* Whether several monitors saw the volume, so that clocks matter. */
static inline bool image_has_clocks(const struct image *im) {
    return im->clocks.count > 1;
}
/* Whether what lies below may have come last: of that, or of what a stranger changed. */
static inline bool image_has_rivals(const struct image *im) {
    return image_has_clocks(im) || im->has_strangers;
}

/*
 * Do both give every block that they have in common the same content, byte for byte? A checksum
 * would not do: of blocks that end in a CRC32C of themselves, as file systems keep them, all have
 * the same one. With the lock held.
 */
bool image_same_content(void *image, const struct image_run *a, const struct image_run *b);

/* Where chunk number `chunk` ends, which the size of the image may cut short. */
static inline uint64_t image_chunk_end(const struct image *im, uint64_t chunk) {
    uint64_t left = im->info.size_bytes - chunk * INDEX_CHUNK_BYTES;
    return chunk * INDEX_CHUNK_BYTES + (left < INDEX_CHUNK_BYTES ? left : INDEX_CHUNK_BYTES);
}

#endif
