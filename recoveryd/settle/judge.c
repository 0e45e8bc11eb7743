#include "common/crc32c.h"
#include "proto/when.h"
#include "recoveryd/settle/internal.h"

#include <stdlib.h>
#include <string.h>

enum { BUSY_RANGES = 4096 };

enum verdict { SAME, SKIPPED, MISMATCH, GUESS_SAME, PROVEN };

struct trial {
    struct ground *ground;
    const struct audit_entry *audit;
    const struct volume *volume;
    struct image *image;
    uint64_t before_ns; /* what changed since then may have changed while the READ was under way */
    uint64_t until_ns;
    struct stamp oldest;            /* of what holds the blocks at hand */
    uint8_t verdicts[AUDIT_BLOCKS]; /* enum verdict */
    struct audited_entry *found;
};

static uint64_t block_offset(const struct trial *t, uint32_t block) {
    return t->audit->offset_bytes + (uint64_t)block * t->audit->block_bytes;
}

static uint32_t crc_of(const struct audit_entry *a, uint32_t block) {
    struct cursor c = cursor_of(a->crc32c + (size_t)block * 4, 4);
    return cursor_le32(&c);
}

/* --- one block -----------------------------------------------------------------------------------
 */

/* What the runs under a block say of it, before its bytes are looked at. */
struct ground_of_block {
    bool exact;
    bool stable; /* nothing changed it while it was read */
};

static struct ground_of_block look_under(const struct trial *t, const struct image_run *runs,
                                         size_t count, uint64_t start, uint64_t end) {
    struct ground_of_block under = {true, true};
    for (size_t i = 0; i < count; i++) {
        if (runs[i].offset_bytes >= end || runs[i].offset_bytes + runs[i].length_bytes <= start)
            continue;
        under.exact = under.exact && runs[i].exact;
        if (runs[i].holder.time_ns >= t->before_ns)
            under.stable = false;
    }
    return under;
}

static enum verdict verdict_on(const struct trial *t, const struct image_run *runs, size_t count,
                               uint32_t block, const uint8_t *bytes, const struct rangeset *busy) {
    struct range part;
    uint64_t start = block_offset(t, block);
    uint64_t end = start + t->audit->block_bytes;
    struct ground_of_block under = look_under(t, runs, count, start, end);
    if (!under.stable || rangeset_overlap(busy, start, end, &part))
        return SKIPPED;
    bool same = crc32c(0, bytes, t->audit->block_bytes) == crc_of(t->audit, block);
    if (under.exact)
        return same ? SAME : MISMATCH;
    return same ? GUESS_SAME : SKIPPED;
}

/* --- gaps that a READ may end --------------------------------------------------------------------
 */

/*
 * A gap above a block bars it from being proven when what it stands for may have happened after the
 * READ: it began while that was under way; its own monitor told of it later; or another monitor's
 * clock and loss may reach that far.
 */
static bool bars(const struct trial *t, const struct stamp *gap) {
    const struct stamp *audit = &t->audit->stamp;
    if (gap->time_ns >= t->before_ns)
        return true;
    if (gap->monitor != audit->monitor)
        return gap->monitor != 0 && clock_plus(gap->time_ns, CLOCK_LOSS_NS) > t->before_ns;
    return gap->stream == audit->stream && gap->order > audit->order;
}

static void bar(struct trial *t, const struct stamp *gap, uint64_t start, uint64_t end) {
    if (!bars(t, gap))
        return;
    for (uint32_t i = 0; i < t->audit->blocks; i++) {
        uint64_t at = block_offset(t, i);
        if (t->verdicts[i] == GUESS_SAME && at < end && at + t->audit->block_bytes > start)
            t->verdicts[i] = SKIPPED;
    }
}

static bool see_gap_piece(void *context, const struct piece *p) {
    struct trial *t = context;
    if (p->kind == PIECE_GAP)
        bar(t, &p->stamp, p->offset_bytes, p->offset_bytes + p->length_bytes);
    return stamp_compare(&p->stamp, &t->oldest) >= 0;
}

