#include "recoveryd/ctl/ctl.h"

#include "proto/when.h"

#include <inttypes.h>
#include <langinfo.h>
#include <string.h>
#include <unistd.h>

struct timeline_options {
    bool json;
    uint64_t every_ns;
};

static int set_json(void *into, const char *value, struct error *err) {
    struct timeline_options *o = into;
    (void)value;
    (void)err;
    o->json = true;
    return 0;
}

static int set_every(void *into, const char *value, struct error *err) {
    struct timeline_options *o = into;
    int code = when_parse_duration(value, &o->every_ns, err);
    return code < 0 ? error_prefix(err, "--every") : 0;
}

static const struct option_row rows[] = {
    {0, "every", "DURATION", "length of an interval, like 30s, 15m, 1h (default: 20 in all)",
     set_every},
    {0, "json", NULL, "print JSON", set_json},
    {0},
};

static const struct option_set options = {
    .program = "recoveryctl timeline",
    .usage = "recoveryctl timeline VOLUME [--every DURATION] [--json]",
    .summary =
        "What happened to a volume, interval by interval: updates, how many bytes they changed,\n"
        "how many of them only made zeros, flushes (points that a server meant to be stable),\n"
        "and gaps that began.",
    .rows = rows,
};

/* Bytes as the height of a block, one for each interval: on a terminal, where the eye finds the
 * busy hours. */
static void print_sparkline(const json_t *rows_of_result) {
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "%", "#"};
    enum { STEPS = sizeof blocks / sizeof blocks[0] - 1 };
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const json_t *row;
    uint64_t most = 0;
    size_t i;
    json_array_foreach(rows_of_result, i, row) {
        uint64_t bytes = ctl_number(row, "bytes");
        most = bytes > most ? bytes : most;
    }
    if (most == 0 || isatty(STDOUT_FILENO) == 0)
        return;
    json_array_foreach(rows_of_result, i, row) {
        uint64_t bytes = ctl_number(row, "bytes");
        uint64_t step = bytes > 0 ? 1 + (bytes - 1) / (most / STEPS + 1) : 0;
        fputs((utf8 ? blocks : ascii)[step], stdout);
    }
    printf("  bytes, at most %s in an interval\n", ctl_bytes_text(most, (char[CTL_TEXT_BYTES]){0}));
}

static void print(const json_t *rows_of_result) {
    size_t i;
    const json_t *row;
    char bytes[CTL_TEXT_BYTES];
    print_sparkline(rows_of_result);
    printf("%-30s %9s %10s %8s %8s %5s\n", "from", "updates", "bytes", "zeros", "flushes", "gaps");
    json_array_foreach(rows_of_result, i, row) {
        printf("%-30s %9" PRIu64 " %10s %8" PRIu64 " %8" PRIu64 " %5" PRIu64 "\n",
               ctl_string(row, "from"), ctl_number(row, "updates"),
               ctl_bytes_text(ctl_number(row, "bytes"), bytes), ctl_number(row, "zeros"),
               ctl_number(row, "flushes"), ctl_number(row, "gaps"));
    }
}

int ctl_timeline(struct ctl *ctl, int argc, char **argv, struct error *err) {
    struct timeline_options o = {0};
    int operand = argc;
    int code = options_parse(&options, &o, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    if (argc - operand != 1)
        return error_set(err, ERR_USAGE, "name one volume; see recoveryctl timeline --help");
    AUTO_JSON request = json_pack("{s:s,s:s}", "command", "timeline", "volume", argv[operand]);
    if (o.every_ns > 0)
        json_object_set_new(request, "every_ns", json_integer((json_int_t)o.every_ns));
    return ctl_ask(ctl, request, o.json, print, err);
}
