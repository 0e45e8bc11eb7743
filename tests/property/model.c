#include "tests/property/model.h"

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

void model_reset(struct model *m, const uint8_t *base, const struct replay *replay) {
    memcpy(m->image, base, m->size);
    memset(m->dirty, 0, m->size / MODEL_CHUNK + 1);
    rangeset_clear(&m->gaps);
    m->next = 0;
    m->announced = false;
    m->alias_count = 0;
    for (size_t i = 0; i < replay->count; i++) {
        const struct record *r = &replay->records[i].record;
        if (r->type != RECORD_PATH)
            continue;
        m->announced |= r->path.path == m->path;
        if (r->path.same_as == m->path && !is_of(m, r->path.path) && m->alias_count < MODEL_ALIASES)
            m->aliases[m->alias_count++] = r->path.path;
    }
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
    if (u->op == UPDATE_FLUSH || !clip(m, u->offset_bytes, &length))
        return;
    uint8_t *to = m->image + u->offset_bytes;
    if (u->op == UPDATE_ZERO)
        memset(to, 0, length);
    else if (u->op == UPDATE_WRITE)
        memcpy(to, data, length);
    for (uint64_t i = 0; u->op == UPDATE_PATTERN && i < length; i++)
        to[i] = data[i % u->payload_bytes];
    if (!rangeset_remove(&m->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
    if (is_vanished(m, u->issued_ns) &&
        !rangeset_add(&m->gaps, u->offset_bytes, u->offset_bytes + length))
        abort();
    touch(m, u->offset_bytes, length);
}

static void apply_gap(struct model *m, const struct gap_record *gap) {
    uint64_t length = gap->length_bytes;
    if (!clip(m, gap->offset_bytes, &length))
        return;
    if (!rangeset_add(&m->gaps, gap->offset_bytes, gap->offset_bytes + length))
        abort();
}

void model_advance(struct model *m, const struct replay *replay, uint64_t time_ns) {
    for (; m->next < replay->count; m->next++) {
        const struct replay_record *r = &replay->records[m->next];
        if (record_time_ns(&r->record) > time_ns)
            return;
        if (r->record.type == RECORD_UPDATE && is_of(m, r->record.update.path))
            apply_update(m, &r->record.update, r->data);
        else if (r->record.type == RECORD_GAP && is_of(m, r->record.gap.path))
            apply_gap(m, &r->record.gap);
    }
}

static bool in_doubt(const struct model *m, uint64_t offset, uint64_t length) {
    struct range part;
    return rangeset_overlap(&m->gaps, offset, offset + length, &part);
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
