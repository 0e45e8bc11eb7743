/*
 * truth: what is known of a capture: its files, its volumes before it, and their hashes at marks.
 */
#ifndef SANREWIND_TESTS_TRUTH_H
#define SANREWIND_TESTS_TRUTH_H

#include "common/digest.h"
#include "common/error.h"

#include <stdint.h>

enum { TRUTH_VOLUMES = 8, TRUTH_MARKS = 64, TRUTH_FILES = 4 };

struct truth_mark {
    uint64_t time_ns;
    char sha256[SHA256_HEX_BYTES];
    char label[32];
};

struct truth_volume {
    char name[32];
    uint64_t path;
    uint64_t lun; /* as on the wire */
    uint64_t size;
    uint8_t *base; /* owned */
    struct truth_mark marks[TRUTH_MARKS];
    size_t mark_count;
};

struct truth {
    char *files[TRUTH_FILES]; /* owned */
    size_t file_count;
    struct truth_volume volumes[TRUTH_VOLUMES];
    size_t volume_count;
};

/* DIRECTORY/NAME.truth.json */
int truth_load(struct truth *t, const char *directory, const char *name, struct error *err);
void truth_release(struct truth *t);

#endif
