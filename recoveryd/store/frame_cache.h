/*
 * frame_cache: the frames of packed segments that were unpacked last. Internal to the store.
 * Thread-safe. What a frame holds never changes, but that it may become absent.
 */
#ifndef SANREWIND_RECOVERYD_FRAME_CACHE_H
#define SANREWIND_RECOVERYD_FRAME_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame_cache;
struct frame_cache *frame_cache_create(void);
void frame_cache_destroy(struct frame_cache *c);
/* Copies bytes of the frame that begins at `logical`; false: it is not there. */
bool frame_cache_get(struct frame_cache *c, uint32_t segment, uint64_t logical, size_t skip,
                     uint8_t *to, size_t bytes);
/* Keeps a copy of a whole one, if there is memory. */
void frame_cache_put(struct frame_cache *c, uint32_t segment, uint64_t logical, const uint8_t *data,
                     size_t bytes);
/* The segment was packed anew. */
void frame_cache_forget(struct frame_cache *c, uint32_t segment);

#endif
