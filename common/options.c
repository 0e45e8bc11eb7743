#include "common/options.h"

#include "common/cleanup.h"
#include "common/version.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long returns for rows that have no letter, and for the built-in ones. */
enum { VALUE_OF_FIRST_ROW = 1000, BUILT_IN_ROWS = 3, HELP_COLUMN = 28 };

static const struct option built_in[BUILT_IN_ROWS] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"config", required_argument, NULL, 'c'},
};

static size_t row_count(const struct option_set *set) {
    size_t count = 0;
    while (set->rows[count].name != NULL)
        count++;
    return count;
}

static void print_row(char letter, const char *name, const char *argument, const char *help) {
    char flags[80];
    snprintf(flags, sizeof flags, "  %c%c%s--%s%s%s", letter ? '-' : ' ', letter ? letter : ' ',
             letter ? ", " : "  ", name, argument ? " " : "", argument ? argument : "");
    if (strlen(flags) >= HELP_COLUMN)
        printf("%s\n%*s%s\n", flags, HELP_COLUMN, "", help);
    else
        printf("%-*s%s\n", HELP_COLUMN, flags, help);
}

static void print_help(const struct option_set *set) {
    printf("usage: %s\n\n%s\n\n", set->usage, set->summary);
    for (const struct option_row *row = set->rows; row->name != NULL; row++) {
        if (row->help != NULL)
            print_row(row->letter, row->name, row->argument, row->help);
    }
    print_row('c', "config", "FILE", "read options from FILE, one \"name = value\" a line");
    print_row('h', "help", NULL, "show this text");
    print_row('V', "version", NULL, "show the version");
}

