#include "tap/iscsi/seek.h"

#include "common/crc32c.h"
#include "common/cursor.h"
#include "tap/iscsi/shape.h"

#include <string.h>

/*
 * What a PDU in a row adds to the belief that it is one: 1 for its shape, 1 more where a segment
 * began, 3 for a digest that holds.
 */
enum { ENOUGH = 4, FOR_SHAPE = 1, FOR_START = 1, FOR_DIGEST = 3 };

/* The least likely to be taken for another one comes first. */
enum framing { HEADER_DIGEST = 1, DATA_DIGEST = 2, FRAMINGS = 4 };

/* Numbers of one sender go on; what is lost in front of the first is not known. */
#define MOST_AHEAD (1 << 20)

/*
 * Work is counted in bytes of which a digest is computed; looking at a header costs as much as so
 * many. Data that is made to look like headers everywhere could take the square of its length.
 */
enum { MOST_WORK = 64 << 20, HEADER_WORK = 256 };

/* Among so many in a row a data segment is looked for, to see whether a digest follows it. */
enum { MOST_PDUS = 64 };

enum verdict { REJECTED, UNDECIDED, BELIEVED };

void seek_init(struct seek *s, bool of_initiator, const struct seek_digests *digests, int phase) {
    *s = (struct seek){.of_initiator = of_initiator, .digests = *digests, .phase = phase};
}

