#include "recoveryd/control/commands.h"

#include "common/clock.h"
#include "proto/lun.h"
#include "proto/when.h"
#include "recoveryd/image/image.h"

#include <inttypes.h>
#include <string.h>

/* --- values --------------------------------------------------------------------------------------
 */

json_t *fact_number(uint64_t number) {
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

json_t *fact_text(const char *text) {
    json_t *fact = json_string(text);
    if (fact != NULL)
        return fact;
    AUTO_FREE char *plain = strdup(text);
    for (char *c = plain; c != NULL && *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    return json_string(plain);
}

void fact_put_time(json_t *object, const char *name, uint64_t time_ns) {
    char text[WHEN_TEXT_BYTES];
    char name_ns[32];
    snprintf(name_ns, sizeof name_ns, "%s_ns", name);
    json_object_set_new(object, name,
                        time_ns == 0 ? json_null() : json_string(when_print_utc(time_ns, text)));
    json_object_set_new(object, name_ns, fact_number(time_ns));
}

/* --- volumes -------------------------------------------------------------------------------------
 */

static const char *protocol_name(uint8_t protocol) {
    switch (protocol) {
    case PATH_ISCSI:
        return "iscsi";
    case PATH_FCP:
        return "fcoe";
    case PATH_NVME:
        return "nvme";
    default:
        return "unknown";
    }
}

static json_t *lun_fact(uint64_t field) {
    char text[LUN_TEXT_BYTES];
    uint64_t number = lun_number(field);
    return number != UINT64_MAX ? fact_number(number) : json_string(lun_text(field, text));
}

static json_t *paths_fact(const struct volume *v) {
    json_t *paths = json_array();
    for (size_t i = 0; i < v->path_count; i++)
        json_array_append_new(paths, json_pack("{s:s,s:o,s:o}", "protocol",
                                               protocol_name(v->paths[i].protocol), "target",
                                               fact_text(v->paths[i].target), "lun",
                                               lun_fact(v->paths[i].lun)));
    return paths;
}

/*
 * Whether the newest image that can be restored is exact, and how many ranges of it are not. A
 * volume that cannot be restored says why.
 */
static int put_exactness(struct control *c, const struct snapshot *s, const struct volume *v,
                         json_t *fact, struct error *err) {
    struct exactness_answer answer;
    int code = exactness_of(c->exactness, s->reader, v, &answer, err);
    if (code < 0)
        return code;
    if (answer.why[0] != '\0')
        json_object_set_new(fact, "why", fact_text(answer.why));
    json_object_set_new(fact, "exact", json_boolean(answer.exact));
    json_object_set_new(fact, "gaps", fact_number(answer.gaps));
    return 0;
}

/* Over all paths. */
static int put_audited(const struct snapshot *s, const struct volume *v, json_t *fact,
                       struct error *err) {
    struct audited_entry all = {0};
    for (size_t i = 0; i < v->path_count; i++) {
        struct audited_entry one;
        int code = index_get_audited(s->reader, v->paths[i].path, &one, err);
        if (code < 0)
            return code;
        audited_entry_merge(&all, &one);
    }
    json_t *audited =
        json_pack("{s:o,s:o,s:o,s:o,s:o}", "audits", fact_number(all.audits), "blocks",
                  fact_number(all.blocks), "skipped", fact_number(all.skipped), "proven",
                  fact_number(all.proven), "mismatches", fact_number(all.mismatches));
    fact_put_time(audited, "last_mismatch", all.mismatch_ns);
    if (all.mismatch_ns != 0) {
        json_object_set_new(audited, "mismatch_offset_bytes", fact_number(all.mismatch_offset));
        json_object_set_new(audited, "mismatch_length_bytes", fact_number(all.mismatch_length));
    }
    json_object_set_new(fact, "audited", audited);
    return 0;
}

static json_t *identity_fact(const struct volume *v) {
    json_t *fact = json_pack("{s:o,s:o,s:o,s:o}", "volume", fact_text(v->name), "id",
                             fact_text(v->id), "size_bytes", fact_number(v->size_bytes),
                             "block_size", fact_number(v->block_bytes));
    fact_put_time(fact, "first", v->first_ns);
    fact_put_time(fact, "latest", v->watermark_ns);
    fact_put_time(fact, "newest_update", v->latest_ns);
    if (v->provisional)
        json_object_set_new(fact, "provisional", json_true());
    return fact;
}

static int volume_fact(struct control *c, const struct snapshot *s, const struct volume *v,
                       bool audits, json_t **out, struct error *err) {
    AUTO_JSON fact = identity_fact(v);
    if (fact == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = put_exactness(c, s, v, fact, err);
    if (code == 0 && audits)
        code = put_audited(s, v, fact, err);
    if (code < 0)
        return code;
    json_object_set_new(fact, "paths", paths_fact(v));
    *out = json_incref(fact);
    return 0;
}

int fact_volumes(struct control *c, const struct snapshot *s, bool audits, json_t **result,
                 struct error *err) {
    AUTO_JSON volumes = json_array();
    for (size_t i = 0; i < s->volumes.count; i++) {
        json_t *fact = NULL;
        int code = volume_fact(c, s, &s->volumes.volumes[i], audits, &fact, err);
        if (code < 0)
            return code;
        json_array_append_new(volumes, fact);
    }
    *result = json_incref(volumes);
    return 0;
}

/* --- monitors ------------------------------------------------------------------------------------
 */

/* A monitor over all of its starts. */
struct monitor {
    char name[LIMIT_NAME_BYTES + 1];
    uint64_t id;
    uint64_t starts;
    uint64_t newest_stream;
    bool ended; /* the newest start did */
    uint64_t first_ns;
    uint64_t newest_frontier_ns;
    uint64_t greatest_frontier_ns;
    uint64_t heard_ns;
    uint64_t updates;
    uint64_t bytes;
    uint64_t packets;
    uint64_t dropped;
    uint64_t clock_error_ns; /* of the newest start */
    uint64_t clock_error_max_ns;
};

struct monitor_list {
    struct monitor *monitors;
    size_t count;
};

static struct monitor *monitor_of(struct monitor_list *list, const struct stream_entry *entry) {
    for (size_t i = 0; i < list->count; i++) {
        if (list->monitors[i].id == entry->monitor)
            return &list->monitors[i];
    }
    struct monitor *grown = realloc(list->monitors, (list->count + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    list->monitors = grown;
    struct monitor *monitor = &grown[list->count++];
    *monitor = (struct monitor){.id = entry->monitor, .first_ns = entry->first_ns};
    memcpy(monitor->name, entry->name, sizeof monitor->name);
    return monitor;
}

static bool add_stream(void *context, const struct stream_entry *entry) {
    struct monitor *m = monitor_of(context, entry);
    if (m == NULL)
        return false;
    m->starts++;
    if (entry->stream >= m->newest_stream) {
        m->newest_stream = entry->stream;
        m->ended = entry->ended;
        m->newest_frontier_ns = entry->frontier_ns;
        m->clock_error_ns = entry->clock_error_ns;
    }
    if (entry->first_ns < m->first_ns)
        m->first_ns = entry->first_ns;
    if (entry->frontier_ns > m->greatest_frontier_ns)
        m->greatest_frontier_ns = entry->frontier_ns;
    if (entry->heard_ns > m->heard_ns)
        m->heard_ns = entry->heard_ns;
    if (entry->clock_error_max_ns > m->clock_error_max_ns)
        m->clock_error_max_ns = entry->clock_error_max_ns;
    m->updates += entry->updates;
    m->bytes += entry->bytes;
    m->packets += entry->packets;
    m->dropped += entry->dropped;
    return true;
}

static json_t *monitor_fact(const struct monitor *m, uint64_t now_ns) {
    uint64_t frontier_ns = m->ended ? m->greatest_frontier_ns : m->newest_frontier_ns;
    uint64_t lag_ns = clock_minus(now_ns, frontier_ns);
    char id[20];
    snprintf(id, sizeof id, "%016" PRIx64, m->id);
    json_t *fact = json_pack(
        "{s:o,s:s,s:b,s:o,s:o,s:o,s:o,s:o,s:o}", "monitor", fact_text(m->name), "id", id, "live",
        !m->ended, "lag_ns", m->ended ? json_null() : fact_number(lag_ns), "starts",
        fact_number(m->starts), "updates", fact_number(m->updates), "bytes", fact_number(m->bytes),
        "packets", fact_number(m->packets), "dropped", fact_number(m->dropped));
    fact_put_time(fact, "first", m->first_ns);
    fact_put_time(fact, "frontier", frontier_ns);
    fact_put_time(fact, "heard", m->heard_ns);
    json_object_set_new(fact, "clock_error_ns",
                        m->clock_error_ns > 0 ? fact_number(m->clock_error_ns) : json_null());
    json_object_set_new(fact, "clock_error_max_ns",
                        m->clock_error_max_ns > 0 ? fact_number(m->clock_error_max_ns)
                                                  : json_null());
    return fact;
}

int fact_monitors(const struct snapshot *s, json_t **result, struct error *err) {
    struct monitor_list list = {0};
    uint64_t now_ns = clock_wall_ns();
    int code = index_each_stream(s->reader, add_stream, &list, err);
    *result = json_array();
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(*result, monitor_fact(&list.monitors[i], now_ns));
    free(list.monitors);
    if (code < 0)
        json_decref(*result);
    return code;
}

struct name_search {
    uint64_t monitor;
    json_t *name;
};

static bool match_name(void *context, const struct stream_entry *entry) {
    struct name_search *search = context;
    if (entry->monitor != search->monitor)
        return true;
    search->name = fact_text(entry->name);
    return false;
}

json_t *fact_monitor_name(const struct snapshot *s, uint64_t monitor) {
    struct name_search search = {.monitor = monitor};
    if (index_each_stream(s->reader, match_name, &search, NULL) == 0 && search.name != NULL)
        return search.name;
    char id[20];
    snprintf(id, sizeof id, "%016" PRIx64, monitor);
    return json_string(id);
}
