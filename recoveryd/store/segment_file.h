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
#include "recoveryd/store/segments.h"

#include <pthread.h>
#include <stdint.h>

enum {
    SEGMENT_VERSION = 1,
    SEGMENT_HEAD_BYTES = 4096,
    SEGMENT_ALIGN = 8,
    SEGMENT_NAME_BYTES = 16, /* "%08x.seg" */
    SEGMENT_OPEN_FILES = 64, /* descriptors that readers keep */
};

struct segment_head {
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
};

/* A new file with its head, both durable. The caller closes *fd. */
int segment_file_create(struct segments *s, uint32_t *segment, int *fd, struct error *err);

#endif
