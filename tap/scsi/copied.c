#include "tap/scsi/internal.h"

#include <stdlib.h>

/*
 * Copies that were told lately. A copy is believed because nothing was in flight on its source; a
 * command that comes late, when something before it was missing, may have been all the same.
 */

enum { RECENT_COPIES = 1024 };

struct copied {
    const struct path *source;
    uint64_t source_first;
    uint64_t source_end;
    uint64_t until_ns;  /* when the source had been read */
    uint64_t newest_ns; /* of it and all before it, the greatest until_ns */
    struct path *to;
    uint64_t first;
    uint64_t end;
    uint64_t time_ns;
    uint64_t issued_ns;
};

struct copies_told {
    struct copied list[RECENT_COPIES]; /* a ring */
    uint64_t count;                    /* so many were noted */
};

void copied_forget(struct tracker *t) {
    free(t->told);
    t->told = NULL;
}

static void doubt(struct tracker *t, const struct copied *copied) {
    static const char text[] = "a copy of blocks that were being written at the same time";
    struct gap_cause cause = {.reason = GAP_OVERLAP,
                              .text = text,
                              .time_ns = copied->time_ns,
                              .issued_ns = copied->issued_ns};
    t->counters.overlaps++;
    gap_blocks(t, copied->to, copied->first, copied->end, copied->to->sink.block_bytes, &cause);
    alias_doubt(t, copied->to, copied->first, copied->end, copied->time_ns);
}

static bool touches(const struct exchange *x, const struct unit *unit, uint64_t first,
                    uint64_t end) {
    if (x->command.kind == COMMAND_EXTENDED_COPY)
        return copy_touches(x, unit, first, end);
    struct range range = rival_range(x);
    return range.start < end && first < range.end &&
           (x->path->unit == unit || alias_may_be(x->path, unit));
}

/* Is a command in flight on the source that was so when it was read? */
static bool was_in_flux(const struct ending *e, const struct change_source *source,
                        uint64_t source_end) {
    for (const struct exchange *x = e->t->oldest; x != NULL; x = x->next) {
        if (x != e->x && x->issued_ns <= source->until_ns && command_changes_media(&x->command) &&
            touches(x, source->path->unit, source->lba, source_end))
            return true;
    }
    return false;
}

void copied_note(const struct ending *e, struct path *path, uint64_t lba, uint64_t blocks,
                 const struct change_source *source) {
    struct tracker *t = e->t;
    uint64_t bytes = blocks * path->sink.block_bytes;
    uint32_t block = source->path->sink.block_bytes;
    struct copied copied = {.source = source->path,
                            .source_first = source->lba,
                            .source_end = source->lba + (bytes + block - 1) / block,
                            .until_ns = source->until_ns,
                            .to = path,
                            .first = lba,
                            .end = lba + blocks,
                            .time_ns = e->time_ns,
                            .issued_ns = e->x->issued_ns};
    if (t->told == NULL)
        t->told = calloc(1, sizeof *t->told);
    /* A token is of an earlier time, and nothing was in flight then that was known. */
    if (t->told == NULL ||
        (source->until_ns < e->time_ns && was_in_flux(e, source, copied.source_end))) {
        doubt(t, &copied);
        return;
    }
    struct copies_told *told = t->told;
    copied.newest_ns = copied.until_ns;
    if (told->count > 0 &&
        told->list[(told->count - 1) % RECENT_COPIES].newest_ns > copied.until_ns)
        copied.newest_ns = told->list[(told->count - 1) % RECENT_COPIES].newest_ns;
    told->list[told->count++ % RECENT_COPIES] = copied;
}

void copied_open(struct exchange *x) {
    struct tracker *t = x->nexus->tracker;
    const struct copies_told *told = t->told;
    if (told == NULL || !command_changes_media(&x->command))
        return;
    uint64_t oldest = told->count > RECENT_COPIES ? told->count - RECENT_COPIES : 0;
    uint64_t i = told->count;
    for (; i > oldest; i--) {
        const struct copied *copied = &told->list[(i - 1) % RECENT_COPIES];
        if (copied->newest_ns < x->issued_ns)
            return;
        if (copied->until_ns >= x->issued_ns &&
            touches(x, copied->source->unit, copied->source_first, copied->source_end))
            doubt(t, copied);
    }
    if (oldest > 0)
        gap_everywhere(t, &(struct gap_cause){
                              .reason = GAP_OVERFLOW,
                              .text = "more copies than the monitor remembers, when a command came "
                                      "that may have written what they read",
                              .time_ns = t->newest_ns});
}
