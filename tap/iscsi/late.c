#include "tap/iscsi/internal.h"

#include <arpa/inet.h>
#include <stdio.h>

/*
 * A session whose login was not seen. Its target is called by the addresses of the connection, both
 * of them: two sessions with one portal can lead to two targets.
 */

enum { ADDRESS_BYTES = INET6_ADDRSTRLEN + 10 };

static const char *address_text(uint8_t family, const uint8_t *address, uint16_t port,
                                char text[ADDRESS_BYTES]) {
    char host[INET6_ADDRSTRLEN] = "?";
    inet_ntop(family == 4 ? AF_INET : AF_INET6, address, host, sizeof host);
    snprintf(text, ADDRESS_BYTES, family == 4 ? "%s:%u" : "[%s]:%u", host, port);
    return text;
}

static struct portal portal_of(const struct connection *c) {
    const struct tcp_endpoints *e = &c->endpoints;
    struct portal portal = {.family = e->family,
                            .port = c->swapped ? e->client_port : e->server_port};
    memcpy(portal.address, c->swapped ? e->client : e->server, e->family == 4 ? 4 : 16);
    return portal;
}

bool late_enter(struct connection *c, uint64_t time_ns) {
    const struct tcp_endpoints *e = &c->endpoints;
    char client[ADDRESS_BYTES];
    char server[ADDRESS_BYTES];
    char name[LOGIN_NAME_BYTES];
    address_text(e->family, e->client, e->client_port, client);
    address_text(e->family, e->server, e->server_port, server);
    const char *initiator = c->swapped ? server : client;
    const char *target = c->swapped ? client : server;
    snprintf(name, sizeof name, "portal-%s,%s", target, initiator);
    struct session *s = session_enter_late(c, initiator, name);
    if (s == NULL)
        return false;
    s->portal = portal_of(c);
    s->joined_ns = time_ns;
    return true;
}

bool iscsi_wants_identity(struct iscsi *i, struct portal *portal) {
    bool found = false;
    for (struct session *s = i->sessions; s != NULL; s = s->next) {
        if (!s->late || s->asked || (found && !portal_equal(&s->portal, portal)))
            continue;
        *portal = s->portal;
        s->asked = true;
        found = true;
    }
    return found;
}

/*
 * Being the only one that it can be is no proof: targets can be hidden from whoever asked, and show
 * each initiator other units under the same LUNs.
 */
const struct identity_target *late_target(const struct session *s,
                                          const struct identity *identity) {
    for (size_t k = 0; k < identity->target_count; k++) {
        if (tracker_nexus_is(s->nexus, &identity->targets[k]))
            return &identity->targets[k];
    }
    return NULL;
}

void late_name(struct session *s, const struct identity_target *target, uint64_t time_ns) {
    for (size_t k = 0; k < target->unit_count; k++)
        tracker_nexus_learn(s->nexus, &target->units[k], time_ns);
    tracker_nexus_identify(s->nexus, target->name, time_ns);
    snprintf(s->target, sizeof s->target, "%s", target->name);
    s->named = true;
    probe_free(s);
}

void iscsi_identify(struct iscsi *i, const struct identity *identity, uint64_t time_ns) {
    for (struct session *s = i->sessions; s != NULL; s = s->next) {
        if (!s->late || s->named || !portal_equal(&s->portal, &identity->portal))
            continue;
        const struct identity_target *target = late_target(s, identity);
        if (target != NULL)
            late_name(s, target, time_ns);
    }
    probe_keep(i, identity, time_ns);
}
