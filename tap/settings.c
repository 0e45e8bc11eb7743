#include "tap/settings.h"

#include "common/options.h"
#include "tap/identify/identify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_LANES = 2, MAX_LANES = 16, DEFAULT_CONNECT_TIMEOUT_S = 10 };
#define MAX_CLOCK_ERROR_NS   (86400 * UINT64_C(1000000000))
#define DEFAULT_RING_BYTES   (UINT64_C(32) << 20)
#define DEFAULT_BUFFER_BYTES (UINT64_C(64) << 20)
#define DEFAULT_SPOOL_BYTES  (UINT64_C(10) << 30)

static int keep(struct settings *s, const char *value, const char **to, struct error *err) {
    if (s->owned_count == sizeof s->owned / sizeof s->owned[0])
        return error_set(err, ERR_USAGE, "too many options");
    char *copy = strdup(value);
    if (copy == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->owned[s->owned_count++] = copy;
    *to = copy;
    return 0;
}

static int add_source(struct settings *s, const char **list, unsigned *count, const char *value,
                      struct error *err) {
    if (*count == SETTINGS_SOURCES)
        return error_set(err, ERR_USAGE, "more than %d sources", SETTINGS_SOURCES);
    int code = keep(s, value, &list[*count], err);
    if (code == 0)
        (*count)++;
    return code;
}

static int set_interface(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return add_source(s, s->interfaces, &s->interface_count, value, err);
}

static int set_file(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return add_source(s, s->files, &s->file_count, value, err);
}

static int set_to(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(s, value, &s->to, err);
}

static int set_log(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    if (s->log_count == SETTINGS_LOGS)
        return error_set(err, ERR_USAGE, "more than %d LOGs", SETTINGS_LOGS);
    int code = keep(s, value, &s->logs[s->log_count], err);
    if (code == 0)
        s->log_count++;
    return code;
}

static int set_require(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    s->required = strcmp(value, "any") == 0 ? 1 : 0;
    if (s->required == 1 || strcmp(value, "all") == 0)
        return 0;
    return options_number("require", value, 1, SPOOL_SINKS, &s->required, err);
}

static int set_spool_full(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    static const char *const names[] = {
        [SPOOL_WAIT] = "wait", [SPOOL_OLDEST] = "oldest", [SPOOL_NEWEST] = "newest"};
    s->full_is_set = true;
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) == 0) {
            s->full = (enum spool_full)i;
            return 0;
        }
    }
    return error_set(err, ERR_USAGE, "--spool-full: '%s' is not oldest, newest or wait", value);
}

static int set_spool_size(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("spool-size", value, 16 << 20, UINT64_C(1) << 50, &s->spool_bytes, err);
}

static int set_buffer(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("buffer", value, 8 << 20, UINT64_C(1) << 40, &s->buffer_bytes, err);
}

static int set_monitor(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    size_t length = strlen(value);
    if (length == 0 || length > LIMIT_NAME_BYTES)
        return error_set(err, ERR_USAGE, "--monitor: a name has 1 to %d bytes", LIMIT_NAME_BYTES);
    memcpy(s->monitor, value, length + 1);
    return 0;
}

static int set_decode(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    (void)value;
    (void)err;
    s->decode = true;
    return 0;
}

static int set_interfaces(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    (void)value;
    (void)err;
    s->list_interfaces = true;
    return 0;
}

static int set_json(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    (void)value;
    (void)err;
    s->json = true;
    return 0;
}

static int set_time(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    char known[128] = "";
    size_t used = 0;
    for (enum device_clock c = CLOCK_CAPTURE; c < DEVICE_CLOCKS; c++) {
        if (strcmp(value, device_clock_name(c)) == 0) {
            s->clock = c;
            return 0;
        }
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                 c > CLOCK_CAPTURE ? ", " : "", device_clock_name(c));
    }
    return error_set(err, ERR_USAGE, "--time: '%s' is none of %s", value, known);
}

static int set_filter(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(s, value, &s->filter, err);
}

static int set_fcid_map(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(s, value, &s->fcid_map, err);
}

static int set_spool(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(s, value, &s->spool, err);
}

