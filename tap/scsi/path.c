#include "tap/scsi/internal.h"

#include <stdio.h>
#include <utlist.h>

static void copy_name(char *to, size_t size, const char *from) {
    snprintf(to, size, "%s", from);
}

struct target *target_of(struct tracker *t, uint8_t protocol, const char *name) {
    struct target *target = NULL;
    HASH_FIND_STR(t->targets, name, target);
    if (target != NULL || HASH_COUNT(t->targets) >= t->limits.paths)
        return target;
    target = calloc(1, sizeof *target);
    if (target == NULL)
        return NULL;
    copy_name(target->name, sizeof target->name, name);
    target->protocol = protocol;
    HASH_ADD_STR(t->targets, name, target);
    if (target->hh.tbl == NULL) {
        free(target);
        return NULL;
    }
    return target;
}

static void unit_free(struct tracker *t, struct unit *unit) {
    if (unit->designator[0] != '\0')
        HASH_DEL(t->units, unit);
    free(unit->open);
    free(unit);
}

static struct unit *unit_create(struct tracker *t, const char *designator) {
    struct unit *unit = calloc(1, sizeof *unit);
    if (unit == NULL)
        return NULL;
    copy_name(unit->designator, sizeof unit->designator, designator);
    if (designator[0] == '\0')
        return unit;
    HASH_ADD_STR(t->units, designator, unit);
    if (unit->hh.tbl != NULL)
        return unit;
    free(unit);
    return NULL;
}

struct unit *unit_named(struct tracker *t, const char *designator) {
    struct unit *unit = NULL;
    HASH_FIND_STR(t->units, designator, unit);
    return unit;
}

struct path *unit_path(const struct unit *unit, const struct path *preferred) {
    struct path *found = NULL;
    for (struct path *path = unit->paths; path != NULL; path = path->unit_next) {
        if (path->sink.block_bytes == 0 || path->block_stale || path->refused)
            continue;
        if (path == preferred)
            return path;
        if (found == NULL || (path->announced && !found->announced))
            found = path;
    }
    return found;
}

struct block_range path_physical(const struct path *path, uint64_t lba) {
    enum { MOST = 1 << 15 }; /* the exponent has four bits */
    if (!path->physical_known) {
        uint64_t first = lba > MOST - 1 ? lba - (MOST - 1) : 0;
        return (struct block_range){first, lba - first + MOST};
    }
    uint64_t blocks = UINT64_C(1) << path->physical_exponent;
    uint64_t into = (lba + blocks - path->physical_aligned % blocks) % blocks;
    uint64_t first = lba > into ? lba - into : 0;
    return (struct block_range){first, lba - first + (blocks - into)};
}

static void unit_leave(struct tracker *t, struct path *path) {
    struct unit *unit = path->unit;
    DL_DELETE2(unit->paths, path, unit_prev, unit_next);
    if (unit->paths == NULL)
        unit_free(t, unit);
}

void targets_free(struct tracker *t) {
    struct target *target, *next_target;
    HASH_ITER(hh, t->targets, target, next_target) {
        struct path *path, *next_path;
        HASH_ITER(hh, target->paths, path, next_path) {
            HASH_DEL(target->paths, path);
            unit_leave(t, path);
            free(path);
        }
        HASH_DEL(t->targets, target);
        sample_end(t, target);
        free(target);
    }
}

void target_leave(struct tracker *t, struct target *target) {
    if (--target->nexus_count > 0 || target->paths != NULL || target->blind.reason != 0)
        return;
    t->provisional_count -= target->provisional;
    HASH_DEL(t->targets, target);
    free(target);
}

static struct path *path_create(struct tracker *t, struct target *target, uint64_t lun) {
    struct path *path = calloc(1, sizeof *path);
    if (path == NULL)
        return NULL;
    path->sink.lun = lun;
    path->sink.protocol = target->protocol;
    path->sink.id = record_path_id(target->protocol, target->name, strlen(target->name), lun);
    copy_name(path->sink.target, sizeof path->sink.target, target->name);
    path->target = target;
    path->sink.provisional = target->provisional;
    path->unit = unit_create(t, "");
    if (path->unit == NULL) {
        free(path);
        return NULL;
    }
    DL_APPEND2(path->unit->paths, path, unit_prev, unit_next);
    HASH_ADD(hh, target->paths, sink.lun, sizeof path->sink.lun, path);
    if (path->hh.tbl == NULL) {
        unit_leave(t, path);
        free(path);
        return NULL;
    }
    t->path_count++;
    return path;
}

