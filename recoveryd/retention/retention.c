#include "recoveryd/retention/retention.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/stop.h"
#include "proto/when.h"
#include "recoveryd/retention/plan.h"

#include <inttypes.h>
#include <time.h>

/* A look at all volumes takes a fiftieth of the time, whatever their number. */
const struct background_work background_retention = {
    .doing = "thin out what retention does not keep", .work = retention_work, .rest = 50};

#define WORK_NS (UINT64_C(1) * NS_PER_SECOND) /* of one call */

struct moment {
    struct index_reader *reader;
    struct volume_list volumes;
};

static void moment_release(struct moment *m) {
    volume_list_release(&m->volumes);
    index_reader_close(m->reader);
}

#define AUTO_MOMENT __attribute__((cleanup(moment_release))) struct moment

/* --- taking out ----------------------------------------------------------------------------------
 */

struct floor_search {
    uint64_t base_path;  /* whose baseline is looked for; 0: none is */
    struct stamp newest; /* baseline */
    struct stamp own;    /* that of the base path */
    bool found;
};

static bool take_baseline(void *context, const struct floor *floor) {
    struct floor_search *search = context;
    if (floor->kind != FLOOR_ZERO)
        return true;
    if (stamp_compare(&floor->stamp, &search->newest) > 0)
        search->newest = floor->stamp;
    if (search->base_path != 0 && floor->base_path == search->base_path) {
        search->own = floor->stamp;
        search->found = true;
    }
    return true;
}

/* Of a volume's path: the newest baseline of the volume hides what is older. */
static int ground_of_path(const struct moment *m, const struct thinned_entry *e,
                          const struct volume *v, struct thin_ground *ground, struct error *err) {
    struct floor_search search = {0};
    int code = 0;
    for (size_t i = 0; code == 0 && i < v->path_count; i++)
        code =
            index_each_floor(m->reader, v->paths[i].path, e->until_ns, take_baseline, &search, err);
    ground->baseline = search.newest;
    return code;
}

/* Of a base path: a newer baseline of the same path hides all of it, or else what was written. */
static int ground_of_base(const struct moment *m, const struct thinned_entry *e,
                          struct thin_ground *ground, struct error *err) {
    struct floor_search search = {.base_path = e->path};
    int code = 0;
    for (size_t i = 0; code == 0 && !search.found && i < m->volumes.count; i++) {
        const struct volume *v = &m->volumes.volumes[i];
        for (size_t k = 0; code == 0 && !search.found && k < v->path_count; k++) {
            search.newest = (struct stamp){0};
            code = index_each_floor(m->reader, v->paths[k].path, e->until_ns, take_baseline,
                                    &search, err);
            ground->over_path = v->paths[k].path;
        }
    }
    if (code != 0 || !search.found)
        return code != 0 ? code : error_set(err, ERR_FORMAT, "a base path without its baseline");
    ground->over_since = search.own;
    if (stamp_compare(&search.newest, &search.own) > 0)
        ground->baseline = search.newest;
    return 0;
}

static int find_ground(const struct moment *m, const struct thinned_entry *e,
                       struct thin_ground *ground, struct error *err) {
    const struct volume *v = volume_of_path(&m->volumes, e->path);
    return v != NULL ? ground_of_path(m, e, v, ground, err) : ground_of_base(m, e, ground, err);
}

/* Whoever waits for the writer's lock comes between. */
static void rest(uint64_t ns) {
    struct timespec pause = {(time_t)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    nanosleep(&pause, NULL);
}

static int take_out(struct store *s, struct thinned_entry *e, const struct thin_ground *ground,
                    struct error *err) {
    struct mono start = clock_mono();
    struct thin_result result = {0};
    int code = 0;
    while (code == 0 && e->next_chunk != THINNED_DONE && clock_since_ns(start) < WORK_NS &&
           !stop_requested()) {
        struct mono step = clock_mono();
        code = index_thin(s->index, e, ground, &result, err);
        rest(clock_since_ns(step));
    }
    log_debug("retention: %" PRIu64 " changes, %" PRIu64 " bytes of path %016" PRIx64 " let go",
              result.changes, result.bytes, e->path);
    return code;
}

/* *found: there is a stretch that is not done. */
static int go_on(struct store *s, bool *found, struct error *err) {
    struct thinned_entry e;
    struct thin_ground ground = {0};
    AUTO_MOMENT m = {0};
    int code = index_read(s->index, &m.reader, err);
    if (code == 0)
        code = index_next_thinning(m.reader, &e, err);
    *found = code == 0;
    if (code == 0)
        code = volume_list_read(m.reader, &m.volumes, err);
    if (code == 0)
        code = find_ground(&m, &e, &ground, err);
    index_reader_close(take_pointer(&m.reader)); /* it would hold what is let go */
    if (code == 0)
        code = take_out(s, &e, &ground, err);
    return code == ERR_NOT_FOUND ? 0 : code;
}

/* --- planning ------------------------------------------------------------------------------------
 */

static void say(const struct volume *v, const struct retention_entry *rule,
                const struct plan *plan) {
    char when[WHEN_TEXT_BYTES];
    if (plan->cut_ns == 0)
        return;
    when_print_utc(plan->cut_ns, when);
    if (plan->breaks)
        log_warning(
            "%s: its history begins at %s now, later than its retention promises, because it "
            "holds %" PRIu64 " bytes and may hold %" PRIu64,
            v->name, when, plan->held, rule->bytes);
    else
        log_info("%s: its history begins at %s now, by its retention", v->name, when);
}

static int plan_volume(struct store *s, const struct moment *m, const struct volume *v, bool *more,
                       struct error *err) {
    struct retention_entry rule;
    AUTO_PLAN plan = {0};
    int code = index_get_retention(m->reader, v->id, &rule, err);
    if (code == 0)
        code = plan_make(m->reader, v, &rule, &plan, err);
    if (code != 0 || plan.count == 0)
        return code == ERR_NOT_FOUND ? 0 : code;
    *more = true;
    code = index_put_thinned(s->index, plan.list, plan.count, err);
    if (code == 0)
        say(v, &rule, &plan);
    return code;
}

static bool stop_at_first(void *context, const struct retention_entry *e) {
    bool *any = context;
    (void)e;
    *any = true;
    return false;
}

static int plan_all(struct store *s, bool *more, struct error *err) {
    AUTO_MOMENT m = {0};
    bool any = false;
    int code = index_read(s->index, &m.reader, err);
    if (code == 0)
        code = index_each_retention(m.reader, stop_at_first, &any, err);
    if (code != 0 || !any)
        return code;
    code = volume_list_read(m.reader, &m.volumes, err);
    for (size_t i = 0; code == 0 && i < m.volumes.count && !stop_requested(); i++)
        code = plan_volume(s, &m, &m.volumes.volumes[i], more, err);
    return code;
}

int retention_work(struct store *s, bool *again, struct error *err) {
    *again = false;
    int code = go_on(s, again, err);
    return code == 0 && !*again ? plan_all(s, again, err) : code;
}
