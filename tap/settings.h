/*
 * settings: what tapd was told on its command line and in its configuration file.
 */
#ifndef SANREWIND_TAP_SETTINGS_H
#define SANREWIND_TAP_SETTINGS_H

#include "common/error.h"
#include "common/log.h"
#include "proto/limits.h"
#include "tap/decap/device_time.h"
#include "tap/pipeline.h"
#include "tap/publish/spool.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SETTINGS_SOURCES = 64,
    SETTINGS_LOGS = SPOOL_SINKS - 1,
    SETTINGS_LIVE_AUDIT = 64, /* unless told otherwise: one READ in so many is compared */
};

struct settings {
    const char *interfaces[SETTINGS_SOURCES];
    unsigned interface_count;
    const char *files[SETTINGS_SOURCES];
    unsigned file_count;
    const char *to; /* endpoint, or "null:" */
    const char *logs[SETTINGS_LOGS];
    unsigned log_count;
    uint64_t required; /* how many of all these must have a record; 0: all */
    enum spool_full full;
    bool full_is_set;
    uint64_t buffer_bytes;
    uint64_t spool_bytes;
    char monitor[LIMIT_NAME_BYTES + 1];
    bool decode;
    bool list_interfaces;
    bool json;
    enum device_clock clock;
    const char *filter;
    const char *fcid_map; /* a file; NULL: none */
    const char *spool;    /* a directory; NULL: nothing is kept on disk */
    uint64_t lanes;
    uint64_t ring_bytes;
    uint64_t connect_timeout_s;
    uint64_t clock_error_ns; /* 0: what the kernel says of a live clock */
    bool identify;           /* ask portals who they are */
    const char *identify_as; /* InitiatorName; NULL: made from the host's name */
    const char *identify_chap;
    bool audit_is_set;
    struct pipeline_options pipeline;
    enum log_level log_level;
    char *owned[SETTINGS_SOURCES * 3]; /* copies of values: a configuration file's do not last */
    unsigned owned_count;
};

#define SETTINGS_NULL_SINK "null:"

void settings_init(struct settings *s);
void settings_release(struct settings *s);
/* As options_parse(): OPTIONS_DONE, OPTIONS_EXIT, or an error. Checks that they make sense
 * together. */
int settings_parse(struct settings *s, int argc, char **argv, struct error *err);

#endif
