#include "tests/property/model.h"

#include "common/blocksum.h"

#include <stdlib.h>
#include <string.h>

enum { GAP_RANGES = 1 << 20 };

void model_init(struct model *m, uint64_t path, uint64_t size) {
    *m = (struct model){.path = path, .size = size};
    m->image = malloc(size);
    m->dirty = calloc(size / MODEL_CHUNK + 1, 1);
    rangeset_init(&m->gaps, GAP_RANGES);
    if (m->image == NULL || m->dirty == NULL)
        abort();
}

void model_release(struct model *m) {
    free(m->image);
    free(m->dirty);
    rangeset_release(&m->gaps);
}

static bool is_of(const struct model *m, uint64_t path) {
    for (size_t i = 0; i < m->alias_count; i++) {
        if (m->aliases[i] == path)
            return true;
    }
    return path == m->path;
}

/* As the store joins paths: somebody said so, or the logical unit has the same designator. */
static bool is_joined(const struct model *m, const struct path_record *path,
                      const struct path_record *own) {
    if (path->same_as == m->path || (own != NULL && own->same_as == path->path))
        return true;
    return own != NULL && own->designator_bytes > 0 &&
           own->designator_bytes == path->designator_bytes &&
           memcmp(own->designator, path->designator, path->designator_bytes) == 0;
}

static void find_aliases(struct model *m, const struct replay *replay) {
    const struct path_record *own = NULL;
    for (size_t i = 0; i < replay->count; i++) {
        const struct record *r = &replay->records[i].record;
        if (r->type == RECORD_PATH && r->path.path == m->path)
            own = &r->path;
    }
    m->announced = own != NULL;
    m->alias_count = 0;
    for (size_t i = 0; i < replay->count; i++) {
        const struct record *r = &replay->records[i].record;
        if (r->type == RECORD_PATH && is_joined(m, &r->path, own) && !is_of(m, r->path.path) &&
            m->alias_count < MODEL_ALIASES)
            m->aliases[m->alias_count++] = r->path.path;
    }
}

void model_reset(struct model *m, const uint8_t *base, const struct replay *replay) {
    memcpy(m->image, base, m->size);
    memset(m->dirty, 0, m->size / MODEL_CHUNK + 1);
    rangeset_clear(&m->gaps);
    find_aliases(m, replay);
}

