/*
 * Derived content against a model: random writes, gaps, copies, ORs and XORs over two volumes,
 * committed in any order, settled at random moments, some with a baseline that comes late or is
 * replaced. What the image calls exact is what the model has, and it calls exact what the model
 * knows.
 */
#include "recoveryd/image/image.h"
#include "recoveryd/settle/settle.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

enum {
    BLOCK = 512,
    BLOCKS = 48,
    OPS = 60,
    TIMES = 120,
    FIRST_NS = 1000,
    VOLUMES = 2,
    PATHS = 3,
    ROUNDS = 40, /* at least, and more in the time that there is */
    MOST_ROUNDS = 400
};
#define TRY_NS (3 * NS_PER_SECOND)
/* The blocks lie around a chunk's boundary. */
#define START (INDEX_CHUNK_BYTES - 20 * BLOCK)
#define SIZE  (2 * INDEX_CHUNK_BYTES)

enum op_kind { WRITE, ZERO, GAP, COPY, OR, XOR };

struct op {
    enum op_kind kind;
    int path; /* 0, 1: of volume 0; 2: of volume 1 */
    struct stamp stamp;
    uint64_t issued_ns;
    int start;
    int blocks;
    int source_path; /* COPY */
    int source_start;
    uint64_t from_ns;
    uint64_t until_ns;
};

struct block {
    bool exact;
    uint8_t content[BLOCK];
};

struct volume_model {
    struct block blocks[BLOCKS];
};

struct world {
    struct rig rig;
    unsigned seed;
    uint64_t paths[PATHS];
    struct op ops[OPS];
    const struct op *sorted[OPS];
    uint8_t payload[OPS][BLOCKS * BLOCK];
    bool has_baseline[VOLUMES];
    uint8_t baseline[VOLUMES];   /* every byte of it */
    struct volume_model *states; /* at the end of each time, VOLUMES each */
};

static uint32_t pick(struct world *w, uint32_t below) {
    return (uint32_t)rand_r(&w->seed) % below;
}

static int volume_of(int path) {
    return path == 2 ? 1 : 0;
}

/* --- a history -----------------------------------------------------------------------------------
 */

static int compare_ops(const void *left, const void *right) {
    const struct op *const *a = left;
    const struct op *const *b = right;
    return stamp_compare(&(*a)->stamp, &(*b)->stamp);
}

static void make_ops(struct world *w) {
    for (size_t i = 0; i < OPS; i++) {
        struct op *op = &w->ops[i];
        uint32_t kind = pick(w, 100);
        uint64_t time_ns = FIRST_NS + 1 + pick(w, TIMES);
        *op = (struct op){.kind = kind < 35   ? WRITE
                                  : kind < 42 ? ZERO
                                  : kind < 50 ? GAP
                                  : kind < 80 ? COPY
                                  : kind < 90 ? OR
                                              : XOR,
                          .path = (int)pick(w, PATHS),
                          .stamp = {time_ns, 1, 1, i}};
        op->blocks = 1 + (int)pick(w, 12);
        op->start = (int)pick(w, (uint32_t)(BLOCKS - op->blocks + 1));
        op->issued_ns = pick(w, 4) == 0 ? time_ns - pick(w, 8) : 0;
        op->source_path = (int)pick(w, PATHS);
        op->source_start = (int)pick(w, (uint32_t)(BLOCKS - op->blocks + 1));
        op->until_ns = time_ns;
        op->from_ns = time_ns - pick(w, 4);
        for (int k = 0; k < op->blocks * BLOCK; k++)
            w->payload[i][k] = (uint8_t)pick(w, 256);
        if (kind >= 80 && pick(w, 3) == 0)
            memset(w->payload[i], op->kind == OR ? 0xff : 0, (size_t)op->blocks * BLOCK);
        w->sorted[i] = op;
    }
    qsort(w->sorted, OPS, sizeof w->sorted[0], compare_ops);
}

