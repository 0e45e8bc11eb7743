#include "tap/scsi/internal.h"

#include <stdio.h>

struct region {
    const struct ending *e;
    uint16_t reason;
    const char *text;
};

static void blocks_gap(const struct region *r, uint64_t first, uint64_t blocks) {
    uint64_t end = blocks > UINT64_MAX - first ? UINT64_MAX : first + blocks;
    change_gap(r->e, r->reason, first, end, "%s %s", r->e->name, r->text);
}

static void volume_gap(const struct region *r) {
    change_volume_gap(r->e, r->reason, "%s %s", r->e->name, r->text);
}

/* Only blocks whose data had moved can have changed. */
static void write_gap(const struct region *r) {
    const struct exchange *x = r->e->x;
    const struct command *command = &x->command;
    uint32_t block_bytes = change_block_bytes(x);
    uint64_t length = command->blocks * block_bytes;
    if (block_bytes == 0 || (length != x->data_out_bytes && change_other_block(r->e) != 0)) {
        volume_gap(r);
        return;
    }
    /* Where a byte of the data belongs is not certain when there is more or less of it than asked.
     */
    if (length != x->data_out_bytes || command->protect) {
        blocks_gap(r, command->lba, command->blocks);
        return;
    }
    uint64_t first = x->moved_start / block_bytes;
    uint64_t end = (x->moved_end + block_bytes - 1) / block_bytes;
    if (command->lba > UINT64_MAX - end)
        volume_gap(r);
    else
        blocks_gap(r, command->lba + first, end - first);
}

static void same_gap(const struct region *r) {
    const struct command *command = &r->e->x->command;
    blocks_gap(r, command->lba, command->blocks > 0 ? command->blocks : UINT64_MAX);
}

static void list_gap(const struct region *r,
                     bool (*parse)(const uint8_t *data, size_t bytes, struct range_list *list)) {
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(r->e->x, &bytes);
    struct range_list list;
    if (data == NULL || !parse(data, bytes, &list)) {
        volume_gap(r);
        return;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct block_range range = range_list_at(&list, i);
        if (range.blocks > 0)
            blocks_gap(r, range.lba, range.blocks);
    }
}

/* Wherever that was written to: it can be any logical unit. */
static void everywhere_gap(const struct region *r) {
    char text[TEXT_BYTES];
    const struct exchange *x = r->e->x;
    snprintf(text, sizeof text, "%s %s, and its destination is not known", r->e->name, r->text);
    gap_everywhere(r->e->t, &(struct gap_cause){.reason = r->reason,
                                                .text = text,
                                                .time_ns = r->e->time_ns,
                                                .issued_ns = x->issued_ns,
                                                .initiator = x->nexus->initiator});
}

static uint64_t blocks_of(const struct copy_segment *segment, uint32_t block_bytes) {
    uint64_t bytes = segment->units;
    if (segment->units_are_bytes)
        bytes += segment->skip; /* from the start of the first block */
    else if (segment->units_of_source && segment->source_block > 0)
        bytes *= segment->source_block;
    else
        bytes *= block_bytes;
    /* What an earlier segment left of a block may come in front. */
    return (bytes + block_bytes - 1) / block_bytes + (segment->carries ? 1 : 0);
}

void region_blocks(const struct ending *e, struct path *path, uint16_t reason, const char *text,
                   uint64_t lba, uint64_t blocks, uint32_t block_bytes) {
    const struct exchange *x = e->x;
    char whole[TEXT_BYTES];
    snprintf(whole, sizeof whole, "%s %s", e->name, text);
    struct gap_cause cause = {.reason = reason,
                              .text = whole,
                              .time_ns = e->time_ns,
                              .issued_ns = x->issued_ns,
                              .initiator = x->nexus->initiator,
                              .later_ns = path->unit->newest_ns};
    if (block_bytes == 0 || !change_range_fits(lba, blocks, block_bytes)) {
        gap_volume(e->t, path, &cause);
        alias_doubt(e->t, path, 0, UINT64_MAX, e->time_ns);
        rival_note(path->unit, x, 0, UINT64_MAX, e->time_ns, false);
        return;
    }
    gap_blocks(e->t, path, lba, lba + blocks, block_bytes, &cause);
    alias_doubt(e->t, path, lba, lba + blocks, e->time_ns);
    rival_note(path->unit, x, lba, lba + blocks, e->time_ns, false);
}

static void segment_gap(const struct region *r, const struct copy_segment *segment,
                        struct path *path) {
    bool known = path->sink.block_bytes > 0 && !path->block_stale;
    uint32_t block_bytes = known ? path->sink.block_bytes : segment->destination_block;
    region_blocks(r->e, path, r->reason, r->text, segment->lba,
                  block_bytes > 0 ? blocks_of(segment, block_bytes) : 0, block_bytes);
}

void region_segment(const struct ending *e, uint16_t reason, const char *text,
                    const struct copy_segment *segment, const struct unit *unit) {
    const struct region r = {e, reason, text};
    for (struct path *path = unit->paths; path != NULL; path = path->unit_next)
        segment_gap(&r, segment, path);
}

