#include "recoveryd/control/resolve.h"

#include "common/clock.h"
#include "proto/when.h"

#include <inttypes.h>

enum { MAX_VOLUMES = LEASES };

/* All volumes are whole up to the least of their watermarks. */
static uint64_t least_watermark(const struct volume *const *volumes, size_t count) {
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (volumes[i]->watermark_ns < least)
            least = volumes[i]->watermark_ns;
    }
    return least;
}

/* --- before-write:LBA ----------------------------------------------------------------------------
 */

struct search {
    uint64_t offset_bytes;
    bool found;
    uint64_t newest_ns;
};

static bool see_piece(void *context, const struct piece *piece) {
    struct search *s = context;
    bool covers = s->offset_bytes >= piece->offset_bytes &&
                  s->offset_bytes - piece->offset_bytes < piece->length_bytes;
    bool gap = piece->kind == PIECE_GAP && piece->reason != GAP_UNRESOLVED;
    if (!covers || gap)
        return true;
    if (!s->found || piece->stamp.time_ns > s->newest_ns)
        s->newest_ns = piece->stamp.time_ns;
    s->found = true;
    return false;
}

static int before_write(const struct snapshot *s, const struct volume *v, uint64_t lba,
                        uint64_t *time_ns, struct error *err) {
    uint64_t block_bytes = v->block_bytes > 0 ? v->block_bytes : 512;
    struct search search = {0};
    if (__builtin_mul_overflow(lba, block_bytes, &search.offset_bytes))
        return error_set(err, ERR_NOT_FOUND, "%s has no block %" PRIu64, v->name, lba);
    uint64_t chunk = search.offset_bytes / INDEX_CHUNK_BYTES;
    for (size_t i = 0; i < v->path_count; i++) {
        int code = index_each_piece(s->reader, v->paths[i].path, chunk, v->watermark_ns, see_piece,
                                    &search, err);
        if (code < 0)
            return code;
    }
    if (!search.found)
        return error_set(err, ERR_NOT_FOUND, "no write to block %" PRIu64 " of %s is known", lba,
                         v->name);
    *time_ns = search.newest_ns > 0 ? search.newest_ns - 1 : 0;
    return 0;
}

/* --- all forms -----------------------------------------------------------------------------------
 */

static int find_moment(const struct snapshot *s, const struct volume *const *volumes, size_t count,
                       const struct when *when, uint64_t *time_ns, struct error *err) {
    uint64_t now = clock_wall_ns();
    switch (when->kind) {
    case WHEN_ABSOLUTE:
        *time_ns = when->ns;
        return 0;
    case WHEN_AGO:
        *time_ns = when->ns < now ? now - when->ns : 0;
        return 0;
    case WHEN_LATEST:
        *time_ns = least_watermark(volumes, count);
        return 0;
    case WHEN_BOOKMARK:
        return error_set(err, ERR_NOT_FOUND, "no bookmark %s", when->name);
    case WHEN_BEFORE_WRITE:
        if (count != 1)
            return error_set(err, ERR_USAGE, "before-write:LBA is a time of one volume");
        return before_write(s, volumes[0], when->lba, time_ns, err);
    }
    return error_set(err, ERR_USAGE, "not a TIME");
}

static int check_window(const struct volume *v, uint64_t time_ns, struct error *err) {
    char asked[WHEN_TEXT_BYTES];
    char limit[WHEN_TEXT_BYTES];
    if (v->watermark_ns == 0)
        return error_set(err, ERR_INEXACT,
                         "%s cannot be restored yet: nothing that its monitors saw is known to be "
                         "complete",
                         v->name);
    if (time_ns > v->watermark_ns)
        return error_set(err, ERR_INEXACT,
                         "%s cannot be restored to %s: it is complete up to the watermark %s; "
                         "restore to that (--latest-safe lowers a TIME to it), or wait",
                         v->name, when_print_utc(time_ns, asked),
                         when_print_utc(v->watermark_ns, limit));
    if (time_ns < v->first_ns)
        return error_set(err, ERR_INEXACT, "%s cannot be restored to %s: its history begins at %s",
                         v->name, when_print_utc(time_ns, asked),
                         when_print_utc(v->first_ns, limit));
    return 0;
}

int resolve_time(const struct snapshot *s, const struct volume *const *volumes, size_t count,
                 const char *at, bool latest_safe, struct resolved *out, struct error *err) {
    struct when when;
    int code = when_parse(at, &when, err);
    if (code == 0)
        code = find_moment(s, volumes, count, &when, &out->asked_ns, err);
    if (code < 0)
        return code;
    out->time_ns = out->asked_ns;
    if (latest_safe && out->time_ns > least_watermark(volumes, count))
        out->time_ns = least_watermark(volumes, count);
    for (size_t i = 0; i < count && code == 0; i++)
        code = check_window(volumes[i], out->time_ns, err);
    return code;
}

static int find_volumes(const struct snapshot *s, const json_t *names,
                        const struct volume **volumes, size_t *count, struct error *err) {
    *count = json_array_size(names);
    if (*count == 0 || *count > MAX_VOLUMES)
        return error_set(err, ERR_USAGE, "name 1 to %d volumes", MAX_VOLUMES);
    for (size_t i = 0; i < *count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        int code = volume_find(&s->volumes, name != NULL ? name : "", &volumes[i], err);
        if (code < 0)
            return code;
    }
    return 0;
}

int command_resolve(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                    struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const struct volume *volumes[MAX_VOLUMES];
    size_t count = 0;
    const char *at;
    struct resolved resolved;
    (void)data;
    int code = argument_string(request, "at", &at, err);
    if (code == 0)
        code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = find_volumes(&s, json_object_get(request, "volumes"), volumes, &count, err);
    if (code == 0)
        code = resolve_time(&s, volumes, count, at, argument_flag(request, "latest_safe"),
                            &resolved, err);
    if (code < 0)
        return code;
    AUTO_JSON names = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(names, fact_text(volumes[i]->name));
    *result = json_pack("{s:o,s:o,s:O}", "time_ns", fact_number(resolved.time_ns), "asked_ns",
                        fact_number(resolved.asked_ns), "volumes", names);
    return 0;
}
