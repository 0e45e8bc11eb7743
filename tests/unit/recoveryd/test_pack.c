/* Packed segments read as they did, but for what was dead; and never as something else. */
#include "recoveryd/store/pack.h"
#include "recoveryd/store/segment_file.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { PARTS = 600, PART_MOST = 9000, BYTES = PARTS * PART_MOST };

struct box {
    char dir[64];
    struct segments *segments;
    struct segment_writer *writer;
    unsigned seed;
    uint8_t *bytes; /* of the whole segment, by its offsets */
    uint64_t end;
    struct extent parts[PARTS];
    bool dead[PARTS];
    struct error err;
};

#define box_ok(b, call)                                                                            \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        cr_assert_eq(code_, 0, "%s: %d %s", #call, code_, (b)->err.text);                          \
    } while (0)

static uint32_t pick(struct box *b, uint32_t below) {
    return (uint32_t)rand_r(&b->seed) % below;
}

/* Half of it can be compressed. */
static void fill(struct box *b, uint8_t *to, uint32_t bytes) {
    bool plain = pick(b, 2) == 0;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(plain ? i / 100 : pick(b, 256));
}

static void box_begin(struct box *b) {
    *b = (struct box){.seed = test_seed()};
    snprintf(b->dir, sizeof b->dir, "%s/sanrewind-pack-XXXXXX", rig_place());
    cr_assert_not_null(mkdtemp(b->dir));
    box_ok(b, segments_open(b->dir, true, 77, &b->segments, &b->err));
    b->writer = segments_writer_create(b->segments);
    b->bytes = calloc(1, SEGMENT_HEAD_BYTES + BYTES + 8 * PARTS);
    uint8_t *part = malloc(PART_MOST);
    for (size_t i = 0; i < PARTS; i++) {
        uint32_t bytes = 1 + pick(b, PART_MOST);
        fill(b, part, bytes);
        box_ok(b, segments_append(b->writer, part, bytes, &b->parts[i], &b->err));
        memcpy(b->bytes + b->parts[i].offset, part, bytes);
        b->end = (b->parts[i].offset + bytes + 7) / 8 * 8;
    }
    free(part);
    box_ok(b, segments_sync(b->writer, &b->err));
}

static void seal(struct box *b) {
    segments_writer_destroy(take_pointer(&b->writer));
}

