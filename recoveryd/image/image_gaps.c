#include "common/rangeset.h"
#include "recoveryd/image/image_internal.h"

#include <stdlib.h>

enum { CANDIDATE_RANGES = 4096 };

struct gap_list {
    struct image_gap *gaps;
    size_t count;
    size_t capacity;
};

static int add_gap(struct gap_list *list, const struct image_gap *gap, struct error *err) {
    struct image_gap *last = list->count > 0 ? &list->gaps[list->count - 1] : NULL;
    if (last != NULL && last->offset_bytes + last->length_bytes == gap->offset_bytes &&
        last->since_ns == gap->since_ns && last->reason == gap->reason) {
        last->length_bytes += gap->length_bytes;
        return 0;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 16;
        struct image_gap *gaps = realloc(list->gaps, capacity * sizeof *gaps);
        if (gaps == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        list->gaps = gaps;
        list->capacity = capacity;
    }
    list->gaps[list->count++] = *gap;
    return 0;
}

static int add_chunk(struct image *im, uint64_t chunk, struct gap_list *list, struct error *err) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    int code = image_chunk_map(im, chunk, &runs, &count, err);
    for (size_t i = 0; code == 0 && i < count; i++) {
        if (runs[i].exact)
            continue;
        struct image_gap gap = {.offset_bytes = runs[i].offset_bytes,
                                .length_bytes = runs[i].length_bytes,
                                .since_ns = runs[i].gap_stamp.time_ns,
                                .reason = runs[i].gap_reason,
                                .since = runs[i].gap_stamp};
        code = add_gap(list, &gap, err);
    }
    return code;
}

/* What blocks that no piece covers are, up to image_even_bytes(): false when they are exact. */
static bool bottom_gap(const struct image *im, struct image_gap *gap) {
    bool has_baseline = image_baseline(im) != NULL;
    bool tainted = false;
    *gap = (struct image_gap){0};
    for (size_t i = 0; i < im->floor_count; i++) {
        if (im->floors[i].kind != FLOOR_GAP)
            continue;
        tainted = true;
        gap->since = im->floors[i].stamp;
        gap->since_ns = im->floors[i].stamp.time_ns;
        gap->reason = im->floors[i].reason;
    }
    if (!has_baseline)
        *gap = (struct image_gap){0};
    return !has_baseline || tainted;
}

/*
 * The first chunk >= from with a piece of any path, or where the bottom is not that of all others;
 * the count of chunks when there is none.
 */
static int next_chunk(struct image *im, uint64_t from, uint64_t *chunk, struct error *err) {
    int code = 0;
    uint64_t uneven = image_even_bytes(im) / INDEX_CHUNK_BYTES;
    *chunk = image_chunk_count(im);
    if (image_even_bytes(im) < im->info.size_bytes)
        *chunk = from > uneven ? from : uneven;
    pthread_mutex_lock(&im->lock);
    for (size_t i = 0; code == 0 && i<im->path_count + im->stranger_count && * chunk> from; i++) {
        uint64_t found;
        code = index_next_chunk(im->reader, im->paths[i], from, &found, err);
        if (code == 0 && found < *chunk)
            *chunk = found;
        code = code == ERR_NOT_FOUND ? 0 : code;
    }
    pthread_mutex_unlock(&im->lock);
    return code;
}

/* Where the bottom is not exact, every chunk counts: those with pieces one by one, others at once.
 */
static int scan_all(struct image *im, const struct image_gap *bottom, struct gap_list *list,
                    struct error *err) {
    uint64_t count = image_chunk_count(im);
    for (uint64_t chunk = 0; chunk < count; chunk++) {
        uint64_t next = count;
        int code = next_chunk(im, chunk, &next, err);
        if (code == 0 && next > chunk) {
            struct image_gap gap = *bottom;
            gap.offset_bytes = chunk * INDEX_CHUNK_BYTES;
            gap.length_bytes = image_chunk_end(im, next - 1) - gap.offset_bytes;
            code = add_gap(list, &gap, err);
        }
        if (code == 0 && next < count)
            code = add_chunk(im, next, list, err);
        if (code != 0)
            return code;
        chunk = next;
    }
    return 0;
}

struct candidate_scan {
    const struct image *im;
    struct rangeset chunks;
    bool full;
};

/* A gap older than the baseline cannot be seen. */
static bool take_candidate(void *context, const struct gap_entry *gap) {
    struct candidate_scan *scan = context;
    uint64_t count = image_chunk_count(scan->im);
    const struct image_floor *baseline = image_baseline(scan->im);
    if (stamp_compare(&gap->stamp, &baseline->stamp) < 0)
        return true;
    bool to_end = gap->length_bytes == GAP_TO_END;
    if (gap->length_bytes == 0)
        return true;
    uint64_t first = gap->offset_bytes / INDEX_CHUNK_BYTES;
    uint64_t last = (gap->offset_bytes + gap->length_bytes - 1) / INDEX_CHUNK_BYTES;
    uint64_t end = to_end || last >= count ? count : last + 1;
    scan->full = !rangeset_add(&scan->chunks, first, first < end ? end : first);
    return !scan->full;
}

/* Over an exact bottom only the chunks of recorded gaps can be inexact. */
static int scan_candidates(struct image *im, struct gap_list *list, struct error *err) {
    struct candidate_scan scan = {.im = im};
    uint64_t uneven = image_even_bytes(im) / INDEX_CHUNK_BYTES;
    rangeset_init(&scan.chunks, CANDIDATE_RANGES);
    int code = 0;
    if (image_even_bytes(im) < im->info.size_bytes)
        scan.full = !rangeset_add(&scan.chunks, uneven, image_chunk_count(im));
    pthread_mutex_lock(&im->lock);
    for (size_t i = 0; code == 0 && !scan.full && i < im->path_count; i++)
        code =
            index_each_gap(im->reader, im->paths[i], im->info.time_ns, take_candidate, &scan, err);
    pthread_mutex_unlock(&im->lock);
    if (scan.full) {
        rangeset_clear(&scan.chunks);
        rangeset_add(&scan.chunks, 0, image_chunk_count(im));
    }
    for (size_t i = 0; code == 0 && i < scan.chunks.count; i++) {
        for (uint64_t c = scan.chunks.ranges[i].start; code == 0 && c < scan.chunks.ranges[i].end;
             c++)
            code = add_chunk(im, c, list, err);
    }
    rangeset_release(&scan.chunks);
    return code;
}

/* Where two monitors saw the volume, or strangers changed something, any chunk with pieces may hold
 * rivals. */
static int scan_pieces(struct image *im, struct gap_list *list, struct error *err) {
    uint64_t chunk = 0;
    uint64_t count = image_chunk_count(im);
    int code = next_chunk(im, 0, &chunk, err);
    while (code == 0 && chunk < count) {
        code = add_chunk(im, chunk, list, err);
        if (code == 0)
            code = next_chunk(im, chunk + 1, &chunk, err);
    }
    return code;
}

static int scan(struct image *im, struct gap_list *list, struct error *err) {
    struct image_gap bottom;
    if (bottom_gap(im, &bottom))
        return scan_all(im, &bottom, list, err);
    return image_has_rivals(im) ? scan_pieces(im, list, err) : scan_candidates(im, list, err);
}

int image_gaps(struct image *im, struct image_gap **gaps, size_t *count, struct error *err) {
    struct gap_list list = {0};
    int code = scan(im, &list, err);
    if (code != 0) {
        free(list.gaps);
        return code;
    }
    *gaps = list.gaps;
    *count = list.count;
    return 0;
}
