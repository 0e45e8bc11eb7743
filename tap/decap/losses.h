/*
 * losses: what mirrors lost on the way, told by the numbers that they give their frames.
 *
 * A mirror that numbers its frames (the GRE sequence of ERSPAN II and III, the packet count of a
 * Cisco port analyser adapter) proves a loss by a jump. Frames that come late, within a window of
 * 64 numbers and 100 ms, are no loss. A counter that begins again may hide one, and is told as one.
 * A session whose counter does so again and again is not one counter (line cards that number
 * for themselves); that is told, too, and it is not believed any more. A counter that stands still
 * is none.
 *
 * Memory is bounded: the session that was silent longest is forgotten when there are too many.
 */
#ifndef SANREWIND_TAP_LOSSES_H
#define SANREWIND_TAP_LOSSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct losses;

enum loss_kind { LOSS_ERSPAN2 = 2, LOSS_ERSPAN3 = 3, LOSS_PAA = 4 };

/* One counter: where it counts. Unused bytes are 0. */
struct loss_key {
    uint8_t kind;   /* enum loss_kind */
    uint8_t family; /* 4, 6; 0: `source` is a MAC address */
    uint16_t session;
    uint16_t engine; /* of the hardware that numbers, where it says so */
    uint8_t source[16];
    uint8_t destination[16];
};

struct losses_counters {
    uint64_t numbered; /* frames */
    uint64_t lost;
    uint64_t restarts;
    uint64_t unreliable; /* sessions whose numbers are not believed */
};

/* `text` is one sentence; all was still right at time_ns. */
typedef void losses_report(void *context, const char *text, uint64_t time_ns);

/* NULL: out of memory. */
struct losses *losses_create(losses_report *report, void *context);
void losses_destroy(struct losses *l);
/* A frame with this number, of which `bits` are kept (16 or 32). */
void losses_number(struct losses *l, const struct loss_key *key, uint32_t number, unsigned bits,
                   uint64_t time_ns);
/* When losses_tick() has something to decide; UINT64_MAX: nothing is open. For each packet to look
 * at: it lives as long as `l`. */
const uint64_t *losses_due(const struct losses *l);
/* What did not come in time by now_ns is lost. UINT64_MAX: all that is open. */
void losses_tick(struct losses *l, uint64_t now_ns);
const struct losses_counters *losses_counters(const struct losses *l);

#endif
