#include "tap/scsi/payload.h"

#include "common/crc32c.h"
#include "common/digest.h"
#include "common/zero.h"

#include <stdlib.h>
#include <string.h>

/*
 * A chunk holds CHUNK_BYTES of a payload, except that of a shorter payload, which takes the least
 * power of two that it fits into: many small writes in flight are the rule.
 */
enum {
    CHUNK_BYTES = 64 << 10,
    CLASS_COUNT = 5, /* 4, 8, 16, 32, 64 KiB */
    SMALLEST_CLASS_BYTES = CHUNK_BYTES >> (CLASS_COUNT - 1),
    MAX_PIECES = 4096, /* of data that comes out of order */
};

struct free_chunk {
    struct free_chunk *next;
};

struct payload_pool {
    size_t limit;
    size_t used; /* handed out */
    size_t kept; /* on the free lists; used + kept <= limit */
    struct free_chunk *free[CLASS_COUNT];
};

struct payload {
    struct payload_pool *pool;
    uint64_t length;
    size_t class;      /* of all its chunks */
    uint64_t in_order; /* [0, in_order) has come; pieces beyond it are in `rest` */
    struct rangeset rest;
    uint8_t *first;   /* chunk 0, NULL until it is needed */
    uint8_t **others; /* chunks from 1 on, NULL where not needed yet */
    size_t others_count;
};

static size_t class_bytes(size_t class) {
    return (size_t)SMALLEST_CLASS_BYTES << class;
}

struct payload_pool *payload_pool_create(size_t limit_bytes) {
    struct payload_pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL)
        pool->limit = limit_bytes;
    return pool;
}

static void pool_trim(struct payload_pool *pool, size_t keep) {
    for (size_t class = 0; class < CLASS_COUNT; class ++) {
        while (pool->free[class] != NULL && pool->kept > keep) {
            struct free_chunk *chunk = pool->free[class];
            pool->free[class] = chunk->next;
            pool->kept -= class_bytes(class);
            free(chunk);
        }
    }
}

void payload_pool_destroy(struct payload_pool *pool) {
    if (pool == NULL)
        return;
    pool_trim(pool, 0);
    free(pool);
}

size_t payload_pool_used(const struct payload_pool *pool) {
    return pool->used;
}

bool payload_pool_is_short(const struct payload_pool *pool) {
    return pool->limit - pool->used < CHUNK_BYTES;
}

/* Room for `bytes` more within the limit, at the cost of what is kept. */
static bool pool_admit(struct payload_pool *pool, size_t bytes) {
    if (bytes > pool->limit - pool->used)
        return false;
    size_t room = pool->limit - pool->used - bytes;
    if (pool->kept > room)
        pool_trim(pool, room);
    pool->used += bytes;
    return true;
}

static uint8_t *pool_take(struct payload_pool *pool, size_t class) {
    size_t bytes = class_bytes(class);
    struct free_chunk *chunk = pool->free[class];
    if (chunk != NULL) {
        pool->free[class] = chunk->next;
        pool->kept -= bytes;
        pool->used += bytes;
        return (uint8_t *)chunk;
    }
    if (!pool_admit(pool, bytes))
        return NULL;
    uint8_t *fresh = malloc(bytes);
    if (fresh == NULL)
        pool->used -= bytes;
    return fresh;
}

static void pool_give(struct payload_pool *pool, size_t class, uint8_t *bytes) {
    if (bytes == NULL)
        return;
    struct free_chunk *chunk = (struct free_chunk *)(void *)bytes;
    chunk->next = pool->free[class];
    pool->free[class] = chunk;
    pool->used -= class_bytes(class);
    pool->kept += class_bytes(class);
}

struct payload *payload_create(struct payload_pool *pool, uint64_t length) {
    struct payload *p = malloc(sizeof *p);
    if (p == NULL)
        return NULL;
    *p = (struct payload){0};
    p->pool = pool;
    p->length = length;
    while (p->class + 1 < CLASS_COUNT && class_bytes(p->class) < length)
        p->class ++;
    rangeset_init(&p->rest, MAX_PIECES);
    return p;
}

