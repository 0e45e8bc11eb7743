#include "tap/scsi/internal.h"

/* EXTENDED COPY: what a device copies by itself becomes copies of what is known of the source. */

enum { MOST_SEGMENTS = 256 };

/* A segment, and what it means for units that are known. */
struct step {
    struct copy_segment segment;
    const struct unit *unit;   /* of the destination; NULL: not known */
    const struct unit *source; /* likewise */
    struct path *path;         /* of the destination, with a block length */
    struct path *source_path;  /* likewise */
    uint64_t blocks;           /* of the destination */
    uint64_t source_blocks;
    bool whole; /* it copies whole blocks of known length to where they can exist */
};

struct plan {
    struct step *steps; /* owned */
    size_t count;
    uint64_t blocks; /* of all steps */
    bool immediate;
};

static void plan_release(struct plan *plan) {
    free(plan->steps);
}

static uint64_t bytes_of(const struct step *step) {
    const struct copy_segment *segment = &step->segment;
    if (segment->units_are_bytes)
        return segment->units;
    return segment->units * (segment->units_of_source ? step->source_path->sink.block_bytes
                                                      : step->path->sink.block_bytes);
}

static bool agrees(const struct path *path, uint32_t said_block) {
    return path != NULL && (said_block == 0 || said_block == path->sink.block_bytes);
}

static void resolve(const struct ending *e, struct step *step) {
    const struct copy_segment *segment = &step->segment;
    step->unit = unit_named(e->t, segment->destination);
    step->source = segment->source[0] != '\0' ? unit_named(e->t, segment->source) : NULL;
    if (step->unit == NULL || step->source == NULL)
        return;
    step->path = unit_path(step->unit, e->x->path);
    step->source_path = unit_path(step->source, e->x->path);
    if (!agrees(step->path, segment->destination_block) ||
        !agrees(step->source_path, segment->source_block))
        return;
    uint64_t bytes = bytes_of(step);
    uint32_t block = step->path->sink.block_bytes;
    uint32_t source_block = step->source_path->sink.block_bytes;
    step->blocks = bytes / block;
    step->source_blocks = bytes / source_block;
    step->whole = bytes % block == 0 && bytes % source_block == 0 && segment->skip == 0 &&
                  segment->source_skip == 0 &&
                  change_range_fits(segment->lba, step->blocks, block) &&
                  change_range_fits(segment->source_lba, step->source_blocks, source_block);
}

/* False: its list did not come, or something in it is not understood, and may write anywhere. */
static bool plan_make(const struct ending *e, struct plan *plan) {
    size_t bytes = 0;
    struct copy_list list;
    AUTO_FREE uint8_t *data = exchange_parameters(e->x, &bytes);
    plan->steps = calloc(MOST_SEGMENTS, sizeof *plan->steps);
    if (plan->steps == NULL || data == NULL || e->residual_bytes > 0 ||
        !copy_list_parse(data, bytes, e->x->command.long_form, &list))
        return false;
    plan->immediate = list.immediate;
    while (plan->count < MOST_SEGMENTS) {
        struct step *step = &plan->steps[plan->count];
        enum copy_step kind = copy_list_next(&list, &step->segment);
        if (kind == COPY_END)
            return true;
        if (kind == COPY_OPAQUE)
            return false;
        resolve(e, step);
        if (step->unit == NULL)
            return false;
        plan->blocks += step->blocks;
        plan->count++;
    }
    return false;
}

static bool overlap(uint64_t a, uint64_t a_blocks, uint64_t b, uint64_t b_blocks) {
    return a < b + b_blocks && b < a + a_blocks;
}

/*
 * Segments are done one after the other. What one reads and another of the same list writes has no
 * time between them; and of a segment that reads where it writes, not even the order is known.
 */
static bool is_chained(const struct plan *plan, const struct step *step) {
    for (size_t i = 0; i < plan->count; i++) {
        const struct step *other = &plan->steps[i];
        if (other->unit != step->source)
            continue;
        if (!other->whole || overlap(step->segment.source_lba, step->source_blocks,
                                     other->segment.lba, other->blocks))
            return true;
    }
    return false;
}

static const char *why_unknown(const struct ending *e, const struct plan *plan,
                               const struct step *step, bool left_over) {
    if (plan->immediate)
        return "copies in the background, and nobody sees when";
    if (step->source == NULL)
        return "wrote content of a volume that was not seen";
    if (!step->whole || left_over)
        return "copied parts of blocks, or between blocks whose length is not known";
    if (plan->blocks > CHANGE_MOST_COPIED_BYTES / step->path->sink.block_bytes)
        return "copied more than can be followed";
    if (is_chained(plan, step))
        return "copied what the same command wrote";
    if (rival_in_flight(e->t, step->source, e->x, step->segment.source_lba,
                        step->segment.source_lba + step->source_blocks))
        return "copied blocks that were being written at the same time";
    return NULL;
}

static void take_step(const struct ending *e, const struct plan *plan, const struct step *step,
                      bool left_over, uint64_t until) {
    const char *why = why_unknown(e, plan, step, left_over);
    if (why != NULL) {
        region_segment(e, GAP_UNKNOWN_CONTENT, why, &step->segment, step->unit);
        return;
    }
    if (step->blocks == 0)
        return;
    struct change_source source = {.path = step->source_path,
                                   .lba = step->segment.source_lba,
                                   .from_ns = e->x->issued_ns,
                                   .until_ns = e->time_ns};
    change_copy(e, step->path, step->segment.lba, step->blocks, &source, until);
}

void copy_apply(const struct ending *e) {
    __attribute__((cleanup(plan_release))) struct plan plan = {0};
    if (!plan_make(e, &plan)) {
        region_gap(e, GAP_UNKNOWN_CONTENT, "wrote content that is not on the wire");
        return;
    }
    uint64_t until = e->t->recent_count;
    bool left_over = false; /* with CAT, a part of a block goes in front of the next segment */
    for (size_t i = 0; i < plan.count; i++) {
        take_step(e, &plan, &plan.steps[i], left_over, until);
        left_over = left_over || !plan.steps[i].whole;
    }
}

bool copy_touches(const struct exchange *x, const struct unit *unit, uint64_t first, uint64_t end) {
    size_t bytes = 0;
    struct copy_list list;
    struct copy_segment segment;
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    if (data == NULL || !copy_list_parse(data, bytes, x->command.long_form, &list))
        return true;
    for (;;) {
        enum copy_step step = copy_list_next(&list, &segment);
        if (step == COPY_END)
            return false;
        const struct unit *other =
            step == COPY_SEGMENT ? unit_named(x->nexus->tracker, segment.destination) : NULL;
        if (other == NULL)
            return true;
        /* A block may be smaller than a byte count suggests: never larger than its bytes. */
        uint64_t most = segment.units_are_bytes ? segment.units : segment.units * UINT64_C(128);
        if (other == unit && segment.lba < end &&
            (most >= UINT64_MAX - segment.lba || first < segment.lba + most + 2))
            return true;
    }
}
