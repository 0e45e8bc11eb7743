/* The image of an earlier time becomes that of a later one. */
#include "recoveryd/ctl/restore.h"

#include "common/rangeset.h"
#include "proto/when.h"
#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/progress.h"
#include "recoveryd/image/patch.h"

enum { MOST_RANGES = 1 << 24 };

struct since {
    struct view *earlier;
    struct rangeset ranges;
    struct patch_result done;
};

static int too_many(struct error *err) {
    return error_set(err, ERR_FULL, "more than %d ranges changed: restore without --since",
                     MOST_RANGES);
}

static int add_ranges(struct since *s, const json_t *ranges, struct error *err) {
    size_t i;
    const json_t *range;
    json_array_foreach(ranges, i, range) {
        json_int_t start = json_integer_value(json_array_get(range, 0));
        json_int_t end = json_integer_value(json_array_get(range, 1));
        if (start < 0 || end <= start)
            return error_set(err, ERR_NET, "the server's answer cannot be understood");
        if (!rangeset_add(&s->ranges, (uint64_t)start, (uint64_t)end))
            return too_many(err);
    }
    return 0;
}

static int read_changes(struct since *s, const struct view *v, struct error *err) {
    json_int_t from = 0;
    for (;;) {
        AUTO_JSON result = NULL;
        AUTO_JSON request =
            json_pack("{s:s,s:I,s:I,s:I}", "command", "image.changes", "image",
                      (json_int_t)v->image, "since", (json_int_t)s->earlier->image, "from", from);
        int code = v->backend->run(v->backend, request, &result, err);
        if (code == 0)
            code = add_ranges(s, json_object_get(result, "ranges"), err);
        const json_t *next = json_object_get(result, "next");
        if (code < 0 || !json_is_integer(next))
            return code;
        if (json_integer_value(next) <= from)
            return error_set(err, ERR_NET, "the server's answer cannot be understood");
        from = json_integer_value(next);
    }
}

/* Whatever was not certain then is written again: the rest of the file is as it was. */
static int add_gaps(struct since *s, uint64_t size_bytes, struct error *err) {
    AUTO_JSON gaps = NULL;
    size_t i;
    const json_t *gap;
    int code = view_gaps(s->earlier, &gaps, err);
    if (code < 0)
        return code;
    json_array_foreach(gaps, i, gap) {
        uint64_t start = ctl_number(gap, "offset_bytes");
        uint64_t end = start + ctl_number(gap, "length_bytes");
        end = end < size_bytes ? end : size_bytes;
        if (start < end && !rangeset_add(&s->ranges, start, end))
            return too_many(err);
    }
    return 0;
}

static int read_range(void *context, uint64_t offset_bytes, uint64_t length_bytes, uint8_t *to,
                      struct error *err) {
    struct view *v = context;
    return v->backend->range(v->backend, v->image, offset_bytes, length_bytes, to, err);
}

static int write_changes(struct view *v, const char *path, void *context, struct error *err) {
    struct since *s = context;
    char identity[RESTORE_IDENTITY_BYTES];
    struct progress progress;
    restore_identity(v, ctl_number(s->earlier->facts, "time_ns"), identity);
    struct patch_source source = {.context = v,
                                  .from_bytes = ctl_number(s->earlier->facts, "size_bytes"),
                                  .to_bytes = ctl_number(v->facts, "size_bytes"),
                                  .ranges = s->ranges.ranges,
                                  .range_count = s->ranges.count,
                                  .read = read_range,
                                  .identity = identity};
    struct patch_options options = {.progress = progress_show, .progress_context = &progress};
    progress_begin(&progress, ctl_string(v->facts, "volume"));
    int code = patch_file(&source, path, &options, &s->done, err);
    progress_end(&progress);
    return code;
}

static json_t *facts_of(const struct since *s, const struct view *v, const char *path,
                        const json_t *resolved) {
    char text[WHEN_TEXT_BYTES];
    uint64_t since_ns = ctl_number(s->earlier->facts, "time_ns");
    json_t *facts = restore_facts(v, path, resolved);
    json_object_set_new(facts, "since", json_string(when_print_utc(since_ns, text)));
    json_object_set_new(facts, "since_ns", json_integer((json_int_t)since_ns));
    json_object_set_new(facts, "sha256", json_null());
    json_object_set_new(facts, "ranges", json_integer((json_int_t)s->ranges.count));
    json_object_set_new(facts, "written_bytes", json_integer((json_int_t)s->done.written_bytes));
    json_object_set_new(facts, "resumed", json_boolean(s->done.resumed));
    return facts;
}

int restore_since(struct view *v, struct view *since, const char *path, const json_t *resolved,
                  json_t **result, struct error *err) {
    struct since s = {.earlier = since};
    rangeset_init(&s.ranges, MOST_RANGES);
    int code = read_changes(&s, v, err);
    if (code == 0 && !view_is_exact(since))
        code = add_gaps(&s, ctl_number(v->facts, "size_bytes"), err);
    if (code == 0)
        code = restore_beside(v, path, write_changes, &s, err);
    if (code == 0)
        *result = facts_of(&s, v, path, resolved);
    rangeset_release(&s.ranges);
    return code;
}
