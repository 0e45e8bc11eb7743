#include "tap/fc/internal.h"

#include <stdalign.h>
#include <sys/mman.h>

/* AddressSanitizer is told of what malloc() would have told it. */
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

/*
 * Frames that wait are put one behind the other onto shelves, which the window empties in about the
 * same order: memory is written and read from front to back.
 */
enum { SHELF_BYTES = 2 << 20, MOST_EMPTY = 64, LINE_BYTES = 64 };

struct shelf {
    struct shelves *of;
    struct shelf *next; /* shelves->empty */
    size_t used;        /* bytes */
    size_t held;        /* frames on it that are not freed */
    alignas(LINE_BYTES) uint8_t bytes[];
};

struct shelves {
    struct shelf *open; /* where frames are put; NULL at first */
    struct shelf *empty;
    size_t empty_count;
};

struct shelves *shelves_create(void) {
    return calloc(1, sizeof(struct shelves));
}

void shelves_destroy(struct shelves *s) {
    if (s == NULL)
        return;
    while (s->empty != NULL) {
        struct shelf *shelf = s->empty;
        s->empty = shelf->next;
        free(shelf);
    }
    free(s->open);
    free(s);
}

static void put_away(struct shelf *shelf) {
    struct shelves *s = shelf->of;
    shelf->used = 0;
    if (shelf == s->open)
        return;
    if (s->empty_count >= MOST_EMPTY) {
        free(shelf);
        return;
    }
    shelf->next = s->empty;
    s->empty = shelf;
    s->empty_count++;
}

static bool open_next(struct shelves *s) {
    struct shelf *shelf = s->empty;
    if (shelf != NULL) {
        s->empty = shelf->next;
        s->empty_count--;
    } else {
        shelf = aligned_alloc(SHELF_BYTES, SHELF_BYTES);
        if (shelf == NULL)
            return false;
        madvise(shelf, SHELF_BYTES, MADV_HUGEPAGE); /* one page fault, not 512 */
        *shelf = (struct shelf){.of = s};
        ASAN_POISON_MEMORY_REGION(shelf->bytes, SHELF_BYTES - sizeof *shelf);
    }
    s->open = shelf;
    return true;
}

static void *place_for(struct shelves *s, size_t bytes) {
    bytes = (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    if (bytes > SHELF_BYTES - sizeof(struct shelf))
        return NULL;
    bool full = s->open == NULL || bytes > SHELF_BYTES - sizeof(struct shelf) - s->open->used;
    if (full && !open_next(s))
        return NULL;
    void *place = s->open->bytes + s->open->used;
    ASAN_UNPOISON_MEMORY_REGION(place, bytes);
    s->open->used += bytes;
    s->open->held++;
    return place;
}

size_t seen_size(const struct seen *seen) {
    return sizeof *seen + seen->frame.bytes;
}

struct seen *shelves_put(struct shelves *s, const struct frame *frame, uint64_t time_ns) {
    struct seen *seen = place_for(s, sizeof *seen + frame->bytes);
    if (seen == NULL)
        return NULL;
    seen->time_ns = time_ns;
    seen->frame = *frame;
    seen->frame.payload = seen->data;
    seen->again = false;
    seen->shelf = s->open;
    seen->prev = seen->next = NULL;
    if (frame->bytes > 0)
        memcpy(seen->data, frame->payload, frame->bytes);
    return seen;
}

void seen_free(struct seen *seen) {
    if (seen == NULL)
        return;
    struct shelf *shelf = seen->shelf;
    if (shelf == NULL) {
        free(seen);
        return;
    }
    ASAN_POISON_MEMORY_REGION(seen, seen_size(seen));
    if (--shelf->held == 0)
        put_away(shelf);
}

struct seen *seen_keep(struct seen *seen) {
    if (seen->shelf == NULL)
        return seen;
    struct seen *kept = malloc(seen_size(seen));
    if (kept != NULL) {
        memcpy(kept, seen, seen_size(seen));
        kept->frame.payload = kept->data;
        kept->shelf = NULL;
    }
    seen_free(seen);
    return kept;
}
