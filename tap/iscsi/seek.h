/*
 * seek: finds where PDUs of full feature phase begin in the middle of one direction of a stream,
 * and whether they carry digests. Pure: it is shown the bytes from one place on, again and again as
 * more of them come.
 *
 * A place is believed when several PDUs in a row have the shape of headers, with numbers that go
 * on, or when a digest holds. Of several places the first counts: another one behind it can lie in
 * the data of its PDUs. Somebody who writes data that looks like PDUs can be taken at his word
 * only where the PDU around it was cut, or its end is not waited for.
 *
 * Its work is bounded whatever the bytes are: each PDU of a candidate is looked at once, and past a
 * limit that honest streams do not come near nothing is believed any more. Not thread-safe.
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

/* A place where a PDU may begin, with one kind of framing, and what its PDUs have shown so far. */
struct candidate {
    size_t start;
    size_t at;         /* its PDUs are whole up to here */
    size_t needs;      /* before so many bytes are there nothing more can be said */
    uint32_t least[2]; /* of the next PDU that has it: number, expected */
    bool has_least[2];
    uint8_t framing;
    uint8_t pdus;
    uint16_t belief;
    bool had_data;
    bool begins_segment; /* the first of them did */
};

struct seek {
    bool of_initiator;
    struct seek_digests digests;
    int phase;      /* PDUs begin at offsets that leave this by 4; -1: not known */
    size_t scanned; /* every place before it was looked at */
    uint64_t work;
    size_t count;
    struct candidate candidates[SEEK_CANDIDATES]; /* not decided yet, ascending */
};

struct seek_view {
    const uint8_t *bytes;
    size_t length;
    /* Offsets at which segments began, ascending: where a PDU is more likely to begin. */
    const size_t *starts;
    size_t start_count;
    bool last_chance; /* nobody will wait for more: take the likeliest, forget the rest */
};

struct seek_hit {
    size_t start;
    struct seek_digests digests;
};

void seek_init(struct seek *s, bool of_initiator, const struct seek_digests *digests, int phase);
/* A PDU begins with the first byte: only its digests are sought. */
void seek_init_here(struct seek *s, bool of_initiator, const struct seek_digests *digests);
/* True: found, and all is done. False: show more, behind what was shown. */
bool seek_find(struct seek *s, const struct seek_view *view, struct seek_hit *hit);

#endif
