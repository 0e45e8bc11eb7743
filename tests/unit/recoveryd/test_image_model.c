/*
 * Random histories against a model that applies them to blocks one after the other: commits in
 * random orders and batches, some twice, over several paths and monitors, with gaps, baselines,
 * patterns and very long ranges.
 */
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/image.h"
#include "recoveryd/image/image_changes.h"
#include "recoveryd/index/thinned.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

enum {
    BLOCK = 512,
    CHUNKS = 150,
    CHUNK_BLOCKS = (int)(INDEX_CHUNK_BYTES / BLOCK),
    BLOCKS = CHUNKS * CHUNK_BLOCKS - 1000, /* the last chunk is cut short */
    OPS = 400,
    TIMES = 300,
    PATHS = 3,
    VIEWS = 4,
    STRETCHES = 6
};

enum op_kind { OP_WRITE, OP_ZERO, OP_PATTERN, OP_GAP, OP_WHOLE_GAP, OP_BASELINE };

struct op {
    enum op_kind kind;
    uint64_t path;
    struct stamp stamp;
    uint32_t start; /* blocks */
    uint32_t blocks;
    uint32_t period; /* PATTERN: bytes */
    uint16_t reason;
};

/* What the model knows of a block. */
struct block {
    bool known;
    bool tainted;
    uint16_t source; /* number of the operation + 1; 0: zeros */
    uint16_t reason;
    uint64_t since_ns;
};

/* What lies under the pieces decides which way is taken to the gaps. */
enum mode { BASELINE_ONLY, WHOLE_GAPS_ONLY, BOTH };

struct history {
    enum mode mode;
    struct rig rig;
    unsigned seed;
    uint64_t paths[PATHS];
    struct op ops[OPS];
    size_t order[OPS]; /* in which they are committed */
    struct block *blocks;
    struct thinned_entry thinned[PATHS * STRETCHES];
    size_t thinned_count;
};

static uint32_t pick(struct history *h, uint32_t below) {
    return (uint32_t)rand_r(&h->seed) % below;
}

static uint8_t byte_of(size_t op, uint64_t at) {
    return (uint8_t)(op * 131 + at * 7 + (at >> 9) * 3 + 1);
}

/* Mostly small, at a few crowded places around chunk boundaries; sometimes anything. */
static void pick_range(struct history *h, struct op *op) {
    uint32_t most = 64;
    uint32_t start = (1 + pick(h, 4)) * 37 * CHUNK_BLOCKS / 2 - 100 + pick(h, 200);
    uint32_t shape = pick(h, 20);
    if (shape < 3)
        most = CHUNK_BLOCKS;
    if (shape == 0)
        start = pick(h, BLOCKS);
    if (shape == 3 && op->kind != OP_WRITE) {
        start = pick(h, CHUNK_BLOCKS * 40);
        most = BLOCKS;
    }
    op->start = start;
    op->blocks = 1 + pick(h, most);
    /* The volume may have been larger once: what lies beyond its end is not shown. */
    if (op->kind == OP_PATTERN) {
        op->period = (1 + pick(h, 5)) * BLOCK;
        op->blocks = (op->blocks / (op->period / BLOCK) + 1) * (op->period / BLOCK);
    }
}

static void make_ops(struct history *h) {
    for (size_t i = 0; i < OPS; i++) {
        struct op *op = &h->ops[i];
        uint32_t kind = pick(h, 100);
        op->kind = kind < 60   ? OP_WRITE
                   : kind < 75 ? OP_ZERO
                   : kind < 85 ? OP_PATTERN
                   : kind < 98 ? OP_GAP
                               : OP_WHOLE_GAP;
        if (op->kind == OP_WHOLE_GAP && h->mode == BASELINE_ONLY)
            op->kind = OP_GAP;
        if (i < 2 && h->mode != WHOLE_GAPS_ONLY)
            op->kind = OP_BASELINE;
        op->path = h->paths[pick(h, PATHS)];
        op->stamp = (struct stamp){1000 + pick(h, TIMES), 1 + pick(h, 2), 1 + pick(h, 2), i};
        op->reason = (uint16_t)(1 + pick(h, 12));
        if (op->kind == OP_BASELINE)
            op->stamp = (struct stamp){1000 + pick(h, TIMES), 0, 1, i};
        pick_range(h, op);
    }
}

