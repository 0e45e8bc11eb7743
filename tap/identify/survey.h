/*
 * survey: everything that one portal offers: its targets, their logical units, what those say of
 * themselves. The answers are read by the parsers that read them off the wire (tap/scsi/device.h).
 */
#ifndef SANREWIND_TAP_IDENTIFY_SURVEY_H
#define SANREWIND_TAP_IDENTIFY_SURVEY_H

#include "tap/identify/query.h"
#include "tap/identity.h"

enum { SURVEY_TARGETS = 256, SURVEY_UNITS = 16384 };

struct survey_options {
    struct query_options query;
    uint64_t patience_ns; /* logical units that are not read by then are left out */
};

/*
 * Asks the portal. The caller owns *out: identity_destroy(). A target that lets nobody in is listed
 * without units, for that it is there is known all the same; then *whole is false, and err says
 * why.
 *
 * ERR_NET: no answer, or a refusal; ERR_FULL: more than SURVEY_TARGETS targets; ERR_STOPPED.
 */
int survey_portal(const struct survey_options *options, const struct portal *portal,
                  struct identity **out, bool *whole, struct error *err);

/* --- the pure parts -------------------------------------------------------------------------- */

struct offer {
    char name[sizeof(((struct identity_target *)NULL)->name)];
    bool here;      /* at the portal that was asked, or at no address of its own */
    bool unclear;   /* at an address that is not a number */
    bool elsewhere; /* at some other address */
};

/* What SendTargets said; `list` has room for SURVEY_TARGETS. */
struct offers {
    struct portal asked;
    struct offer *list;
    size_t count;
    bool full; /* there were more */
};

/* For query_targets(); `context` is a struct offers. Names that are none are passed over. */
void offers_take(void *context, const char *name, const char *address);
/*
 * Keeps the targets that the portal itself serves: those listed with its address, and those whose
 * addresses do not tell. When the addresses of all lie elsewhere, the portal is known to its
 * initiators under another one (address translation): all of them.
 */
void offers_select(struct offers *offers);

/* REPORT LUNS data (SPC-5 6.30): up to `room` LUNs; how many. *whole: these are all. */
size_t survey_luns(const uint8_t *data, size_t bytes, uint64_t *luns, size_t room, bool *whole);

/* Puts the answer to a question into the unit; false: it does not say anything. */
bool survey_learn(struct identity_unit *unit, enum question question, const uint8_t *data,
                  size_t bytes);

#endif
