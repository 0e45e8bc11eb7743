#include "common/crc32c.h"
#include "common/zero.h"
#include "proto/record.h"
#include "recoveryd/settle/internal.h"

#include <stdlib.h>
#include <string.h>

enum { BUSY_RANGES = 4096 };

/* Where content comes from. */
struct source {
    struct image *image;
    struct ground *ground;
    const struct volume *volume; /* COPY: whose changes may have been in flight */
    uint64_t until_ns;
    uint64_t offset_bytes; /* of what belongs to the first byte of the update */
    uint64_t before_ns;    /* it must have been so since before this moment */
};

/* What lies in one stretch, and how much of it from the start on is known or not. */
struct stretch {
    uint64_t bytes;
    bool known;
};

static bool is_known(const struct source *s, const struct image_run *run) {
    return run->exact && run->holder.time_ns < s->before_ns;
}

/* --- opening the source --------------------------------------------------------------------------
 */

/* The size that was announced does not matter: what was never written beyond it is not exact. */
static struct volume large_enough(const struct volume *v, uint64_t end_bytes) {
    struct volume large = *v;
    large.size_given = true;
    large.size_bytes = end_bytes;
    return large;
}

/* A volume of which nothing can be restored at that time is not known exactly. */
static int opened(int code, enum derived_state inexact, enum derived_state *state) {
    if (code != ERR_INEXACT)
        return code;
    *state = inexact;
    return 0;
}

/*
 * The copy was taken at some moment of a time: its content is known where the source was exact at
 * the end of it (later by as much as clocks may be wrong) and had not changed since its begin. The
 * monitor that tells of a copy saw nothing in flight then; what others saw in flight shows when it
 * has ended, and has to be waited for.
 */
static int open_copied(struct ground *g, const struct derived_entry *d, struct source *s,
                       enum outcome *outcome, enum derived_state *state, struct error *err) {
    const struct volume *v = volume_of_path(&g->volumes, d->source_path);
    uint64_t error_ns = 0;
    bool alone = false;
    bool lost = false;
    if (v == NULL) {
        *state = DERIVED_NO_SOURCE;
        return 0;
    }
    int code = ground_clock_error(g, v, d->stamp.monitor, &error_ns, &alone, err);
    if (code != 0)
        return code;
    uint64_t until_ns = clock_plus(d->source_until_ns, error_ns);
    if (clock_plus(until_ns, alone ? 0 : INDEX_IN_FLIGHT_NS) > v->watermark_ns) {
        *outcome = OUTCOME_NOT_YET;
        return 0;
    }
    if (!alone)
        code = ground_others_lost(g, v, d->stamp.monitor, until_ns, &lost, err);
    if (code != 0 || lost) {
        *state = DERIVED_INEXACT_SOURCE;
        return code;
    }
    struct volume large = large_enough(v, d->source_offset_bytes + d->length_bytes);
    s->offset_bytes = d->source_offset_bytes;
    s->before_ns = clock_minus(d->source_from_ns, error_ns);
    s->until_ns = until_ns;
    s->volume = v;
    code = image_open(g->store, &large, until_ns, &s->image, err);
    return opened(code, DERIVED_INEXACT_SOURCE, state);
}

static int open_before(struct ground *g, const struct volume *v, const struct derived_entry *d,
                       struct source *s, enum derived_state *state, struct error *err) {
    struct volume large = large_enough(v, d->offset_bytes + d->length_bytes);
    s->offset_bytes = d->offset_bytes;
    s->before_ns = UINT64_MAX;
    int code = image_open_below(g->store, &large, &d->stamp, &s->image, err);
    return opened(code, DERIVED_INEXACT_BEFORE, state);
}

/* The payload of an OR or XOR, verified. */
static int read_operand(struct ground *g, const struct derived_entry *d, struct error *err) {
    int code = segments_read(g->store->segments, &d->payload, 0, g->operand, d->payload.bytes, err);
    if (code != 0 || crc32c(0, g->operand, d->payload.bytes) == d->payload_crc32c)
        return code;
    return error_set(err, ERR_FORMAT, "the store has damaged bytes (segment %08x, offset %llu)",
                     d->payload.segment, (unsigned long long)d->payload.offset);
}

