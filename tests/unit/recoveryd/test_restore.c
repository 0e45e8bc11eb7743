#include "common/digest.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/restore.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { CHUNKS = 21, TAIL = 3 * 512 };
#define IMAGE_BYTES ((uint64_t)CHUNKS * INDEX_CHUNK_BYTES + TAIL)

/* Writes `data` to BASE/name. */
static void write_file(const struct rig *rig, const char *name, const uint8_t *data, size_t bytes) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", rig->base, name);
    AUTO_FCLOSE FILE *file = fopen(path, "w");
    cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
}

static char *in_base(const struct rig *rig, const char *name, char path[160]) {
    snprintf(path, 160, "%s/%s", rig->base, name);
    return path;
}

static size_t files_in_base(const struct rig *rig) {
    size_t count = 0;
    DIR *dir = opendir(rig->base);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* An image with data, zeros inside chunks, zero chunks, and a last chunk that is cut short. */
static uint8_t *make_content(void) {
    uint8_t *content = calloc(1, IMAGE_BYTES);
    for (uint64_t i = 0; i < IMAGE_BYTES; i += 4096) {
        if (i / INDEX_CHUNK_BYTES % 3 == 1 || i / 4096 % 5 == 2)
            continue;
        for (uint64_t k = i; k < i + 4096 && k < IMAGE_BYTES; k += 8)
            content[k] = (uint8_t)(k * 31 >> 9) | 1;
    }
    return content;
}

struct restored {
    struct rig rig;
    struct volume_list list;
    const struct volume *volume;
    uint8_t *content;
    char hash[SHA256_HEX_BYTES];
};

static void hash_of(const uint8_t *data, uint64_t bytes, char hex[SHA256_HEX_BYTES]) {
    AUTO(sha256) sum = sha256_create();
    sha256_update(sum, data, bytes);
    sha256_finish_hex(sum, hex);
}

static void read_volume(struct restored *t) {
    volume_list_release(&t->list);
    AUTO(index_reader) r = rig_reader(&t->rig);
    rig_ok(&t->rig, volume_list_read(r, &t->list, &t->rig.err));
    rig_ok(&t->rig, volume_find(&t->list, "iqn.a", &t->volume, &t->rig.err));
}

/* A volume with a baseline from a file and one update on top. */
static void start(struct restored *t) {
    char path[160];
    memset(t, 0, sizeof *t);
    rig_start(&t->rig);
    t->content = make_content();
    write_file(&t->rig, "base.img", t->content, IMAGE_BYTES);
    uint64_t id = rig_path(&t->rig, 1, 1, "iqn.a", "", IMAGE_BYTES, 100);
    rig_stream(&t->rig, 1, 1, 100, 1000, false);
    memset(t->content + 5000 * 512, 0xab, 4096);
    rig_put(&t->rig, id, &(struct stamp){200, 1, 1, 5}, 5000 * 512, 4096, t->content + 5000 * 512,
            4096);
    rig_commit(&t->rig);
    read_volume(t);
    struct baseline_options options = {.file = in_base(&t->rig, "base.img", path)};
    struct baseline_result result;
    rig_ok(&t->rig, baseline_from_file(t->rig.store, t->volume, &options, &result, &t->rig.err));
    cr_assert_eq(result.size_bytes, IMAGE_BYTES);
    cr_assert_lt(result.stored_bytes, IMAGE_BYTES, "zero chunks take no room");
    read_volume(t);
    hash_of(t->content, IMAGE_BYTES, t->hash);
}

static void end(struct restored *t) {
    volume_list_release(&t->list);
    free(t->content);
    rig_end(&t->rig);
}

static void check_file(const struct restored *t, const char *path) {
    AUTO_FCLOSE FILE *file = fopen(path, "r");
    AUTO_FREE uint8_t *back = malloc(IMAGE_BYTES + 1);
    cr_assert_not_null(file);
    cr_assert_eq(fread(back, 1, IMAGE_BYTES + 1, file), IMAGE_BYTES);
    cr_assert_eq(memcmp(back, t->content, IMAGE_BYTES), 0);
}

struct progress_seen {
    uint64_t done;
    uint64_t total;
    unsigned calls;
};

static void see_progress(void *context, uint64_t done, uint64_t total) {
    struct progress_seen *seen = context;
    cr_assert_gt(done, seen->done);
    *seen = (struct progress_seen){done, total, seen->calls + 1};
}

Test(restore, a_file_gets_the_image_its_hash_and_holes) {
    static struct restored t;
    char path[160];
    start(&t);
    for (unsigned workers = 0; workers <= 8; workers += 4) {
        struct progress_seen seen = {0};
        struct restore_options options = {
            .workers = workers, .progress = see_progress, .progress_context = &seen};
        struct restore_result result;
        AUTO(image) im = NULL;
        rig_ok(&t.rig, image_open(t.rig.store, t.volume, 1000, &im, &t.rig.err));
        in_base(&t.rig, "out.img", path);
        rig_ok(&t.rig, restore_to_file(im, path, &options, &result, &t.rig.err));
        check_file(&t, path);
        cr_assert_str_eq(result.sha256, t.hash);
        cr_assert_eq(result.bytes, IMAGE_BYTES);
        cr_assert_eq(seen.done, IMAGE_BYTES);
        cr_assert_eq(seen.total, IMAGE_BYTES);
        cr_assert_eq(seen.calls, CHUNKS + 1);
        struct stat status;
        stat(path, &status);
        cr_assert_leq((uint64_t)status.st_blocks * 512, result.written_bytes + 65536);
        cr_assert_lt(result.written_bytes, IMAGE_BYTES * 3 / 4);
        cr_assert_eq(files_in_base(&t.rig), 3, "the store, the baseline and the image");
    }
    end(&t);
}

Test(restore, times_outside_of_the_window_are_refused_with_the_nearest) {
    static struct restored t;
    start(&t);
    AUTO(image) im = NULL;
    cr_assert_eq(image_open(t.rig.store, t.volume, 1001, &im, &t.rig.err), ERR_INEXACT);
    cr_assert_not_null(strstr(t.rig.err.text, "1970-01-01T00:00:00.000001000Z"), "%s",
                       t.rig.err.text);
    cr_assert_eq(image_open(t.rig.store, t.volume, 99, &im, &t.rig.err), ERR_INEXACT);
    cr_assert_not_null(strstr(t.rig.err.text, "1970-01-01T00:00:00.000000100Z"), "%s",
                       t.rig.err.text);
    struct volume unsized = *t.volume;
    unsized.size_bytes = 0;
    cr_assert_eq(image_open(t.rig.store, &unsized, 500, &im, &t.rig.err), ERR_INEXACT);
    cr_assert_not_null(strstr(t.rig.err.text, "--size"), "%s", t.rig.err.text);
    end(&t);
}

Test(restore, an_inexact_image_is_written_only_when_that_is_wanted) {
    static struct restored t;
    char path[160];
    start(&t);
    rig_gap(&t.rig, t.volume->paths[0].path, &(struct stamp){300, 1, 1, 7}, 0, 512, GAP_ABORTED);
    rig_commit(&t.rig);
    AUTO(image) im = NULL;
    struct restore_options options = {0};
    struct restore_result result;
    rig_ok(&t.rig, image_open(t.rig.store, t.volume, 1000, &im, &t.rig.err));
    in_base(&t.rig, "out.img", path);
    cr_assert_eq(restore_to_file(im, path, &options, &result, &t.rig.err), ERR_INEXACT);
    cr_assert_eq(files_in_base(&t.rig), 2);
    options.allow_gaps = true;
    rig_ok(&t.rig, restore_to_file(im, path, &options, &result, &t.rig.err));
    cr_assert_str_eq(result.sha256, t.hash, "the best guess is what was there");
    image_close(take_pointer(&im));
    rig_ok(&t.rig, image_open(t.rig.store, t.volume, 299, &im, &t.rig.err));
    options.allow_gaps = false;
    rig_ok(&t.rig, restore_to_file(im, path, &options, &result, &t.rig.err));
    image_close(take_pointer(&im));
    end(&t);
}

/* A size limit of the process stands for a full disk. */
Test(restore, a_destination_that_is_full_keeps_its_old_file) {
    static struct restored t;
    char path[160];
    start(&t);
    write_file(&t.rig, "out.img", (const uint8_t *)"old", 3);
    AUTO(image) im = NULL;
    struct restore_options options = {0};
    struct restore_result result;
    rig_ok(&t.rig, image_open(t.rig.store, t.volume, 1000, &im, &t.rig.err));
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    struct rlimit small = {.rlim_cur = IMAGE_BYTES / 2, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int code = restore_to_file(im, in_base(&t.rig, "out.img", path), &options, &result, &t.rig.err);
    setrlimit(RLIMIT_FSIZE, &old);
    cr_assert_lt(code, 0);
    struct stat status;
    stat(path, &status);
    cr_assert_eq(status.st_size, 3);
    cr_assert_eq(files_in_base(&t.rig), 3, "no partial file is left");
    cr_assert_eq(restore_to_file(im, t.rig.base, &options, &result, &t.rig.err), ERR_USAGE);
    cr_assert_eq(restore_to_file(im, "/dev/null", &options, &result, &t.rig.err), ERR_USAGE);
    image_close(take_pointer(&im));
    end(&t);
}

struct failing {
    uint64_t fail_at;
    size_t wrong_bytes;
};

static int read_failing(void *context, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                        struct error *err) {
    const struct failing *f = context;
    memset(to, 1, INDEX_CHUNK_BYTES);
    *bytes = chunk == f->fail_at && f->wrong_bytes > 0 ? f->wrong_bytes : INDEX_CHUNK_BYTES;
    *all_zero = false;
    if (chunk == f->fail_at && f->wrong_bytes == 0)
        return error_set(err, ERR_NET, "gone");
    return 0;
}

Test(restore, an_error_of_the_source_ends_it_and_leaves_nothing) {
    struct rig rig;
    char path[160];
    rig_make_dir(&rig);
    for (uint64_t at = 0; at < 30; at++) {
        struct failing f = {.fail_at = at, .wrong_bytes = at % 2 ? 512 : 0};
        struct restore_source source = {&f, 30 * INDEX_CHUNK_BYTES, read_failing};
        struct restore_options options = {.workers = (unsigned)(at % 4)};
        struct restore_result result;
        int code = restore_from(&source, in_base(&rig, "out", path), &options, &result, &rig.err);
        cr_assert_eq(code, at % 2 ? ERR_FORMAT : ERR_NET);
        cr_assert_eq(files_in_base(&rig), 0);
    }
    rig_remove_dir(&rig);
}

Test(restore, damaged_payload_is_named_and_nothing_is_written) {
    static struct restored t;
    char path[160];
    start(&t);
    AUTO(image) im = NULL;
    AUTO_FREE struct image_run *runs = NULL;
    size_t count;
    rig_ok(&t.rig, image_open(t.rig.store, t.volume, 1000, &im, &t.rig.err));
    rig_ok(&t.rig, image_chunk_map(im, 2, &runs, &count, &t.rig.err));
    snprintf(path, sizeof path, "%s/segments/%08x.seg", t.rig.dir, runs[0].extent.segment);
    int fd = open(path, O_RDWR);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, (off_t)runs[0].extent.offset + 7), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)runs[0].extent.offset + 7), 1);
    close(fd);
    struct restore_options options = {0};
    struct restore_result result;
    in_base(&t.rig, "out.img", path);
    cr_assert_eq(restore_to_file(im, path, &options, &result, &t.rig.err), ERR_FORMAT);
    cr_assert_not_null(strstr(t.rig.err.text, "checksum"), "%s", t.rig.err.text);
    cr_assert_eq(files_in_base(&t.rig), 2);
    image_close(take_pointer(&im));
    end(&t);
}

