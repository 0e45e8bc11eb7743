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
