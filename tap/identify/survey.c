#include "tap/identify/survey.h"

#include "common/clock.h"
#include "common/cursor.h"
#include "common/log.h"
#include "proto/record.h"
#include "tap/identify/portal.h"
#include "tap/scsi/device.h"

#include <string.h>

enum { ANSWER_BYTES = 1024, LUN_BYTES = 8, LUNS_HEAD_BYTES = 8 };

/* One portal being asked. */
struct survey {
    const struct survey_options *options;
    struct mono begun;
    struct identity *identity; /* owned until the end */
    size_t unit_count;         /* over all targets */
    bool whole;
};

/* --- targets --------------------------------------------------------------------------------- */

/* RFC 7143 4.2.7.1: up to 223 bytes, no white space. */
static bool is_name(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof(((struct offer *)NULL)->name))
        return false;
    for (size_t i = 0; i < length; i++) {
        if ((uint8_t)name[i] <= ' ' || name[i] == 0x7f)
            return false;
    }
    return true;
}

static struct offer *offer_named(struct offers *offers, const char *name) {
    for (size_t i = 0; i < offers->count; i++) {
        if (strcmp(offers->list[i].name, name) == 0)
            return &offers->list[i];
    }
    if (offers->count == SURVEY_TARGETS) {
        offers->full = true;
        return NULL;
    }
    struct offer *offer = &offers->list[offers->count++];
    *offer = (struct offer){0};
    memcpy(offer->name, name, strlen(name) + 1);
    return offer;
}

void offers_take(void *context, const char *name, const char *address) {
    struct offers *offers = context;
    struct portal portal;
    struct offer *offer = is_name(name) ? offer_named(offers, name) : NULL;
    if (offer == NULL || address == NULL)
        return;
    if (!portal_parse(address, &portal))
        offer->unclear = true;
    else if (portal_equal(&portal, &offers->asked))
        offer->here = true;
    else
        offer->elsewhere = true;
}

/* Without an address the target is where it was asked for (RFC 7143, appendix C). */
static bool is_served(const struct offer *offer) {
    return offer->here || offer->unclear || !offer->elsewhere;
}

void offers_select(struct offers *offers) {
    size_t kept = 0;
    for (size_t i = 0; i < offers->count; i++) {
        if (is_served(&offers->list[i]))
            offers->list[kept++] = offers->list[i];
    }
    if (kept > 0)
        offers->count = kept;
}

static int discover(struct survey *s, struct offers *offers, struct error *err) {
    AUTO(query) query = NULL;
    int code = query_open(&s->options->query, &offers->asked, NULL, &query, err);
    if (code == 0)
        code = query_targets(query, offers_take, offers, err);
    if (code == 0 && offers->full)
        code = error_set(err, ERR_FULL, "it offers more than %d targets", SURVEY_TARGETS);
    if (code == 0)
        offers_select(offers);
    return code;
}

/* --- logical units --------------------------------------------------------------------------- */

size_t survey_luns(const uint8_t *data, size_t bytes, uint64_t *luns, size_t room, bool *whole) {
    struct cursor c = cursor_of(data, bytes);
    size_t listed = cursor_be32(&c) / LUN_BYTES;
    size_t count = 0;
    cursor_skip(&c, LUNS_HEAD_BYTES - 4);
    while (count < listed && count < room && cursor_left(&c) >= LUN_BYTES)
        luns[count++] = cursor_be64(&c);
    *whole = cursor_ok(&c) && count == listed;
    return cursor_ok(&c) ? count : 0;
}

/* As the tracker does it: what the page of provisioning takes back, READ CAPACITY does not promise.
 */
static uint16_t flags_of(const struct capacity *capacity) {
    unsigned flags = capacity->provisioned ? PATH_LBPME : 0;
    flags |= capacity->zeros ? PATH_LBPRZ : 0;
    flags |= capacity->protection ? PATH_PROTECTION : 0;
    return (uint16_t)flags;
}

static bool learn_capacity(struct identity_unit *unit, bool long_form, const uint8_t *data,
                           size_t bytes) {
    struct capacity capacity;
    if (!device_capacity(data, bytes, long_form, &capacity))
        return false;
    unit->size_bytes = capacity.blocks * capacity.block_bytes;
    unit->block_bytes = capacity.block_bytes;
    unit->flags = flags_of(&capacity);
    unit->flags_known = capacity.complete;
    return true;
}

static bool learn_unmap(struct identity_unit *unit, const uint8_t *data, size_t bytes) {
    enum unmapped_content unmapped;
    if (!device_provisioning(data, bytes, &unmapped))
        return false;
    if (unmapped != UNMAPPED_ZEROS)
        unit->flags &= (uint16_t)~PATH_LBPRZ;
    return true;
}

static bool learn_inquiry(struct identity_unit *unit, const uint8_t *data, size_t bytes) {
    struct standard_inquiry inquiry;
    if (!device_standard_inquiry(data, bytes, &inquiry))
        return false;
    unit->is_disk = inquiry.is_disk;
    unit->ignores_same = inquiry.ignores_same;
    return true;
}

bool survey_learn(struct identity_unit *unit, enum question question, const uint8_t *data,
                  size_t bytes) {
    switch (question) {
    case QUESTION_LUNS:
        return false;
    case QUESTION_INQUIRY:
        return learn_inquiry(unit, data, bytes);
    case QUESTION_SERIAL:
        return device_serial(data, bytes, unit->serial);
    case QUESTION_NAMES:
        return device_identification(data, bytes, unit->designator);
    case QUESTION_UNMAP:
        return learn_unmap(unit, data, bytes);
    case QUESTION_CAPACITY_16:
    case QUESTION_CAPACITY_10:
        return learn_capacity(unit, question == QUESTION_CAPACITY_16, data, bytes);
    }
    return false;
}

