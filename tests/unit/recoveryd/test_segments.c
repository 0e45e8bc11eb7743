#include "recoveryd/store/segment_file.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

Test(segments, what_is_appended_reads_back) {
    struct rig rig;
    rig_start(&rig);
    struct extent a;
    struct extent b;
    char back[16] = {0};
    rig_ok(&rig, segments_append(rig.segment, "hello", 5, &a, &rig.err));
    rig_ok(&rig, segments_append(rig.segment, "again!", 6, &b, &rig.err));
    cr_assert_eq(a.segment, 1);
    cr_assert_eq(a.offset, SEGMENT_HEAD_BYTES);
    cr_assert_eq(b.offset % SEGMENT_ALIGN, 0);
    rig_ok(&rig, segments_sync(rig.segment, &rig.err));
    rig_ok(&rig, segments_sync(rig.segment, &rig.err));
    rig_ok(&rig, segments_read(rig.store->segments, &b, 2, back, 4, &rig.err));
    cr_assert_str_eq(back, "ain!");
    cr_assert_geq(segments_total_bytes(rig.store->segments), SEGMENT_HEAD_BYTES + 11);
    rig_end(&rig);
}

Test(segments, reads_outside_of_an_extent_are_refused) {
    struct rig rig;
    rig_start(&rig);
    struct extent where;
    char back[64];
    rig_ok(&rig, segments_append(rig.segment, "12345678", 8, &where, &rig.err));
    struct segments *s = rig.store->segments;
    cr_assert_eq(segments_read(s, &where, 0, back, 9, &rig.err), ERR_FORMAT);
    cr_assert_eq(segments_read(s, &where, 9, back, 0, &rig.err), ERR_FORMAT);
    cr_assert_eq(segments_read(s, &where, 7, back, UINT32_MAX, &rig.err), ERR_FORMAT);
    struct extent beyond = {1, 32, where.offset};
    cr_assert_eq(segments_read(s, &beyond, 0, back, 32, &rig.err), ERR_FORMAT, "past the end");
    beyond.offset = UINT64_MAX - 4;
    cr_assert_eq(segments_read(s, &beyond, 0, back, 1, &rig.err), ERR_FORMAT);
    struct extent nowhere = {0};
    cr_assert_eq(segments_read(s, &nowhere, 0, back, 0, &rig.err), ERR_FORMAT);
    struct extent lost = {77, 8, 4096};
    cr_assert_eq(segments_read(s, &lost, 0, back, 8, &rig.err), ERR_FORMAT);
    rig_end(&rig);
}

Test(segments, a_full_file_is_followed_by_the_next) {
    struct rig rig;
    rig_start(&rig);
    segments_set_limit(rig.store->segments, SEGMENT_HEAD_BYTES + 100);
    struct extent where[5];
    char data[40];
    for (int i = 0; i < 5; i++) {
        memset(data, 'a' + i, sizeof data);
        rig_ok(&rig, segments_append(rig.segment, data, sizeof data, &where[i], &rig.err));
    }
    cr_assert_eq(where[1].segment, 1);
    cr_assert_eq(where[2].segment, 2);
    cr_assert_eq(where[4].segment, 3);
    rig_ok(&rig, segments_sync(rig.segment, &rig.err));
    for (int i = 0; i < 5; i++) {
        rig_ok(&rig, segments_read(rig.store->segments, &where[i], 0, data, 40, &rig.err));
        cr_assert_eq(data[39], 'a' + i);
    }
    rig_end(&rig);
}

Test(segments, writers_and_restarts_never_share_a_file) {
    struct rig rig;
    rig_start(&rig);
    struct segment_writer *other = segments_writer_create(rig.store->segments);
    struct extent a;
    struct extent b;
    struct extent c;
    rig_ok(&rig, segments_append(rig.segment, "a", 1, &a, &rig.err));
    rig_ok(&rig, segments_append(other, "b", 1, &b, &rig.err));
    segments_writer_destroy(other);
    rig_close(&rig);
    rig_open(&rig);
    rig_ok(&rig, segments_append(rig.segment, "c", 1, &c, &rig.err));
    cr_assert_neq(a.segment, b.segment);
    cr_assert_eq(c.segment, 3);
    rig_end(&rig);
}

Test(segments, more_files_than_descriptors_are_kept) {
    struct rig rig;
    rig_start(&rig);
    enum { FILES = SEGMENT_OPEN_FILES + 20 };
    segments_set_limit(rig.store->segments, 1);
    struct extent where[FILES];
    for (uint32_t i = 0; i < FILES; i++)
        rig_ok(&rig, segments_append(rig.segment, &i, sizeof i, &where[i], &rig.err));
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < FILES; i++) {
            uint32_t back = UINT32_MAX;
            rig_ok(&rig, segments_read(rig.store->segments, &where[i], 0, &back, 4, &rig.err));
            cr_assert_eq(back, i);
        }
    }
    rig_end(&rig);
}

static void write_at(const struct rig *rig, const char *name, off_t offset, const void *data,
                     size_t bytes) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, data, bytes, offset), (ssize_t)bytes);
}

static void flip_at(struct rig *rig, const char *name, off_t offset) {
    char path[160];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    AUTO_CLOSE int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, offset), 1);
    byte = (uint8_t)~byte;
    cr_assert_eq(pwrite(fd, &byte, 1, offset), 1);
}

