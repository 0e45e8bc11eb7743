#include "tap/scsi/internal.h"

#include <stdarg.h>
#include <stdio.h>

/* The data of one block, if `bytes` can be that of `blocks`. */
static uint32_t guess_block(uint64_t bytes, uint64_t blocks) {
    if (blocks == 0 || bytes % blocks != 0 || bytes / blocks > UINT32_MAX)
        return 0;
    uint32_t block = (uint32_t)(bytes / blocks);
    return attention_supports(block) ? block : 0;
}

/* What the amount of its data tells of the block length; 0 nothing. */
static uint32_t told_block(const struct exchange *x) {
    switch (x->command.kind) {
    case COMMAND_WRITE:
        return guess_block(x->data_out_bytes, x->command.blocks);
    case COMMAND_COMPARE_WRITE:
        return guess_block(x->data_out_bytes, 2 * x->command.blocks);
    case COMMAND_WRITE_SAME:
        return x->command.no_data ? 0 : guess_block(x->data_out_bytes, 1);
    case COMMAND_SCATTERED:
        return guess_block(x->data_out_bytes, (uint64_t)x->command.data_offset + x->command.blocks);
    default:
        return 0;
    }
}

uint32_t change_block_bytes(const struct exchange *x) {
    const struct path *path = x->path;
    if (path->sink.block_bytes > 0 && !path->block_stale)
        return path->sink.block_bytes;
    return told_block(x);
}

uint32_t change_other_block(const struct ending *e) {
    const struct exchange *x = e->x;
    uint32_t told = e->residual_bytes == 0 ? told_block(x) : 0;
    return told != x->path->sink.block_bytes ? told : 0;
}

bool change_range_fits(uint64_t lba, uint64_t blocks, uint32_t block_bytes) {
    uint64_t most = (uint64_t)INT64_MAX / block_bytes;
    return blocks <= most && lba <= most - blocks;
}

static struct gap_cause cause_of(const struct ending *e, uint16_t reason, const char *text) {
    return (struct gap_cause){.reason = reason,
                              .text = text,
                              .time_ns = e->time_ns,
                              .issued_ns = e->x->issued_ns,
                              .initiator = e->x->nexus->initiator};
}

void change_gap(const struct ending *e, uint16_t reason, uint64_t first, uint64_t end,
                const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct path *path = e->x->path;
    uint32_t block_bytes = change_block_bytes(e->x);
    struct gap_cause cause = cause_of(e, reason, text);
    cause.later_ns = rival_judges(e->x) ? rival_newest_ns(e->x) : path->unit->newest_ns;
    if (block_bytes == 0)
        gap_volume(e->t, path, &cause);
    else
        gap_blocks(e->t, path, first, end, block_bytes, &cause);
    alias_doubt(e->t, path, first, end, e->time_ns);
    rival_note(path->unit, e->x, first, end, e->time_ns, false);
}

void change_volume_gap(const struct ending *e, uint16_t reason, const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct gap_cause cause = cause_of(e, reason, text);
    gap_volume(e->t, e->x->path, &cause);
    alias_doubt(e->t, e->x->path, 0, UINT64_MAX, e->time_ns);
    rival_note(e->x->path->unit, e->x, 0, UINT64_MAX, e->time_ns, false);
}

static struct sink_update update_of(const struct ending *e, enum update_op op) {
    const struct exchange *x = e->x;
    return (struct sink_update){.path = &x->path->sink,
                                .time_ns = e->time_ns,
                                .issued_ns = x->issued_ns,
                                .lba = x->command.lba,
                                .blocks = x->command.blocks,
                                .block_bytes = change_block_bytes(x),
                                .op = op,
                                .opcode = x->command.opcode,
                                .status = e->status,
                                .fua = x->command.fua,
                                .initiator = x->nexus->initiator};
}

