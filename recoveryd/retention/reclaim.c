#include "recoveryd/retention/reclaim.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/stop.h"
#include "proto/message.h"
#include "proto/record.h"
#include "recoveryd/index/thinned.h"
#include "recoveryd/store/segment_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CANDIDATES = 16, /* at once: the marks of each take memory */
    GRANULE = 512,   /* bytes for which there is one mark */
    DEAD_RANGES = 1 << 22,
};

const struct reclaim_options reclaim_defaults = {
    .quiet_ns = STORE_PACK_QUIET_NS, .share = 2, .total_share = 50, .level = PACK_OFF};

struct candidate {
    uint32_t segment;
    uint64_t dead_bytes; /* as it was told */
    struct segment_size size;
    uint8_t *marks; /* one bit for each granule: something points at it */
};

struct reclaiming {
    struct store *store;
    const struct reclaim_options *options;
    struct candidate list[CANDIDATES]; /* by segment, once they are all there */
    size_t count;
    struct index_reader *reader;
    uint64_t moment;
    uint8_t *batch; /* LIMIT_BATCH_BYTES */
    struct error *err;
};

/* Views that are older than what was looked at may still show what is dead now. */
static int check_views(struct reclaiming *r) {
    uint64_t oldest;
    int code = index_oldest_moment(r->store->index, &oldest, r->err);
    if (code == 0 && oldest < r->moment)
        code = error_set(r->err, ERR_BUSY, "a view that is open may show what is to be reclaimed");
    return code;
}

/* --- candidates ----------------------------------------------------------------------------------
 */

/* The one with the least that is dead makes room. */
static void keep(struct reclaiming *r, const struct candidate *c) {
    struct candidate *least = &r->list[0];
    if (r->count < CANDIDATES) {
        r->list[r->count++] = *c;
        return;
    }
    for (size_t i = 1; i < CANDIDATES; i++) {
        if (r->list[i].dead_bytes < least->dead_bytes)
            least = &r->list[i];
    }
    if (least->dead_bytes < c->dead_bytes)
        *least = *c;
}

static bool take_dead(void *context, uint32_t segment, uint64_t bytes) {
    struct reclaiming *r = context;
    struct candidate c = {.segment = segment, .dead_bytes = bytes};
    if (segments_size(r->store->segments, segment, &c.size, NULL) != 0)
        return true;
    bool quiet = clock_wall_ns() >= c.size.changed_ns + r->options->quiet_ns;
    if (quiet && bytes >= c.size.disk_bytes / r->options->share && bytes >= 4096)
        keep(r, &c);
    return true;
}

static int compare_candidates(const void *left, const void *right) {
    const struct candidate *a = left;
    const struct candidate *b = right;
    return a->segment < b->segment ? -1 : a->segment > b->segment;
}

static int find_candidates(struct reclaiming *r) {
    uint64_t dead_bytes = 0;
    int code = index_each_dead(r->reader, take_dead, r, r->err);
    for (size_t i = 0; i < r->count; i++)
        dead_bytes += r->list[i].dead_bytes;
    if (dead_bytes < segments_total_bytes(r->store->segments) / r->options->total_share)
        r->count = 0;
    if (r->count > 1)
        qsort(r->list, r->count, sizeof r->list[0], compare_candidates);
    return code;
}

/* --- what is alive -------------------------------------------------------------------------------
 */

static struct candidate *candidate_of(struct reclaiming *r, uint32_t segment) {
    struct candidate key = {.segment = segment};
    return bsearch(&key, r->list, r->count, sizeof key, compare_candidates);
}

static bool mark(void *context, const struct extent *e) {
    struct reclaiming *r = context;
    struct candidate *c = candidate_of(r, e->segment);
    if (c == NULL)
        return true;
    uint64_t end = e->offset + e->bytes;
    if (end > c->size.logical_bytes)
        end = c->size.logical_bytes;
    for (uint64_t at = e->offset / GRANULE; at * GRANULE < end; at++)
        c->marks[at / 8] |= (uint8_t)(1 << (at % 8));
    return !stop_requested();
}

static int mark_all(struct reclaiming *r) {
    for (size_t i = 0; i < r->count; i++) {
        size_t granules = (size_t)(r->list[i].size.logical_bytes / GRANULE) + 1;
        r->list[i].marks = calloc(granules / 8 + 1, 1);
        if (r->list[i].marks == NULL)
            return error_set(r->err, ERR_NOMEM, "out of memory");
    }
    int code = index_each_extent(r->reader, mark, r, r->err);
    return code == 0 && stop_requested() ? error_set(r->err, ERR_STOPPED, "stopped") : code;
}

/* Payloads do not overlap, so that a granule wholly inside of one is marked when that is alive.
 * What has no such granule is too short to be worth it. */
static bool is_dead(const struct candidate *c, uint64_t start, uint64_t end) {
    uint64_t first = (start + GRANULE - 1) / GRANULE;
    uint64_t last = end / GRANULE;
    for (uint64_t at = first; at < last; at++) {
        if ((c->marks[at / 8] >> (at % 8) & 1) != 0)
            return false;
    }
    return first < last;
}