/* --- content -------------------------------------------------------------------------------------
 */

/* Changes that were in flight when the copy was taken cut a known stretch short, or undo it. */
static int leave_out_busy(struct source *s, uint64_t at, struct stretch *first, struct error *err) {
    struct rangeset busy;
    struct range part;
    if (s->volume == NULL || !first->known)
        return 0;
    rangeset_init(&busy, BUSY_RANGES);
    int code =
        ground_in_flight(s->ground, s->volume, at, at + first->bytes, s->until_ns, &busy, err);
    if (code == 0 && rangeset_overlap(&busy, at, at + first->bytes, &part)) {
        first->known = part.start > at;
        first->bytes = first->known ? part.start - at : part.end - at;
    }
    rangeset_release(&busy);
    return code;
}

/* Fetches what the source has for `bytes` bytes of the update, from `at` on, inside one chunk of
 * the source; the first stretch of it. */
static int fetch_some(struct source *s, uint64_t at, uint64_t bytes, uint8_t *to,
                      struct stretch *first, struct error *err) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    size_t same = 1;
    int code = image_range_map(s->image, at, bytes, &runs, &count, err);
    if (code != 0 || count == 0)
        return code;
    *first = (struct stretch){.bytes = runs[0].length_bytes, .known = is_known(s, &runs[0])};
    for (; same < count && is_known(s, &runs[same]) == first->known; same++)
        first->bytes += runs[same].length_bytes;
    if (first->known)
        code = image_runs_read(s->image, runs, same, at, to, err);
    return code == 0 ? leave_out_busy(s, at, first, err) : code;
}

/* The first stretch of the update's bytes [at, end) that is wholly known or wholly not. */
static int fetch(struct source *s, const struct derived_entry *d, uint64_t at, uint64_t end,
                 uint8_t *to, struct stretch *first, struct error *err) {
    uint64_t from = s->offset_bytes + (at - d->offset_bytes);
    *first = (struct stretch){0};
    while (at < end) {
        uint64_t room = INDEX_CHUNK_BYTES - from % INDEX_CHUNK_BYTES;
        struct stretch some = {0};
        if (room > end - at)
            room = end - at;
        int code = fetch_some(s, from, room, to, &some, err);
        if (code != 0)
            return code;
        if (first->bytes > 0 && some.known != first->known)
            return 0;
        first->known = some.known;
        first->bytes += some.bytes;
        if (some.bytes < room)
            return 0;
        at += room;
        from += room;
        to += room;
    }
    return 0;
}

/* What the operation makes of what was there. */
static void combine(const struct ground *g, const struct derived_entry *d, uint64_t at,
                    uint8_t *content, uint64_t bytes) {
    const uint8_t *operand = g->operand + (at - d->offset_bytes);
    for (uint64_t i = 0; d->op == UPDATE_OR && i < bytes; i++)
        content[i] |= operand[i];
    for (uint64_t i = 0; d->op == UPDATE_XOR && i < bytes; i++)
        content[i] ^= operand[i];
}

/* A stretch that is known, as a piece of the update's stamp. `whole`: it is all of its chunk. */
static int put_known(struct ground *g, const struct derived_entry *d, uint64_t at, uint64_t bytes,
                     const uint8_t *content, bool whole, struct error *err) {
    struct piece piece = {.stamp = d->stamp,
                          .part = whole ? 0 : piece_part(at),
                          .issued_ns = d->issued_ns,
                          .offset_bytes = at,
                          .length_bytes = bytes,
                          .whole_offset = at,
                          .kind = PIECE_ZERO};
    if (!zero_all(content, bytes)) {
        piece.kind = PIECE_DATA;
        int code = ground_append(g, d, at, (uint32_t)bytes, content, &piece.extent,
                                 &piece.payload_crc32c, err);
        if (code != 0)
            return code;
    }
    struct index_writer *w = ground_writer(g, err);
    return w != NULL ? index_put_derived_piece(w, d->path, &piece, err) : ERR_NOMEM;
}