static void clash_found(void *context, uint64_t first, uint64_t end) {
    const struct ending *e = context;
    uint32_t block_bytes = change_block_bytes(e->x);
    char text[TEXT_BYTES];
    snprintf(text, sizeof text, "%s overlaps another write that was in flight at the same time",
             e->name);
    struct gap_cause cause = cause_of(e, GAP_OVERLAP, text);
    /* Before both had ended, the one that had was done, and the other in flight. */
    if (rival_newest_ns(e->x) > cause.time_ns)
        cause.time_ns = rival_newest_ns(e->x);
    e->t->counters.overlaps++;
    gap_blocks(e->t, e->x->path, first, end, block_bytes, &cause);
    if (e->t->samplers != NULL)
        sample_touch(e->t, first, end);
}

/* Tells the sink, and remembers that the unit changed. */
static void give(const struct ending *e, struct path *path, struct sink_update *update) {
    struct unit *unit = path->unit;
    update->path = &path->sink;
    update->applied = true;
    path_announce(e->t, path, e->time_ns);
    alias_doubt(e->t, path, update->lba, update->lba + update->blocks, e->time_ns);
    e->t->counters.updates++;
    e->t->counters.update_bytes += update->blocks * update->block_bytes;
    unit->changes++;
    e->t->changes++;
    unit_touch(unit, e->time_ns);
    if (e->time_ns > unit->newest_ns)
        unit->newest_ns = e->time_ns;
    e->t->sink->update(e->t->sink, update);
    gap_hushed(e->t, path, update->lba, update->blocks, e->time_ns);
    rival_note(unit, e->x, update->lba, update->lba + update->blocks, e->time_ns, true);
}

void change_update(const struct ending *e, enum update_op op, uint64_t lba, uint64_t blocks,
                   const struct payload *data) {
    struct exchange *x = e->x;
    struct sink_update update = update_of(e, op);
    update.lba = lba;
    update.blocks = blocks;
    update.data = data;
    path_guess_block(x->path, update.block_bytes);
    give(e, x->path, &update);
    if (x->path->target->sampler != NULL && op == UPDATE_WRITE)
        sample_take(e, lba, blocks, data);
    struct ending copy = *e;
    rival_clashes(x, lba, lba + blocks, &copy, clash_found);
}

/* What clashes with a copy. */
struct copy_clash {
    const struct ending *e;
    struct path *path;
};

static void copy_clash_found(void *context, uint64_t first, uint64_t end, uint64_t ended_ns) {
    const struct copy_clash *clash = context;
    const struct ending *e = clash->e;
    char text[TEXT_BYTES];
    snprintf(text, sizeof text, "%s overlaps a write that was in flight at the same time", e->name);
    struct gap_cause cause = cause_of(e, GAP_OVERLAP, text);
    if (ended_ns > cause.time_ns)
        cause.time_ns = ended_ns;
    e->t->counters.overlaps++;
    gap_blocks(e->t, clash->path, first, end, clash->path->sink.block_bytes, &cause);
}

void change_copy(const struct ending *e, struct path *path, uint64_t lba, uint64_t blocks,
                 const struct change_source *source, uint64_t until) {
    struct sink_update update = update_of(e, source != NULL ? UPDATE_COPY : UPDATE_ZERO);
    update.lba = lba;
    update.blocks = blocks;
    update.block_bytes = path->sink.block_bytes;
    if (source != NULL) {
        path_announce(e->t, source->path, e->time_ns);
        update.source = &source->path->sink;
        update.source_lba = source->lba;
        update.source_from_ns = source->from_ns;
        update.source_until_ns = source->until_ns;
    }
    give(e, path, &update);
    if (source != NULL)
        copied_note(e, path, lba, blocks, source);
    struct copy_clash clash = {e, path};
    rival_during(e->x, path->unit, lba, lba + blocks, until, e->time_ns, &clash, copy_clash_found);
}

static enum update_op op_of(const struct command *command) {
    switch (command->kind) {
    case COMMAND_WRITE_SAME:
        return command->no_data ? UPDATE_ZERO : UPDATE_PATTERN;
    case COMMAND_UNMAP:
    case COMMAND_ATA_TRIM:
        return UPDATE_ZERO;
    case COMMAND_EXTENDED_COPY:
    case COMMAND_WRITE_TOKEN:
        return UPDATE_COPY;
    case COMMAND_WRITE:
        break;
    default:
        return UPDATE_WRITE;
    }
    if (command->combination == COMBINE_OR)
        return UPDATE_OR;
    return command->combination == COMBINE_XOR ? UPDATE_XOR : UPDATE_WRITE;
}

