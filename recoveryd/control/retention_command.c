/* How much of the history is kept, and how much shall be. */
#include "recoveryd/control/commands.h"

#include "common/clock.h"
#include "recoveryd/image/volume_kept.h"
#include "recoveryd/index/thinned.h"
#include "recoveryd/retention/plan.h"
#include "recoveryd/store/forecast.h"

#include <string.h>

/* --- showing -------------------------------------------------------------------------------------
 */

static json_t *rule_fact(const struct retention_entry *rule) {
    return json_pack("{s:o,s:o,s:o,s:o}", "every_ns", fact_number(rule->every_ns), "step_ns",
                     fact_number(rule->step_ns), "until_ns", fact_number(rule->until_ns), "bytes",
                     fact_number(rule->bytes));
}

/* The rule that holds for a volume, whose it is, and what there is. */
static int volume_fact(const struct snapshot *s, const struct volume *v, uint64_t full_ns,
                       json_t *list, struct error *err) {
    struct retention_entry rule = {0};
    uint64_t held;
    uint64_t horizon_ns;
    int code = index_get_retention(s->reader, v->id, &rule, err);
    bool none = code == ERR_NOT_FOUND;
    if (none)
        code = 0;
    if (code == 0)
        code = retention_held(s->reader, v, &held, err);
    if (code == 0)
        code = volume_kept_horizon(s->reader, v, &horizon_ns, err);
    if (code < 0)
        return code;
    json_t *fact = json_pack("{s:o,s:o,s:s,s:o,s:o}", "volume", fact_text(v->name), "id",
                             fact_text(v->id), "rule",
                             none                     ? "none"
                             : rule.volume[0] == '\0' ? "default"
                                                      : "own",
                             "held_bytes", fact_number(held), "keeps", rule_fact(&rule));
    fact_put_time(fact, "first", v->first_ns);
    fact_put_time(fact, "latest", v->watermark_ns);
    fact_put_time(fact, "horizon", horizon_ns);
    uint64_t complete_ns = retention_promise(v, &rule);
    fact_put_time(fact, "complete", complete_ns);
    fact_put_time(fact, "breaks", complete_ns > full_ns ? full_ns : 0);
    return json_array_append_new(list, fact) == 0 ? 0 : error_set(err, ERR_NOMEM, "out of memory");
}

/* When the store is full as it grows now; 0: not known. */
static int find_full(struct control *c, uint64_t *full_ns, struct error *err) {
    struct room_state state;
    struct forecast f;
    int code = room_read(c->store->room, &state, err);
    if (code == 0)
        code = forecast_read(c->store->segments, state.index_bytes, clock_wall_ns(), &f, err);
    *full_ns = code == 0 ? forecast_full_ns(&f, state.left_bytes) : 0;
    return code;
}

static int show(struct control *c, const struct snapshot *s, const json_t *request, json_t **result,
                struct error *err) {
    const struct volume *v = NULL;
    uint64_t full_ns = 0;
    struct retention_entry rule = {0};
    AUTO_JSON list = json_array();
    int code = index_get_retention(s->reader, "", &rule, err);
    if (code == ERR_NOT_FOUND)
        code = 0;
    if (code == 0)
        code = find_full(c, &full_ns, err);
    if (code == 0 && argument_optional(request, "volume") != NULL)
        code = snapshot_volume(s, request, &v, err);
    if (code == 0 && v != NULL)
        code = volume_fact(s, v, full_ns, list, err);
    for (size_t i = 0; code == 0 && v == NULL && i < s->volumes.count; i++)
        code = volume_fact(s, &s->volumes.volumes[i], full_ns, list, err);
    if (code == 0)
        *result = json_pack("{s:o,s:O}", "default", rule_fact(&rule), "volumes", list);
    return code;
}

/* --- setting -------------------------------------------------------------------------------------
 */

static int check(const struct retention_entry *rule, struct error *err) {
    if (rule->every_ns == 0 && rule->bytes == 0)
        return error_set(err, ERR_USAGE,
                         "what shall be kept? give --every DURATION, --max-bytes SIZE, or --all");
    if (rule->every_ns > 0 && rule->every_ns < RETENTION_MARGIN_NS)
        return error_set(err, ERR_USAGE, "--every: not less than %d minutes",
                         (int)(RETENTION_MARGIN_NS / 1000000000 / 60));
    if (rule->until_ns > 0 && rule->step_ns == 0)
        return error_set(err, ERR_USAGE,
                         "--until: of how many moments? give --one-per DURATION, too (or only "
                         "--every: nothing older is kept then)");
    if (rule->step_ns > 0 && rule->every_ns == 0)
        return error_set(err, ERR_USAGE, "--one-per: from when on? give --every DURATION, too");
    if (rule->step_ns > 0 && rule->step_ns < UINT64_C(1000000000))
        return error_set(err, ERR_USAGE, "--one-per: not less than a second");
    if (rule->until_ns > 0 && rule->until_ns < rule->every_ns)
        return error_set(err, ERR_USAGE, "--until: not shorter than --every");
    return 0;
}

static int read_rule(const json_t *request, struct retention_entry *rule, bool *remove,
                     struct error *err) {
    int code = argument_number(request, "every_ns", 0, &rule->every_ns, err);
    if (code == 0)
        code = argument_number(request, "step_ns", 0, &rule->step_ns, err);
    if (code == 0)
        code = argument_number(request, "until_ns", 0, &rule->until_ns, err);
    if (code == 0)
        code = argument_number(request, "bytes", 0, &rule->bytes, err);
    *remove = argument_flag(request, "remove");
    return code == 0 && !*remove && !argument_flag(request, "all") ? check(rule, err) : code;
}

static int set(struct control *c, const struct snapshot *s, const json_t *request, json_t **result,
               struct error *err) {
    struct retention_entry rule = {0};
    const struct volume *v = NULL;
    bool remove = false;
    int code = read_rule(request, &rule, &remove, err);
    if (code == 0 && !argument_flag(request, "default"))
        code = snapshot_volume(s, request, &v, err);
    if (code < 0)
        return code;
    if (v != NULL)
        snprintf(rule.volume, sizeof rule.volume, "%s", v->id);
    code = index_put_retention(c->store->index, &rule, remove, err);
    if (code == 0)
        *result = json_pack("{s:o,s:o}", "volume", v != NULL ? fact_text(v->name) : json_null(),
                            "keeps", rule_fact(&rule));
    return code;
}

int command_retention(struct control *c, const json_t *request, json_t **result,
                      struct buffer *data, struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const char *action;
    (void)data;
    int code = argument_string(request, "action", &action, err);
    if (code == 0)
        code = snapshot_open(&s, c->store, err);
    if (code < 0)
        return code;
    if (strcmp(action, "show") == 0)
        return show(c, &s, request, result, err);
    if (strcmp(action, "set") == 0)
        return set(c, &s, request, result, err);
    return error_set(err, ERR_USAGE, "retention: '%.32s' is neither show nor set", action);
}
