#include "tap/scsi/internal.h"

#include "common/clock.h"

#include <stdio.h>

/* How long a gap over a whole path is not repeated when nothing changed on it. Other monitors may
 * have written to the same volume meanwhile. */
#define REPEAT_NS NS_PER_SECOND

static void emit_at(struct tracker *t, struct path *path, uint64_t offset, uint64_t length,
                    const struct gap_cause *cause, uint64_t time_ns) {
    path_announce(t, path, time_ns);
    unit_touch(path->unit, time_ns);
    t->counters.gaps++;
    t->sink->gap(t->sink, &(struct sink_gap){.path = &path->sink,
                                             .time_ns = time_ns,
                                             .issued_ns = cause->issued_ns,
                                             .offset_bytes = offset,
                                             .length_bytes = length,
                                             .reason = cause->reason,
                                             .text = cause->text,
                                             .initiator = cause->initiator});
}

void gap_volume(struct tracker *t, struct path *path, const struct gap_cause *cause) {
    emit_at(t, path, 0, GAP_TO_END, cause, cause->time_ns);
    path->whole_gap = true;
    path->whole_gap_hearsay = gap_is_hearsay(cause->reason);
    path->whole_gap_changes = path->unit->changes;
    path->whole_gap_ns = cause->time_ns;
}

void gap_blocks(struct tracker *t, struct path *path, uint64_t first, uint64_t end,
                uint32_t block_bytes, const struct gap_cause *cause) {
    if (first >= end)
        return;
    uint64_t most = block_bytes > 0 ? (uint64_t)INT64_MAX / block_bytes : 0;
    if (first >= most) {
        gap_volume(t, path, cause); /* no device has such an address: believe nothing of it */
        return;
    }
    uint64_t offset = first * block_bytes;
    uint64_t length = end <= most ? (end - first) * block_bytes : GAP_TO_END;
    emit_at(t, path, offset, length, cause, cause->time_ns);
    if (cause->later_ns > cause->time_ns)
        emit_at(t, path, offset, length, cause, cause->later_ns);
}

/* Would it say something new? What happened on the path itself concerns more volumes than what
 * happened on others. */
static bool is_stale(const struct path *path, uint16_t reason, uint64_t time_ns) {
    return !path->whole_gap || path->whole_gap_changes != path->unit->changes ||
           (path->whole_gap_hearsay && !gap_is_hearsay(reason)) || time_ns < path->whole_gap_ns ||
           time_ns >= path->whole_gap_ns + REPEAT_NS;
}

static void hush(struct path *path, const struct gap_cause *cause) {
    if (cause->time_ns <= path->hushed_ns)
        return;
    path->hushed_ns = cause->time_ns;
    path->hushed_reason = cause->reason;
}

void gap_path(struct tracker *t, struct path *path, const struct gap_cause *cause) {
    if (is_stale(path, cause->reason, cause->time_ns))
        gap_volume(t, path, cause);
    else
        hush(path, cause);
}

static void gap_target(struct tracker *t, struct target *target, const struct gap_cause *cause) {
    struct path *path, *next;
    HASH_ITER(hh, target->paths, path, next) {
        /* An address where no disk is has no content; one that was only asked who it is may be one.
         */
        if (path->kind == PATH_KIND_OTHER)
            continue;
        rival_note_all(t, path->unit, cause->time_ns);
        gap_path(t, path, cause);
    }
}

void gap_hushed(struct tracker *t, struct path *path, uint64_t lba, uint64_t blocks,
                uint64_t time_ns) {
    const struct path *newest = NULL;
    for (const struct path *p = path->unit->paths; p != NULL; p = p->unit_next) {
        if (p->hushed_reason != 0 && p->hushed_ns >= time_ns &&
            (newest == NULL || p->hushed_ns > newest->hushed_ns))
            newest = p;
    }
    struct gap_cause cause = {
        .reason = t->all_hushed_reason,
        .text = "written before data passed on a session that cannot be read",
        .time_ns = t->all_hushed_ns >= time_ns ? t->all_hushed_ns : 0,
    };
    if (newest != NULL && newest->hushed_ns > cause.time_ns) {
        cause.reason = newest->hushed_reason;
        cause.time_ns = newest->hushed_ns;
    }
    if (cause.reason != 0 && cause.time_ns > 0)
        gap_blocks(t, path, lba, lba + blocks, path->sink.block_bytes, &cause);
}

