#include "recoveryd/index/kv.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

/*
 * The map costs address space, not memory, and a map that can grow while readers are open does not
 * exist in LMDB: so it is as large as an index can get. Halved where the process has less address
 * space.
 */
#define MAP_BYTES     ((size_t)1 << 40)
#define MAP_MIN_BYTES ((size_t)1 << 30)

/* A reader takes 64 bytes of the lock file, its head less than a page. */
enum { MAX_READERS = 1024, LOCK_FILE_BYTES = MAX_READERS * 64 + 4096 };

/* LMDB says EIO when a write was cut short; with less room than this the disk is full. */
#define FULL_DISK_BYTES (UINT64_C(1) << 20)

struct kv {
    MDB_env *env;
    char *dir;
    MDB_dbi tables[KV_TABLES];
    pthread_mutex_t lock; /* guards `open` and the map's size */
    unsigned open;        /* transactions of this process */
};

struct kv_txn {
    struct kv *kv;
    MDB_txn *txn;
    MDB_cursor *put[KV_TABLES]; /* write: where the last put of each table was */
};

struct kv_cursor {
    MDB_cursor *cursor;
    const struct kv *kv;
};

static bool disk_is_full(const char *dir) {
    struct statvfs status;
    return statvfs(dir, &status) == 0 &&
           (uint64_t)status.f_bavail * status.f_frsize < FULL_DISK_BYTES;
}

/* What LMDB's codes mean to the person who has to act. */
static int fail(const struct kv *kv, int rc, const char *doing, struct error *err) {
    switch (rc) {
    case MDB_MAP_FULL:
        return error_set(err, ERR_FULL,
                         "%s: cannot %s: the index has reached the size of its map: give the "
                         "process more address space (ulimit -v)",
                         kv->dir, doing);
    case MDB_READERS_FULL:
        return error_set(err, ERR_BUSY, "%s: cannot %s: %d readers are open already", kv->dir,
                         doing, MAX_READERS);
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE:
        return error_set(err, ERR_FORMAT, "%s: cannot %s: the index is damaged (%s)", kv->dir,
                         doing, mdb_strerror(rc));
    case MDB_VERSION_MISMATCH:
        return error_set(err, ERR_VERSION, "%s: cannot %s: written by another version of LMDB",
                         kv->dir, doing);
    case MDB_PANIC:
        return error_set(err, ERR_IO,
                         "%s: cannot %s: an earlier write failed half-way; start again", kv->dir,
                         doing);
    case EIO:
        if (disk_is_full(kv->dir))
            rc = ENOSPC;
        /* fall through */
    default:
        if (rc > 0)
            return error_errno(err, rc, "%s: cannot %s", kv->dir, doing);
        return error_set(err, ERR_IO, "%s: cannot %s: %s", kv->dir, doing, mdb_strerror(rc));
    }
}

/*
 * LMDB's processes share memory maps and locks of one file. Where the file system is another
 * machine's, they see different bytes, and the index is destroyed without a word.
 */
bool kv_file_system_is_shared(uint64_t type) {
    static const uint32_t types[] = {
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB 2 and 3 */
        0x517b,     /* SMB of old */
        0x01021997, /* 9P */
        0x5346414f, /* AFS */
        0x6b414653, /* AFS of the kernel */
        0x00c36400, /* Ceph */
        0x0bd00bd0, /* Lustre */
        0x47504653, /* GPFS */
        0x65735546, /* FUSE, virtiofs: another program's, or another machine's */
        0x786f4256, /* a folder of VirtualBox's host */
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((uint32_t)type == types[i])
            return true;
    }
    return false;
}

static int check_file_system(const char *dir, struct error *err) {
    struct statfs status;
    if (statfs(dir, &status) != 0)
        return error_errno(err, errno, "cannot look at %s", dir);
    if (!kv_file_system_is_shared((uint64_t)status.f_type))
        return 0;
    return error_set(
        err, ERR_USAGE,
        "%s lies on a network or user-space file system (type %#lx), where memory maps of several "
        "processes differ: put the store on a disk of this machine",
        dir, (unsigned long)status.f_type);
}

static int require_file(const char *dir, struct error *err) {
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (stat(path, &status) == 0)
        return 0;
    if (errno != ENOENT)
        return error_errno(err, errno, "cannot read %s", path);
    return error_set(err, ERR_FORMAT, "the store has lost its index (%s)", path);
}

