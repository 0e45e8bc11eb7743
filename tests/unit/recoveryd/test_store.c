#include "recoveryd/store/format_file.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put_file(const struct rig *rig, const char *name, const char *text) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    AUTO_FCLOSE FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
}

static bool has_file(const struct rig *rig, const char *name) {
    char path[160];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    return stat(path, &status) == 0;
}

Test(store, is_made_where_nothing_is_and_opened_again) {
    struct rig rig;
    rig_start(&rig);
    cr_assert(has_file(&rig, "FORMAT"));
    rig_close(&rig);
    rig_open(&rig);
    rig_close(&rig);
    rig_ok(&rig, store_open(rig.dir, STORE_READ, &rig.store, &rig.err));
    cr_assert_eq(rig.store->lock_fd, -1);
    rig_end(&rig);
}

Test(store, readers_make_nothing) {
    struct rig rig;
    rig_make_dir(&rig);
    cr_assert_eq(store_open(rig.dir, STORE_READ, &rig.store, &rig.err), ERR_NOT_FOUND);
    cr_assert_eq(store_open(rig.dir, STORE_WRITE, &rig.store, &rig.err), ERR_NOT_FOUND);
    mkdir(rig.dir, 0700);
    cr_assert_eq(store_open(rig.dir, STORE_READ, &rig.store, &rig.err), ERR_FORMAT);
    cr_assert_eq(rmdir(rig.dir), 0, "nothing was made in it");
    rig_remove_dir(&rig);
}

Test(store, another_directory_is_refused_and_left_alone) {
    struct rig rig;
    rig_make_dir(&rig);
    mkdir(rig.dir, 0700);
    put_file(&rig, "letter.txt", "dear");
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_FORMAT);
    cr_assert_not(has_file(&rig, "lock"));
    cr_assert_eq(store_open("/etc/passwd", STORE_OWN, &rig.store, &rig.err), ERR_FORMAT);
    rig_remove_dir(&rig);
}

Test(store, a_newer_or_spoilt_format_is_refused) {
    struct rig rig;
    rig_start(&rig);
    rig_close(&rig);
    put_file(&rig, "FORMAT", "sanrewind store\nversion 2\nid 0123456789abcdef\nmore\n");
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_VERSION);
    cr_assert_eq(store_open(rig.dir, STORE_READ, &rig.store, &rig.err), ERR_VERSION);
    put_file(&rig, "FORMAT", "sanrewind store\n");
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_FORMAT);
    put_file(&rig, "FORMAT", "sanrewind store\nversion 1\nid 0123456789abcdef\n");
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_FORMAT,
                 "the index belongs to another store");
    rig_remove_dir(&rig);
}

Test(store, a_cut_short_making_is_made_again) {
    struct rig rig;
    rig_start(&rig);
    rig_close(&rig);
    char path[160];
    snprintf(path, sizeof path, "%s/FORMAT", rig.dir);
    unlink(path);
    put_file(&rig, "FORMAT.new", "sanre");
    rig_open(&rig);
    struct extent where;
    rig_ok(&rig, segments_append(rig.segment, "x", 1, &where, &rig.err));
    rig_close(&rig);
    unlink(path);
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_FORMAT,
                 "a store with segments that lost its FORMAT is not made over");
    rig_remove_dir(&rig);
}

Test(store, a_lost_index_is_not_made_anew) {
    struct rig rig;
    rig_start(&rig);
    rig_close(&rig);
    char path[160];
    snprintf(path, sizeof path, "%s/index/data.mdb", rig.dir);
    unlink(path);
    cr_assert_eq(store_open(rig.dir, STORE_OWN, &rig.store, &rig.err), ERR_FORMAT);
    cr_assert_eq(store_open(rig.dir, STORE_READ, &rig.store, &rig.err), ERR_FORMAT);
    rig_remove_dir(&rig);
}

Test(store, has_one_owner) {
    struct rig rig;
    rig_start(&rig);
    pid_t child = fork();
    if (child == 0) {
        struct store *second;
        struct error err;
        _exit(store_open(rig.dir, STORE_OWN, &second, &err) == ERR_BUSY ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    rig_end(&rig);
}

Test(store, format_text_is_read_strictly) {
    static const char good[] = "sanrewind store\nversion 1\nid 00000000000000ff\n";
    uint64_t id = 0;
    struct error err;
    cr_assert_eq(format_file_parse(good, strlen(good), &id, &err), 0);
    cr_assert_eq(id, 255);
    for (size_t length = 0; length < strlen(good); length++)
        cr_assert_eq(format_file_parse(good, length, &id, &err), ERR_FORMAT, "cut to %zu", length);
    cr_assert_eq(format_file_parse("", 0, &id, &err), ERR_FORMAT);
    char large[FORMAT_FILE_BYTES];
    memset(large, 'a', sizeof large);
    cr_assert_eq(format_file_parse(large, sizeof large, &id, &err), ERR_FORMAT);
    static const char zero[] = "sanrewind store\nversion 0\nid 00000000000000ff\n";
    cr_assert_eq(format_file_parse(zero, strlen(zero), &id, &err), ERR_FORMAT);
}

enum { ROUNDS = 60, PER_ROUND = 20 };

/* Commits rounds of updates of one path; the caller's share of two processes that write at once. */
static void write_rounds(struct rig *rig, uint64_t path) {
    uint8_t data[512];
    for (uint64_t i = 0; i < ROUNDS * PER_ROUND; i++) {
        memset(data, (int)(path + i), sizeof data);
        rig_put(rig, path, &(struct stamp){i + 1, path, 1, i}, i * 512, 512, data, 512);
        if (i % PER_ROUND == PER_ROUND - 1)
            rig_commit(rig);
    }
}

static bool check_piece(void *context, const struct piece *p) {
    struct rig *rig = context;
    uint8_t back[512];
    rig_ok(rig, segments_read(rig->store->segments, &p->extent, 0, back, 512, &rig->err));
    cr_assert_eq(crc32c(0, back, 512), p->payload_crc32c);
    cr_assert_eq(back[511], (uint8_t)(p->stamp.monitor + p->stamp.order));
    return true;
}

Test(store, two_processes_write_at_once) {
    struct rig rig;
    rig_start(&rig);
    rig_close(&rig);
    pid_t child = fork();
    if (child == 0) {
        rig_ok(&rig, store_open(rig.dir, STORE_WRITE, &rig.store, &rig.err));
        rig.segment = segments_writer_create(rig.store->segments);
        write_rounds(&rig, 5);
        rig_close(&rig);
        _exit(0);
    }
    rig_open(&rig);
    write_rounds(&rig, 6);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    AUTO(index_reader) r = rig_reader(&rig);
    for (uint64_t path = 5; path <= 6; path++) {
        uint64_t updates;
        rig_ok(&rig, index_count_updates(r, path, UINT64_MAX, &updates, &rig.err));
        cr_assert_eq(updates, ROUNDS * PER_ROUND);
        rig_ok(&rig, index_each_piece(r, path, 0, UINT64_MAX, check_piece, &rig, &rig.err));
    }
    index_reader_close(take_pointer(&r));
    rig_end(&rig);
}
