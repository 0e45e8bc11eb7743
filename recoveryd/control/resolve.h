/*
 * resolve: the TIME that somebody typed, as a moment to which all of the named volumes can be
 * restored.
 */
#ifndef SANREWIND_RECOVERYD_RESOLVE_H
#define SANREWIND_RECOVERYD_RESOLVE_H

#include "recoveryd/control/commands.h"

struct resolved {
    uint64_t time_ns;
    uint64_t asked_ns; /* greater when it was lowered to the watermark */
};

/*
 * ERR_USAGE: TIME is none; ERR_NOT_FOUND: a bookmark or a write that is not there; ERR_INEXACT:
 * before the first or beyond the last restorable time of a volume, with what to do. `latest_safe`
 * lowers a time that is too late.
 */
int resolve_time(const struct snapshot *s, const struct volume *const *volumes, size_t count,
                 const char *at, bool latest_safe, struct resolved *out, struct error *err);

#endif
