/*
 * chap: the name and the secret that a target wants to hear (RFC 7143 12.1.3), from a file that
 * nobody else can read.
 *
 * Two lines: the name, the secret.
 */
#ifndef SANREWIND_TAP_IDENTIFY_CHAP_H
#define SANREWIND_TAP_IDENTIFY_CHAP_H

#include "common/error.h"

enum { CHAP_WORD_BYTES = 256 };

struct chap {
    char user[CHAP_WORD_BYTES];
    char secret[CHAP_WORD_BYTES];
};

/* Refused: a file that others than its owner may read, write or run, or that is no such file. */
int chap_read(const char *path, struct chap *chap, struct error *err);
/* Leaves nothing in memory. */
void chap_forget(struct chap *chap);

#endif