Test(baseline, sizes_must_agree) {
    static struct restored t;
    char path[160];
    start(&t);
    write_file(&t.rig, "short.img", t.content, 4096);
    struct baseline_options options = {.file = in_base(&t.rig, "short.img", path)};
    struct baseline_result result;
    cr_assert_eq(baseline_from_file(t.rig.store, t.volume, &options, &result, &t.rig.err),
                 ERR_FORMAT);
    cr_assert_not_null(strstr(t.rig.err.text, "4096"), "%s", t.rig.err.text);
    cr_assert_not_null(strstr(t.rig.err.text, t.volume->name), "%s", t.rig.err.text);
    options.file = in_base(&t.rig, "none.img", path);
    cr_assert_eq(baseline_from_file(t.rig.store, t.volume, &options, &result, &t.rig.err),
                 ERR_NOT_FOUND);
    options.file = "/dev/null";
    cr_assert_eq(baseline_from_file(t.rig.store, t.volume, &options, &result, &t.rig.err),
                 ERR_USAGE);
    end(&t);
}

/* The hash of the volume at a time, from a restore. */
static void restore_hash(struct restored *t, uint64_t time_ns, char hash[SHA256_HEX_BYTES]) {
    char path[160];
    AUTO(image) im = NULL;
    struct restore_options options = {0};
    struct restore_result result;
    read_volume(t);
    rig_ok(&t->rig, image_open(t->rig.store, t->volume, time_ns, &im, &t->rig.err));
    in_base(&t->rig, "again.img", path);
    rig_ok(&t->rig, restore_to_file(im, path, &options, &result, &t->rig.err));
    strcpy(hash, result.sha256);
    unlink(path);
}