static int set_lanes(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_number("lanes", value, 1, MAX_LANES, &s->lanes, err);
}

static int set_ring(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("ring", value, 1 << 20, UINT64_C(1) << 30, &s->ring_bytes, err);
}

static int set_memory(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("memory", value, 32 << 20, UINT64_C(64) << 30, &s->pipeline.memory_bytes,
                         err);
}

static int set_connections(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_number("connections", value, 16, 1 << 24, &s->pipeline.connections, err);
}

static int set_connect_timeout(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_number("connect-timeout", value, 1, 86400, &s->connect_timeout_s, err);
}

static int set_clock_error(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_duration("clock-error", value, 1, MAX_CLOCK_ERROR_NS, &s->clock_error_ns, err);
}

static int set_identify(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    (void)value;
    (void)err;
    s->identify = true;
    return 0;
}

static int set_identify_as(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    if (!identify_is_initiator_name(value))
        return error_set(err, ERR_USAGE,
                         "--identify-as: '%s' is not the name of an iSCSI initiator", value);
    return keep(s, value, &s->identify_as, err);
}

static int set_identify_chap(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(s, value, &s->identify_chap, err);
}

static int set_audit(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    uint64_t number = 0;
    int code = options_number("audit", value, 0, UINT32_MAX, &number, err);
    s->audit_is_set = true;
    s->pipeline.audit_one_in = (uint32_t)number;
    return code;
}

static int set_log_level(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(value, names[i]) == 0) {
            s->log_level = (enum log_level)i;
            return 0;
        }
    }
    return error_set(err, ERR_USAGE, "--log-level: '%s' is not error, warning, info or debug",
                     value);
}

static const struct option_row rows[] = {
    {'i', "interface", "IFACE", "capture on IFACE; may be given several times", set_interface},
    {'r', "read", "FILE", "read a pcap or pcapng file (also .xz .zst .gz); several merge by time",
     set_file},
    {0, "to", "ENDPOINT", "the recovery server: tcp://HOST:PORT or ipc://PATH", set_to},
    {0, "log", "ENDPOINT", "another sink for all records, as --to; may be given several times",
     set_log},
    {0, "require", "any|all|N",
     "how many of --to and --log must have a record before it is let go of (default all)",
     set_require},
    {0, "monitor", "NAME", "this monitor's name (default: the host's)", set_monitor},
    {0, "decode", NULL, "print one JSON object per update instead of sending", set_decode},
    {0, "interfaces", NULL, "list what could be captured on, and what may lose packets there",
     set_interfaces},
    {0, "json", NULL, "with --interfaces: as JSON", set_json},
    {0, "filter", "BPF", "capture only what this expression lets through", set_filter},
    {0, "fcid-map", "FILE", "names of Fibre Channel ports whose logins are not seen: FCID WWPN",
     set_fcid_map},
    {0, "spool", "DIR",
     "keep in DIR what is not acknowledged, and what the next start needs to go on without a gap",
     set_spool},
    {0, "spool-size", "BYTES", "most that the spool may take (default 10G)", set_spool_size},
    {0, "spool-full", "WHAT",
     "when spool or buffer is full: oldest (default with -i) or newest updates become gaps, or "
     "wait "
     "(default with -r)",
     set_spool_full},
    {0, "buffer", "BYTES",
     "memory for what is not acknowledged, or not in the spool yet (default 64M)", set_buffer},
    {0, "time", "CLOCK",
     "whose stamps to use: capture (default), erspan, metamako, exablaze, exalink, arista, "
     "arista7150, vss",
     set_time},
    {0, "lanes", "N", "connections to the recovery server (default 2)", set_lanes},
    {0, "ring", "BYTES", "kernel buffer per interface (default 32M)", set_ring},
    {0, "memory", "BYTES", "bound of what is kept of traffic (default 256M)", set_memory},
    {0, "connections", "N", "most TCP connections followed at once (default 65536)",
     set_connections},
    {0, "connect-timeout", "SECONDS", "with -r: give up when no server answers (default 10)",
     set_connect_timeout},
    {0, "clock-error", "DURATION",
     "bound of the error of the packets' times, as 2ms (default: live, what the kernel says)",
     set_clock_error},
    {0, "identify", NULL,
     "ask portals for their targets' names and sizes when a session began unseen", set_identify},
    {0, "identify-as", "IQN", "with --identify: the initiator's name to log in with",
     set_identify_as},
    {0, "identify-chap", "FILE",
     "with --identify: a file (mode 0600) of two lines, user and secret", set_identify_chap},
    {0, "audit", "N",
     "compare one READ in N with the image; 0: none (default 64 with -i, 0 with -r)", set_audit},
    {0, "log-level", "LEVEL", "error, warning, info (default) or debug", set_log_level},
    {0},
};