/* The part [start, end) of the update lies in one chunk. *all stays true when all is known. */
static int derive_part(struct ground *g, const struct derived_entry *d, struct source *s,
                       uint64_t start, uint64_t end, bool *all, struct error *err) {
    struct index_writer *w = ground_writer(g, err);
    if (w == NULL)
        return ERR_NOMEM;
    int code = index_clear_derived(w, d, start, end - start, err);
    for (uint64_t at = start; code == 0 && at < end;) {
        struct stretch first;
        code = fetch(s, d, at, end, g->content, &first, err);
        if (code != 0)
            return code;
        *all = *all && first.known;
        if (first.bytes == 0)
            return error_set(err, ERR_FORMAT, "an image with a hole");
        if (first.known) {
            combine(g, d, at, g->content, first.bytes);
            code = put_known(g, d, at, first.bytes, g->content,
                             at == start && first.bytes == end - start, err);
        }
        at += first.bytes;
    }
    return code;
}

/* Of what begins at `at`: the end of its chunk, or of all. */
static uint64_t part_end(uint64_t at, uint64_t end) {
    uint64_t next = (at / INDEX_CHUNK_BYTES + 1) * INDEX_CHUNK_BYTES;
    return next < end ? next : end;
}

/* Long ones are committed on the way: what waits in memory, and in the segment, is bounded. */
#define COMMIT_BYTES (UINT64_C(64) << 20)

static int derive_parts(struct ground *g, const struct derived_entry *d, struct source *s,
                        bool *all, struct error *err) {
    uint64_t end = d->offset_bytes + d->length_bytes;
    for (uint64_t at = d->offset_bytes; at < end;) {
        uint64_t next = part_end(at, end);
        int code = derive_part(g, d, s, at, next, all, err);
        if (code == 0 && g->bytes >= COMMIT_BYTES)
            code = ground_commit(g, err);
        if (code != 0)
            return code;
        at = next;
    }
    return 0;
}

/* What earlier tries left must not stay when the source cannot even be opened. */
static int clear_parts(struct ground *g, const struct derived_entry *d, struct error *err) {
    struct index_writer *w = ground_writer(g, err);
    uint64_t end = d->offset_bytes + d->length_bytes;
    int code = w != NULL ? 0 : ERR_NOMEM;
    for (uint64_t at = d->offset_bytes; code == 0 && at < end;) {
        uint64_t next = part_end(at, end);
        code = index_clear_derived(w, d, at, next - at, err);
        at = next;
    }
    return code;
}

static int open_source(struct ground *g, const struct derived_entry *d, struct source *s,
                       enum outcome *outcome, enum derived_state *state, struct error *err) {
    const struct volume *v = volume_of_path(&g->volumes, d->path);
    if (v == NULL || d->stamp.time_ns > v->watermark_ns) {
        *outcome = OUTCOME_NOT_YET;
        return 0;
    }
    if (d->op == UPDATE_COPY)
        return open_copied(g, d, s, outcome, state, err);
    int code = open_before(g, v, d, s, state, err);
    return code == 0 && s->image != NULL ? read_operand(g, d, err) : code;
}

static int derive_from(struct ground *g, const struct derived_entry *d, struct source *s,
                       enum derived_state *state, struct error *err) {
    bool all = true;
    int code = derive_parts(g, d, s, &all, err);
    if (code == 0 && !all)
        *state = d->op == UPDATE_COPY ? DERIVED_INEXACT_SOURCE : DERIVED_INEXACT_BEFORE;
    return code;
}

int derive(struct ground *g, const struct derived_entry *d, enum outcome *outcome,
           enum derived_state *state, struct error *err) {
    struct source s = {.ground = g};
    *outcome = OUTCOME_ENDED;
    *state = DERIVED_RESOLVED;
    int code = open_source(g, d, &s, outcome, state, err);
    if (code == 0 && s.image != NULL)
        code = derive_from(g, d, &s, state, err);
    bool opened_it = s.image != NULL;
    image_close(s.image);
    if (code == ERR_FORMAT) {
        *state = DERIVED_DAMAGED; /* that must not keep everything behind it waiting */
        code = 0;
    }
    bool nothing_known = !opened_it || *state == DERIVED_DAMAGED;
    if (code == 0 && *outcome == OUTCOME_ENDED && nothing_known)
        code = clear_parts(g, d, err);
    return code;
}
