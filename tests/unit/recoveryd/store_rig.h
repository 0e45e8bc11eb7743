/*
 * store_rig: a store in a directory of its own, and updates put into it as a recovery server would.
 */
#ifndef SANREWIND_TESTS_STORE_RIG_H
#define SANREWIND_TESTS_STORE_RIG_H

#include "common/crc32c.h"
#include "proto/record.h"
#include "recoveryd/image/image.h"
#include "recoveryd/store/store.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct rig {
    char base[64];
    char dir[80];
    struct store *store;
    struct segment_writer *segment;
    struct index_writer *writer;
    uint64_t unmerged_most; /* 0: every commit merges; counts at rig_open() */
    struct error err;
};

#define rig_ok(rig, call)                                                                          \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        cr_assert_eq(code_, 0, "%s: %d %s", #call, code_, (rig)->err.text);                        \
    } while (0)

static inline int rig_remove_one(const char *path, const struct stat *status, int kind,
                                 struct FTW *ftw) {
    (void)status;
    (void)kind;
    (void)ftw;
    return remove(path);
}

/* Where syncs cost nothing, if there is room: none of these tests takes the power away. */
static inline const char *rig_place(void) {
    struct statvfs status;
    bool roomy = statvfs("/dev/shm", &status) == 0 &&
                 status.f_bavail >= (UINT64_C(1) << 30) / status.f_bsize;
    return roomy && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static inline void rig_make_dir(struct rig *rig) {
    *rig = (struct rig){0};
    snprintf(rig->base, sizeof rig->base, "%s/sanrewind-unit-XXXXXX", rig_place());
    cr_assert_not_null(mkdtemp(rig->base));
    snprintf(rig->dir, sizeof rig->dir, "%s/store", rig->base);
}

static inline void rig_remove_dir(struct rig *rig) {
    nftw(rig->base, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void rig_open(struct rig *rig) {
    rig_ok(rig, store_open(rig->dir, STORE_OWN, &rig->store, &rig->err));
    index_set_unmerged_most(rig->store->index, rig->unmerged_most);
    rig->segment = segments_writer_create(rig->store->segments);
    cr_assert_not_null(rig->segment);
}

static inline void rig_close(struct rig *rig) {
    index_abort(take_pointer(&rig->writer));
    segments_writer_destroy(take_pointer(&rig->segment));
    store_close(take_pointer(&rig->store));
}

static inline void rig_start(struct rig *rig) {
    rig_make_dir(rig);
    rig_open(rig);
}

static inline void rig_end(struct rig *rig) {
    rig_close(rig);
    rig_remove_dir(rig);
}

static inline struct index_writer *rig_writer(struct rig *rig) {
    if (rig->writer == NULL)
        rig_ok(rig, index_begin(rig->store->index, &rig->writer, &rig->err));
    return rig->writer;
}

static inline void rig_commit(struct rig *rig) {
    rig_ok(rig, segments_sync(rig->segment, &rig->err));
    if (rig->writer != NULL)
        rig_ok(rig, index_commit(take_pointer(&rig->writer), &rig->err));
}

static inline struct index_reader *rig_reader(struct rig *rig) {
    struct index_reader *reader;
    rig_ok(rig, index_read(rig->store->index, &reader, &rig->err));
    return reader;
}

/* An update of `bytes` payload bytes over `length` (a pattern when it is longer). */
static inline void rig_put(struct rig *rig, uint64_t path, const struct stamp *stamp,
                           uint64_t offset, uint64_t length, const uint8_t *data, uint32_t bytes) {
    struct extent extent = {0};
    struct update_record update = {.time_ns = stamp->time_ns,
                                   .path = path,
                                   .offset_bytes = offset,
                                   .length_bytes = length,
                                   .block_bytes = 512,
                                   .op = UPDATE_ZERO};
    if (data != NULL) {
        rig_ok(rig, segments_append(rig->segment, data, bytes, &extent, &rig->err));
        update.op = bytes == length ? UPDATE_WRITE : UPDATE_PATTERN;
        update.payload_bytes = bytes;
        update.payload_crc32c = crc32c(0, data, bytes);
    }
    rig_ok(rig, index_put_update(rig_writer(rig), stamp, &update, data != NULL ? &extent : NULL,
                                 &rig->err));
}

static inline void rig_gap(struct rig *rig, uint64_t path, const struct stamp *stamp,
                           uint64_t offset, uint64_t length, uint16_t reason) {
    struct gap_record gap = {.time_ns = stamp->time_ns,
                             .path = path,
                             .offset_bytes = offset,
                             .length_bytes = length,
                             .reason = reason,
                             .text = "a test",
                             .text_bytes = 6};
    rig_ok(rig, index_put_gap(rig_writer(rig), stamp, &gap, &rig->err));
}

/* Announces a path of an iSCSI target as a monitor would; returns its number. */
static inline uint64_t rig_path(struct rig *rig, uint64_t monitor, uint64_t stream,
                                const char *target, const char *designator, uint64_t size,
                                uint64_t time_ns) {
    struct path_record path = {.time_ns = time_ns,
                               .size_bytes = size,
                               .block_bytes = size > 0 ? 512 : 0,
                               .protocol = PATH_ISCSI,
                               .target = target,
                               .target_bytes = (uint16_t)strlen(target),
                               .designator = designator,
                               .designator_bytes = (uint16_t)strlen(designator)};
    path.path = record_path_id(PATH_ISCSI, target, strlen(target), 0);
    rig_ok(rig, index_put_path(rig_writer(rig), monitor, stream, &path, &rig->err));
    return path.path;
}

static inline void rig_stream(struct rig *rig, uint64_t monitor, uint64_t stream, uint64_t first_ns,
                              uint64_t frontier_ns, bool ended) {
    struct stream_entry entry = {.monitor = monitor,
                                 .stream = stream,
                                 .name = "mon",
                                 .first_ns = first_ns,
                                 .frontier = 10,
                                 .frontier_ns = frontier_ns,
                                 .ended = ended};
    rig_ok(rig, index_put_stream(rig_writer(rig), &entry, &rig->err));
}

/* The same with a bound of the clock's error, and another number of durable records. */
static inline void rig_clock(struct rig *rig, uint64_t monitor, uint64_t stream, uint64_t first_ns,
                             uint64_t frontier_ns, uint64_t frontier, uint64_t error_ns) {
    struct stream_entry entry = {.monitor = monitor,
                                 .stream = stream,
                                 .name = "mon",
                                 .first_ns = first_ns,
                                 .frontier = frontier,
                                 .frontier_ns = frontier_ns,
                                 .clock_error_ns = error_ns,
                                 .clock_error_max_ns = error_ns};
    rig_ok(rig, index_put_stream(rig_writer(rig), &entry, &rig->err));
}

/* A volume's image; exact or not at one byte, its content there, and why not. */
struct rig_byte {
    bool exact;
    bool known;
    uint8_t value;
    uint16_t reason;
    uint64_t since_ns;
    uint64_t size_bytes;
};

static inline struct rig_byte rig_byte_at(struct rig *rig, uint64_t path, uint64_t time_ns,
                                          uint64_t offset) {
    struct volume_list list;
    struct image_run *runs;
    size_t count;
    struct rig_byte byte = {0};
    struct index_reader *r = rig_reader(rig);
    struct image *im;
    rig_ok(rig, volume_list_read(r, &list, &rig->err));
    const struct volume *v = volume_of_path(&list, path);
    cr_assert_not_null(v);
    rig_ok(rig, image_open(rig->store, v, time_ns, &im, &rig->err));
    byte.size_bytes = image_info(im)->size_bytes;
    rig_ok(rig, image_range_map(im, offset, 1, &runs, &count, &rig->err));
    cr_assert_eq(count, 1);
    rig_ok(rig, image_runs_read(im, runs, count, offset, &byte.value, &rig->err));
    byte.exact = runs[0].exact;
    byte.known = runs[0].kind != RUN_UNKNOWN;
    byte.reason = runs[0].gap_reason;
    byte.since_ns = runs[0].gap_stamp.time_ns;
    free(runs);
    image_close(im);
    volume_list_release(&list);
    index_reader_close(r);
    return byte;
}

/* How many gaps the image at a time has. */
static inline size_t rig_gap_count(struct rig *rig, uint64_t path, uint64_t time_ns) {
    struct volume_list list;
    struct image_gap *gaps;
    size_t count;
    struct index_reader *r = rig_reader(rig);
    struct image *im;
    rig_ok(rig, volume_list_read(r, &list, &rig->err));
    rig_ok(rig, image_open(rig->store, volume_of_path(&list, path), time_ns, &im, &rig->err));
    rig_ok(rig, image_gaps(im, &gaps, &count, &rig->err));
    free(gaps);
    image_close(im);
    volume_list_release(&list);
    index_reader_close(r);
    return count;
}

/* Bytes of one value. */
static inline void rig_fill(struct rig *rig, uint64_t path, struct stamp stamp, uint64_t issued_ns,
                            uint64_t offset, uint32_t length, uint8_t value) {
    struct extent extent = {0};
    uint8_t *data = malloc(length);
    memset(data, value, length);
    struct update_record update = {.time_ns = stamp.time_ns,
                                   .issued_ns = issued_ns,
                                   .path = path,
                                   .offset_bytes = offset,
                                   .length_bytes = length,
                                   .block_bytes = 512,
                                   .op = UPDATE_WRITE,
                                   .payload_bytes = length,
                                   .payload_crc32c = crc32c(0, data, length)};
    rig_ok(rig, segments_append(rig->segment, data, length, &extent, &rig->err));
    rig_ok(rig, index_put_update(rig_writer(rig), &stamp, &update, &extent, &rig->err));
    free(data);
}

static inline void rig_floor_zero(struct rig *rig, uint64_t path, uint64_t time_ns, uint64_t size) {
    struct floor floor = {.stamp = {time_ns, 0, 1, 0}, .kind = FLOOR_ZERO, .size_bytes = size};
    rig_ok(rig, index_put_floor(rig_writer(rig), path, &floor, &rig->err));
}

#endif
