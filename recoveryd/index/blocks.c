#include "recoveryd/index/blocks.h"

#include "recoveryd/index/index_internal.h"

#include <string.h>

struct kv_key block_key(const struct kv_key *prefix, const struct stamp *stamp) {
    struct kv_key key = *prefix;
    key_add_stamp(&key, stamp);
    return key;
}

bool block_key_stamp(struct cursor key, const struct kv_key *prefix, struct stamp *stamp) {
    const uint8_t *bytes = cursor_bytes(&key, prefix->length);
    if (bytes == NULL || memcmp(bytes, prefix->bytes, prefix->length) != 0)
        return false;
    *stamp = key_take_stamp(&key);
    return cursor_ok(&key) && cursor_left(&key) == 0;
}

/* --- inserting -----------------------------------------------------------------------------------
 */

/* Where changes are put: the blocks of one prefix. */
struct place {
    struct kv_txn *txn;
    unsigned table;
    const struct kv_key *prefix;
    struct kv_cursor *cursor;
};

/* The block that a change with this stamp belongs to: the last one that begins at or before it, or
 * else the first one. ERR_NOT_FOUND: the prefix has no block. */
static int find_block(const struct place *p, const struct stamp *stamp, struct stamp *first,
                      struct kv_item *item, struct error *err) {
    struct kv_key key = block_key(p->prefix, stamp);
    int code = kv_seek_down(p->cursor, &key, item, err);
    if (code == 0 && block_key_stamp(item->key, p->prefix, first))
        return 0;
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    code = kv_seek_up(p->cursor, &key, item, err);
    if (code == 0 && !block_key_stamp(item->key, p->prefix, first))
        return ERR_NOT_FOUND;
    return code;
}

/* How many of the changes lie before the block behind the cursor. */
static int count_before_next(const struct place *p, const struct change *list, size_t count,
                             size_t *before, struct error *err) {
    struct kv_item item;
    struct stamp next;
    *before = count;
    int code = kv_next(p->cursor, &item, err);
    if (code != 0 || !block_key_stamp(item.key, p->prefix, &next))
        return index_ended(code);
    size_t n = 0;
    while (n < count && stamp_compare(&list[n].stamp, &next) < 0)
        n++;
    *before = n;
    return 0;
}

/* Both sorted; of equal stamps the one that was there stays. */
static bool join(struct changes *to, const struct changes *old, const struct change *list,
                 size_t count, bool *fresh) {
    size_t i = 0;
    size_t n = 0;
    while (i < old->count || n < count) {
        int order = i == old->count ? 1 : -1;
        if (i < old->count && n < count)
            order = stamp_compare(&old->list[i].stamp, &list[n].stamp);
        const struct change *next = order > 0 ? &list[n] : &old->list[i];
        bool again =
            to->count > 0 && stamp_compare(&to->list[to->count - 1].stamp, &next->stamp) == 0;
        if (fresh != NULL && order > 0)
            fresh[n] = !again;
        if (!again && !changes_add(to, next))
            return false;
        i += order <= 0;
        n += order > 0;
    }
    return true;
}

/* Packs them into as many blocks as it takes. */
static int write_blocks(const struct place *p, const struct changes *all, size_t *blocks,
                        struct error *err) {
    AUTO_BUFFER value;
    buffer_init(&value, BLOCK_MOST_BYTES + CHANGE_MOST_BYTES);
    int code = 0;
    for (size_t start = 0, end = 0; code == 0 && start < all->count; start = end) {
        struct change_state state = change_state_at(&all->list[start].stamp);
        size_t fits = 0;
        buffer_clear(&value);
        for (end = start; end < all->count; end++) {
            change_pack(&state, &value, &all->list[end]);
            if (end > start && value.length > BLOCK_MOST_BYTES)
                break;
            fits = value.length;
        }
        if (value.failed)
            return error_set(err, ERR_NOMEM, "out of memory");
        struct kv_key key = block_key(p->prefix, &all->list[start].stamp);
        code = kv_put(p->txn, p->table, &key, value.data, fits, err);
        (*blocks)++;
    }
    return code;
}

