/* What there is: the store, its monitors, its volumes, and the times of one. */
#include "recoveryd/control/commands.h"

#include "common/clock.h"
#include "recoveryd/index/thinned.h"
#include "recoveryd/settle/settle.h"
#include "recoveryd/store/forecast.h"

/* What can be settled is, so that all answers are the same; what cannot is a gap in them. */
static int open_settled(struct control *c, struct snapshot *s, struct error *err) {
    settle(c->store, UINT64_MAX, NULL);
    return snapshot_open(s, c->store, err);
}

static int settling_fact(const struct snapshot *s, json_t **fact, struct error *err) {
    struct waiting_counts counts;
    int code = index_count_waiting(s->reader, &counts, err);
    if (code < 0)
        return code;
    *fact = json_pack("{s:o,s:o,s:o}", "copies", fact_number(counts.derived), "unresolved",
                      fact_number(counts.stuck), "audits", fact_number(counts.audits));
    return 0;
}

/* Before a view is opened for the answer. */
static int index_fact(struct control *c, json_t **fact, struct error *err) {
    struct index_health health;
    int code = index_health(c->store->index, &health, err);
    if (code < 0)
        return code;
    *fact =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "bytes", fact_number(health.bytes),
                  "unmerged_blocks", fact_number(health.unmerged_blocks), "views",
                  fact_number(health.readers), "oldest_view_pid", fact_number(health.oldest_pid),
                  "oldest_view_commits", fact_number(health.oldest_commits), "oldest_image_seconds",
                  fact_number(leases_oldest_ns(c->leases) / NS_PER_SECOND));
    return 0;
}

static bool add_dead(void *context, uint32_t segment, uint64_t bytes) {
    uint64_t *dead = context;
    (void)segment;
    *dead += bytes;
    return true;
}

/* What the segments take, and what of it is to be given back. */
static int segments_fact(struct control *c, const struct snapshot *s, json_t **fact,
                         struct error *err) {
    struct segments_total total;
    uint64_t dead_bytes = 0;
    int code = index_each_dead(s->reader, add_dead, &dead_bytes, err);
    if (code < 0)
        return code;
    segments_sum(c->store->segments, &total);
    *fact = json_pack("{s:o,s:o,s:o,s:o}", "files", fact_number(total.files), "packed_files",
                      fact_number(total.packed_files), "disk_bytes", fact_number(total.disk_bytes),
                      "dead_bytes", fact_number(dead_bytes));
    return 0;
}

/* null when it is not known, and when there is none. */
static json_t *known(uint64_t number) {
    return number > 0 ? fact_number(number) : json_null();
}

static json_t *full_fact(enum room_full full) {
    const char *name = room_full_name(full);
    return name != NULL ? json_string(name) : json_null();
}

/* Limits are those of this process: recoveryctl --store has none. */
static int space_fact(struct control *c, json_t **fact, struct error *err) {
    struct room_state state;
    struct forecast f;
    const struct room_limits *limits = room_limits(c->store->room);
    bool waits = atomic_load(room_waiting(c->store->room)) > 0;
    int code = room_read(c->store->room, &state, err);
    if (code == 0)
        code = forecast_read(c->store->segments, state.index_bytes, clock_wall_ns(), &f, err);
    if (code < 0)
        return code;
    *fact =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:i,s:b,s:o,s:b,s:o,s:o}", "left_bytes",
                  fact_number(state.left_bytes), "capacity_bytes",
                  fact_number(state.capacity_bytes), "limit_bytes", known(limits->store_bytes),
                  "reserve_bytes", fact_number(limits->reserve_bytes), "alarm_percent",
                  known(limits->alarm_percent), "percent", (int)state.percent, "alarm",
                  (int)state.alarm, "full", full_fact(state.full), "waiting", (int)waits,
                  "bytes_per_day", f.measured_ns > 0 ? fact_number(f.bytes_per_day) : json_null(),
                  "measured_seconds", fact_number(f.measured_ns / NS_PER_SECOND));
    fact_put_time(*fact, "full_at", forecast_full_ns(&f, state.left_bytes));
    return 0;
}

int command_status(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                   struct error *err) {
    AUTO_SNAPSHOT s = {0};
    AUTO_JSON monitors = NULL;
    AUTO_JSON volumes = NULL;
    AUTO_JSON settling = NULL;
    AUTO_JSON index = NULL;
    AUTO_JSON segments = NULL;
    AUTO_JSON space = NULL;
    (void)request;
    (void)data;
    int code = index_fact(c, &index, err);
    if (code == 0)
        code = space_fact(c, &space, err);
    if (code == 0)
        code = open_settled(c, &s, err);
    if (code == 0)
        code = fact_monitors(&s, &monitors, err);
    if (code == 0)
        code = fact_volumes(c, &s, true, &volumes, err);
    if (code == 0)
        code = settling_fact(&s, &settling, err);
    if (code == 0)
        code = segments_fact(c, &s, &segments, err);
    if (code < 0)
        return code;
    *result = json_pack("{s:o,s:o,s:O,s:O,s:O,s:O,s:O,s:O}", "store", fact_text(c->store->dir),
                        "stored_bytes", fact_number(segments_total_bytes(c->store->segments)),
                        "segments", segments, "space", space, "index", index, "settling", settling,
                        "monitors", monitors, "volumes", volumes);
    fact_put_time(*result, "now", clock_wall_ns());
    return 0;
}

int command_monitors(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                     struct error *err) {
    AUTO_SNAPSHOT s = {0};
    (void)request;
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    return code < 0 ? code : fact_monitors(&s, result, err);
}

int command_volumes(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                    struct error *err) {
    AUTO_SNAPSHOT s = {0};
    (void)request;
    (void)data;
    int code = open_settled(c, &s, err);
    return code < 0 ? code : fact_volumes(c, &s, false, result, err);
}

/* An array: empty while nothing can be restored. */
int command_window(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                   struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const struct volume *v = NULL;
    struct exactness_answer answer;
    (void)data;
    int code = open_settled(c, &s, err);
    if (code == 0)
        code = snapshot_volume(&s, request, &v, err);
    if (code == 0)
        code = exactness_of(c->exactness, s.reader, v, &answer, err);
    if (code < 0)
        return code;
    *result = json_array();
    if (v->first_ns == 0 || v->watermark_ns == 0 || v->first_ns > v->watermark_ns)
        return 0;
    json_t *window = json_object();
    fact_put_time(window, "from", v->first_ns);
    fact_put_time(window, "to", v->watermark_ns);
    json_object_set_new(window, "exact", json_boolean(answer.exact));
    json_array_append_new(*result, window);
    return 0;
}
