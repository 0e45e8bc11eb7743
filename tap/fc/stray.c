#include "tap/fc/internal.h"

#include <utlist.h>

/*
 * A frame of an exchange that is not open is a copy that a mirror made, or comes before its command
 * because the other direction is later, or its command was lost. Which it is shows when time goes
 * on: then every logical unit that the command may have written to is in doubt.
 */

void stray_clear(struct slot *s) {
    struct seen *seen, *next;
    if (s->strays.first_ns == 0)
        return;
    DL_FOREACH_SAFE(s->strays.early, seen, next) {
        seen_free(seen);
    }
    s->strays = (struct strays){0};
    DL_DELETE2(s->nexus->fc->stray, s, stray_prev, stray_next);
}

static bool is_from_target(const struct frame *f) {
    return (f->f_ctl & F_CTL_RESPONDER) != 0;
}

/* Ends a sequence whose exchange ended before it: the device did not wait for all of it. */
static bool is_leftover(const struct slot *s, const struct frame *f) {
    const struct epitaph *e = &s->epitaph;
    bool same = e->rx_id == FC_ID_UNASSIGNED || e->rx_id == f->rx_id;
    if (e->time_ns == 0 || !same)
        return false;
    if (e->aborted || f->r_ctl == R_CTL_CONFIRM)
        return true;
    return f->r_ctl == R_CTL_DATA && !is_from_target(f) && e->cut_short && f->seq_id == e->seq_id &&
           f->seq_cnt > e->seq_cnt;
}

/* After REC and SRR the response is sent again (FCP-4, 12.4). */
static bool is_recovered(struct slot *s, const struct frame *f) {
    bool sent_again = s->recovering || (f->f_ctl & F_CTL_RETRANSMITTED) != 0;
    if (!sent_again || f->r_ctl != R_CTL_RESPONSE || s->epitaph.time_ns == 0 ||
        s->epitaph.rx_id != f->rx_id)
        return false;
    s->recovering = false;
    return true;
}

void stray_note(struct slot *s, const struct seen *seen, uint64_t since_ns) {
    struct strays *strays = &s->strays;
    const struct frame *f = &seen->frame;
    struct fc *fc = s->nexus->fc;
    if (strays->first_ns == 0) {
        strays->first_ns = since_ns;
        DL_APPEND2(fc->stray, s, stray_prev, stray_next);
    }
    if (seen->time_ns > strays->last_ns)
        strays->last_ns = seen->time_ns;
    bool from_target = is_from_target(f);
    strays->in |= f->r_ctl == R_CTL_DATA && from_target;
    strays->written |= f->r_ctl == R_CTL_DATA && !from_target;
    strays->out |= f->r_ctl == R_CTL_READY || (f->r_ctl == R_CTL_DATA && !from_target);
    strays->answered |= f->r_ctl == R_CTL_RESPONSE;
    strays->fresh |= !seen->again;
    fc->counters.unknown_exchange++;
}

void stray_add(struct slot *s, struct seen *seen) {
    const struct frame *f = &seen->frame;
    if (is_leftover(s, f) || is_recovered(s, f)) {
        seen_free(seen);
        return;
    }
    stray_note(s, seen, seen->time_ns);
    bool may_be_early = f->r_ctl == R_CTL_READY || f->r_ctl == R_CTL_RESPONSE;
    if (!may_be_early || s->strays.early_count >= MAX_EARLY) {
        seen_free(seen);
        return;
    }
    seen = seen_keep(seen);
    if (seen == NULL)
        return;
    DL_APPEND(s->strays.early, seen);
    s->strays.early_count++;
}

void stray_lost_command(struct fc_nexus *n, uint64_t time_ns) {
    n->fc->counters.lost_commands++;
    tracker_nexus_gap(n->nexus, GAP_STREAM_HOLE,
                      "frames of a command that itself never passed the monitor", time_ns);
}

struct seen *stray_take_early(struct slot *s) {
    struct seen *early;
    bool reads = s->strays.in && !s->strays.out;
    if (reads) /* another command's, of which nothing matters */
        stray_clear(s);
    early = s->strays.early;
    s->strays.early = NULL;
    s->strays.early_count = 0;
    /* Data to the device comes the way of the command, and cannot be ahead of it. */
    if (early != NULL && !s->strays.written)
        stray_clear(s);
    return early;
}

/* The end of an exchange can be all that is left of it; its middle alone is most likely a copy. */
static void count_copies(struct slot *s) {
    struct strays *strays = &s->strays;
    struct fc *f = s->nexus->fc;
    if (strays->fresh || strays->answered || strays->counted ||
        f->clock_ns < strays->last_ns + SKEW_NS)
        return;
    strays->counted = true;
    fc_copy_proven(f, strays->last_ns);
}

static void judge(struct slot *s, bool all) {
    struct strays *strays = &s->strays;
    struct fc *f = s->nexus->fc;
    count_copies(s);
    bool copies = !strays->fresh && fc_makes_copies(f, strays->last_ns);
    uint64_t patience_ns = strays->fresh || copies ? SKEW_NS : PATIENCE_NS;
    if (!all && f->clock_ns < strays->first_ns + patience_ns)
        return;
    bool reads = strays->in && !strays->out;
    struct fc_nexus *n = s->nexus;
    uint64_t first_ns = strays->first_ns;
    uint64_t last_ns = strays->last_ns;
    stray_clear(s);
    if (copies || reads)
        return;
    stray_lost_command(n, first_ns - 1);
    if (last_ns > first_ns)
        stray_lost_command(n, last_ns);
}

void stray_judge(struct fc *f, bool all) {
    struct slot *s, *next;
    DL_FOREACH_SAFE2(f->stray, s, next, stray_next) {
        judge(s, all);
    }
}
