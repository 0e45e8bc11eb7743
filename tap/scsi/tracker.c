#include "tap/scsi/internal.h"

#include <stdio.h>

struct tracker_limits tracker_default_limits(void) {
    return (struct tracker_limits){
        .open_exchanges = 65536, .payload_bytes = (size_t)96 << 20, .paths = 65536};
}

struct tracker *tracker_create(struct sink *sink, const struct tracker_limits *limits) {
    AUTO(tracker) t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->sink = sink;
    t->limits = *limits;
    t->pool = payload_pool_create(limits->payload_bytes);
    return t->pool != NULL ? take_pointer(&t) : NULL;
}

void tracker_destroy(struct tracker *t) {
    if (t == NULL)
        return;
    while (t->oldest != NULL)
        exchange_destroy(t->oldest);
    token_forget(t, NULL);
    copied_forget(t);
    targets_free(t);
    payload_pool_destroy(t->pool);
    free(t);
}

const struct tracker_counters *tracker_counters(const struct tracker *t) {
    return &t->counters;
}

static struct nexus *open_nexus(struct tracker *t, struct target *target, const char *initiator) {
    struct nexus *n = target != NULL ? calloc(1, sizeof *n) : NULL;
    if (n == NULL)
        return NULL;
    n->tracker = t;
    n->target = target;
    target->nexus_count++;
    snprintf(n->initiator, sizeof n->initiator, "%s", initiator);
    return n;
}

bool tracker_knows_target(const struct tracker *t, const char *name) {
    const struct target *target = NULL;
    HASH_FIND_STR(t->targets, name, target);
    for (const struct path *path = target != NULL ? target->paths : NULL; path != NULL;
         path = path->hh.next) {
        if (path->announced)
            return true;
    }
    return false;
}

struct nexus *tracker_nexus_open(struct tracker *t, uint8_t protocol, const char *initiator,
                                 const char *target) {
    return open_nexus(t, target_of(t, protocol, target), initiator);
}

struct nexus *tracker_nexus_open_provisional(struct tracker *t, uint8_t protocol,
                                             const char *initiator, const char *address) {
    struct target *target = target_of(t, protocol, address);
    if (target != NULL) {
        target_set_provisional(t, target);
        target->gone = false;
    }
    return open_nexus(t, target, initiator);
}

void tracker_nexus_close(struct nexus *n, uint16_t reason, const char *text, uint64_t time_ns) {
    if (n == NULL)
        return;
    while (n->exchanges != NULL)
        tracker_abandon(n->exchanges, reason, text, time_ns);
    token_forget(n->tracker, n);
    if (reason != 0 && n->target->provisional && n->target->nexus_count == 1)
        alias_end(n->tracker, n->target, reason != GAP_NEXUS_LOST, time_ns);
    sample_end(n->tracker, n->target);
    target_leave(n->tracker, n->target);
    free(n);
}

/* There is no room to follow that path, and it may lead to a volume that is followed by another. */
static void refuse_path(struct nexus *n, const struct command *command, uint64_t time_ns) {
    n->tracker->counters.given_up++;
    if (command_changes_media(command))
        tracker_gap(n->tracker, GAP_OVERFLOW,
                    "a write on a path beyond the number that the monitor can follow", time_ns);
}

/*
 * On tapes and enclosures the same operation codes mean other things. What changes nothing is
 * followed all the same, because a unit attention may be its answer; READs are too many for that.
 */
static bool is_of_interest(struct tracker *t, const struct path *path,
                           const struct command *command, uint32_t data_in_bytes) {
    if (command->kind == COMMAND_INQUIRY)
        return true;
    if (command->kind == COMMAND_READ)
        return audit_is_due(t, path, command, data_in_bytes);
    return path->kind != PATH_KIND_OTHER;
}

struct exchange *tracker_command(struct nexus *n, const struct tracker_command *command) {
    struct tracker *t = n->tracker;
    struct command parsed;
    command_parse(command->cdb, command->cdb_bytes, &parsed);
    t->counters.commands++;
    struct path *path = path_of(n, command->lun);
    if (path == NULL) {
        refuse_path(n, &parsed, command->time_ns);
        return NULL;
    }
    if (!is_of_interest(t, path, &parsed, command->data_in_bytes))
        return NULL;
    struct exchange *x = exchange_create(n, path, command, &parsed);
    if (x != NULL && parsed.kind == COMMAND_READ)
        audit_begin(x);
    if (x == NULL && command_changes_media(&parsed))
        tracker_nexus_gap(n, GAP_OVERFLOW, "no memory left to follow a command", command->time_ns);
    return x;
}

bool tracker_was_refused(uint8_t status, const uint8_t *sense, size_t sense_bytes) {
    struct sense parsed;
    bool readable = sense != NULL && sense_parse(sense, sense_bytes, &parsed);
    return sense_verdict(status, readable ? &parsed : NULL, false) == VERDICT_REFUSED;
}

void tracker_status(struct exchange *x, const struct tracker_status *status) {
    change_ended(x, status);
    exchange_destroy(x);
}

void tracker_nexus_resume(struct nexus *n, uint64_t time_ns) {
    struct tracker *t = n->tracker;
    for (const struct path *path = n->target->paths; path != NULL; path = path->hh.next) {
        if (path->announced && t->sink->resume != NULL)
            t->sink->resume(t->sink, &path->sink, time_ns);
    }
}

void tracker_doubt(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns) {
    change_doubt(x, reason, text, time_ns);
}

void tracker_abandon(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns) {
    if (reason != 0)
        change_abandoned(x, reason, text, time_ns);
    exchange_destroy(x);
}