Test(baseline, of_a_moment_hides_what_was_before_and_nothing_after) {
    static struct restored t;
    char hash[SHA256_HEX_BYTES];
    start(&t);
    uint64_t id = t.volume->paths[0].path;
    rig_gap(&t.rig, id, &(struct stamp){250, 1, 1, 7}, 0, GAP_TO_END, GAP_MONITOR_RESTART);
    rig_put(&t.rig, id, &(struct stamp){600, 1, 1, 9}, 512, 512, NULL, 0);
    rig_commit(&t.rig);
    struct baseline_options options = {.time_ns = 500};
    struct baseline_result result;
    rig_ok(&t.rig, baseline_from_file(t.rig.store, t.volume, &options, &result, &t.rig.err));
    cr_assert_eq(result.stored_bytes, 0);
    restore_hash(&t, 249, hash);
    cr_assert_str_eq(hash, t.hash, "the first baseline and the update at 200");
    AUTO_FREE uint8_t *zeros = calloc(1, IMAGE_BYTES);
    char zero_hash[SHA256_HEX_BYTES];
    hash_of(zeros, IMAGE_BYTES, zero_hash);
    restore_hash(&t, 1000, hash);
    cr_assert_str_eq(hash, zero_hash);
    AUTO(image) im = NULL;
    AUTO_FREE struct image_gap *gaps = NULL;
    size_t count;
    rig_ok(&t.rig, image_open(t.rig.store, t.volume, 499, &im, &t.rig.err));
    rig_ok(&t.rig, image_gaps(im, &gaps, &count, &t.rig.err));
    cr_assert_eq(count, 1, "the gap is older than the baseline");
    cr_assert_eq(gaps[0].length_bytes, IMAGE_BYTES - 0);
    image_close(take_pointer(&im));
    end(&t);
}

