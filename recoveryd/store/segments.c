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
    s->dir = strdup(dir);
    s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (s->dir_fd < 0 || !each_file(s, note_number, &s->next_number))
        return error_errno(err, errno, "cannot read the directory %s", dir);
    *out = take_pointer(&s);
    return 0;
}

void segments_close(struct segments *s) {
    if (s == NULL)
        return;
    for (size_t i = 0; i < SEGMENT_OPEN_FILES; i++) {
        if (s->slots[i].segment != 0)
            close(s->slots[i].fd);
    }
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

/* Opens a file and sees that it is the one that the index means. */
static int open_checked(struct segments *s, uint32_t segment, struct error *err) {
    char name[SEGMENT_NAME_BYTES];
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    struct segment_head head;
    segment_file_name(segment, name);
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
        close(oldest->fd);
    return oldest;
}

/* A descriptor to read from, given back with release(). Negative: an error. */
static int acquire(struct segments *s, uint32_t segment, struct error *err) {
    pthread_mutex_lock(&s->lock);
    struct segment_slot *slot = find_slot(s, segment);
    int fd = slot != NULL ? slot->fd : open_checked(s, segment, err);
    if (slot == NULL && fd >= 0) {
        slot = make_room(s);
        if (slot != NULL)
            *slot = (struct segment_slot){.segment = segment, .fd = fd};
    }
    if (slot != NULL) {
        slot->users++;
        slot->used_at = ++s->clock;
    }
    pthread_mutex_unlock(&s->lock);
    return fd;
}

static void release(struct segments *s, uint32_t segment, int fd) {
    pthread_mutex_lock(&s->lock);
    struct segment_slot *slot = find_slot(s, segment);
    bool kept = slot != NULL && slot->fd == fd;
    if (kept)
        slot->users--;
    pthread_mutex_unlock(&s->lock);
    if (!kept)
        close(fd);
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

int segments_read(struct segments *s, const struct extent *extent, uint32_t skip, void *to,
                  uint32_t bytes, struct error *err) {
    if (extent->segment == 0 || skip > extent->bytes || bytes > extent->bytes - skip ||
        extent->offset > (uint64_t)INT64_MAX - extent->bytes)
        return error_set(err, ERR_FORMAT, "the index names an impossible place in the segments");
    int fd = acquire(s, extent->segment, err);
    if (fd < 0)
        return fd;
    int code = read_all(s, fd, extent->segment, extent->offset + skip, to, bytes, err);
    release(s, extent->segment, fd);
    return code;
}
