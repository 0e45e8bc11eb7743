#include "recoveryd/image/volume_size.h"

#include <stdlib.h>

struct announced {
    struct volume_size *sizes;
    size_t count;
    size_t capacity;
    bool failed;
};

static bool take_size(void *context, const struct size_entry *size) {
    struct announced *a = context;
    if (a->count == a->capacity) {
        size_t capacity = a->capacity > 0 ? a->capacity * 2 : 8;
        struct volume_size *sizes = realloc(a->sizes, capacity * sizeof *sizes);
        a->failed = sizes == NULL;
        if (a->failed)
            return false;
        a->sizes = sizes;
        a->capacity = capacity;
    }
    a->sizes[a->count++] = (struct volume_size){size->time_ns, size->size_bytes, size->block_bytes};
    return true;
}

/* Of one time the smaller first: the greater one is what counts. */
static int compare_sizes(const void *left, const void *right) {
    const struct volume_size *a = left;
    const struct volume_size *b = right;
    if (a->time_ns != b->time_ns)
        return a->time_ns < b->time_ns ? -1 : 1;
    if (a->size_bytes != b->size_bytes)
        return a->size_bytes < b->size_bytes ? -1 : 1;
    return a->block_bytes < b->block_bytes ? -1 : a->block_bytes > b->block_bytes;
}

/* Each with what was known before it; those of one time, and those that change nothing, are one. */
static size_t keep_changes(struct volume_size *sizes, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct volume_size now = sizes[i];
        struct volume_size *last = kept > 0 ? &sizes[kept - 1] : NULL;
        if (last != NULL && now.size_bytes == 0)
            now.size_bytes = last->size_bytes;
        if (last != NULL && now.block_bytes == 0)
            now.block_bytes = last->block_bytes;
        if (last != NULL && last->time_ns == now.time_ns)
            *last = now;
        else if (last == NULL || now.size_bytes != last->size_bytes ||
                 now.block_bytes != last->block_bytes)
            sizes[kept++] = now;
    }
    return kept;
}

/* What was not known at first was what became known first. */
static void fill_back(struct volume_size *sizes, size_t count) {
    for (size_t i = count; i-- > 1;) {
        if (sizes[i - 1].size_bytes == 0)
            sizes[i - 1].size_bytes = sizes[i].size_bytes;
        if (sizes[i - 1].block_bytes == 0)
            sizes[i - 1].block_bytes = sizes[i].block_bytes;
    }
}

int volume_sizes_read(struct index_reader *r, struct volume *v, struct error *err) {
    struct announced a = {0};
    int code = 0;
    for (size_t i = 0; code == 0 && i < v->path_count; i++)
        code = index_each_size(r, v->paths[i].path, take_size, &a, err);
    if (code == 0 && a.failed)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (a.count > 1)
        qsort(a.sizes, a.count, sizeof *a.sizes, compare_sizes);
    v->sizes = a.sizes;
    v->size_count = keep_changes(a.sizes, a.count);
    fill_back(v->sizes, v->size_count);
    return code;
}

struct volume_size volume_size_at(const struct volume *v, uint64_t time_ns) {
    struct volume_size size = {.size_bytes = v->size_bytes, .block_bytes = v->block_bytes};
    for (size_t i = v->size_count; i > 0; i--) {
        size = v->sizes[i - 1];
        if (size.time_ns <= time_ns)
            break;
    }
    if (v->size_given || size.size_bytes == 0)
        size.size_bytes = v->size_bytes;
    return size;
}
