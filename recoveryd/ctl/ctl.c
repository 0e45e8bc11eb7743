#include "recoveryd/ctl/ctl.h"

#include "common/clock.h"
#include "proto/when.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define DEFAULT_SERVER "tcp://127.0.0.1:9440"

struct command {
    const char *name;
    ctl_function *run;
    const char *description;
};

static const struct command commands[] = {
    {"status", ctl_status, "the store, its monitors and its volumes at a glance"},
    {"monitors", ctl_monitors, "every monitor: how far it is, what it saw and lost"},
    {"volumes", ctl_volumes, "every volume: size, times, paths, whether it is exact"},
    {"window", ctl_window, "the times to which a volume can be restored"},
    {"timeline", ctl_timeline, "what happened to a volume, interval by interval"},
    {"gaps", ctl_gaps, "the ranges of a volume that are not exact, since when, and why"},
    {"restore", ctl_restore, "write volumes as they were at a time to files or a device"},
    {"baseline", ctl_baseline, "say what a volume held before its first update"},
    {"retention", ctl_retention, "how much history is kept, and how much shall be"},
    {"verify", ctl_verify, "read all that is stored, and compare it with its checksums"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int set_server(void *into, const char *value, struct error *err) {
    struct ctl *ctl = into;
    (void)err;
    ctl->server = value;
    return 0;
}

static int set_store(void *into, const char *value, struct error *err) {
    struct ctl *ctl = into;
    if (strncmp(value, "rados:", 6) == 0)
        return error_set(err, ERR_USAGE,
                         "--store: this version keeps its store in a directory; %s is not one",
                         value);
    ctl->store = value;
    return 0;
}

static const struct option_row rows[] = {
    {0, "server", "ENDPOINT", "ask this recovery server (default " DEFAULT_SERVER ")", set_server},
    {0, "store", "DIR", "read the store itself; recoveryd may run or not", set_store},
    {0},
};

static void list_commands(char *text, size_t size, const char *format) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < COMMANDS && used < size; i++) {
        int more =
            snprintf(text + used, size - used, format, commands[i].name, commands[i].description);
        used += more > 0 ? (size_t)more : 0;
    }
}

static int refuse_command(const char *name, struct error *err) {
    char names[256];
    list_commands(names, sizeof names, " %s");
    if (name == NULL)
        return error_set(err, ERR_USAGE, "which command? one of:%s; see recoveryctl --help", names);
    return error_set(err, ERR_USAGE, "'%.64s' is not a command; the commands are:%s", name, names);
}

static int run_command(struct ctl *ctl, int argc, char **argv, struct error *err) {
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, argv[0]) == 0)
            return commands[i].run(ctl, argc, argv, err);
    }
    return refuse_command(argv[0], err);
}

int ctl_run(int argc, char **argv, struct error *err) {
    struct ctl ctl = {0};
    char table[1024];
    char summary[1280];
    list_commands(table, sizeof table, "  %-10s %s\n");
    snprintf(
        summary, sizeof summary,
        "Commands (recoveryctl COMMAND --help shows the options of each):\n%s\nOptions:", table);
    struct option_set set = {
        .program = "recoveryctl",
        .usage = "recoveryctl [--server ENDPOINT | --store DIR] COMMAND [OPTION]...",
        .summary = summary,
        .rows = rows,
    };
    int operand = argc;
    int code = options_parse(&set, &ctl, argc, argv, true, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    if (operand >= argc)
        return refuse_command(NULL, err);
    if (ctl.store != NULL && ctl.server != NULL)
        return error_set(err, ERR_USAGE, "--server or --store: give one of them");
    return run_command(&ctl, argc - operand, argv + operand, err);
}

int ctl_backend(const struct ctl *ctl, bool writes, struct backend **out, struct error *err) {
    if (ctl->store != NULL)
        return backend_local(ctl->store, writes, out, err);
    return backend_remote(ctl->server != NULL ? ctl->server : DEFAULT_SERVER, out, err);
}

static int set_json(void *into, const char *value, struct error *err) {
    bool *json = into;
    (void)value;
    (void)err;
    *json = true;
    return 0;
}

int ctl_parse_simple(const struct option_set *set, int argc, char **argv, bool *json,
                     const char **volume, struct error *err) {
    static const struct option_row simple_rows[] = {
        {0, "json", NULL, "print JSON", set_json},
        {0},
    };
    struct option_set with_rows = *set;
    with_rows.rows = simple_rows;
    int operand = argc;
    int expected = volume != NULL ? 1 : 0;
    int code = options_parse(&with_rows, json, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code;
    if (argc - operand < expected)
        return error_set(err, ERR_USAGE, "which volume? see %s --help", set->program);
    if (argc - operand > expected)
        return error_set(err, ERR_USAGE, "what is '%s'? see %s --help", argv[operand + expected],
                         set->program);
    if (volume != NULL)
        *volume = argv[operand];
    return OPTIONS_DONE;
}

int ctl_print_json(const json_t *result, struct error *err) {
    if (json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) != 0 || putchar('\n') == EOF ||
        fflush(stdout) != 0)
        return error_errno(err, errno, "cannot write the answer");
    return 0;
}

int ctl_ask(const struct ctl *ctl, const json_t *request, bool json,
            void (*print)(const json_t *result), struct error *err) {
    AUTO(backend) backend = NULL;
    AUTO_JSON result = NULL;
    int code = ctl_backend(ctl, true, &backend, err);
    if (code == 0)
        code = backend->run(backend, request, &result, err);
    if (code < 0)
        return code;
    if (json)
        return ctl_print_json(result, err);
    print(result);
    return fflush(stdout) == 0 ? 0 : error_errno(err, errno, "cannot write the answer");
}

int ctl_time(const char *text, char to[512], struct error *err) {
    struct when when;
    char absolute[WHEN_TEXT_BYTES];
    int code = when_parse(text, &when, err);
    if (code < 0)
        return code;
    if (when.kind == WHEN_AGO) {
        uint64_t now = clock_wall_ns();
        text = when_print_utc(when.ns < now ? now - when.ns : 0, absolute);
    }
    snprintf(to, 512, "%s", text);
    return 0;
}

/* --- for people ----------------------------------------------------------------------------------
 */

const char *ctl_bytes_text(uint64_t bytes, char text[CTL_TEXT_BYTES]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, CTL_TEXT_BYTES, "%" PRIu64 " B", bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    snprintf(text, CTL_TEXT_BYTES, "%.1f %s", value, units[unit]);
    return text;
}

const char *ctl_duration_text(uint64_t ns, char text[CTL_TEXT_BYTES]) {
    uint64_t seconds = ns / NS_PER_SECOND;
    if (seconds < 60)
        snprintf(text, CTL_TEXT_BYTES, "%.1f s", (double)ns / (double)NS_PER_SECOND);
    else if (seconds < 3600)
        snprintf(text, CTL_TEXT_BYTES, "%" PRIu64 " min %02" PRIu64 " s", seconds / 60,
                 seconds % 60);
    else if (seconds < 2 * 86400)
        snprintf(text, CTL_TEXT_BYTES, "%" PRIu64 " h %02" PRIu64 " min", seconds / 3600,
                 seconds % 3600 / 60);
    else
        snprintf(text, CTL_TEXT_BYTES, "%" PRIu64 " days", seconds / 86400);
    return text;
}

uint64_t ctl_number(const json_t *object, const char *name) {
    json_int_t number = json_integer_value(json_object_get(object, name));
    return number > 0 ? (uint64_t)number : 0;
}

const char *ctl_string(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "-";
}