static int compare_times(const void *left, const void *right) {
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

static bool is_vanished(const struct model *m, uint64_t issued_ns) {
    return m->vanished_count > 0 && bsearch(&issued_ns, m->vanished, m->vanished_count,
                                            sizeof issued_ns, compare_times) != NULL;
}

static bool clip(const struct model *m, uint64_t offset, uint64_t *length) {
    if (offset >= m->size)
        return false;
    if (*length > m->size - offset)
        *length = m->size - offset;
    return *length > 0;
}

static void touch(struct model *m, uint64_t offset, uint64_t length) {
    for (uint64_t i = offset / MODEL_CHUNK; i <= (offset + length - 1) / MODEL_CHUNK; i++)
        m->dirty[i] = 1;
}

static void apply_update(struct model *m, const struct update_record *u, const uint8_t *data) {
    uint64_t length = u->length_bytes;
    if (u->op == UPDATE_FLUSH || u->op == UPDATE_COPY || !clip(m, u->offset_bytes, &length))
        return;
    uint8_t *to = m->image + u->offset_bytes;
    if (u->op == UPDATE_ZERO)
        memset(to, 0, length);
    else if (u->op == UPDATE_WRITE)
        memcpy(to, data, length);
    for (uint64_t i = 0; u->op == UPDATE_PATTERN && i < length; i++)
        to[i] = data[i % u->payload_bytes];
    for (uint64_t i = 0; u->op == UPDATE_OR && i < length; i++)
        to[i] |= data[i];
    for (uint64_t i = 0; u->op == UPDATE_XOR && i < length; i++)
        to[i] ^= data[i];
    touch(m, u->offset_bytes, length);
    if (u->op == UPDATE_OR || u->op == UPDATE_XOR)
        return; /* what was in doubt there still is */
    if (!rangeset_remove(&m->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
    if (is_vanished(m, u->issued_ns) &&
        !rangeset_add(&m->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
}

static void apply_gap(struct model *m, const struct gap_record *gap) {
    uint64_t length = gap->length_bytes;
    if (!clip(m, gap->offset_bytes, &length))
        return;
    if (!rangeset_add(&m->gaps, gap->offset_bytes, gap->offset_bytes + length))
        abort();
}

static bool in_doubt(const struct model *m, uint64_t offset, uint64_t length) {
    struct range part;
    return rangeset_overlap(&m->gaps, offset, offset + length, &part);
}

static struct model *model_of(const struct models *all, uint64_t path) {
    for (size_t i = 0; i < all->count; i++) {
        if (is_of(&all->list[i], path))
            return &all->list[i];
    }
    return NULL;
}

/* Did anything of the source change, or come into doubt, while it was being copied? */
static bool source_changed(const struct replay *replay, size_t at, const struct update_record *u) {
    uint64_t start = u->source_offset_bytes;
    for (size_t i = 0; i < replay->count; i++) {
        const struct record *r = &replay->records[i].record;
        uint64_t time_ns = record_time_ns(r);
        if (i == at || time_ns < u->source_from_ns || time_ns > u->source_until_ns)
            continue;
        bool update = r->type == RECORD_UPDATE && r->update.op != UPDATE_FLUSH &&
                      r->update.path == u->source_path &&
                      r->update.offset_bytes < start + u->length_bytes &&
                      start < r->update.offset_bytes + r->update.length_bytes;
        if (update || (r->type == RECORD_GAP && r->gap.path == u->source_path &&
                       r->gap.offset_bytes < start + u->length_bytes))
            return true;
    }
    return false;
}

/* The source as it is now is what it was then: the captures have no copy of an older moment. */
static void apply_copy(struct models *all, const struct replay *replay) {
    const struct update_record *u = &replay->records[all->next].record.update;
    struct model *to = model_of(all, u->path);
    const struct model *from = model_of(all, u->source_path);
    uint64_t length = u->length_bytes;
    if (to == NULL || !clip(to, u->offset_bytes, &length))
        return;
    if (!rangeset_remove(&to->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
    touch(to, u->offset_bytes, length);
    bool there = from != NULL && u->source_offset_bytes + length <= from->size;
    bool known = there && u->source_until_ns == u->time_ns &&
                 !in_doubt(from, u->source_offset_bytes, length) &&
                 !source_changed(replay, all->next, u);
    if (there)
        memmove(to->image + u->offset_bytes, from->image + u->source_offset_bytes, length);
    if (!known && !rangeset_add(&to->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
}

/* Does what a READ brought back contradict the image? */
static void compare(struct models *all, const struct record *r) {
    const struct audit_record *a = &r->audit;
    const struct model *m = model_of(all, a->path);
    struct cursor sums = cursor_of(a->sums, (size_t)a->blocks * 4);
    for (uint32_t i = 0; m != NULL && i < a->blocks; i++) {
        uint64_t at = a->offset_bytes + (uint64_t)i * a->block_bytes;
        uint32_t sum = cursor_le32(&sums);
        if (at + a->block_bytes > m->size || in_doubt(m, at, a->block_bytes))
            continue;
        all->audited++;
        if (blocksum(m->image + at, a->block_bytes) == sum)
            continue;
        all->refuted++;
        all->refuted_ns = a->time_ns;
    }
}

static void apply(struct models *all, const struct replay *replay) {
    const struct replay_record *r = &replay->records[all->next];
    const struct record *record = &r->record;
    struct model *m = NULL;
    if (record->type == RECORD_AUDIT)
        compare(all, record);
    else if (record->type == RECORD_UPDATE && record->update.op == UPDATE_COPY)
        apply_copy(all, replay);
    else if (record->type == RECORD_UPDATE && (m = model_of(all, record->update.path)) != NULL)
        apply_update(m, &record->update, r->data);
    else if (record->type == RECORD_GAP && (m = model_of(all, record->gap.path)) != NULL)
        apply_gap(m, &record->gap);
}

void models_rewind(struct models *all) {
    all->next = 0;
}

void models_advance(struct models *all, const struct replay *replay, uint64_t time_ns) {
    for (; all->next < replay->count; all->next++) {
        if (record_time_ns(&replay->records[all->next].record) > time_ns)
            return;
        apply(all, replay);
    }
}

static uint64_t wrong_in(const struct model *m, const struct model *reference, uint64_t offset,
                         uint64_t end) {
    for (; offset < end; offset += MODEL_BLOCK) {
        uint64_t length = end - offset < MODEL_BLOCK ? end - offset : MODEL_BLOCK;
        if (memcmp(m->image + offset, reference->image + offset, length) != 0 &&
            !in_doubt(m, offset, length) && !in_doubt(reference, offset, length))
            return offset;
    }
    return UINT64_MAX;
}

uint64_t model_first_wrong(struct model *m, struct model *reference) {
    for (uint64_t i = 0; i * MODEL_CHUNK < m->size; i++) {
        if (!m->dirty[i] && !reference->dirty[i])
            continue;
        m->dirty[i] = reference->dirty[i] = 0;
        uint64_t start = i * MODEL_CHUNK;
        uint64_t end = m->size - start < MODEL_CHUNK ? m->size : start + MODEL_CHUNK;
        if (memcmp(m->image + start, reference->image + start, end - start) == 0)
            continue;
        /* Where it is different and in doubt, it must still be when the doubt ends: that is an
         * update, which makes the chunk dirty again. */
        uint64_t wrong = wrong_in(m, reference, start, end);
        if (wrong != UINT64_MAX)
            return wrong;
    }
    return UINT64_MAX;
}
