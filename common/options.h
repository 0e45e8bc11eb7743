/*
 * options: one table per program serves the command line, the configuration file and --help.
 *
 * A configuration file is INI: "name = value" lines with the long names of the table, '#' or ';'
 * comments. What the command line says wins over the file, except that repeatable options add up.
 * Parsing never exits: a wrong flag is ERR_USAGE with the sentence to print.
 */
#ifndef SANREWIND_COMMON_OPTIONS_H
#define SANREWIND_COMMON_OPTIONS_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

struct option_row {
    char letter;          /* short form, or 0 */
    const char *name;     /* long form, without the dashes; NULL ends the table */
    const char *argument; /* what the value is called in the help, or NULL for a switch */
    const char *help;     /* one line; NULL hides the option */
    /* Takes the value ("" for a switch) into `into`; 0 or ERR_USAGE with the sentence. */
    int (*set)(void *into, const char *value, struct error *err);
};

struct option_set {
    const char *program;
    const char *usage;   /* the synopsis behind "usage: " */
    const char *summary; /* one or two sentences */
    const struct option_row *rows;
};

enum options_outcome {
    OPTIONS_DONE = 0, /* go on */
    OPTIONS_EXIT = 1, /* --help or --version was printed: exit 0 */
};

/*
 * Parses argv into `into`. Options and operands may be mixed, unless `stop_at_operand`, which
 * leaves a command and what follows alone. *first_operand is set to the index of the first operand;
 * operands are moved behind the options. -h/--help, -V/--version and -c/--config FILE are
 * understood on their own. Returns OPTIONS_DONE, OPTIONS_EXIT, or ERR_USAGE/ERR_IO with the
 * sentence in err.
 */
int options_parse(const struct option_set *set, void *into, int argc, char **argv,
                  bool stop_at_operand, int *first_operand, struct error *err);

/* The configuration file alone. Unknown names are refused with the line. */
int options_parse_file(const struct option_set *set, void *into, const char *path,
                       struct error *err);

/* Numbers for `set` functions: decimal, whole string, within [min, max]. */
int options_number(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *to,
                   struct error *err);
/* The same with an optional K, M, G or T (powers of 1024) behind. */
int options_bytes(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *to,
                  struct error *err);

/* A length of time, in ns, with its unit: ns, us, ms, s, m or h. */
int options_duration(const char *name, const char *value, uint64_t min_ns, uint64_t max_ns,
                     uint64_t *to_ns, struct error *err);

#endif
