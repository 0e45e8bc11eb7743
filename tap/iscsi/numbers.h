/*
 * numbers: what the sequence numbers of a session prove (RFC 7143 4.2.2). Pure.
 *
 * Every command that is not immediate takes the next CmdSN of its session: a number that passed on
 * no connection is a command that was missed. Every status takes the next StatSN of its connection.
 */
#ifndef SANREWIND_TAP_ISCSI_NUMBERS_H
#define SANREWIND_TAP_ISCSI_NUMBERS_H

#include "common/rangeset.h"

#include <stdbool.h>
#include <stdint.h>

enum { NUMBERS_RANGES = 256 };

enum numbers_step {
    NUMBERS_FIRST,  /* nothing was known before */
    NUMBERS_NEXT,   /* just what was due */
    NUMBERS_AHEAD,  /* some before it have not passed */
    NUMBERS_BEHIND, /* it passed before, or was missing and is no longer */
    NUMBERS_WILD,   /* not of this session: nothing is known any more */
};

struct command_numbers {
    bool known;
    uint64_t next; /* widened; the low 32 bits are the CmdSN that is due */
    struct rangeset missing;
};

void command_numbers_init(struct command_numbers *n);
void command_numbers_release(struct command_numbers *n);
/* A command took `number`. */
enum numbers_step command_numbers_take(struct command_numbers *n, uint32_t number);
/* All below `number` have been sent, says the target's ExpCmdSN, or an immediate command. */
enum numbers_step command_numbers_reach(struct command_numbers *n, uint32_t number);
/* How many were never seen. */
uint64_t command_numbers_missing(const struct command_numbers *n);
/* What went on meanwhile is not known. */
void command_numbers_forget(struct command_numbers *n);

struct status_numbers {
    bool known;
    uint32_t next;
};

/* `counts`: a status took it; otherwise it is the next one. *lost: so many passed unseen before. */
enum numbers_step status_numbers_see(struct status_numbers *n, uint32_t number, bool counts,
                                     uint32_t *lost);

#endif