struct path *path_at(struct tracker *t, struct target *target, uint64_t lun) {
    struct path *path = NULL;
    HASH_FIND(hh, target->paths, &lun, sizeof lun, path);
    if (path == NULL && t->path_count < t->limits.paths)
        path = path_create(t, target, lun);
    return path;
}

struct path *path_of(struct nexus *n, uint64_t lun) {
    if (n->last_path != NULL && n->last_path->sink.lun == lun)
        return n->last_path;
    struct path *path = path_at(n->tracker, n->target, lun);
    if (path != NULL)
        n->last_path = path;
    return path;
}

void path_announce(struct tracker *t, struct path *path, uint64_t time_ns) {
    if (path->announced && !path->dirty)
        return;
    bool newcomer = !path->announced;
    t->changes += newcomer;
    path->announced = true;
    path->dirty = false;
    t->sink->path(t->sink, &path->sink, time_ns);
    if (newcomer)
        gap_newcomer(t, path, time_ns);
    if (newcomer)
        alias_newcomer(t, path);
}

enum unmapped_content path_unmapped(const struct path *path) {
    /* Both say the same thing when both are heard; a pattern is known to the page alone. */
    if (path->unmapped_by_page == UNMAPPED_UNKNOWN)
        return path->unmapped_by_capacity;
    if (path->unmapped_by_page == UNMAPPED_ZEROS &&
        path->unmapped_by_capacity == UNMAPPED_UNDEFINED)
        return UNMAPPED_UNDEFINED;
    return path->unmapped_by_page;
}

static void set_text(struct path *path, char *field, const char *text) {
    if (strcmp(field, text) == 0)
        return;
    copy_name(field, DEVICE_NAME_BYTES, text);
    path->dirty = true;
}

void path_join(struct tracker *t, struct path *path, struct unit *unit) {
    if (path->unit == unit)
        return;
    rival_move(path->unit, unit, path);
    unit_leave(t, path);
    path->unit = unit;
    path->whole_gap = false;
    DL_APPEND2(unit->paths, path, unit_prev, unit_next);
}

/* Which of both its last writes went to is not known. */
static void doubt_identity(struct tracker *t, struct unit *unit, uint64_t time_ns) {
    for (struct path *path = unit->paths; path != NULL; path = path->unit_next) {
        if (path->announced)
            gap_volume(t, path,
                       &(struct gap_cause){.reason = GAP_UNKNOWN_CONTENT,
                                           .text = "a path leads to another volume than before",
                                           .time_ns = time_ns});
    }
}

/* From now on the path is one to the unit of that name. */
static void set_designator(struct tracker *t, struct path *path, const char *designator,
                           uint64_t time_ns) {
    if (strcmp(path->sink.designator, designator) == 0)
        return;
    bool renamed = path->sink.designator[0] != '\0';
    if (renamed)
        doubt_identity(t, path->unit, time_ns);
    struct unit *to = designator[0] != '\0' ? unit_named(t, designator) : NULL;
    if (to == NULL)
        to = unit_create(t, designator);
    if (to == NULL)
        return;
    set_text(path, path->sink.designator, designator);
    path_join(t, path, to);
    if (renamed)
        doubt_identity(t, to, time_ns);
}

static void learn_limits(struct path *path, const uint8_t *data, size_t bytes) {
    struct device_limits limits;
    if (!device_limits(data, bytes, &limits))
        return;
    path->unmap_granularity = limits.unmap_granularity;
    path->unmap_alignment = limits.unmap_alignment;
}

static void learn_page(struct exchange *x, uint64_t time_ns) {
    struct path *path = x->path;
    const uint8_t *data = x->answer;
    size_t bytes = x->answer_bytes;
    uint8_t page = x->command.page;
    char text[DEVICE_NAME_BYTES];
    if (page == PAGE_SERIAL && device_serial(data, bytes, text))
        set_text(path, path->sink.serial, text);
    else if (page == PAGE_IDENTIFICATION && device_identification(data, bytes, text))
        set_designator(x->nexus->tracker, path, text, time_ns);
    else if (page == PAGE_LIMITS)
        learn_limits(path, data, bytes);
    else if (page == PAGE_PROVISIONING)
        device_provisioning(data, bytes, &path->unmapped_by_page);
}

