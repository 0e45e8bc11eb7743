#include "common/clock.h"
#include "recoveryd/index/blocks.h"
#include "recoveryd/index/counter.h"
#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/journal.h"
#include "recoveryd/index/runs.h"
#include "recoveryd/index/tally.h"

#include <stdlib.h>

/*
 * The journal is sorted into runs (by chunk, for images) and history (by time, for timelines), in
 * steps of one transaction: commits wait while one is made. The larger a step, the more changes of
 * one chunk come together, and the fewer blocks are written twice.
 */
enum { STEP_CHANGES = 1 << 16 };

/* Few changes of many chunks cost most: a journal that is short may as well wait. */
enum { DUE_BLOCKS = 256 };
#define DUE_NS (UINT64_C(5) * NS_PER_SECOND)

static int merge_runs(struct kv_txn *t, const struct tail *tail, struct error *err) {
    AUTO_CHANGES group = {0};
    int code = 0;
    for (size_t start = 0, end = 0; code == 0 && start < tail->count; start = end) {
        const struct tail_part *first = &tail->parts[start];
        group.count = 0;
        for (end = start; end < tail->count; end++) {
            struct change part = tail_part_change(tail, end);
            if (tail->parts[end].path != first->path ||
                tail->parts[end].level_chunk != first->level_chunk)
                break;
            part.path = 0; /* the key says which */
            if (!changes_add(&group, &part))
                return error_set(err, ERR_NOMEM, "out of memory");
        }
        code = runs_insert(t, first->path, first->level_chunk, group.list, group.count, err);
    }
    return code;
}

/* Changes of one path, without what only images need. */
static int merge_path(struct kv_txn *t, const struct change *list, size_t count,
                      struct error *err) {
    AUTO_CHANGES bare = {0};
    AUTO_FREE bool *fresh = calloc(count, sizeof *fresh);
    struct tally tally = {0};
    size_t blocks;
    struct kv_key prefix = key_path(list[0].path);
    bool whole = fresh != NULL;
    for (size_t i = 0; whole && i < count; i++) {
        struct change c = list[i];
        c.path = 0;
        c.issued_ns = 0;
        c.whole_offset = c.offset_bytes;
        c.extent = (struct extent){0};
        c.payload_crc32c = 0;
        whole = changes_add(&bare, &c);
    }
    if (!whole)
        return error_set(err, ERR_NOMEM, "out of memory");
    uint64_t held_bytes = 0;
    int code = blocks_insert(t, TABLE_HISTORY, &prefix, bare.list, count, fresh, &blocks, err);
    for (size_t i = 0; code == 0 && i < count; i++) {
        if (fresh[i] && list[i].op != UPDATE_FLUSH)
            code = tally_add(&tally, t, list[i].path, list[i].stamp.time_ns, err);
        if (fresh[i] && list[i].op == UPDATE_WRITE)
            held_bytes += list[i].length_bytes;
    }
    if (code == 0)
        code = tally_flush(&tally, t, err);
    return code == 0 ? counter_add(t, TABLE_HELD, &prefix, held_bytes, err) : code;
}

static int merge_history(struct kv_txn *t, const struct tail *tail, struct error *err) {
    const struct changes *all = &tail->changes;
    int code = 0;
    for (size_t start = 0, end = 0; code == 0 && start < all->count; start = end) {
        for (end = start; end < all->count && all->list[end].path == all->list[start].path;)
            end++;
        code = merge_path(t, &all->list[start], end - start, err);
    }
    return code;
}

int merge_step(struct kv_txn *t, bool *merged, struct error *err) {
    AUTO_CHANGES changes = {0};
    struct tail tail = {0};
    uint64_t last;
    int code = journal_read(t, STEP_CHANGES, &changes, &last, err);
    *merged = changes.count > 0;
    if (code != 0 || !*merged)
        return code;
    code = tail_make(&tail, &changes, err);
    if (code == 0)
        code = merge_runs(t, &tail, err);
    if (code == 0)
        code = merge_history(t, &tail, err);
    if (code == 0)
        code = journal_forget(t, last, err);
    tail_release(&tail);
    return code;
}

int index_merge(struct index *i, bool *merged, struct error *err) {
    AUTO(kv_txn) t = NULL;
    int code = kv_write(i->kv, &t, err);
    if (code == 0)
        code = merge_step(t, merged, err);
    if (code != 0 || !*merged)
        return code;
    return kv_commit(take_pointer(&t), err);
}

int index_merge_due(struct index *i, bool *again, struct error *err) {
    uint64_t blocks;
    bool merged;
    int code = index_unmerged(i, &blocks, err);
    uint64_t now_ns = clock_mono().ns;
    if (code != 0)
        return code;
    *again = blocks >= DUE_BLOCKS;
    if (blocks == 0)
        i->merged_ns = now_ns;
    if (!*again && now_ns < i->merged_ns + DUE_NS)
        return code;
    i->merged_ns = now_ns;
    return index_merge(i, &merged, err);
}

int index_unmerged(struct index *i, uint64_t *blocks, struct error *err) {
    AUTO(kv_txn) t = NULL;
    int code = kv_read(i->kv, &t, err);
    return code == 0 ? journal_blocks(t, blocks, err) : code;
}

void index_set_unmerged_most(struct index *i, uint64_t blocks) {
    i->unmerged_most = blocks;
}

int index_health(struct index *i, struct index_health *health, struct error *err) {
    struct kv_health kv;
    *health = (struct index_health){0};
    int code = kv_health(i->kv, &kv, err);
    if (code != 0)
        return code;
    health->bytes = kv.bytes;
    health->readers = kv.readers;
    health->oldest_pid = kv.oldest_pid;
    health->oldest_commits = kv.oldest_commits;
    return index_unmerged(i, &health->unmerged_blocks, err);
}