/* *learnt: the answer said something. A refusal is no failure. */
static int learn(struct query *query, struct identity_unit *unit, enum question question,
                 bool *learnt, struct error *err) {
    uint8_t data[ANSWER_BYTES];
    size_t bytes = 0;
    int code = query_ask(query, unit->lun, question, data, sizeof data, &bytes, err);
    *learnt = code == 0 && survey_learn(unit, question, data, bytes);
    return code == ERR_NOT_FOUND ? 0 : code;
}

/*
 * ERR_NOT_FOUND: it does not say what it is. The page of provisioning comes behind the capacity,
 * whose flags it corrects.
 */
static int survey_unit(struct query *query, struct identity_unit *unit, struct error *err) {
    static const enum question about_disks[] = {QUESTION_SERIAL, QUESTION_NAMES,
                                                QUESTION_CAPACITY_16, QUESTION_CAPACITY_10,
                                                QUESTION_UNMAP};
    bool learnt = false;
    int code = learn(query, unit, QUESTION_INQUIRY, &learnt, err);
    if (code == 0 && !learnt)
        return error_set(err, ERR_NOT_FOUND, "no INQUIRY data");
    if (!unit->is_disk)
        return code;
    for (size_t i = 0; code == 0 && i < sizeof about_disks / sizeof about_disks[0]; i++) {
        if (about_disks[i] == QUESTION_CAPACITY_10 && learnt)
            continue;
        code = learn(query, unit, about_disks[i], &learnt, err);
    }
    return code;
}

static bool is_late(const struct survey *s) {
    return clock_since_ns(s->begun) >= s->options->patience_ns;
}

/* Those that cannot be asked are left out. */
static int survey_units(struct survey *s, struct query *query, struct identity_target *target,
                        const uint64_t *luns, size_t count, struct error *err) {
    target->units = calloc(count > 0 ? count : 1, sizeof *target->units);
    if (target->units == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = 0;
    for (size_t i = 0; code == 0 && i < count && !is_late(s); i++) {
        struct identity_unit *unit = &target->units[target->unit_count];
        *unit = (struct identity_unit){.lun = luns[i]};
        code = query_can_address(luns[i]) ? survey_unit(query, unit, err) : ERR_NOT_FOUND;
        target->unit_count += code == 0 ? 1 : 0;
        code = code == ERR_NOT_FOUND ? 0 : code;
    }
    if (target->unit_count < count)
        log_warning("%s: only %zu of %zu logical units could be asked", target->name,
                    target->unit_count, count);
    s->unit_count += target->unit_count;
    return code;
}

static int survey_target(struct survey *s, struct identity_target *target, struct error *err) {
    size_t room = SURVEY_UNITS - s->unit_count;
    size_t list_bytes = LUNS_HEAD_BYTES + room * LUN_BYTES;
    size_t bytes = 0;
    bool all = false;
    AUTO(query) query = NULL;
    AUTO_FREE uint8_t *list = malloc(list_bytes);
    AUTO_FREE uint64_t *luns = calloc(room > 0 ? room : 1, sizeof *luns);
    if (list == NULL || luns == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = query_open(&s->options->query, &s->identity->portal, target->name, &query, err);
    if (code == 0)
        code = query_ask(query, 0, QUESTION_LUNS, list, list_bytes, &bytes, err);
    if (code < 0)
        return code;
    size_t count = survey_luns(list, bytes, luns, room, &all);
    code = survey_units(s, query, target, luns, count, err);
    target->whole = code == 0 && all && target->unit_count == count;
    return code;
}

/* --- portals --------------------------------------------------------------------------------- */

static int list_targets(struct survey *s, struct error *err) {
    struct identity *identity = s->identity;
    struct offers offers = {.asked = identity->portal};
    AUTO_FREE struct offer *list = calloc(SURVEY_TARGETS, sizeof *list);
    offers.list = list;
    identity->targets = calloc(SURVEY_TARGETS, sizeof *identity->targets);
    if (list == NULL || identity->targets == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = discover(s, &offers, err);
    for (size_t i = 0; code == 0 && i < offers.count; i++) {
        memcpy(identity->targets[i].name, offers.list[i].name, sizeof offers.list[i].name);
        identity->target_count++;
    }
    return code;
}

/* A target that cannot be asked is no reason not to ask the others. */
static int survey_targets(struct survey *s, struct error *err) {
    for (size_t i = 0; i < s->identity->target_count; i++) {
        struct identity_target *target = &s->identity->targets[i];
        struct error why = {0};
        int code = survey_target(s, target, &why);
        if (code == ERR_STOPPED || code == ERR_NOMEM)
            return error_set(err, code, "%s", why.text);
        if (code == 0)
            continue;
        s->whole = false;
        error_set(err, code, "%s: %s", target->name, why.text);
    }
    return 0;
}

int survey_portal(const struct survey_options *options, const struct portal *portal,
                  struct identity **out, bool *whole, struct error *err) {
    AUTO(identity) identity = calloc(1, sizeof *identity);
    if (identity == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    struct survey s = {
        .options = options, .begun = clock_mono(), .identity = identity, .whole = true};
    identity->portal = *portal;
    int code = list_targets(&s, err);
    if (code == 0)
        code = survey_targets(&s, err);
    *whole = s.whole;
    if (code == 0)
        *out = take_pointer(&identity);
    return code;
}