/* --- what is in a segment ------------------------------------------------------------------------
 */

struct walk {
    struct reclaiming *r;
    const struct candidate *c;
    struct stream_entry *stream; /* of the batch; its monitor 0: it is not known */
    struct rangeset absent;      /* of the batch */
    struct rangeset dead;
    bool made;
};

/* The monitor was told that the record is durable, so that it does not come again. */
static bool is_durable(const struct walk *w, uint64_t order) {
    const struct stream_entry *s = w->stream;
    if (w->made || order < s->frontier)
        return true;
    for (uint32_t i = 0; i < s->run_count; i++) {
        if (order >= s->runs[i].start && order < s->runs[i].end)
            return true;
    }
    return false;
}

/* False: no memory. What cannot be understood stays as it is. */
static bool walk_records(struct walk *w, uint64_t at, const uint8_t *frame, struct cursor body) {
    struct record r;
    while (cursor_left(&body) > 0) {
        if (record_decode(&body, &r, NULL) != 0)
            return true;
        if (r.type != RECORD_PAYLOAD)
            continue;
        uint64_t start = at + (uint64_t)(r.payload.data - frame);
        uint64_t end = start + r.payload.bytes;
        if (is_dead(w->c, start, end) && is_durable(w, r.order) &&
            !rangeset_add(&w->dead, start, end))
            return false;
    }
    return true;
}

static int find_stream(struct walk *w, const struct message_batch *batch) {
    w->made = batch->monitor == 0;
    if (w->made || (w->stream->monitor == batch->monitor && w->stream->stream == batch->stream))
        return 0;
    int code = index_get_stream(w->r->reader, batch->monitor, batch->stream, w->stream, w->r->err);
    if (code == ERR_NOT_FOUND)
        *w->stream = (struct stream_entry){0};
    return code == ERR_NOT_FOUND ? 0 : code;
}

static int read_batch(struct walk *w, uint64_t at, size_t bytes) {
    struct extent extent = {w->c->segment, (uint32_t)bytes, at};
    rangeset_clear(&w->absent);
    return segments_read_present(w->r->store->segments, &extent, w->r->batch, &w->absent,
                                 w->r->err);
}

