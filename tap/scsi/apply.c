#include "tap/scsi/internal.h"

/* What a write with missing data is cut into. */
struct parts {
    const struct ending *e;
    uint64_t lba;
    uint64_t offset; /* of the first block's data in the data-out */
    uint32_t block_bytes;
    enum update_op op;
};

static void apply_part(const struct parts *p, uint64_t start, uint64_t end) {
    uint64_t first = p->lba + start / p->block_bytes;
    uint64_t blocks = (end - start) / p->block_bytes;
    if (blocks == 0)
        return;
    AUTO(payload) data = payload_slice(p->e->x->payload, p->offset + start, end - start);
    if (data != NULL)
        change_update(p->e, p->op, first, blocks, data);
    else
        change_gap(p->e, GAP_OVERFLOW, first, first + blocks,
                   "%s: no room left for its data in the monitor", p->e->name);
}

static void lose_part(const struct parts *p, uint64_t start, uint64_t end) {
    static const char broken[] = "some of its data had a broken digest and did not come again";
    static const char twice[] = "some of its data was sent again, and was not the same";
    bool ambiguous = p->e->x->ambiguous;
    bool revoked = p->e->x->revoked && !ambiguous;
    change_gap(p->e, revoked ? GAP_BAD_DIGEST : GAP_STREAM_HOLE, p->lba + start / p->block_bytes,
               p->lba + end / p->block_bytes, "%s: %s", p->e->name,
               revoked     ? broken
               : ambiguous ? twice
                           : "some of its data never passed the monitor");
}

/* Blocks of which every byte has come are written; the others are a gap. */
static void apply_parts(const struct parts *p, uint64_t length) {
    const struct payload *payload = p->e->x->payload;
    struct range hole = {0, length};
    uint64_t start = 0;
    if (payload == NULL) {
        lose_part(p, 0, length);
        return;
    }
    while (start < length &&
           payload_missing(payload, p->offset + start, p->offset + length, &hole)) {
        uint64_t from = (hole.start - p->offset) / p->block_bytes * p->block_bytes;
        uint64_t to = (hole.end - p->offset + p->block_bytes - 1) / p->block_bytes * p->block_bytes;
        apply_part(p, start, from);
        lose_part(p, from, to);
        start = to;
    }
    if (start < length)
        apply_part(p, start, length);
}

/* The amount of data must be what the CDB means, and the device must have taken all of it. */
static bool took_just(const struct ending *e, uint64_t bytes) {
    const struct exchange *x = e->x;
    uint64_t taken =
        x->data_out_bytes > e->residual_bytes ? x->data_out_bytes - e->residual_bytes : 0;
    return taken == bytes && (x->skip_bytes == 0 || x->data_out_bytes == bytes);
}

static void say_protection(const struct ending *e) {
    struct path *path = e->x->path;
    if (path->protection_said)
        return;
    path->protection_said = true;
    change_volume_gap(e, GAP_UNKNOWN_CONTENT,
                      "%s: its data carries protection information (WRPROTECT), which is not "
                      "supported: what is written with it is not recorded",
                      e->name);
}

/* Why the amount of data, or what is in it, lets nobody tell what was written. */
static const char *why_data_is_unknown(const struct ending *e, uint64_t on_wire) {
    const struct exchange *x = e->x;
    if (x->command.protect)
        return "its data carries protection information, which is not supported";
    if (!took_just(e, on_wire))
        return "the device took another amount of data than the command names";
    if (x->command.clears)
        return "it clears bits of what was there, which is not supported";
    return NULL;
}

/*
 * SBC-4 4.27.4: by the policy that the last change of generation set, the device may end an ORWRITE
 * of another generation in GOOD without doing it. After power on, it never does.
 */
static const char *why_or_is_unknown(const struct exchange *x) {
    const struct unit *unit = x->path->unit;
    if (x->command.combination != COMBINE_OR)
        return NULL;
    if (unit->discards || (x->command.by_generation && !unit->applies))
        return "the device may have left it undone because of its generation";
    return NULL;
}

static void note_policy(const struct exchange *x) {
    struct unit *unit = x->path->unit;
    uint8_t policy = x->command.policy;
    if (!x->command.clears)
        return;
    unit->applies = policy == 0 || policy == 3 || policy == 7;
    unit->discards = !unit->applies;
}