static const struct option_set options = {
    .program = "tapd",
    .usage = "tapd (-i IFACE | -r FILE)... --to ENDPOINT [--monitor NAME] [OPTION]...\n"
             "       tapd -r FILE --decode\n"
             "       tapd --interfaces [--json]",
    .summary =
        "Watches storage traffic on a mirror port and sends every write, stamped, to a recovery\n"
        "server. With -r it ends when all that it sent is acknowledged as durable.",
    .rows = rows,
};

void settings_init(struct settings *s) {
    *s = (struct settings){.lanes = DEFAULT_LANES,
                           .ring_bytes = DEFAULT_RING_BYTES,
                           .buffer_bytes = DEFAULT_BUFFER_BYTES,
                           .spool_bytes = DEFAULT_SPOOL_BYTES,
                           .connect_timeout_s = DEFAULT_CONNECT_TIMEOUT_S,
                           .pipeline = pipeline_default_options(),
                           .log_level = LOG_LEVEL_INFO};
    if (gethostname(s->monitor, sizeof s->monitor - 1) != 0)
        strcpy(s->monitor, "monitor");
}

void settings_release(struct settings *s) {
    for (unsigned i = 0; i < s->owned_count; i++)
        free(s->owned[i]);
    s->owned_count = 0;
}

static int check_sinks(const struct settings *s, struct error *err) {
    bool nothing = s->to == NULL || strcmp(s->to, SETTINGS_NULL_SINK) == 0;
    if (s->log_count > 0 && nothing)
        return error_set(err, ERR_USAGE, "--log goes with --to a recovery server");
    if (s->required > s->log_count + 1)
        return error_set(err, ERR_USAGE, "--require %u, but of sinks (--to and --log) there are %u",
                         (unsigned)s->required, s->log_count + 1);
    return 0;
}

static int check(const struct settings *s, struct error *err) {
    if (s->list_interfaces)
        return 0;
    if (s->json)
        return error_set(err, ERR_USAGE, "--json goes with --interfaces; --decode is JSON anyway");
    if (s->interface_count == 0 && s->file_count == 0)
        return error_set(err, ERR_USAGE,
                         "nothing to watch: give -i IFACE or -r FILE; "
                         "see tapd --help");
    if (s->interface_count > 0 && s->file_count > 0)
        return error_set(err, ERR_USAGE, "-i and -r do not go together: a file's times are past");
    if (s->spool != NULL && access(s->spool, W_OK | X_OK) != 0)
        return error_errno(err, errno, "--spool: cannot write into %s", s->spool);
    if (s->decode && s->to != NULL)
        return error_set(err, ERR_USAGE, "--decode sends nothing: leave out --to");
    if (!s->decode && s->to == NULL)
        return error_set(err, ERR_USAGE, "where to? give --to ENDPOINT (or --decode)");
    int code = check_sinks(s, err);
    if (code < 0)
        return code;
    if (!s->identify && (s->identify_as != NULL || s->identify_chap != NULL))
        return error_set(err, ERR_USAGE, "nobody is asked who they are: say --identify too");
    return 0;
}

int settings_parse(struct settings *s, int argc, char **argv, struct error *err) {
    int operand = argc;
    int code = options_parse(&options, s, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code;
    if (operand < argc)
        return error_set(err, ERR_USAGE,
                         "what is '%s'? a file is given with -r, an interface with -i",
                         argv[operand]);
    return check(s, err);
}