static bool see_gap_floor(void *context, const struct floor *floor) {
    if (floor->kind == FLOOR_GAP)
        bar(context, &floor->stamp, 0, UINT64_MAX);
    return floor->kind == FLOOR_GAP;
}

/* Whatever a stranger changed may have changed the volume, after the READ too. */
static bool see_strange_piece(void *context, const struct piece *p) {
    struct trial *t = context;
    if (p->kind != PIECE_GAP || !gap_is_hearsay(p->reason))
        bar(t, &p->stamp, p->offset_bytes, p->offset_bytes + p->length_bytes);
    return stamp_compare(&p->stamp, &t->oldest) >= 0;
}

static bool see_strange_floor(void *context, const struct floor *floor) {
    if (floor->kind == FLOOR_GAP && !gap_is_hearsay(floor->reason))
        bar(context, &floor->stamp, 0, UINT64_MAX);
    return true;
}

static int bar_strangers(struct trial *t, uint64_t chunk, struct error *err) {
    int code = 0;
    for (size_t i = 0; code == 0 && i < t->volume->stranger_count; i++) {
        uint64_t path = t->volume->strangers[i]->path;
        code = index_each_piece(t->ground->reader, path, chunk, t->until_ns, see_strange_piece, t,
                                err);
        if (code == 0)
            code =
                index_each_floor(t->ground->reader, path, t->until_ns, see_strange_floor, t, err);
    }
    if (t->volume->crowded)
        bar(t, &(struct stamp){.time_ns = UINT64_MAX}, 0, UINT64_MAX);
    return code;
}

/* Some older gaps than those above the content bar too: that only means that it is not proven yet.
 */
static int prove(struct trial *t, uint64_t chunk, struct error *err) {
    int code = 0;
    for (size_t i = 0; code == 0 && i < t->volume->path_count; i++) {
        uint64_t path = t->volume->paths[i].path;
        code = index_each_piece(t->ground->reader, path, chunk, t->until_ns, see_gap_piece, t, err);
        if (code == 0)
            code = index_each_floor(t->ground->reader, path, t->until_ns, see_gap_floor, t, err);
    }
    if (code == 0)
        code = bar_strangers(t, chunk, err);
    for (uint32_t i = 0; i < t->audit->blocks; i++) {
        if (t->verdicts[i] == GUESS_SAME && block_offset(t, i) / INDEX_CHUNK_BYTES == chunk)
            t->verdicts[i] = PROVEN;
    }
    return code;
}

/* --- what follows --------------------------------------------------------------------------------
 */

static struct piece contradiction(const struct image_run *run, uint64_t start, uint64_t end) {
    return (struct piece){.stamp = run->holder,
                          .part = PIECE_PART_CONTRADICTED | start,
                          .offset_bytes = start,
                          .length_bytes = end - start,
                          .kind = PIECE_GAP,
                          .reason = GAP_CONTRADICTED};
}

static struct piece proof(const struct trial *t, const struct image_run *run, uint64_t start,
                          uint64_t end) {
    static const uint8_t kinds[] = {[RUN_ZERO] = PIECE_ZERO,
                                    [RUN_DATA] = PIECE_DATA,
                                    [RUN_PATTERN] = PIECE_PATTERN,
                                    [RUN_UNKNOWN] = PIECE_ZERO};
    return (struct piece){.stamp = t->audit->stamp,
                          .part = piece_part(start),
                          .issued_ns = t->audit->issued_ns,
                          .offset_bytes = start,
                          .length_bytes = end - start,
                          .whole_offset = run->whole_offset,
                          .extent = run->extent,
                          .payload_crc32c = run->payload_crc32c,
                          .kind = kinds[run->kind]};
}