static void put_op(struct history *h, size_t number) {
    const struct op *op = &h->ops[number];
    uint64_t offset = (uint64_t)op->start * BLOCK;
    uint64_t length = (uint64_t)op->blocks * BLOCK;
    uint32_t bytes = op->kind == OP_PATTERN ? op->period : (uint32_t)length;
    if (op->kind == OP_GAP || op->kind == OP_WHOLE_GAP) {
        bool whole = op->kind == OP_WHOLE_GAP;
        rig_gap(&h->rig, op->path, &op->stamp, whole ? 0 : offset, whole ? GAP_TO_END : length,
                op->reason);
        return;
    }
    if (op->kind == OP_BASELINE) {
        struct floor floor = {.stamp = op->stamp, .kind = FLOOR_ZERO};
        rig_ok(&h->rig, index_put_floor(rig_writer(&h->rig), op->path, &floor, &h->rig.err));
        return;
    }
    AUTO_FREE uint8_t *data = op->kind == OP_ZERO ? NULL : malloc(bytes);
    for (uint32_t i = 0; data != NULL && i < bytes; i++)
        data[i] = byte_of(number, i);
    rig_put(&h->rig, op->path, &op->stamp, offset, length, data, bytes);
}

static void shuffle(struct history *h) {
    for (size_t i = 0; i < OPS; i++)
        h->order[i] = i;
    for (size_t i = OPS - 1; i > 0; i--) {
        size_t k = pick(h, (uint32_t)i + 1);
        size_t swap = h->order[i];
        h->order[i] = h->order[k];
        h->order[k] = swap;
    }
}

/* Any order, any batches, a tenth of them twice, and now and then a restart. */
static void commit_some(struct history *h, size_t from, size_t until) {
    for (size_t i = from; i < until; i++) {
        put_op(h, h->order[i]);
        if (pick(h, 10) == 0)
            put_op(h, h->order[pick(h, (uint32_t)i + 1)]);
        if (pick(h, 15) == 0)
            rig_commit(&h->rig);
        if (pick(h, 150) == 0) {
            rig_commit(&h->rig);
            rig_close(&h->rig);
            rig_open(&h->rig);
        }
    }
    rig_commit(&h->rig);
}

static int compare_ops(const void *left, const void *right) {
    const struct op *const *a = left;
    const struct op *const *b = right;
    return stamp_compare(&(*a)->stamp, &(*b)->stamp);
}

static void apply(struct history *h, const struct op *op) {
    bool all = op->kind == OP_WHOLE_GAP || op->kind == OP_BASELINE;
    uint32_t start = all ? 0 : op->start;
    uint32_t end = all ? BLOCKS : op->start + op->blocks;
    bool gap = op->kind == OP_GAP || op->kind == OP_WHOLE_GAP;
    bool zero = op->kind == OP_ZERO || op->kind == OP_BASELINE;
    for (uint32_t i = start; i < end && i < BLOCKS; i++) {
        struct block *b = &h->blocks[i];
        if (!gap) {
            *b = (struct block){.known = true, .source = zero ? 0 : (uint16_t)(op - h->ops + 1)};
            continue;
        }
        if (b->tainted)
            continue;
        b->tainted = true;
        b->since_ns = op->stamp.time_ns;
        b->reason = op->reason;
    }
}

static void model_at(struct history *h, uint64_t time_ns, uint64_t *updates) {
    const struct op *order[OPS];
    for (size_t i = 0; i < OPS; i++)
        order[i] = &h->ops[i];
    qsort(order, OPS, sizeof order[0], compare_ops);
    memset(h->blocks, 0, BLOCKS * sizeof *h->blocks);
    *updates = 0;
    for (size_t i = 0; i < OPS; i++) {
        if (order[i]->stamp.time_ns > time_ns)
            continue;
        apply(h, order[i]);
        *updates += order[i]->kind <= OP_PATTERN;
    }
}

static bool inexact(const struct block *b) {
    return !b->known || b->tainted;
}

static void expect_block(const struct history *h, uint32_t number, uint8_t to[BLOCK]) {
    const struct block *b = &h->blocks[number];
    memset(to, 0, BLOCK);
    if (b->source == 0)
        return;
    const struct op *op = &h->ops[b->source - 1];
    uint64_t at = (uint64_t)(number - op->start) * BLOCK;
    if (op->kind == OP_PATTERN)
        at %= op->period;
    for (uint32_t i = 0; i < BLOCK; i++)
        to[i] = byte_of(b->source - 1u, at + i);
}