/* Puts those that belong to one block; *done of them. */
static int insert_some(const struct place *p, const struct change *list, size_t count, bool *fresh,
                       size_t *done, size_t *blocks, struct error *err) {
    AUTO_CHANGES old = {0};
    AUTO_CHANGES all = {0};
    struct kv_item item;
    struct stamp first = list[0].stamp;
    size_t replaced = 0;
    size_t written = 0;
    *done = count;
    int code = find_block(p, &list[0].stamp, &first, &item, err);
    if (code == 0) {
        code = changes_unpack(&old, change_state_at(&first), item.value, err);
        if (code == 0)
            code = count_before_next(p, list, count, done, err);
        replaced = 1;
    }
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    if (!join(&all, &old, list, *done, fresh))
        return error_set(err, ERR_NOMEM, "out of memory");
    bool moved = replaced > 0 && stamp_compare(&first, &all.list[0].stamp) != 0;
    struct kv_key key = block_key(p->prefix, &first);
    bool found = false;
    code = moved ? kv_delete(p->txn, p->table, &key, &found, err) : 0;
    if (code == 0)
        code = write_blocks(p, &all, &written, err);
    *blocks += written - (written < replaced ? written : replaced);
    return code;
}

int blocks_insert(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                  const struct change *list, size_t count, bool *fresh, size_t *blocks,
                  struct error *err) {
    int code = 0;
    *blocks = 0;
    for (size_t at = 0, done = 0; code == 0 && at < count; at += done) {
        AUTO(kv_cursor) cursor = NULL; /* one that lives through a put may point elsewhere */
        struct place place = {t, table, prefix, NULL};
        code = kv_cursor_open(t, table, &cursor, err);
        place.cursor = cursor;
        if (code == 0)
            code = insert_some(&place, list + at, count - at, fresh != NULL ? fresh + at : NULL,
                               &done, blocks, err);
    }
    return code;
}

/* --- dropping ------------------------------------------------------------------------------------
 */

struct drop {
    const struct stamp *stamps; /* sorted */
    size_t count;
    size_t at;           /* those before it are done */
    bool *gone;          /* or NULL */
    struct changes left; /* of the blocks that were taken so far */
};

/* What is in `block` and not to be dropped goes on to what is left. */
static bool keep_others(struct drop *d, const struct changes *block) {
    for (size_t i = 0; i < block->count; i++) {
        const struct stamp *stamp = &block->list[i].stamp;
        while (d->at < d->count && stamp_compare(&d->stamps[d->at], stamp) < 0)
            d->at++;
        bool dropped = d->at < d->count && stamp_compare(&d->stamps[d->at], stamp) == 0;
        if (dropped && d->gone != NULL)
            d->gone[d->at] = true;
        if (!dropped && !changes_add(&d->left, &block->list[i]))
            return false;
    }
    return true;
}

/* Takes the block at `first` away. */
static int take_block(const struct place *p, const struct stamp *first, struct cursor value,
                      struct drop *d, struct error *err) {
    AUTO_CHANGES block = {0};
    struct kv_key key = block_key(p->prefix, first);
    bool found = false;
    int code = changes_unpack(&block, change_state_at(first), value, err);
    if (code != 0)
        return code;
    if (!keep_others(d, &block))
        return error_set(err, ERR_NOMEM, "out of memory");
    return kv_delete(p->txn, p->table, &key, &found, err);
}

/* The block of the first stamp; then, once that is gone, the one behind it. */
static int next_block(const struct place *p, bool is_first, struct stamp *first,
                      struct kv_item *item, struct error *err) {
    struct stamp from = *first;
    if (is_first)
        return find_block(p, &from, first, item, err);
    struct kv_key key = block_key(p->prefix, &from);
    int code = kv_seek_up(p->cursor, &key, item, err);
    return code == 0 && !block_key_stamp(item->key, p->prefix, first) ? ERR_NOT_FOUND : code;
}

static int take_blocks(struct place *p, struct drop *d, struct error *err) {
    struct stamp first = d->stamps[0];
    int code = 0;
    for (bool is_first = true; code == 0; is_first = false) {
        AUTO(kv_cursor) cursor = NULL; /* one that lives through a delete may point elsewhere */
        struct kv_item item;
        code = kv_cursor_open(p->txn, p->table, &cursor, err);
        p->cursor = cursor;
        if (code == 0)
            code = next_block(p, is_first, &first, &item, err);
        if (code != 0 || stamp_compare(&first, &d->stamps[d->count - 1]) > 0)
            break;
        code = take_block(p, &first, item.value, d, err);
    }
    return index_ended(code);
}