void change_show(const struct ending *e) {
    const struct command *command = &e->x->command;
    if (command->kind == COMMAND_MODE_SELECT || command->ata != NULL ||
        command->kind == COMMAND_UNKNOWN)
        return;
    struct sink_update update = update_of(e, op_of(command));
    update.data = e->x->payload;
    e->t->sink->update(e->t->sink, &update);
}

/* A stable point (SBC-4 5.22). With IMMED, GOOD comes before it is one. */
static void flushed(const struct ending *e) {
    const struct command *command = &e->x->command;
    struct path *path = e->x->path;
    uint32_t block_bytes = path->sink.block_bytes;
    struct sink_update update = update_of(e, UPDATE_FLUSH);
    if (command->immediate || path->kind == PATH_KIND_OTHER)
        return;
    if (command->lba > 0 || command->blocks > 0) {
        uint64_t size_blocks = block_bytes > 0 ? path->sink.size_bytes / block_bytes : 0;
        if (command->lba >= size_blocks)
            return;
        if (command->blocks == 0)
            update.blocks = size_blocks - command->lba;
        if (!change_range_fits(update.lba, update.blocks, block_bytes))
            return;
    }
    update.applied = true;
    path_announce(e->t, path, e->time_ns);
    e->t->sink->update(e->t->sink, &update);
}

/*
 * SPC-5 5.14.11.2.6: PREEMPT AND ABORT aborts the commands of those that it preempts, which may
 * never be answered then. Which those are depends on keys; itself it may be, too.
 */
static void reserved(const struct ending *e) {
    if (!e->x->command.aborts)
        return;
    struct unit *unit = e->x->path->unit;
    for (size_t i = 0; i < unit->open_count; i++)
        change_doubt(unit->open[i].exchange, GAP_ABORTED,
                     "may have been aborted by PERSISTENT RESERVE OUT (PREEMPT AND ABORT)",
                     e->time_ns);
    for (struct exchange *x = e->t->copies; x != NULL; x = x->copy_next) {
        if (x->path->unit == unit)
            change_doubt(x, GAP_ABORTED,
                         "may have been aborted by PERSISTENT RESERVE OUT (PREEMPT AND ABORT)",
                         e->time_ns);
    }
}

static const char *how_opaque(const struct command *command) {
    if (command->spoils)
        return "made the blocks unreadable until they are written again";
    return "changed the blocks in a way that is not followed";
}

static void done(const struct ending *e) {
    switch (e->x->command.kind) {
    case COMMAND_HARMLESS:
        break;
    case COMMAND_INQUIRY:
    case COMMAND_CAPACITY:
        path_learn(e->x, e->time_ns);
        break;
    case COMMAND_READ:
        audit_end(e);
        break;
    case COMMAND_RESERVE:
        reserved(e);
        break;
    case COMMAND_POPULATE:
        token_populated(e);
        break;
    case COMMAND_TOKENS:
        token_informed(e);
        break;
    case COMMAND_FLUSH:
        flushed(e);
        break;
    case COMMAND_WRITE:
    case COMMAND_COMPARE_WRITE:
        if (e->x->command.blocks > 0)
            apply_write(e);
        else
            change_show(e);
        break;
    case COMMAND_SCATTERED:
        apply_scattered(e);
        break;
    case COMMAND_WRITE_SAME:
        apply_write_same(e);
        break;
    case COMMAND_UNMAP:
        apply_unmap(e);
        break;
    case COMMAND_EXTENDED_COPY:
        copy_apply(e);
        break;
    case COMMAND_WRITE_TOKEN:
        token_apply(e);
        break;
    case COMMAND_FORMAT:
        region_gap(e, GAP_UNKNOWN_CONTENT, "erased the volume, and may have given it another size");
        break;
    case COMMAND_REASSIGN:
        region_gap(e, GAP_UNKNOWN_CONTENT, "moved blocks whose content may be lost");
        break;
    case COMMAND_ATA_TRIM:
        region_gap(e, GAP_UNKNOWN_CONTENT, "unmapped blocks, and zeros are not promised");
        break;
    case COMMAND_OPAQUE_RANGE:
        region_gap(e, GAP_UNKNOWN_CONTENT, how_opaque(&e->x->command));
        break;
    default:
        region_gap(e, GAP_UNKNOWN_COMMAND, "may have changed the volume in a way not understood");
    }
}