static bool is_segment_start(const struct seek_view *view, size_t at) {
    size_t low = 0;
    size_t high = view->start_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (view->starts[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < view->start_count && view->starts[low] == at;
}

/* Behind a login, other digests can hold: what is sought begins there. */
static bool is_login(const uint8_t *head) {
    uint8_t opcode = pdu_parse(head).opcode;
    return opcode == PDU_LOGIN_REQUEST || opcode == PDU_LOGIN_RESPONSE;
}

/* Of one sender, not before `least`, and not far behind it. */
static bool goes_on(struct candidate *c, unsigned which, uint32_t number, uint32_t next) {
    int32_t ahead = c->has_least[which] ? pdu_serial_distance(c->least[which], number) : 0;
    c->has_least[which] = true;
    c->least[which] = next;
    return ahead >= 0 && ahead < MOST_AHEAD;
}

/* Each number is taken once: what is sent again (7.2) is not believed, and what follows it is. */
static bool fits(const struct seek *s, struct candidate *c, const uint8_t *head) {
    struct pdu_numbers n = pdu_numbers(head);
    return shape_fits(head, s->of_initiator) && !is_login(head) &&
           (!n.has_number || goes_on(c, 0, n.number, n.number + (n.counts ? 1 : 0))) &&
           (!n.has_expected || goes_on(c, 1, n.expected, n.expected));
}

/* Takes `bytes` and, unless they have none, their digest. */
static enum verdict take_part(struct seek *s, struct candidate *c, struct cursor *in, size_t bytes,
                              bool has_digest) {
    size_t whole = bytes + (has_digest ? (size_t)PDU_DIGEST_BYTES : 0);
    const uint8_t *part = in->next;
    c->needs += whole;
    if (cursor_left(in) < whole)
        return UNDECIDED;
    cursor_skip(in, bytes);
    if (!has_digest)
        return BELIEVED;
    s->work += bytes;
    if (cursor_le32(in) != crc32c(0, part, bytes))
        return REJECTED;
    c->belief = (uint16_t)(c->belief + FOR_DIGEST);
    return BELIEVED;
}

static enum verdict take_parts(struct seek *s, struct candidate *c, struct cursor *in) {
    struct pdu pdu = pdu_parse(in->next);
    size_t padded = ((size_t)pdu.data_bytes + 3) / 4 * 4;
    c->needs = c->at;
    c->had_data |= padded > 0;
    enum verdict verdict = take_part(s, c, in, PDU_HEAD_BYTES + (size_t)pdu.ahs_bytes,
                                     (c->framing & HEADER_DIGEST) != 0);
    if (verdict != BELIEVED)
        return verdict;
    return take_part(s, c, in, padded, (c->framing & DATA_DIGEST) != 0 && padded > 0);
}

/* One PDU further; it counts for nothing before it is whole. */
static enum verdict step(struct seek *s, const struct seek_view *view, struct candidate *c) {
    struct cursor in = cursor_of(view->bytes, view->length);
    struct candidate next = *c;
    if (view->length < c->needs)
        return UNDECIDED;
    cursor_skip(&in, c->at);
    s->work += HEADER_WORK;
    if (!fits(s, &next, in.next))
        return REJECTED;
    enum verdict verdict = take_parts(s, &next, &in);
    if (verdict == UNDECIDED)
        c->needs = next.needs;
    if (verdict != BELIEVED)
        return verdict;
    bool start = is_segment_start(view, c->at);
    next.belief = (uint16_t)(next.belief + FOR_SHAPE + (start ? FOR_START : 0));
    next.begins_segment |= start && c->pdus == 0;
    next.pdus++;
    next.at = next.needs;
    next.needs += PDU_HEAD_BYTES;
    *c = next;
    return BELIEVED;
}

static bool is_exhausted(const struct seek *s) {
    return s->work > MOST_WORK;
}

/*
 * Whether data is followed by a digest shows only with data: as long as none was among them, more
 * PDUs are looked at when they are there.
 */
static bool wants_more(const struct seek *s, const struct candidate *c) {
    return c->belief < ENOUGH || (!s->digests.data_known && !c->had_data && c->pdus < MOST_PDUS);
}

static enum verdict judge(struct seek *s, const struct seek_view *view, struct candidate *c) {
    enum verdict verdict = BELIEVED;
    while (verdict == BELIEVED && !is_exhausted(s) && wants_more(s, c))
        verdict = step(s, view, c);
    if (is_exhausted(s))
        return UNDECIDED;
    return verdict == UNDECIDED && c->belief >= ENOUGH ? BELIEVED : verdict;
}

/* One that just fills what is there. */
static bool is_whole(const struct seek_view *view, const struct candidate *c) {
    return c->pdus > 0 && c->at == view->length && c->begins_segment;
}

static void take_hit(const struct seek *s, const struct candidate *c, struct seek_hit *hit) {
    hit->start = c->start;
    hit->digests = (struct seek_digests){.header_known = true,
                                         .header = (c->framing & HEADER_DIGEST) != 0,
                                         .data_known = s->digests.data_known || c->had_data,
                                         .data = (c->framing & DATA_DIGEST) != 0};
}

/* When no more is waited for, all that is still of use is one to guess with. */
static bool is_of_use(const struct seek_view *view, const struct candidate *c, size_t before) {
    return !view->last_chance || (before == 0 && is_whole(view, c));
}

/* True: the first place that is believed is the first that is not rejected. */
static bool decide(struct seek *s, const struct seek_view *view, struct seek_hit *hit) {
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct candidate candidate = s->candidates[i];
        enum verdict verdict = judge(s, view, &candidate);
        if (verdict == BELIEVED && (kept == 0 || view->last_chance)) {
            take_hit(s, &candidate, hit);
            return true;
        }
        if (verdict != REJECTED && is_of_use(view, &candidate, kept))
            s->candidates[kept++] = candidate;
    }
    s->count = kept;
    return false;
}

/* Nothing is certain, and no more will be waited for. */
static bool guess(const struct seek *s, struct seek_hit *hit) {
    if (s->count == 0 || is_exhausted(s))
        return false;
    take_hit(s, &s->candidates[0], hit);
    return true;
}

static bool is_possible(const struct seek *s, uint8_t framing) {
    bool header = (framing & HEADER_DIGEST) != 0;
    bool data = (framing & DATA_DIGEST) != 0;
    return (!s->digests.header_known || s->digests.header == header) &&
           (!s->digests.data_known || s->digests.data == data);
}

static bool has_room(const struct seek *s) {
    return s->count + FRAMINGS <= SEEK_CANDIDATES;
}

static void add(struct seek *s, size_t start) {
    for (int framing = FRAMINGS - 1; framing >= 0; framing--) {
        if (is_possible(s, (uint8_t)framing))
            s->candidates[s->count++] = (struct candidate){.start = start,
                                                           .at = start,
                                                           .needs = start + PDU_HEAD_BYTES,
                                                           .framing = (uint8_t)framing};
    }
}

void seek_init_here(struct seek *s, bool of_initiator, const struct seek_digests *digests) {
    seek_init(s, of_initiator, digests, -1);
    s->scanned = SIZE_MAX - PDU_HEAD_BYTES;
    add(s, 0);
}

static bool is_more_to_scan(const struct seek *s, const struct seek_view *view) {
    return has_room(s) && s->scanned + PDU_HEAD_BYTES <= view->length;
}

/* New places, as long as there is room for them. */
static void scan(struct seek *s, const struct seek_view *view) {
    for (; is_more_to_scan(s, view); s->scanned++) {
        if (s->phase >= 0 && (s->scanned & 3) != (size_t)s->phase)
            continue;
        if (shape_fits(view->bytes + s->scanned, s->of_initiator))
            add(s, s->scanned);
    }
}

bool seek_find(struct seek *s, const struct seek_view *view, struct seek_hit *hit) {
    do {
        scan(s, view);
        if (decide(s, view, hit))
            return true;
    } while (is_more_to_scan(s, view) && !is_exhausted(s));
    return view->last_chance && guess(s, hit);
}