static void check_map(const struct history *h, const struct image_run *runs, size_t count,
                      uint64_t chunk) {
    uint64_t at = chunk * INDEX_CHUNK_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct image_run *run = &runs[i];
        cr_assert_eq(run->offset_bytes, at, "runs cover the chunk without a hole");
        at += run->length_bytes;
        for (uint64_t k = run->offset_bytes / BLOCK; k < at / BLOCK; k++) {
            const struct block *b = &h->blocks[k];
            cr_assert_eq(run->exact, !inexact(b), "block %lu", k);
            cr_assert_eq(run->kind == RUN_UNKNOWN, !b->known);
            if (b->known && b->source > 0)
                cr_assert_eq(stamp_compare(&run->stamp, &h->ops[b->source - 1].stamp), 0);
            if (b->known && b->tainted) {
                cr_assert_eq(run->gap_stamp.time_ns, b->since_ns);
                cr_assert_eq(run->gap_reason, b->reason);
            }
        }
    }
    cr_assert(at == (chunk + 1) * INDEX_CHUNK_BYTES || at == (uint64_t)BLOCKS * BLOCK);
}

static void check_chunk(struct history *h, struct image *im, uint64_t chunk, uint8_t *room) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    size_t bytes = 0;
    bool all_zero = false;
    rig_ok(&h->rig, image_chunk_map(im, chunk, &runs, &count, &h->rig.err));
    check_map(h, runs, count, chunk);
    memset(room, 0xee, INDEX_CHUNK_BYTES);
    rig_ok(&h->rig, image_chunk_read(im, chunk, room, &bytes, &all_zero, &h->rig.err));
    bool zero = true;
    for (size_t i = 0; i < bytes; i += BLOCK) {
        uint8_t expected[BLOCK];
        expect_block(h, (uint32_t)(chunk * CHUNK_BLOCKS + i / BLOCK), expected);
        cr_assert_eq(memcmp(room + i, expected, BLOCK), 0, "chunk %lu byte %zu", chunk, i);
        for (size_t k = 0; k < BLOCK; k++)
            zero = zero && expected[k] == 0;
    }
    cr_assert_eq(all_zero, zero);
}

static void check_gaps(struct history *h, struct image *im) {
    AUTO_FREE struct image_gap *gaps = NULL;
    size_t count = 0;
    rig_ok(&h->rig, image_gaps(im, &gaps, &count, &h->rig.err));
    size_t found = 0;
    for (uint32_t i = 0; i < BLOCKS;) {
        const struct block *b = &h->blocks[i];
        uint64_t since = b->known ? b->since_ns : 0;
        uint16_t reason = b->known ? b->reason : 0;
        uint32_t end = i + 1;
        while (end < BLOCKS && inexact(&h->blocks[end]) == inexact(b) &&
               (h->blocks[end].known ? h->blocks[end].since_ns : 0) == since &&
               (h->blocks[end].known ? h->blocks[end].reason : 0) == reason)
            end++;
        if (inexact(b)) {
            cr_assert_lt(found, count, "the gap at block %u is not listed", i);
            cr_assert_eq(gaps[found].offset_bytes, (uint64_t)i * BLOCK);
            cr_assert_eq(gaps[found].length_bytes, (uint64_t)(end - i) * BLOCK);
            cr_assert_eq(gaps[found].since_ns, since);
            cr_assert_eq(gaps[found].reason, reason);
            found++;
        }
        i = end;
    }
    cr_assert_eq(found, count, "nothing else is listed");
}

static void check_view(struct history *h, const struct volume *v, uint64_t time_ns) {
    uint64_t updates;
    AUTO(image) im = NULL;
    AUTO_FREE uint8_t *room = malloc(INDEX_CHUNK_BYTES);
    model_at(h, time_ns, &updates);
    rig_ok(&h->rig, image_open(h->rig.store, v, time_ns, &im, &h->rig.err));
    if (h->thinned_count == 0)
        cr_assert_eq(image_info(im)->updates, updates);
    cr_assert_eq(image_chunk_count(im), CHUNKS);
    check_gaps(h, im);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        check_chunk(h, im, chunk, room);
}

