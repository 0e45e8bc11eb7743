/* From the index to the segments: is the payload of every piece where the index says? */
#include "common/crc32c.h"
#include "recoveryd/verify/verify_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    GROUP_PAYLOADS = 1 << 18, /* looked up together: 22 MiB */
    RECENT = 1 << 12,
};

/* A payload that is pointed at. */
struct payload {
    struct extent extent;
    uint32_t crc32c;
    uint32_t target;
    uint64_t offset_bytes; /* in the volume */
    struct stamp stamp;
    bool pattern;
};

struct lookup {
    struct verify *v;
    struct index_reader *reader;
    bool counts_only;
    uint64_t bytes;  /* counts_only: of all payloads */
    uint32_t target; /* whose pieces are visited */
    struct payload *group;
    size_t count;
    /* Where a payload is in the group, plus 1: a write over a boundary of chunks, or a pattern over
     * many, is met several times. */
    uint32_t *recent;
    uint8_t *bytes_read; /* LIMIT_UPDATE_PAYLOAD_BYTES */
    bool was_flushed;    /* since the reader was opened */
    int code;
    struct error *err;
};

/* --- damage --------------------------------------------------------------------------------------
 */

static int say(struct verify *v, const struct verify_damage *damage, uint32_t target,
               struct error *err) {
    struct verify_result *r = v->result;
    struct verify_volume *volume = &r->volumes[v->targets[target].volume];
    size_t capacity = r->damage_count;
    volume->damaged++;
    if (r->damage_count == VERIFY_LISTED) {
        r->damages_left_out++;
        return 0;
    }
    /* Few, so that one more at a time costs nothing that matters. */
    if ((capacity & (capacity - 1)) == 0) {
        size_t room = capacity > 0 ? capacity * 2 : 1;
        void *grown = realloc(r->damages, room * sizeof *r->damages);
        if (grown == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        r->damages = grown;
    }
    r->damages[r->damage_count] = *damage;
    r->damages[r->damage_count++].volume = volume->volume;
    return 0;
}

struct pattern_search {
    uint64_t offset_bytes;
    uint64_t length_bytes;
};

static bool take_pattern(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset,
                         uint64_t length) {
    struct pattern_search *s = context;
    (void)stamp;
    if (op == UPDATE_PATTERN && offset == s->offset_bytes && length > s->length_bytes)
        s->length_bytes = length;
    return true;
}

/* The range that a payload was written to; how long that is of a pattern, its event says. */
static uint64_t length_of(struct lookup *l, const struct payload *p) {
    struct pattern_search search = {p->offset_bytes, p->extent.bytes};
    AUTO(index_reader) reader = NULL;
    if (p->pattern && index_read(l->v->store->index, &reader, NULL) == 0)
        index_each_event(reader, l->v->targets[p->target].path, p->stamp.time_ns, p->stamp.time_ns,
                         take_pattern, &search, NULL);
    return search.length_bytes;
}

static int say_payload(struct lookup *l, const struct payload *p, const char *why) {
    struct verify_damage damage = {.offset_bytes = p->offset_bytes,
                                   .length_bytes = length_of(l, p),
                                   .time_ns = p->stamp.time_ns,
                                   .stamp = p->stamp,
                                   .from_monitor = !l->v->targets[p->target].base,
                                   .extent = p->extent};
    snprintf(damage.why, sizeof damage.why, "%s", why);
    return say(l->v, &damage, p->target, l->err);
}

/* --- a group -------------------------------------------------------------------------------------
 */

static int compare_payloads(const void *left, const void *right) {
    const struct payload *a = left;
    const struct payload *b = right;
    if (a->extent.segment != b->extent.segment)
        return a->extent.segment < b->extent.segment ? -1 : 1;
    if (a->extent.offset != b->extent.offset)
        return a->extent.offset < b->extent.offset ? -1 : 1;
    if (a->extent.bytes != b->extent.bytes)
        return a->extent.bytes < b->extent.bytes ? -1 : 1;
    if (a->crc32c != b->crc32c)
        return a->crc32c < b->crc32c ? -1 : 1;
    return stamp_compare(&a->stamp, &b->stamp);
}

static bool is_same(const struct payload *a, const struct payload *b) {
    return a->extent.segment == b->extent.segment && a->extent.offset == b->extent.offset &&
           a->extent.bytes == b->extent.bytes && a->crc32c == b->crc32c;
}

static int look_at(struct lookup *l, const struct payload *p) {
    struct error why = {0};
    struct verify_volume *volume = &l->v->result->volumes[l->v->targets[p->target].volume];
    struct segment_entry *segment = verify_segment(l->v, p->extent.segment);
    uint64_t end = p->extent.offset + p->extent.bytes;
    if (segment != NULL && end > segment->pointed_end)
        segment->pointed_end = end;
    volume->payloads++;
    volume->bytes += p->extent.bytes;
    int code =
        segments_read(l->v->store->segments, &p->extent, 0, l->bytes_read, p->extent.bytes, &why);
    if (code == ERR_FORMAT || code == ERR_IO)
        return say_payload(l, p, why.text);
    if (code != 0) {
        if (l->err != NULL)
            *l->err = why;
        return code;
    }
    if (crc32c(0, l->bytes_read, p->extent.bytes) != p->crc32c)
        return say_payload(l, p, "its bytes do not match the checksum that came with them");
    return 0;
}

/* In the order of the disk, each once. */
static int flush(struct lookup *l) {
    qsort(l->group, l->count, sizeof *l->group, compare_payloads);
    int code = 0;
    for (size_t i = 0; code == 0 && i < l->count; i++) {
        if (i > 0 && is_same(&l->group[i], &l->group[i - 1]))
            continue;
        code = look_at(l, &l->group[i]);
        if (code == 0)
            code = verify_advance(l->v, l->group[i].extent.bytes, l->err);
    }
    memset(l->recent, 0, RECENT * sizeof *l->recent);
    l->count = 0;
    l->was_flushed = true;
    return code;
}

static uint32_t *recent_of(struct lookup *l, const struct extent *e) {
    uint64_t mixed = (e->offset / 8 + e->segment) * UINT64_C(0x9e3779b97f4a7c15);
    return &l->recent[mixed >> 52 & (RECENT - 1)];
}

static int add(struct lookup *l, const struct payload *p) {
    uint32_t *recent = recent_of(l, &p->extent);
    struct payload *known = *recent > 0 ? &l->group[*recent - 1] : NULL;
    if (known != NULL && is_same(known, p)) {
        if (stamp_compare(&p->stamp, &known->stamp) < 0)
            known->stamp = p->stamp; /* an audit gave it a later stamp as well */
        return 0;
    }
    l->group[l->count++] = *p;
    *recent = (uint32_t)l->count;
    if (l->counts_only) {
        l->bytes += p->extent.bytes;
        if (l->count == GROUP_PAYLOADS) {
            memset(l->recent, 0, RECENT * sizeof *l->recent);
            l->count = 0;
        }
        return 0;
    }
    return l->count == GROUP_PAYLOADS ? flush(l) : 0;
}

/* --- what is pointed at --------------------------------------------------------------------------
 */

static bool take_piece(void *context, const struct piece *piece) {
    struct lookup *l = context;
    if (piece->kind != PIECE_DATA && piece->kind != PIECE_PATTERN)
        return true;
    struct payload p = {.extent = piece->extent,
                        .crc32c = piece->payload_crc32c,
                        .target = l->target,
                        .offset_bytes = piece->whole_offset,
                        .stamp = piece->stamp,
                        .pattern = piece->kind == PIECE_PATTERN};
    if (!l->counts_only)
        l->v->result->volumes[l->v->targets[l->target].volume].pieces++;
    l->code = add(l, &p);
    return l->code == 0;
}

static int say_index(struct lookup *l, uint64_t chunk, const char *why) {
    struct verify_damage damage = {.offset_bytes = chunk * INDEX_CHUNK_BYTES,
                                   .length_bytes = INDEX_CHUNK_BYTES};
    snprintf(damage.why, sizeof damage.why, "%s", why);
    return l->counts_only ? 0 : say(l->v, &damage, l->target, l->err);
}

/* An entry of the index that cannot be understood hides what is older in its chunk. */
static int look_at_chunk(struct lookup *l, uint64_t chunk) {
    struct error why = {0};
    int code = index_each_piece(l->reader, l->v->targets[l->target].path, chunk, UINT64_MAX,
                                take_piece, l, &why);
    if (code == ERR_FORMAT)
        return say_index(l, chunk, why.text);
    if (code != 0 && l->err != NULL)
        *l->err = why;
    return code != 0 ? code : l->code;
}

static bool note_end(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset,
                     uint64_t length) {
    uint64_t *end = context;
    (void)stamp;
    if (op == UPDATE_ZERO || op == UPDATE_FLUSH ||
        (op == UPDATE_COPY && length > DERIVED_MOST_BYTES))
        return true;
    /* All parts of a pattern have one payload: where it begins is enough. */
    uint64_t last = op == UPDATE_PATTERN ? offset + 1 : offset + length;
    if (last > *end)
        *end = last;
    return true;
}

/*
 * An UNMAP of a petabyte makes chunks without number, none of which has a payload: what was written
 * bounds the walk.
 */
static int content_end(struct lookup *l, uint64_t path, uint64_t *chunks) {
    uint64_t end = 0;
    int code = index_each_event(l->reader, path, 0, UINT64_MAX, note_end, &end, l->err);
    *chunks = (end + INDEX_CHUNK_BYTES - 1) / INDEX_CHUNK_BYTES;
    return code;
}

/* A new moment of the index now and then: an old one costs it space while others write. */
static int renew(struct lookup *l) {
    if (l->reader != NULL && !l->was_flushed)
        return 0;
    index_reader_close(take_pointer(&l->reader));
    l->was_flushed = false;
    return index_read(l->v->store->index, &l->reader, l->err);
}

static int look_at_path(struct lookup *l, uint64_t path) {
    uint64_t end = 0;
    int code = content_end(l, path, &end);
    for (uint64_t chunk = 0; code == 0 && chunk < end; chunk++) {
        code = index_next_chunk(l->reader, path, chunk, &chunk, l->err);
        if (code == ERR_NOT_FOUND || (code == 0 && chunk >= end))
            return 0;
        if (code == 0)
            code = look_at_chunk(l, chunk);
        if (code == 0)
            code = renew(l);
        if (code == 0)
            code = verify_advance(l->v, 0, l->err);
    }
    return code;
}

static bool take_derived(void *context, const struct derived_entry *d) {
    struct lookup *l = context;
    struct payload p = {.extent = d->payload,
                        .crc32c = d->payload_crc32c,
                        .offset_bytes = d->offset_bytes,
                        .stamp = d->stamp};
    size_t target = 0;
    while (target < l->v->target_count && l->v->targets[target].path != d->path)
        target++;
    p.target = (uint32_t)target;
    if (d->payload.bytes > 0 && target < l->v->target_count)
        l->code = add(l, &p);
    return l->code == 0;
}

/*
 * The operand of an OR has no piece: not while it waits or cannot be derived, and when it is, the
 * piece is that of the outcome. It is needed again when what was derived is put back in doubt.
 */
static int look_at_derived(struct lookup *l) {
    int code = index_each_derived(l->reader, take_derived, l, l->err);
    return code != 0 ? code : l->code;
}

static int look_at_all(struct lookup *l) {
    int code = renew(l);
    for (l->target = 0; code == 0 && l->target < l->v->target_count; l->target++)
        code = look_at_path(l, l->v->targets[l->target].path);
    if (code == 0)
        code = look_at_derived(l);
    return code == 0 && !l->counts_only ? flush(l) : code;
}

static int run(struct verify *v, bool counts_only, uint64_t *bytes, struct error *err) {
    AUTO_FREE struct payload *group = malloc(GROUP_PAYLOADS * sizeof *group);
    AUTO_FREE uint32_t *recent = calloc(RECENT, sizeof *recent);
    AUTO_FREE uint8_t *bytes_read = malloc(LIMIT_UPDATE_PAYLOAD_BYTES);
    struct lookup l = {.v = v,
                       .counts_only = counts_only,
                       .group = group,
                       .recent = recent,
                       .bytes_read = bytes_read,
                       .err = err};
    if (group == NULL || recent == NULL || bytes_read == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = look_at_all(&l);
    index_reader_close(l.reader);
    *bytes = l.bytes;
    return code;
}

int verify_measure(struct verify *v, uint64_t *bytes, struct error *err) {
    return run(v, true, bytes, err);
}

static int compare_damages(const void *left, const void *right) {
    const struct verify_damage *a = left;
    const struct verify_damage *b = right;
    if (a->extent.segment != b->extent.segment)
        return a->extent.segment < b->extent.segment ? -1 : 1;
    if (a->extent.offset != b->extent.offset)
        return a->extent.offset < b->extent.offset ? -1 : 1;
    return a->offset_bytes < b->offset_bytes ? -1 : a->offset_bytes > b->offset_bytes;
}

static void uncount(struct verify_result *r, const struct volume *volume) {
    for (size_t i = 0; i < r->volume_count; i++)
        r->volumes[i].damaged -= r->volumes[i].volume == volume;
}

/* A payload may be met in two groups, and is then read and found twice. */
static void join_damages(struct verify_result *r) {
    size_t kept = 0;
    if (r->damage_count > 1)
        qsort(r->damages, r->damage_count, sizeof *r->damages, compare_damages);
    for (size_t i = 0; i < r->damage_count; i++) {
        if (kept > 0 && r->damages[i].extent.segment != 0 &&
            compare_damages(&r->damages[kept - 1], &r->damages[i]) == 0)
            uncount(r, r->damages[i].volume);
        else
            r->damages[kept++] = r->damages[i];
    }
    r->damage_count = kept;
}

int verify_payloads(struct verify *v, struct error *err) {
    uint64_t bytes;
    int code = run(v, false, &bytes, err);
    join_damages(v->result);
    return code;
}
