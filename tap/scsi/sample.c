#include "tap/scsi/internal.h"

#include "common/clock.h"
#include "common/digest.h"

#include <utlist.h>

/*
 * Who finds several blocks on a logical unit that were just written, random enough to be nowhere
 * else, has found the unit that they were written to; or one that a host or the storage writes the
 * same to. Of those that a host does, we see the other write.
 */

enum {
    MOST_SAMPLERS = 64,
    MOST_OF_LUN = TRACKER_SAMPLES / 2, /* so that a busy unit leaves room for others */
    LEAST_VALUES = 24,                 /* of a byte, in a block that is worth something */
};

/* Between two looks at what a session writes. */
#define PAUSE_NS (100 * NS_PER_MS)
/* Two writes of a block, to two units, as near to one another may be of a mirror. */
#define MIRROR_NS (2 * NS_PER_SECOND)

struct sampler {
    struct target *target;
    uint64_t after_ns;
    uint64_t looked_ns;
    size_t count;
    struct tracker_sample samples[TRACKER_SAMPLES];
    struct sampler *prev, *next;
};

bool tracker_nexus_sample(struct nexus *n, uint64_t after_ns) {
    struct tracker *t = n->tracker;
    struct sampler *s = n->target->sampler;
    if (s == NULL && t->sampler_count < MOST_SAMPLERS) {
        s = calloc(1, sizeof *s);
        if (s == NULL)
            return false;
        s->target = n->target;
        n->target->sampler = s;
        DL_APPEND(t->samplers, s);
        t->sampler_count++;
    }
    if (s == NULL)
        return false;
    s->after_ns = after_ns;
    s->count = 0;
    return true;
}

void sample_end(struct tracker *t, struct target *target) {
    if (target->sampler == NULL)
        return;
    DL_DELETE(t->samplers, target->sampler);
    t->sampler_count--;
    free(target->sampler);
    target->sampler = NULL;
}

void tracker_nexus_unsample(struct nexus *n) {
    sample_end(n->tracker, n->target);
}

size_t tracker_nexus_samples(const struct nexus *n, struct tracker_sample list[TRACKER_SAMPLES]) {
    const struct sampler *s = n->target->sampler;
    if (s == NULL)
        return 0;
    memcpy(list, s->samples, s->count * sizeof s->samples[0]);
    return s->count;
}

static enum tracker_hold hold_of(const struct nexus *n, const struct tracker_sample *sample) {
    struct path *path = path_at(n->tracker, n->target, sample->lun);
    if (path == NULL || path->block_stale || path->sink.block_bytes != sample->block_bytes)
        return SAMPLE_GONE;
    bool open = rival_in_flight(n->tracker, path->unit, NULL, sample->lba, sample->lba + 1);
    return open ? SAMPLE_OPEN : SAMPLE_HOLDS;
}

enum tracker_hold tracker_nexus_holds(const struct nexus *n, uint64_t number) {
    const struct sampler *s = n->target->sampler;
    for (size_t i = 0; s != NULL && i < s->count; i++) {
        if (s->samples[i].number == number)
            return hold_of(n, &s->samples[i]);
    }
    return SAMPLE_GONE;
}

void sample_touch(struct tracker *t, uint64_t first, uint64_t end) {
    struct sampler *s;
    DL_FOREACH(t->samplers, s) {
        for (size_t i = s->count; i > 0; i--) {
            const struct tracker_sample *sample = &s->samples[i - 1];
            if (first <= sample->lba && sample->lba < end)
                s->samples[i - 1] = s->samples[--s->count];
        }
    }
}

/* A pattern of any length up to half a block equals itself a period on. */
static bool is_pattern(const uint8_t *block, size_t bytes) {
    for (size_t period = 1; period <= bytes / 2; period *= 2) {
        if (memcmp(block, block + period, bytes - period) == 0)
            return true;
    }
    return false;
}

static bool has_many_values(const uint8_t *block, size_t bytes) {
    bool seen[256] = {false};
    unsigned values = 0;
    for (size_t i = 0; i < bytes && values < LEAST_VALUES; i++) {
        values += !seen[block[i]];
        seen[block[i]] = true;
    }
    return values == LEAST_VALUES;
}

static bool has_room(const struct sampler *s, uint64_t lun, uint64_t id) {
    size_t of_lun = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->samples[i].id == id)
            return false;
        of_lun += s->samples[i].lun == lun;
    }
    return s->count < TRACKER_SAMPLES && of_lun < MOST_OF_LUN;
}

/* Did nothing else change that block lately, of this unit or any? The last entry is its own. */
static bool is_alone(const struct ending *e, uint64_t lba) {
    const struct tracker *t = e->t;
    const struct unit *unit = e->x->path->unit;
    uint64_t oldest = t->recent_count > RECENT_CHANGES ? t->recent_count - RECENT_CHANGES : 0;
    for (uint64_t i = t->recent_count - 1; i > oldest; i--) {
        const struct ended_change *r = &t->recent[(i - 1) % RECENT_CHANGES];
        if (r->newest_ns + MIRROR_NS <= e->x->issued_ns)
            return true;
        uint64_t until_ns = r->unit == unit ? r->ended_ns : r->ended_ns + MIRROR_NS;
        uint64_t since_ns = r->unit == unit ? e->time_ns : e->x->issued_ns;
        if (r->first <= lba && lba < r->end && until_ns > since_ns)
            return false;
    }
    return true;
}

static bool is_due(struct sampler *s, const struct ending *e) {
    const struct path *path = e->x->path;
    if (s->count == TRACKER_SAMPLES || e->x->issued_ns <= s->after_ns ||
        e->time_ns < s->looked_ns + PAUSE_NS || path->block_stale || path->refused)
        return false;
    s->looked_ns = e->time_ns;
    return true;
}

void sample_take(const struct ending *e, uint64_t lba, uint64_t blocks,
                 const struct payload *data) {
    const struct path *path = e->x->path;
    struct sampler *s = path->target->sampler;
    uint32_t block_bytes = path->sink.block_bytes;
    size_t bytes = 0;
    if (data == NULL || blocks == 0 || block_bytes == 0 || !is_due(s, e))
        return;
    const uint8_t *block = payload_bytes(data, 0, block_bytes, &bytes);
    if (block == NULL || bytes != block_bytes || is_pattern(block, bytes) ||
        !has_many_values(block, bytes))
        return;
    /* No CRC: a block that ends in one of itself would be like any other that does. */
    uint64_t id = digest_id64(block, bytes);
    if (!has_room(s, path->sink.lun, id) || !is_alone(e, lba))
        return;
    s->samples[s->count++] = (struct tracker_sample){.number = ++e->t->sample_count,
                                                     .lun = path->sink.lun,
                                                     .lba = lba,
                                                     .block_bytes = block_bytes,
                                                     .id = id};
}