static void note_mismatch(struct trial *t, uint64_t start, uint64_t end) {
    struct audited_entry *f = t->found;
    f->mismatch_ns = t->audit->stamp.time_ns;
    if (f->mismatch_length > 0 && f->mismatch_offset + f->mismatch_length != start)
        return; /* the first range */
    if (f->mismatch_length == 0)
        f->mismatch_offset = start;
    f->mismatch_length = end - f->mismatch_offset;
}

static int put_range(struct trial *t, const struct image_run *run, enum verdict verdict,
                     uint64_t start, uint64_t end, struct error *err) {
    char when[WHEN_TEXT_BYTES];
    char text[LIMIT_REASON_BYTES];
    struct piece piece =
        verdict == MISMATCH ? contradiction(run, start, end) : proof(t, run, start, end);
    struct index_writer *w = ground_writer(t->ground, err);
    snprintf(text, sizeof text, "a READ at %s returned something else",
             when_print_utc(t->audit->stamp.time_ns, when));
    if (verdict == MISMATCH)
        note_mismatch(t, start, end);
    return w != NULL ? index_put_audited_piece(w, t->audit->path, &piece, text, err) : ERR_NOMEM;
}

/* Blocks of one verdict next to each other, as far as one run goes. */
static int put_run(struct trial *t, const struct image_run *run, uint32_t first, uint32_t end_block,
                   struct error *err) {
    uint64_t run_end = run->offset_bytes + run->length_bytes;
    int code = 0;
    for (uint32_t i = first; code == 0 && i < end_block;) {
        uint8_t verdict = t->verdicts[i];
        uint32_t next = i + 1;
        while (next < end_block && t->verdicts[next] == verdict)
            next++;
        uint64_t start = block_offset(t, i);
        uint64_t end = block_offset(t, next);
        start = start > run->offset_bytes ? start : run->offset_bytes;
        end = end < run_end ? end : run_end;
        if (start < end && (verdict == MISMATCH || verdict == PROVEN))
            code = put_range(t, run, (enum verdict)verdict, start, end, err);
        i = next;
    }
    return code;
}

/* --- all blocks, chunk by chunk ------------------------------------------------------------------
 */

/* The blocks [first, end) lie in one chunk, `bytes` are theirs. */
static int judge_bytes(struct trial *t, const struct image_run *runs, size_t count, uint32_t first,
                       uint32_t end, const uint8_t *bytes, struct error *err) {
    struct rangeset busy;
    bool guessed = false;
    uint64_t start = block_offset(t, first);
    rangeset_init(&busy, BUSY_RANGES);
    int code = ground_in_flight(t->ground, t->volume, start, block_offset(t, end), t->until_ns,
                                &busy, err);
    for (uint32_t i = first; code == 0 && i < end; i++) {
        t->verdicts[i] =
            (uint8_t)verdict_on(t, runs, count, i, bytes + (block_offset(t, i) - start), &busy);
        guessed = guessed || t->verdicts[i] == GUESS_SAME;
    }
    rangeset_release(&busy);
    t->oldest = runs[0].holder;
    for (size_t i = 1; i < count; i++) {
        if (stamp_compare(&runs[i].holder, &t->oldest) < 0)
            t->oldest = runs[i].holder;
    }
    if (code == 0 && guessed)
        code = prove(t, start / INDEX_CHUNK_BYTES, err);
    for (size_t i = 0; code == 0 && i < count; i++)
        code = put_run(t, &runs[i], first, end, err);
    return code;
}

static int judge_part(struct trial *t, uint32_t first, uint32_t end, struct error *err) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    uint64_t start = block_offset(t, first);
    int code = image_range_map(t->image, start, block_offset(t, end) - start, &runs, &count, err);
    if (code == 0)
        code = image_runs_read(t->image, runs, count, start, t->ground->content, err);
    if (code == ERR_FORMAT)
        return 0; /* bytes that do not match their own checksum: nothing can be said */
    return code == 0 ? judge_bytes(t, runs, count, first, end, t->ground->content, err) : code;
}

