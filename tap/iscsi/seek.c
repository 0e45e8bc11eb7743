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

enum verdict { REJECTED, UNDECIDED, BELIEVED };

struct walk {
    const struct seek_view *view;
    bool of_initiator;
    uint8_t framing;
    size_t at;
    unsigned belief;
    unsigned pdus;
    bool had_data;
    bool begins_segment; /* the first of them did */
    bool has_before[2];
    uint32_t before[2]; /* number, expected */
};

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

static bool goes_on(struct walk *w, unsigned which, bool has, uint32_t number) {
    if (!has)
        return true;
    int32_t ahead = w->has_before[which] ? pdu_serial_distance(w->before[which], number) : 0;
    w->has_before[which] = true;
    w->before[which] = number;
    return ahead >= 0 && ahead < MOST_AHEAD;
}

static bool digest_holds(const uint8_t *bytes, size_t count, struct cursor *digest) {
    return cursor_le32(digest) == crc32c(0, bytes, count);
}

/* The header digest, when there is one, at `c`. */
static enum verdict check_header(struct walk *w, struct cursor *c, const uint8_t *head,
                                 size_t head_bytes) {
    if ((w->framing & HEADER_DIGEST) == 0)
        return BELIEVED;
    if (cursor_left(c) < PDU_DIGEST_BYTES)
        return UNDECIDED;
    if (!digest_holds(head, head_bytes, c))
        return REJECTED;
    w->belief += FOR_DIGEST;
    return BELIEVED;
}

static enum verdict check_data(struct walk *w, struct cursor *c, const struct pdu *pdu) {
    size_t padded = ((size_t)pdu->data_bytes + 3) / 4 * 4;
    bool digest = (w->framing & DATA_DIGEST) != 0 && padded > 0;
    const uint8_t *data = c->next;
    if (padded + (digest ? (size_t)PDU_DIGEST_BYTES : 0) > cursor_left(c))
        return UNDECIDED;
    cursor_skip(c, padded);
    if (!digest)
        return BELIEVED;
    if (!digest_holds(data, padded, c))
        return REJECTED;
    w->belief += FOR_DIGEST;
    return BELIEVED;
}

/* One PDU further. */
static enum verdict step(struct walk *w) {
    struct cursor c = cursor_of(w->view->bytes, w->view->length);
    cursor_skip(&c, w->at);
    const uint8_t *head = c.next;
    if (cursor_left(&c) < PDU_HEAD_BYTES)
        return UNDECIDED;
    struct pdu pdu = pdu_parse(head);
    struct pdu_numbers numbers = pdu_numbers(head);
    if (!shape_fits(head, w->of_initiator) || !goes_on(w, 0, numbers.has_number, numbers.number) ||
        !goes_on(w, 1, numbers.has_expected, numbers.expected))
        return REJECTED;
    size_t head_bytes = PDU_HEAD_BYTES + (size_t)pdu.ahs_bytes;
    if (cursor_left(&c) < head_bytes)
        return UNDECIDED;
    cursor_skip(&c, head_bytes);
    enum verdict verdict = check_header(w, &c, head, head_bytes);
    if (verdict == BELIEVED)
        verdict = check_data(w, &c, &pdu);
    if (verdict != BELIEVED)
        return verdict;
    bool start = is_segment_start(w->view, w->at);
    w->belief += FOR_SHAPE + (start ? (unsigned)FOR_START : 0);
    w->begins_segment |= start && w->pdus == 0;
    w->had_data |= pdu.data_bytes > 0;
    w->pdus++;
    w->at = (size_t)(c.next - w->view->bytes);
    return BELIEVED;
}

/*
 * Whether data is followed by a digest shows only with data: as long as none was among them, more
 * PDUs are looked at when they are there.
 */
