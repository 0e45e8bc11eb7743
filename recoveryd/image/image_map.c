#include "recoveryd/image/image_internal.h"

static struct image_run run_of(const struct piece *p) {
    static const uint8_t kinds[] = {
        [PIECE_DATA] = RUN_DATA, [PIECE_ZERO] = RUN_ZERO, [PIECE_PATTERN] = RUN_PATTERN};
    return (struct image_run){.kind = kinds[p->kind],
                              .stamp = p->stamp,
                              .extent = p->extent,
                              .whole_offset = p->whole_offset,
                              .payload_crc32c = p->payload_crc32c};
}

static void lay_piece(struct overlay *o, const struct piece *p, bool from_baseline) {
    uint64_t end = p->offset_bytes + p->length_bytes;
    if (p->kind == PIECE_GAP) {
        overlay_taint(o, p->offset_bytes, end, p->reason, &p->stamp);
        return;
    }
    struct image_run run = run_of(p);
    if (from_baseline)
        run.stamp = (struct stamp){0};
    overlay_fill(o, p->offset_bytes, end, &run);
}

/* What the baseline's pseudo-path holds, and zeros where it holds nothing. */
static int lay_baseline(struct image *im, struct overlay *o, uint64_t chunk, struct error *err) {
    struct piece piece;
    int code = 0;
    if (im->base != NULL)
        code = piece_walk_seek(im->base, chunk, UINT64_MAX, err);
    while (code == 0 && im->base != NULL && !overlay_covered(o)) {
        code = piece_walk_next(im->base, &piece, err);
        if (code == 0)
            lay_piece(o, &piece, true);
    }
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    overlay_fill(o, 0, UINT64_MAX, &(struct image_run){.kind = RUN_ZERO});
    return 0;
}

static int lay_floor(struct image *im, struct overlay *o, const struct image_floor *floor,
                     uint64_t chunk, struct error *err) {
    if (floor->kind == FLOOR_ZERO)
        return lay_baseline(im, o, chunk, err);
    overlay_taint(o, 0, UINT64_MAX, floor->reason, &floor->stamp);
    return 0;
}

/* Pieces and floors together, newest first, until nothing older can be seen. */
static int lay_all(struct image *im, struct overlay *o, uint64_t chunk, struct error *err) {
    size_t floor = 0;
    struct piece piece;
    int code = piece_walk_seek(im->walk, chunk, im->info.time_ns, err);
    while (code == 0 && !overlay_covered(o)) {
        code = piece_walk_next(im->walk, &piece, err);
        if (code != 0 && code != ERR_NOT_FOUND)
            return code;
        int laid = 0;
        while (
            laid == 0 && floor < im->floor_count && !overlay_covered(o) &&
            (code == ERR_NOT_FOUND || stamp_compare(&im->floors[floor].stamp, &piece.stamp) >= 0))
            laid = lay_floor(im, o, &im->floors[floor++], chunk, err);
        if (laid != 0)
            return laid;
        if (code == 0)
            lay_piece(o, &piece, false);
    }
    overlay_fill(o, 0, UINT64_MAX, &(struct image_run){.kind = RUN_UNKNOWN});
    return code == ERR_NOT_FOUND ? 0 : code;
}

int image_chunk_map(struct image *im, uint64_t chunk, struct image_run **runs, size_t *count,
                    struct error *err) {
    if (chunk >= image_chunk_count(im))
        return error_set(err, ERR_USAGE, "the image has no chunk %llu", (unsigned long long)chunk);
    struct overlay overlay;
    overlay_init(&overlay, chunk * INDEX_CHUNK_BYTES, image_chunk_end(im, chunk));
    pthread_mutex_lock(&im->lock);
    int code = lay_all(im, &overlay, chunk, err);
    pthread_mutex_unlock(&im->lock);
    if (code == 0 && !overlay_finish(&overlay, runs, count))
        code = error_set(err, ERR_NOMEM, "out of memory");
    overlay_release(&overlay);
    return code;
}
