/*
 * What is merged reads as what was committed: against a model, over crowded chunks (so that there
 * are keyframes), with changes that come late or twice, and whatever part of the journal is merged
 * yet.
 */
#include "recoveryd/index/piece_walk.h"
#include "recoveryd/index/thinned.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <string.h>

enum {
    UNIT = 512,
    CHUNKS = 3,
    UNITS = CHUNKS * 2048,
    CHANGES = 12000,
    VIEWS = 12,
    PATH = 5,
    MONITORS = 6
};

struct model {
    struct rig rig;
    unsigned seed;
    uint32_t monitors;
    struct update_record updates[CHANGES];
    struct stamp stamps[CHANGES];
    uint32_t order[CHANGES]; /* in which they are committed */
};

static uint32_t pick(struct model *m, uint32_t below) {
    return (uint32_t)rand_r(&m->seed) % below;
}

/* Stamps go up, mostly by little; several streams take turns. */
static void make_updates(struct model *m) {
    uint64_t time_ns = 1000000000;
    for (uint32_t i = 0; i < CHANGES; i++) {
        static const uint8_t ops[] = {UPDATE_WRITE, UPDATE_WRITE,   UPDATE_WRITE,
                                      UPDATE_ZERO,  UPDATE_PATTERN, UPDATE_FLUSH};
        struct update_record *u = &m->updates[i];
        uint32_t most = pick(m, 50) == 0 ? UNITS : 16;
        uint32_t start = pick(m, UNITS);
        uint32_t units = 1 + pick(m, most);
        time_ns += pick(m, 4) == 0 ? 0 : pick(m, 3000000);
        m->stamps[i] = (struct stamp){time_ns, 1 + pick(m, m->monitors), pick(m, 3) / 2 + 1, i + 1};
        *u = (struct update_record){.time_ns = time_ns,
                                    .issued_ns = pick(m, 5) > 0 ? time_ns - pick(m, 500000) : 0,
                                    .path = PATH,
                                    .offset_bytes = (uint64_t)start * UNIT,
                                    .op = ops[pick(m, 6)]};
        if (units > UNITS - start)
            units = UNITS - start;
        u->length_bytes = (uint64_t)units * UNIT;
        if (units > 16 && u->op == UPDATE_WRITE)
            u->op = UPDATE_ZERO;
        if (u->op == UPDATE_WRITE)
            u->payload_bytes = (uint32_t)u->length_bytes;
        if (u->op == UPDATE_PATTERN)
            u->payload_bytes = UNIT;
        u->payload_crc32c = i;
    }
}

/* Near the order of the stamps, a few far behind. */
static void shuffle(struct model *m) {
    for (uint32_t i = 0; i < CHANGES; i++)
        m->order[i] = i;
    for (uint32_t i = 0; i < CHANGES; i++) {
        uint32_t far = pick(m, 200) == 0 ? CHANGES : 40;
        uint32_t j = i + pick(m, far);
        uint32_t kept = m->order[i];
        if (j >= CHANGES)
            continue;
        m->order[i] = m->order[j];
        m->order[j] = kept;
    }
}

static void put(struct model *m, uint32_t i) {
    const struct update_record *u = &m->updates[i];
    /* The place tells which one it was. */
    struct extent extent = {1 + i / 1000, u->payload_bytes, 4096 + (uint64_t)i * 8192};
    rig_ok(&m->rig, index_put_update(rig_writer(&m->rig), &m->stamps[i], u,
                                     u->payload_bytes > 0 ? &extent : NULL, &m->rig.err));
}

static void commit_all(struct model *m) {
    bool merged;
    for (uint32_t at = 0; at < CHANGES;) {
        uint32_t end = at + 1 + pick(m, 600);
        for (; at < end && at < CHANGES; at++) {
            put(m, m->order[at]);
            if (pick(m, 30) == 0)
                put(m, m->order[pick(m, at + 1)]);
        }
        rig_commit(&m->rig);
        if (pick(m, 12) == 0)
            rig_ok(&m->rig, index_merge(m->rig.store->index, &merged, &m->rig.err));
    }
}

/* --- images --- */

struct look {
    uint64_t chunk;
    struct stamp last; /* of the piece before */
    uint32_t pieces;
    uint32_t shown[2048]; /* per unit: number of the change + 1; 0: none */
    uint32_t of_monitor[MONITORS][2048];
    bool met[CHANGES + 1];
};