static enum update_op op_of(const struct command *command) {
    if (command->combination == COMBINE_OR)
        return UPDATE_OR;
    return command->combination == COMBINE_XOR ? UPDATE_XOR : UPDATE_WRITE;
}

static void apply_data(const struct ending *e, uint32_t block_bytes) {
    const struct exchange *x = e->x;
    const struct command *command = &x->command;
    uint64_t length = command->blocks * block_bytes;
    const struct payload *complete = exchange_complete(x);
    if (complete != NULL && payload_length(complete) == length)
        change_update(e, op_of(command), command->lba, command->blocks, complete);
    else
        apply_parts(
            &(struct parts){
                .e = e, .lba = command->lba, .block_bytes = block_bytes, .op = op_of(command)},
            length);
}

/* The data belongs to blocks of another length than is known: then so does everything else. */
static bool shows_other_block(const struct ending *e) {
    uint32_t other = change_other_block(e);
    if (other == 0)
        return false;
    attention_geometry(e->x->path->unit);
    change_volume_gap(e, GAP_UNKNOWN_CONTENT,
                      "%s: its data shows blocks of %u bytes, and %u were known", e->name, other,
                      e->x->path->sink.block_bytes);
    return true;
}

void apply_write(const struct ending *e) {
    struct exchange *x = e->x;
    const struct command *command = &x->command;
    uint32_t block_bytes = change_block_bytes(x);
    uint64_t end = command->lba + command->blocks;
    if (block_bytes == 0 || !change_range_fits(command->lba, command->blocks, block_bytes)) {
        change_volume_gap(e, GAP_UNKNOWN_CONTENT,
                          "%s: the volume's block length is not known, or its address is absurd",
                          e->name);
        return;
    }
    uint64_t length = command->blocks * block_bytes;
    uint64_t on_wire = command->kind == COMMAND_COMPARE_WRITE ? 2 * length : length;
    note_policy(x);
    if (command->protect)
        say_protection(e);
    else if (!took_just(e, on_wire) && shows_other_block(e))
        return;
    const char *why = why_data_is_unknown(e, on_wire);
    if (why == NULL)
        why = why_or_is_unknown(x);
    if (why != NULL)
        change_gap(e, GAP_UNKNOWN_CONTENT, command->lba, end, "%s: %s", e->name, why);
    else if (x->data_dropped)
        change_gap(e, GAP_OVERFLOW, command->lba, end,
                   "%s: no room left for its data in the monitor", e->name);
    else
        apply_data(e, block_bytes);
}

bool apply_scattered_list(const struct exchange *x, uint32_t block_bytes) {
    const struct command *command = &x->command;
    uint64_t list = (UINT64_C(1) + command->range_count) * SCATTERED_BYTES;
    uint64_t data = (uint64_t)command->data_offset * block_bytes;
    uint64_t blocks = 0;
    struct range hole;
    if (x->payload == NULL || x->data_dropped || list > data ||
        payload_missing(x->payload, 0, list, &hole))
        return false;
    for (uint32_t i = 0; i < command->range_count; i++) {
        struct block_range range = apply_scattered_at(x, i);
        blocks += range.blocks;
        if (!change_range_fits(range.lba, range.blocks, block_bytes))
            return false;
    }
    return blocks == command->blocks;
}

struct block_range apply_scattered_at(const struct exchange *x, uint32_t index) {
    uint8_t bytes[SCATTERED_BYTES] = {0};
    payload_copy(x->payload, (UINT64_C(1) + index) * SCATTERED_BYTES, bytes, sizeof bytes);
    return scattered_range(bytes);
}

/* SBC-4 5.55.2: of ranges that overlap, the device may write any one last. */
static void doubt_overlap(const struct ending *e, struct rangeset *seen,
                          const struct block_range *range) {
    uint64_t end = range->lba + range->blocks;
    struct range part = {range->lba, range->lba};
    while (rangeset_overlap(seen, part.end, end, &part))
        change_gap(e, GAP_OVERLAP, part.start, part.end, "%s: its ranges overlap", e->name);
    if (!rangeset_add(seen, range->lba, end))
        change_gap(e, GAP_OVERFLOW, range->lba, end, "%s: too many ranges to compare", e->name);
}