/*
 * LMDB writes to its lock file through a map: without blocks under it, a full disk would be a
 * SIGBUS. Before the environment is opened, because closing a descriptor of the file drops its
 * locks.
 */
static int allocate_lock_file(const char *dir, struct error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    int errnum = posix_fallocate(fd, 0, LOCK_FILE_BYTES);
    return errnum == ENOSPC ? error_errno(err, errnum, "cannot make %s", path) : 0;
}

/* An environment that failed to open can only be closed: each try takes a new one. */
static int open_env(struct kv *kv, size_t map_bytes) {
    int rc = mdb_env_create(&kv->env);
    if (rc != 0)
        return rc;
    mdb_env_set_maxdbs(kv->env, KV_TABLES);
    mdb_env_set_maxreaders(kv->env, MAX_READERS);
    mdb_env_set_mapsize(kv->env, map_bytes);
    /* NOTLS: readers are objects, not threads; an image is used by several. */
    rc = mdb_env_open(kv->env, kv->dir, MDB_NOTLS, 0640);
    if (rc != 0) {
        mdb_env_close(kv->env);
        kv->env = NULL;
    }
    return rc;
}

int kv_open(const char *dir, bool create, struct kv **out, struct error *err) {
    int code = check_file_system(dir, err);
    if (code == 0 && !create)
        code = require_file(dir, err);
    if (code == 0)
        code = allocate_lock_file(dir, err);
    if (code != 0)
        return code;
    AUTO(kv) kv = calloc(1, sizeof *kv);
    if (kv == NULL || (kv->dir = strdup(dir)) == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pthread_mutex_init(&kv->lock, NULL);
    int rc = ENOMEM;
    for (size_t bytes = MAP_BYTES; rc == ENOMEM && bytes >= MAP_MIN_BYTES; bytes /= 2)
        rc = open_env(kv, bytes);
    if (rc != 0)
        return fail(kv, rc, "open the index", err);
    int stale = 0;
    mdb_reader_check(kv->env, &stale); /* what a killed reader held would never be reused */
    *out = take_pointer(&kv);
    return 0;
}

void kv_close(struct kv *kv) {
    if (kv == NULL)
        return;
    if (kv->env != NULL)
        mdb_env_close(kv->env);
    pthread_mutex_destroy(&kv->lock);
    free(kv->dir);
    free(kv);
}

static void count_open(struct kv *kv, int change) {
    pthread_mutex_lock(&kv->lock);
    kv->open += (unsigned)change;
    pthread_mutex_unlock(&kv->lock);
}

/* Another process with a larger map has used it: take its size, which LMDB allows when nothing is
 * open. */
static int follow_map_size(struct kv *kv) {
    pthread_mutex_lock(&kv->lock);
    int rc = kv->open == 1 ? mdb_env_set_mapsize(kv->env, 0) : EBUSY;
    pthread_mutex_unlock(&kv->lock);
    return rc;
}

static int begin(struct kv *kv, unsigned flags, struct kv_txn **out, struct error *err) {
    struct kv_txn *t = calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    t->kv = kv;
    count_open(kv, 1);
    int rc = mdb_txn_begin(kv->env, NULL, flags, &t->txn);
    if (rc == MDB_MAP_RESIZED && (rc = follow_map_size(kv)) == 0)
        rc = mdb_txn_begin(kv->env, NULL, flags, &t->txn);
    if (rc != 0) {
        count_open(kv, -1);
        free(t);
        return fail(kv, rc, "begin a transaction", err);
    }
    *out = t;
    return 0;
}

int kv_write(struct kv *kv, struct kv_txn **out, struct error *err) {
    return begin(kv, 0, out, err);
}

int kv_read(struct kv *kv, struct kv_txn **out, struct error *err) {
    return begin(kv, MDB_RDONLY, out, err);
}

static void close_puts(struct kv_txn *t) {
    for (size_t i = 0; i < KV_TABLES; i++) {
        if (t->put[i] != NULL)
            mdb_cursor_close(t->put[i]);
    }
}

int kv_commit(struct kv_txn *t, struct error *err) {
    struct kv *kv = t->kv;
    close_puts(t);
    int rc = mdb_txn_commit(t->txn);
    count_open(kv, -1);
    free(t);
    return rc == 0 ? 0 : fail(kv, rc, "write", err);
}

void kv_abort(struct kv_txn *t) {
    if (t == NULL)
        return;
    close_puts(t);
    mdb_txn_abort(t->txn);
    count_open(t->kv, -1);
    free(t);
}

int kv_open_tables(struct kv *kv, unsigned first, const char *const *names, unsigned count,
                   bool create, struct error *err) {
    AUTO(kv_txn) t = NULL;
    int code = begin(kv, create ? 0 : MDB_RDONLY, &t, err);
    if (code != 0)
        return code;
    for (unsigned i = 0; i < count && first + i < KV_TABLES; i++) {
        int rc = mdb_dbi_open(t->txn, names[i], create ? MDB_CREATE : 0, &kv->tables[first + i]);
        if (rc == MDB_NOTFOUND)
            return error_set(err, ERR_FORMAT, "%s: the index has no table \"%s\"", kv->dir,
                             names[i]);
        if (rc != 0)
            return fail(kv, rc, "open a table", err);
    }
    return kv_commit(take_pointer(&t), err);
}

static MDB_val key_of(const struct kv_key *key) {
    return (MDB_val){.mv_size = key->length, .mv_data = (void *)(uintptr_t)key->bytes};
}

int kv_get(struct kv_txn *t, unsigned table, const struct kv_key *key, struct cursor *value,
           struct error *err) {
    MDB_val k = key_of(key);
    MDB_val v;
    int rc = mdb_get(t->txn, t->kv->tables[table], &k, &v);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc != 0)
        return fail(t->kv, rc, "read", err);
    *value = cursor_of(v.mv_data, v.mv_size);
    return 0;
}

