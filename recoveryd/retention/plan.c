#include "recoveryd/retention/plan.h"

#include "common/clock.h"
#include "recoveryd/image/volume_kept.h"

#include <stdlib.h>

enum {
    PLAN_STRETCHES = 4096,
    WAITING_LOOKED_AT = 1024, /* of what waits to be derived or judged */
    SHARE = 16,               /* of the time that a rule names has to come together */
};
#define SHORTEST_NS (UINT64_C(1000000000))

struct planning {
    struct index_reader *reader;
    const struct volume *v;
    const struct retention_entry *rule;
    struct plan *plan;
    uint64_t limit_ns; /* nothing behind it is touched */
    struct error *err;
};

void plan_release(struct plan *plan) {
    free(plan->list);
    *plan = (struct plan){0};
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static int add(struct planning *p, uint64_t path, uint64_t from_ns, uint64_t until_ns) {
    struct plan *plan = p->plan;
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity > 0 ? plan->capacity * 2 : 16;
        void *list = realloc(plan->list, capacity * sizeof *plan->list);
        if (list == NULL)
            return error_set(p->err, ERR_NOMEM, "out of memory");
        plan->list = list;
        plan->capacity = capacity;
    }
    plan->list[plan->count++] =
        (struct thinned_entry){.path = path, .from_ns = from_ns, .until_ns = until_ns};
    return 0;
}

/* --- how much is held ----------------------------------------------------------------------------
 */

struct base_scan {
    struct index_reader *reader;
    uint64_t bytes;
    int code;
    struct error *err;
};

static bool add_base(void *context, const struct floor *floor) {
    struct base_scan *scan = context;
    uint64_t bytes = 0;
    if (floor->kind == FLOOR_ZERO && floor->base_path != 0)
        scan->code = index_held(scan->reader, floor->base_path, &bytes, scan->err);
    scan->bytes += bytes;
    return scan->code == 0;
}

int retention_held(struct index_reader *r, const struct volume *v, uint64_t *bytes,
                   struct error *err) {
    struct base_scan scan = {.reader = r, .err = err};
    *bytes = 0;
    for (size_t i = 0; i < v->path_count; i++) {
        uint64_t held;
        int code = index_held(r, v->paths[i].path, &held, err);
        if (code == 0)
            code = index_each_floor(r, v->paths[i].path, UINT64_MAX, add_base, &scan, err);
        if (code == 0)
            code = scan.code;
        if (code != 0)
            return code;
        *bytes += held;
    }
    *bytes += scan.bytes;
    return 0;
}

uint64_t retention_promise(const struct volume *v, const struct retention_entry *rule) {
    uint64_t promised_ns = most(rule->until_ns, rule->every_ns);
    if (v->first_ns == 0 || v->watermark_ns >= v->first_ns + promised_ns)
        return 0;
    return v->first_ns + promised_ns;
}

/* --- what still needs the past -------------------------------------------------------------------
 */

static bool is_of(const struct volume *v, uint64_t path) {
    for (size_t i = 0; i < v->path_count; i++) {
        if (v->paths[i].path == path)
            return true;
    }
    return false;
}

/* Content that waits to be derived from what the volume held. */
static int limit_by_derived(struct planning *p) {
    struct derived_entry d = {0};
    int code = index_next_derived(p->reader, NULL, &d, p->err);
    for (size_t seen = 0; code == 0; seen++) {
        bool concerns = is_of(p->v, d.path) || (d.op == UPDATE_COPY && is_of(p->v, d.source_path));
        uint64_t needs_ns = d.op == UPDATE_COPY ? d.source_from_ns : d.stamp.time_ns;
        if (concerns || seen == WAITING_LOOKED_AT)
            p->limit_ns = least(p->limit_ns, clock_minus(needs_ns, RETENTION_MARGIN_NS));
        if (seen == WAITING_LOOKED_AT)
            return 0;
        struct derived_entry after = d;
        code = index_next_derived(p->reader, &after, &d, p->err);
    }
    return code == ERR_NOT_FOUND ? 0 : code;
}

static int limit_by_audits(struct planning *p) {
    struct audit_entry a = {0};
    int code = index_next_audit(p->reader, NULL, &a, p->err);
    for (size_t seen = 0; code == 0; seen++) {
        if (is_of(p->v, a.path) || seen == WAITING_LOOKED_AT)
            p->limit_ns = least(
                p->limit_ns,
                clock_minus(least(a.issued_ns > 0 ? a.issued_ns : UINT64_MAX, a.stamp.time_ns),
                            RETENTION_MARGIN_NS));
        if (seen == WAITING_LOOKED_AT)
            return 0;
        struct audit_entry after = a;
        code = index_next_audit(p->reader, &after, &a, p->err);
    }
    return code == ERR_NOT_FOUND ? 0 : code;
}

/* --- the horizon ---------------------------------------------------------------------------------
 */

/* Where the rule's times want it. */
static uint64_t wanted_cut(const struct planning *p) {
    const struct retention_entry *rule = p->rule;
    uint64_t cut_ns = 0;
    if (rule->until_ns > 0)
        cut_ns = clock_minus(p->v->watermark_ns, most(rule->until_ns, rule->every_ns));
    else if (rule->every_ns > 0 && rule->step_ns == 0)
        cut_ns = clock_minus(p->v->watermark_ns, rule->every_ns);
    if (rule->step_ns > 0)
        cut_ns -= cut_ns % rule->step_ns;
    return least(cut_ns, p->limit_ns);
}