static void apply_ranges(const struct ending *e, uint32_t block_bytes, struct rangeset *seen) {
    const struct exchange *x = e->x;
    uint64_t offset = (uint64_t)x->command.data_offset * block_bytes;
    for (uint32_t i = 0; i < x->command.range_count; i++) {
        struct block_range range = apply_scattered_at(x, i);
        if (range.blocks == 0)
            continue;
        apply_parts(&(struct parts){.e = e,
                                    .lba = range.lba,
                                    .offset = offset,
                                    .block_bytes = block_bytes,
                                    .op = UPDATE_WRITE},
                    range.blocks * block_bytes);
        doubt_overlap(e, seen, &range);
        offset += range.blocks * block_bytes;
    }
}

void apply_scattered(const struct ending *e) {
    enum { MOST_RANGES = 4096 };
    const struct command *command = &e->x->command;
    uint32_t block_bytes = change_block_bytes(e->x);
    uint64_t taken = ((uint64_t)command->data_offset + command->blocks) * block_bytes;
    if (command->range_count == 0 || command->blocks == 0)
        return; /* SBC-4 5.55.1: nothing is written, and that is no error */
    if (command->protect)
        say_protection(e);
    if (block_bytes == 0 || command->protect || !took_just(e, taken) ||
        !apply_scattered_list(e->x, block_bytes)) {
        region_gap(e, GAP_UNKNOWN_CONTENT, "wrote blocks that its data does not tell");
        return;
    }
    struct rangeset seen;
    rangeset_init(&seen, MOST_RANGES);
    apply_ranges(e, block_bytes, &seen);
    rangeset_release(&seen);
}

/* SBC-4 5.54: NDOB stands for zeros, unless the device has a pattern of its own for it. */
static bool ndob_is_zeros(const struct path *path) {
    enum unmapped_content unmapped = path_unmapped(path);
    return unmapped == UNMAPPED_ZEROS || path->unmapped_by_page == UNMAPPED_UNDEFINED ||
           (path->sink.flags_known && (path->sink.flags & PATH_LBPME) == 0);
}

/*
 * With UNMAP a device may unmap instead of writing, and does so for certain only when nobody could
 * tell: when what is written equals what unmapped blocks read as. Those of Linux (LIO, tgt) always
 * unmap, whatever they were given.
 */
static const char *why_same_is_unknown(const struct exchange *x, bool zeros) {
    const struct command *command = &x->command;
    enum unmapped_content unmapped = path_unmapped(x->path);
    if (command->protect)
        return "its data carries protection information, which is not supported";
    if (command->altered)
        return "the device puts an address into each block";
    if (command->no_data && !ndob_is_zeros(x->path))
        return "the device does not promise zeros";
    if (!command->unmap)
        return NULL;
    if (unmapped != UNMAPPED_ZEROS)
        return "the device does not promise that unmapped blocks read as zeros";
    if (!zeros && !x->path->ignores_same)
        return "the device may have unmapped the blocks or written them";
    return NULL;
}

/*
 * What the blocks most likely hold, so that an image taken in spite of the gap over them is as good
 * as it can be: a gap does not hide what was there before it.
 */
static void guess_same(const struct ending *e, uint64_t blocks, bool zeros,
                       const struct payload *data) {
    const struct exchange *x = e->x;
    const struct command *command = &x->command;
    if (command->protect || command->altered)
        return;
    if (zeros || (command->unmap && x->path->ignores_same))
        change_update(e, UPDATE_ZERO, command->lba, blocks, NULL);
    else
        change_update(e, UPDATE_PATTERN, command->lba, blocks, data);
}

static void apply_same_range(const struct ending *e, uint64_t blocks, uint32_t block_bytes) {
    struct exchange *x = e->x;
    uint64_t lba = x->command.lba;
    const struct payload *data = exchange_complete(x);
    bool no_data = x->command.no_data;
    bool whole = no_data || (data != NULL && payload_length(data) == block_bytes);
    if (!whole || x->data_dropped) {
        change_gap(e, x->data_dropped ? GAP_OVERFLOW : GAP_STREAM_HOLE, lba, lba + blocks,
                   "%s: the block that it wrote did not pass the monitor whole", e->name);
        return;
    }
    bool zeros = no_data || payload_is_zero(data, 0, block_bytes);
    const char *why = why_same_is_unknown(x, zeros);
    guess_same(e, blocks, zeros, data);
    if (why != NULL)
        change_gap(e, GAP_UNKNOWN_CONTENT, lba, lba + blocks, "%s: %s", e->name, why);
}

