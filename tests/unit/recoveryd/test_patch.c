/* patch and image_changes: the image of one time, patched, is that of a later one, whatever
 * happened. */
#include "../common/seed.h"
#include "recoveryd/image/image_changes.h"
#include "recoveryd/image/patch.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { SIZE_BYTES = (3 << 20) + 4096, MOST_BYTES = 6 << 20, STEPS = 60, IDENTITY = 64 };

struct history {
    struct rig rig;
    uint64_t path;
    unsigned state;
    uint64_t now;
    uint64_t order;
    struct volume_list list;
    char file[160];
    char partial[160];
};

static uint64_t dice(struct history *h, uint64_t below) {
    return ((uint64_t)rand_r(&h->state) << 31 | (uint64_t)rand_r(&h->state)) % below;
}

static struct stamp next_stamp(struct history *h) {
    h->now += dice(h, 3); /* several at one time, too */
    return (struct stamp){h->now, 1, 1, h->order++};
}

static void step(struct history *h) {
    static uint8_t data[64 << 10];
    struct stamp stamp = next_stamp(h);
    uint64_t offset = dice(h, MOST_BYTES / 512) * 512;
    uint32_t bytes = (uint32_t)(1 + dice(h, sizeof data / 512)) * 512;
    memset(data, (int)(1 + dice(h, 255)), bytes);
    switch (dice(h, 24)) {
    case 0:
        rig_gap(&h->rig, h->path, &stamp, offset, bytes, GAP_ABORTED);
        break;
    case 1:
        rig_gap(&h->rig, h->path, &stamp, 0, GAP_TO_END, GAP_CAPTURE_LOSS);
        break;
    case 2:
        rig_floor_zero(&h->rig, h->path, stamp.time_ns, dice(h, 2) * SIZE_BYTES / 2);
        break;
    case 3:
        rig_path(&h->rig, 1, 1, "iqn.a", "", SIZE_BYTES / 2 + dice(h, 4) * (1 << 20),
                 stamp.time_ns);
        break;
    case 4:
        rig_put(&h->rig, h->path, &stamp, offset, UINT64_C(1) << 40, NULL, 0);
        break;
    case 5:
    case 6:
        rig_put(&h->rig, h->path, &stamp, offset, (uint64_t)bytes * (1 + dice(h, 40)), data, 512);
        break;
    case 7:
    case 8:
        rig_put(&h->rig, h->path, &stamp, offset, bytes, NULL, 0);
        break;
    default:
        rig_put(&h->rig, h->path, &stamp, offset, bytes, data, bytes);
        break;
    }
}

static void read_list(struct history *h) {
    AUTO(index_reader) r = rig_reader(&h->rig);
    volume_list_release(&h->list);
    rig_ok(&h->rig, volume_list_read(r, &h->list, &h->rig.err));
}

static void start(struct history *h, uint64_t seed) {
    memset(h, 0, sizeof *h);
    rig_start(&h->rig);
    h->state = (unsigned)seed;
    h->now = 1000;
    h->path = rig_path(&h->rig, 1, 1, "iqn.a", "", SIZE_BYTES, 100);
    snprintf(h->file, sizeof h->file, "%s/image", h->rig.base);
    snprintf(h->partial, sizeof h->partial, "%s.partial", h->file);
    rig_floor_zero(&h->rig, h->path, 0, 0);
    for (unsigned i = 0; i < STEPS; i++)
        step(h);
    rig_stream(&h->rig, 1, 1, 100, h->now, false);
    rig_commit(&h->rig);
    read_list(h);
}

static void end(struct history *h) {
    volume_list_release(&h->list);
    rig_end(&h->rig);
}

static struct image *image_at(struct history *h, uint64_t time_ns) {
    struct image *im;
    rig_ok(&h->rig, image_open(h->rig.store, &h->list.volumes[0], time_ns, &im, &h->rig.err));
    return im;
}

/* All of it; freed by the caller. */
static uint8_t *bytes_of(struct history *h, struct image *im) {
    uint8_t *all = calloc(1, image_info(im)->size_bytes + INDEX_CHUNK_BYTES);
    for (uint64_t chunk = 0; chunk < image_chunk_count(im); chunk++) {
        size_t bytes;
        bool zero;
        rig_ok(&h->rig, image_chunk_read(im, chunk, all + chunk * INDEX_CHUNK_BYTES, &bytes, &zero,
                                         &h->rig.err));
    }
    return all;
}