static void put_op(struct world *w, const struct op *op) {
    uint64_t offset = START + (uint64_t)op->start * BLOCK;
    uint64_t length = (uint64_t)op->blocks * BLOCK;
    const uint8_t *payload = w->payload[op - w->ops];
    static const uint8_t kinds[] = {
        [WRITE] = UPDATE_WRITE, [ZERO] = UPDATE_ZERO, [COPY] = UPDATE_COPY,
        [OR] = UPDATE_OR,       [XOR] = UPDATE_XOR,   [GAP] = 0};
    if (op->kind == GAP) {
        rig_gap(&w->rig, w->paths[op->path], &op->stamp, offset, length, GAP_FAILED_WRITE);
        return;
    }
    struct extent extent = {0};
    struct update_record u = {.time_ns = op->stamp.time_ns,
                              .issued_ns = op->issued_ns,
                              .path = w->paths[op->path],
                              .offset_bytes = offset,
                              .length_bytes = length,
                              .block_bytes = BLOCK,
                              .op = kinds[op->kind]};
    if (op->kind == COPY) {
        u.source_path = w->paths[op->source_path];
        u.source_offset_bytes = START + (uint64_t)op->source_start * BLOCK;
        u.source_from_ns = op->from_ns;
        u.source_until_ns = op->until_ns;
    } else if (op->kind != ZERO) {
        rig_ok(&w->rig, segments_append(w->rig.segment, payload, length, &extent, &w->rig.err));
        u.payload_bytes = (uint32_t)length;
        u.payload_crc32c = crc32c(0, payload, length);
    }
    rig_ok(&w->rig, index_put_update(rig_writer(&w->rig), &op->stamp, &u,
                                     u.payload_bytes > 0 ? &extent : NULL, &w->rig.err));
}

