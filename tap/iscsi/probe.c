#include "tap/iscsi/internal.h"

#include <utlist.h>

/*
 * To which target of its portal does a session lead whose login was not seen? Blocks that were just
 * written on it (tap/scsi/sample.c) are read from every target that it may be one with. A target is
 * believed when it holds several of them and nothing else than was written, when none of the others
 * holds any, and when that was so twice: in the second round with blocks that were written after
 * the first had ended, which a snapshot taken meanwhile does not hold.
 *
 * A difference says something only when nothing changed the block up to the answer, and that is
 * known when all that passed up to then has been followed.
 */

enum {
    MOST_PORTALS = 64,
    MOST_UNITS = 32768, /* of all portals: 18 MiB */
    MOST_TARGETS = 256, /* of one portal; those beyond are not asked, and then nobody is believed */
    MOST_ASKED = 4,
    LEAST_EQUAL = 3,
    MOST_FAILURES = 7,
    NOBODY = MOST_TARGETS,
};

/* So long samples are waited for, once there are enough: there may be more of other units. */
#define GATHER_NS   (2 * NS_PER_SECOND)
#define SAMPLING_NS (60 * NS_PER_SECOND)
/* An answer has been lost then. */
#define ANSWER_NS (300 * NS_PER_SECOND)
/* How far the clock that stamps packets may be behind the one that stamps answers. */
#define MARGIN_NS     NS_PER_SECOND
#define REST_NS       (60 * NS_PER_SECOND)
#define SHORT_REST_NS (5 * NS_PER_SECOND)
#define OLD_NS        (600 * NS_PER_SECOND)

struct known_portal {
    struct identity *identity;
    uint64_t number; /* of the answer */
    uint64_t told_ns;
    struct known_portal *prev, *next;
};

enum stage {
    STAGE_REST,     /* until since_ns */
    STAGE_SAMPLING, /* since since_ns */
    STAGE_ASKING,   /* the next target is to be asked */
    STAGE_ASKED,    /* it is being asked, since since_ns */
    STAGE_JUDGING,  /* all were: when it is known what changed meanwhile */
};

struct probing {
    enum stage stage;
    uint64_t since_ns;
    uint64_t after_ns; /* samples have to be younger */
    uint64_t answer;   /* of the portal: struct known_portal's number */
    uint64_t probe;    /* the number of the one that is under way */
    uint64_t answered_ns;
    unsigned failures;
    size_t candidate; /* index of the target that is, or will be, asked */
    size_t proven;    /* by the round before; or NOBODY */
    struct tracker_sample samples[TRACKER_SAMPLES];
    size_t sample_count;
    uint8_t asked[TRACKER_SAMPLES]; /* which sample each block of the probe is */
    bool excluded[MOST_TARGETS];
    /* By target, a bit for each sample. */
    uint8_t equal[MOST_TARGETS];
    uint8_t different[MOST_TARGETS];
};

/* --- what portals said ----------------------------------------------------------------------- */

static struct known_portal *known_of(const struct iscsi *i, const struct portal *portal) {
    struct known_portal *known;
    DL_FOREACH(i->known, known) {
        if (portal_equal(&known->identity->portal, portal))
            return known;
    }
    return NULL;
}

static void forget(struct iscsi *i, struct known_portal *known) {
    DL_DELETE(i->known, known);
    i->known_count--;
    i->known_units -= identity_units(known->identity);
    identity_destroy(known->identity);
    free(known);
}

void probe_release(struct iscsi *i) {
    while (i->known != NULL)
        forget(i, i->known);
}

static bool has_unnamed(const struct iscsi *i, const struct portal *portal) {
    for (const struct session *s = i->sessions; s != NULL; s = s->next) {
        if (s->late && !s->named && portal_equal(&s->portal, portal))
            return true;
    }
    return false;
}

/* When there is no room for another, its sessions keep their provisional names. */
void probe_keep(struct iscsi *i, const struct identity *identity, uint64_t time_ns) {
    struct known_portal *known = known_of(i, &identity->portal);
    size_t units = identity_units(identity);
    if (known != NULL)
        forget(i, known);
    if (!has_unnamed(i, &identity->portal) || i->known_count >= MOST_PORTALS ||
        units > MOST_UNITS - i->known_units)
        return;
    known = calloc(1, sizeof *known);
    if (known == NULL)
        return;
    known->identity = identity_copy(identity);
    if (known->identity == NULL) {
        free(known);
        return;
    }
    known->number = ++i->answer_count;
    known->told_ns = time_ns;
    DL_APPEND(i->known, known);
    i->known_count++;
    i->known_units += units;
}

