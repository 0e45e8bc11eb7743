#include "common/options.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct taken {
    char names[64];
    uint64_t count;
    bool loud;
};

static int set_name(void *into, const char *value, struct error *err) {
    struct taken *t = into;
    (void)err;
    strcat(t->names, value);
    strcat(t->names, ";");
    return 0;
}

static int set_count(void *into, const char *value, struct error *err) {
    struct taken *t = into;
    return options_number("count", value, 1, 9, &t->count, err);
}

static int set_loud(void *into, const char *value, struct error *err) {
    struct taken *t = into;
    (void)value;
    (void)err;
    t->loud = true;
    return 0;
}

static const struct option_row rows[] = {
    {'n', "name", "NAME", "a name", set_name},
    {0, "count", "N", "a number", set_count},
    {'l', "loud", NULL, "a switch", set_loud},
    {0},
};

static const struct option_set set = {"prog", "prog [OPTION]...", "Does things.", rows};

static int parse(struct taken *t, bool stop, int argc, char **argv, int *operand,
                 struct error *err) {
    *t = (struct taken){0};
    return options_parse(&set, t, argc, argv, stop, operand, err);
}

Test(options, short_long_and_operands) {
    char *argv[] = {"prog", "-n", "a", "file", "--count=3", "-l", "--name", "b", NULL};
    struct taken t;
    struct error err = {0};
    int operand;
    cr_assert_eq(parse(&t, false, 8, argv, &operand, &err), OPTIONS_DONE, "%s", err.text);
    cr_assert_str_eq(t.names, "a;b;");
    cr_assert_eq(t.count, 3);
    cr_assert(t.loud);
    cr_assert_eq(operand, 7);
    cr_assert_str_eq(argv[operand], "file");
}

Test(options, stops_at_a_command) {
    char *argv[] = {"prog", "-n", "a", "list", "--json", NULL};
    struct taken t;
    struct error err = {0};
    int operand;
    cr_assert_eq(parse(&t, true, 5, argv, &operand, &err), OPTIONS_DONE, "%s", err.text);
    cr_assert_eq(operand, 3);
}

Test(options, refusals_are_sentences) {
    struct {
        char *argv[4];
        const char *text;
    } cases[] = {
        {{"prog", "--nmae", "x"}, "--nmae is not an option; see prog --help"},
        {{"prog", "-z", NULL}, "-z is not an option; see prog --help"},
        {{"prog", "--name", NULL}, "--name needs a value; see prog --help"},
        {{"prog", "--count", "12"}, "--count: '12' is not a number from 1 to 9"},
        {{"prog", "--count", "-1"}, "--count: '-1' is not a number from 1 to 9"},
        {{"prog", "--count", "3x"}, "--count: '3x' is not a number from 1 to 9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct taken t;
        struct error err = {0};
        int operand;
        int argc = cases[i].argv[2] != NULL ? 3 : 2;
        cr_assert_eq(parse(&t, false, argc, cases[i].argv, &operand, &err), ERR_USAGE);
        cr_assert_str_eq(err.text, cases[i].text);
    }
}

static void write_config(char *path, const char *text) {
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

Test(options, command_line_wins_over_the_file) {
    char path[] = "/tmp/options-XXXXXX";
    write_config(path, "# comment\ncount = 2\nname = f\n");
    char *argv[] = {"prog", "--count", "5", "-c", path, NULL};
    struct taken t;
    struct error err = {0};
    int operand;
    cr_assert_eq(parse(&t, false, 5, argv, &operand, &err), OPTIONS_DONE, "%s", err.text);
    cr_assert_eq(t.count, 5);
    cr_assert_str_eq(t.names, "f;");
    unlink(path);
}

Test(options, file_refuses_unknown_names_with_the_line) {
    char path[] = "/tmp/options-XXXXXX";
    write_config(path, "count = 2\n\nspeed = 9\n");
    struct taken t = {0};
    struct error err = {0};
    cr_assert_eq(options_parse_file(&set, &t, path, &err), ERR_USAGE);
    cr_assert_not_null(strstr(err.text, ":3: unknown name 'speed'"), "%s", err.text);
    unlink(path);
}

Test(options, bytes_take_units) {
    uint64_t bytes;
    cr_assert_eq(options_bytes("x", "64K", 1, UINT64_MAX, &bytes, NULL), 0);
    cr_assert_eq(bytes, 65536);
    cr_assert_eq(options_bytes("x", "2g", 1, UINT64_MAX, &bytes, NULL), 0);
    cr_assert_eq(bytes, UINT64_C(2) << 30);
    cr_assert_eq(options_bytes("x", "1KB", 1, UINT64_MAX, &bytes, NULL), ERR_USAGE);
    cr_assert_eq(options_bytes("x", "99999999999T", 1, UINT64_MAX, &bytes, NULL), ERR_USAGE);
    cr_assert_eq(options_bytes("x", "", 0, UINT64_MAX, &bytes, NULL), ERR_USAGE);
}

Test(options, durations_have_their_unit) {
    static const struct {
        const char *value;
        uint64_t ns;
    } good[] = {{"1ns", 1},          {"250us", 250000},    {"2ms", 2000000},
                {"3s", 3000000000u}, {"1m", 60000000000u}, {"1h", 3600000000000u}};
    uint64_t ns = 0;
    struct error err = {0};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert_eq(options_duration("d", good[i].value, 1, UINT64_MAX, &ns, &err), 0, "%s",
                     err.text);
        cr_assert_eq(ns, good[i].ns, "%s", good[i].value);
    }
}

Test(options, durations_that_are_none_are_refused_and_change_nothing) {
    static const char *const bad[] = {
        "", "5", "ms", "5 ms", "5mss", "-5ms", "1.5s", "5d", "0ns", "3s", "18446744073709551615h"};
    uint64_t ns = 77;
    struct error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(options_duration("d", bad[i], 1, 2000000000, &ns, &err), ERR_USAGE, "%s",
                     bad[i]);
        cr_assert(strstr(err.text, "--d"), "%s", err.text);
    }
    cr_assert_eq(ns, 77);
}
