#include "tap/scsi/internal.h"

#include <stdio.h>
#include <string.h>

/*
 * A session whose login was not seen leads to volumes of which only the address is known. What
 * passes on it is kept under that address, and joined with the rest when somebody finds out who the
 * target is. Until then each of its units may be any other one: what changes here is in doubt
 * there.
 */

enum { MOST_APART = 8 };

void target_set_provisional(struct tracker *t, struct target *target) {
    if (target->provisional)
        return;
    target->provisional = true;
    t->provisional_count++;
}

static bool is_unnamed(const struct path *path) {
    return path->target->provisional && path->sink.same_as == 0;
}

bool alias_may_share(const struct target *a, const struct target *b) {
    return a != b && (a->provisional || b->provisional);
}

/* Two paths of one target with two LUNs are two logical units. */
static bool is_another(const struct path *a, const struct path *b) {
    const struct sink_path *x = &a->sink;
    const struct sink_path *y = &b->sink;
    if (a->target == b->target || (!is_unnamed(a) && !is_unnamed(b)))
        return true;
    if (a->kind == PATH_KIND_OTHER || b->kind == PATH_KIND_OTHER)
        return true;
    if (x->designator[0] != '\0' && y->designator[0] != '\0')
        return true; /* the same one would be one unit */
    if (x->serial[0] != '\0' && y->serial[0] != '\0' && strcmp(x->serial, y->serial) != 0)
        return true;
    return x->size_bytes > 0 && y->size_bytes > 0 && x->size_bytes != y->size_bytes;
}

struct doubt {
    const struct path *path;
    uint64_t first;
    uint64_t end;
    bool past; /* what happened on sessions that have ended counts, too */
    struct gap_cause cause;
};

static bool is_left_out(const struct doubt *d, const struct target *target) {
    return (!is_unnamed(d->path) && !target->provisional) || (target->gone && !d->past);
}

/* Calls `visit`, if there is one, for each path that may be one to the same volume; how many. */
static size_t each_alike(struct tracker *t, struct doubt *d,
                         void (*visit)(struct tracker *t, struct path *other, struct doubt *d)) {
    size_t count = 0;
    struct target *target, *next_target;
    HASH_ITER(hh, t->targets, target, next_target) {
        struct path *other, *next;
        if (is_left_out(d, target))
            continue;
        HASH_ITER(hh, target->paths, other, next) {
            if (!other->announced || other->unit == d->path->unit || is_another(d->path, other))
                continue;
            count++;
            if (visit != NULL)
                visit(t, other, d);
        }
    }
    return count;
}

static void doubt_blocks(struct tracker *t, struct path *other, struct doubt *d) {
    gap_blocks(t, other, d->first, d->end, d->path->sink.block_bytes, &d->cause);
}

static void doubt_all(struct tracker *t, struct path *other, struct doubt *d) {
    gap_path(t, other, &d->cause);
}

static void find_first(struct tracker *t, struct path *other, struct doubt *d) {
    (void)t;
    uint64_t since_ns = other->unit->touched_ns;
    if (since_ns > 0 && (d->cause.time_ns == 0 || since_ns < d->cause.time_ns))
        d->cause.time_ns = since_ns;
}

void alias_end(struct tracker *t, struct target *target, bool lasts, uint64_t time_ns) {
    struct path *path, *next;
    target->gone = true;
    HASH_ITER(hh, target->paths, path, next) {
        if (path->announced && is_unnamed(path) && path->kind != PATH_KIND_OTHER)
            gap_volume(t, path,
                       &(struct gap_cause){.reason = lasts ? GAP_STRANGER : GAP_NAME_LOST,
                                           .text = "the session by which it was known has ended, "
                                                   "and nobody knows which volume it is",
                                           .time_ns = time_ns});
    }
}

void alias_newcomer(struct tracker *t, struct path *path) {
    struct doubt d = {
        .path = path,
        .past = true,
        .cause = {.reason = GAP_STRANGER,
                  .text = "sessions whose login was not seen may have written to it before"},
    };
    if (t->provisional_count == 0)
        return;
    each_alike(t, &d, find_first);
    if (d.cause.time_ns != 0)
        gap_volume(t, path, &d.cause);
}

void alias_doubt(struct tracker *t, struct path *path, uint64_t first, uint64_t end,
                 uint64_t time_ns) {
    if (t->provisional_count == 0)
        return;
    struct doubt d = {
        .path = path,
        .first = first,
        .end = end,
        .cause = {.reason = GAP_STRANGER,
                  .text =
                      "written on a session that may lead to this volume: its login was not seen",
                  .time_ns = time_ns},
    };
    /* Where it could be one of many, what is said must not grow with each of them. */
    bool few = each_alike(t, &d, NULL) <= MOST_APART;
    each_alike(t, &d, few ? doubt_blocks : doubt_all);
}

bool alias_may_be(const struct path *path, const struct unit *unit) {
    return path->unit != unit && !is_another(unit->paths, path);
}

