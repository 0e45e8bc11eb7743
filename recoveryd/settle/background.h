/*
 * background: threads that do what a store needs now and then, so that nobody has to wait for it:
 * settle what can be settled, merge the index's journal, see how much space is left.
 */
#ifndef SANREWIND_RECOVERYD_SETTLE_BACKGROUND_H
#define SANREWIND_RECOVERYD_SETTLE_BACKGROUND_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/store/store.h"

struct background;

struct background_work {
    const char *doing; /* "settle copies and audits": what is said when it fails */
    /* *again: there is more to do, at once. */
    int (*work)(struct store *s, bool *again, struct error *err);
    unsigned rest; /* so many times as long as the last call took */
};
extern const struct background_work background_settle;
extern const struct background_work background_merge;
extern const struct background_work background_room;

/* The store is borrowed, and open for writing. Starts the thread. */
int background_create(struct store *s, const struct background_work *work, struct background **out,
                      struct error *err);
/* Waits for what it is at. */
void background_destroy(struct background *b);

DEFINE_AUTO(background, background_destroy)

#endif
