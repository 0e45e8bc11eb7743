#include "recoveryd/image/image.h"

#include "proto/when.h"
#include "recoveryd/image/image_internal.h"
#include "recoveryd/image/image_strangers.h"
#include "recoveryd/image/volume_kept.h"

#include <stdlib.h>
#include <string.h>

static int check_window(const struct volume *v, uint64_t time_ns, struct error *err) {
    char first[WHEN_TEXT_BYTES];
    char last[WHEN_TEXT_BYTES];
    if (v->first_ns == 0 || v->watermark_ns < v->first_ns)
        return error_set(err, ERR_INEXACT,
                         "%s cannot be restored to any time yet: wait until its monitors have "
                         "sent what they saw",
                         v->name);
    when_print_utc(v->first_ns, first);
    when_print_utc(v->watermark_ns, last);
    if (time_ns > v->watermark_ns)
        return error_set(err, ERR_INEXACT,
                         "%s is complete up to %s only: use --at %s, or --latest-safe", v->name,
                         last, last);
    if (time_ns < v->first_ns)
        return error_set(err, ERR_INEXACT, "what is known of %s begins at %s: use --at %s or later",
                         v->name, first, first);
    if (v->size_bytes == 0)
        return error_set(err, ERR_INEXACT, "the size of %s is not known: give it with --size BYTES",
                         v->name);
    if (v->size_bytes > INT64_MAX)
        return error_set(err, ERR_USAGE, "%s cannot be as large as that", v->name);
    return 0;
}

/* Down to the path's newest baseline: nothing older can be seen. */
static bool take_floor(void *context, const struct floor *floor) {
    struct floor_scan *scan = context;
    struct image *im = scan->im;
    if (stamp_compare(&floor->stamp, &im->limit) > 0)
        return true;
    struct image_floor taken = {.stamp = floor->stamp,
                                .base_path = floor->base_path,
                                .size_bytes = floor->size_bytes,
                                .reason = floor->reason,
                                .kind = floor->kind};
    return floor_scan_add(scan, &taken) && floor->kind != FLOOR_ZERO;
}

/* Where the volume became smaller, as it was announced. */
static void take_ends(struct floor_scan *scan, const struct volume *v) {
    for (size_t i = v->size_count; i > 1 && !scan->failed; i--) {
        const struct volume_size *now = &v->sizes[i - 1];
        if (now->time_ns > scan->im->info.time_ns || now->size_bytes >= now[-1].size_bytes)
            continue;
        floor_scan_add(scan, &(struct image_floor){.stamp = {.time_ns = now->time_ns},
                                                   .size_bytes = now->size_bytes,
                                                   .kind = FLOOR_END});
    }
}

/* Newest first; of one stamp the gap first, so that it is not hidden. */
static int compare_floors(const void *left, const void *right) {
    const struct image_floor *a = left;
    const struct image_floor *b = right;
    int order = stamp_compare(&b->stamp, &a->stamp);
    return order != 0 ? order : (int)b->kind - (int)a->kind;
}

