/*
 * spool_file: the files of a spool: batches of one stream, as they are sent, in their order.
 *
 * All integers little-endian.
 *   head   40 bytes: "SRWS", version 1 (4), monitor 8, stream 8, number of the file 8, 0 (4),
 *          crc32c of the 36 bytes before
 *   entry  40 bytes: "SRWE", length of the batch 4, its order marks [first 8, end 8), crc32c of the
 *          batch 4, low half of the file's number 4, 0 (4), crc32c of the 36 bytes before; then
 *          the batch (docs/wire-protocol.md), and zeros up to a multiple of 8
 * What a crash left of the last entry does not have its checksums: a file is good up to there.
 *
 * Functions that read take any bytes. Nothing here is thread-safe but reads of what is written.
 */
#ifndef SANREWIND_TAP_SPOOL_FILE_H
#define SANREWIND_TAP_SPOOL_FILE_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPOOL_FILE_HEAD_BYTES = 40, SPOOL_ENTRY_HEAD_BYTES = 40 };

struct spool_file_head {
    uint64_t monitor;
    uint64_t stream;
    uint64_t number;
};

struct spool_entry {
    uint64_t first_order;
    uint64_t end_order;
    uint32_t bytes; /* of the batch */
    uint32_t crc32c;
};

/* How much an entry takes in a file. */
uint64_t spool_entry_room(uint64_t frame_bytes);

/* Writes the head of a new file. */
int spool_file_begin(int fd, const struct spool_file_head *head, struct error *err);
/* Writes an entry at `at`, and says in *wrote how much. After a failure the bytes behind `at` are
 * anything. */
int spool_file_append(int fd, uint64_t at, uint64_t number, const struct spool_entry *entry,
                      const uint8_t *frame, uint64_t *wrote, struct error *err);

/* 0; ERR_FORMAT: not a spool file, or cut short; ERR_VERSION: a newer one. */
int spool_file_head(int fd, struct spool_file_head *head, struct error *err);
/*
 * The head of the entry at `at`, of a file that is good up to `end`. 0; ERR_NOT_FOUND: the file
 * ends here; ERR_FORMAT: no whole entry.
 */
int spool_file_entry(int fd, uint64_t at, uint64_t end, uint64_t number, struct spool_entry *entry,
                     struct error *err);
/* Its batch, checked. ERR_FORMAT: damaged. */
int spool_file_frame(int fd, uint64_t at, const struct spool_entry *entry, struct buffer *frame,
                     struct error *err);

struct spool_extent {
    uint64_t first_order; /* what is in it: [first, end); equal: nothing is */
    uint64_t end_order;
    uint64_t bytes; /* how far the file is good */
};

/*
 * Looks through a file with a good head. `thorough`: every batch is read and checked, otherwise the
 * heads. Never fails for what is in it: it ends where something is wrong (order marks that step
 * back or leave a hole are).
 */
int spool_file_scan(int fd, const struct spool_file_head *head, bool thorough,
                    struct spool_extent *extent, struct error *err);

#endif