static void write_image(const struct history *h, const char *path, const uint8_t *data,
                        uint64_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    (void)h;
    cr_assert_eq(pwrite(fd, data, bytes, 0), (ssize_t)bytes);
    close(fd);
}

static void expect_image(const char *path, const uint8_t *data, uint64_t bytes, const char *what) {
    AUTO_FREE uint8_t *back = malloc(bytes + 1);
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0, "%s", what);
    cr_assert_eq(pread(fd, back, bytes + 1, 0), (ssize_t)bytes, "%s: the size", what);
    cr_assert_eq(memcmp(back, data, bytes), 0, "%s: the content", what);
    close(fd);
}

/* What may have changed, chunk by chunk. */
static void find_ranges(struct history *h, struct image *im, struct image *since,
                        struct rangeset *ranges) {
    struct image_changes changes;
    struct range part;
    rangeset_init(ranges, 1 << 20);
    rig_ok(&h->rig, image_changes_find(im, since, &changes, &h->rig.err));
    uint64_t count = image_chunk_count(im);
    for (uint64_t c = 0; c < count && rangeset_overlap(&changes.chunks, c, count, &part);
         c = part.start + 1)
        rig_ok(&h->rig, image_changes_in_chunk(im, &changes, part.start, ranges, &h->rig.err));
    image_changes_release(&changes);
}

struct reading {
    struct image *im;
    uint64_t fail_at; /* the read that fails, */
    bool is_killed;   /* or the process in it */
    uint64_t reads;
};

static int read_range(void *context, uint64_t offset, uint64_t length, uint8_t *to,
                      struct error *err) {
    struct reading *r = context;
    AUTO_FREE struct image_run *runs = NULL;
    size_t count;
    if (++r->reads == r->fail_at && r->is_killed)
        raise(SIGKILL);
    if (r->reads == r->fail_at)
        return error_set(err, ERR_NET, "gone");
    int code = image_range_map(r->im, offset, length, &runs, &count, err);
    return code == 0 ? image_runs_read(r->im, runs, count, offset, to, err) : code;
}

static int patch(struct history *h, struct image *im, struct image *since, struct reading *reading,
                 const char *identity, struct patch_result *result) {
    struct rangeset ranges;
    find_ranges(h, im, since, &ranges);
    struct patch_source source = {.context = reading,
                                  .from_bytes = image_info(since)->size_bytes,
                                  .to_bytes = image_info(im)->size_bytes,
                                  .ranges = ranges.ranges,
                                  .range_count = ranges.count,
                                  .read = read_range,
                                  .identity = identity};
    struct patch_options options = {0};
    reading->im = im;
    int code = patch_file(&source, h->file, &options, result, &h->rig.err);
    rangeset_release(&ranges);
    return code;
}

static void check_pair(struct history *h, uint64_t from, uint64_t to, uint64_t seed) {
    char what[96];
    struct image *since = image_at(h, from);
    struct image *im = image_at(h, to);
    AUTO_FREE uint8_t *before = bytes_of(h, since);
    AUTO_FREE uint8_t *after = bytes_of(h, im);
    struct patch_result result;
    struct reading reading = {0};
    snprintf(what, sizeof what, "seed %lu, from %lu to %lu", seed, from, to);
    write_image(h, h->file, before, image_info(since)->size_bytes);
    rig_ok(&h->rig, patch(h, im, since, &reading, "pair\n", &result));
    expect_image(h->file, after, image_info(im)->size_bytes, what);
    cr_assert_neq(access(h->partial, F_OK), 0);
    if (from == to)
        cr_assert_eq(result.written_bytes, 0, "%s", what);
    image_close(im);
    image_close(since);
}