/* Portals are asked again now and then, as long as somebody has no name; others are forgotten. */
static void renew(struct iscsi *i, uint64_t now_ns) {
    struct known_portal *known, *next;
    DL_FOREACH_SAFE(i->known, known, next) {
        if (now_ns < known->told_ns + OLD_NS)
            continue;
        known->told_ns = now_ns;
        if (!has_unnamed(i, &known->identity->portal)) {
            forget(i, known);
            continue;
        }
        for (struct session *s = i->sessions; s != NULL; s = s->next) {
            if (s->late && !s->named && portal_equal(&s->portal, &known->identity->portal))
                s->asked = false;
        }
    }
}

/* --- one session ----------------------------------------------------------------------------- */

void probe_free(struct session *s) {
    free(s->probing);
    s->probing = NULL;
}

static void rest(struct session *s, uint64_t until_ns) {
    tracker_nexus_unsample(s->nexus);
    s->probing->stage = STAGE_REST;
    s->probing->since_ns = until_ns;
}

/* What is known of its targets is as good as nothing. */
static void fail(struct session *s, uint64_t now_ns) {
    struct probing *p = s->probing;
    p->proven = NOBODY;
    rest(s, now_ns + (SHORT_REST_NS << p->failures));
    if (p->failures < MOST_FAILURES)
        p->failures++;
}

static bool can_hold(const struct identity_target *target, const struct tracker_sample *sample) {
    const struct identity_unit *unit = identity_unit_at(target, sample->lun);
    return unit != NULL && unit->is_disk && unit->block_bytes == sample->block_bytes;
}

static bool is_candidate(const struct session *s, const struct identity *identity, size_t k) {
    return !s->probing->excluded[k] && tracker_nexus_may_be(s->nexus, &identity->targets[k]);
}

static bool has_candidate(const struct session *s, const struct identity *identity) {
    for (size_t k = 0; k < identity->target_count; k++) {
        if (is_candidate(s, identity, k))
            return true;
    }
    return false;
}

static void begin_round(struct session *s, const struct identity *identity, uint64_t now_ns) {
    struct probing *p = s->probing;
    if (identity->target_count > MOST_TARGETS || !has_candidate(s, identity)) {
        rest(s, now_ns + REST_NS);
        return;
    }
    if (!tracker_nexus_sample(s->nexus, p->after_ns)) {
        rest(s, now_ns + SHORT_REST_NS);
        return;
    }
    p->stage = STAGE_SAMPLING;
    p->since_ns = now_ns;
}

static void gather(struct session *s, uint64_t now_ns) {
    struct probing *p = s->probing;
    p->sample_count = tracker_nexus_samples(s->nexus, p->samples);
    bool enough = p->sample_count == TRACKER_SAMPLES ||
                  (p->sample_count >= LEAST_EQUAL && now_ns >= p->since_ns + GATHER_NS);
    if (enough) {
        p->stage = STAGE_ASKING;
        p->candidate = 0;
        memset(p->equal, 0, sizeof p->equal);
        memset(p->different, 0, sizeof p->different);
    } else if (now_ns >= p->since_ns + SAMPLING_NS) {
        rest(s, now_ns + SHORT_REST_NS); /* others may be waiting */
    }
}

/* The blocks that can be there. */
static void fill_probe(struct session *s, const struct identity_target *target,
                       struct identity_probe *probe) {
    struct probing *p = s->probing;
    *probe = (struct identity_probe){.number = ++s->owner->probe_count, .portal = s->portal};
    memcpy(probe->target, target->name, sizeof probe->target);
    for (size_t k = 0; k < p->sample_count; k++) {
        const struct tracker_sample *sample = &p->samples[k];
        if (!can_hold(target, sample))
            continue;
        p->asked[probe->count] = (uint8_t)k;
        probe->blocks[probe->count++] = (struct identity_block){
            .lun = sample->lun, .lba = sample->lba, .block_bytes = sample->block_bytes};
    }
}

/* True: there is a question. Targets that can't hold any of the blocks are passed over. */
static bool ask_next(struct session *s, const struct identity *identity, uint64_t now_ns,
                     struct identity_probe *probe) {
    struct probing *p = s->probing;
    for (; p->candidate < identity->target_count; p->candidate++) {
        if (!is_candidate(s, identity, p->candidate))
            continue;
        fill_probe(s, &identity->targets[p->candidate], probe);
        if (probe->count == 0)
            continue;
        p->probe = probe->number;
        p->stage = STAGE_ASKED;
        p->since_ns = now_ns;
        return true;
    }
    p->stage = STAGE_JUDGING;
    return false;
}

/* Which samples are as they were, and which of those is nobody about to change? */
static void look_at_samples(const struct session *s, uint8_t *kept, uint8_t *quiet) {
    const struct probing *p = s->probing;
    *kept = *quiet = 0;
    for (size_t k = 0; k < p->sample_count; k++) {
        enum tracker_hold hold = tracker_nexus_holds(s->nexus, p->samples[k].number);
        uint8_t bit = (uint8_t)(1u << k);
        *kept |= hold != SAMPLE_GONE ? bit : 0;
        *quiet |= hold == SAMPLE_HOLDS ? bit : 0;
    }
}

