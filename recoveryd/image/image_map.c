#include "common/clock.h"
#include "recoveryd/image/image_internal.h"

static struct image_run run_of(const struct piece *p) {
    static const uint8_t kinds[] = {
        [PIECE_DATA] = RUN_DATA, [PIECE_ZERO] = RUN_ZERO, [PIECE_PATTERN] = RUN_PATTERN};
    return (struct image_run){.kind = kinds[p->kind],
                              .stamp = p->stamp,
                              .holder = p->stamp,
                              .issued_ns = p->issued_ns,
                              .extent = p->extent,
                              .whole_offset = p->whole_offset,
                              .payload_crc32c = p->payload_crc32c};
}

/* --- two monitors --------------------------------------------------------------------------------
 */

/* A gap, as the older one of two. */
static struct image_run gap_run(uint64_t start, uint64_t end, uint16_t reason,
                                const struct stamp *stamp) {
    return (struct image_run){.offset_bytes = start,
                              .length_bytes = end - start,
                              .kind = RUN_UNKNOWN,
                              .gap_reason = reason,
                              .stamp = *stamp};
}

static bool is_gap(const struct image_run *run) {
    return run->kind == RUN_UNKNOWN;
}

/* The earliest that the change may have been made, by its monitor's clock. */
static uint64_t begin_of(const struct image_run *run) {
    bool known = run->issued_ns > 0 && run->issued_ns < run->stamp.time_ns;
    return known ? run->issued_ns : run->stamp.time_ns;
}

/*
 * Whether what a gap of another monitor stands for may have come after this: the change was in
 * flight then, or the clocks are not good enough, or a loss was known too late.
 */
static bool may_precede(const struct image_run *newer, const struct image_run *gap,
                        uint64_t apart) {
    bool whole = gap->length_bytes == UINT64_MAX;
    bool in_flight = begin_of(newer) < newer->stamp.time_ns;
    uint64_t reach_ns = whole ? clock_plus(apart, CLOCK_LOSS_NS) : apart;
    bool near = gap->stamp.time_ns >= clock_minus(begin_of(newer), reach_ns);
    return near && (in_flight || reach_ns > 0);
}

/* Why it would not be known which of the two came last if they differed; 0: it is. */
static uint16_t clash_of(const struct image *im, const struct image_run *newer,
                         const struct image_run *older) {
    uint64_t apart = clock_table_between(&im->clocks, newer->stamp.monitor, older->stamp.monitor);
    if (is_gap(older))
        return may_precede(newer, older, apart) ? older->gap_reason : 0;
    if (older->stamp.time_ns >= begin_of(newer) && begin_of(newer) < newer->stamp.time_ns)
        return GAP_OVERLAP;
    return older->stamp.time_ns >= clock_minus(begin_of(newer), apart) && apart > 0 ? GAP_CLOCK : 0;
}

/* Why it is not known which of the two came last; 0: it is. `older` has the lesser stamp. */
static uint16_t rivalry(void *context, const struct image_run *newer,
                        const struct image_run *older) {
    struct image *im = context;
    if (newer->stamp.time_ns == 0 || newer->stamp.monitor == older->stamp.monitor)
        return 0;
    uint16_t clash = clash_of(im, newer, older);
    return clash != 0 && !image_same_content(im, newer, older) ? clash : 0;
}

/*
 * The same where the older one is of a stranger, of whatever monitor: a monitor does not know what
 * was in flight at once on two paths of which it does not know that they are one volume. What it
 * lost it knows of all that it has to do with.
 */
static uint16_t stranger_rivalry(void *context, const struct image_run *newer,
                                 const struct image_run *older) {
    struct image *im = context;
    const struct stamp *a = &newer->stamp;
    const struct stamp *b = &older->stamp;
    bool clash = false;
    if (a->time_ns == 0)
        return 0;
    if (a->monitor == b->monitor && a->stream == b->stream)
        clash = begin_of(newer) < a->time_ns && b->time_ns >= begin_of(newer);
    else
        clash = may_precede(newer, older, clock_table_between(&im->clocks, a->monitor, b->monitor));
    return clash && !image_same_content(im, newer, older) ? GAP_STRANGER : 0;
}

/* How far down from a piece that was laid another may be its rival. */
static void lower_reach(const struct image *im, const struct image_run *run, uint64_t *reach_ns) {
    uint64_t begin_ns = clock_minus(begin_of(run), clock_table_reach(&im->clocks));
    if (begin_ns < *reach_ns)
        *reach_ns = begin_ns;
}