/* Any order; the promise follows what is committed, and settling happens now and then. */
static void commit_all(struct world *w) {
    size_t order[OPS];
    bool there[OPS] = {false};
    for (size_t i = 0; i < OPS; i++)
        order[i] = i;
    for (size_t i = OPS - 1; i > 0; i--) {
        size_t k = pick(w, (uint32_t)i + 1);
        size_t swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (size_t i = 0; i < OPS; i++) {
        put_op(w, &w->ops[order[i]]);
        there[order[i]] = true;
        if (pick(w, 12) != 0 && i + 1 < OPS)
            continue;
        uint64_t frontier_ns = FIRST_NS + TIMES + 50;
        for (size_t k = 0; k < OPS; k++) {
            if (!there[k] && w->ops[k].stamp.time_ns - 1 < frontier_ns)
                frontier_ns = w->ops[k].stamp.time_ns - 1;
        }
        rig_stream(&w->rig, 1, 1, FIRST_NS, frontier_ns, false);
        rig_commit(&w->rig);
        if (pick(w, 2) == 0)
            rig_ok(&w->rig, settle(w->rig.store, UINT64_MAX, &w->rig.err));
    }
}

/* Of equal bytes. The newest one is what counts. */
static void put_baseline(struct world *w, int volume, uint64_t stream, uint8_t byte) {
    uint8_t bytes[BLOCK];
    struct floor floor = {.stamp = {0, 0, stream, 9}, .kind = FLOOR_ZERO};
    memset(bytes, byte, sizeof bytes);
    if (byte != 0) {
        floor.base_path = 100 * stream + (uint64_t)volume + 1;
        rig_put(&w->rig, floor.base_path, &(struct stamp){0, 0, stream, 1}, 0, SIZE, bytes, BLOCK);
    }
    rig_ok(&w->rig, index_put_floor(rig_writer(&w->rig), w->paths[volume == 0 ? 1 : 2], &floor,
                                    &w->rig.err));
    rig_commit(&w->rig);
    w->has_baseline[volume] = true;
    w->baseline[volume] = byte;
}

/* --- the model -----------------------------------------------------------------------------------
 */

static struct volume_model *state_at(const struct world *w, uint64_t time_ns) {
    uint64_t number = time_ns < FIRST_NS ? 0 : time_ns - FIRST_NS;
    return &w->states[(number < TIMES + 2 ? number : TIMES + 2) * VOLUMES];
}

static bool touches(const struct op *op, int volume, int block) {
    return volume_of(op->path) == volume && block >= op->start && block < op->start + op->blocks;
}

/* A change with a time mark in the copy's time, or one that was in flight at its end. */
static bool disturbed(const struct world *w, const struct op *copy, int volume, int block) {
    for (size_t i = 0; i < OPS; i++) {
        const struct op *op = &w->ops[i];
        uint64_t t = op->stamp.time_ns;
        bool in_time = t >= copy->from_ns && t <= copy->until_ns;
        bool in_flight = t > copy->until_ns && op->issued_ns > 0 && op->kind != GAP &&
                         op->issued_ns <= copy->until_ns;
        if (touches(op, volume, block) && (in_time || in_flight))
            return true;
    }
    return false;
}

static void apply_copy(const struct world *w, const struct op *op, struct block *to, int number) {
    int volume = volume_of(op->source_path);
    int source = op->source_start + number;
    const struct block *before = &state_at(w, op->from_ns - 1)[volume].blocks[source];
    to->exact = false;
    if (!disturbed(w, op, volume, source) && before->exact)
        *to = *before;
}

static void apply_block(const struct world *w, const struct op *op, struct block *b, int number) {
    const uint8_t *payload = w->payload[op - w->ops] + number * BLOCK;
    switch (op->kind) {
    case GAP:
        b->exact = false;
        return;
    case COPY:
        apply_copy(w, op, b, number);
        return;
    case ZERO:
        memset(b->content, 0, BLOCK);
        break;
    case WRITE:
        memcpy(b->content, payload, BLOCK);
        break;
    case OR:
    case XOR:
        if (!b->exact)
            return;
        for (int i = 0; i < BLOCK; i++)
            b->content[i] =
                op->kind == OR ? b->content[i] | payload[i] : b->content[i] ^ payload[i];
        break;
    }
    b->exact = true;
}

static void make_model(struct world *w) {
    struct volume_model *now = state_at(w, FIRST_NS);
    memset(now, 0, sizeof *now * VOLUMES);
    for (int v = 0; v < VOLUMES; v++) {
        for (int i = 0; i < BLOCKS; i++) {
            now[v].blocks[i].exact = w->has_baseline[v];
            memset(now[v].blocks[i].content, w->baseline[v], BLOCK);
        }
    }
    size_t next = 0;
    for (uint64_t t = FIRST_NS + 1; t <= FIRST_NS + TIMES + 2; t++) {
        now = state_at(w, t);
        memcpy(now, state_at(w, t - 1), sizeof *now * VOLUMES);
        for (; next < OPS && w->sorted[next]->stamp.time_ns == t; next++) {
            const struct op *op = w->sorted[next];
            for (int k = 0; k < op->blocks; k++)
                apply_block(w, op, &now[volume_of(op->path)].blocks[op->start + k], k);
        }
    }
}

/* --- comparing -----------------------------------------------------------------------------------
 */

static void check_blocks(struct world *w, struct image *im, uint64_t first_block, int from, int to,
                         const struct volume_model *m) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    static uint8_t bytes[BLOCKS * BLOCK];
    uint64_t start = first_block + (uint64_t)from * BLOCK;
    rig_ok(&w->rig,
           image_range_map(im, start, (uint64_t)(to - from) * BLOCK, &runs, &count, &w->rig.err));
    rig_ok(&w->rig, image_runs_read(im, runs, count, start, bytes, &w->rig.err));
    for (size_t i = 0; i < count; i++) {
        for (uint64_t at = runs[i].offset_bytes; at < runs[i].offset_bytes + runs[i].length_bytes;
             at += BLOCK) {
            uint64_t number = (at - first_block) / BLOCK;
            const struct block *b = &m->blocks[number];
            cr_assert_eq(runs[i].exact, b->exact, "block %lu at %lu: exact %d, the model %d",
                         number, image_info(im)->time_ns, runs[i].exact, b->exact);
            if (b->exact)
                cr_assert_eq(memcmp(bytes + (at - start), b->content, BLOCK), 0, "block %lu at %lu",
                             number, image_info(im)->time_ns);
        }
    }
}