static bool take_piece(void *context, const struct piece *p) {
    struct look *look = context;
    uint64_t first = look->chunk * 2048;
    cr_assert(look->pieces == 0 || stamp_compare(&p->stamp, &look->last) <= 0, "not newest first");
    /* One that was put twice may be in the runs and in the journal. */
    look->pieces += look->pieces == 0 || stamp_compare(&p->stamp, &look->last) != 0;
    look->last = p->stamp;
    uint32_t number = (uint32_t)p->stamp.order;
    look->met[number] = true;
    cr_assert(p->kind == PIECE_ZERO || p->extent.offset == 4096 + (uint64_t)(number - 1) * 8192);
    cr_assert(p->kind == PIECE_ZERO || p->payload_crc32c == number - 1);
    for (uint64_t at = p->offset_bytes / UNIT; at < (p->offset_bytes + p->length_bytes) / UNIT;
         at++) {
        cr_assert(at >= first && at < first + 2048, "a piece beside the chunk");
        if (look->shown[at - first] == 0)
            look->shown[at - first] = number;
        uint32_t *own = &look->of_monitor[p->stamp.monitor - 1][at - first];
        *own = *own == 0 ? number : *own;
    }
    return true;
}

static uint32_t newest_over(const struct model *m, uint64_t unit, uint64_t until_ns) {
    for (uint32_t i = CHANGES; i-- > 0;) {
        const struct update_record *u = &m->updates[i];
        if (u->time_ns <= until_ns && u->op != UPDATE_FLUSH && u->offset_bytes <= unit * UNIT &&
            unit * UNIT < u->offset_bytes + u->length_bytes)
            return i;
    }
    return CHANGES;
}

/* Of equal times the order is that of streams, then of marks. */
static uint32_t shown_at(const struct model *m, uint64_t unit, uint64_t until_ns) {
    uint32_t best = newest_over(m, unit, until_ns);
    if (best == CHANGES)
        return 0;
    for (uint32_t i = best; i-- > 0 && m->updates[i].time_ns == m->updates[best].time_ns;) {
        const struct update_record *u = &m->updates[i];
        if (u->op != UPDATE_FLUSH && u->offset_bytes <= unit * UNIT &&
            unit * UNIT < u->offset_bytes + u->length_bytes &&
            stamp_compare(&m->stamps[i], &m->stamps[best]) > 0)
            best = i;
    }
    return best + 1;
}

/* Every piece, or what an image needs. */
static void walk(struct model *m, struct index_reader *r, enum piece_walk_kind kind,
                 uint64_t until_ns, struct look *look) {
    AUTO(piece_walk) w = NULL;
    const uint64_t path = PATH;
    struct stamp until = {until_ns, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    struct piece piece;
    int code = 0;
    rig_ok(&m->rig, piece_walk_create(r, kind, &path, 1, 0, &w, &m->rig.err));
    rig_ok(&m->rig, piece_walk_seek(w, look->chunk, &until, &m->rig.err));
    while ((code = piece_walk_next(w, &piece, &m->rig.err)) == 0)
        take_piece(look, &piece);
    cr_assert_eq(code, ERR_NOT_FOUND);
}

/* How many pieces of the chunk there are, in all. */
static uint32_t count_pieces(const struct model *m, uint64_t chunk, uint64_t until_ns) {
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    uint32_t count = 0;
    for (uint32_t i = 0; i < CHANGES; i++) {
        const struct update_record *u = &m->updates[i];
        count += u->time_ns <= until_ns && u->op != UPDATE_FLUSH &&
                 u->offset_bytes < start + INDEX_CHUNK_BYTES &&
                 start < u->offset_bytes + u->length_bytes;
    }
    return count;
}

static uint32_t check_chunk(struct model *m, struct index_reader *r, uint64_t chunk,
                            uint64_t until_ns) {
    struct look all = {.chunk = chunk};
    struct look look = {.chunk = chunk};
    walk(m, r, WALK_ALL, until_ns, &all);
    walk(m, r, WALK_SHOWN, until_ns, &look);
    cr_assert_eq(all.pieces, count_pieces(m, chunk, until_ns));
    cr_assert_arr_eq(all.shown, look.shown, sizeof look.shown);
    for (int i = 0; i < MONITORS; i++)
        cr_assert_arr_eq(all.of_monitor[i], look.of_monitor[i], sizeof look.of_monitor[i]);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t unit = pick(m, 2048);
        uint32_t expected = shown_at(m, chunk * 2048 + unit, until_ns);
        cr_assert_eq(look.shown[unit], expected, "unit %u of chunk %lu at %lu: %u, not %u", unit,
                     (unsigned long)chunk, (unsigned long)until_ns, look.shown[unit], expected);
    }
    return look.pieces;
}