void payload_destroy(struct payload *p) {
    if (p == NULL)
        return;
    pool_give(p->pool, p->class, p->first);
    for (size_t i = 0; i < p->others_count; i++)
        pool_give(p->pool, p->class, p->others[i]);
    p->pool->used -= p->others_count * sizeof *p->others;
    free(p->others);
    rangeset_release(&p->rest);
    free(p);
}

uint64_t payload_length(const struct payload *p) {
    return p->length;
}

/* The table of chunks grows with the data, and counts against the pool's limit. */
static bool grow_others(struct payload *p, size_t count) {
    size_t most = (size_t)((p->length - 1) / CHUNK_BYTES);
    size_t target = p->others_count * 2 > count ? p->others_count * 2 : count;
    if (target > most)
        target = most;
    size_t more = (target - p->others_count) * sizeof *p->others;
    if (!pool_admit(p->pool, more))
        return false;
    uint8_t **others = realloc(p->others, target * sizeof *others);
    if (others == NULL) {
        p->pool->used -= more;
        return false;
    }
    memset(others + p->others_count, 0, more);
    p->others = others;
    p->others_count = target;
    return true;
}

static uint8_t **chunk_slot(struct payload *p, uint64_t offset) {
    size_t index = (size_t)(offset / CHUNK_BYTES);
    if (index == 0)
        return &p->first;
    if (index > p->others_count && !grow_others(p, index))
        return NULL;
    return &p->others[index - 1];
}

static bool copy_in(struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        uint8_t **slot = chunk_slot(p, offset);
        if (slot != NULL && *slot == NULL)
            *slot = pool_take(p->pool, p->class);
        if (slot == NULL || *slot == NULL)
            return false;
        size_t at = (size_t)(offset % CHUNK_BYTES);
        size_t part = CHUNK_BYTES - at < bytes ? CHUNK_BYTES - at : bytes;
        memcpy(*slot + at, data, part);
        offset += part;
        data += part;
        bytes -= part;
    }
    return true;
}

/* Ranges that touch the part in order belong to it. */
static void absorb_rest(struct payload *p) {
    if (p->rest.count == 0)
        return;
    p->in_order = rangeset_first_missing(&p->rest, p->in_order);
    rangeset_remove(&p->rest, 0, p->in_order);
}

bool payload_write(struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes) {
    if (offset > p->length || bytes > p->length - offset)
        return false;
    if (bytes == 0)
        return true;
    if (!copy_in(p, offset, data, bytes))
        return false;
    if (offset > p->in_order)
        return rangeset_add(&p->rest, offset, offset + bytes);
    if (offset + bytes > p->in_order)
        p->in_order = offset + bytes;
    absorb_rest(p);
    return true;
}

void payload_revoke(struct payload *p, uint64_t offset, uint64_t bytes) {
    if (offset > p->length)
        return;
    uint64_t end = bytes > p->length - offset ? p->length : offset + bytes;
    /* When there is no room for what lies behind it, that is forgotten, too: it then counts as
     * missing. */
    if (p->in_order > end && offset < p->in_order)
        rangeset_add(&p->rest, end, p->in_order);
    if (!rangeset_remove(&p->rest, offset, end))
        rangeset_clear(&p->rest);
    if (offset < p->in_order)
        p->in_order = offset;
}

bool payload_missing(const struct payload *p, uint64_t start, uint64_t end, struct range *hole) {
    if (start < p->in_order)
        start = p->in_order;
    return rangeset_missing(&p->rest, start, end, hole);
}

bool payload_extent(const struct payload *p, struct range *extent) {
    *extent = (struct range){0, p->in_order};
    if (p->rest.count > 0) {
        extent->end = p->rest.ranges[p->rest.count - 1].end;
        if (p->in_order == 0)
            extent->start = p->rest.ranges[0].start;
    }
    return extent->end > extent->start;
}

const uint8_t *payload_bytes(const struct payload *p, uint64_t offset, size_t want, size_t *bytes) {
    *bytes = 0;
    if (offset >= p->length)
        return NULL;
    size_t index = (size_t)(offset / CHUNK_BYTES);
    const uint8_t *chunk = p->first;
    if (index > 0)
        chunk = index <= p->others_count ? p->others[index - 1] : NULL;
    if (chunk == NULL)
        return NULL;
    size_t at = (size_t)(offset % CHUNK_BYTES);
    size_t together = CHUNK_BYTES - at;
    if (together > want)
        together = want;
    if (together > p->length - offset)
        together = (size_t)(p->length - offset);
    *bytes = together;
    return chunk + at;
}