static void go_blind(struct blindness *blind, uint16_t reason, const char *text, uint64_t time_ns) {
    bool first_of_its_own = gap_is_hearsay(blind->reason) && !gap_is_hearsay(reason);
    if (blind->reason != 0 && !first_of_its_own) {
        if (time_ns < blind->since_ns)
            blind->since_ns = time_ns;
        return;
    }
    blind->reason = reason;
    blind->since_ns = time_ns;
    snprintf(blind->text, sizeof blind->text, "before this path was seen: %s", text);
}

void tracker_nexus_gap(struct nexus *n, uint16_t reason, const char *text, uint64_t time_ns) {
    struct gap_cause cause = {
        .reason = reason, .text = text, .time_ns = time_ns, .initiator = n->initiator};
    struct target *target, *next;
    HASH_ITER(hh, n->tracker->targets, target, next) {
        if (target != n->target && !alias_may_share(target, n->target))
            continue;
        cause.reason = target == n->target ? reason : GAP_STRANGER;
        gap_target(n->tracker, target, &cause);
        go_blind(&target->blind, cause.reason, text, time_ns);
    }
}

void tracker_unit_gap(struct nexus *n, uint64_t lun, uint16_t reason, const char *text,
                      uint64_t time_ns) {
    struct path *path = path_of(n, lun);
    if (path == NULL) {
        tracker_nexus_gap(n, reason, text, time_ns);
        return;
    }
    if (path->kind == PATH_KIND_OTHER)
        return;
    rival_note_all(n->tracker, path->unit, time_ns);
    gap_volume(n->tracker, path,
               &(struct gap_cause){
                   .reason = reason, .text = text, .time_ns = time_ns, .initiator = n->initiator});
    alias_doubt(n->tracker, path, 0, UINT64_MAX, time_ns);
}

void gap_everywhere(struct tracker *t, const struct gap_cause *cause) {
    struct target *target, *next;
    HASH_ITER(hh, t->targets, target, next) {
        gap_target(t, target, cause);
    }
}

/* Nothing changed since the last one: all that it would say is said. */
static bool is_said_everywhere(struct tracker *t, uint16_t reason, uint64_t time_ns) {
    bool said = t->all_gap_ns > 0 && t->all_gap_changes == t->changes && time_ns >= t->all_gap_ns &&
                time_ns < t->all_gap_ns + REPEAT_NS;
    if (said && time_ns > t->all_hushed_ns) {
        t->all_hushed_ns = time_ns;
        t->all_hushed_reason = reason;
    }
    return said;
}

void tracker_gap(struct tracker *t, uint16_t reason, const char *text, uint64_t time_ns) {
    struct gap_cause cause = {.reason = reason, .text = text, .time_ns = time_ns};
    if (is_said_everywhere(t, reason, time_ns))
        return;
    gap_everywhere(t, &cause);
    t->all_gap_ns = time_ns;
    t->all_gap_changes = t->changes;
    go_blind(&t->blind, reason, text, time_ns);
}

static void see_earlier(const struct blindness *seen, const struct blindness **earliest) {
    if (seen->reason != 0 && (*earliest == NULL || seen->since_ns < (*earliest)->since_ns))
        *earliest = seen;
}

static void gap_blind(struct tracker *t, struct path *path, const struct blindness *blind,
                      uint16_t reason, uint64_t time_ns) {
    path_announce(t, path, time_ns);
    gap_volume(
        t, path,
        &(struct gap_cause){.reason = reason, .text = blind->text, .time_ns = blind->since_ns});
}

void gap_newcomer(struct tracker *t, struct path *path, uint64_t time_ns) {
    const struct blindness *own = NULL;
    if (!gap_is_hearsay(path->target->blind.reason))
        see_earlier(&path->target->blind, &own);
    see_earlier(&t->blind, &own);
    const struct blindness *earliest = own;
    see_earlier(&path->target->blind, &earliest);
    for (const struct target *other = t->targets; other != NULL && t->provisional_count > 0;
         other = other->hh.next) {
        if (alias_may_share(path->target, other))
            see_earlier(&other->blind, &earliest);
    }
    if (earliest != own)
        gap_blind(t, path, earliest, GAP_STRANGER, time_ns);
    if (own != NULL)
        gap_blind(t, path, own, own->reason, time_ns);
}
