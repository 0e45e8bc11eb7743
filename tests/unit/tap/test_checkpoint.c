#include "tap/checkpoint.h"

#include "common/cleanup.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_folder(char dir[64]) {
    strcpy(dir, "/tmp/checkpoint-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void remove_folder(const char *dir) {
    char path[128];
    snprintf(path, sizeof path, "%s/sessions", dir);
    unlink(path);
    cr_assert_eq(rmdir(dir), 0, "something is left in it");
}

static void write_one(const char *dir, const char *monitor) {
    AUTO_BUFFER b;
    struct error err;
    checkpoint_begin(&b, &(struct checkpoint){monitor, 1, 2, 3, 4});
    buffer_put(&b, "what follows", 12);
    checkpoint_set_end(&b, 20, 30);
    cr_assert_eq(checkpoint_write(dir, &b, true, &err), 0, "%s", err.text);
}

static int read_one(const char *dir, const char *monitor, struct checkpoint *cp, char text[64]) {
    AUTO_BUFFER b = {0};
    struct cursor rest;
    struct error err;
    int code = checkpoint_read(dir, monitor, &b, cp, &rest, &err);
    if (code == 0)
        snprintf(text, 64, "%.*s", (int)cursor_left(&rest), (const char *)rest.next);
    return code;
}

Test(checkpoint, comes_back_as_it_was) {
    char dir[64];
    char text[64];
    struct checkpoint cp;
    make_folder(dir);
    cr_assert_eq(read_one(dir, "rack7", &cp, text), ERR_NOT_FOUND);
    write_one(dir, "rack7");
    cr_assert_eq(read_one(dir, "rack7", &cp, text), 0);
    cr_assert(cp.stream == 1 && cp.next_order == 20 && cp.promised_ns == 30 && cp.newest_ns == 4);
    cr_assert_str_eq(text, "what follows");
    write_one(dir, "rack7");
    cr_assert_eq(read_one(dir, "rack8", &cp, text), ERR_FORMAT, "another monitor's");
    remove_folder(dir);
}

/* Every byte counts. */
Test(checkpoint, damaged_anywhere) {
    char dir[64];
    char path[128];
    char text[64];
    struct checkpoint cp;
    make_folder(dir);
    snprintf(path, sizeof path, "%s/sessions", dir);
    for (long at = 0;; at++) {
        write_one(dir, "rack7");
        FILE *f = fopen(path, "r+b");
        fseek(f, at, SEEK_SET);
        int byte = fgetc(f);
        if (byte == EOF) {
            fclose(f);
            break;
        }
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 1, f);
        fclose(f);
        cr_assert_eq(read_one(dir, "rack7", &cp, text), ERR_FORMAT, "byte %ld", at);
        cr_assert_eq(truncate(path, at), 0);
        cr_assert_eq(read_one(dir, "rack7", &cp, text), ERR_FORMAT, "cut at %ld", at);
    }
    remove_folder(dir);
}

Test(checkpoint, folder_that_is_not_there) {
    AUTO_BUFFER b;
    struct error err;
    checkpoint_begin(&b, &(struct checkpoint){"rack7", 1, 2, 3, 4});
    cr_assert_lt(checkpoint_write("/nonexistent", &b, true, &err), 0);
    cr_assert_not_null(strstr(err.text, "/nonexistent"));
}