static enum verdict judge(const struct seek *s, const struct seek_view *view,
                          const struct candidate *candidate, struct walk *w) {
    *w = (struct walk){.view = view,
                       .of_initiator = s->of_initiator,
                       .framing = candidate->framing,
                       .at = candidate->start};
    enum verdict verdict = BELIEVED;
    bool data_known = s->digests.data_known;
    while (verdict == BELIEVED && (w->belief < ENOUGH || (!data_known && !w->had_data)))
        verdict = step(w);
    if (verdict == UNDECIDED && w->belief >= ENOUGH)
        return BELIEVED;
    return verdict;
}

static bool is_whole(const struct walk *w) {
    return w->pdus > 0 && w->at == w->view->length && w->begins_segment;
}

static void take_hit(const struct seek *s, const struct candidate *candidate, const struct walk *w,
                     struct seek_hit *hit) {
    hit->start = candidate->start;
    hit->digests = (struct seek_digests){.header_known = true,
                                         .header = (candidate->framing & HEADER_DIGEST) != 0,
                                         .data_known = s->digests.data_known || w->had_data,
                                         .data = (candidate->framing & DATA_DIGEST) != 0};
}

/* True: the first place that is believed is the first that is not rejected. */
static bool decide(struct seek *s, const struct seek_view *view, struct seek_hit *hit) {
    size_t kept = 0;
    bool found = false;
    for (size_t i = 0; i < s->count && !found; i++) {
        struct candidate candidate = s->candidates[i];
        struct walk w;
        enum verdict verdict = judge(s, view, &candidate, &w);
        if (verdict == BELIEVED && (kept == 0 || view->last_chance)) {
            take_hit(s, &candidate, &w, hit);
            found = true;
        } else if (verdict != REJECTED) {
            s->candidates[kept++] = candidate;
        }
    }
    if (!found)
        s->count = kept;
    return found;
}

/* Nothing is certain, and no more will be waited for: one that just fills what is there. */
static bool guess(const struct seek *s, const struct seek_view *view, struct seek_hit *hit) {
    for (size_t i = 0; i < s->count; i++) {
        struct walk w;
        judge(s, view, &s->candidates[i], &w);
        if (!is_whole(&w))
            continue;
        take_hit(s, &s->candidates[i], &w, hit);
        return true;
    }
    return false;
}

static bool is_possible(const struct seek *s, uint8_t framing) {
    bool header = (framing & HEADER_DIGEST) != 0;
    bool data = (framing & DATA_DIGEST) != 0;
    return (!s->digests.header_known || s->digests.header == header) &&
           (!s->digests.data_known || s->digests.data == data);
}

static void add(struct seek *s, size_t start) {
    for (int framing = FRAMINGS - 1; framing >= 0; framing--) {
        if (is_possible(s, (uint8_t)framing) && s->count < SEEK_CANDIDATES)
            s->candidates[s->count++] = (struct candidate){start, (uint8_t)framing};
    }
}

void seek_init_here(struct seek *s, bool of_initiator, const struct seek_digests *digests) {
    seek_init(s, of_initiator, digests, -1);
    s->scanned = SIZE_MAX - PDU_HEAD_BYTES;
    add(s, 0);
}

/* New places, as long as there is room for them. */
static void scan(struct seek *s, const struct seek_view *view) {
    for (; s->scanned + PDU_HEAD_BYTES <= view->length; s->scanned++) {
        if (s->phase >= 0 && (s->scanned & 3) != (size_t)s->phase)
            continue;
        if (s->count + FRAMINGS > SEEK_CANDIDATES)
            return;
        if (shape_fits(view->bytes + s->scanned, s->of_initiator))
            add(s, s->scanned);
    }
}

bool seek_find(struct seek *s, const struct seek_view *view, struct seek_hit *hit) {
    size_t before;
    do {
        before = s->scanned;
        scan(s, view);
        if (decide(s, view, hit))
            return true;
    } while (s->scanned > before && s->scanned + PDU_HEAD_BYTES <= view->length);
    return view->last_chance && guess(s, view, hit);
}
