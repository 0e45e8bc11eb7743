#include "recoveryd/store/segments.h"

#include "recoveryd/store/segment_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_LIMIT_BYTES (UINT64_C(1) << 30)

/* Calls visit for every segment file; false when the directory cannot be read. */
static bool each_file(const struct segments *s, void (*visit)(void *, int, const char *, uint32_t),
                      void *context) {
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        uint32_t number = segment_file_number(entry->d_name);
        if (number != 0)
            visit(context, fd, entry->d_name, number);
    }
    closedir(dir);
    return true;
}

static void note_number(void *context, int dir_fd, const char *name, uint32_t number) {
    uint32_t *next = context;
    (void)dir_fd;
    (void)name;
    if (*next != 0 && number >= *next)
        *next = number + 1; /* wraps to 0, which means that there is no next one */
}

int segments_open(const char *dir, bool create, uint64_t store_id, struct segments **out,
                  struct error *err) {
    if (create && mkdir(dir, 0750) != 0 && errno != EEXIST)
        return error_errno(err, errno, "cannot make the directory %s", dir);
    AUTO(segments) s = calloc(1, sizeof *s);
    if (s == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->store_id = store_id;
    s->limit_bytes = SEGMENT_LIMIT_BYTES;
    s->next_number = 1;
    rangeset_init(&s->left_raw, SIZE_MAX);
    s->cache = frame_cache_create();
    s->dir = strdup(dir);
    s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir == NULL || s->cache == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (s->dir_fd < 0 || !each_file(s, note_number, &s->next_number))
        return error_errno(err, errno, "cannot read the directory %s", dir);
    *out = take_pointer(&s);
    return 0;
}

static void close_slot(struct segment_slot *slot) {
    packed_close(slot->packed);
    close(slot->fd);
}

void segments_close(struct segments *s) {
    if (s == NULL)
        return;
    for (size_t i = 0; i < SEGMENT_OPEN_FILES; i++) {
        if (s->slots[i].segment != 0)
            close_slot(&s->slots[i]);
    }
    frame_cache_destroy(s->cache);
    rangeset_release(&s->left_raw);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

void segments_set_limit(struct segments *s, uint64_t bytes) {
    s->limit_bytes = bytes > 0 ? bytes : SEGMENT_LIMIT_BYTES;
}

static void add_bytes(void *context, int dir_fd, const char *name, uint32_t number) {
    uint64_t *total = context;
    struct stat status;
    (void)number;
    if (fstatat(dir_fd, name, &status, 0) == 0)
        *total += (uint64_t)status.st_size;
}

uint64_t segments_total_bytes(struct segments *s) {
    uint64_t total = 0;
    each_file(s, add_bytes, &total);
    return total;
}

/* Without a look at its frames. */
static bool read_head(int dir_fd, const char *name, struct segment_head *head) {
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && pread(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes &&
           segment_head_decode(cursor_of(bytes, sizeof bytes), head, NULL) == 0;
}

static void add_file(void *context, int dir_fd, const char *name, uint32_t number) {
    struct segments_total *total = context;
    struct segment_head head;
    struct stat status;
    (void)number;
    if (fstatat(dir_fd, name, &status, 0) != 0)
        return;
    total->files++;
    total->disk_bytes += (uint64_t)status.st_blocks * 512;
    total->packed_files += read_head(dir_fd, name, &head) && head.version == SEGMENT_VERSION_PACKED;
}

void segments_sum(struct segments *s, struct segments_total *total) {
    *total = (struct segments_total){0};
    each_file(s, add_file, total);
}

struct file_visit {
    void (*visit)(void *, uint32_t segment, uint64_t bytes);
    void *context;
};

static void visit_file(void *context, int dir_fd, const char *name, uint32_t number) {
    const struct file_visit *v = context;
    struct stat status;
    if (fstatat(dir_fd, name, &status, 0) == 0)
        v->visit(v->context, number, (uint64_t)status.st_size);
}

int segments_each(struct segments *s, void (*visit)(void *, uint32_t segment, uint64_t bytes),
                  void *context, struct error *err) {
    struct file_visit v = {visit, context};
    if (!each_file(s, visit_file, &v))
        return error_errno(err, errno, "cannot read the directory %s", s->dir);
    return 0;
}

static int open_packed(int fd, struct packed **packed, struct error *err) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_errno(err, errno, "cannot get its size");
    return packed_open(fd, (uint64_t)status.st_size, packed, err);
}

/* Opens a file and sees that it is the one that the index means. */
static int open_checked(struct segments *s, uint32_t segment, struct packed **packed,
                        struct error *err) {
    char name[SEGMENT_NAME_BYTES];
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    struct segment_head head;
    segment_file_name(segment, name);
    *packed = NULL;
    AUTO_CLOSE int fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERR_FORMAT, "the store has lost its segment file %s/%s", s->dir,
                         name);
    if (fd < 0)
        return error_errno(err, errno, "cannot open the segment file %s/%s", s->dir, name);
    ssize_t got = pread(fd, bytes, sizeof bytes, 0);
    if (got < 0)
        return error_errno(err, errno, "cannot read the segment file %s/%s", s->dir, name);
    int code = segment_head_decode(cursor_of(bytes, (size_t)got), &head, err);
    if (code == 0 && (head.segment != segment || head.store_id != s->store_id))
        code = error_set(err, ERR_FORMAT, "it is a file of another store, or has another's name");
    if (code == 0 && head.version == SEGMENT_VERSION_PACKED)
        code = open_packed(fd, packed, err);
    if (code != 0) {
        error_prefix(err, "segment file %s/%s", s->dir, name);
        return code;
    }
    return take_fd(&fd);
}

static struct segment_slot *find_slot(struct segments *s, uint32_t segment) {
    for (size_t i = 0; i < SEGMENT_OPEN_FILES; i++) {
        if (s->slots[i].segment == segment)
            return &s->slots[i];
    }
    return NULL;
}

/* An empty slot, or the least recently used one that nobody uses, emptied; NULL: all are in use. */
static struct segment_slot *make_room(struct segments *s) {
    struct segment_slot *oldest = NULL;
    for (size_t i = 0; i < SEGMENT_OPEN_FILES; i++) {
        struct segment_slot *slot = &s->slots[i];
        if (slot->users == 0 && (oldest == NULL || slot->used_at < oldest->used_at))
            oldest = slot;
    }
    if (oldest != NULL && oldest->segment != 0)
        close_slot(oldest);
    return oldest;
}

/* A file to read from, given back with release(). */
static int acquire(struct segments *s, uint32_t segment, struct segment_slot *file,
                   struct error *err) {
    pthread_mutex_lock(&s->lock);
    struct segment_slot *slot = find_slot(s, segment);
    *file = (struct segment_slot){.segment = segment, .fd = -1};
    if (slot != NULL)
        *file = *slot;
    else
        file->fd = open_checked(s, segment, &file->packed, err);
    if (slot == NULL && file->fd >= 0) {
        slot = make_room(s);
        if (slot != NULL)
            *slot = *file;
    }
    if (slot != NULL) {
        slot->users++;
        slot->used_at = ++s->clock;
    }
    pthread_mutex_unlock(&s->lock);
    return file->fd < 0 ? file->fd : 0;
}

static void release(struct segments *s, struct segment_slot *file) {
    struct segment_slot *kept = NULL;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < SEGMENT_OPEN_FILES && kept == NULL; i++) {
        if (s->slots[i].users > 0 && s->slots[i].fd == file->fd)
            kept = &s->slots[i];
    }
    if (kept != NULL)
        kept->users--;
    if (kept != NULL && kept->segment == SEGMENT_GONE && kept->users == 0) {
        close_slot(kept);
        *kept = (struct segment_slot){0};
    }
    pthread_mutex_unlock(&s->lock);
    if (kept == NULL)
        close_slot(file);
}