static void learn_inquiry(struct path *path, const uint8_t *data, size_t bytes) {
    struct standard_inquiry inquiry;
    if (!device_standard_inquiry(data, bytes, &inquiry))
        return;
    path->kind = inquiry.is_disk ? PATH_KIND_DISK : PATH_KIND_OTHER;
    path->ignores_same = inquiry.ignores_same;
    path->removable = inquiry.removable;
}

static void set_size(struct path *path, uint64_t size_bytes, uint32_t block_bytes) {
    struct sink_path *sink = &path->sink;
    if (sink->size_bytes != size_bytes || sink->block_bytes != block_bytes)
        path->dirty = true;
    sink->size_bytes = size_bytes;
    sink->block_bytes = block_bytes;
    path->block_guessed = false;
    path->block_stale = false;
    path->size_stale = false;
    path->refused = !attention_supports(block_bytes);
    path->refusal_said = path->refused && path->refusal_said;
}

static uint16_t flags_of(const struct capacity *capacity) {
    unsigned flags = capacity->provisioned ? PATH_LBPME : 0;
    flags |= capacity->zeros ? PATH_LBPRZ : 0;
    flags |= capacity->protection ? PATH_PROTECTION : 0;
    return (uint16_t)flags;
}

static void set_flags(struct path *path, uint16_t flags) {
    struct sink_path *sink = &path->sink;
    if (!sink->flags_known || sink->flags != flags)
        path->dirty = true;
    sink->flags = flags;
    sink->flags_known = true;
    /* Without provisioning the bit says nothing (SBC-4 5.21.2). */
    path->unmapped_by_capacity = UNMAPPED_UNKNOWN;
    if ((flags & PATH_LBPME) != 0)
        path->unmapped_by_capacity =
            (flags & PATH_LBPRZ) != 0 ? UNMAPPED_ZEROS : UNMAPPED_UNDEFINED;
}

static void learn_capacity(struct path *path, bool long_form, const uint8_t *data, size_t bytes) {
    struct capacity capacity;
    struct sink_path *sink = &path->sink;
    if (!device_capacity(data, bytes, long_form, &capacity))
        return;
    if (capacity.blocks > 0)
        set_size(path, capacity.blocks * capacity.block_bytes, capacity.block_bytes);
    else if (sink->block_bytes != capacity.block_bytes)
        set_size(path, 0, capacity.block_bytes);
    path->block_stale = false;
    if (!capacity.complete)
        return;
    set_flags(path, flags_of(&capacity));
    path->physical_known = true;
    path->physical_exponent = capacity.physical_exponent;
    path->physical_aligned = capacity.lowest_aligned;
}

void path_guess_block(struct path *path, uint32_t block_bytes) {
    path->block_stale = false;
    if (path->sink.block_bytes == block_bytes)
        return;
    path->size_stale = path->sink.size_bytes > 0;
    path->sink.block_bytes = block_bytes;
    path->block_guessed = true;
    path->dirty = true;
}

void path_learn(struct exchange *x, uint64_t time_ns) {
    struct tracker *t = x->nexus->tracker;
    struct path *path = x->path;
    const struct command *command = &x->command;
    if (x->answer_bytes == 0)
        return;
    if (command->kind == COMMAND_CAPACITY)
        learn_capacity(path, command->long_form, x->answer, x->answer_bytes);
    else if (command->vital)
        learn_page(x, time_ns);
    else
        learn_inquiry(path, x->answer, x->answer_bytes);
    /* An address that only ever answered an INQUIRY need not be a volume: a size makes it one. */
    if (path->dirty && path->kind != PATH_KIND_OTHER &&
        (path->announced || path->sink.size_bytes > 0))
        path_announce(t, path, time_ns);
    if (path->refused)
        attention_refuse(t, path, time_ns);
}

void path_take_facts(struct tracker *t, struct path *path, const struct identity_unit *facts,
                     uint64_t time_ns) {
    path->kind = facts->is_disk ? PATH_KIND_DISK : PATH_KIND_OTHER;
    path->ignores_same = facts->ignores_same;
    if (facts->designator[0] != '\0')
        set_designator(t, path, facts->designator, time_ns);
    if (facts->serial[0] != '\0')
        set_text(path, path->sink.serial, facts->serial);
    if (facts->block_bytes > 0)
        set_size(path, facts->size_bytes, facts->block_bytes);
    if (facts->flags_known)
        set_flags(path, facts->flags);
    if (path->dirty && facts->is_disk)
        path_announce(t, path, time_ns);
    if (path->refused)
        attention_refuse(t, path, time_ns);
}