static void check_history(enum mode mode) {
    static struct history h;
    h = (struct history){.mode = mode, .seed = test_seed()};
    rig_start(&h.rig);
    h.blocks = calloc(BLOCKS, sizeof *h.blocks);
    const char *targets[PATHS] = {"iqn.a", "iqn.b", "iqn.c"};
    for (int i = 0; i < PATHS; i++)
        h.paths[i] = rig_path(&h.rig, 1, 1, targets[i], "naa.9", (uint64_t)BLOCKS * BLOCK, 900);
    rig_stream(&h.rig, 1, 1, 900, 10000, false);
    rig_commit(&h.rig);
    make_ops(&h);
    shuffle(&h);
    commit_some(&h, 0, OPS);
    struct volume_list list;
    AUTO(index_reader) r = rig_reader(&h.rig);
    rig_ok(&h.rig, volume_list_read(r, &list, &h.rig.err));
    cr_assert_eq(list.count, 1);
    list.volumes[0].first_ns = 900; /* also before the oldest baseline */
    for (int i = 0; i < VIEWS; i++)
        check_view(&h, &list.volumes[0], i == 0 ? 10000 : 990 + pick(&h, TIMES + 20));
    volume_list_release(&list);
    index_reader_close(take_pointer(&r));
    free(h.blocks);
    rig_end(&h.rig);
}

/* --- thinned out ---------------------------------------------------------------------------------
 */

static int compare_numbers(const void *left, const void *right) {
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

/* Stretches of a path that do not overlap, some of them next to each other; mostly with a horizon.
 */
static void pick_stretches(struct history *h, uint64_t path) {
    uint64_t bounds[STRETCHES];
    for (int i = 0; i < STRETCHES; i++)
        bounds[i] = 995 + pick(h, TIMES);
    qsort(bounds, STRETCHES, sizeof bounds[0], compare_numbers);
    uint64_t at = pick(h, 4) > 0 ? 0 : bounds[0];
    for (int i = 0; i < STRETCHES; i++) {
        if (bounds[i] > at && (at == 0 || pick(h, 3) > 0))
            h->thinned[h->thinned_count++] =
                (struct thinned_entry){.path = path, .from_ns = at, .until_ns = bounds[i]};
        at = bounds[i];
    }
}

/* Of those that are committed: the first `committed` in the order. */
static struct stamp newest_baseline(const struct history *h, uint64_t until_ns, size_t committed) {
    struct stamp newest = {0};
    for (size_t i = 0; i < committed; i++) {
        const struct op *op = &h->ops[h->order[i]];
        if (op->kind == OP_BASELINE && op->stamp.time_ns <= until_ns &&
            stamp_compare(&op->stamp, &newest) > 0)
            newest = op->stamp;
    }
    return newest;
}

static uint64_t thin_all(struct history *h, size_t committed) {
    struct thin_result result = {0};
    rig_ok(&h->rig,
           index_put_thinned(h->rig.store->index, h->thinned, h->thinned_count, &h->rig.err));
    for (int steps = 0;; steps++) {
        struct thinned_entry e;
        AUTO(index_reader) r = rig_reader(&h->rig);
        int code = index_next_thinning(r, &e, &h->rig.err);
        index_reader_close(take_pointer(&r));
        if (code == ERR_NOT_FOUND)
            return result.changes;
        rig_ok(&h->rig, code);
        struct thin_ground ground = {.baseline = newest_baseline(h, e.until_ns, committed)};
        rig_ok(&h->rig, index_thin(h->rig.store->index, &e, &ground, &result, &h->rig.err));
        cr_assert_lt(steps, 10000, "it does not end");
    }
}

static bool is_kept(const struct history *h, uint64_t time_ns) {
    for (size_t i = 0; i < h->thinned_count; i++) {
        if (h->thinned[i].from_ns < time_ns && time_ns < h->thinned[i].until_ns)
            return false;
    }
    return true;
}

static void check_kept(struct history *h, const struct volume *v, uint64_t time_ns) {
    struct image *im = NULL;
    if (is_kept(h, time_ns)) {
        check_view(h, v, time_ns);
        return;
    }
    cr_assert_eq(image_open(h->rig.store, v, time_ns, &im, &h->rig.err), ERR_INEXACT,
                 "%lu can be opened", (unsigned long)time_ns);
}

/* What differs between two moments that are kept is among what is said to have changed. */
static void check_changes(struct history *h, const struct volume *v, uint64_t since_ns,
                          uint64_t until_ns) {
    AUTO(image) before = NULL;
    AUTO(image) after = NULL;
    struct image_changes changes;
    uint64_t updates;
    AUTO_FREE struct block *old = calloc(BLOCKS, sizeof *old);
    rig_ok(&h->rig, image_open(h->rig.store, v, since_ns, &before, &h->rig.err));
    rig_ok(&h->rig, image_open(h->rig.store, v, until_ns, &after, &h->rig.err));
    model_at(h, since_ns, &updates);
    memcpy(old, h->blocks, BLOCKS * sizeof *old);
    model_at(h, until_ns, &updates);
    rig_ok(&h->rig, image_changes_find(after, before, &changes, &h->rig.err));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (old[i].source != h->blocks[i].source)
            cr_assert(rangeset_contains(&changes.chunks, i / CHUNK_BLOCKS, i / CHUNK_BLOCKS + 1),
                      "block %u changed between %lu and %lu", i, (unsigned long)since_ns,
                      (unsigned long)until_ns);
    }
    image_changes_release(&changes);
}