/* --- one layer -----------------------------------------------------------------------------------
 */

/* Newer content of another monitor does not end a gap when the clocks do not tell which came last.
 */
static void lay_gap(struct image *im, struct overlay *o, uint64_t start, uint64_t end,
                    uint16_t reason, const struct stamp *since) {
    struct image_run gap = gap_run(start, end, reason, since);
    if (image_has_clocks(im))
        overlay_doubt(o, start, end, &gap, rivalry, im);
    overlay_taint(o, start, end, reason, since, NULL);
}

/* What changed on a path that may lead here may be what it wrote, or what was there before. */
static void lay_stranger(struct image *im, struct overlay *o, const struct image_run *run,
                         uint64_t start, uint64_t end) {
    overlay_doubt(o, start, end, run, stranger_rivalry, im);
    overlay_taint(o, start, end, GAP_STRANGER, &run->stamp, is_gap(run) ? NULL : run);
}

static void lay_strange_piece(struct image *im, struct overlay *o, const struct piece *p) {
    uint64_t end = p->offset_bytes + p->length_bytes;
    struct image_run run;
    if (p->kind == PIECE_GAP && gap_is_hearsay(p->reason))
        return;
    if (p->kind == PIECE_GAP)
        run = gap_run(p->offset_bytes, end, GAP_STRANGER, &p->stamp);
    else
        run = run_of(p);
    lay_stranger(im, o, &run, p->offset_bytes, end);
}

static void lay_piece(struct image *im, struct overlay *o, const struct piece *p,
                      uint64_t *reach_ns) {
    uint64_t end = p->offset_bytes + p->length_bytes;
    if (p->stranger) {
        lay_strange_piece(im, o, p);
        return;
    }
    if (p->kind == PIECE_GAP) {
        lay_gap(im, o, p->offset_bytes, end, p->reason, &p->stamp);
        return;
    }
    struct image_run run = run_of(p);
    if (image_has_clocks(im))
        overlay_doubt(o, p->offset_bytes, end, &run, rivalry, im);
    size_t before = o->run_count;
    overlay_fill(o, p->offset_bytes, end, &run);
    if (o->run_count > before)
        lower_reach(im, &run, reach_ns); /* what cannot be seen has no rivals */
}

static void lay_base_piece(struct overlay *o, const struct piece *p, const struct stamp *holder) {
    uint64_t end = p->offset_bytes + p->length_bytes;
    struct image_run run = run_of(p);
    run.stamp = (struct stamp){0};
    run.holder = *holder;
    if (p->kind != PIECE_GAP)
        overlay_fill(o, p->offset_bytes, end, &run);
}

/* What the baseline's pseudo-path holds, zeros where it holds nothing, and nothing beyond its end.
 */
static int lay_baseline(struct image *im, struct overlay *o, const struct image_floor *floor,
                        uint64_t chunk, struct error *err) {
    static const struct stamp last = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    struct piece piece;
    int code = 0;
    if (im->base != NULL)
        code = piece_walk_seek(im->base, chunk, &last, err);
    while (code == 0 && im->base != NULL && !overlay_covered(o)) {
        code = piece_walk_next(im->base, &piece, err);
        if (code == 0)
            lay_base_piece(o, &piece, &floor->stamp);
    }
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    uint64_t end = floor->size_bytes > 0 ? floor->size_bytes : UINT64_MAX;
    overlay_fill(o, 0, end, &(struct image_run){.kind = RUN_ZERO, .holder = floor->stamp});
    overlay_fill(o, end, UINT64_MAX, &(struct image_run){.kind = RUN_UNKNOWN});
    return 0;
}

static void lay_whole_gap(struct image *im, struct overlay *o, const struct image_floor *floor) {
    struct image_run gap = gap_run(0, UINT64_MAX, floor->reason, &floor->stamp);
    if (floor->stranger)
        lay_stranger(im, o, &gap, 0, UINT64_MAX);
    else
        lay_gap(im, o, 0, UINT64_MAX, floor->reason, &floor->stamp);
}

static int lay_floor(struct image *im, struct overlay *o, const struct image_floor *floor,
                     uint64_t chunk, struct error *err) {
    if (floor->kind == FLOOR_ZERO)
        return lay_baseline(im, o, floor, chunk, err);
    if (floor->kind == FLOOR_END)
        overlay_fill(o, floor->size_bytes, UINT64_MAX, &(struct image_run){.kind = RUN_UNKNOWN});
    else
        lay_whole_gap(im, o, floor);
    return 0;
}

