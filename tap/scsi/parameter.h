/*
 * parameter: parameter lists that name what a command changes, when its CDB does not: UNMAP,
 * WRITE SCATTERED, REASSIGN BLOCKS, EXTENDED COPY, MODE SELECT, and those of ATA. Pure parsers.
 * Those of tokens are in token.h.
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
/* Of WRITE USING TOKEN (SBC-4 5.58) or POPULATE TOKEN (5.12): its block device ranges. */
bool token_list_parse(const uint8_t *data, size_t bytes, struct range_list *list);
bool populate_list_parse(const uint8_t *data, size_t bytes, struct range_list *list);
/* index < list->count */
struct block_range range_list_at(const struct range_list *list, size_t index);

/* DATA SET MANAGEMENT (ACS-5 7.5): eight bytes each, up to the end of the data; 0 blocks: none. */
size_t ata_trim_count(size_t bytes);
struct block_range ata_trim_at(const uint8_t *data, size_t bytes, size_t index);

/* WRITE SCATTERED (SBC-4 5.55.2): an LBA range descriptor; the list begins with as many bytes. */
enum { SCATTERED_BYTES = 32 };
struct block_range scattered_range(const uint8_t bytes[SCATTERED_BYTES]);

/* REASSIGN BLOCKS (SBC-4 5.26.2). */
struct reassign_list {
    const uint8_t *data; /* borrowed */
    size_t bytes;
    size_t count;
    bool long_lba;
};
bool reassign_list_parse(const uint8_t *data, size_t bytes, bool long_lba, bool long_list,
                         struct reassign_list *list);
uint64_t reassign_list_at(const struct reassign_list *list, size_t index);

/* One segment of a copy: from where to where. Lengths and addresses as the list has them. */
struct copy_segment {
    char source[DEVICE_NAME_BYTES];      /* designator in the form of device.h; "": not known */
    char destination[DEVICE_NAME_BYTES]; /* likewise, but never "" */
    uint64_t source_lba;
    uint64_t lba;
    uint64_t units;
    bool units_are_bytes;  /* otherwise blocks of the destination, or of the source: */
    bool units_of_source;  /* the source's block length counts (DC is 0) */
    bool carries;          /* CAT: what is left of a block goes in front of the next segment */
    uint32_t source_skip;  /* bytes of the first block */
    uint32_t skip;         /* likewise of the destination */
    uint32_t source_block; /* 0: not said */
    uint32_t destination_block;
};

struct copy_list {
    const uint8_t *data; /* borrowed */
    size_t bytes;
    bool long_form; /* LID4 */
    bool immediate; /* IMMED: GOOD comes before it is done */
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