/* Further, by a part of what there is, when too much is held. */
static uint64_t cut_for_bytes(struct planning *p, uint64_t horizon_ns, uint64_t cut_ns) {
    uint64_t begin_ns = most(horizon_ns, p->v->first_ns);
    uint64_t part_ns = clock_minus(p->limit_ns, begin_ns) / SHARE;
    if (p->rule->bytes == 0 || p->plan->held <= p->rule->bytes || part_ns < SHORTEST_NS ||
        cut_ns >= begin_ns + part_ns)
        return cut_ns;
    p->plan->breaks = cut_ns < begin_ns + part_ns;
    return begin_ns + part_ns;
}

/* Not inside of a stretch that is thinned already. */
static int leave_stretches(struct planning *p, uint64_t *cut_ns) {
    struct volume_kept kept;
    int code = volume_kept_at(p->reader, p->v, *cut_ns, false, &kept, p->err);
    if (code != 0)
        return code;
    *cut_ns = kept.after_ns <= p->limit_ns ? kept.after_ns : 0;
    return 0;
}

struct base_plan {
    struct planning *planning;
    int code;
};

/* What the baselines up to the horizon held is thinned, too. */
static bool plan_base(void *context, const struct floor *floor) {
    struct base_plan *b = context;
    if (floor->kind == FLOOR_ZERO && floor->base_path != 0)
        b->code = add(b->planning, floor->base_path, 0, b->planning->plan->cut_ns);
    return b->code == 0;
}

static int plan_horizon(struct planning *p) {
    uint64_t horizon_ns;
    uint64_t slack_ns = most(p->rule->step_ns, most(p->rule->until_ns, p->rule->every_ns) / SHARE);
    int code = volume_kept_horizon(p->reader, p->v, &horizon_ns, p->err);
    if (code == 0)
        code = retention_held(p->reader, p->v, &p->plan->held, p->err);
    if (code != 0)
        return code;
    uint64_t cut_ns = wanted_cut(p);
    if (cut_ns < most(horizon_ns, p->v->first_ns) + slack_ns)
        cut_ns = 0;
    cut_ns = cut_for_bytes(p, horizon_ns, cut_ns);
    if (cut_ns > 0)
        code = leave_stretches(p, &cut_ns);
    if (code != 0 || cut_ns <= horizon_ns)
        return code;
    p->plan->cut_ns = cut_ns;
    for (size_t i = 0; code == 0 && i < p->v->path_count; i++) {
        struct base_plan bases = {.planning = p};
        code = add(p, p->v->paths[i].path, 0, cut_ns);
        if (code == 0)
            code =
                index_each_floor(p->reader, p->v->paths[i].path, cut_ns, plan_base, &bases, p->err);
        if (code == 0)
            code = bases.code;
    }
    return code;
}

/* --- one moment per step -------------------------------------------------------------------------
 */

static bool take_time(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset,
                      uint64_t length) {
    uint64_t *time_ns = context;
    (void)op;
    (void)offset;
    (void)length;
    *time_ns = stamp->time_ns;
    return false;
}

/* Stretches without a change need not be told apart from others: they are left out. */
static int plan_path_steps(struct planning *p, uint64_t path, uint64_t end_ns) {
    uint64_t step_ns = p->rule->step_ns;
    uint64_t horizon_ns;
    uint64_t at_ns;
    int code = index_thinned_ends(p->reader, path, &horizon_ns, &at_ns, p->err);
    at_ns = most(at_ns, p->plan->cut_ns);
    if (code != 0 || end_ns < at_ns + most(step_ns, p->rule->every_ns / SHARE))
        return code;
    while (code == 0 && at_ns < end_ns) {
        uint64_t time_ns = 0;
        if (p->plan->count >= PLAN_STRETCHES)
            return 0; /* the rest comes with the next plan */
        code = index_each_event(p->reader, path, at_ns + 1, end_ns, take_time, &time_ns, p->err);
        if (code != 0 || time_ns == 0)
            return code;
        uint64_t number = (time_ns - 1) / step_ns;
        at_ns = most(most(at_ns, number * step_ns), 1);
        code = add(p, path, at_ns, (number + 1) * step_ns);
        at_ns = (number + 1) * step_ns;
    }
    return code;
}

static int plan_steps(struct planning *p) {
    uint64_t step_ns = p->rule->step_ns;
    uint64_t end_ns = least(clock_minus(p->v->watermark_ns, p->rule->every_ns), p->limit_ns);
    int code = 0;
    if (step_ns == 0)
        return 0;
    end_ns -= end_ns % step_ns;
    for (size_t i = 0; code == 0 && i < p->v->path_count; i++)
        code = plan_path_steps(p, p->v->paths[i].path, end_ns);
    return code;
}

int plan_make(struct index_reader *r, const struct volume *v, const struct retention_entry *rule,
              struct plan *plan, struct error *err) {
    struct planning p = {.reader = r, .v = v, .rule = rule, .plan = plan, .err = err};
    p.limit_ns = clock_minus(v->watermark_ns, RETENTION_MARGIN_NS);
    if (v->first_ns == 0 || v->watermark_ns < v->first_ns)
        return 0;
    int code = limit_by_derived(&p);
    if (code == 0)
        code = limit_by_audits(&p);
    if (code == 0)
        code = plan_horizon(&p);
    return code == 0 ? plan_steps(&p) : code;
}