static void box_end(struct box *b) {
    segments_writer_destroy(b->writer);
    segments_close(b->segments);
    free(b->bytes);
    nftw(b->dir, rig_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void reopen(struct box *b) {
    segments_close(take_pointer(&b->segments));
    box_ok(b, segments_open(b->dir, false, 77, &b->segments, &b->err));
}

/* Some more of the parts are dead now. */
static void kill_some(struct box *b, struct rangeset *dead, uint32_t one_of) {
    for (size_t i = 0; i < PARTS; i++) {
        b->dead[i] = b->dead[i] || pick(b, one_of) == 0;
        if (b->dead[i])
            cr_assert(
                rangeset_add(dead, b->parts[i].offset, b->parts[i].offset + b->parts[i].bytes));
    }
}

static void pack(struct box *b, uint32_t one_of, enum pack_level level,
                 struct pack_result *result) {
    struct rangeset dead;
    rangeset_init(&dead, SIZE_MAX);
    kill_some(b, &dead, one_of);
    box_ok(b, segments_pack(b->segments, b->parts[0].segment, &dead, level, result, &b->err));
    rangeset_release(&dead);
}

static void check_part(struct box *b, size_t i, uint8_t *room) {
    uint32_t skip = pick(b, b->parts[i].bytes);
    uint32_t bytes = b->parts[i].bytes - skip;
    int code = segments_read(b->segments, &b->parts[i], skip, room, bytes, &b->err);
    if (b->dead[i] && b->parts[i].bytes >= 512) {
        cr_assert_eq(code, ERR_FORMAT, "part %zu can be read", i);
        return;
    }
    cr_assert(code == 0 || b->dead[i], "part %zu: %s", i, b->err.text);
    cr_assert(code != 0 || memcmp(room, b->bytes + b->parts[i].offset + skip, bytes) == 0);
}

/* Any place of it, with what is absent told. */
static void check_place(struct box *b, uint8_t *room) {
    struct rangeset absent;
    uint64_t offset = pick(b, (uint32_t)b->end - 1);
    uint64_t left = b->end - offset;
    struct extent e = {b->parts[0].segment, (uint32_t)(1 + pick(b, 300000)), offset};
    if (e.bytes > left)
        e.bytes = (uint32_t)left;
    rangeset_init(&absent, SIZE_MAX);
    box_ok(b, segments_read_present(b->segments, &e, room, &absent, &b->err));
    for (uint64_t at = offset < SEGMENT_HEAD_BYTES ? SEGMENT_HEAD_BYTES : offset;
         at < offset + e.bytes; at++) {
        uint8_t expected = rangeset_contains(&absent, at, at + 1) ? 0 : b->bytes[at];
        cr_assert_eq(room[at - offset], expected, "at %lu", (unsigned long)at);
    }
    rangeset_release(&absent);
}

static void check(struct box *b) {
    AUTO_FREE uint8_t *room = malloc(300001);
    struct segment_size size;
    for (size_t i = 0; i < PARTS; i++)
        check_part(b, i, room);
    for (size_t i = 0; i < 100; i++)
        check_place(b, room);
    box_ok(b, segments_size(b->segments, b->parts[0].segment, &size, &b->err));
    cr_assert_eq(size.logical_bytes, b->end);
    struct extent beyond = {b->parts[0].segment, 1, b->end};
    cr_assert_eq(segments_read(b->segments, &beyond, 0, room, 1, &b->err), ERR_FORMAT);
}

static void check_level(enum pack_level level) {
    struct box b;
    struct pack_result first;
    struct pack_result second;
    box_begin(&b);
    seal(&b);
    check(&b);
    pack(&b, 5, level, &first);
    check(&b);
    reopen(&b);
    check(&b);
    pack(&b, 2, level, &second);
    check(&b);
    cr_assert_lt(first.after_bytes, first.before_bytes);
    cr_assert_lt(second.after_bytes, second.before_bytes);
    box_end(&b);
}

Test(pack, what_is_dead_goes_and_the_rest_stays) {
    check_level(PACK_OFF);
}

Test(pack, packed_fast) {
    check_level(PACK_FAST);
}

Test(pack, packed_small) {
    check_level(PACK_SMALL);
}

Test(pack, nothing_and_everything_may_be_dead) {
    struct box b;
    struct pack_result result;
    box_begin(&b);
    seal(&b);
    pack(&b, UINT32_MAX, PACK_FAST, &result);
    check(&b);
    pack(&b, 1, PACK_OFF, &result);
    check(&b);
    cr_assert_lt(result.after_bytes, UINT64_C(300) << 10);
    box_end(&b);
}

Test(pack, one_that_is_appended_to_is_left_alone) {
    struct box b;
    struct pack_result result;
    struct rangeset none;
    rangeset_init(&none, 1);
    box_begin(&b);
    cr_assert_eq(segments_pack(b.segments, b.parts[0].segment, &none, PACK_FAST, &result, &b.err),
                 ERR_BUSY);
    seal(&b);
    box_ok(&b, segments_pack(b.segments, b.parts[0].segment, &none, PACK_FAST, &result, &b.err));
    check(&b);
    box_end(&b);
}

/* Whatever byte changes or is missing: an error, or what was there, or (of a raw frame, whose
 * payloads have checksums) other bytes at that very place. */
Test(pack, damage_is_found) {
    struct box b;
    struct pack_result result;
    char name[96];
    AUTO_FREE uint8_t *room = malloc(300001);
    box_begin(&b);
    seal(&b);
    pack(&b, 3, PACK_FAST, &result);
    snprintf(name, sizeof name, "%s/%08x.seg", b.dir, b.parts[0].segment);
    AUTO_CLOSE int fd = open(name, O_RDWR);
    struct stat status;
    cr_assert(fd >= 0 && fstat(fd, &status) == 0);
    for (int round = 0; round < 200; round++) {
        uint64_t from_end = round < 150 ? (uint64_t)status.st_size - 4096 - pick(&b, 30000) : 0;
        uint64_t at = (uint64_t)status.st_size - 1 - from_end - (round < 150 ? 0 : pick(&b, 20000));
        uint8_t byte;
        size_t wrong = 0;
        cr_assert_eq(pread(fd, &byte, 1, (off_t)at), 1);
        uint8_t other = (uint8_t)(byte ^ (1 + pick(&b, 255)));
        cr_assert_eq(pwrite(fd, &other, 1, (off_t)at), 1);
        reopen(&b);
        for (size_t i = 0; i < PARTS; i++) {
            if (b.dead[i])
                continue;
            int code = segments_read(b.segments, &b.parts[i], 0, room, b.parts[i].bytes, &b.err);
            cr_assert(code == 0 || code == ERR_FORMAT || code == ERR_VERSION);
            for (uint32_t k = 0; code == 0 && k < b.parts[i].bytes; k++)
                wrong += room[k] != b.bytes[b.parts[i].offset + k];
        }
        cr_assert_leq(wrong, 1, "byte %lu", (unsigned long)at);
        cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    for (int round = 0; round < 20; round++) {
        cr_assert_eq(ftruncate(fd, status.st_size - 1 - pick(&b, 40000)), 0);
        reopen(&b);
        cr_assert_eq(segments_read(b.segments, &b.parts[0], 0, room, 1, &b.err), ERR_FORMAT);
    }
    box_end(&b);
}

/* Killed at any moment: the file is the old one or the new one. */
Test(pack, a_kill_at_any_moment_leaves_a_whole_file) {
    struct box b;
    struct pack_result result;
    box_begin(&b);
    seal(&b);
    pack(&b, 3, PACK_FAST, &result);
    for (int round = 0; round < 10; round++) {
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            struct segments *s;
            struct rangeset none;
            rangeset_init(&none, 0);
            if (segments_open(b.dir, false, 77, &s, NULL) != 0)
                _exit(1);
            for (int i = 0;; i++)
                segments_pack(s, b.parts[0].segment, &none, i % 2 ? PACK_OFF : PACK_SMALL, &result,
                              NULL);
        }
        usleep(1000 + pick(&b, 40000)); /* any moment will do */
        cr_assert_eq(kill(pid, SIGKILL), 0);
        cr_assert_eq(waitpid(pid, NULL, 0), pid);
        reopen(&b);
        segments_clean(b.segments);
        check(&b);
    }
    box_end(&b);
}

Test(pack, what_a_crash_left_is_removed) {
    struct box b;
    char litter[96];
    box_begin(&b);
    seal(&b);
    snprintf(litter, sizeof litter, "%s/00000009.seg.packing", b.dir);
    AUTO_CLOSE int fd = open(litter, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    segments_clean(b.segments);
    cr_assert_neq(access(litter, F_OK), 0);
    check(&b);
    box_end(&b);
}

/* --- files that are open -------------------------------------------------------------------------
 */

static void flip(struct box *b, int fd, uint64_t at) {
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1 + pick(b, 255));
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* The table of frames is read again with each look-up: it may change after it was found sound. */
Test(pack, a_table_that_is_damaged_later_is_found) {
    enum { FOOTER = 48, TABLE_AT = 16 };
    for (uint32_t round = 0; round < 64; round++) {
        struct box b;
        struct pack_result result;
        struct stat status;
        char name[96];
        uint8_t table_at[8];
        AUTO_FREE uint8_t *room = malloc(PART_MOST);
        box_begin(&b);
        b.seed += round;
        seal(&b);
        pack(&b, UINT32_MAX, PACK_FAST, &result);
        box_ok(&b, segments_read(b.segments, &b.parts[0], 0, room, 1, &b.err));
        snprintf(name, sizeof name, "%s/%08x.seg", b.dir, b.parts[0].segment);
        AUTO_CLOSE int fd = open(name, O_RDWR);
        cr_assert(fd >= 0 && fstat(fd, &status) == 0);
        cr_assert_eq(pread(fd, table_at, 8, status.st_size - FOOTER + TABLE_AT), 8);
        struct cursor c = cursor_of(table_at, 8);
        uint64_t start = cursor_le64(&c);
        flip(&b, fd, start + pick(&b, (uint32_t)((uint64_t)status.st_size - FOOTER - start)));
        for (size_t i = 0; i < PARTS; i++)
            cr_assert_eq(segments_read(b.segments, &b.parts[i], 0, room, b.parts[i].bytes, &b.err),
                         ERR_FORMAT);
        box_end(&b);
    }
}

struct readers {
    struct box *box;
    atomic_bool end;
};

static void *read_on(void *context) {
    struct readers *r = context;
    AUTO_FREE uint8_t *room = malloc(PART_MOST);
    for (size_t i = 0; !atomic_load(&r->end); i = (i + 1) % PARTS)
        segments_read(r->box->segments, &r->box->parts[i], 0, room, r->box->parts[i].bytes, NULL);
    return NULL;
}

/* Descriptors of this process that lead to segments which have lost their names. */
static size_t held_files(void) {
    size_t held = 0;
    for (int fd = 0; fd < 256; fd++) {
        char link[64];
        char target[512];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, target, sizeof target - 1);
        target[bytes > 0 ? bytes : 0] = '\0';
        held += strstr(target, ".seg (deleted)") != NULL;
    }
    return held;
}

Test(pack, the_old_file_goes_with_its_last_reader) {
    struct box b;
    struct pack_result result;
    struct rangeset none;
    struct readers readers = {.box = &b};
    pthread_t threads[3];
    rangeset_init(&none, 0);
    box_begin(&b);
    seal(&b);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, read_on, &readers), 0);
    for (int i = 0; i < 40; i++)
        box_ok(&b,
               segments_pack(b.segments, b.parts[0].segment, &none, PACK_FAST, &result, &b.err));
    atomic_store(&readers.end, true);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(held_files(), 0);
    check(&b);
    box_end(&b);
}