/* The target that holds what was written, and the only one: or NOBODY. *clear: that is certain. */
static size_t judge(struct session *s, const struct identity *identity, bool *clear) {
    struct probing *p = s->probing;
    size_t found = NOBODY;
    uint8_t kept, quiet;
    look_at_samples(s, &kept, &quiet);
    *clear = true;
    for (size_t k = 0; k < identity->target_count; k++) {
        int equal = __builtin_popcount(p->equal[k] & kept);
        int different = __builtin_popcount(p->different[k] & quiet);
        bool read = (p->equal[k] | p->different[k]) != 0;
        if (equal == 0 && different > 0)
            p->excluded[k] = true;
        else if (equal >= LEAST_EQUAL && different == 0 && found == NOBODY)
            found = k;
        else if (read)
            *clear = false;
    }
    return found;
}

static void conclude(struct session *s, const struct identity *identity, uint64_t now_ns) {
    struct probing *p = s->probing;
    bool clear = false;
    size_t found = judge(s, identity, &clear);
    if (!clear) {
        fail(s, now_ns);
    } else if (found == NOBODY) {
        p->proven = NOBODY;
        rest(s, now_ns + REST_NS);
    } else if (found == p->proven) {
        late_name(s, &identity->targets[found], s->owner->now_ns);
    } else {
        p->proven = found;
        p->after_ns = now_ns;
        begin_round(s, identity, now_ns);
    }
}

/* A new answer of its portal: from the beginning. */
static bool start_anew(struct session *s, const struct known_portal *known, uint64_t now_ns) {
    if (s->probing == NULL)
        s->probing = malloc(sizeof *s->probing);
    if (s->probing == NULL)
        return false;
    *s->probing = (struct probing){.answer = known->number, .proven = NOBODY, .after_ns = now_ns};
    rest(s, now_ns);
    return true;
}

/* True: there is a question. */
static bool step(struct session *s, const struct known_portal *known, uint64_t now_ns,
                 struct identity_probe *probe) {
    const struct identity *identity = known->identity;
    const struct identity_target *told = late_target(s, identity);
    if (told != NULL) {
        late_name(s, told, s->owner->now_ns);
        return false;
    }
    if ((s->probing == NULL || s->probing->answer != known->number) &&
        !start_anew(s, known, now_ns))
        return false;
    struct probing *p = s->probing;
    switch (p->stage) {
    case STAGE_REST:
        if (now_ns >= p->since_ns)
            begin_round(s, identity, now_ns);
        return false;
    case STAGE_SAMPLING:
        gather(s, now_ns);
        return false;
    case STAGE_ASKING:
        return ask_next(s, identity, now_ns, probe);
    case STAGE_ASKED:
        if (now_ns >= p->since_ns + ANSWER_NS)
            fail(s, now_ns);
        return false;
    case STAGE_JUDGING:
        if (now_ns > p->answered_ns + MARGIN_NS)
            conclude(s, identity, now_ns);
        return false;
    }
    return false;
}

/* --- the door -------------------------------------------------------------------------------- */

bool iscsi_wants_probe(struct iscsi *i, uint64_t settled_ns, struct identity_probe *probe) {
    size_t asked = 0;
    if (i->known == NULL)
        return false;
    renew(i, settled_ns);
    for (const struct session *s = i->sessions; s != NULL; s = s->next)
        asked += s->probing != NULL && s->probing->stage == STAGE_ASKED;
    for (struct session *s = i->sessions; s != NULL && asked < MOST_ASKED; s = s->next) {
        const struct known_portal *known = s->late && !s->named ? known_of(i, &s->portal) : NULL;
        if (known != NULL && step(s, known, settled_ns, probe))
            return true;
    }
    return false;
}

static void compare(struct probing *p, const struct identity_probe *answer) {
    for (size_t k = 0; k < answer->count && k < TRACKER_SAMPLES; k++) {
        const struct identity_block *block = &answer->blocks[k];
        uint8_t bit = (uint8_t)(1u << p->asked[k]);
        if (!block->read)
            continue;
        if (block->id == p->samples[p->asked[k]].id)
            p->equal[p->candidate] |= bit;
        else
            p->different[p->candidate] |= bit;
    }
}

void iscsi_probe_answer(struct iscsi *i, const struct identity_probe *answer) {
    for (struct session *s = i->sessions; s != NULL; s = s->next) {
        struct probing *p = s->probing;
        if (p == NULL || p->stage != STAGE_ASKED || p->probe != answer->number)
            continue;
        compare(p, answer);
        if (answer->answered_ns > p->answered_ns)
            p->answered_ns = answer->answered_ns;
        p->candidate++;
        p->stage = STAGE_ASKING;
        return;
    }
}
