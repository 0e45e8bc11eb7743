#include "tap/fc/internal.h"

#include <utlist.h>

static struct fc_port *find_port(const struct fc *f, uint32_t vsan, uint32_t fc_id) {
    struct fc_port_key key = {fc_id, vsan};
    struct fc_port *port = NULL;
    HASH_FIND(hh, f->ports, &key, sizeof key, port);
    return port;
}

static struct fc_port *find_or_make_port(struct fc *f, uint32_t vsan, uint32_t fc_id) {
    struct fc_port *port = find_port(f, vsan, fc_id);
    if (port != NULL)
        return port;
    port = calloc(1, sizeof *port);
    if (port == NULL)
        return NULL;
    port->key = (struct fc_port_key){fc_id, vsan};
    HASH_ADD(hh, f->ports, key, sizeof port->key, port);
    if (port->hh.tbl != NULL)
        return port;
    free(port);
    return NULL;
}

static void drop_if_unused(struct fc *f, struct fc_port *port) {
    if (port == NULL || port->as_initiator != NULL || port->as_target != NULL)
        return;
    HASH_DEL(f->ports, port);
    free(port);
}

/* False: no memory. */
static bool join_ports(struct fc_nexus *n) {
    struct fc *f = n->fc;
    struct fc_port *from = find_or_make_port(f, n->key.vsan, n->key.initiator);
    struct fc_port *to = find_or_make_port(f, n->key.vsan, n->key.target);
    if (from == NULL || to == NULL) {
        drop_if_unused(f, from);
        if (to != from)
            drop_if_unused(f, to);
        return false;
    }
    n->from = from;
    n->to = to;
    DL_APPEND2(from->as_initiator, n, from_prev, from_next);
    DL_APPEND2(to->as_target, n, to_prev, to_next);
    return true;
}

static void leave_ports(struct fc_nexus *n) {
    struct fc_port *from = n->from;
    struct fc_port *to = n->to;
    DL_DELETE2(from->as_initiator, n, from_prev, from_next);
    DL_DELETE2(to->as_target, n, to_prev, to_next);
    drop_if_unused(n->fc, from);
    if (to != from)
        drop_if_unused(n->fc, to);
}

/* Not memcmp(): reading at once what was just written in parts waits for all writes before it. */
static bool is_between(const struct fc_nexus *n, uint16_t vsan, uint32_t initiator,
                       uint32_t target) {
    return n->key.initiator == initiator && n->key.target == target && n->key.vsan == vsan;
}

struct fc_nexus *nexus_find(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target) {
    struct fc_nexus *n = f->last;
    if (n != NULL && is_between(n, vsan, initiator, target))
        return n;
    struct nexus_key key = {initiator, target, vsan};
    HASH_FIND(hh, f->nexuses, &key, sizeof key, n);
    if (n != NULL)
        f->last = n;
    return n;
}

/* It may have written while nobody watched, to a volume that others lead to, too. */
static void doubt_stranger(struct fc_nexus *n) {
    n->fc->counters.strangers++;
    tracker_nexus_gap(n->nexus, GAP_MONITOR_RESTART,
                      "a session that may have written before the monitor was started again",
                      n->fc->restarted_ns);
}

static bool open_nexus(struct fc_nexus *n) {
    struct fc *f = n->fc;
    uint16_t vsan = (uint16_t)n->key.vsan;
    char initiator[PORT_TEXT_BYTES];
    char target[PORT_TEXT_BYTES];
    names_text(f->names, vsan, n->key.initiator, initiator);
    n->named = names_text(f->names, vsan, n->key.target, target);
    bool stranger = f->restarted && !tracker_knows_target(f->tracker, target);
    n->nexus = n->named ? tracker_nexus_open(f->tracker, PATH_FCP, initiator, target)
                        : tracker_nexus_open_provisional(f->tracker, PATH_FCP, initiator, target);
    if (stranger && n->nexus != NULL)
        doubt_stranger(n);
    return n->nexus != NULL;
}