/* --- history --- */

struct told {
    const struct model *m;
    uint64_t from_ns;
    uint64_t until_ns;
    uint32_t count;
    struct stamp last;
};

static bool take_event(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset_bytes,
                       uint64_t length_bytes) {
    struct told *told = context;
    const struct update_record *u = &told->m->updates[stamp->order - 1];
    cr_assert(told->count == 0 || stamp_compare(&told->last, stamp) < 0, "not in order");
    cr_assert(u->op == op && u->offset_bytes == offset_bytes && u->length_bytes == length_bytes);
    told->last = *stamp;
    told->count++;
    return true;
}

static void check_history(struct model *m, struct index_reader *r, uint64_t from_ns,
                          uint64_t until_ns) {
    struct told told = {.m = m};
    uint32_t events = 0;
    uint64_t updates = 0;
    uint64_t counted;
    struct stamp newest = {0};
    struct stamp found = {0};
    for (uint32_t i = 0; i < CHANGES; i++) {
        if (m->updates[i].time_ns > until_ns)
            continue;
        events += m->updates[i].time_ns >= from_ns;
        if (m->updates[i].op == UPDATE_FLUSH)
            continue;
        updates++;
        if (stamp_compare(&m->stamps[i], &newest) > 0)
            newest = m->stamps[i];
    }
    rig_ok(&m->rig, index_each_event(r, PATH, from_ns, until_ns, take_event, &told, &m->rig.err));
    cr_assert_eq(told.count, events);
    rig_ok(&m->rig, index_count_updates(r, PATH, until_ns, &counted, &m->rig.err));
    cr_assert_eq(counted, updates, "%lu updates, not %lu", (unsigned long)counted,
                 (unsigned long)updates);
    int code = index_newest_update(r, PATH, until_ns, &found, &m->rig.err);
    cr_assert(updates == 0 ? code == ERR_NOT_FOUND : code == 0);
    cr_assert_eq(stamp_compare(&found, &newest), 0);
}

static void check(struct model *m) {
    AUTO(index_reader) r = NULL;
    rig_ok(&m->rig, index_read(m->rig.store->index, &r, &m->rig.err));
    uint64_t end_ns = m->updates[CHANGES - 1].time_ns;
    for (int view = 0; view < VIEWS; view++) {
        uint64_t until_ns = view == 0 ? end_ns : m->updates[pick(m, CHANGES)].time_ns;
        for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
            check_chunk(m, r, chunk, until_ns);
        check_history(m, r, m->updates[pick(m, CHANGES)].time_ns, until_ns);
    }
    uint64_t chunk;
    rig_ok(&m->rig, index_next_chunk(r, PATH, 0, &chunk, &m->rig.err));
    cr_assert_eq(chunk, 0);
    cr_assert_eq(index_next_chunk(r, PATH, CHUNKS + 64, &chunk, &m->rig.err), ERR_NOT_FOUND);
}

static void merge_rest(struct model *m) {
    bool merged = true;
    while (merged)
        rig_ok(&m->rig, index_merge(m->rig.store->index, &merged, &m->rig.err));
    uint64_t blocks;
    rig_ok(&m->rig, index_unmerged(m->rig.store->index, &blocks, &m->rig.err));
    cr_assert_eq(blocks, 0);
}

Test(index_merge, any_order_reads_as_the_model) {
    struct model *m = calloc(1, sizeof *m);
    static const uint64_t limits[] = {0, 3, 20, INDEX_UNMERGED_MOST};
    rig_make_dir(&m->rig);
    m->seed = test_seed();
    m->rig.unmerged_most = limits[pick(m, 4)];
    m->monitors = 1 + pick(m, MONITORS);
    rig_open(&m->rig);
    make_updates(m);
    shuffle(m);
    commit_all(m);
    check(m);
    rig_close(&m->rig);
    rig_open(&m->rig);
    check(m);
    merge_rest(m);
    check(m);
    rig_end(&m->rig);
    free(m);
}

