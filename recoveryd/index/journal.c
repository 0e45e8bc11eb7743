#include "recoveryd/index/journal.h"

#include "recoveryd/index/index_internal.h"

#include <stdlib.h>
#include <string.h>

/* A block must fit twice into a page of LMDB, or it takes pages of its own. */
enum { JOURNAL_BLOCK_BYTES = 1900 };

/* --- the table -----------------------------------------------------------------------------------
 */

static int newest_block(struct kv_txn *t, uint64_t *sequence, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = key_journal(UINT64_MAX);
    *sequence = 0;
    int code = kv_cursor_open(t, TABLE_JOURNAL, &c, err);
    if (code == 0)
        code = kv_seek_down(c, &key, &item, err);
    if (code == 0)
        *sequence = cursor_be64(&item.key);
    return index_ended(code);
}

int journal_append(struct kv_txn *t, const struct changes *changes, struct error *err) {
    AUTO_BUFFER value;
    uint64_t sequence;
    buffer_init(&value, JOURNAL_BLOCK_BYTES + CHANGE_MOST_BYTES);
    int code = newest_block(t, &sequence, err);
    for (size_t at = 0; code == 0 && at < changes->count;) {
        struct change_state state = change_state_none();
        buffer_clear(&value);
        while (at < changes->count && value.length + CHANGE_MOST_BYTES <= JOURNAL_BLOCK_BYTES)
            change_pack(&state, &value, &changes->list[at++]);
        if (value.failed)
            return error_set(err, ERR_NOMEM, "out of memory");
        struct kv_key key = key_journal(++sequence);
        code = kv_put(t, TABLE_JOURNAL, &key, value.data, value.length, err);
    }
    return code;
}

int journal_read(struct kv_txn *t, size_t most, struct changes *changes, uint64_t *last,
                 struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = key_journal(0);
    *last = 0;
    int code = kv_cursor_open(t, TABLE_JOURNAL, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &key, &item, err);
    while (code == 0 && changes->count < most) {
        *last = cursor_be64(&item.key);
        code = changes_unpack(changes, change_state_none(), item.value, err);
        if (code == 0)
            code = kv_next(c, &item, err);
    }
    return index_ended(code);
}

int journal_forget(struct kv_txn *t, uint64_t last, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = key_journal(0);
    int code = kv_cursor_open(t, TABLE_JOURNAL, &c, err);
    while (code == 0 && (code = kv_seek_up(c, &key, &item, err)) == 0) {
        uint64_t sequence = cursor_be64(&item.key);
        bool found;
        if (sequence > last)
            break;
        key = key_journal(sequence);
        code = kv_delete(t, TABLE_JOURNAL, &key, &found, err);
    }
    return index_ended(code);
}

int journal_blocks(struct kv_txn *t, uint64_t *blocks, struct error *err) {
    return kv_count(t, TABLE_JOURNAL, blocks, err);
}

/* --- the tail ------------------------------------------------------------------------------------
 */

static int compare_changes(const void *left, const void *right) {
    const struct change *a = left;
    const struct change *b = right;
    if (a->path != b->path)
        return a->path < b->path ? -1 : 1;
    return stamp_compare(&a->stamp, &b->stamp);
}

/* Changes are in order already: of one chunk, the lesser number is the lesser stamp. */
static int compare_parts(const void *left, const void *right) {
    const struct tail_part *a = left;
    const struct tail_part *b = right;
    if (a->path != b->path)
        return a->path < b->path ? -1 : 1;
    if (a->level_chunk != b->level_chunk)
        return a->level_chunk < b->level_chunk ? -1 : 1;
    return a->change < b->change ? -1 : a->change > b->change;
}

static void drop_repeated(struct changes *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (kept > 0 && compare_changes(&c->list[kept - 1], &c->list[i]) == 0)
            continue;
        c->list[kept++] = c->list[i];
    }
    c->count = kept;
}

static unsigned level_of(const struct change *c) {
    return level_of_range(c->offset_bytes, c->length_bytes);
}