int blocks_drop(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                const struct stamp *stamps, size_t count, bool *gone, struct error *err) {
    struct drop d = {.stamps = stamps, .count = count, .gone = gone};
    struct place place = {t, table, prefix, NULL};
    size_t blocks = 0;
    if (gone != NULL)
        memset(gone, 0, count * sizeof *gone);
    int code = count > 0 ? take_blocks(&place, &d, err) : 0;
    if (code == 0 && d.left.count > 0)
        code = write_blocks(&place, &d.left, &blocks, err);
    changes_release(&d.left);
    return code;
}

/* --- reading -------------------------------------------------------------------------------------
 */

struct block_cursor {
    struct kv_cursor *cursor;
    struct kv_key prefix;
    struct changes block; /* the one that the cursor is at */
    size_t at;            /* of `block` */
};

int blocks_open(struct kv_txn *t, unsigned table, struct block_cursor **out, struct error *err) {
    AUTO(block_cursor) c = calloc(1, sizeof *c);
    if (c == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = kv_cursor_open(t, table, &c->cursor, err);
    if (code == 0)
        *out = take_pointer(&c);
    return code;
}

void block_cursor_close(struct block_cursor *c) {
    if (c == NULL)
        return;
    kv_cursor_close(c->cursor);
    changes_release(&c->block);
    free(c);
}

/* ERR_NOT_FOUND: the item is of another prefix. */
static int load(struct block_cursor *c, const struct kv_item *item, struct error *err) {
    struct stamp first;
    c->block.count = 0;
    if (!block_key_stamp(item->key, &c->prefix, &first))
        return ERR_NOT_FOUND;
    int code = changes_unpack(&c->block, change_state_at(&first), item->value, err);
    if (code != 0)
        return code;
    if (c->block.count == 0 || stamp_compare(&c->block.list[0].stamp, &first) != 0)
        return error_set(err, ERR_FORMAT, "the index is damaged: a block of changes");
    return 0;
}

/* The last change of the block that the table's cursor has moved to (code says whether there is
 * one), or the first. */
static int enter(struct block_cursor *c, int code, const struct kv_item *item, bool at_end,
                 const struct change **change, struct error *err) {
    if (code == 0)
        code = load(c, item, err);
    if (code != 0)
        return code;
    c->at = at_end ? c->block.count - 1 : 0;
    *change = &c->block.list[c->at];
    return 0;
}

int blocks_previous(struct block_cursor *c, const struct change **change, struct error *err) {
    struct kv_item item;
    if (c->block.count > 0 && c->at > 0) {
        *change = &c->block.list[--c->at];
        return 0;
    }
    return enter(c, kv_previous(c->cursor, &item, err), &item, true, change, err);
}

int blocks_next(struct block_cursor *c, const struct change **change, struct error *err) {
    struct kv_item item;
    if (c->at + 1 < c->block.count) {
        *change = &c->block.list[++c->at];
        return 0;
    }
    return enter(c, kv_next(c->cursor, &item, err), &item, false, change, err);
}

/* The first change of the block that is newer than `stamp`. */
static size_t first_after(const struct changes *block, const struct stamp *stamp) {
    size_t low = 0;
    size_t high = block->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (stamp_compare(&block->list[middle].stamp, stamp) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int blocks_seek_down(struct block_cursor *c, const struct kv_key *prefix, const struct stamp *until,
                     const struct change **change, struct error *err) {
    struct kv_item item;
    struct kv_key key = block_key(prefix, until);
    c->prefix = *prefix;
    c->block.count = 0;
    int code = kv_seek_down(c->cursor, &key, &item, err);
    if (code == 0)
        code = load(c, &item, err);
    if (code != 0)
        return code;
    c->at = first_after(&c->block, until);
    return blocks_previous(c, change, err);
}

int blocks_seek_up(struct block_cursor *c, const struct kv_key *prefix, const struct stamp *from,
                   const struct change **change, struct error *err) {
    struct kv_item item;
    int code = blocks_seek_down(c, prefix, from, change, err);
    if (code == 0 && stamp_compare(&(*change)->stamp, from) == 0)
        return 0;
    if (code == 0)
        return blocks_next(c, change, err);
    if (code != ERR_NOT_FOUND)
        return code;
    struct kv_key key = block_key(prefix, from);
    return enter(c, kv_seek_up(c->cursor, &key, &item, err), &item, false, change, err);
}
