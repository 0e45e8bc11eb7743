#include "recoveryd/store/frame_cache.h"

#include "recoveryd/store/packed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 64 }; /* of 128 KiB: 8 MiB */

struct slot {
    uint32_t segment; /* 0: empty */
    uint64_t logical;
    uint64_t used_at;
    size_t bytes;
    uint8_t *data; /* owned, PACKED_FRAME_BYTES */
};

struct frame_cache {
    pthread_mutex_t lock; /* guards all below */
    uint64_t clock;
    struct slot slots[FRAMES];
};

struct frame_cache *frame_cache_create(void) {
    struct frame_cache *c = calloc(1, sizeof *c);
    if (c != NULL)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

void frame_cache_destroy(struct frame_cache *c) {
    if (c == NULL)
        return;
    for (size_t i = 0; i < FRAMES; i++)
        free(c->slots[i].data);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static struct slot *find(struct frame_cache *c, uint32_t segment, uint64_t logical) {
    for (size_t i = 0; i < FRAMES; i++) {
        if (c->slots[i].segment == segment && c->slots[i].logical == logical)
            return &c->slots[i];
    }
    return NULL;
}

bool frame_cache_get(struct frame_cache *c, uint32_t segment, uint64_t logical, size_t skip,
                     uint8_t *to, size_t bytes) {
    pthread_mutex_lock(&c->lock);
    struct slot *s = find(c, segment, logical);
    bool found = s != NULL && skip <= s->bytes && bytes <= s->bytes - skip;
    if (found) {
        s->used_at = ++c->clock;
        memcpy(to, s->data + skip, bytes);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static struct slot *oldest(struct frame_cache *c) {
    struct slot *oldest = &c->slots[0];
    for (size_t i = 1; i < FRAMES; i++) {
        if (c->slots[i].used_at < oldest->used_at)
            oldest = &c->slots[i];
    }
    return oldest;
}

void frame_cache_put(struct frame_cache *c, uint32_t segment, uint64_t logical, const uint8_t *data,
                     size_t bytes) {
    pthread_mutex_lock(&c->lock);
    struct slot *s = find(c, segment, logical);
    if (s == NULL)
        s = oldest(c);
    if (s->data == NULL)
        s->data = malloc(PACKED_FRAME_BYTES);
    if (s->data != NULL && bytes <= PACKED_FRAME_BYTES) {
        memcpy(s->data, data, bytes);
        s->segment = segment;
        s->logical = logical;
        s->bytes = bytes;
        s->used_at = ++c->clock;
    }
    pthread_mutex_unlock(&c->lock);
}

void frame_cache_forget(struct frame_cache *c, uint32_t segment) {
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < FRAMES; i++) {
        if (c->slots[i].segment == segment)
            c->slots[i].segment = 0;
    }
    pthread_mutex_unlock(&c->lock);
}
