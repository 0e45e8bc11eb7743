/* An image opened for reading: its facts, its gaps, its bytes. */
#include "proto/lun.h"
#include "recoveryd/control/commands.h"

#include <inttypes.h>

enum { GAPS_AT_ONCE = 20000 };

static json_t *reached_fact(const struct snapshot *s, const struct stamp *stamp) {
    if (stamp->time_ns == 0)
        return json_null();
    json_t *reached = json_object();
    fact_put_time(reached, "time", stamp->time_ns);
    json_object_set_new(reached, "monitor", fact_monitor_name(s, stamp->monitor));
    json_object_set_new(reached, "stream", fact_number(stamp->stream));
    json_object_set_new(reached, "order", fact_number(stamp->order));
    return reached;
}

static json_t *image_fact(const struct snapshot *s, const struct lease *lease) {
    const struct image_info *info = image_info(lease->image);
    char view[17];
    snprintf(view, sizeof view, "%016" PRIx64, lease->fingerprint);
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:o,s:s}", "image",
                     fact_number(lease->id), "volume", fact_text(lease->volume.name), "id",
                     fact_text(lease->volume.id), "size_bytes", fact_number(info->size_bytes),
                     "block_size", fact_number(info->block_bytes), "time_ns",
                     fact_number(info->time_ns), "reached", reached_fact(s, &info->reached),
                     "updates", fact_number(info->updates), "exact", lease->gap_count == 0, "gaps",
                     fact_number(lease->gap_count), "view", view);
}

int command_image_open(struct control *c, const json_t *request, json_t **result,
                       struct buffer *data, struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const char *volume;
    uint64_t time_ns;
    uint64_t size_bytes;
    struct lease *lease;
    (void)data;
    int code = argument_string(request, "volume", &volume, err);
    if (code == 0)
        code = argument_number(request, "time_ns", 0, &time_ns, err);
    if (code == 0)
        code = argument_number(request, "size_bytes", 0, &size_bytes, err);
    if (code == 0)
        code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = leases_open(c->leases, volume, time_ns, size_bytes, &lease, err);
    if (code < 0)
        return code;
    *result = image_fact(&s, lease);
    leases_drop(c->leases, lease);
    return 0;
}

int command_image_chunk(struct control *c, const json_t *request, json_t **result,
                        struct buffer *data, struct error *err) {
    uint64_t image;
    uint64_t chunk;
    size_t bytes = 0;
    bool all_zero = false;
    int code = argument_number(request, "image", 0, &image, err);
    if (code == 0)
        code = argument_number(request, "chunk", 0, &chunk, err);
    if (code < 0)
        return code;
    if (data == NULL || !buffer_reserve(data, INDEX_CHUNK_BYTES))
        return error_set(err, ERR_NOMEM, "out of memory");
    code = control_chunk(c, image, chunk, data->data + data->length, &bytes, &all_zero, err);
    if (code < 0)
        return code;
    if (!all_zero)
        data->length += bytes;
    *result = json_pack("{s:o,s:b}", "bytes", fact_number(bytes), "zero", all_zero);
    return 0;
}

static bool see_event(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset_bytes,
                      uint64_t length_bytes) {
    struct stamp *wanted = context;
    (void)offset_bytes;
    (void)length_bytes;
    if (op != UPDATE_FLUSH && stamp_compare(stamp, wanted) == 0)
        *wanted = (struct stamp){0}; /* found */
    return wanted->time_ns != 0;
}

/* On which path it was that something changed which may have changed the volume. */
static void say_stranger(struct index_reader *r, const struct volume *v,
                         const struct image_gap *gap, char text[LIMIT_REASON_BYTES + 1]) {
    for (size_t i = 0; i < v->stranger_count; i++) {
        const struct path_entry *path = v->strangers[i];
        struct stamp wanted = gap->since;
        char name[PATH_NAME_BYTES];
        char why[LIMIT_REASON_BYTES + 1] = "";
        index_each_event(r, path->path, gap->since_ns, gap->since_ns, see_event, &wanted, NULL);
        if (wanted.time_ns != 0)
            index_gap_text(r, path->path, &gap->since, why, NULL);
        if (wanted.time_ns != 0 && why[0] == '\0')
            continue;
        volume_path_name(path, name, sizeof name);
        snprintf(text, LIMIT_REASON_BYTES + 1, "%s may be the same volume%s%s", name,
                 why[0] != '\0' ? ": " : "", why);
        return;
    }
    if (v->crowded)
        snprintf(text, LIMIT_REASON_BYTES + 1,
                 "there are more paths of unknown names than can be told apart");
}

/* The sentence that came with the gap, when it has one. */
static void put_text(json_t *fact, struct index_reader *r, const struct volume *v,
                     const struct image_gap *gap) {
    char text[LIMIT_REASON_BYTES + 1] = "";
    for (size_t i = 0; gap->reason != 0 && text[0] == '\0' && i < v->path_count; i++)
        index_gap_text(r, v->paths[i].path, &gap->since, text, NULL);
    if (gap->reason == GAP_STRANGER && text[0] == '\0')
        say_stranger(r, v, gap, text);
    if (text[0] != '\0')
        json_object_set_new(fact, "text", fact_text(text));
}

static json_t *gap_fact(const struct image_gap *gap) {
    json_t *fact = json_pack("{s:o,s:o,s:s}", "offset_bytes", fact_number(gap->offset_bytes),
                             "length_bytes", fact_number(gap->length_bytes), "reason",
                             gap->reason == 0 ? "never seen, and no baseline"
                                              : record_gap_reason(gap->reason));
    fact_put_time(fact, "since", gap->since_ns);
    return fact;
}

/* From gap number `from` on, as many as fit into one answer; {"gaps": [...], "total": N}. */
int command_image_gaps(struct control *c, const json_t *request, json_t **result,
                       struct buffer *data, struct error *err) {
    uint64_t image;
    uint64_t from;
    struct lease *lease;
    (void)data;
    int code = argument_number(request, "image", 0, &image, err);
    if (code == 0)
        code = argument_number(request, "from", 0, &from, err);
    if (code == 0)
        code = leases_hold(c->leases, image, &lease, err);
    if (code < 0)
        return code;
    AUTO(index_reader) reader = NULL;
    code = index_read(c->store->index, &reader, err);
    if (code < 0) {
        leases_drop(c->leases, lease);
        return code;
    }
    json_t *gaps = json_array();
    for (size_t i = from; i < lease->gap_count && i - from < GAPS_AT_ONCE; i++) {
        json_t *fact = gap_fact(&lease->gaps[i]);
        put_text(fact, reader, &lease->volume, &lease->gaps[i]);
        json_array_append_new(gaps, fact);
    }
    *result = json_pack("{s:o,s:o}", "gaps", gaps, "total", fact_number(lease->gap_count));
    leases_drop(c->leases, lease);
    return 0;
}

int command_image_close(struct control *c, const json_t *request, json_t **result,
                        struct buffer *data, struct error *err) {
    uint64_t image;
    (void)data;
    int code = argument_number(request, "image", 0, &image, err);
    if (code < 0)
        return code;
    leases_close(c->leases, image);
    *result = json_object();
    return 0;
}