Test(baseline, a_newer_one_of_the_same_time_wins) {
    static struct restored t;
    char hash[SHA256_HEX_BYTES];
    char path[160];
    start(&t);
    memset(t.content, 0x77, 8192);
    write_file(&t.rig, "base2.img", t.content, IMAGE_BYTES);
    hash_of(t.content, IMAGE_BYTES, t.hash);
    struct baseline_options options = {.file = in_base(&t.rig, "base2.img", path)};
    struct baseline_result result;
    rig_ok(&t.rig, baseline_from_file(t.rig.store, t.volume, &options, &result, &t.rig.err));
    rig_close(&t.rig);
    rig_open(&t.rig);
    restore_hash(&t, 1000, hash);
    cr_assert_str_eq(hash, t.hash);
    end(&t);
}

/* --- interruptions -------------------------------------------------------------------------------
 */

enum { PARTS = 24, PART_TAIL = 1536 };
#define PARTS_BYTES ((uint64_t)PARTS * INDEX_CHUNK_BYTES + PART_TAIL)

struct interrupted {
    uint64_t stop_at; /* the chunk whose read fails, or kills; UINT64_MAX: none */
    int code;         /* ERR_OK: SIGKILL */
    uint8_t salt;
    unsigned reads;
    char notice[512];
};

static void part_bytes(uint64_t chunk, uint8_t salt, uint8_t *to, size_t bytes) {
    memset(to, chunk % 5 == 3 ? 0 : (int)(chunk * 7 + salt) | 1, bytes);
}

static int read_part(void *context, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                     struct error *err) {
    struct interrupted *t = context;
    *bytes = chunk < PARTS ? INDEX_CHUNK_BYTES : PART_TAIL;
    *all_zero = chunk % 5 == 3;
    t->reads++;
    if (chunk == t->stop_at && t->code == ERR_OK)
        raise(SIGKILL);
    if (chunk == t->stop_at)
        return error_set(err, t->code, "gone");
    part_bytes(chunk, t->salt, to, *bytes);
    return 0;
}

