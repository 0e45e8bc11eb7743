/*
 * ctl: recoveryctl's commands, one to a file, and what they share.
 */
#ifndef SANREWIND_RECOVERYD_CTL_H
#define SANREWIND_RECOVERYD_CTL_H

#include "common/error.h"
#include "common/options.h"
#include "recoveryd/ctl/backend.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct ctl {
    const char *server; /* endpoint; NULL: the default */
    const char *store;  /* directory; NULL: ask the server */
};

/* argv[0] is the command's name. 0, or an error with its sentence. */
typedef int ctl_function(struct ctl *ctl, int argc, char **argv, struct error *err);

ctl_function ctl_status;
ctl_function ctl_monitors;
ctl_function ctl_volumes;
ctl_function ctl_window;
ctl_function ctl_timeline;
ctl_function ctl_gaps;
ctl_function ctl_restore;
ctl_function ctl_baseline;
ctl_function ctl_retention;
ctl_function ctl_verify;

/* Parses the whole command line and runs the command: recoveryctl but for main(). */
int ctl_run(int argc, char **argv, struct error *err);

/* The backend that the command line chose. `writes`: the command changes the store. */
int ctl_backend(const struct ctl *ctl, bool writes, struct backend **out, struct error *err);

/*
 * Options of a command that has only --json and up to one operand, "VOLUME": OPTIONS_DONE,
 * OPTIONS_EXIT or an error. `volume` NULL: the command takes none.
 */
int ctl_parse_simple(const struct option_set *set, int argc, char **argv, bool *json,
                     const char **volume, struct error *err);

/* Asks, and prints the result as JSON or through `print`. */
int ctl_ask(const struct ctl *ctl, const json_t *request, bool json,
            void (*print)(const json_t *result), struct error *err);
int ctl_print_json(const json_t *result, struct error *err);

/*
 * TIME as the server should see it: "15 minutes ago" counts from now on this machine, once for all
 * volumes. ERR_USAGE: not a TIME.
 */
int ctl_time(const char *text, char to[512], struct error *err);

/* --- for people ----------------------------------------------------------------------------------
 */

enum { CTL_TEXT_BYTES = 48 };

/* "24.0 MiB". */
const char *ctl_bytes_text(uint64_t bytes, char text[CTL_TEXT_BYTES]);
/* "0.3 s", "2 h 05 min". */
const char *ctl_duration_text(uint64_t ns, char text[CTL_TEXT_BYTES]);
uint64_t ctl_number(const json_t *object, const char *name);
/* "-" for null. */
const char *ctl_string(const json_t *object, const char *name);

#endif