Test(patch, the_image_of_one_time_becomes_that_of_another) {
    static struct history h;
    uint64_t seed = test_seed();
    for (unsigned round = 0; round < 40; round++) {
        start(&h, seed + round);
        for (unsigned i = 0; i < 8; i++) {
            uint64_t from = 100 + dice(&h, h.now - 100);
            if (dice(&h, 3) > 0)
                from = 1000 + dice(&h, h.now - 1000);
            check_pair(&h, from, from + dice(&h, h.now - from + 1), seed + round);
        }
        end(&h);
    }
}

/* A write of 512 bytes writes 512 bytes. */
Test(patch, writes_what_changed_and_no_more) {
    static struct history h;
    start(&h, 1);
    uint8_t data[512];
    struct stamp stamp = {h.now + 100, 1, 1, h.order++};
    memset(data, 0x99, sizeof data);
    rig_path(&h.rig, 1, 1, "iqn.a", "", SIZE_BYTES, h.now + 10);
    rig_put(&h.rig, h.path, &stamp, 2 << 20, 512, data, 512);
    rig_gap(&h.rig, h.path, &(struct stamp){h.now + 100, 1, 1, h.order++}, 0, 512, GAP_ABORTED);
    rig_stream(&h.rig, 1, 1, 100, h.now + 200, false);
    rig_commit(&h.rig);
    read_list(&h);
    struct image *since = image_at(&h, h.now + 99);
    struct image *im = image_at(&h, h.now + 100);
    AUTO_FREE uint8_t *before = bytes_of(&h, since);
    struct patch_result result;
    struct reading reading = {0};
    write_image(&h, h.file, before, image_info(since)->size_bytes);
    rig_ok(&h.rig, patch(&h, im, since, &reading, "x\n", &result));
    cr_assert_eq(result.written_bytes, 512, "a gap changes nothing");
    memset(before + (2 << 20), 0x99, 512);
    expect_image(h.file, before, SIZE_BYTES, "after");
    struct image_changes changes;
    cr_assert_eq(image_changes_find(since, im, &changes, &h.rig.err), ERR_USAGE, "the wrong way");
    image_changes_release(&changes);
    image_close(im);
    image_close(since);
    end(&h);
}

