/*
 * seek: finds where PDUs begin in the middle of one direction of a stream, and whether they carry
 * digests. Pure: it is shown the bytes from one place on, again and again as more of them come.
 *
 * A place is believed when several PDUs in a row have the shape of headers, with numbers that go
 * on, or when a digest holds. Of several places the first counts: another one behind it can lie in
 * the data of its PDUs. Not thread-safe.
 */
#ifndef SANREWIND_TAP_ISCSI_SEEK_H
#define SANREWIND_TAP_ISCSI_SEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEEK_CANDIDATES = 32 };

/* What is known of the digests. */
struct seek_digests {
    bool header_known;
    bool header;
    bool data_known; /* of a place that was found: false when no data segment was among its PDUs */
    bool data;
};

struct seek {
    bool of_initiator;
    struct seek_digests digests;
    int phase;      /* PDUs begin at offsets that leave this by 4; -1: not known */
    size_t scanned; /* every place before it was looked at */
    size_t count;
    struct candidate {
        size_t start;
        uint8_t framing;
    } candidates[SEEK_CANDIDATES]; /* not decided yet, ascending */
};

struct seek_view {
    const uint8_t *bytes;
    size_t length;
    /* Offsets at which segments began, ascending: where a PDU is more likely to begin. */
    const size_t *starts;
    size_t start_count;
    bool last_chance; /* nobody will wait for more: take the likeliest */
};

struct seek_hit {
    size_t start;
    struct seek_digests digests;
};

void seek_init(struct seek *s, bool of_initiator, const struct seek_digests *digests, int phase);
/* A PDU begins with the first byte: only its digests are sought. */
void seek_init_here(struct seek *s, bool of_initiator, const struct seek_digests *digests);
/* True: found. False: show more. */
bool seek_find(struct seek *s, const struct seek_view *view, struct seek_hit *hit);

#endif