static int read_floors(struct image *im, const struct volume *v, struct error *err) {
    struct floor_scan scan = {.im = im};
    for (size_t i = 0; i < im->path_count; i++) {
        int code =
            index_each_floor(im->reader, im->paths[i], im->info.time_ns, take_floor, &scan, err);
        if (code != 0)
            return code;
    }
    take_ends(&scan, v);
    int code = image_take_strangers(&scan, v, err);
    if (code != 0)
        return code;
    if (scan.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (im->floor_count > 1)
        qsort(im->floors, im->floor_count, sizeof *im->floors, compare_floors);
    for (size_t i = 0; i < im->floor_count; i++) {
        if (im->floors[i].kind == FLOOR_ZERO)
            im->floor_count = i + 1;
    }
    return 0;
}

const struct image_floor *image_baseline(const struct image *im) {
    const struct image_floor *last = im->floor_count > 0 ? &im->floors[im->floor_count - 1] : NULL;
    return last != NULL && last->kind == FLOOR_ZERO ? last : NULL;
}

uint64_t image_even_bytes(const struct image *im) {
    uint64_t even = im->info.size_bytes;
    for (size_t i = 0; i < im->floor_count; i++) {
        const struct image_floor *f = &im->floors[i];
        bool ends = f->kind == FLOOR_END || (f->kind == FLOOR_ZERO && f->size_bytes > 0);
        if (ends && f->size_bytes < even)
            even = f->size_bytes;
    }
    return even;
}

static int read_clocks(struct image *im, struct error *err) {
    int code = 0;
    for (size_t i = 0; code == 0 && i < im->path_count + im->stranger_count; i++)
        code = clock_table_add_path(&im->clocks, im->reader, im->paths[i], err);
    return code == 0 ? clock_table_read_errors(&im->clocks, im->reader, err) : code;
}

static int read_reached(struct image *im, struct error *err) {
    for (size_t i = 0; i < im->path_count; i++) {
        struct stamp newest;
        uint64_t count = 0;
        int code = index_newest_update(im->reader, im->paths[i], im->info.time_ns, &newest, err);
        if (code == 0 && stamp_compare(&newest, &im->info.reached) > 0)
            im->info.reached = newest;
        if (code == ERR_NOT_FOUND)
            continue;
        if (code == 0)
            code = index_count_updates(im->reader, im->paths[i], im->info.time_ns, &count, err);
        if (code != 0)
            return code;
        im->info.updates += count;
    }
    return 0;
}

/* In the view's own moment of the store: retention may have gone on since the volume was found. */
static int check_kept(struct image *im, const struct volume *v, struct error *err) {
    char before[WHEN_TEXT_BYTES];
    char after[WHEN_TEXT_BYTES];
    struct volume_kept kept;
    struct stamp whole = {im->limit.time_ns, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    bool below = stamp_compare(&im->limit, &whole) != 0;
    int code = volume_kept_at(im->reader, v, im->limit.time_ns, below, &kept, err);
    if (code != 0 || kept.kept)
        return code;
    when_print_utc(kept.before_ns, before);
    when_print_utc(kept.after_ns, after);
    if (kept.before_ns == 0)
        return error_set(err, ERR_INEXACT, "what is kept of %s begins at %s: use --at %s or later",
                         v->name, after, after);
    return error_set(
        err, ERR_INEXACT,
        "of %s, retention has left no moment between %s and %s: use --at %s or --at %s", v->name,
        before, after, before, after);
}

static int open_view(struct image *im, const struct volume *v, struct error *err) {
    int code = index_read(im->store->index, &im->reader, err);
    if (code == 0)
        code = check_kept(im, v, err);
    if (code == 0)
        code = read_floors(im, v, err);
    if (code == 0)
        code = read_clocks(im, err);
    if (code == 0)
        code = read_reached(im, err);
    if (code == 0)
        code = piece_walk_create(im->reader, WALK_SHOWN, im->paths,
                                 im->path_count + im->stranger_count, im->stranger_count, &im->walk,
                                 err);
    const struct image_floor *baseline = image_baseline(im);
    if (code == 0 && baseline != NULL && baseline->base_path != 0)
        code =
            piece_walk_create(im->reader, WALK_SHOWN, &baseline->base_path, 1, 0, &im->base, err);
    return code;
}

static int open_image(struct store *s, const struct volume *v, const struct stamp *limit,
                      struct image **out, struct error *err) {
    struct volume_size size = volume_size_at(v, limit->time_ns);
    int code = check_window(v, limit->time_ns, err);
    if (code != 0)
        return code;
    AUTO(image) im = calloc(1, sizeof *im);
    if (im == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&im->lock, NULL);
    im->store = s;
    im->limit = *limit;
    im->info.time_ns = limit->time_ns;
    im->info.size_bytes = size.size_bytes;
    im->info.block_bytes = size.block_bytes;
    im->paths = calloc(v->path_count + IMAGE_STRANGERS, sizeof *im->paths);
    if (im->paths == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < v->path_count; i++)
        im->paths[im->path_count++] = v->paths[i].path;
    code = open_view(im, v, err);
    if (code == 0)
        *out = take_pointer(&im);
    return code;
}

int image_open(struct store *s, const struct volume *v, uint64_t time_ns, struct image **out,
               struct error *err) {
    struct stamp limit = {time_ns, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    return open_image(s, v, &limit, out, err);
}

static struct stamp stamp_before(struct stamp stamp) {
    uint64_t *parts[] = {&stamp.order, &stamp.stream, &stamp.monitor, &stamp.time_ns};
    for (size_t i = 0; i < 4; i++) {
        if ((*parts[i])-- != 0)
            break; /* what was 0 became the greatest, and the next part becomes less */
    }
    return stamp;
}

int image_open_below(struct store *s, const struct volume *v, const struct stamp *stamp,
                     struct image **out, struct error *err) {
    struct stamp limit = stamp_before(*stamp);
    return open_image(s, v, &limit, out, err);
}

void image_close(struct image *im) {
    if (im == NULL)
        return;
    piece_walk_destroy(im->base);
    piece_walk_destroy(im->walk);
    index_reader_close(im->reader);
    pthread_mutex_destroy(&im->lock);
    free(im->floors);
    free(im->paths);
    free(im);
}

const struct image_info *image_info(const struct image *im) {
    return &im->info;
}

uint64_t image_chunk_count(const struct image *im) {
    return (im->info.size_bytes + INDEX_CHUNK_BYTES - 1) / INDEX_CHUNK_BYTES;
}
