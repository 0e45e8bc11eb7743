/*
 * background: a thread that settles what can be settled, so that nobody has to wait for it.
 */
#ifndef SANREWIND_RECOVERYD_SETTLE_BACKGROUND_H
#define SANREWIND_RECOVERYD_SETTLE_BACKGROUND_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/store/store.h"

struct background;

/* The store is borrowed, and open for writing. Starts the thread. */
int background_create(struct store *s, struct background **out, struct error *err);
/* Waits for what it is at. */
void background_destroy(struct background *b);

DEFINE_AUTO(background, background_destroy)

#endif
