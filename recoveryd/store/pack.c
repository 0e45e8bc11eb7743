#include "recoveryd/store/pack.h"

#include "common/crc32c.h"
#include "recoveryd/store/segment_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static const char suffix[] = ".packing";

enum {
    NAME_BYTES = SEGMENT_NAME_BYTES + sizeof suffix,
    SHORTEST_DEAD = 512, /* a frame more costs 32 bytes, and a read more */
    ZSTD_LEVEL = 3,
    MOST_FRAMES = 1 << 24,
};

struct packing {
    struct segments *segments;
    uint32_t segment;
    const struct rangeset *dead;
    enum pack_level level;
    int fd;
    uint64_t at; /* where the next frame goes */
    uint32_t frames;
    struct buffer table;
    uint8_t *data;   /* PACKED_FRAME_BYTES */
    uint8_t *packed; /* the most that it can become */
    size_t packed_room;
    ZSTD_CCtx *zstd;
    struct error *err;
};

static int write_all(const struct packing *p, const uint8_t *data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t done = pwrite(p->fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return error_errno(p->err, done < 0 ? errno : ENOSPC, "cannot write %s/%08x.seg%s",
                               p->segments->dir, p->segment, suffix);
        data += done;
        offset += (uint64_t)done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* --- frames --------------------------------------------------------------------------------------
 */

static int add_frame(struct packing *p, const struct frame *f) {
    if (p->frames >= MOST_FRAMES)
        return error_set(p->err, ERR_FULL, "segment %08x has too many parts to pack", p->segment);
    frame_encode(&p->table, f);
    p->frames++;
    return p->table.failed ? error_set(p->err, ERR_NOMEM, "out of memory") : 0;
}

/* What does not become an eighth less is not worth unpacking; *kind says which it is. */
static size_t compress(struct packing *p, size_t bytes, uint8_t *kind) {
    size_t packed = 0;
    *kind = FRAME_RAW;
    if (p->level == PACK_FAST) {
        int got = LZ4_compress_default((const char *)p->data, (char *)p->packed, (int)bytes,
                                       (int)p->packed_room);
        packed = got > 0 ? (size_t)got : 0;
    } else if (p->level == PACK_SMALL) {
        size_t got =
            ZSTD_compressCCtx(p->zstd, p->packed, p->packed_room, p->data, bytes, ZSTD_LEVEL);
        packed = ZSTD_isError(got) ? 0 : got;
    }
    if (packed == 0 || packed > bytes - bytes / 8)
        return bytes;
    *kind = p->level == PACK_FAST ? FRAME_LZ4 : FRAME_ZSTD;
    return packed;
}

static int put_present(struct packing *p, uint64_t logical, uint32_t bytes) {
    struct extent extent = {p->segment, bytes, logical};
    uint8_t kind;
    int code = segments_read(p->segments, &extent, 0, p->data, bytes, p->err);
    if (code != 0)
        return code;
    size_t stored = compress(p, bytes, &kind);
    const uint8_t *data = kind == FRAME_RAW ? p->data : p->packed;
    struct frame f = {.logical = logical,
                      .at = p->at,
                      .length = bytes,
                      .stored = (uint32_t)stored,
                      .crc32c = crc32c(0, data, stored),
                      .kind = kind};
    code = write_all(p, data, stored, p->at);
    p->at += stored;
    return code == 0 ? add_frame(p, &f) : code;
}

static int put_range(struct packing *p, uint64_t start, uint64_t end, bool present) {
    uint64_t most = present ? PACKED_FRAME_BYTES : UINT32_MAX;
    int code = 0;
    while (code == 0 && start < end) {
        uint32_t bytes = (uint32_t)(end - start < most ? end - start : most);
        struct frame absent = {.logical = start, .length = bytes, .kind = FRAME_ABSENT};
        code = present ? put_present(p, start, bytes) : add_frame(p, &absent);
        start += bytes;
    }
    return code;
}

/* The file goes on from one dead range to the next. */
static int put_all(struct packing *p, uint64_t logical_bytes) {
    uint64_t at = SEGMENT_HEAD_BYTES;
    int code = 0;
    for (size_t i = 0; code == 0 && i < p->dead->count; i++) {
        struct range dead = p->dead->ranges[i];
        if (dead.start < at)
            dead.start = at;
        if (dead.end > logical_bytes)
            dead.end = logical_bytes;
        if (dead.end < dead.start + SHORTEST_DEAD)
            continue;
        code = put_range(p, at, dead.start, true);
        if (code == 0)
            code = put_range(p, dead.start, dead.end, false);
        at = dead.end;
    }
    return code == 0 ? put_range(p, at, logical_bytes, true) : code;
}

static int put_ends(struct packing *p, uint64_t logical_bytes) {
    uint8_t head[SEGMENT_HEAD_BYTES];
    struct segment_head h;
    struct extent first = {p->segment, sizeof head, 0};
    uint64_t table_at = p->at;
    int code = segments_read(p->segments, &first, 0, head, sizeof head, p->err);
    if (code == 0)
        code = segment_head_decode(cursor_of(head, sizeof head), &h, p->err);
    if (code != 0)
        return code;
    h.version = SEGMENT_VERSION_PACKED;
    segment_head_encode(&h, head);
    AUTO_BUFFER footer;
    buffer_init(&footer, PACKED_FOOTER_BYTES);
    packed_footer_encode(&footer, &p->table, p->frames, table_at, logical_bytes);
    if (footer.failed)
        return error_set(p->err, ERR_NOMEM, "out of memory");
    code = write_all(p, head, sizeof head, 0);
    if (code == 0)
        code = write_all(p, p->table.data, p->table.length, table_at);
    return code == 0 ? write_all(p, footer.data, footer.length, table_at + p->table.length) : code;
}

/* --- a segment -----------------------------------------------------------------------------------
 */

/* Nobody appends: the lock of segment_file_create() is free. Held until it is closed. */
static int lock_file(struct segments *s, uint32_t segment, const char *name, int *fd,
                     struct error *err) {
    AUTO_CLOSE int file = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return error_errno(err, errno, "cannot open the segment file %s/%s", s->dir, name);
    if (flock(file, LOCK_EX | LOCK_NB) != 0)
        return error_set(err, ERR_BUSY, "segment %08x is being appended to", segment);
    *fd = take_fd(&file);
    return 0;
}

/* What is absent already is dead, too. */
static int join_absent(struct packing *p, const struct segment_size *size, struct rangeset *all) {
    struct rangeset absent;
    uint8_t *data = p->data;
    int code = 0;
    bool whole = true;
    rangeset_init(&absent, SIZE_MAX);
    for (uint64_t at = SEGMENT_HEAD_BYTES;
         code == 0 && size->absent_bytes > 0 && at < size->logical_bytes;
         at += PACKED_FRAME_BYTES) {
        uint64_t left = size->logical_bytes - at;
        struct extent part = {
            p->segment, (uint32_t)(left < PACKED_FRAME_BYTES ? left : PACKED_FRAME_BYTES), at};
        code = segments_read_present(p->segments, &part, data, &absent, p->err);
    }
    for (size_t i = 0; whole && i < p->dead->count; i++)
        whole = rangeset_add(all, p->dead->ranges[i].start, p->dead->ranges[i].end);
    for (size_t i = 0; whole && i < absent.count; i++)
        whole = rangeset_add(all, absent.ranges[i].start, absent.ranges[i].end);
    rangeset_release(&absent);
    return code == 0 && !whole ? error_set(p->err, ERR_NOMEM, "out of memory") : code;
}

static int write_file(struct packing *p, const struct segment_size *size) {
    p->at = SEGMENT_HEAD_BYTES;
    int code = put_all(p, size->logical_bytes);
    if (code == 0)
        code = put_ends(p, size->logical_bytes);
    if (code == 0 && fdatasync(p->fd) != 0)
        code = error_errno(p->err, errno, "cannot make %s/%08x.seg%s durable", p->segments->dir,
                           p->segment, suffix);
    return code;
}

static int replace(struct packing *p, const struct segment_size *size, const char *name) {
    char new_name[NAME_BYTES];
    snprintf(new_name, sizeof new_name, "%s%s", name, suffix);
    AUTO_CLOSE int fd =
        openat(p->segments->dir_fd, new_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(p->err, errno, "cannot make %s/%s", p->segments->dir, new_name);
    p->fd = fd;
    int code = write_file(p, size);
    if (code == 0 && renameat(p->segments->dir_fd, new_name, p->segments->dir_fd, name) != 0)
        code = error_errno(p->err, errno, "cannot rename %s/%s", p->segments->dir, new_name);
    if (code != 0) {
        unlinkat(p->segments->dir_fd, new_name, 0);
        return code;
    }
    segments_reopen(p->segments, p->segment);
    return fsync(p->segments->dir_fd) == 0
               ? 0
               : error_errno(p->err, errno, "cannot make %s durable", p->segments->dir);
}

static int pack_locked(struct packing *p, const char *name, struct pack_result *result) {
    struct segment_size size;
    struct rangeset all;
    rangeset_init(&all, SIZE_MAX);
    int code = segments_size(p->segments, p->segment, &size, p->err);
    if (code == 0)
        code = join_absent(p, &size, &all);
    p->dead = &all;
    result->before_bytes = size.disk_bytes;
    if (code == 0)
        code = replace(p, &size, name);
    rangeset_release(&all);
    if (code == 0)
        code = segments_size(p->segments, p->segment, &size, p->err);
    result->after_bytes = size.disk_bytes;
    return code;
}

static int packing_begin(struct packing *p) {
    buffer_init(&p->table, (size_t)MOST_FRAMES * PACKED_ENTRY_BYTES);
    p->packed_room = ZSTD_compressBound(PACKED_FRAME_BYTES);
    if (p->packed_room < (size_t)LZ4_compressBound(PACKED_FRAME_BYTES))
        p->packed_room = (size_t)LZ4_compressBound(PACKED_FRAME_BYTES);
    p->data = malloc(PACKED_FRAME_BYTES);
    p->packed = malloc(p->packed_room);
    p->zstd = ZSTD_createCCtx();
    return p->data != NULL && p->packed != NULL && p->zstd != NULL
               ? 0
               : error_set(p->err, ERR_NOMEM, "out of memory");
}

static void packing_end(struct packing *p) {
    ZSTD_freeCCtx(p->zstd);
    free(p->packed);
    free(p->data);
    buffer_release(&p->table);
}

int segments_pack(struct segments *s, uint32_t segment, const struct rangeset *dead,
                  enum pack_level level, struct pack_result *result, struct error *err) {
    char name[SEGMENT_NAME_BYTES];
    struct packing p = {
        .segments = s, .segment = segment, .dead = dead, .level = level, .fd = -1, .err = err};
    AUTO_CLOSE int lock = -1;
    *result = (struct pack_result){0};
    segment_file_name(segment, name);
    int code = lock_file(s, segment, name, &lock, err);
    if (code != 0)
        return code;
    code = packing_begin(&p);
    if (code == 0)
        code = pack_locked(&p, name, result);
    packing_end(&p);
    return code;
}

/* --- probing -------------------------------------------------------------------------------------
 */

enum { SAMPLES = 16 };

static int probe(struct packing *p, const struct segment_size *size, bool *worth) {
    uint64_t logical = size->logical_bytes - SEGMENT_HEAD_BYTES;
    uint64_t before = 0;
    uint64_t after = 0;
    int code = 0;
    for (uint64_t i = 0; code == 0 && i < SAMPLES; i++) {
        uint64_t at = SEGMENT_HEAD_BYTES + logical / SAMPLES * i;
        uint64_t left = size->logical_bytes - at;
        struct extent part = {
            p->segment, (uint32_t)(left < PACKED_FRAME_BYTES ? left : PACKED_FRAME_BYTES), at};
        uint8_t kind;
        if (part.bytes > 0)
            code = segments_read(p->segments, &part, 0, p->data, part.bytes, p->err);
        before += part.bytes;
        after += code == 0 && part.bytes > 0 ? compress(p, part.bytes, &kind) : 0;
    }
    *worth = after < before - before / 8;
    return code;
}

static bool was_left(struct segments *s, uint32_t segment, bool leave) {
    pthread_mutex_lock(&s->lock);
    bool left = rangeset_contains(&s->left_raw, segment, (uint64_t)segment + 1);
    if (leave)
        rangeset_add(&s->left_raw, segment, (uint64_t)segment + 1);
    pthread_mutex_unlock(&s->lock);
    return left;
}

int segments_probe(struct segments *s, uint32_t segment, enum pack_level level, bool *worth,
                   struct error *err) {
    struct packing p = {.segments = s, .segment = segment, .level = level, .fd = -1, .err = err};
    struct segment_size size;
    *worth = false;
    if (was_left(s, segment, false))
        return 0;
    int code = segments_size(s, segment, &size, err);
    if (code != 0 || size.packed || size.logical_bytes <= SEGMENT_HEAD_BYTES)
        return code;
    code = packing_begin(&p);
    if (code == 0)
        code = probe(&p, &size, worth);
    packing_end(&p);
    if (code == 0 && !*worth)
        was_left(s, segment, true);
    return code;
}

void segments_clean(struct segments *s) {
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        const char *end = strstr(e->d_name, suffix);
        if (end != NULL && end[sizeof suffix - 1] == '\0')
            unlinkat(s->dir_fd, e->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}