static const struct option_row *find_row(const struct option_set *set, const char *name) {
    for (const struct option_row *row = set->rows; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

struct file_context {
    const struct option_set *set;
    void *into;
    struct error *err;
    int code;
};

static int take_file_line(void *user, const char *section, const char *name, const char *value) {
    struct file_context *file = user;
    (void)section;
    const struct option_row *row = find_row(file->set, name);
    if (row == NULL) {
        file->code = error_set(file->err, ERR_USAGE, "unknown name '%s'; %s --help lists the names",
                               name, file->set->program);
        return 0;
    }
    file->code = row->set(file->into, value, file->err);
    return file->code == 0;
}

int options_parse_file(const struct option_set *set, void *into, const char *path,
                       struct error *err) {
    AUTO_FCLOSE FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        error_errno(err, errno, "cannot read the configuration file %s", path);
        return ERR_USAGE;
    }
    struct file_context file = {.set = set, .into = into, .err = err};
    int line = ini_parse_file(stream, take_file_line, &file);
    if (line == 0)
        return 0;
    if (file.code == 0)
        return error_set(err, ERR_USAGE, "%s:%d: not a \"name = value\" line", path, line);
    return error_prefix(err, "%s:%d", path, line);
}

struct getopt_tables {
    struct option *longs; /* owned */
    char *letters;        /* owned */
};

static void getopt_tables_release(struct getopt_tables *tables) {
    free(tables->longs);
    free(tables->letters);
}

static int getopt_tables_init(struct getopt_tables *tables, const struct option_set *set,
                              bool stop_at_operand) {
    size_t rows = row_count(set);
    tables->longs = calloc(rows + BUILT_IN_ROWS + 1, sizeof *tables->longs);
    tables->letters = calloc(2 * rows + 16, 1);
    if (tables->longs == NULL || tables->letters == NULL)
        return ERR_NOMEM;
    char *letter = tables->letters;
    if (stop_at_operand)
        *letter++ = '+';
    letter = stpcpy(letter, ":hVc:");
    for (size_t i = 0; i < rows; i++) {
        const struct option_row *row = &set->rows[i];
        tables->longs[i] =
            (struct option){row->name, row->argument != NULL ? required_argument : no_argument,
                            NULL, VALUE_OF_FIRST_ROW + (int)i};
        if (row->letter == 0)
            continue;
        *letter++ = row->letter;
        if (row->argument != NULL)
            *letter++ = ':';
    }
    memcpy(tables->longs + rows, built_in, sizeof built_in);
    return 0;
}

static const struct option_row *row_of_value(const struct option_set *set, int value) {
    if (value >= VALUE_OF_FIRST_ROW)
        return &set->rows[value - VALUE_OF_FIRST_ROW];
    for (const struct option_row *row = set->rows; row->name != NULL; row++) {
        if (row->letter != 0 && row->letter == value)
            return row;
    }
    return NULL;
}

static int refuse(const struct option_set *set, int problem, char **argv, struct error *err) {
    const char *word = argv[optind - 1];
    const char *what = problem == ':' ? "needs a value" : "is not an option";
    if (word[0] == '-' && word[1] != '-' && isprint(optopt))
        return error_set(err, ERR_USAGE, "-%c %s; see %s --help", optopt, what, set->program);
    return error_set(err, ERR_USAGE, "%s %s; see %s --help", word, what, set->program);
}

/* The file named by -c is read first, so that the command line can overrule it. */
static int take_config_files(const struct option_set *set, void *into, int argc, char **argv,
                             const struct getopt_tables *tables, struct error *err) {
    optind = 0;
    for (int value;
         (value = getopt_long(argc, argv, tables->letters, tables->longs, NULL)) != -1;) {
        if (value != 'c')
            continue;
        int code = options_parse_file(set, into, optarg, err);
        if (code < 0)
            return code;
    }
    return 0;
}

int options_parse(const struct option_set *set, void *into, int argc, char **argv,
                  bool stop_at_operand, int *first_operand, struct error *err) {
    __attribute__((cleanup(getopt_tables_release))) struct getopt_tables tables = {0};
    if (getopt_tables_init(&tables, set, stop_at_operand) < 0)
        return error_set(err, ERR_NOMEM, "out of memory");
    opterr = 0;
    int code = take_config_files(set, into, argc, argv, &tables, err);
    if (code < 0)
        return code;
    optind = 0;
    for (int value; (value = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1;) {
        if (value == 'c')
            continue;
        if (value == 'h') {
            print_help(set);
            return OPTIONS_EXIT;
        }
        if (value == 'V') {
            printf("%s %s\n", set->program, SANREWIND_VERSION);
            return OPTIONS_EXIT;
        }
        const struct option_row *row = row_of_value(set, value);
        if (row == NULL)
            return refuse(set, value, argv, err);
        code = row->set(into, row->argument != NULL ? optarg : "", err);
        if (code < 0)
            return code;
    }
    *first_operand = optind;
    return OPTIONS_DONE;
}

static int bad_number(const char *name, const char *value, uint64_t min, uint64_t max,
                      struct error *err) {
    return error_set(err, ERR_USAGE, "--%s: '%s' is not a number from %llu to %llu", name, value,
                     (unsigned long long)min, (unsigned long long)max);
}

static int parse_number(const char *value, const char **rest, uint64_t *to) {
    if (!isdigit((unsigned char)value[0]))
        return ERR_USAGE;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno != 0)
        return ERR_USAGE;
    *rest = end;
    *to = number;
    return 0;
}

int options_number(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *to,
                   struct error *err) {
    const char *rest;
    uint64_t number;
    if (parse_number(value, &rest, &number) < 0 || *rest != '\0' || number < min || number > max)
        return bad_number(name, value, min, max, err);
    *to = number;
    return 0;
}

int options_bytes(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *to,
                  struct error *err) {
    static const char units[] = "KMGT";
    const char *rest;
    uint64_t number;
    if (parse_number(value, &rest, &number) < 0)
        return bad_number(name, value, min, max, err);
    const char *unit = *rest != '\0' ? strchr(units, toupper((unsigned char)*rest)) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    bool trailing = unit != NULL ? rest[1] != '\0' : *rest != '\0';
    if (trailing || number > UINT64_MAX >> shift)
        return bad_number(name, value, min, max, err);
    number <<= shift;
    if (number < min || number > max)
        return bad_number(name, value, min, max, err);
    *to = number;
    return 0;
}

static uint64_t unit_ns(const char *unit) {
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"ms", 1000 * 1000},
                 {"s", 1000 * 1000 * 1000},
                 {"m", UINT64_C(60) * 1000 * 1000 * 1000},
                 {"h", UINT64_C(3600) * 1000 * 1000 * 1000}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].name) == 0)
            return units[i].ns;
    }
    return 0;
}

int options_duration(const char *name, const char *value, uint64_t min_ns, uint64_t max_ns,
                     uint64_t *to_ns, struct error *err) {
    const char *rest = "";
    uint64_t number = 0;
    uint64_t unit = parse_number(value, &rest, &number) == 0 ? unit_ns(rest) : 0;
    if (unit == 0)
        return error_set(err, ERR_USAGE, "--%s: '%s' is not a length of time such as 250us or 2ms",
                         name, value);
    if (number > UINT64_MAX / unit || number * unit < min_ns || number * unit > max_ns)
        return error_set(err, ERR_USAGE, "--%s: '%s' is not between %lluns and %lluns", name, value,
                         (unsigned long long)min_ns, (unsigned long long)max_ns);
    *to_ns = number * unit;
    return 0;
}
