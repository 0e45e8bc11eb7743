#include "recoveryd/settle/settle.h"

#include "common/log.h"
#include "common/stop.h"
#include "proto/when.h"
#include "recoveryd/settle/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* What is derived from what was only just derived needs a commit between: fewer entries than this
 * and fewer bytes go into one. */
enum { GROUP_ENTRIES = 256, TRIES = 100000, HELD_PATHS = 64 };
#define GROUP_BYTES (UINT64_C(64) << 20)

static bool nothing_waits(struct store *s, int *code, struct error *err) {
    AUTO(index_reader) r = NULL;
    struct waiting_counts counts = {0};
    *code = index_read(s->index, &r, err);
    if (*code == 0)
        *code = index_count_waiting(r, &counts, err);
    return *code == 0 && counts.derived == 0 && counts.audits == 0;
}

/* What waits is in the order of time: nothing behind this can be settled now. */
static bool is_beyond(const struct ground *g, const struct stamp *stamp, uint64_t until_ns) {
    return stamp->time_ns > until_ns || stamp->time_ns > g->latest_ns;
}

/* --- derived content -----------------------------------------------------------------------------
 */

struct pass {
    struct ground *ground;
    uint64_t until_ns;
    struct derived_entry at; /* the last one that was looked at */
    bool begun;
    size_t grouped; /* entries in the writer */
    /* Of entries that could not be looked at yet: what depends on them waits, too. */
    uint64_t held[HELD_PATHS];
    size_t held_count;
};

static void hold_back(struct pass *p, uint64_t path) {
    for (size_t i = 0; i < p->held_count; i++) {
        if (p->held[i] == path)
            return;
    }
    if (p->held_count < HELD_PATHS)
        p->held[p->held_count++] = path;
}

/* When there are very many held ones, everything counts as depending on them. */
static bool depends_on_held(const struct pass *p, const struct derived_entry *d) {
    const struct volume_list *list = &p->ground->volumes;
    uint64_t source = d->op == UPDATE_COPY ? d->source_path : d->path;
    const struct volume *v = volume_of_path(list, source);
    for (size_t i = 0; i < p->held_count; i++) {
        if (p->held[i] == source || (v != NULL && volume_of_path(list, p->held[i]) == v))
            return true;
    }
    return p->held_count == HELD_PATHS;
}

static int commit_group(struct pass *p, struct error *err) {
    int code = ground_commit(p->ground, err);
    p->grouped = 0;
    return code == 0 ? ground_renew(p->ground, err) : code;
}

static int end(struct pass *p, struct derived_entry *d, enum derived_state state,
               struct error *err) {
    struct index_writer *w = ground_writer(p->ground, err);
    d->state = (uint8_t)state;
    p->grouped++;
    return w != NULL ? index_end_derived(w, d, err) : ERR_NOMEM;
}

/*
 * One entry. What could not be resolved is tried again when entries before it wait for their
 * commit, because they may be what it depends on.
 */
static int settle_one(struct pass *p, struct derived_entry *d, struct error *err) {
    enum outcome outcome;
    enum derived_state state;
    if (depends_on_held(p, d)) {
        hold_back(p, d->path);
        return 0;
    }
    int code = derive(p->ground, d, &outcome, &state, err);
    if (code == 0 && state != DERIVED_RESOLVED && outcome == OUTCOME_ENDED && p->grouped > 0) {
        code = commit_group(p, err);
        if (code == 0)
            code = derive(p->ground, d, &outcome, &state, err);
    }
    if (code != 0)
        return code;
    if (outcome == OUTCOME_NOT_YET) {
        hold_back(p, d->path);
        return 0;
    }
    code = end(p, d, state, err);
    if (code == 0 && (p->grouped >= GROUP_ENTRIES || p->ground->bytes >= GROUP_BYTES))
        code = commit_group(p, err);
    return code;
}

static int settle_all_derived(struct pass *p, struct error *err) {
    int code = 0;
    while (code == 0 && !stop_requested()) {
        struct derived_entry d;
        code = index_next_derived(p->ground->reader, p->begun ? &p->at : NULL, &d, err);
        if (code == 0 && is_beyond(p->ground, &d.stamp, p->until_ns))
            code = ERR_NOT_FOUND;
        if (code != 0)
            break;
        p->begun = true;
        p->at = d;
        code = settle_one(p, &d, err);
    }
    if (code == 0 || code == ERR_NOT_FOUND)
        code = ground_commit(p->ground, err);
    return code;
}

/* --- audits --------------------------------------------------------------------------------------
 */

static void raise_alarm(const struct ground *g, const struct audit_entry *audit,
                        const struct audited_entry *found) {
    char when[WHEN_TEXT_BYTES];
    const struct volume *v = volume_of_path(&g->volumes, audit->path);
    if (found->mismatches == 0)
        return;
    log_error("%s: what a READ returned at %s is not what the image held: %" PRIu64
              " block%s, the first %" PRIu64 " bytes at %" PRIu64
              " (recoveryctl gaps lists what is in doubt)",
              v != NULL ? v->name : "a volume", when_print_utc(audit->stamp.time_ns, when),
              found->mismatches, found->mismatches == 1 ? "" : "s", found->mismatch_length,
              found->mismatch_offset);
}

/* Each in a commit of its own, so that an alarm is raised once. */
static int settle_one_audit(struct ground *g, const struct audit_entry *audit, struct error *err) {
    enum outcome outcome;
    struct audited_entry found;
    int code = judge(g, audit, &outcome, &found, err);
    if (code != 0 || outcome == OUTCOME_NOT_YET)
        return code;
    code = ground_commit(g, err);
    if (code != 0)
        return code;
    raise_alarm(g, audit, &found);
    return 0;
}

static int settle_all_audits(struct ground *g, uint64_t until_ns, struct error *err) {
    struct audit_entry at = {0};
    struct audit_entry audit;
    int code = 0;
    while (code == 0 && !stop_requested()) {
        code = index_next_audit(g->reader, at.path != 0 ? &at : NULL, &audit, err);
        if (code != 0 || is_beyond(g, &audit.stamp, until_ns))
            break;
        at = audit;
        code = settle_one_audit(g, &audit, err);
        if (code == 0)
            code = ground_renew(g, err);
    }
    return code == ERR_NOT_FOUND ? 0 : code;
}

/* --- both ----------------------------------------------------------------------------------------
 */

/* What an audit contradicts is derived again. */
static int settle_once(struct store *s, uint64_t until_ns, struct error *err) {
    struct ground g;
    struct pass pass = {.ground = &g, .until_ns = until_ns};
    int code = ground_create(s, &g, err);
    if (code == 0)
        code = ground_renew(&g, err);
    if (code == 0)
        code = settle_all_derived(&pass, err);
    if (code == 0)
        code = ground_renew(&g, err);
    if (code == 0)
        code = settle_all_audits(&g, until_ns, err);
    ground_release(&g);
    return code;
}

/* ERR_BUSY means that somebody else got on, or that a fact changed: from the start again, where
 * less waits than before. */
int settle(struct store *s, uint64_t until_ns, struct error *err) {
    int code = 0;
    for (int i = 0; i < TRIES && s->mode != STORE_READ; i++) {
        if (nothing_waits(s, &code, err))
            return 0;
        if (code == 0)
            code = settle_once(s, until_ns, err);
        if (code != ERR_BUSY)
            return code;
    }
    return 0; /* facts change all the time: next time */
}