static int put(struct kv_txn *t, unsigned table, const struct kv_key *key, const void *value,
               size_t bytes, unsigned flags) {
    if (t->put[table] == NULL) {
        int rc = mdb_cursor_open(t->txn, t->kv->tables[table], &t->put[table]);
        if (rc != 0)
            return rc;
    }
    MDB_val k = key_of(key);
    MDB_val v = {.mv_size = bytes, .mv_data = (void *)(uintptr_t)value};
    return mdb_cursor_put(t->put[table], &k, &v, flags);
}

int kv_put(struct kv_txn *t, unsigned table, const struct kv_key *key, const void *value,
           size_t bytes, struct error *err) {
    int rc = put(t, table, key, value, bytes, 0);
    return rc == 0 ? 0 : fail(t->kv, rc, "write", err);
}

int kv_put_fresh(struct kv_txn *t, unsigned table, const struct kv_key *key, const void *value,
                 size_t bytes, bool *fresh, struct error *err) {
    int rc = put(t, table, key, value, bytes, MDB_NOOVERWRITE);
    *fresh = rc == 0;
    if (rc == MDB_KEYEXIST)
        rc = put(t, table, key, value, bytes, 0);
    return rc == 0 ? 0 : fail(t->kv, rc, "write", err);
}

int kv_delete(struct kv_txn *t, unsigned table, const struct kv_key *key, bool *found,
              struct error *err) {
    MDB_val k = key_of(key);
    int rc = mdb_del(t->txn, t->kv->tables[table], &k, NULL);
    *found = rc == 0;
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fail(t->kv, rc, "write", err);
}

static bool begins_with(const MDB_val *key, const struct kv_key *prefix) {
    return key->mv_size >= prefix->length &&
           memcmp(key->mv_data, prefix->bytes, prefix->length) == 0;
}

int kv_delete_prefix(struct kv_txn *t, unsigned table, const struct kv_key *prefix,
                     struct error *err) {
    MDB_cursor *cursor = NULL;
    MDB_val value = {0};
    int rc = mdb_cursor_open(t->txn, t->kv->tables[table], &cursor);
    while (rc == 0) {
        MDB_val key = key_of(prefix);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc != 0 || !begins_with(&key, prefix))
            break;
        rc = mdb_cursor_del(cursor, 0);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : fail(t->kv, rc, "write", err);
}

/* Lines of mdb_reader_list(): "pid thread txnid", and a headline; a reader that is at rest has "-".
 */
static int note_reader(const char *line, void *context) {
    struct kv_health *health = context;
    unsigned pid;
    unsigned long long txn;
    if (sscanf(line, "%u %*s %llu", &pid, &txn) != 2)
        return 0;
    health->readers++;
    if (health->oldest_pid == 0 || txn < health->oldest_commits) {
        health->oldest_pid = pid;
        health->oldest_commits = txn;
    }
    return 0;
}

