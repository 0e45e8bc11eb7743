/*
 * packed: a segment file of format version 2: the same bytes at the same logical offsets, in fewer.
 * Internal to the store; docs/store-format.md has the table.
 *
 * Head as of version 1 (4096 bytes, version 2), then the stored bytes of frames, the table of
 * frames, and a footer. Frames follow each other from logical offset 4096 to the logical end. Each
 * is compressed on its own, or raw, or absent: its bytes were of payloads that nothing points at
 * any more. Read by any number of threads.
 */
#ifndef SANREWIND_RECOVERYD_PACKED_H
#define SANREWIND_RECOVERYD_PACKED_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/rangeset.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PACKED_FRAME_BYTES = 128 << 10, /* logical bytes of one, at most, that is not absent */
    PACKED_ENTRY_BYTES = 32,
    PACKED_FOOTER_BYTES = 48,
};

/* Numbers are for ever. */
enum frame_kind { FRAME_ABSENT = 0, FRAME_RAW = 1, FRAME_LZ4 = 2, FRAME_ZSTD = 3, FRAME_KINDS };

struct frame {
    uint64_t logical;
    uint64_t at;     /* in the file */
    uint32_t length; /* logical bytes */
    uint32_t stored;
    uint32_t crc32c; /* of the stored bytes */
    uint8_t kind;    /* enum frame_kind */
};

void frame_encode(struct buffer *b, const struct frame *f);
/* What `table` is of `frames` frames up to logical_bytes, behind them at table_at. */
void packed_footer_encode(struct buffer *b, const struct buffer *table, uint32_t frames,
                          uint64_t table_at, uint64_t logical_bytes);

struct packed;
struct frame_cache;
/* `fd` is borrowed, of `file_bytes`. ERR_FORMAT: the table or the footer is damaged; ERR_IO. */
int packed_open(int fd, uint64_t file_bytes, struct packed **out, struct error *err);
void packed_close(struct packed *p);
uint64_t packed_logical_bytes(const struct packed *p);
/* Bytes of absent frames. */
uint64_t packed_absent_bytes(const struct packed *p);
/*
 * Logical bytes behind the head. Absent ones are ERR_FORMAT; with `absent`, zeros, and told there.
 * `segment` names the file in `cache`.
 */
int packed_read(struct packed *p, uint32_t segment, struct frame_cache *cache, uint64_t offset,
                uint8_t *to, size_t bytes, struct rangeset *absent, struct error *err);

/*
 * Unpacks a frame's stored bytes (not of an absent one) into `to`, which has room for its length.
 * ERR_FORMAT.
 */
int frame_unpack(const struct frame *f, const uint8_t *stored, uint8_t *to, struct error *err);

DEFINE_AUTO(packed, packed_close)

#endif