/* What a look-up reads does not grow with the history: keyframes end it. */
Test(index_merge, keyframes_bound_what_is_read) {
    struct model *m = calloc(1, sizeof *m);
    rig_start(&m->rig);
    m->seed = test_seed();
    m->monitors = 2;
    make_updates(m);
    for (uint32_t i = 0; i < CHANGES; i++) {
        m->updates[i].offset_bytes =
            UNIT * (uint64_t)(1 + pick(m, 100)); /* unit 0 is never written */
        m->updates[i].length_bytes = UNIT;
        m->updates[i].payload_bytes = m->updates[i].op == UPDATE_ZERO ? 0 : UNIT;
        m->order[i] = i;
    }
    commit_all(m);
    merge_rest(m);
    AUTO(index_reader) r = NULL;
    rig_ok(&m->rig, index_read(m->rig.store->index, &r, &m->rig.err));
    for (int view = 0; view < VIEWS; view++) {
        uint32_t read = check_chunk(m, r, 0, m->updates[pick(m, CHANGES)].time_ns);
        cr_assert_lt(read, CHANGES / 5, "%u pieces are read", read);
    }
    index_reader_close(take_pointer(&r));
    rig_end(&m->rig);
    free(m);
}

/* --- thinned out --- */

static bool take_number(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset_bytes,
                        uint64_t length_bytes) {
    struct told *told = context;
    (void)op;
    (void)offset_bytes;
    (void)length_bytes;
    told->count++;
    told->last = *stamp;
    return true;
}

static uint32_t count_events(struct model *m, struct index_reader *r) {
    struct told told = {.m = m};
    rig_ok(&m->rig, index_each_event(r, PATH, 0, UINT64_MAX, take_number, &told, &m->rig.err));
    return told.count;
}

/* What is shown at a moment that is kept is the same for every monitor; few pieces lie below it. */
static void check_same(struct model *m, struct index_reader *before, struct index_reader *after,
                       uint64_t until_ns) {
    struct stamp newest_before = {0};
    struct stamp newest_after = {0};
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct look old = {.chunk = chunk};
        struct look new = {.chunk = chunk};
        struct look all = {.chunk = chunk};
        walk(m, before, WALK_ALL, until_ns, &old);
        walk(m, after, WALK_SHOWN, until_ns, &new);
        walk(m, after, WALK_ALL, until_ns, &all);
        cr_assert_arr_eq(old.shown, new.shown, sizeof old.shown);
        cr_assert_arr_eq(old.shown, all.shown, sizeof old.shown);
        for (int i = 0; i <= CHANGES; i++)
            cr_assert(!new.met[i] || all.met[i], "a keyframe has what was taken out");
        for (int i = 0; i < MONITORS; i++)
            cr_assert_arr_eq(old.of_monitor[i], new.of_monitor[i], sizeof old.of_monitor[i]);
    }
    rig_ok(&m->rig, index_newest_update(before, PATH, until_ns, &newest_before, &m->rig.err));
    rig_ok(&m->rig, index_newest_update(after, PATH, until_ns, &newest_after, &m->rig.err));
    cr_assert_eq(stamp_compare(&newest_before, &newest_after), 0);
}

static void thin_all(struct model *m, const struct stamp *baseline, struct thin_result *result) {
    const struct thin_ground ground = {.baseline = *baseline};
    for (int code = 0; code == 0;) {
        struct thinned_entry e;
        AUTO(index_reader) r = rig_reader(&m->rig);
        code = index_next_thinning(r, &e, &m->rig.err);
        index_reader_close(take_pointer(&r));
        if (code == 0)
            rig_ok(&m->rig, index_thin(m->rig.store->index, &e, &ground, result, &m->rig.err));
        if (code == 0 && pick(m, 10) == 0) {
            rig_close(&m->rig); /* it goes on where it was */
            rig_open(&m->rig);
        }
    }
}

static uint64_t held(struct model *m) {
    AUTO(index_reader) r = rig_reader(&m->rig);
    uint64_t bytes;
    rig_ok(&m->rig, index_held(r, PATH, &bytes, &m->rig.err));
    return bytes;
}

