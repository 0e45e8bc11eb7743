#include "tap/identify/chap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];

static void make(const char *text, size_t bytes, mode_t mode) {
    strcpy(path, "/tmp/sanrewind-chap.XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, bytes), (ssize_t)bytes);
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

static int read_file(const char *text, mode_t mode, struct chap *chap, struct error *err) {
    make(text, strlen(text), mode);
    int code = chap_read(path, chap, err);
    unlink(path);
    return code;
}

Test(chap, two_lines) {
    struct chap chap;
    struct error err = {0};
    cr_assert_eq(read_file("bob\na secret of words\n", 0600, &chap, &err), 0, "%s", err.text);
    cr_assert_str_eq(chap.user, "bob");
    cr_assert_str_eq(chap.secret, "a secret of words");
    cr_assert_eq(read_file("bob\nlast line", 0400, &chap, &err), 0, "%s", err.text);
    cr_assert_str_eq(chap.secret, "last line");
    chap_forget(&chap);
    cr_assert_eq(chap.secret[0], 0);
}

Test(chap, a_file_that_others_can_use_is_refused) {
    static const mode_t bad[] = {0640, 0604, 0620, 0601, 0700, 0777, 04600, 01600};
    struct chap chap;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        cr_assert_eq(read_file("bob\nsecret\n", bad[i], &chap, &err), ERR_USAGE, "%o", bad[i]);
        cr_assert(strstr(err.text, "chmod 600"), "%s", err.text);
    }
}

Test(chap, what_is_not_two_lines_is_refused_and_leaves_nothing) {
    static const char *const bad[] = {
        "", "bob", "bob\n", "bob\n\n", "\nsecret\n", "bob\nsecret\nmore\n", "bob\nsecret\n\n"};
    struct chap chap;
    struct error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(read_file(bad[i], 0600, &chap, &err), ERR_FORMAT, "%zu", i);
        cr_assert_eq(chap.user[0], 0);
        cr_assert_eq(chap.secret[0], 0);
    }
    make("bob\0x\nsecret\n", 13, 0600);
    cr_assert_eq(chap_read(path, &chap, &err), ERR_FORMAT);
    unlink(path);
}

Test(chap, each_word_has_its_limit) {
    char text[2 * CHAP_WORD_BYTES + 64];
    struct chap chap;
    struct error err = {0};
    for (int user = CHAP_WORD_BYTES - 1; user <= CHAP_WORD_BYTES; user++) {
        for (int secret = CHAP_WORD_BYTES - 1; secret <= CHAP_WORD_BYTES + 9; secret += 5) {
            snprintf(text, sizeof text, "%0*d\n%0*d\n", user, 1, secret, 2);
            bool fits = user < CHAP_WORD_BYTES && secret < CHAP_WORD_BYTES;
            cr_assert_eq(read_file(text, 0600, &chap, &err), fits ? 0 : ERR_FORMAT, "%d %d", user,
                         secret);
        }
    }
}

Test(chap, only_plain_files) {
    struct chap chap;
    struct error err = {0};
    cr_assert_eq(chap_read("/tmp", &chap, &err), ERR_USAGE);
    cr_assert_eq(chap_read("/nowhere/at/all", &chap, &err), ERR_NOT_FOUND);
}