Test(segments, a_file_of_another_store_or_name_is_refused) {
    struct rig rig;
    rig_start(&rig);
    struct extent where;
    char back[8];
    rig_ok(&rig, segments_append(rig.segment, "12345678", 8, &where, &rig.err));
    struct segments *stranger;
    char dir[120];
    snprintf(dir, sizeof dir, "%s/segments", rig.dir);
    rig_ok(&rig, segments_open(dir, false, 4711, &stranger, &rig.err));
    cr_assert_eq(segments_read(stranger, &where, 0, back, 8, &rig.err), ERR_FORMAT);
    segments_close(stranger);
    write_at(&rig, "segments/00000001.seg", 8, "\x03", 1);
    cr_assert_eq(segments_read(rig.store->segments, &where, 0, back, 8, &rig.err), ERR_VERSION);
    write_at(&rig, "segments/00000001.seg", 8, "\x01", 1);
    flip_at(&rig, "segments/00000001.seg", 16); /* of the store's id, which is random */
    cr_assert_eq(segments_read(rig.store->segments, &where, 0, back, 8, &rig.err), ERR_FORMAT);
    write_at(&rig, "segments/00000001.seg", 0, "X", 1);
    cr_assert_eq(segments_read(rig.store->segments, &where, 0, back, 8, &rig.err), ERR_FORMAT);
    rig_end(&rig);
}

Test(segments, a_head_cut_short_anywhere_is_refused) {
    uint8_t bytes[SEGMENT_HEAD_BYTES];
    struct segment_head head = {0, 5, 6, 7};
    struct segment_head back;
    struct error err;
    segment_head_encode(&head, bytes);
    cr_assert_eq(segment_head_decode(cursor_of(bytes, sizeof bytes), &back, &err), 0);
    cr_assert_eq(back.segment, 5);
    cr_assert_eq(back.store_id, 6);
    cr_assert_eq(back.made_ns, 7);
    for (size_t length = 0; length < 36; length++)
        cr_assert_eq(segment_head_decode(cursor_of(bytes, length), &back, &err), ERR_FORMAT);
}

Test(segments, names_are_exact) {
    cr_assert_eq(segment_file_number("0000002a.seg"), 42);
    cr_assert_eq(segment_file_number("0000002A.seg"), 0);
    cr_assert_eq(segment_file_number("2a.seg"), 0);
    cr_assert_eq(segment_file_number("0000002a.seg~"), 0);
    cr_assert_eq(segment_file_number("00000000.seg"), 0);
}

/* A size limit of the process stands for a full disk: the write fails half-way. */
Test(segments, a_failed_append_leaves_nothing_and_may_be_tried_again) {
    struct rig rig;
    rig_start(&rig);
    struct extent where;
    enum { PART = 6000 };
    char data[PART];
    char back[PART];
    memset(data, 'x', sizeof data);
    rig_ok(&rig, segments_append(rig.segment, data, PART, &where, &rig.err));
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    struct rlimit small = {.rlim_cur = 12288, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    struct extent failed = {0};
    memset(data, 'y', sizeof data);
    int code = segments_append(rig.segment, data, PART, &failed, &rig.err);
    setrlimit(RLIMIT_FSIZE, &old);
    cr_assert_lt(code, 0);
    cr_assert_eq(failed.segment, 0);
    struct extent again;
    rig_ok(&rig, segments_append(rig.segment, data, PART, &again, &rig.err));
    cr_assert_eq(again.offset, (where.offset + PART + 7) / 8 * 8, "the place is used again");
    rig_ok(&rig, segments_read(rig.store->segments, &again, 0, back, PART, &rig.err));
    cr_assert_eq(memcmp(back, data, PART), 0);
    rig_end(&rig);
}

struct append_job {
    struct segments *segments;
    unsigned number;
    bool ok;
};

enum { THREADS = 4, APPENDS = 400 };

static void *append_and_check(void *context) {
    struct append_job *job = context;
    struct segment_writer *w = segments_writer_create(job->segments);
    struct extent where[APPENDS];
    uint64_t data[100];
    struct error err;
    job->ok = true;
    for (unsigned i = 0; i < APPENDS && job->ok; i++) {
        for (size_t k = 0; k < 100; k++)
            data[k] = (uint64_t)job->number << 32 | i;
        job->ok = segments_append(w, data, sizeof data, &where[i], &err) == 0;
    }
    job->ok = job->ok && segments_sync(w, &err) == 0;
    for (unsigned i = 0; i < APPENDS && job->ok; i++)
        job->ok = segments_read(job->segments, &where[i], 0, data, sizeof data, &err) == 0 &&
                  data[99] == ((uint64_t)job->number << 32 | i);
    segments_writer_destroy(w);
    return NULL;
}

Test(segments, many_threads_at_once) {
    struct rig rig;
    rig_start(&rig);
    segments_set_limit(rig.store->segments, 40000);
    pthread_t threads[THREADS];
    struct append_job jobs[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i] = (struct append_job){rig.store->segments, i, false};
        pthread_create(&threads[i], NULL, append_and_check, &jobs[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(jobs[i].ok);
    }
    rig_end(&rig);
}