static void check_at(struct world *w, uint64_t time_ns) {
    struct volume_list list;
    const struct volume_model *m = state_at(w, time_ns);
    AUTO(index_reader) r = rig_reader(&w->rig);
    rig_ok(&w->rig, settle(w->rig.store, time_ns, &w->rig.err));
    rig_ok(&w->rig, volume_list_read(r, &list, &w->rig.err));
    cr_assert_eq(list.count, VOLUMES);
    for (int v = 0; v < VOLUMES; v++) {
        AUTO(image) im = NULL;
        const struct volume *volume = volume_of_path(&list, w->paths[v == 0 ? 0 : 2]);
        rig_ok(&w->rig, image_open(w->rig.store, volume, time_ns, &im, &w->rig.err));
        check_blocks(w, im, START, 0, 20, &m[v]);
        check_blocks(w, im, START, 20, BLOCKS, &m[v]);
    }
    volume_list_release(&list);
}

static void check_all(struct world *w) {
    make_model(w);
    for (int i = 0; i < 3; i++)
        check_at(w, FIRST_NS + 1 + pick(w, TIMES));
    check_at(w, FIRST_NS + TIMES + 50);
}

/* Nothing waits; how many entries could not be resolved. */
static uint64_t stuck(struct world *w) {
    struct waiting_counts counts;
    AUTO(index_reader) r = rig_reader(&w->rig);
    rig_ok(&w->rig, index_count_waiting(r, &counts, &w->rig.err));
    cr_assert_eq(counts.derived, 0);
    return counts.stuck;
}

static void check_world(struct world *w, unsigned seed) {
    *w = (struct world){.seed = seed};
    w->states = calloc((TIMES + 3) * VOLUMES, sizeof *w->states);
    rig_start(&w->rig);
    w->paths[0] = rig_path(&w->rig, 1, 1, "iqn.a", "naa.1", SIZE, FIRST_NS);
    w->paths[1] = rig_path(&w->rig, 1, 1, "iqn.b", "naa.1", SIZE, FIRST_NS);
    w->paths[2] = rig_path(&w->rig, 1, 1, "iqn.c", "naa.2", SIZE, FIRST_NS);
    rig_stream(&w->rig, 1, 1, FIRST_NS, FIRST_NS, false);
    rig_commit(&w->rig);
    make_ops(w);
    if (pick(w, 2) == 0)
        put_baseline(w, 0, 5, 0);
    commit_all(w);
    check_all(w);
    uint64_t before = stuck(w);
    for (int v = 0; v < VOLUMES; v++)
        put_baseline(w, v, 6, (uint8_t)(0x5a * v));
    check_all(w);
    cr_assert_leq(stuck(w), before, "a baseline resolves more, not less");
    put_baseline(w, 0, 7, 0xa5); /* that was a mistake */
    check_all(w);
    free(w->states);
    rig_end(&w->rig);
}

Test(settle_model, any_history_of_copies_in_any_order_equals_the_model, .timeout = 60) {
    static struct world w;
    unsigned seed = test_seed();
    struct mono start = clock_mono();
    for (unsigned i = 0; i < ROUNDS || (i < MOST_ROUNDS && clock_since_ns(start) < TRY_NS); i++)
        check_world(&w, seed + i);
}