/* One that is in use is found no more, and goes with its last reader: the disk gets its blocks
 * back then only. */
void segments_reopen(struct segments *s, uint32_t segment) {
    pthread_mutex_lock(&s->lock);
    struct segment_slot *slot = find_slot(s, segment);
    if (slot != NULL && slot->users == 0) {
        close_slot(slot);
        *slot = (struct segment_slot){0};
    } else if (slot != NULL) {
        slot->segment = SEGMENT_GONE;
        slot->used_at = 0;
    }
    pthread_mutex_unlock(&s->lock);
    frame_cache_forget(s->cache, segment);
}

static int read_all(const struct segments *s, int fd, uint32_t segment, uint64_t offset,
                    uint8_t *to, size_t bytes, struct error *err) {
    while (bytes > 0) {
        ssize_t got = pread(fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, errno, "cannot read the segment file %s/%08x.seg", s->dir,
                               segment);
        if (got == 0)
            return error_set(err, ERR_FORMAT,
                             "the segment file %s/%08x.seg ends before what the index knows of it: "
                             "the store has lost data",
                             s->dir, segment);
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

static bool is_possible(const struct extent *extent, uint32_t skip, uint32_t bytes) {
    return extent->segment != 0 && skip <= extent->bytes && bytes <= extent->bytes - skip &&
           extent->offset <= (uint64_t)INT64_MAX - extent->bytes;
}

static int read_file(struct segments *s, const struct segment_slot *file, uint64_t offset,
                     uint8_t *to, size_t bytes, struct rangeset *absent, struct error *err) {
    /* The head is where it always was. */
    size_t of_head = offset < SEGMENT_HEAD_BYTES ? (size_t)(SEGMENT_HEAD_BYTES - offset) : 0;
    if (file->packed == NULL || of_head > bytes)
        of_head = bytes;
    int code = of_head > 0 ? read_all(s, file->fd, file->segment, offset, to, of_head, err) : 0;
    if (code == 0 && bytes > of_head)
        code = packed_read(file->packed, file->segment, s->cache, offset + of_head, to + of_head,
                           bytes - of_head, absent, err);
    return code;
}

static int read_extent(struct segments *s, const struct extent *extent, uint32_t skip, void *to,
                       uint32_t bytes, struct rangeset *absent, struct error *err) {
    struct segment_slot file;
    if (!is_possible(extent, skip, bytes))
        return error_set(err, ERR_FORMAT, "the index names an impossible place in the segments");
    int code = acquire(s, extent->segment, &file, err);
    if (code != 0)
        return code;
    code = read_file(s, &file, extent->offset + skip, to, bytes, absent, err);
    release(s, &file);
    return code;
}

int segments_read(struct segments *s, const struct extent *extent, uint32_t skip, void *to,
                  uint32_t bytes, struct error *err) {
    return read_extent(s, extent, skip, to, bytes, NULL, err);
}

int segments_read_present(struct segments *s, const struct extent *extent, void *to,
                          struct rangeset *absent, struct error *err) {
    return read_extent(s, extent, 0, to, extent->bytes, absent, err);
}

int segments_size(struct segments *s, uint32_t segment, struct segment_size *size,
                  struct error *err) {
    struct segment_slot file;
    struct stat status;
    *size = (struct segment_size){0};
    int code = acquire(s, segment, &file, err);
    if (code != 0)
        return code;
    if (fstat(file.fd, &status) == 0) {
        size->logical_bytes = (uint64_t)status.st_size;
        size->disk_bytes = (uint64_t)status.st_blocks * 512;
        size->changed_ns = (uint64_t)status.st_mtim.tv_sec * UINT64_C(1000000000) +
                           (uint64_t)status.st_mtim.tv_nsec;
    } else {
        code = error_errno(err, errno, "cannot get the size of a segment");
    }
    if (file.packed != NULL) {
        size->packed = true;
        size->logical_bytes = packed_logical_bytes(file.packed);
        size->absent_bytes = packed_absent_bytes(file.packed);
    }
    release(s, &file);
    return code;
}
