#include "recoveryd/image/image_changes.h"

#include "common/digest.h"
#include "recoveryd/image/image_internal.h"

enum { CHUNK_RANGES = 1 << 18, PART_RANGES = 1 << 11 };

/* --- chunks --------------------------------------------------------------------------------------
 */

struct event_scan {
    struct image_changes *changes;
    uint64_t chunk_count;
    bool full; /* too scattered: every chunk is looked at */
};

static bool take_event(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset,
                       uint64_t length) {
    struct event_scan *scan = context;
    uint64_t start = offset / INDEX_CHUNK_BYTES;
    (void)stamp;
    if (op == UPDATE_FLUSH || length == 0 || start >= scan->chunk_count)
        return true;
    uint64_t end = (offset + length - 1) / INDEX_CHUNK_BYTES + 1;
    scan->full = !rangeset_add(&scan->changes->chunks, start,
                               end < scan->chunk_count ? end : scan->chunk_count);
    return !scan->full;
}

/* What lies between both times and holds for the whole volume. */
static void find_floors(const struct image *im, const struct image *since,
                        struct image_changes *c) {
    c->all_from = im->info.size_bytes;
    if (since->info.size_bytes < c->all_from)
        c->all_from = since->info.size_bytes;
    for (size_t i = 0; i < im->floor_count; i++) {
        const struct image_floor *floor = &im->floors[i];
        if (floor->stamp.time_ns <= c->since_ns)
            continue;
        if (floor->kind == FLOOR_ZERO)
            c->all_from = 0;
        if (floor->kind == FLOOR_END && floor->size_bytes < c->all_from)
            c->all_from = floor->size_bytes;
    }
}

int image_changes_find(struct image *im, const struct image *since, struct image_changes *c,
                       struct error *err) {
    struct event_scan scan = {.changes = c, .chunk_count = image_chunk_count(im)};
    *c = (struct image_changes){.since_ns = since->info.time_ns};
    rangeset_init(&c->chunks, CHUNK_RANGES);
    if (c->since_ns > im->info.time_ns)
        return error_set(err, ERR_USAGE, "the time since when it changed lies behind the other");
    find_floors(im, since, c);
    int code = 0;
    pthread_mutex_lock(&im->lock);
    for (size_t i = 0; code == 0 && !scan.full && i < im->path_count; i++)
        code = index_each_event(im->reader, im->paths[i], c->since_ns + 1, im->info.time_ns,
                                take_event, &scan, err);
    pthread_mutex_unlock(&im->lock);
    uint64_t all_from = c->all_from / INDEX_CHUNK_BYTES;
    if (c->all_from < im->info.size_bytes && !scan.full)
        scan.full = !rangeset_add(&c->chunks, all_from, scan.chunk_count);
    if (scan.full) {
        rangeset_clear(&c->chunks);
        rangeset_add(&c->chunks, 0, scan.chunk_count);
    }
    return code;
}

void image_changes_release(struct image_changes *c) {
    rangeset_release(&c->chunks);
}

/* --- bytes of one chunk --------------------------------------------------------------------------
 */

/* Newest first, down to the earlier time. False: too many. */
static int take_pieces(struct image *im, const struct image_changes *c, uint64_t chunk,
                       struct rangeset *parts, bool *full, struct error *err) {
    uint64_t end = image_chunk_end(im, chunk);
    struct piece piece;
    int code = piece_walk_seek(im->walk, chunk, &im->limit, err);
    while (code == 0 && !*full) {
        code = piece_walk_next(im->walk, &piece, err);
        if (code != 0 || piece.stamp.time_ns <= c->since_ns)
            break;
        uint64_t piece_end = piece.offset_bytes + piece.length_bytes;
        if (piece.stranger || piece.kind == PIECE_GAP || piece.offset_bytes >= end)
            continue;
        *full = !rangeset_add(parts, piece.offset_bytes, piece_end < end ? piece_end : end);
    }
    return code == ERR_NOT_FOUND ? 0 : code;
}

int image_changes_in_chunk(struct image *im, const struct image_changes *c, uint64_t chunk,
                           struct rangeset *ranges, struct error *err) {
    struct rangeset parts;
    bool full = false;
    bool failed = false;
    if (chunk >= image_chunk_count(im))
        return error_set(err, ERR_USAGE, "the image has no chunk %llu", (unsigned long long)chunk);
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    uint64_t end = image_chunk_end(im, chunk);
    rangeset_init(&parts, PART_RANGES);
    pthread_mutex_lock(&im->lock);
    int code = take_pieces(im, c, chunk, &parts, &full, err);
    pthread_mutex_unlock(&im->lock);
    if (code == 0 && !full && c->all_from < end)
        full = !rangeset_add(&parts, c->all_from > start ? c->all_from : start, end);
    if (full)
        failed = !rangeset_add(ranges, start, end);
    for (size_t i = 0; code == 0 && !full && !failed && i < parts.count; i++)
        failed = !rangeset_add(ranges, parts.ranges[i].start, parts.ranges[i].end);
    rangeset_release(&parts);
    return code == 0 && failed ? error_set(err, ERR_NOMEM, "out of memory") : code;
}

/* --- which view it is ----------------------------------------------------------------------------
 */

static void hash_numbers(struct sha256 *hash, const uint64_t *numbers, size_t count) {
    sha256_update(hash, numbers, count * sizeof *numbers);
}

static void hash_stamp(struct sha256 *hash, const struct stamp *s) {
    hash_numbers(hash, (const uint64_t[]){s->time_ns, s->monitor, s->stream, s->order}, 4);
}

static bool hash_gap(void *context, const struct gap_entry *gap) {
    hash_stamp(context, &gap->stamp);
    hash_numbers(context, (const uint64_t[]){gap->part, gap->offset_bytes, gap->length_bytes}, 3);
    return true;
}

/*
 * How many updates there are up to its time, the facts that content is derived from, what is a gap
 * because it waits to be derived, and what lies below: nothing else decides a byte.
 */
int image_fingerprint(struct image *im, uint64_t *fingerprint, struct error *err) {
    AUTO(sha256) hash = sha256_create();
    uint64_t facts = 0;
    int code = 0;
    if (hash == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    hash_stamp(hash, &im->limit);
    hash_stamp(hash, &im->info.reached);
    for (size_t i = 0; i < im->floor_count; i++) {
        const struct image_floor *f = &im->floors[i];
        hash_stamp(hash, &f->stamp);
        hash_numbers(hash, (const uint64_t[]){f->base_path, f->size_bytes, f->kind, f->reason}, 4);
    }
    pthread_mutex_lock(&im->lock);
    code = index_facts(im->reader, &facts, err);
    for (size_t i = 0; code == 0 && i < im->path_count; i++) {
        hash_numbers(hash, &im->paths[i], 1);
        code = index_each_gap(im->reader, im->paths[i], im->info.time_ns, hash_gap, hash, err);
    }
    pthread_mutex_unlock(&im->lock);
    hash_numbers(hash, (const uint64_t[]){im->info.size_bytes, im->info.updates, facts}, 3);
    *fingerprint = sha256_finish_id64(hash);
    return code;
}