static size_t count_parts(const struct changes *c) {
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct change *change = &c->list[i];
        unsigned shift = level_shift(level_of(change));
        if (change->op == UPDATE_FLUSH || change->length_bytes == 0)
            continue;
        uint64_t last = change->offset_bytes + change->length_bytes - 1;
        count += (size_t)((last >> shift) - (change->offset_bytes >> shift) + 1);
    }
    return count;
}

static void add_parts(struct tail *tail, uint32_t number) {
    const struct change *c = &tail->changes.list[number];
    if (c->op == UPDATE_FLUSH || c->length_bytes == 0)
        return;
    unsigned level = level_of(c);
    uint64_t last = (c->offset_bytes + c->length_bytes - 1) >> level_shift(level);
    for (uint64_t n = c->offset_bytes >> level_shift(level); n <= last; n++)
        tail->parts[tail->count++] = (struct tail_part){c->path, level_chunk(level, n), number};
}

int tail_make(struct tail *tail, struct changes *changes, struct error *err) {
    *tail = (struct tail){.changes = *changes};
    *changes = (struct changes){0};
    struct changes *all = &tail->changes;
    if (all->count > 1)
        qsort(all->list, all->count, sizeof *all->list, compare_changes);
    drop_repeated(all);
    size_t count = count_parts(all);
    if (count == 0)
        return 0;
    tail->parts = malloc(count * sizeof *tail->parts);
    if (tail->parts == NULL || all->count > UINT32_MAX)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < all->count; i++)
        add_parts(tail, (uint32_t)i);
    qsort(tail->parts, tail->count, sizeof *tail->parts, compare_parts);
    return 0;
}

void tail_release(struct tail *tail) {
    changes_release(&tail->changes);
    free(tail->parts);
    *tail = (struct tail){0};
}

struct change tail_part_change(const struct tail *tail, size_t part) {
    const struct tail_part *p = &tail->parts[part];
    struct change c = tail->changes.list[p->change];
    unsigned shift = level_shift((unsigned)(p->level_chunk >> 56));
    uint64_t number = p->level_chunk & ((UINT64_C(1) << 56) - 1);
    uint64_t end = c.offset_bytes + c.length_bytes;
    if (c.offset_bytes < number << shift)
        c.offset_bytes = number << shift;
    if (end > (number + 1) << shift)
        end = (number + 1) << shift;
    c.length_bytes = end - c.offset_bytes;
    return c;
}

static bool part_is_beyond(const struct tail *tail, size_t i, uint64_t path, uint64_t level_chunk,
                           const struct stamp *stamp) {
    const struct tail_part *p = &tail->parts[i];
    if (p->path != path)
        return p->path > path;
    if (p->level_chunk != level_chunk)
        return p->level_chunk > level_chunk;
    return stamp_compare(&tail->changes.list[p->change].stamp, stamp) > 0;
}

size_t tail_find(const struct tail *tail, uint64_t path, uint64_t level_chunk,
                 const struct stamp *stamp) {
    size_t low = 0;
    size_t high = tail->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (part_is_beyond(tail, middle, path, level_chunk, stamp))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

size_t tail_find_change(const struct tail *tail, uint64_t path, const struct stamp *stamp) {
    const struct change wanted = {.path = path, .stamp = *stamp};
    size_t low = 0;
    size_t high = tail->changes.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_changes(&tail->changes.list[middle], &wanted) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* No two parts, and no two changes, are equal: at most one has the least stamp. */
size_t tail_first(const struct tail *tail, uint64_t path, uint64_t level_chunk) {
    static const struct stamp least = {0};
    size_t at = tail_find(tail, path, level_chunk, &least);
    bool equal = at > 0 && tail->parts[at - 1].path == path &&
                 tail->parts[at - 1].level_chunk == level_chunk;
    return equal ? at - 1 : at;
}

size_t tail_first_change(const struct tail *tail, uint64_t path, const struct stamp *stamp) {
    size_t at = tail_find_change(tail, path, stamp);
    const struct change *before = at > 0 ? &tail->changes.list[at - 1] : NULL;
    bool equal =
        before != NULL && before->path == path && stamp_compare(&before->stamp, stamp) == 0;
    return equal ? at - 1 : at;
}
