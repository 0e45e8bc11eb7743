#include "tap/scsi/internal.h"

/* What a write with missing data is cut into. */
struct parts {
    const struct ending *e;
    uint64_t lba;
    uint32_t block_bytes;
};

static void apply_part(const struct parts *p, uint64_t start, uint64_t end) {
    uint64_t first = p->lba + start / p->block_bytes;
    uint64_t blocks = (end - start) / p->block_bytes;
    if (blocks == 0)
        return;
    AUTO(payload) data = payload_slice(p->e->x->payload, start, end - start);
    if (data != NULL)
        change_update(p->e, UPDATE_WRITE, first, blocks, data);
    else
        change_gap(p->e, GAP_OVERFLOW, first, first + blocks,
                   "%s: no room left for its data in the monitor", p->e->name);
}

static void lose_part(const struct parts *p, uint64_t start, uint64_t end) {
    bool revoked = p->e->x->revoked;
    change_gap(p->e, revoked ? GAP_BAD_DIGEST : GAP_STREAM_HOLE, p->lba + start / p->block_bytes,
               p->lba + end / p->block_bytes, "%s: %s", p->e->name,
               revoked ? "some of its data had a broken digest and did not come again"
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
    while (start < length && payload_missing(payload, start, length, &hole)) {
        uint64_t from = hole.start / p->block_bytes * p->block_bytes;
        uint64_t to = (hole.end + p->block_bytes - 1) / p->block_bytes * p->block_bytes;
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
    if (command->protect) {
        change_gap(e, GAP_UNKNOWN_CONTENT, command->lba, end,
                   "%s: its data carries protection information, which is not supported", e->name);
        return;
    }
    if (!took_just(e, on_wire)) {
        change_gap(e, GAP_UNKNOWN_CONTENT, command->lba, end,
                   "%s: the device took another amount of data than the command names", e->name);
        return;
    }
    if (x->data_dropped) {
        change_gap(e, GAP_OVERFLOW, command->lba, end,
                   "%s: no room left for its data in the monitor", e->name);
        return;
    }
    const struct payload *complete = exchange_complete(x);
    if (complete != NULL && payload_length(complete) == length)
        change_update(e, UPDATE_WRITE, command->lba, command->blocks, complete);
    else
        apply_parts(&(struct parts){e, command->lba, block_bytes}, length);
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
    if (block_bytes == 0) {
        change_volume_gap(e, GAP_UNKNOWN_CONTENT, "%s: the volume's block length is not known",
                          e->name);
        return;
    }
    if (blocks == 0 && lba < path->size_bytes / block_bytes) /* to the end of the volume */
        blocks = path->size_bytes / block_bytes - lba;
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

static void apply_unmap_range(const struct ending *e, const struct block_range *range) {
    if (!change_range_fits(range->lba, range->blocks, change_block_bytes(e->x))) {
        change_volume_gap(e, GAP_UNKNOWN_CONTENT, "%s: its address is absurd", e->name);
        return;
    }
    change_update(e, UPDATE_ZERO, range->lba, range->blocks, NULL);
    if (path_unmapped(e->x->path) != UNMAPPED_ZEROS)
        change_gap(e, GAP_UNKNOWN_CONTENT, range->lba, range->lba + range->blocks,
                   "%s: the device does not promise that unmapped blocks read as zeros", e->name);
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