static void hash_parts(uint8_t salt, char hex[SHA256_HEX_BYTES]) {
    AUTO(sha256) sum = sha256_create();
    static uint8_t part[INDEX_CHUNK_BYTES];
    for (uint64_t chunk = 0; chunk <= PARTS; chunk++) {
        size_t bytes = chunk < PARTS ? sizeof part : PART_TAIL;
        part_bytes(chunk, salt, part, bytes);
        sha256_update(sum, part, bytes);
    }
    sha256_finish_hex(sum, hex);
}

static void see_notice(void *context, const char *sentence) {
    struct interrupted *t = context;
    snprintf(t->notice, sizeof t->notice, "%s", sentence);
}

static int restore_parts(struct rig *rig, struct interrupted *t, const char *identity,
                         struct restore_result *result) {
    char path[160];
    struct restore_source source = {t, PARTS_BYTES, read_part};
    struct restore_options options = {.workers = 1,
                                      .identity = identity,
                                      .checkpoint_bytes = 2 * INDEX_CHUNK_BYTES,
                                      .notice = see_notice,
                                      .progress_context = t};
    return restore_from(&source, in_base(rig, "out", path), &options, result, &rig->err);
}

/* The file is there under its name, alone, and is what the hash says. */
static void expect_parts(struct rig *rig, const struct restore_result *result, uint8_t salt) {
    char path[160];
    char sum[SHA256_HEX_BYTES];
    AUTO_FREE uint8_t *back = malloc(PARTS_BYTES + 1);
    hash_parts(salt, sum);
    cr_assert_str_eq(result->sha256, sum);
    AUTO_FCLOSE FILE *file = fopen(in_base(rig, "out", path), "r");
    cr_assert_not_null(file);
    cr_assert_eq(fread(back, 1, PARTS_BYTES + 1, file), PARTS_BYTES);
    hash_of(back, PARTS_BYTES, sum);
    cr_assert_str_eq(result->sha256, sum, "the file is another one");
    cr_assert_eq(files_in_base(rig), 1);
    unlink(path);
}

static void be_killed_at(struct rig *rig, uint64_t chunk, const char *identity, uint8_t salt) {
    pid_t child = fork();
    if (child == 0) {
        struct interrupted t = {.stop_at = chunk, .salt = salt};
        struct restore_result result;
        restore_parts(rig, &t, identity, &result);
        _exit(7);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
}

Test(resume, killed_at_any_chunk_it_goes_on) {
    struct rig rig;
    struct restore_result result;
    rig_make_dir(&rig);
    for (uint64_t at = 0; at <= PARTS; at++) {
        struct interrupted t = {.stop_at = UINT64_MAX};
        be_killed_at(&rig, at, "x\n", 0);
        rig_ok(&rig, restore_parts(&rig, &t, "x\n", &result));
        expect_parts(&rig, &result, 0);
        cr_assert_leq(result.resumed_bytes, at * INDEX_CHUNK_BYTES);
        /* The worker is ahead of the hash, and the last checkpoint behind it. */
        cr_assert(at < 8 || result.resumed_bytes > 0, "killed at %lu", at);
        cr_assert_eq(t.reads, PARTS + 1 - result.resumed_bytes / INDEX_CHUNK_BYTES);
        cr_assert_eq(result.resumed_bytes > 0, strstr(t.notice, "going on") != NULL, "%s",
                     t.notice);
    }
    rig_remove_dir(&rig);
}

Test(resume, killed_again_and_again_it_ends) {
    struct rig rig;
    struct restore_result result;
    struct interrupted t = {.stop_at = UINT64_MAX};
    rig_make_dir(&rig);
    for (uint64_t at = 7; at <= PARTS; at += 3)
        be_killed_at(&rig, at, "x\n", 0);
    rig_ok(&rig, restore_parts(&rig, &t, "x\n", &result));
    cr_assert_gt(result.resumed_bytes, PARTS_BYTES / 2);
    expect_parts(&rig, &result, 0);
    rig_remove_dir(&rig);
}

/* A server that goes away, and a signal, leave everything up to there. */
Test(resume, what_may_succeed_later_is_kept_and_nothing_else) {
    static const int codes[] = {ERR_NET,    ERR_STOPPED, ERR_NOT_FOUND,
                                ERR_FORMAT, ERR_FULL,    ERR_USAGE};
    struct rig rig;
    struct restore_result result;
    rig_make_dir(&rig);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct interrupted t = {.stop_at = 20, .code = codes[i]};
        cr_assert_eq(restore_parts(&rig, &t, "x\n", &result), codes[i]);
        cr_assert_eq(files_in_base(&rig), i < 3 ? 2 : 0, "%d", codes[i]);
        cr_assert_eq(strstr(rig.err.text, "goes on with") != NULL, i < 3, "%s", rig.err.text);
        t = (struct interrupted){.stop_at = UINT64_MAX};
        rig_ok(&rig, restore_parts(&rig, &t, "x\n", &result));
        cr_assert_eq(result.resumed_bytes > 0, i < 3);
        expect_parts(&rig, &result, 0);
    }
    rig_remove_dir(&rig);
}