bool payload_copy(const struct payload *p, uint64_t offset, uint8_t *to, size_t bytes) {
    struct range hole;
    if (offset > p->length || bytes > p->length - offset ||
        payload_missing(p, offset, offset + bytes, &hole))
        return false;
    for (size_t done = 0, part = 0; done < bytes; done += part) {
        const uint8_t *from = payload_bytes(p, offset + done, bytes - done, &part);
        if (from == NULL)
            return false;
        memcpy(to + done, from, part);
    }
    return true;
}

uint64_t payload_arrived(const struct payload *p) {
    return p->in_order + rangeset_total(&p->rest);
}

static bool same_bytes(const struct payload *a, const struct payload *b, struct range range) {
    while (range.start < range.end) {
        size_t of_a = 0;
        size_t of_b = 0;
        size_t want = (size_t)(range.end - range.start);
        const uint8_t *left = payload_bytes(a, range.start, want, &of_a);
        const uint8_t *right = payload_bytes(b, range.start, want, &of_b);
        size_t part = of_a < of_b ? of_a : of_b;
        if (part == 0 || memcmp(left, right, part) != 0)
            return false;
        range.start += part;
    }
    return true;
}

/* All of [offset, offset + bytes) has come. */
static bool same_as(const struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes) {
    size_t part = 0;
    for (size_t done = 0; done < bytes; done += part) {
        const uint8_t *ours = payload_bytes(p, offset + done, bytes - done, &part);
        if (ours == NULL || memcmp(ours, data + done, part) != 0)
            return false;
    }
    return true;
}

bool payload_equals(const struct payload *p, uint64_t offset, const uint8_t *data, size_t bytes) {
    uint64_t end = offset + bytes;
    for (uint64_t at = offset; at < end;) {
        struct range hole = {end, end};
        payload_missing(p, at, end, &hole);
        if (!same_as(p, at, data + (at - offset), (size_t)(hole.start - at)))
            return false;
        at = hole.end;
    }
    return true;
}

bool payload_agrees(const struct payload *p, const struct payload *whole) {
    if (p->length != whole->length || !same_bytes(p, whole, (struct range){0, p->in_order}))
        return false;
    for (size_t i = 0; i < p->rest.count; i++) {
        if (!same_bytes(p, whole, p->rest.ranges[i]))
            return false;
    }
    return true;
}

struct payload *payload_slice(const struct payload *p, uint64_t offset, uint64_t bytes) {
    AUTO(payload) slice = payload_create(p->pool, bytes);
    size_t part = 0;
    for (uint64_t done = 0; slice != NULL && done < bytes; done += part) {
        const uint8_t *data = payload_bytes(p, offset + done, (size_t)(bytes - done), &part);
        if (data == NULL || !payload_write(slice, done, data, part))
            return NULL;
    }
    return take_pointer(&slice);
}

uint32_t payload_crc32c(const struct payload *p, uint64_t offset, uint64_t bytes) {
    uint32_t crc = 0;
    size_t part = 0;
    for (; bytes > 0; offset += part, bytes -= part) {
        const uint8_t *data = payload_bytes(p, offset, (size_t)bytes, &part);
        if (data == NULL)
            break;
        crc = crc32c(crc, data, part);
    }
    return crc;
}

uint64_t payload_id64(const struct payload *p) {
    AUTO(sha256) sum = sha256_create();
    uint64_t length = payload_length(p);
    size_t part = 0;
    for (uint64_t at = 0; sum != NULL && at < length; at += part) {
        const uint8_t *data = payload_bytes(p, at, (size_t)(length - at), &part);
        if (data == NULL)
            return 0;
        sha256_update(sum, data, part);
    }
    return sum != NULL ? sha256_finish_id64(sum) : 0;
}

bool payload_is_zero(const struct payload *p, uint64_t offset, uint64_t bytes) {
    size_t part = 0;
    for (; bytes > 0; offset += part, bytes -= part) {
        const uint8_t *data = payload_bytes(p, offset, (size_t)bytes, &part);
        if (data == NULL || !zero_all(data, part))
            return false;
    }
    return true;
}
