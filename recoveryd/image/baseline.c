#include "recoveryd/image/baseline.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/stop.h"
#include "common/zero.h"
#include "recoveryd/store/made_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

/* Pieces of this many chunks are committed together: what waits in memory is small, commits are
 * few. */
enum { COMMIT_CHUNKS = 256 };

struct baseline {
    struct store *store;
    const struct volume *volume;
    const struct baseline_options *options;
    struct baseline_result *result;
    int fd;          /* -1: zeros */
    uint64_t path;   /* the pseudo-path */
    uint64_t stream; /* now: tells this baseline from every other */
    uint64_t order;
    struct segment_writer *writer;
    struct index_writer *index; /* what is not committed yet */
    unsigned waiting;           /* chunks in it */
    struct buffer batch;
    uint8_t *chunk;
};

static int open_source(struct baseline *b, uint64_t *size_bytes, struct error *err) {
    struct stat status;
    const char *file = b->options->file;
    b->fd = open(file, O_RDONLY | O_CLOEXEC);
    if (b->fd < 0 || fstat(b->fd, &status) != 0)
        return error_errno(err, errno, "cannot open %s", file);
    if (S_ISBLK(status.st_mode)) {
        if (ioctl(b->fd, BLKGETSIZE64, size_bytes) != 0)
            return error_errno(err, errno, "cannot get the size of %s", file);
        return 0;
    }
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERR_USAGE, "%s is neither a file nor a block device", file);
    *size_bytes = (uint64_t)status.st_size;
    return 0;
}

static int check_size(const struct baseline *b, uint64_t size_bytes, struct error *err) {
    uint64_t known = volume_size_at(b->volume, b->options->time_ns).size_bytes;
    if (b->fd >= 0 && size_bytes == 0)
        return error_set(err, ERR_FORMAT, "%s is empty: it cannot be a baseline", b->options->file);
    if (known == 0 || size_bytes == 0 || known == size_bytes)
        return 0;
    return error_set(err, ERR_FORMAT,
                     "%s has %" PRIu64 " bytes, the volume %s has %" PRIu64
                     " at that time: give an image of the whole volume",
                     b->options->file != NULL ? b->options->file : "the baseline", size_bytes,
                     b->volume->name, known);
}

/* A number that no path has: of the volume, the time and chance. */
static int make_path(struct baseline *b, struct error *err) {
    uint64_t parts[4] = {b->volume->paths[0].path, b->options->time_ns, b->stream, 0};
    if (getrandom(&parts[3], sizeof parts[3], 0) != (ssize_t)sizeof parts[3])
        return error_errno(err, errno, "cannot get random bytes");
    b->path = digest_id64(parts, sizeof parts);
    b->path = b->path != 0 ? b->path : 1;
    return 0;
}

static int read_chunk(const struct baseline *b, uint64_t offset, size_t bytes, struct error *err) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(b->fd, b->chunk + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, errno, "cannot read %s", b->options->file);
        if (got == 0)
            return error_set(err, ERR_IO, "%s became shorter while it was read", b->options->file);
        done += (size_t)got;
    }
    return 0;
}

/* Segment first, then index: what waits becomes durable. */
static int commit(struct baseline *b, struct error *err) {
    int code = segments_sync(b->writer, err);
    if (code != 0)
        return code;
    code = index_commit(take_pointer(&b->index), err);
    b->waiting = 0;
    return code == 0 ? index_begin(b->store->index, &b->index, err) : code;
}

static int store_chunk(struct baseline *b, uint64_t offset, uint32_t bytes, struct error *err) {
    struct record update = {.type = RECORD_UPDATE,
                            .order = b->order,
                            .update = {.time_ns = b->options->time_ns,
                                       .path = b->path,
                                       .offset_bytes = offset,
                                       .length_bytes = bytes,
                                       .block_bytes = b->volume->block_bytes,
                                       .op = UPDATE_WRITE,
                                       .payload_bytes = bytes}};
    struct extent extent;
    int code =
        made_write_append(b->writer, &b->batch, 0, b->stream, &update, b->chunk, &extent, err);
    if (code != 0)
        return code;
    struct stamp stamp = {b->options->time_ns, 0, b->stream, b->order++};
    code = index_put_update(b->index, &stamp, &update.update, &extent, err);
    if (code != 0)
        return code;
    b->result->stored_bytes += bytes;
    return ++b->waiting >= COMMIT_CHUNKS ? commit(b, err) : 0;
}

