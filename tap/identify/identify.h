/*
 * identify: asks portals who they are, on a thread of its own.
 *
 * For sessions whose login was not seen. The capture thread names portals, and takes the answers
 * when they are there; neither call waits. A portal that does not answer is asked again, after 2
 * seconds and then ever more seldom, down to once in ten minutes, as long as this object lives.
 *
 * What it sends is seen on the mirror port as any initiator's traffic is.
 */
#ifndef SANREWIND_TAP_IDENTIFY_IDENTIFY_H
#define SANREWIND_TAP_IDENTIFY_IDENTIFY_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/identity.h"

#include <stdbool.h>

struct identify;

struct identify_options {
    const char *initiator; /* InitiatorName; NULL: made from the host's name */
    const char *chap_file; /* see tap/identify/chap.h; NULL: none */
};

/* Options are copied, the file is read. ERR_USAGE, ERR_FORMAT: a wrong name or file. */
int identify_create(const struct identify_options *options, struct identify **out,
                    struct error *err);
/* Ends within a second, whatever the portals do. NULL is fine. */
void identify_destroy(struct identify *i);

/* The next identify_ask() will be taken. */
bool identify_has_room(const struct identify *i);
/* False: there is no room; ask again later. A portal that is being asked already is taken. */
bool identify_ask(struct identify *i, const struct portal *portal);
/* The next answer, which is then the caller's: identity_destroy(). False: none yet. */
bool identify_take(struct identify *i, struct identity **identity);
/*
 * Reads blocks of a target, ahead of portals that wait to be asked. False: there is no room. Every
 * probe that is taken is answered once, unless answers are left lying: then some get lost.
 */
bool identify_probe(struct identify *i, const struct identity_probe *probe);
/* The next answer to one. False: none yet. */
bool identify_take_probe(struct identify *i, struct identity_probe *probe);
/* Every portal that was named has answered (the answers may wait to be taken), or failed to once.
 */
bool identify_is_settled(const struct identify *i);

/* RFC 7143 4.2.7: "iqn.", "eui." or "naa." and up to 223 bytes of what may be in one. */
bool identify_is_initiator_name(const char *name);

DEFINE_AUTO(identify, identify_destroy)

#endif
