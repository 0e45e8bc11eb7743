#include "tap/scsi/internal.h"

#include "common/blocksum.h"

/*
 * What a READ returned is the truth about the image, for free: one in so many is summed up as its
 * bytes pass, and the sums of those blocks that nothing changed meanwhile go to the sink.
 */

enum {
    MOST_BLOCKS = 8192, /* of one READ; the rest of it is not looked at */
    MOST_AUDITS = 64,   /* in flight: 2 MiB of sums */
    MOST_TOUCHED = 64,  /* ranges of one READ that others touched */
};

struct audit {
    uint32_t block_bytes;
    uint32_t blocks;   /* looked at */
    uint64_t expected; /* bytes of the whole READ */
    uint64_t next;     /* so many have come, in order */
    uint64_t sum;      /* of the block that is coming */
    uint32_t sums[];   /* of those that have come */
};

bool audit_is_due(struct tracker *t, const struct path *path, const struct command *command,
                  uint32_t data_in_bytes) {
    uint32_t block_bytes = path->sink.block_bytes;
    if (t->limits.audit_one_in == 0 || t->sink->audit == NULL || path->kind == PATH_KIND_OTHER ||
        block_bytes == 0 || path->block_stale || path->refused || command->protect ||
        command->blocks == 0 || command->blocks * block_bytes != data_in_bytes ||
        !change_range_fits(command->lba, command->blocks, block_bytes))
        return false;
    return t->reads++ % t->limits.audit_one_in == 0 && t->audits < MOST_AUDITS;
}

void audit_begin(struct exchange *x) {
    uint64_t blocks = x->command.blocks < MOST_BLOCKS ? x->command.blocks : MOST_BLOCKS;
    x->audit = calloc(1, sizeof *x->audit + (size_t)blocks * sizeof x->audit->sums[0]);
    if (x->audit == NULL)
        return;
    x->audit->block_bytes = x->path->sink.block_bytes;
    x->audit->blocks = (uint32_t)blocks;
    x->audit->expected = x->data_in_bytes;
    x->nexus->tracker->audits++;
}

void audit_free(struct exchange *x) {
    if (x->audit == NULL)
        return;
    x->nexus->tracker->audits--;
    free(x->audit);
    x->audit = NULL;
}

void audit_data(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes) {
    struct audit *a = x->audit;
    struct cursor c = cursor_of(data, bytes);
    /* Out of order, twice, or too much: it is not worth more than to be left out. */
    if (offset != a->next || bytes > a->expected - a->next) {
        audit_free(x);
        return;
    }
    a->next += bytes;
    uint64_t end = (uint64_t)a->blocks * a->block_bytes;
    while (offset < end && cursor_left(&c) > 0) {
        size_t part = a->block_bytes - (size_t)(offset % a->block_bytes);
        if (part > cursor_left(&c))
            part = cursor_left(&c);
        a->sum = blocksum_add(a->sum, cursor_bytes(&c, part), part);
        offset += part;
        if (offset % a->block_bytes != 0)
            continue;
        a->sums[offset / a->block_bytes - 1] = blocksum_end(a->sum);
        a->sum = 0;
    }
}

struct touched {
    struct rangeset set;
    bool too_many;
};

static void touched_release(struct touched *touched) {
    rangeset_release(&touched->set);
}

static void touched_found(void *context, uint64_t first, uint64_t end, uint64_t ended_ns) {
    struct touched *touched = context;
    (void)ended_ns;
    if (!rangeset_add(&touched->set, first, end))
        touched->too_many = true;
}

/* Of those still in flight, in pieces, so that one does not cost all the others. */
static void add_in_flight(struct exchange *x, struct touched *touched, uint64_t end) {
    enum { PIECE = 256 };
    for (uint64_t lba = x->command.lba; lba < end; lba += PIECE) {
        uint64_t stop = end - lba < PIECE ? end : lba + PIECE;
        if (rival_in_flight(x->nexus->tracker, x->path->unit, x, lba, stop))
            touched_found(touched, lba, stop, 0);
    }
}

static void give(const struct ending *e, uint64_t lba, uint64_t end) {
    const struct exchange *x = e->x;
    while (lba < end) {
        uint64_t blocks = end - lba < AUDIT_BLOCKS ? end - lba : AUDIT_BLOCKS;
        e->t->sink->audit(e->t->sink,
                          &(struct sink_audit){.path = &x->path->sink,
                                               .time_ns = e->time_ns,
                                               .issued_ns = x->issued_ns,
                                               .lba = lba,
                                               .block_bytes = x->audit->block_bytes,
                                               .blocks = (uint32_t)blocks,
                                               .sums = x->audit->sums + (lba - x->command.lba)});
        e->t->counters.audited_blocks += blocks;
        lba += blocks;
    }
}

void audit_end(const struct ending *e) {
    struct exchange *x = e->x;
    const struct audit *a = x->audit;
    if (a == NULL || a->next != a->expected || e->residual_bytes > 0 || e->status != SCSI_GOOD ||
        a->block_bytes != x->path->sink.block_bytes || x->path->block_stale)
        return;
    __attribute__((cleanup(touched_release))) struct touched touched = {0};
    rangeset_init(&touched.set, MOST_TOUCHED);
    uint64_t lba = x->command.lba;
    uint64_t end = lba + a->blocks;
    rival_during(x, x->path->unit, lba, end, e->t->recent_count, e->time_ns, &touched,
                 touched_found);
    add_in_flight(x, &touched, end);
    struct range quiet;
    if (touched.too_many)
        return;
    path_announce(e->t, x->path, e->time_ns);
    while (rangeset_missing(&touched.set, lba, end, &quiet)) {
        give(e, quiet.start, quiet.end);
        lba = quiet.end;
    }
}
