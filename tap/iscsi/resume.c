#include "tap/iscsi/internal.h"

#include <stdlib.h>
#include <utlist.h>

/*
 * Does the gap of a restart concern the volumes of a target? Not when every session with it that
 * was there before goes on with the numbers that were due, and none shows up that was not. A
 * session that came and went while nobody watched leaves no trace: hence the limit of time.
 */

struct broken_target {
    char name[LOGIN_NAME_BYTES];
    struct broken_target *next;
};

void resume_break(struct iscsi *i, const char *target) {
    struct broken_target *broken = calloc(1, sizeof *broken);
    if (broken == NULL) {
        i->resume_off = true;
        return;
    }
    memcpy(broken->name, target, strnlen(target, sizeof broken->name - 1));
    LL_PREPEND(i->broken, broken);
}

void resume_break_all(struct iscsi *i) {
    i->resume_off = true;
}

static bool is_broken(const struct iscsi *i, const char *target) {
    for (const struct broken_target *b = i->broken; b != NULL; b = b->next) {
        if (strcmp(b->name, target) == 0)
            return true;
    }
    return i->resume_off;
}

static bool is_proven(const struct session *s) {
    for (const struct connection *c = s->connections; c != NULL; c = c->session_next) {
        if (c->flows[0].restored || c->flows[1].restored || c->search != NULL)
            return false;
    }
    return true;
}

void resume_check(struct session *session, uint64_t time_ns) {
    struct iscsi *i = session->owner;
    if (!session->restored || is_broken(i, session->target) || time_ns > i->resume_until_ns)
        return;
    for (const struct session *s = i->sessions; s != NULL; s = s->next) {
        if (s->restored && strcmp(s->target, session->target) == 0 && !is_proven(s))
            return;
    }
    tracker_nexus_resume(session->nexus, time_ns);
    resume_break(i, session->target); /* once is enough */
}

void resume_release(struct iscsi *i) {
    struct broken_target *b, *next;
    LL_FOREACH_SAFE(i->broken, b, next) {
        free(b);
    }
    i->broken = NULL;
}
