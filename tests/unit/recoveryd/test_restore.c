#include "common/digest.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/restore.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

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