/* --- all layers ----------------------------------------------------------------------------------
 */

/* A part of a floor's own stamp is what contradicts the floor, and lies above it. */
static bool lies_above(const struct image_floor *floor, const struct piece *piece) {
    int order = stamp_compare(&floor->stamp, &piece->stamp);
    return order > 0 || (order == 0 && piece->part == 0);
}

/* The floors above a piece (NULL: all). */
static int lay_floors(struct image *im, struct overlay *o, size_t *next, const struct piece *piece,
                      uint64_t chunk, struct error *err) {
    int code = 0;
    while (code == 0 && *next < im->floor_count && (image_has_rivals(im) || !overlay_covered(o)) &&
           (piece == NULL || lies_above(&im->floors[*next], piece)))
        code = lay_floor(im, o, &im->floors[(*next)++], chunk, err);
    return code;
}

/* A whole gap below all pieces that count may still be too close to them. */
static void lay_close_gaps(struct image *im, struct overlay *o, size_t next, uint64_t reach_ns) {
    for (; next < im->floor_count && im->floors[next].kind != FLOOR_ZERO; next++) {
        const struct image_floor *floor = &im->floors[next];
        if (floor->stamp.time_ns < clock_minus(reach_ns, CLOCK_LOSS_NS))
            return;
        if (floor->kind == FLOOR_GAP)
            lay_whole_gap(im, o, floor);
    }
}

/* Below what covers everything only rivals count, and those above the baseline only. */
static bool goes_on(const struct image *im, const struct overlay *o, const struct piece *piece,
                    uint64_t reach_ns) {
    const struct image_floor *baseline = image_baseline(im);
    if (!overlay_covered(o))
        return true;
    return piece->stamp.time_ns >= reach_ns &&
           (baseline == NULL || stamp_compare(&piece->stamp, &baseline->stamp) > 0);
}

/* Pieces and floors together, newest first, until nothing older can be seen. */
static int lay_all(struct image *im, struct overlay *o, uint64_t chunk, struct error *err) {
    size_t floor = 0;
    uint64_t reach_ns = UINT64_MAX;
    struct piece piece;
    bool rivals = image_has_rivals(im);
    int code = piece_walk_seek(im->walk, chunk, &im->limit, err);
    while (code == 0 && (rivals || !overlay_covered(o))) {
        code = piece_walk_next(im->walk, &piece, err);
        if (code != 0 && code != ERR_NOT_FOUND)
            return code;
        int laid = lay_floors(im, o, &floor, code == 0 ? &piece : NULL, chunk, err);
        if (laid != 0)
            return laid;
        if (code == 0 && !goes_on(im, o, &piece, reach_ns))
            break;
        if (code == 0)
            lay_piece(im, o, &piece, &reach_ns);
    }
    if (rivals && overlay_covered(o))
        lay_close_gaps(im, o, floor, reach_ns);
    overlay_fill(o, 0, UINT64_MAX, &(struct image_run){.kind = RUN_UNKNOWN});
    return code == ERR_NOT_FOUND ? 0 : code;
}

int image_range_map(struct image *im, uint64_t offset_bytes, uint64_t length_bytes,
                    struct image_run **runs, size_t *count, struct error *err) {
    struct overlay overlay;
    uint64_t chunk = offset_bytes / INDEX_CHUNK_BYTES;
    overlay_init(&overlay, offset_bytes, offset_bytes + length_bytes);
    overlay.same = image_same_content;
    overlay.same_context = im;
    pthread_mutex_lock(&im->lock);
    int code = lay_all(im, &overlay, chunk, err);
    pthread_mutex_unlock(&im->lock);
    if (code == 0 && !overlay_finish(&overlay, runs, count))
        code = error_set(err, ERR_NOMEM, "out of memory");
    overlay_release(&overlay);
    return code;
}

int image_chunk_map(struct image *im, uint64_t chunk, struct image_run **runs, size_t *count,
                    struct error *err) {
    if (chunk >= image_chunk_count(im))
        return error_set(err, ERR_USAGE, "the image has no chunk %llu", (unsigned long long)chunk);
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    return image_range_map(im, start, image_chunk_end(im, chunk) - start, runs, count, err);
}