Test(resume, another_time_or_volume_starts_anew) {
    struct rig rig;
    struct restore_result result;
    struct interrupted t = {.stop_at = UINT64_MAX, .salt = 9};
    rig_make_dir(&rig);
    be_killed_at(&rig, 20, "x\n", 0);
    rig_ok(&rig, restore_parts(&rig, &t, "y\n", &result));
    cr_assert_eq(result.resumed_bytes, 0);
    cr_assert_not_null(strstr(t.notice, "starting anew"), "%s", t.notice);
    expect_parts(&rig, &result, 9);
    /* Killed before anything was said of the other one. */
    be_killed_at(&rig, 20, "x\n", 0);
    be_killed_at(&rig, 0, "y\n", 9);
    rig_ok(&rig, restore_parts(&rig, &t, "y\n", &result));
    expect_parts(&rig, &result, 9);
    rig_remove_dir(&rig);
}

Test(resume, what_somebody_changed_is_not_believed) {
    struct rig rig;
    char path[160];
    struct restore_result result;
    rig_make_dir(&rig);
    for (unsigned way = 0; way < 4; way++) {
        struct interrupted t = {.stop_at = UINT64_MAX};
        be_killed_at(&rig, 20, "x\n", 0);
        int fd = open(in_base(&rig, "out.partial", path), O_RDWR);
        if (way == 0)
            cr_assert_eq(pwrite(fd, "?", 1, 12345), 1);
        if (way == 1)
            cr_assert_eq(ftruncate(fd, PARTS_BYTES - 512), 0);
        if (way == 2)
            cr_assert_eq(pwrite(fd, "?", 1, PARTS_BYTES - 1), 1); /* behind what is done: a hole */
        if (way == 3)
            cr_assert_eq(ftruncate(fd, 0), 0);
        close(fd);
        rig_ok(&rig, restore_parts(&rig, &t, "x\n", &result));
        cr_assert_eq(result.resumed_bytes > 0, way == 2, "%u", way);
        expect_parts(&rig, &result, 0);
    }
    rig_remove_dir(&rig);
}

Test(resume, a_file_that_is_not_ours_or_in_use_is_left_alone) {
    struct rig rig;
    char path[160];
    struct restore_result result;
    struct interrupted t = {.stop_at = UINT64_MAX};
    rig_make_dir(&rig);
    write_file(&rig, "out.partial", (const uint8_t *)"mine", 4);
    cr_assert_eq(restore_parts(&rig, &t, "x\n", &result), ERR_USAGE);
    cr_assert_not_null(strstr(rig.err.text, "in the way"), "%s", rig.err.text);
    struct stat status;
    stat(in_base(&rig, "out.partial", path), &status);
    cr_assert_eq(status.st_size, 4);
    unlink(path);
    be_killed_at(&rig, 20, "x\n", 0);
    int fd = open(path, O_RDWR);
    flock(fd, LOCK_EX);
    cr_assert_eq(restore_parts(&rig, &t, "x\n", &result), ERR_BUSY);
    cr_assert_eq(files_in_base(&rig), 2, "the other one's");
    close(fd);
    rig_ok(&rig, restore_parts(&rig, &t, "x\n", &result));
    cr_assert_gt(result.resumed_bytes, 0);
    expect_parts(&rig, &result, 0);
    rig_remove_dir(&rig);
}