/* Without what killed readers left behind. Until there is a count of commits, oldest_commits is the
 * oldest one's number. */
static int list_readers(struct kv *kv, struct kv_health *health) {
    int stale = 0;
    *health = (struct kv_health){0};
    int rc = mdb_reader_check(kv->env, &stale);
    return rc == 0 && mdb_reader_list(kv->env, note_reader, health) < 0 ? EINVAL : rc;
}

int kv_health(struct kv *kv, struct kv_health *health, struct error *err) {
    MDB_envinfo info = {0};
    MDB_stat status = {0};
    int rc = list_readers(kv, health);
    if (rc == 0)
        rc = mdb_env_info(kv->env, &info);
    if (rc == 0)
        rc = mdb_env_stat(kv->env, &status);
    if (rc != 0)
        return fail(kv, rc, "look at the readers", err);
    health->bytes = (info.me_last_pgno + 1) * (uint64_t)status.ms_psize;
    bool behind = health->oldest_pid != 0 && health->oldest_commits < info.me_last_txnid;
    health->oldest_commits = behind ? info.me_last_txnid - health->oldest_commits : 0;
    return 0;
}

uint64_t kv_moment(const struct kv_txn *t) {
    return mdb_txn_id(t->txn);
}

int kv_oldest_moment(struct kv *kv, uint64_t *moment, struct error *err) {
    struct kv_health health;
    int rc = list_readers(kv, &health);
    *moment = health.oldest_pid != 0 ? health.oldest_commits : UINT64_MAX;
    return rc == 0 ? 0 : fail(kv, rc, "look at the readers", err);
}

int kv_count(struct kv_txn *t, unsigned table, uint64_t *count, struct error *err) {
    MDB_stat status = {0};
    int rc = mdb_stat(t->txn, t->kv->tables[table], &status);
    *count = status.ms_entries;
    return rc == 0 ? 0 : fail(t->kv, rc, "read", err);
}

int kv_cursor_open(struct kv_txn *t, unsigned table, struct kv_cursor **out, struct error *err) {
    struct kv_cursor *c = calloc(1, sizeof *c);
    if (c == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    c->kv = t->kv;
    int rc = mdb_cursor_open(t->txn, t->kv->tables[table], &c->cursor);
    if (rc != 0) {
        free(c);
        return fail(t->kv, rc, "read", err);
    }
    *out = c;
    return 0;
}

void kv_cursor_close(struct kv_cursor *c) {
    if (c == NULL)
        return;
    mdb_cursor_close(c->cursor);
    free(c);
}

static int move(struct kv_cursor *c, MDB_val *key, MDB_cursor_op op, struct kv_item *item,
                struct error *err) {
    MDB_val value = {0};
    int rc = mdb_cursor_get(c->cursor, key, &value, op);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc != 0)
        return fail(c->kv, rc, "read", err);
    item->key = cursor_of(key->mv_data, key->mv_size);
    item->value = cursor_of(value.mv_data, value.mv_size);
    return 0;
}

int kv_seek_up(struct kv_cursor *c, const struct kv_key *key, struct kv_item *item,
               struct error *err) {
    MDB_val k = key_of(key);
    return move(c, &k, MDB_SET_RANGE, item, err);
}

int kv_seek_down(struct kv_cursor *c, const struct kv_key *key, struct kv_item *item,
                 struct error *err) {
    MDB_val k = key_of(key);
    int code = move(c, &k, MDB_SET_RANGE, item, err);
    if (code == ERR_NOT_FOUND)
        return move(c, &k, MDB_LAST, item, err);
    if (code != 0)
        return code;
    if (cursor_left(&item->key) == key->length &&
        memcmp(item->key.next, key->bytes, key->length) == 0)
        return 0;
    return move(c, &k, MDB_PREV, item, err);
}

int kv_next(struct kv_cursor *c, struct kv_item *item, struct error *err) {
    MDB_val k;
    return move(c, &k, MDB_NEXT, item, err);
}

int kv_previous(struct kv_cursor *c, struct kv_item *item, struct error *err) {
    MDB_val k;
    return move(c, &k, MDB_PREV, item, err);
}
