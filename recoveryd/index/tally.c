#include "recoveryd/index/tally.h"

#include "recoveryd/index/blocks.h"
#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/values.h"

enum { TALLY_LEVELS = 4, TALLY_BITS = 27, TALLY_STEP_BITS = 10 };

static unsigned shift_of(unsigned level) {
    return TALLY_BITS + TALLY_STEP_BITS * level;
}

static int add_to_bucket(struct kv_txn *txn, const struct kv_key *key, uint64_t updates,
                         struct error *err) {
    struct kv_item item = {.key = cursor_of(key->bytes, key->length)};
    uint64_t path;
    uint64_t bucket;
    uint64_t before = 0;
    uint8_t level;
    AUTO_BUFFER value;
    buffer_init(&value, 64);
    int code = kv_get(txn, TABLE_TALLIES, key, &item.value, err);
    if (code == 0)
        code = value_decode_tally(item, &path, &level, &bucket, &before, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    value_encode_tally(&value, before + updates);
    return kv_put(txn, TABLE_TALLIES, key, value.data, value.length, err);
}

int tally_flush(struct tally *t, struct kv_txn *txn, struct error *err) {
    int code = 0;
    for (uint8_t level = 0; code == 0 && t->updates > 0 && level < TALLY_LEVELS; level++) {
        struct kv_key key = key_tally(t->path, level, t->bucket >> (TALLY_STEP_BITS * level));
        code = add_to_bucket(txn, &key, t->updates, err);
    }
    t->updates = 0;
    return code;
}

int tally_add(struct tally *t, struct kv_txn *txn, uint64_t path, uint64_t time_ns,
              struct error *err) {
    uint64_t bucket = time_ns >> TALLY_BITS;
    if (t->updates > 0 && (t->path != path || t->bucket != bucket)) {
        int code = tally_flush(t, txn, err);
        if (code != 0)
            return code;
    }
    t->path = path;
    t->bucket = bucket;
    t->updates++;
    return 0;
}

/* The buckets from `from` to below `to` of one size. */
static int sum_buckets(struct kv_txn *txn, uint64_t path, uint8_t level, uint64_t from, uint64_t to,
                       uint64_t *sum, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    int code = kv_cursor_open(txn, TABLE_TALLIES, &c, err);
    if (code != 0)
        return code;
    struct kv_key key = key_tally(path, level, from);
    for (code = kv_seek_up(c, &key, &item, err); code == 0; code = kv_next(c, &item, err)) {
        uint64_t found_path;
        uint64_t bucket;
        uint64_t updates;
        uint8_t found_level;
        code = value_decode_tally(item, &found_path, &found_level, &bucket, &updates, err);
        if (code != 0 || found_path != path || found_level != level || bucket >= to)
            return code;
        *sum += updates;
    }
    return code == ERR_NOT_FOUND ? 0 : code;
}

static bool count_update(void *context, const struct stamp *stamp, uint8_t op,
                         uint64_t offset_bytes, uint64_t length_bytes) {
    uint64_t *count = context;
    (void)stamp;
    (void)offset_bytes;
    (void)length_bytes;
    *count += op != UPDATE_FLUSH;
    return true;
}

/* One that was put twice may be merged and in the journal. `newest`: of those that are merged. */
static int is_merged(struct block_cursor *history, const struct change *c,
                     const struct stamp *newest, bool *merged, struct error *err) {
    const struct kv_key prefix = key_path(c->path);
    const struct change *found = NULL;
    *merged = false;
    if (stamp_compare(&c->stamp, newest) > 0)
        return 0;
    int code = blocks_seek_down(history, &prefix, &c->stamp, &found, err);
    *merged = code == 0 && stamp_compare(&found->stamp, &c->stamp) == 0;
    return index_ended(code);
}

/* Those that are not merged are in no bucket. */
static int count_tail(struct index_reader *r, uint64_t path, uint64_t before_ns, uint64_t *count,
                      struct error *err) {
    AUTO(block_cursor) history = NULL;
    const struct kv_key prefix = key_path(path);
    const struct stamp end = stamp_end_of(UINT64_MAX);
    const struct change *last = NULL;
    const struct tail *tail;
    struct stamp newest = {0};
    int code = reader_tail(r, &tail, err);
    if (code == 0)
        code = blocks_open(r->txn, TABLE_HISTORY, &history, err);
    if (code == 0)
        code = blocks_seek_down(history, &prefix, &end, &last, err);
    if (code == 0)
        newest = last->stamp;
    code = index_ended(code);
    const struct changes *all = &tail->changes;
    size_t i = code == 0 ? tail_first_change(tail, path, &(struct stamp){0}) : all->count;
    for (; code == 0 && i < all->count && all->list[i].path == path; i++) {
        bool merged = false;
        if (all->list[i].stamp.time_ns < before_ns && all->list[i].op != UPDATE_FLUSH) {
            code = is_merged(history, &all->list[i], &newest, &merged, err);
            *count += !merged;
        }
    }
    return code;
}

/* Of each size the buckets that the next larger ones do not hold, then the rest one by one. */
int index_count_updates(struct index_reader *r, uint64_t path, uint64_t until_ns, uint64_t *count,
                        struct error *err) {
    uint64_t from = 0;
    *count = 0;
    for (unsigned level = TALLY_LEVELS; level-- > 0;) {
        uint64_t to = until_ns >> shift_of(level);
        int code = sum_buckets(r->txn, path, (uint8_t)level, from, to, count, err);
        if (code != 0)
            return code;
        from = level > 0 ? to << TALLY_STEP_BITS : to;
    }
    int code = count_tail(r, path, from << TALLY_BITS, count, err);
    if (code != 0)
        return code;
    return index_each_event(r, path, from << TALLY_BITS, until_ns, count_update, count, err);
}