/* The first chunk >= offset that may hold data: a hole in the file is not read. */
static uint64_t skip_hole(const struct baseline *b, uint64_t offset, uint64_t size_bytes) {
    off_t data = lseek(b->fd, (off_t)offset, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? size_bytes : offset;
    uint64_t start = (uint64_t)data / INDEX_CHUNK_BYTES * INDEX_CHUNK_BYTES;
    return start > offset ? start : offset;
}

static void say_progress(const struct baseline *b, uint64_t done_bytes, uint64_t total_bytes) {
    if (b->options->progress != NULL)
        b->options->progress(b->options->progress_context, done_bytes, total_bytes);
}

static int store_data(struct baseline *b, uint64_t size_bytes, struct error *err) {
    for (uint64_t at = skip_hole(b, 0, size_bytes); at < size_bytes;
         at = skip_hole(b, at + INDEX_CHUNK_BYTES, size_bytes)) {
        uint64_t left = size_bytes - at;
        uint32_t bytes = (uint32_t)(left < INDEX_CHUNK_BYTES ? left : INDEX_CHUNK_BYTES);
        int code = read_chunk(b, at, bytes, err);
        if (code == 0 && !zero_all(b->chunk, bytes))
            code = store_chunk(b, at, bytes, err);
        if (code == 0 && stop_requested())
            code = error_set(err, ERR_STOPPED, "stopped: the volume has no baseline from this");
        if (code != 0)
            return code;
        say_progress(b, at + bytes, size_bytes);
    }
    say_progress(b, size_bytes, size_bytes);
    return 0;
}

static int put_floor(struct baseline *b, uint64_t size_bytes, struct error *err) {
    struct floor floor = {.stamp = {b->options->time_ns, 0, b->stream, b->order},
                          .kind = FLOOR_ZERO,
                          .base_path = b->order > 0 ? b->path : 0,
                          .size_bytes = size_bytes};
    snprintf(floor.text, sizeof floor.text, "%s",
             b->options->file != NULL ? b->options->file : "zeros");
    int code = segments_sync(b->writer, err);
    if (code == 0)
        code = index_put_floor(b->index, b->volume->paths[0].path, &floor, err);
    return code == 0 ? index_commit(take_pointer(&b->index), err) : code;
}

static int run(struct baseline *b, struct error *err) {
    uint64_t size_bytes = b->options->size_bytes;
    int code = b->options->file != NULL ? open_source(b, &size_bytes, err) : 0;
    if (code == 0)
        code = check_size(b, size_bytes, err);
    if (size_bytes == 0)
        size_bytes = volume_size_at(b->volume, b->options->time_ns).size_bytes;
    if (code == 0)
        code = make_path(b, err);
    if (code == 0)
        code = index_begin(b->store->index, &b->index, err);
    if (code == 0 && b->fd >= 0)
        code = store_data(b, size_bytes, err);
    if (code == 0)
        code = put_floor(b, size_bytes, err);
    b->result->size_bytes = size_bytes;
    return code;
}

int baseline_from_file(struct store *s, const struct volume *v,
                       const struct baseline_options *options, struct baseline_result *result,
                       struct error *err) {
    if (v->path_count == 0)
        return error_set(err, ERR_NOT_FOUND, "%s has no path", v->name);
    *result = (struct baseline_result){0};
    struct baseline b = {.store = s,
                         .volume = v,
                         .options = options,
                         .result = result,
                         .fd = -1,
                         .stream = clock_wall_ns()};
    buffer_init(&b.batch, INDEX_CHUNK_BYTES + MADE_WRITE_ROOM_BYTES);
    b.chunk = malloc(INDEX_CHUNK_BYTES);
    b.writer = segments_writer_create(s->segments);
    int code = b.chunk != NULL && b.writer != NULL ? run(&b, err)
                                                   : error_set(err, ERR_NOMEM, "out of memory");
    index_abort(b.index);
    segments_writer_destroy(b.writer);
    buffer_release(&b.batch);
    free(b.chunk);
    if (b.fd >= 0)
        close(b.fd);
    return code;
}