/* Nor does any keyframe behind a baseline hold what lies below that. */
Test(index_merge, what_lies_below_a_baseline_is_thinned_out) {
    struct model *m = calloc(1, sizeof *m);
    struct thin_result result = {0};
    rig_start(&m->rig);
    m->seed = test_seed();
    m->monitors = 1 + pick(m, MONITORS);
    make_updates(m);
    shuffle(m);
    commit_all(m);
    merge_rest(m);
    struct stamp baseline = {.time_ns = m->updates[CHANGES / 2].time_ns};
    struct thinned_entry horizon = {PATH, 0, baseline.time_ns, 0, {0}};
    rig_ok(&m->rig, index_put_thinned(m->rig.store->index, &horizon, 1, &m->rig.err));
    thin_all(m, &baseline, &result);
    AUTO(index_reader) r = rig_reader(&m->rig);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct look shown = {.chunk = chunk};
        walk(m, r, WALK_SHOWN, UINT64_MAX, &shown);
        for (int i = 1; i <= CHANGES; i++)
            cr_assert(!shown.met[i] || stamp_compare(&m->stamps[i - 1], &baseline) >= 0);
    }
    index_reader_close(take_pointer(&r));
    rig_end(&m->rig);
    free(m);
}

/*
 * The crowded chunks have keyframes, which must not go on showing, or hiding, what was taken out. A
 * view that was open before goes on showing all.
 */
Test(index_merge, what_is_thinned_out_shows_the_same_at_moments_that_are_kept) {
    struct model *m = calloc(1, sizeof *m);
    struct thin_result result = {0};
    const struct stamp none = {0};
    rig_start(&m->rig);
    m->seed = test_seed();
    m->monitors = 1 + pick(m, MONITORS);
    make_updates(m);
    shuffle(m);
    commit_all(m);
    merge_rest(m);
    uint64_t written = 0;
    for (uint32_t i = 0; i < CHANGES; i++)
        written += m->updates[i].op == UPDATE_WRITE ? m->updates[i].length_bytes : 0;
    cr_assert_eq(held(m), written);
    uint64_t bounds[4];
    struct thinned_entry list[4];
    for (uint32_t i = 0; i < 4; i++) {
        bounds[i] = m->updates[(i + 1) * CHANGES / 5].time_ns;
        list[i] = (struct thinned_entry){PATH, i == 0 ? 0 : bounds[i - 1], bounds[i], 0, {0}};
    }
    rig_ok(&m->rig, index_put_thinned(m->rig.store->index, list, 4, &m->rig.err));
    thin_all(m, &none, &result);
    cr_assert_gt(result.changes, 0);
    cr_assert_eq(held(m), written - result.bytes);
    /* The whole history once more, beside it. */
    struct model *whole = calloc(1, sizeof *whole);
    *whole = *m;
    rig_start(&whole->rig);
    commit_all(whole);
    AUTO(index_reader) after = rig_reader(&m->rig);
    AUTO(index_reader) before = rig_reader(&whole->rig);
    for (uint32_t i = 0; i < 4; i++)
        check_same(m, before, after, bounds[i]);
    for (uint32_t i = 4 * CHANGES / 5; i < CHANGES; i += CHANGES / 40)
        check_same(m, before, after, m->updates[i].time_ns);
    cr_assert_lt(count_events(m, after), count_events(whole, before));
    /* A horizon behind the first of them takes those in. */
    struct thinned_entry horizon = {PATH, 0, bounds[2], 0, {0}};
    uint64_t begin_ns;
    uint64_t end_ns;
    index_reader_close(take_pointer(&after));
    rig_ok(&m->rig, index_put_thinned(m->rig.store->index, &horizon, 1, &m->rig.err));
    thin_all(m, &none, &result);
    after = rig_reader(&m->rig);
    rig_ok(&m->rig, index_thinned_ends(after, PATH, &begin_ns, &end_ns, &m->rig.err));
    cr_assert_eq(begin_ns, bounds[2]);
    cr_assert_eq(end_ns, bounds[3]);
    struct thinned_entry at;
    cr_assert_eq(index_thinned_at(after, PATH, bounds[0], false, &at, &m->rig.err), 0);
    cr_assert_eq(index_thinned_at(after, PATH, bounds[2], false, &at, &m->rig.err), ERR_NOT_FOUND);
    cr_assert_eq(index_thinned_at(after, PATH, bounds[2], true, &at, &m->rig.err), 0);
    for (uint32_t i = 2; i < 4; i++)
        check_same(m, before, after, bounds[i]);
    index_reader_close(take_pointer(&before));
    index_reader_close(take_pointer(&after));
    rig_end(&whole->rig);
    rig_end(&m->rig);
    free(whole);
    free(m);
}
