/*
 * A spool file as a crash, or somebody, left it. Byte 0 says whether the checksums of the heads are
 * made right first: without that no input would get past them. What the scan calls good must be
 * readable, entry by entry, and what is left of each batch must be thinned to something that is no
 * larger and stays the same when it is thinned again.
 */
#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "proto/limits.h"
#include "tap/publish/spool_file.h"
#include "tap/publish/thin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_le32(uint8_t *to, uint32_t value) {
    for (size_t i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

/* The heads' checksums, and those of the batches, as far as the lengths lead. */
static void mend(uint8_t *file, size_t size) {
    if (size < SPOOL_FILE_HEAD_BYTES)
        return;
    put_le32(file + 36, crc32c(0, file, 36));
    size_t at = SPOOL_FILE_HEAD_BYTES;
    while (size - at >= SPOOL_ENTRY_HEAD_BYTES) {
        uint8_t *head = file + at;
        uint32_t bytes = (uint32_t)head[4] | (uint32_t)head[5] << 8 | (uint32_t)head[6] << 16;
        at += SPOOL_ENTRY_HEAD_BYTES;
        if (bytes <= size - at)
            put_le32(head + 24, crc32c(0, file + at, bytes));
        put_le32(head + 36, crc32c(0, head, 36));
        at += bytes <= size - at ? bytes : size - at;
        at += (8 - at % 8) % 8;
        if (at > size)
            return;
    }
}

static void check_thin(const struct buffer *frame) {
    AUTO_BUFFER thin;
    AUTO_BUFFER again;
    uint64_t lost = 0;
    buffer_init(&thin, 2 * (size_t)LIMIT_BATCH_BYTES);
    buffer_init(&again, 2 * (size_t)LIMIT_BATCH_BYTES);
    if (thin_batch(frame->data, frame->length, &thin, &lost, NULL) < 0)
        return;
    if (thin.length > frame->length)
        abort();
    uint64_t more = 0;
    if (thin_batch(thin.data, thin.length, &again, &more, NULL) < 0 || more != 0 ||
        again.length != thin.length || memcmp(again.data, thin.data, thin.length) != 0)
        abort();
}

static void check_entries(int fd, const struct spool_file_head *head,
                          const struct spool_extent *extent) {
    AUTO_BUFFER frame;
    struct spool_entry entry;
    uint64_t order = extent->first_order;
    buffer_init(&frame, LIMIT_BATCH_BYTES);
    for (uint64_t at = SPOOL_FILE_HEAD_BYTES; at < extent->bytes;) {
        if (spool_file_entry(fd, at, extent->bytes, head->number, &entry, NULL) < 0 ||
            spool_file_frame(fd, at, &entry, &frame, NULL) < 0 || entry.first_order != order)
            abort();
        check_thin(&frame);
        order = entry.end_order;
        at += spool_entry_room(entry.bytes);
    }
    if (order != extent->end_order)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct spool_file_head head;
    struct spool_extent quick;
    struct spool_extent thorough;
    if (size < 1)
        return 0;
    uint8_t *copy = malloc(size);
    if (copy == NULL)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if ((data[0] & 1) != 0)
        mend(copy, size - 1);
    AUTO_CLOSE int fd = memfd_create("spool", MFD_CLOEXEC);
    bool made = fd >= 0 && pwrite(fd, copy, size - 1, 0) == (ssize_t)size - 1;
    free(copy);
    if (!made || spool_file_head(fd, &head, NULL) < 0)
        return 0;
    if (spool_file_scan(fd, &head, false, &quick, NULL) < 0 ||
        spool_file_scan(fd, &head, true, &thorough, NULL) < 0 || thorough.bytes > quick.bytes)
        abort();
    check_entries(fd, &head, &thorough);
    return 0;
}