void apply_write_same(const struct ending *e) {
    const struct exchange *x = e->x;
    const struct sink_path *path = &x->path->sink;
    uint64_t lba = x->command.lba;
    uint64_t blocks = x->command.blocks;
    uint32_t block_bytes = change_block_bytes(x);
    uint64_t size_bytes = x->path->size_stale ? 0 : path->size_bytes;
    if (block_bytes == 0) {
        change_volume_gap(e, GAP_UNKNOWN_CONTENT, "%s: the volume's block length is not known",
                          e->name);
        return;
    }
    if (blocks == 0 && lba < size_bytes / block_bytes) /* to the end of the volume */
        blocks = size_bytes / block_bytes - lba;
    if (blocks == 0 || !change_range_fits(lba, blocks, block_bytes)) {
        change_gap(e, GAP_UNKNOWN_CONTENT, lba, UINT64_MAX,
                   "%s: it reaches to the end of a volume whose size is not known", e->name);
        return;
    }
    if (!x->command.no_data && !took_just(e, block_bytes)) {
        change_gap(e, GAP_UNKNOWN_CONTENT, lba, lba + blocks,
                   "%s: the device took another amount of data than one block", e->name);
        return;
    }
    apply_same_range(e, blocks, block_bytes);
}

/*
 * SBC-4 6.6.4: what does not fill a unit of the optimal granularity a device may leave as it is.
 * Those that are known to clear the ends, too, are those that ignore_same.
 */
static void doubt_ends(const struct ending *e, const struct block_range *range) {
    const struct path *path = e->x->path;
    uint64_t unit = path->unmap_granularity;
    if (unit <= 1 || path->ignores_same)
        return;
    uint64_t end = range->lba + range->blocks;
    uint64_t aligned = path->unmap_alignment % unit;
    uint64_t into = (range->lba + unit - aligned) % unit;
    uint64_t first = into == 0 ? range->lba : range->lba + (unit - into);
    uint64_t rest = (end + unit - aligned) % unit;
    static const char *const text = "%s: a device may leave what is less than its granularity";
    if (first >= end || rest >= end - first) {
        change_gap(e, GAP_UNKNOWN_CONTENT, range->lba, end, text, e->name);
        return;
    }
    if (first > range->lba)
        change_gap(e, GAP_UNKNOWN_CONTENT, range->lba, first, text, e->name);
    if (rest > 0)
        change_gap(e, GAP_UNKNOWN_CONTENT, end - rest, end, text, e->name);
}

static void apply_unmap_range(const struct ending *e, const struct block_range *range) {
    if (!change_range_fits(range->lba, range->blocks, change_block_bytes(e->x))) {
        change_volume_gap(e, GAP_UNKNOWN_CONTENT, "%s: its address is absurd", e->name);
        return;
    }
    change_update(e, UPDATE_ZERO, range->lba, range->blocks, NULL);
    if (path_unmapped(e->x->path) != UNMAPPED_ZEROS)
        change_gap(e, GAP_UNKNOWN_CONTENT, range->lba, range->lba + range->blocks,
                   "%s: the device does not promise that unmapped blocks read as zeros", e->name);
    else
        doubt_ends(e, range);
}

void apply_unmap(const struct ending *e) {
    struct exchange *x = e->x;
    size_t bytes = 0;
    struct range_list list;
    if (x->data_out_bytes == 0)
        return; /* no list, nothing done (SBC-4 5.34.1) */
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    bool readable = data != NULL && !x->data_dropped && unmap_list_parse(data, bytes, &list);
    if (!readable || e->residual_bytes > 0 || change_block_bytes(x) == 0) {
        region_gap(e, GAP_UNKNOWN_CONTENT, "unmapped blocks that cannot be told");
        return;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct block_range range = range_list_at(&list, i);
        if (range.blocks > 0)
            apply_unmap_range(e, &range);
    }
}
