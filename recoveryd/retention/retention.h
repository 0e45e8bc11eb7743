/*
 * retention: keeps of each volume's history what its rule says, and lets the rest go, a little at a
 * time, while everything else goes on.
 *
 * What is let go is written down first (index/thinned.h), then taken out of the index in short
 * steps. A crash at any point leaves a store that tells the truth, and the work goes on at the next
 * start.
 */
#ifndef SANREWIND_RECOVERYD_RETENTION_H
#define SANREWIND_RECOVERYD_RETENTION_H

#include "common/error.h"
#include "recoveryd/settle/background.h"
#include "recoveryd/store/store.h"

/* Some of it; *again: there is more to do now. By one thread of all processes: recoveryd's. */
int retention_work(struct store *s, bool *again, struct error *err);
extern const struct background_work background_retention;

#endif