struct fc_nexus *nexus_of(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target) {
    struct fc_nexus *n = nexus_find(f, vsan, initiator, target);
    if (n != NULL || HASH_COUNT(f->nexuses) >= MAX_NEXUSES)
        return n;
    n = calloc(1, sizeof *n);
    if (n == NULL)
        return NULL;
    n->key = (struct nexus_key){initiator, target, vsan};
    n->fc = f;
    if (!open_nexus(n)) {
        free(n);
        return NULL;
    }
    if (!join_ports(n)) {
        tracker_nexus_close(n->nexus, 0, NULL, 0);
        free(n);
        return NULL;
    }
    HASH_ADD(hh, f->nexuses, key, sizeof n->key, n);
    if (n->hh.tbl != NULL)
        return n;
    leave_ports(n);
    tracker_nexus_close(n->nexus, 0, NULL, 0);
    free(n);
    return NULL;
}

void nexus_clear(struct fc_nexus *n, uint16_t reason, const char *text, uint64_t time_ns) {
    while (n->tasks != NULL) {
        /* One whose response is there has ended by it, whatever came behind. */
        if (n->tasks->answer != NULL)
            settle_now(n->tasks);
        else
            task_abandon(n->tasks, reason, text, time_ns);
    }
    struct slot *slot, *next;
    HASH_ITER(hh, n->slots, slot, next) {
        slot_destroy(slot);
    }
}

void nexus_destroy(struct fc_nexus *n, uint16_t reason, const char *text, uint64_t time_ns) {
    struct fc *f = n->fc;
    nexus_clear(n, reason, text, time_ns);
    tracker_nexus_close(n->nexus, reason, text, time_ns);
    HASH_DEL(f->nexuses, n);
    leave_ports(n);
    if (f->last == n)
        f->last = NULL;
    free(n);
}

void nexus_discard(struct fc_nexus *n) {
    while (n->tasks != NULL)
        task_abandon(n->tasks, 0, NULL, 0);
    nexus_destroy(n, 0, NULL, 0);
}

bool nexus_leave(struct fc *f, uint16_t vsan, uint32_t fc_id, const char *text, uint64_t time_ns) {
    struct fc_port *port = find_port(f, vsan, fc_id);
    bool any = port != NULL;
    while (port != NULL) { /* which goes with its last nexus */
        nexus_destroy(port->as_initiator != NULL ? port->as_initiator : port->as_target,
                      GAP_NEXUS_LOST, text, time_ns);
        port = find_port(f, vsan, fc_id);
    }
    return any;
}

/* The name has moved: whoever has the FC_ID that went with it is another one. */
static void take_name_away(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t time_ns) {
    nexus_leave(f, vsan, fc_id, "its port has another address now", time_ns);
    names_forget(f->names, vsan, fc_id);
}

static void give_name(const struct fc_port *port, const char *name, uint64_t time_ns) {
    struct fc_nexus *n;
    if (port == NULL)
        return;
    DL_FOREACH2(port->as_initiator, n, from_next) {
        tracker_nexus_name_initiator(n->nexus, name);
    }
    DL_FOREACH2(port->as_target, n, to_next) {
        if (!n->named && n->from != port)
            tracker_nexus_identify(n->nexus, name, time_ns);
        n->named = true;
    }
}

void nexus_name(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t wwpn, uint64_t time_ns) {
    char name[PORT_TEXT_BYTES];
    uint64_t before = names_find(f->names, vsan, fc_id);
    if (wwpn == 0 || before == wwpn)
        return;
    if (before != 0)
        nexus_leave(f, vsan, fc_id, "another port has its address now", time_ns);
    uint32_t owner = names_owner(f->names, vsan, wwpn);
    if (owner != 0)
        take_name_away(f, vsan, owner, time_ns);
    if (!names_set(f->names, vsan, fc_id, wwpn))
        return;
    names_text(f->names, vsan, fc_id, name);
    give_name(find_port(f, vsan, fc_id), name, time_ns);
}
