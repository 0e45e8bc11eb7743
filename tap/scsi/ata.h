/*
 * ata: what the ATA command inside an ATA PASS-THROUGH does to media (SAT-5 12.2, ACS-5). A pure
 * parser. LBAs are those of the logical unit: a translating device gives both the same blocks.
 */
#ifndef SANREWIND_TAP_SCSI_ATA_H
#define SANREWIND_TAP_SCSI_ATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ata_kind {
    ATA_VOLUME,   /* may change anything, or is not known */
    ATA_HARMLESS, /* changes no media */
    ATA_RANGE,    /* changes [lba, lba + blocks) */
    ATA_TRIM,     /* the ranges in its data lose their content: see ata_trim_list() */
    ATA_CAPACITY, /* may change anything, and how much there is of it */
};

struct ata_effect {
    enum ata_kind kind;
    const char *name; /* "WRITE DMA EXT"; NULL when not known */
    uint64_t lba;
    uint64_t blocks;
    bool spoils; /* the blocks can't be read afterwards */
};

/* Of a whole CDB: 85h, A1h, or 7Fh with service action 1FF0h. Cut short: ATA_VOLUME. */
struct ata_effect ata_parse(const uint8_t *cdb, size_t bytes);

#endif