/*
 * What retention leaves shows what it always did, also when changes come late that are older than
 * what was thinned out; and of what it does not leave, no image can be made.
 */
static void check_thinned(enum mode mode) {
    static struct history h;
    h = (struct history){.mode = mode, .seed = test_seed()};
    rig_start(&h.rig);
    h.blocks = calloc(BLOCKS, sizeof *h.blocks);
    const char *targets[PATHS] = {"iqn.a", "iqn.b", "iqn.c"};
    for (int i = 0; i < PATHS; i++) {
        h.paths[i] = rig_path(&h.rig, 1, 1, targets[i], "naa.9", (uint64_t)BLOCKS * BLOCK, 900);
        pick_stretches(&h, h.paths[i]);
    }
    rig_stream(&h.rig, 1, 1, 900, 10000, false);
    rig_commit(&h.rig);
    make_ops(&h);
    shuffle(&h);
    size_t late = pick(&h, 2) * pick(&h, OPS / 4);
    commit_some(&h, 0, OPS - late);
    cr_assert(thin_all(&h, OPS - late) > 0 || late > 0 || mode != BASELINE_ONLY,
              "nothing was taken out");
    commit_some(&h, OPS - late, OPS);
    struct volume_list list;
    AUTO(index_reader) r = rig_reader(&h.rig);
    rig_ok(&h.rig, volume_list_read(r, &list, &h.rig.err));
    list.volumes[0].first_ns = 900;
    uint64_t kept[VIEWS + 3] = {10000};
    size_t kept_count = 1;
    for (size_t i = 0; i < VIEWS; i++) {
        uint64_t time_ns = 990 + pick(&h, TIMES + 20);
        if (pick(&h, 2) == 0)
            time_ns = h.thinned[pick(&h, (uint32_t)h.thinned_count)].until_ns;
        check_kept(&h, &list.volumes[0], time_ns);
        if (is_kept(&h, time_ns))
            kept[kept_count++] = time_ns;
    }
    check_kept(&h, &list.volumes[0], 10000);
    qsort(kept, kept_count, sizeof kept[0], compare_numbers);
    for (size_t i = 1; i < kept_count; i++)
        check_changes(&h, &list.volumes[0], kept[i - 1], kept[i]);
    volume_list_release(&list);
    index_reader_close(take_pointer(&r));
    free(h.blocks);
    rig_end(&h.rig);
}

Test(image_model, what_retention_leaves_of_a_history_over_a_baseline_equals_the_model) {
    check_thinned(BASELINE_ONLY);
}

Test(image_model, what_retention_leaves_of_a_history_without_a_baseline_equals_the_model) {
    check_thinned(WHOLE_GAPS_ONLY);
}

Test(image_model, what_retention_leaves_of_any_history_equals_the_model) {
    check_thinned(BOTH);
}

Test(image_model, any_history_over_a_baseline_equals_the_model) {
    check_history(BASELINE_ONLY);
}

Test(image_model, any_history_without_a_baseline_equals_the_model) {
    check_history(WHOLE_GAPS_ONLY);
}

Test(image_model, any_history_with_whole_gaps_and_baselines_equals_the_model) {
    check_history(BOTH);
}