bool alias_is_open(struct tracker *t, const struct unit *unit, uint64_t first, uint64_t end) {
    struct target *target, *next_target;
    if (t->provisional_count == 0)
        return false;
    HASH_ITER(hh, t->targets, target, next_target) {
        struct path *other, *next;
        HASH_ITER(hh, target->paths, other, next) {
            if (alias_may_be(other, unit) && rival_is_open(other->unit, NULL, first, end))
                return true;
        }
    }
    return false;
}

void tracker_nexus_learn(struct nexus *n, const struct identity_unit *unit, uint64_t time_ns) {
    struct path *path = path_of(n, unit->lun);
    if (path != NULL)
        path_take_facts(n->tracker, path, unit, time_ns);
}

void tracker_nexus_name_initiator(struct nexus *n, const char *initiator) {
    snprintf(n->initiator, sizeof n->initiator, "%s", initiator);
}

/* What was learned on the wire under the address is true of the path with the name. */
static void pass_facts(struct tracker *t, const struct path *path, struct path *named,
                       uint64_t time_ns) {
    const struct sink_path *from = &path->sink;
    if (path->kind != PATH_KIND_DISK || named->sink.designator[0] != '\0')
        return;
    struct identity_unit facts = {.is_disk = true,
                                  .ignores_same = path->ignores_same,
                                  .size_bytes = from->size_bytes,
                                  .block_bytes = path->block_guessed ? 0 : from->block_bytes,
                                  .flags = from->flags,
                                  .flags_known = from->flags_known};
    snprintf(facts.designator, sizeof facts.designator, "%s", from->designator);
    snprintf(facts.serial, sizeof facts.serial, "%s", from->serial);
    path_take_facts(t, named, &facts, time_ns);
}

/* What was written under the address belongs to the path with the name. */
static void give_name(struct nexus *n, struct path *path, struct target *target, uint64_t time_ns) {
    struct tracker *t = n->tracker;
    struct path *named = path_at(t, target, path->sink.lun);
    if (named == NULL)
        return;
    path->sink.same_as = named->sink.id;
    path->dirty = true;
    pass_facts(t, path, named, time_ns);
    if (named->kind == PATH_KIND_UNKNOWN) {
        named->kind = path->kind;
        named->ignores_same = path->ignores_same;
    }
    if (named->sink.block_bytes == 0) {
        named->sink.block_bytes = path->sink.block_bytes;
        named->sink.size_bytes = path->sink.size_bytes;
        named->block_guessed = path->block_guessed;
        named->refused = path->refused;
    }
    path_join(t, path, named->unit);
    if (!path->announced)
        return;
    path_announce(t, named, time_ns);
    path_announce(t, path, time_ns);
}

void tracker_nexus_identify(struct nexus *n, const char *name, uint64_t time_ns) {
    struct target *from = n->target;
    struct target *target = target_of(n->tracker, from->protocol, name);
    if (target == NULL || target == from)
        return;
    struct path *path, *next;
    HASH_ITER(hh, from->paths, path, next) {
        if (from->provisional)
            give_name(n, path, target, time_ns);
    }
    sample_end(n->tracker, from);
    if (from->provisional)
        n->tracker->provisional_count--;
    from->provisional = false; /* other sessions under this address are identified by themselves */
    target->nexus_count++;
    n->target = target;
    target_leave(n->tracker, from);
    n->last_path = NULL;
}

/* Facts that are known of both must agree. */
static bool may_be_unit(const struct path *path, const struct identity_unit *unit) {
    const struct sink_path *p = &path->sink;
    if (unit == NULL)
        return false;
    if (p->designator[0] != '\0' && strcmp(p->designator, unit->designator) != 0)
        return false;
    if (p->serial[0] != '\0' && strcmp(p->serial, unit->serial) != 0)
        return false;
    return p->block_bytes == 0 || unit->block_bytes == 0 || p->block_bytes == unit->block_bytes;
}

bool tracker_nexus_may_be(const struct nexus *n, const struct identity_target *target) {
    struct path *path, *next;
    HASH_ITER(hh, n->target->paths, path, next) {
        const struct identity_unit *unit = identity_unit_at(target, path->sink.lun);
        if (!path->announced || (unit == NULL && !target->whole))
            continue;
        if (!may_be_unit(path, unit))
            return false;
    }
    return true;
}

static bool has_told(const struct path *path) {
    return path->sink.designator[0] != '\0' || path->sink.serial[0] != '\0';
}

static bool is_unit(const struct path *path, const struct identity_unit *unit) {
    const struct sink_path *p = &path->sink;
    return unit != NULL &&
           ((p->designator[0] != '\0' && strcmp(p->designator, unit->designator) == 0) ||
            (p->serial[0] != '\0' && strcmp(p->serial, unit->serial) == 0));
}

bool tracker_nexus_is(const struct nexus *n, const struct identity_target *target) {
    struct path *path, *next;
    HASH_ITER(hh, n->target->paths, path, next) {
        if (has_told(path) && is_unit(path, identity_unit_at(target, path->sink.lun)))
            return tracker_nexus_may_be(n, target);
    }
    return false;
}
