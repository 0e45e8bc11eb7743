#include "recoveryd/store/store.h"

#include "recoveryd/store/format_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

static void join(char path[PATH_MAX], const char *dir, const char *name) {
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
}

/* Everything that a store which was being made when the machine stopped may hold. */
static bool is_half_made_name(const char *name) {
    static const char *const names[] = {".",     "..",         "lock",      "segments",
                                        "index", "FORMAT.new", "lost+found"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* All entries are accepted; a directory that does not exist has none. */
static int all_entries(const char *dir, bool (*accept)(const char *), bool *all,
                       struct error *err) {
    DIR *open_dir = opendir(dir);
    *all = true;
    if (open_dir == NULL)
        return errno == ENOENT ? 0 : error_errno(err, errno, "cannot read the directory %s", dir);
    for (struct dirent *e = readdir(open_dir); e != NULL && *all; e = readdir(open_dir))
        *all = accept(e->d_name);
    closedir(open_dir);
    return 0;
}

static int not_a_store(const char *dir, struct error *err) {
    return error_set(err, ERR_FORMAT,
                     "%s is not a sanrewind store, and not empty: name another directory", dir);
}

/*
 * Without FORMAT: may a store be made here? Only where nothing is, or where making one was cut
 * short (then there are no segments yet). A store that has lost its FORMAT is not made over.
 */
static int check_makeable(const char *dir, struct error *err) {
    char segments[PATH_MAX];
    bool only_ours = false;
    bool no_segments = false;
    int code = all_entries(dir, is_half_made_name, &only_ours, err);
    if (code != 0)
        return code;
    if (!only_ours)
        return not_a_store(dir, err);
    join(segments, dir, "segments");
    code = all_entries(segments, is_dot, &no_segments, err);
    if (code == 0 && !no_segments)
        code =
            error_set(err, ERR_FORMAT,
                      "%s holds segments but no file FORMAT: restore that file from a backup", dir);
    return code;
}

static int check_directory(const char *dir, struct error *err) {
    struct stat status;
    if (stat(dir, &status) != 0)
        return error_errno(err, errno, "cannot open the store %s", dir);
    if (!S_ISDIR(status.st_mode))
        return error_set(err, ERR_FORMAT, "%s is not a directory: a store is one", dir);
    return 0;
}

static int take_lock(struct store *s, struct error *err) {
    char path[PATH_MAX];
    join(path, s->dir, "lock");
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (s->lock_fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return error_set(err, ERR_BUSY,
                         "the store %s is in use by another recoveryd: stop that one, or name "
                         "another directory",
                         s->dir);
    return error_errno(err, errno, "cannot lock %s", path);
}

static int open_parts(struct store *s, enum index_mode mode, uint64_t store_id, struct error *err) {
    char path[PATH_MAX];
    join(path, s->dir, "segments");
    int code = segments_open(path, mode == INDEX_CREATE, store_id, &s->segments, err);
    if (code != 0)
        return code;
    s->room = room_create(s->dir, s->segments);
    if (s->room == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    join(path, s->dir, "index");
    return index_open(path, mode, store_id, &s->index, err);
}

static int new_store_id(uint64_t *store_id, struct error *err) {
    do {
        if (getrandom(store_id, sizeof *store_id, 0) != (ssize_t)sizeof *store_id)
            return error_errno(err, errno, "cannot get random bytes");
    } while (*store_id == 0);
    return 0;
}

static void sync_parent(const char *dir) {
    char path[PATH_MAX];
    join(path, dir, "..");
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) != 0) {
        /* The directory was there before, or its file system does not sync directories. */
    }
}

/* What a cut-short making left of an index carries an id that nobody knows any more. */
static int remove_half_made(const char *dir, struct error *err) {
    static const char *const files[] = {"index/data.mdb", "index/lock.mdb"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        join(path, dir, files[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            return error_errno(err, errno, "cannot remove %s", path);
    }
    return 0;
}

/* FORMAT comes last: before it, a crash leaves what the next start makes again. */
static int make(struct store *s, struct error *err) {
    uint64_t store_id = 0;
    int code = remove_half_made(s->dir, err);
    if (code == 0)
        code = new_store_id(&store_id, err);
    if (code == 0)
        code = open_parts(s, INDEX_CREATE, store_id, err);
    if (code == 0)
        code = format_file_write(s->dir, store_id, err);
    if (code == 0)
        sync_parent(s->dir);
    return code;
}

static int own(struct store *s, struct error *err) {
    struct stat status;
    uint64_t store_id = 0;
    int code = 0;
    if (stat(s->dir, &status) == 0 || errno != ENOENT)
        code = check_directory(s->dir, err);
    else if (mkdir(s->dir, 0750) != 0 && errno != EEXIST)
        code = error_errno(err, errno, "cannot make the store %s", s->dir);
    if (code == 0)
        code = format_file_read(s->dir, &store_id, err);
    if (code == ERR_NOT_FOUND)
        code = check_makeable(s->dir, err);
    if (code == 0)
        code = take_lock(s, err);
    if (code != 0)
        return code;
    /* Looked at again with the lock: another recoveryd may have made it meanwhile. */
    code = format_file_read(s->dir, &store_id, err);
    if (code == ERR_NOT_FOUND)
        return make(s, err);
    return code == 0 ? open_parts(s, INDEX_UPGRADE, store_id, err) : code;
}

static int use(struct store *s, struct error *err) {
    uint64_t store_id = 0;
    int code = check_directory(s->dir, err);
    if (code != 0)
        return code;
    code = format_file_read(s->dir, &store_id, err);
    if (code == ERR_NOT_FOUND)
        return error_set(err, ERR_FORMAT, "%s is not a sanrewind store: it has no file FORMAT",
                         s->dir);
    return code == 0 ? open_parts(s, INDEX_USE, store_id, err) : code;
}

int store_open(const char *dir, enum store_mode mode, struct store **out, struct error *err) {
    AUTO(store) s = calloc(1, sizeof *s);
    if (s == NULL || (s->dir = strdup(dir)) == NULL) {
        free(take_pointer(&s));
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    s->lock_fd = -1;
    s->mode = mode;
    s->pack_quiet_ns = STORE_PACK_QUIET_NS;
    if (strlen(dir) > PATH_MAX - 64)
        return error_set(err, ERR_USAGE, "the name of the store is too long");
    int code = mode == STORE_OWN ? own(s, err) : use(s, err);
    if (code == 0 && mode == STORE_OWN)
        segments_clean(s->segments);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void store_close(struct store *s) {
    if (s == NULL)
        return;
    index_close(s->index);
    room_destroy(s->room);
    segments_close(s->segments);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->dir);
    free(s);
}
