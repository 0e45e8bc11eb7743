#include "common/crc32c.h"
#include "common/zero.h"
#include "recoveryd/image/image_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool has_payload(const struct image_run *run) {
    return run->kind == RUN_DATA || run->kind == RUN_PATTERN;
}

static bool same_extent(const struct extent *a, const struct extent *b) {
    return a->segment == b->segment && a->offset == b->offset && a->bytes == b->bytes;
}

/* Where they lie in the segments, so that reads go forwards and a payload is read once. */
static int compare_extents(const void *left, const void *right) {
    const struct image_run *a = *(const struct image_run *const *)left;
    const struct image_run *b = *(const struct image_run *const *)right;
    if (a->extent.segment != b->extent.segment)
        return a->extent.segment < b->extent.segment ? -1 : 1;
    if (a->extent.offset != b->extent.offset)
        return a->extent.offset < b->extent.offset ? -1 : 1;
    return a->offset_bytes < b->offset_bytes ? -1 : a->offset_bytes > b->offset_bytes;
}

static int read_payload(struct image *im, const struct image_run *run, uint8_t *to,
                        struct error *err) {
    int code = segments_read(im->store->segments, &run->extent, 0, to, run->extent.bytes, err);
    if (code != 0) {
        error_prefix(err, "bytes %" PRIu64 " to %" PRIu64 " of the volume", run->offset_bytes,
                     run->offset_bytes + run->length_bytes);
        return code;
    }
    if (crc32c(0, to, run->extent.bytes) == run->payload_crc32c)
        return 0;
    return error_set(err, ERR_FORMAT,
                     "the store has damaged bytes: %" PRIu64 " to %" PRIu64
                     " of the volume do not match the checksum that came with them (segment "
                     "%08" PRIx32 ", offset %" PRIu64 ")",
                     run->offset_bytes, run->offset_bytes + run->length_bytes, run->extent.segment,
                     run->extent.offset);
}

/* The part of its payload that a run shows; `to` is where the run belongs. */
static void copy_run(const struct image_run *run, const uint8_t *payload, uint8_t *to) {
    uint64_t skip = run->offset_bytes - run->whole_offset;
    if (run->kind == RUN_DATA) {
        memcpy(to, payload + skip, run->length_bytes);
        return;
    }
    uint64_t period = run->extent.bytes;
    uint64_t phase = skip % period;
    for (uint64_t done = 0; done < run->length_bytes;) {
        uint64_t part = period - phase;
        if (part > run->length_bytes - done)
            part = run->length_bytes - done;
        memcpy(to + done, payload + phase, part);
        done += part;
        phase = 0;
    }
}

/* A payload that one run shows whole needs no detour. */
static bool is_whole(const struct image_run *run) {
    return run->kind == RUN_DATA && run->offset_bytes == run->whole_offset &&
           run->length_bytes == run->extent.bytes;
}

static int read_runs(struct image *im, struct image_run *const *runs, size_t count, uint8_t *to,
                     uint64_t chunk_start, struct error *err) {
    AUTO_FREE uint8_t *payload = NULL;
    const struct image_run *loaded = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct image_run *run = runs[i];
        uint8_t *place = to + (run->offset_bytes - chunk_start);
        int code = 0;
        if (is_whole(run)) {
            code = read_payload(im, run, place, err);
            if (code != 0)
                return code;
            continue;
        }
        if (payload == NULL && (payload = malloc(LIMIT_UPDATE_PAYLOAD_BYTES)) == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        if (loaded == NULL || !same_extent(&loaded->extent, &run->extent))
            code = read_payload(im, run, payload, err);
        if (code != 0)
            return code;
        loaded = run;
        copy_run(run, payload, place);
    }
    return 0;
}

int image_runs_read(struct image *im, struct image_run *runs, size_t count, uint64_t offset_bytes,
                    uint8_t *to, struct error *err) {
    AUTO_FREE struct image_run **stored = calloc(count > 0 ? count : 1, sizeof(struct image_run *));
    if (stored == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    size_t stored_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (has_payload(&runs[i]))
            stored[stored_count++] = &runs[i];
        else
            memset(to + (runs[i].offset_bytes - offset_bytes), 0, runs[i].length_bytes);
    }
    qsort(stored, stored_count, sizeof(struct image_run *), compare_extents);
    return read_runs(im, stored, stored_count, to, offset_bytes, err);
}

int image_chunk_read(struct image *im, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                     struct error *err) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    int code = image_chunk_map(im, chunk, &runs, &count, err);
    if (code != 0)
        return code;
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    *bytes = (size_t)(image_chunk_end(im, chunk) - start);
    code = image_runs_read(im, runs, count, start, to, err);
    *all_zero = code == 0 && zero_all(to, *bytes);
    return code;
}

static bool same_bytes(struct image *im, const struct extent *a, const struct extent *b) {
    AUTO_FREE uint8_t *left = malloc(a->bytes > 0 ? a->bytes : 1);
    AUTO_FREE uint8_t *right = malloc(a->bytes > 0 ? a->bytes : 1);
    return left != NULL && right != NULL &&
           segments_read(im->store->segments, a, 0, left, a->bytes, NULL) == 0 &&
           segments_read(im->store->segments, b, 0, right, a->bytes, NULL) == 0 &&
           memcmp(left, right, a->bytes) == 0;
}

bool image_same_content(void *image, const struct image_run *a, const struct image_run *b) {
    struct image *im = image;
    if (!overlay_alike(a, b))
        return false;
    if (a->kind == RUN_ZERO || same_extent(&a->extent, &b->extent))
        return true;
    if (!same_extent(&im->compared.a, &a->extent) || !same_extent(&im->compared.b, &b->extent)) {
        im->compared.a = a->extent;
        im->compared.b = b->extent;
        im->compared.same = same_bytes(im, &a->extent, &b->extent);
    }
    return im->compared.same;
}
