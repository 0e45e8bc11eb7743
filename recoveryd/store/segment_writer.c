#include "recoveryd/store/segment_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

/* How far ahead blocks are asked for, so that a sync has few block allocations to write down. */
#define STEP_MIN_BYTES (UINT64_C(1) << 20)
#define STEP_MAX_BYTES (UINT64_C(64) << 20)

struct segment_writer {
    struct segments *segments;
    /* One sync at a time: the kernel tells of a failed write once only. Taken before `lock`. */
    pthread_mutex_t sync_lock;
    pthread_mutex_t lock; /* guards all below; not held while syncing, except between two files */
    int fd;               /* -1: the first append makes a file */
    uint32_t segment;
    uint64_t position;  /* where the next append goes */
    uint64_t synced;    /* everything before it is on stable storage */
    uint64_t allocated; /* blocks are there up to here */
    bool broken;        /* a sync has failed: for good */
};

struct segment_writer *segments_writer_create(struct segments *s) {
    struct segment_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    pthread_mutex_init(&w->sync_lock, NULL);
    pthread_mutex_init(&w->lock, NULL);
    w->segments = s;
    w->fd = -1;
    return w;
}

/* Blocks beyond the end, asked for ahead, go back to the file system. */
static void give_back(struct segment_writer *w) {
    if (w->fd < 0)
        return;
    if (ftruncate(w->fd, (off_t)w->position) != 0) {
        /* They stay allocated, which costs space and nothing else. */
    }
    close(w->fd);
    w->fd = -1;
}

void segments_writer_destroy(struct segment_writer *w) {
    if (w == NULL)
        return;
    give_back(w);
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->sync_lock);
    free(w);
}

/* Never ERR_FULL, which would say that trying again helps. */
static int sync_failed(struct segment_writer *w, int errnum, struct error *err) {
    error_errno(err, errnum,
                "%s/%08x.seg could not be made durable: nothing of it was acknowledged; "
                "see to the disk and start again",
                w->segments->dir, w->segment);
    if (err != NULL)
        err->code = ERR_IO;
    return ERR_IO;
}

static int say_broken(struct segment_writer *w, struct error *err) {
    return sync_failed(w, EIO, err);
}

/* A full file is made durable before it is left: later syncs know the current one only. */
static int next_file(struct segment_writer *w, struct error *err) {
    if (w->fd >= 0) {
        if (w->synced < w->position && fdatasync(w->fd) != 0) {
            w->broken = true;
            return sync_failed(w, errno, err);
        }
        give_back(w);
    }
    int code = segment_file_create(w->segments, &w->segment, &w->fd, err);
    if (code != 0)
        return code;
    w->position = w->synced = w->allocated = SEGMENT_HEAD_BYTES;
    return 0;
}

/* Advisory: where it is refused, the write itself finds the blocks or says what is wrong. */
static void allocate_ahead(struct segment_writer *w, uint64_t end) {
    if (end <= w->allocated)
        return;
    uint64_t step = w->position;
    step = step < STEP_MIN_BYTES ? STEP_MIN_BYTES : step;
    step = step > STEP_MAX_BYTES ? STEP_MAX_BYTES : step;
    if (step < end - w->allocated)
        step = end - w->allocated;
    if (fallocate(w->fd, FALLOC_FL_KEEP_SIZE, (off_t)w->allocated, (off_t)step) == 0)
        w->allocated += step;
    else
        w->allocated = errno == EOPNOTSUPP ? UINT64_MAX : end;
}

static int write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t done = pwrite(fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : ENOSPC;
        data += done;
        offset += (uint64_t)done;
        bytes -= (size_t)done;
    }
    return 0;
}

static int append_locked(struct segment_writer *w, const void *data, size_t bytes,
                         struct extent *where, struct error *err) {
    if (w->broken)
        return say_broken(w, err);
    if (w->fd < 0 ||
        (w->position > SEGMENT_HEAD_BYTES && w->position + bytes > w->segments->limit_bytes)) {
        int code = next_file(w, err);
        if (code != 0)
            return code;
    }
    allocate_ahead(w, w->position + bytes);
    int errnum = write_all(w->fd, data, bytes, w->position);
    if (errnum != 0) {
        if (ftruncate(w->fd, (off_t)w->position) == 0)
            w->allocated = w->position;
        return error_errno(err, errnum, "cannot append to %s/%08x.seg", w->segments->dir,
                           w->segment);
    }
    *where = (struct extent){w->segment, (uint32_t)bytes, w->position};
    w->position = (w->position + bytes + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
    return 0;
}

int segments_append(struct segment_writer *w, const void *data, size_t bytes, struct extent *where,
                    struct error *err) {
    if (bytes == 0 || bytes > INT_MAX)
        return error_set(err, ERR_FORMAT, "an append of an impossible size");
    pthread_mutex_lock(&w->lock);
    int code = append_locked(w, data, bytes, where, err);
    pthread_mutex_unlock(&w->lock);
    return code;
}

/*
 * The lock is not held while the disk works, so that the worker goes on appending: a descriptor of
 * its own keeps the file, also when the worker moves on to the next one meanwhile.
 */
static int sync_current(struct segment_writer *w, struct error *err) {
    pthread_mutex_lock(&w->lock);
    bool broken = w->broken;
    uint32_t segment = w->segment;
    uint64_t position = w->position;
    bool needed = w->fd >= 0 && w->synced < position;
    AUTO_CLOSE int fd = needed && !broken ? fcntl(w->fd, F_DUPFD_CLOEXEC, 0) : -1;
    int errnum = errno;
    pthread_mutex_unlock(&w->lock);
    if (broken)
        return say_broken(w, err);
    if (!needed)
        return 0;
    if (fd < 0)
        return error_errno(err, errnum, "cannot sync a segment file");
    errnum = fdatasync(fd) == 0 ? 0 : errno;
    pthread_mutex_lock(&w->lock);
    if (errnum != 0)
        w->broken = true;
    else if (w->segment == segment && w->synced < position)
        w->synced = position;
    pthread_mutex_unlock(&w->lock);
    return errnum == 0 ? 0 : sync_failed(w, errnum, err);
}

int segments_sync(struct segment_writer *w, struct error *err) {
    pthread_mutex_lock(&w->sync_lock);
    int code = sync_current(w, err);
    pthread_mutex_unlock(&w->sync_lock);
    return code;
}
