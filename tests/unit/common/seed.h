/*
 * seed: property tests print their seed, and take it from SANREWIND_SEED to run again.
 */
#ifndef SANREWIND_TESTS_SEED_H
#define SANREWIND_TESTS_SEED_H

#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>

static inline unsigned test_seed(void) {
    const char *given = getenv("SANREWIND_SEED");
    unsigned seed =
        given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)(clock_wall_ns() / 1000);
    fprintf(stderr, "SANREWIND_SEED=%u\n", seed);
    return seed;
}

#endif
