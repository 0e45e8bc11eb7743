#include "recoveryd/settings.h"

#include "common/clock.h"
#include "common/options.h"
#include "recoveryd/store/store.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_LISTEN       "tcp://127.0.0.1:9440"
#define DEFAULT_CREDIT_BYTES (UINT64_C(32) << 20)
#define DEFAULT_MEMORY_BYTES (UINT64_C(256) << 20)

enum { DEFAULT_WORKERS = 2, MAX_WORKERS = 64 };

static int keep(char **to, const char *value, struct error *err) {
    char *copy = strdup(value);
    if (copy == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    free(*to);
    *to = copy;
    return 0;
}

static int set_store(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    if (value[0] == '\0')
        return error_set(err, ERR_USAGE, "--store: which directory?");
    if (strncmp(value, "rados:", 6) == 0)
        return error_set(err, ERR_USAGE,
                         "--store: this version keeps its store in a directory; %s is not one",
                         value);
    return keep(&s->store, value, err);
}

static int set_listen(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return keep(&s->listen, value, err);
}

static int set_workers(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_number("workers", value, 1, MAX_WORKERS, &s->workers, err);
}

static int set_credit(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("credit", value, UINT64_C(8) << 20, UINT64_C(1) << 30, &s->credit_bytes,
                         err);
}

static int set_memory(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("memory", value, UINT64_C(16) << 20, UINT64_C(1) << 40, &s->memory_bytes,
                         err);
}

static int set_compress(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    static const char *const names[] = {
        [PACK_OFF] = "off", [PACK_FAST] = "fast", [PACK_SMALL] = "small"};
    for (int i = PACK_OFF; i <= PACK_SMALL; i++) {
        if (strcmp(value, names[i]) == 0) {
            s->compress = (enum pack_level)i;
            return 0;
        }
    }
    return error_set(err, ERR_USAGE, "--compress: '%s' is not off, fast or small", value);
}

static int set_pack_after(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_duration("pack-after", value, NS_PER_SECOND, 24 * 3600 * NS_PER_SECOND,
                            &s->pack_after_ns, err);
}

static int set_store_limit(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("store-limit", value, UINT64_C(1) << 20, INT64_MAX, &s->room.store_bytes,
                         err);
}

static int set_reserve(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_bytes("reserve", value, 0, INT64_MAX, &s->room.reserve_bytes, err);
}

static int set_alarm_level(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_number("alarm-level", value, 0, 100, &s->room.alarm_percent, err);
}

static int set_view_limit(void *into, const char *value, struct error *err) {
    struct settings *s = into;
    return options_duration("view-limit", value, NS_PER_SECOND, INT64_MAX, &s->view_limit_ns, err);
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
    {0, "store", "DIR", "the recovery store; made when it is not there yet", set_store},
    {0, "listen", "ENDPOINT", "tcp://ADDRESS:PORT or ipc://PATH (default " DEFAULT_LISTEN ")",
     set_listen},
    {0, "workers", "N", "threads that write payloads (default 2)", set_workers},
    {0, "credit", "BYTES", "what a monitor may have unacknowledged (default 32M)", set_credit},
    {0, "memory", "BYTES", "batches held in memory over all monitors (default 256M)", set_memory},
    {0, "compress", "HOW", "pack full segments: off, fast (LZ4, default) or small (Zstandard)",
     set_compress},
    {0, "pack-after", "TIME", "leave segments alone for so long after the last write (default 10m)",
     set_pack_after},
    {0, "store-limit", "BYTES", "the store takes no more than this (default: the disk's size)",
     set_store_limit},
    {0, "reserve", "BYTES", "of the file system, kept free (default 0)", set_reserve},
    {0, "alarm-level", "PERCENT", "say so when the store is so full (default 90; 0: never)",
     set_alarm_level},
    {0, "view-limit", "DURATION", "how long an image may be open for reading (default: no limit)",
     set_view_limit},
    {0, "log-level", "LEVEL", "error, warning, info (default) or debug", set_log_level},
    {0},
};

static const struct option_set options = {
    .program = "recoveryd",
    .usage = "recoveryd --store DIR [--listen ENDPOINT] [OPTION]...",
    .summary =
        "Receives what monitors (tapd) saw, makes it durable, and acknowledges it. recoveryctl\n"
        "restores any volume as it was at any time, with recoveryd running or not.",
    .rows = rows,
};

void settings_init(struct settings *s) {
    *s = (struct settings){.workers = DEFAULT_WORKERS,
                           .credit_bytes = DEFAULT_CREDIT_BYTES,
                           .memory_bytes = DEFAULT_MEMORY_BYTES,
                           .compress = PACK_FAST,
                           .pack_after_ns = STORE_PACK_QUIET_NS,
                           .room = {.alarm_percent = ROOM_ALARM_PERCENT},
                           .log_level = LOG_LEVEL_INFO};
}

void settings_release(struct settings *s) {
    free(s->store);
    free(s->listen);
    *s = (struct settings){0};
}

int settings_parse(struct settings *s, int argc, char **argv, struct error *err) {
    int operand = argc;
    int code = keep(&s->listen, DEFAULT_LISTEN, err);
    if (code == 0)
        code = options_parse(&options, s, argc, argv, false, &operand, err);
    if (code != OPTIONS_DONE)
        return code;
    if (operand < argc)
        return error_set(err, ERR_USAGE, "what is '%s'? see recoveryd --help", argv[operand]);
    if (s->store == NULL)
        return error_set(err, ERR_USAGE, "where is the store? give --store DIR");
    return 0;
}
