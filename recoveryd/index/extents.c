/* What the index points at. */
#include "recoveryd/index/counter.h"
#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/thinned.h"

struct scan {
    bool (*visit)(void *, const struct extent *);
    void *context;
    bool ended;
};

static void take(struct scan *s, const struct extent *extent) {
    if (extent->bytes > 0 && !s->ended)
        s->ended = !s->visit(s->context, extent);
}

static int take_block(struct scan *s, struct change_state state, struct cursor value,
                      struct error *err) {
    AUTO_CHANGES block = {0};
    int code = changes_unpack(&block, state, value, err);
    for (size_t i = 0; code == 0 && i < block.count; i++)
        take(s, &block.list[i].extent);
    return code;
}

static int take_run(struct scan *s, struct kv_item item, struct error *err) {
    cursor_skip(&item.key, 16);
    struct stamp first = key_take_stamp(&item.key);
    return take_block(s, change_state_at(&first), item.value, err);
}

static int take_whole(struct scan *s, struct kv_item item, struct error *err) {
    return take_block(s, change_state_none(), item.value, err);
}

static int take_row(struct scan *s, struct kv_item item, struct error *err) {
    struct piece piece;
    uint64_t path;
    uint64_t chunk;
    int code = value_decode_piece(item, &path, &chunk, &piece, err);
    if (code == 0 && (piece.kind == PIECE_DATA || piece.kind == PIECE_PATTERN))
        take(s, &piece.extent);
    return code;
}

static bool take_derived(void *context, const struct derived_entry *d) {
    struct scan *s = context;
    take(s, &d->payload);
    return !s->ended;
}

static int scan_table(struct kv_txn *t, enum index_table table,
                      int (*each)(struct scan *, struct kv_item, struct error *), struct scan *s,
                      struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key first = key_path(0);
    int code = kv_cursor_open(t, table, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &first, &item, err);
    while (code == 0 && !s->ended) {
        code = each(s, item, err);
        if (code == 0)
            code = kv_next(c, &item, err);
    }
    return index_ended(code);
}

int index_each_extent(struct index_reader *r, bool (*visit)(void *, const struct extent *),
                      void *context, struct error *err) {
    static const struct {
        enum index_table table;
        int (*each)(struct scan *, struct kv_item, struct error *);
    } tables[] = {
        {TABLE_JOURNAL, take_whole},
        {TABLE_RUNS, take_run},
        {TABLE_KEYFRAMES, take_whole},
        {TABLE_PIECES, take_row},
    };
    struct scan s = {visit, context, false};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof tables / sizeof tables[0]; i++)
        code = scan_table(r->txn, tables[i].table, tables[i].each, &s, err);
    return code == 0 && !s.ended ? index_each_derived(r, take_derived, &s, err) : code;
}

int index_forget_dead(struct index *i, uint32_t segment, uint64_t bytes, struct error *err) {
    AUTO(kv_txn) t = NULL;
    bool found;
    uint64_t left = 0;
    struct kv_key key = key_segment(segment);
    int code = kv_write(i->kv, &t, err);
    if (code == 0)
        code = counter_take(t, TABLE_DEAD, &key, bytes, err);
    if (code == 0)
        code = counter_get(t, TABLE_DEAD, &key, &left, err);
    if (code == 0 && left == 0)
        code = kv_delete(t, TABLE_DEAD, &key, &found, err);
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}

uint64_t index_moment(const struct index_reader *r) {
    return kv_moment(r->txn);
}

int index_oldest_moment(struct index *i, uint64_t *moment, struct error *err) {
    return kv_oldest_moment(i->kv, moment, err);
}
