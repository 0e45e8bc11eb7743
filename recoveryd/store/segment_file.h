/*
 * segment_file: the name and the head of one segment file. Internal to the store.
 *
 * Head, 4096 bytes: magic "SRWDSEGM" | version u32 | segment u32 | store id u64 | made at, ns u64 |
 * crc32c u32 of everything before it | zeros.
 */
#ifndef SANREWIND_RECOVERYD_SEGMENT_FILE_H
#define SANREWIND_RECOVERYD_SEGMENT_FILE_H

#include "common/cursor.h"
#include "common/error.h"
#include "recoveryd/store/frame_cache.h"
#include "recoveryd/store/packed.h"
#include "recoveryd/store/segments.h"

#include <pthread.h>
#include <stdint.h>

enum {
    SEGMENT_VERSION = 1,
    SEGMENT_VERSION_PACKED = 2, /* see packed.h */
    SEGMENT_HEAD_BYTES = 4096,
    SEGMENT_ALIGN = 8,
    SEGMENT_NAME_BYTES = 16, /* "%08x.seg" */
    SEGMENT_OPEN_FILES = 64, /* descriptors that readers keep */
};
#define SEGMENT_GONE UINT32_MAX /* in a slot: the name leads to another file by now */

struct segment_head {
    uint32_t version; /* 0 to encode: SEGMENT_VERSION */
    uint32_t segment;
    uint64_t store_id;
    uint64_t made_ns;
};

void segment_head_encode(const struct segment_head *head, uint8_t to[SEGMENT_HEAD_BYTES]);
/* 0, ERR_FORMAT or ERR_VERSION. */
int segment_head_decode(struct cursor c, struct segment_head *head, struct error *err);

void segment_file_name(uint32_t segment, char name[SEGMENT_NAME_BYTES]);
/* The number in a name; 0: not the name of a segment. */
uint32_t segment_file_number(const char *name);

/* A descriptor that a reader holds on to. */
struct segment_slot {
    uint32_t segment; /* 0: empty */
    int fd;
    struct packed *packed; /* NULL: it is not */
    unsigned users;
    uint64_t used_at; /* for the least recently used */
};

struct segments {
    char *dir;
    int dir_fd;
    uint64_t store_id;
    uint64_t limit_bytes;
    pthread_mutex_t lock; /* guards all below */
    uint32_t next_number;
    uint64_t clock;
    struct segment_slot slots[SEGMENT_OPEN_FILES];
    struct rangeset left_raw;  /* numbers of segments that packing would not make smaller */
    struct frame_cache *cache; /* has a lock of its own */
};

/* Readers open the file anew: there is another one of that name. */
void segments_reopen(struct segments *s, uint32_t segment);

/* A new file with its head, both durable, and with a lock (flock) that says that somebody appends
 * to it. The caller closes *fd. */
int segment_file_create(struct segments *s, uint32_t *segment, int *fd, struct error *err);

#endif
