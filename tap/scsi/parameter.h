/*
 * parameter: parameter lists that name what a command changes, when its CDB does not: UNMAP,
 * EXTENDED COPY, WRITE USING TOKEN, MODE SELECT. Pure parsers.
 */
#ifndef SANREWIND_TAP_SCSI_PARAMETER_H
#define SANREWIND_TAP_SCSI_PARAMETER_H

#include "tap/scsi/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_range {
    uint64_t lba;
    uint64_t blocks;
};

/* A list of ranges inside a parameter list; range_list_at() reads one of them. */
struct range_list {
    const uint8_t *data; /* borrowed */
    size_t bytes;
    size_t start;
    size_t count;
};

/* False: it is cut, or contradicts itself. */
bool unmap_list_parse(const uint8_t *data, size_t bytes,
                      struct range_list *list); /* SBC-4 5.34.2 */
bool token_list_parse(const uint8_t *data, size_t bytes, struct range_list *list); /* SPC-5 6.48 */
/* index < list->count */
struct block_range range_list_at(const struct range_list *list, size_t index);

/* One segment of a copy: where it writes to. */
struct copy_segment {
    char destination[DEVICE_NAME_BYTES]; /* designator in the form of device.h */
    uint64_t lba;
    uint64_t units;
    bool units_are_bytes;  /* otherwise blocks of the destination, or of the source: */
    bool units_of_source;  /* the source's block length counts */
    uint32_t source_block; /* 0: not said */
    uint32_t destination_block;
};

struct copy_list {
    const uint8_t *data; /* borrowed */
    size_t bytes;
    bool long_form; /* LID4 */
    size_t targets_start;
    size_t targets_bytes;
    size_t next; /* the segment to read next */
    size_t end;
};

enum copy_step {
    COPY_SEGMENT, /* *segment is filled */
    COPY_END,
    COPY_OPAQUE, /* a descriptor that is not understood: it may write anywhere */
};

/* EXTENDED COPY (SPC-4 6.4, SPC-5 6.6). False: cut, or the header contradicts itself. */
bool copy_list_parse(const uint8_t *data, size_t bytes, bool long_form, struct copy_list *list);
enum copy_step copy_list_next(struct copy_list *list, struct copy_segment *segment);

/*
 * MODE SELECT (SPC-5 7.5): does the list leave the geometry as it is known to be? A list without a
 * block descriptor does. False also when the list is cut.
 */
bool mode_list_keeps_geometry(const uint8_t *data, size_t bytes, bool long_form,
                              uint32_t block_bytes, uint64_t size_bytes);

#endif