static void be_killed(struct history *h, uint64_t from, uint64_t to, uint64_t at) {
    struct patch_result result;
    struct reading reading = {.fail_at = at, .is_killed = true};
    pid_t child = fork();
    if (child == 0) {
        /* An index does not survive fork(): a store of its own. */
        struct store *store;
        if (store_open(h->rig.dir, STORE_READ, &store, &h->rig.err) != 0)
            _exit(9);
        h->rig.store = store;
        patch(h, image_at(h, to), image_at(h, from), &reading, "kill\n", &result);
        _exit(7);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
}

Test(patch, killed_in_the_middle_it_goes_on) {
    static struct history h;
    start(&h, test_seed());
    /* Whatever else happened: enough to be killed in. */
    h.now += 10;
    rig_path(&h.rig, 1, 1, "iqn.a", "", SIZE_BYTES, h.now);
    for (unsigned i = 0; i < 6; i++) {
        uint8_t data[512] = {1};
        rig_put(&h.rig, h.path, &(struct stamp){h.now, 1, 1, h.order++}, i * 409600, 512, data,
                512);
    }
    rig_stream(&h.rig, 1, 1, 100, h.now, false);
    rig_commit(&h.rig);
    read_list(&h);
    uint64_t from = h.now - 5;
    uint64_t to = h.now;
    struct image *since = image_at(&h, from);
    struct image *im = image_at(&h, to);
    AUTO_FREE uint8_t *before = bytes_of(&h, since);
    AUTO_FREE uint8_t *after = bytes_of(&h, im);
    for (uint64_t at = 1; at <= 5; at++) {
        struct patch_result result;
        struct reading reading = {0};
        unlink(h.partial);
        write_image(&h, h.file, before, image_info(since)->size_bytes);
        be_killed(&h, from, to, at);
        cr_assert_neq(access(h.file, F_OK), 0, "what is neither has no name");
        cr_assert_eq(patch(&h, im, since, &reading, "other times\n", &result), ERR_NOT_FOUND);
        cr_assert_not_null(strstr(h.rig.err.text, ".partial"), "%s", h.rig.err.text);
        be_killed(&h, from, to, 2);
        rig_ok(&h.rig, patch(&h, im, since, &reading, "kill\n", &result));
        cr_assert(result.resumed);
        expect_image(h.file, after, image_info(im)->size_bytes, "after a kill");
        cr_assert_neq(access(h.partial, F_OK), 0);
    }
    image_close(im);
    image_close(since);
    end(&h);
}

Test(patch, what_cannot_begin_leaves_the_file_alone) {
    static struct history h;
    start(&h, 5);
    struct image *since = image_at(&h, 1000);
    struct image *im = image_at(&h, h.now);
    AUTO_FREE uint8_t *before = bytes_of(&h, since);
    uint64_t bytes = image_info(since)->size_bytes;
    struct patch_result result;
    struct reading reading = {.fail_at = 1};
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_NOT_FOUND);
    cr_assert_not_null(strstr(h.rig.err.text, "restore it first"), "%s", h.rig.err.text);
    write_image(&h, h.file, before, bytes);
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_NET);
    expect_image(h.file, before, bytes, "nothing was written");
    cr_assert_neq(access(h.partial, F_OK), 0);
    reading = (struct reading){.fail_at = 2};
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_NET);
    cr_assert_not_null(strstr(h.rig.err.text, "neither"), "%s", h.rig.err.text);
    cr_assert_neq(access(h.file, F_OK), 0);
    unlink(h.partial);
    write_image(&h, h.file, before, bytes - 512);
    reading = (struct reading){0};
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_FORMAT);
    cr_assert_not_null(strstr(h.rig.err.text, "not its image"), "%s", h.rig.err.text);
    expect_image(h.file, before, bytes - 512, "of another size");
    write_image(&h, h.file, before, bytes);
    int fd = open(h.file, O_RDWR);
    flock(fd, LOCK_EX);
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_BUSY);
    close(fd);
    expect_image(h.file, before, bytes, "held by another");
    char other[176];
    snprintf(other, sizeof other, "%s.other", h.file);
    cr_assert_eq(link(h.file, other), 0);
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_USAGE, "two names");
    unlink(h.file);
    cr_assert_eq(symlink(other, h.file), 0);
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_USAGE, "a name of a name");
    expect_image(other, before, bytes, "of another name");
    unlink(h.file);
    cr_assert_eq(rename(other, h.file), 0);
    restore_state_remove(h.file);
    write_image(&h, h.partial, before, 512);
    cr_assert_eq(patch(&h, im, since, &reading, "x\n", &result), ERR_USAGE, "not of a restore");
    expect_image(h.partial, before, 512, "not ours");
    expect_image(h.file, before, bytes, "what is in the way stays");
    image_close(im);
    image_close(since);
    end(&h);
}

/* What the store learns later may change what an image holds: it must not be taken for the same. */
Test(patch, a_view_that_knows_more_is_another) {
    static struct history h;
    start(&h, 6);
    uint64_t prints[5];
    uint64_t at = h.now;
    for (unsigned i = 0; i < 5; i++) {
        struct image *im = image_at(&h, at);
        rig_ok(&h.rig, image_fingerprint(im, &prints[i], &h.rig.err));
        image_close(im);
        if (i == 0) /* later than the image: the same */
            rig_put(&h.rig, h.path, &(struct stamp){at + 1, 1, 1, h.order++}, 0, 512, NULL, 0);
        if (i == 1)
            rig_floor_zero(&h.rig, h.path, at, 0);
        if (i == 2)
            rig_put(&h.rig, h.path, &(struct stamp){at, 1, 1, h.order++}, 0, 512, NULL, 0);
        if (i == 3)
            rig_gap(&h.rig, h.path, &(struct stamp){at, 1, 1, h.order++}, 0, 512, GAP_ABORTED);
        rig_commit(&h.rig);
        read_list(&h);
    }
    cr_assert_eq(prints[0], prints[1]);
    for (unsigned i = 1; i < 4; i++)
        cr_assert_neq(prints[i], prints[i + 1], "%u", i);
    struct image *im = image_at(&h, at - 1);
    rig_ok(&h.rig, image_fingerprint(im, &prints[0], &h.rig.err));
    cr_assert_neq(prints[0], prints[4]);
    image_close(im);
    end(&h);
}