static struct ending ending_of(struct exchange *x, uint64_t time_ns) {
    struct ending e = {.x = x, .t = x->nexus->tracker, .time_ns = time_ns};
    command_text(&x->command, e.name, sizeof e.name);
    return e;
}

/* An UNMAP may do some of its ranges before it finds fault with the next (Linux LIO does). */
static bool unmap_may_be_half_done(const struct exchange *x, const struct sense *sense) {
    size_t bytes = 0;
    struct range_list list;
    if (x->command.kind != COMMAND_UNMAP || sense == NULL || sense->key != SENSE_ILLEGAL_REQUEST ||
        (sense->asc != 0x21 && sense->asc != 0x26))
        return false;
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    return data == NULL || !unmap_list_parse(data, bytes, &list) || list.count > 1;
}

static void failed(struct ending *e, const struct sense *sense, enum sense_verdict verdict) {
    char status[64];
    char text[TEXT_BYTES];
    e->t->counters.failed++;
    change_show(e);
    if (verdict == VERDICT_REFUSED && !unmap_may_be_half_done(e->x, sense))
        return;
    sense_text(e->status, sense, status, sizeof status);
    if (sense != NULL && sense->deferred) {
        change_volume_gap(e, GAP_FAILED_WRITE,
                          "%s: the device reports that an earlier write failed later", status);
        return;
    }
    snprintf(text, sizeof text, "ended with %s after data had moved", status);
    region_gap(e, GAP_FAILED_WRITE, text);
}

/* Nothing of a path is recorded whose blocks can't be followed: say so, once. */
static bool is_refused(const struct ending *e) {
    struct path *path = e->x->path;
    if (!path->refused || !command_changes_media(&e->x->command) ||
        e->x->command.kind == COMMAND_EXTENDED_COPY || e->x->command.kind == COMMAND_FORMAT)
        return false;
    attention_refuse(e->t, path, e->time_ns);
    rival_note(path->unit, e->x, 0, UINT64_MAX, e->time_ns, false);
    return true;
}

void change_ended(struct exchange *x, const struct tracker_status *status) {
    struct ending e = ending_of(x, status->time_ns);
    e.status = status->status;
    e.residual_bytes = status->residual_underflow;
    rival_settle(x, status->time_ns);
    struct sense parsed;
    const struct sense *sense = NULL;
    if (status->sense != NULL && sense_parse(status->sense, status->sense_bytes, &parsed))
        sense = &parsed;
    if (sense != NULL && sense->key == SENSE_UNIT_ATTENTION)
        attention_take(x, sense, status->time_ns);
    enum sense_verdict verdict = VERDICT_DOUBT;
    if (status->delivered)
        verdict = sense_verdict(status->status, sense, x->command.kind == COMMAND_COMPARE_WRITE);
    if (is_refused(&e))
        return;
    if (verdict == VERDICT_DONE)
        done(&e);
    else if (command_changes_media(&x->command))
        failed(&e, sense, verdict);
}

void change_abandoned(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns) {
    struct ending e = ending_of(x, time_ns);
    e.t->counters.abandoned++;
    rival_settle(x, time_ns);
    if (!command_changes_media(&x->command) || is_refused(&e))
        return;
    /* It may or may not have been done, but its blocks hold the same either way. */
    if (rival_agreed(x)) {
        rival_note(x->path->unit, x, x->command.lba, x->command.lba + x->command.blocks, time_ns,
                   true);
        return;
    }
    region_gap(&e, reason, text);
}

void change_doubt(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns) {
    /* A doubt that is older than the command would end with what was written before it. */
    struct ending e = ending_of(x, time_ns > x->issued_ns ? time_ns : x->issued_ns);
    if (command_changes_media(&x->command) && !is_refused(&e))
        region_gap(&e, reason, text);
}
