/* What a volume held before its first update, or at a known moment. */
#include "recoveryd/control/commands.h"
#include "recoveryd/control/resolve.h"

#include "common/clock.h"
#include "proto/when.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/volume_kept.h"

#include <string.h>

/* A baseline may lie before the first update, so that only the future is refused. */
static int moment_of(const char *at, uint64_t *time_ns, struct error *err) {
    struct when when;
    uint64_t now = clock_wall_ns();
    *time_ns = 0;
    if (at == NULL)
        return 0;
    int code = when_parse(at, &when, err);
    if (code < 0)
        return code;
    if (when.kind == WHEN_AGO)
        when.ns = when.ns < now ? now - when.ns : 0;
    else if (when.kind != WHEN_ABSOLUTE)
        return error_set(err, ERR_USAGE, "--at: a baseline shows a moment of the clock, like %s",
                         "2026-11-23T21:02:39.5Z, @1795404207.5 or -15m");
    *time_ns = when.ns;
    return 0;
}

/* What lies above a baseline of a moment that was thinned out may be gone. */
static int check_kept(const struct snapshot *s, const struct volume *v, uint64_t time_ns,
                      struct error *err) {
    char after[WHEN_TEXT_BYTES];
    struct volume_kept kept;
    if (time_ns == 0)
        return 0;
    int code = volume_kept_at(s->reader, v, time_ns, false, &kept, err);
    if (code != 0 || kept.kept)
        return code;
    return error_set(err, ERR_INEXACT,
                     "of %s, retention has not left that moment: a baseline of it would be of no "
                     "use; the next moment that is kept is %s",
                     v->name, when_print_utc(kept.after_ns, after));
}

int command_baseline(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                     struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const struct volume *v = NULL;
    const char *from;
    struct baseline_options options = {0};
    struct baseline_result done;
    (void)data;
    int code = argument_string(request, "from", &from, err);
    if (code == 0)
        code = argument_number(request, "size_bytes", 0, &options.size_bytes, err);
    if (code == 0)
        code = moment_of(argument_optional(request, "at"), &options.time_ns, err);
    if (code == 0)
        code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = snapshot_volume(&s, request, &v, err);
    if (code == 0)
        code = check_kept(&s, v, options.time_ns, err);
    if (code < 0)
        return code;
    options.file = strcmp(from, "zeros") == 0 ? NULL : from;
    code = baseline_from_file(c->store, v, &options, &done, err);
    if (code < 0)
        return code;
    *result = json_pack("{s:o,s:o,s:o,s:o}", "volume", fact_text(v->name), "from", fact_text(from),
                        "size_bytes", fact_number(done.size_bytes), "stored_bytes",
                        fact_number(done.stored_bytes));
    fact_put_time(*result, "at", options.time_ns);
    return 0;
}