/* Batch after batch, up to the first that cannot be read: what is behind stays. */
static int walk_segment(struct walk *w) {
    uint64_t end = w->c->size.logical_bytes;
    int code = 0;
    for (uint64_t at = SEGMENT_HEAD_BYTES; code == 0 && at + BATCH_HEAD_BYTES <= end;) {
        struct message m;
        struct cursor body;
        code = read_batch(w, at, BATCH_HEAD_BYTES);
        size_t length = code == 0 ? message_batch_length(w->r->batch) : 0;
        if (code != 0 || length == 0 || length > end - at)
            return code;
        code = read_batch(w, at, length);
        if (code == 0 && message_decode(w->r->batch, length, &m, &body, NULL) != 0)
            return 0;
        if (code == 0)
            code = find_stream(w, &m.batch);
        if (code == 0 && (w->made || w->stream->monitor != 0) &&
            !walk_records(w, at, w->r->batch, body))
            code = error_set(w->r->err, ERR_NOMEM, "out of memory");
        at = (at + length + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
        if (code == 0 && stop_requested())
            code = error_set(w->r->err, ERR_STOPPED, "stopped");
    }
    return code;
}

static int find_dead(struct reclaiming *r, const struct candidate *c, struct rangeset *dead) {
    AUTO_FREE struct stream_entry *stream = calloc(1, sizeof *stream);
    struct walk w = {.r = r, .c = c, .stream = stream};
    *dead = (struct rangeset){0};
    if (stream == NULL)
        return error_set(r->err, ERR_NOMEM, "out of memory");
    rangeset_init(&w.absent, SIZE_MAX);
    rangeset_init(&w.dead, DEAD_RANGES);
    int code = walk_segment(&w);
    if (code == ERR_FORMAT) {
        /* It is damaged, which verify tells: it stays as it is, and the others have their turn. */
        rangeset_clear(&w.dead);
        code = 0;
    }
    rangeset_release(&w.absent);
    *dead = w.dead;
    return code;
}

/* --- one after the other -------------------------------------------------------------------------
 */

static int pack_one(struct reclaiming *r, const struct candidate *c, const struct rangeset *dead,
                    struct reclaim_result *result) {
    struct pack_result packed = {0};
    int code = dead->count > 0 ? segments_pack(r->store->segments, c->segment, dead,
                                               r->options->level, &packed, r->err)
                               : 0;
    if (code == ERR_BUSY)
        return 0; /* somebody appends to it still */
    bool damaged = code == ERR_FORMAT;
    if (code == 0 || damaged)
        code = index_forget_dead(r->store->index, c->segment, c->dead_bytes, r->err);
    result->segments += code == 0 && !damaged && dead->count > 0;
    result->before_bytes += packed.before_bytes;
    result->after_bytes += packed.after_bytes;
    return code;
}

static int run(struct reclaiming *r, struct reclaim_result *result) {
    struct rangeset dead[CANDIDATES];
    size_t found = 0;
    int code = index_read(r->store->index, &r->reader, r->err);
    if (code == 0)
        code = find_candidates(r);
    if (code != 0 || r->count == 0)
        return code;
    r->moment = index_moment(r->reader);
    code = check_views(r); /* before it costs anything */
    if (code == 0)
        code = mark_all(r);
    for (; code == 0 && found < r->count; found++)
        code = find_dead(r, &r->list[found], &dead[found]);
    index_reader_close(take_pointer(&r->reader));
    for (size_t i = 0; i < found; i++) {
        if (code == 0)
            code = check_views(r);
        if (code == 0)
            code = pack_one(r, &r->list[i], &dead[i], result);
        rangeset_release(&dead[i]);
    }
    return code;
}

int reclaim(struct store *s, const struct reclaim_options *options, struct reclaim_result *result,
            struct error *err) {
    AUTO_FREE struct reclaiming *r = calloc(1, sizeof *r);
    AUTO_FREE uint8_t *batch = malloc(LIMIT_BATCH_BYTES);
    *result = (struct reclaim_result){0};
    if (r == NULL || batch == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    r->store = s;
    r->options = options;
    r->batch = batch;
    r->err = err;
    int code = run(r, result);
    index_reader_close(r->reader);
    for (size_t i = 0; i < r->count; i++)
        free(r->list[i].marks);
    return code;
}

/* --- in the background ---------------------------------------------------------------------------
 */

static void say(const struct reclaim_result *result) {
    uint64_t less =
        result->before_bytes > result->after_bytes ? result->before_bytes - result->after_bytes : 0;
    log_info("%" PRIu64 " segments rewritten without what is dead: %" PRIu64 " MiB are free again",
             result->segments, less >> 20);
}

/* An open view is no failure: it is tried again. */
static int reclaim_work(struct store *s, bool *again, struct error *err) {
    struct reclaim_options options = reclaim_defaults;
    struct reclaim_result result;
    options.level = s->pack_level;
    options.quiet_ns = s->pack_quiet_ns;
    int code = reclaim(s, &options, &result, err);
    *again = code == 0 && result.segments > 0;
    if (result.segments > 0)
        say(&result);
    return code == ERR_BUSY || code == ERR_STOPPED ? 0 : code;
}

struct unpacked {
    struct store *store;
    uint32_t *list; /* owned */
    size_t count;
    size_t capacity;
    uint64_t before_ns; /* written since: not yet */
};

static void take_unpacked(void *context, uint32_t segment, uint64_t bytes) {
    struct unpacked *u = context;
    struct segment_size size;
    (void)bytes;
    if (segments_size(u->store->segments, segment, &size, NULL) != 0 || size.packed ||
        size.changed_ns > u->before_ns)
        return;
    if (u->count == u->capacity) {
        size_t capacity = u->capacity > 0 ? u->capacity * 2 : 64;
        uint32_t *list = realloc(u->list, capacity * sizeof *list);
        if (list == NULL)
            return; /* the next time */
        u->list = list;
        u->capacity = capacity;
    }
    u->list[u->count++] = segment;
}

/* Two thirds of the time it rests, for whoever needs the disk. */
static void rest_after(struct mono start) {
    uint64_t ns = clock_since_ns(start) * 2;
    struct timespec pause = {(time_t)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    while (!stop_requested() && nanosleep(&pause, &pause) != 0)
        continue;
}

static int pack_work(struct store *s, bool *again, struct error *err) {
    struct unpacked u = {.store = s, .before_ns = clock_wall_ns() - s->pack_quiet_ns};
    struct rangeset none;
    rangeset_init(&none, 0);
    *again = false;
    if (s->pack_level == PACK_OFF)
        return 0;
    int code = segments_each(s->segments, take_unpacked, &u, err);
    for (size_t i = 0; code == 0 && i < u.count && !stop_requested(); i++) {
        struct mono start = clock_mono();
        struct pack_result packed;
        bool worth = false;
        code = segments_probe(s->segments, u.list[i], s->pack_level, &worth, err);
        if (code == 0 && worth)
            code = segments_pack(s->segments, u.list[i], &none, s->pack_level, &packed, err);
        *again = *again || (code == 0 && worth);
        if (code == ERR_BUSY || code == ERR_FORMAT)
            code = 0; /* somebody appends to it; or it is damaged, which verify tells */
        rest_after(start);
    }
    free(u.list);
    return code;
}

/* Looks at all segments, and at what of them is dead, take a small part of the time. */
const struct background_work background_reclaim = {
    .doing = "give back what is dead in segments", .work = reclaim_work, .rest = 1000};
const struct background_work background_pack = {
    .doing = "pack segments", .work = pack_work, .rest = 100};
