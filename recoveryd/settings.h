/*
 * settings: recoveryd's command line and configuration file, as values.
 */
#ifndef SANREWIND_RECOVERYD_SETTINGS_H
#define SANREWIND_RECOVERYD_SETTINGS_H

#include "common/error.h"
#include "common/log.h"
#include "recoveryd/store/pack.h"
#include "recoveryd/store/room.h"

#include <stdint.h>

struct settings {
    char *store;  /* owned */
    char *listen; /* owned */
    uint64_t workers;
    uint64_t credit_bytes;
    uint64_t memory_bytes;
    enum pack_level compress;
    uint64_t pack_after_ns;
    struct room_limits room;
    uint64_t view_limit_ns; /* 0: none */
    enum log_level log_level;
};

void settings_init(struct settings *s);
void settings_release(struct settings *s);
/* OPTIONS_DONE, OPTIONS_EXIT, or ERR_USAGE with the sentence. */
int settings_parse(struct settings *s, int argc, char **argv, struct error *err);

#endif