/* False: it is not known which paths lead there. */
static bool copied(const struct region *r, const struct copy_segment *segment) {
    const struct unit *unit = unit_named(r->e->t, segment->destination);
    if (unit != NULL)
        region_segment(r->e, r->reason, r->text, segment, unit);
    return unit != NULL;
}

static void copy_gap(const struct region *r) {
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(r->e->x, &bytes);
    struct copy_list list;
    bool known = data != NULL && copy_list_parse(data, bytes, r->e->x->command.long_form, &list);
    while (known) {
        struct copy_segment segment;
        enum copy_step step = copy_list_next(&list, &segment);
        if (step == COPY_END)
            return;
        known = step == COPY_SEGMENT && copied(r, &segment);
    }
    everywhere_gap(r);
}

/* All that its ranges may have got; of one whose list did not come, everything. */
static void scattered_gap(const struct region *r) {
    const struct exchange *x = r->e->x;
    uint32_t block_bytes = change_block_bytes(x);
    if (block_bytes == 0 || !apply_scattered_list(x, block_bytes)) {
        volume_gap(r);
        return;
    }
    for (uint32_t i = 0; i < x->command.range_count; i++) {
        struct block_range range = apply_scattered_at(x, i);
        if (range.blocks > 0)
            blocks_gap(r, range.lba, range.blocks);
    }
}

static void physical_gap(const struct region *r, uint64_t lba) {
    struct block_range range = path_physical(r->e->x->path, lba);
    blocks_gap(r, range.lba, range.blocks);
}

/* A defect is one of the medium: of all blocks that lie in the physical one. */
static void reassign_gap(const struct region *r) {
    const struct command *command = &r->e->x->command;
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(r->e->x, &bytes);
    struct reassign_list list;
    if (data == NULL ||
        !reassign_list_parse(data, bytes, command->long_form, command->long_list, &list)) {
        volume_gap(r);
        return;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (r->e->x->path->physical_known)
            physical_gap(r, reassign_list_at(&list, i));
        else
            blocks_gap(r, reassign_list_at(&list, i), 1);
    }
}

static void trim_gap(const struct region *r) {
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(r->e->x, &bytes);
    if (data == NULL) {
        volume_gap(r);
        return;
    }
    for (size_t i = 0; i < ata_trim_count(bytes); i++) {
        struct block_range range = ata_trim_at(data, bytes, i);
        if (range.blocks > 0)
            blocks_gap(r, range.lba, range.blocks);
    }
}

static void range_gap(const struct region *r) {
    const struct command *command = &r->e->x->command;
    if (command->physical)
        physical_gap(r, command->lba);
    else
        blocks_gap(r, command->lba, command->blocks);
}

/* It may have another size and other blocks from now on. */
static void format_gap(const struct region *r) {
    volume_gap(r);
    attention_geometry(r->e->x->path->unit);
}

static void mode_gap(const struct region *r) {
    const struct exchange *x = r->e->x;
    const struct sink_path *path = &x->path->sink;
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    if (data == NULL || !mode_list_keeps_geometry(data, bytes, x->command.long_form,
                                                  path->block_bytes, path->size_bytes))
        format_gap(r);
}

/* A command that only brings data in is not taken for one that writes. */
static void unknown_gap(const struct region *r) {
    const struct exchange *x = r->e->x;
    if (x->data_out_bytes > 0)
        r->e->t->counters.unknown_commands++;
    if (x->data_out_bytes > 0 || x->data_in_bytes == 0)
        volume_gap(r);
}

void region_gap(const struct ending *e, uint16_t reason, const char *text) {
    const struct region r = {e, reason, text};
    const struct exchange *x = e->x;
    /* A command that needs data has done nothing before it has some. */
    if (x->data_out_bytes > 0 && !exchange_moved(x))
        return;
    switch (x->command.kind) {
    case COMMAND_WRITE:
        write_gap(&r);
        break;
    case COMMAND_COMPARE_WRITE:
        blocks_gap(&r, x->command.lba, x->command.blocks);
        break;
    case COMMAND_OPAQUE_RANGE:
        range_gap(&r);
        break;
    case COMMAND_SCATTERED:
        scattered_gap(&r);
        break;
    case COMMAND_REASSIGN:
        reassign_gap(&r);
        break;
    case COMMAND_ATA_TRIM:
        trim_gap(&r);
        break;
    case COMMAND_FORMAT:
        format_gap(&r);
        break;
    case COMMAND_WRITE_SAME:
        same_gap(&r);
        break;
    case COMMAND_UNMAP:
        list_gap(&r, unmap_list_parse);
        break;
    case COMMAND_WRITE_TOKEN:
        list_gap(&r, token_list_parse);
        break;
    case COMMAND_EXTENDED_COPY:
        copy_gap(&r);
        break;
    case COMMAND_MODE_SELECT:
        mode_gap(&r);
        break;
    case COMMAND_UNKNOWN:
        unknown_gap(&r);
        break;
    default:
        volume_gap(&r);
    }
}