static int judge_all(struct trial *t, struct error *err) {
    int code = 0;
    for (uint32_t first = 0; code == 0 && first < t->audit->blocks;) {
        uint64_t chunk = block_offset(t, first) / INDEX_CHUNK_BYTES;
        uint32_t end = first;
        while (end < t->audit->blocks &&
               (block_offset(t, end + 1) - 1) / INDEX_CHUNK_BYTES == chunk)
            end++;
        if (end > first)
            code = judge_part(t, first, end, err);
        first = end > first ? end : first + 1; /* one that lies across is left out */
    }
    return code;
}

static void count(struct trial *t) {
    for (uint32_t i = 0; i < t->audit->blocks; i++) {
        t->found->blocks += t->verdicts[i] == SAME || t->verdicts[i] == PROVEN;
        t->found->proven += t->verdicts[i] == PROVEN;
        t->found->skipped += t->verdicts[i] == SKIPPED;
        t->found->mismatches += t->verdicts[i] == MISMATCH;
    }
}

/* --- when ----------------------------------------------------------------------------------------
 */

/*
 * Everything up to the READ must be there, from its own monitor too. What a stream said behind its
 * last promise, when another one has taken over, may have been overtaken by what nobody saw.
 */
static int look_at_stream(struct trial *t, enum outcome *outcome, bool *usable, struct error *err) {
    AUTO_FREE struct stream_entry *stream = malloc(sizeof *stream);
    const struct audit_entry *a = t->audit;
    if (stream == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = index_get_stream(t->ground->reader, a->stamp.monitor, a->stamp.stream, stream, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    bool whole = code == 0 && stream->frontier > a->stamp.order;
    if (t->volume == NULL)
        *outcome = whole ? OUTCOME_ENDED : OUTCOME_NOT_YET;
    else
        *outcome = t->until_ns > t->volume->watermark_ns ? OUTCOME_NOT_YET : OUTCOME_ENDED;
    *usable = t->volume != NULL && whole && stream->frontier_ns >= a->stamp.time_ns &&
              a->issued_ns > 0 && a->issued_ns <= a->stamp.time_ns;
    return 0;
}

static int open_trial(struct trial *t, struct error *err) {
    struct volume large = *t->volume;
    large.size_given = true;
    large.size_bytes = block_offset(t, t->audit->blocks);
    int code = image_open(t->ground->store, &large, t->until_ns, &t->image, err);
    return code == ERR_INEXACT ? 0 : code; /* nothing is known of that time */
}

int judge(struct ground *g, const struct audit_entry *audit, enum outcome *outcome,
          struct audited_entry *found, struct error *err) {
    *found = (struct audited_entry){.path = audit->path, .audits = 1};
    struct trial t = {.ground = g,
                      .audit = audit,
                      .volume = volume_of_path(&g->volumes, audit->path),
                      .found = found};
    uint64_t error_ns = 0;
    bool usable = false;
    bool alone = false;
    int code = 0;
    memset(t.verdicts, SKIPPED, sizeof t.verdicts);
    if (t.volume != NULL)
        code = ground_clock_error(g, t.volume, audit->stamp.monitor, &error_ns, &alone, err);
    t.until_ns = clock_plus(audit->stamp.time_ns, error_ns);
    t.before_ns = clock_minus(audit->issued_ns, error_ns);
    if (code == 0)
        code = look_at_stream(&t, outcome, &usable, err);
    if (code != 0 || *outcome == OUTCOME_NOT_YET)
        return code;
    if (usable)
        code = open_trial(&t, err);
    if (code == 0 && t.image != NULL)
        code = judge_all(&t, err);
    image_close(t.image);
    if (code != 0)
        return code;
    count(&t);
    struct index_writer *w = ground_writer(g, err);
    return w != NULL ? index_end_audit(w, audit, found, err) : ERR_NOMEM;
}
