/*
 * command: what a CDB asks for, as far as it matters to a recorder of changes (SPC-5, SBC-4).
 *
 * A pure parser over one table. Every command that can change media is in it; so are those that
 * carry data to the device and change no media, so that they are not taken for unknown ones.
 */
#ifndef SANREWIND_TAP_SCSI_COMMAND_H
#define SANREWIND_TAP_SCSI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum command_kind {
    COMMAND_UNKNOWN,       /* not in the table, or a CDB too short for its operation code */
    COMMAND_HARMLESS,      /* changes no media, and its answer teaches nothing */
    COMMAND_INQUIRY,       /* its answer is read: `vital`, `page` */
    COMMAND_CAPACITY,      /* READ CAPACITY(10) or (16): its answer is read */
    COMMAND_READ,          /* brings [lba, lba + blocks) in */
    COMMAND_RESERVE,       /* PERSISTENT RESERVE OUT: `aborts` others */
    COMMAND_POPULATE,      /* POPULATE TOKEN: names content for a later WRITE USING TOKEN */
    COMMAND_TOKENS,        /* RECEIVE ROD TOKEN INFORMATION: its answer is read */
    COMMAND_WRITE,         /* data-out becomes [lba, lba + blocks), or is combined with it */
    COMMAND_SCATTERED,     /* likewise in many ranges, which the data-out names first */
    COMMAND_COMPARE_WRITE, /* the second half of the data-out does, when the first half matched */
    COMMAND_WRITE_SAME,    /* one block of data-out becomes each block of the range */
    COMMAND_UNMAP,         /* ranges in the data-out lose their content */
    COMMAND_FLUSH,         /* changes nothing; marks a stable point */
    COMMAND_MODE_SELECT,   /* may change the block length: see parameter.h */
    COMMAND_EXTENDED_COPY, /* ranges in the data-out get content that is not on the wire */
    COMMAND_WRITE_TOKEN,   /* likewise */
    COMMAND_REASSIGN,      /* blocks in the data-out may lose their content */
    COMMAND_ATA_TRIM,      /* likewise ranges, in the form of ATA */
    COMMAND_FORMAT,        /* everything is lost, and the geometry may be another */
    COMMAND_OPAQUE_RANGE,  /* changes [lba, lba + blocks) in a way that is not followed */
    COMMAND_OPAQUE_VOLUME, /* may change anything on the logical unit */
};

/* What becomes of the data-out of a COMMAND_WRITE. */
enum combination {
    COMBINE_REPLACE,
    COMBINE_OR,  /* ORWRITE: with what was there */
    COMBINE_XOR, /* XPWRITE */
};

struct command {
    enum command_kind kind;
    const char *name; /* "WRITE(10)"; NULL when unknown */
    uint8_t opcode;
    uint16_t service_action; /* 0 when the operation code has none */
    bool has_service_action;
    uint64_t lba;
    uint64_t blocks; /* as the command means it: a WRITE(6) of 0 is 256 */
    bool fua;
    bool unmap;           /* WRITE SAME: UNMAP bit */
    bool no_data;         /* WRITE SAME: NDOB, zeros without a data-out */
    bool altered;         /* WRITE SAME: LBDATA or PBDATA, an address goes into each block */
    bool protect;         /* WRPROTECT: protection information is interleaved with the data */
    bool immediate;       /* SYNCHRONIZE CACHE: IMMED, so GOOD says nothing about the medium */
    bool vital;           /* INQUIRY: EVPD */
    uint8_t page;         /* INQUIRY: page code */
    bool long_form;       /* READ CAPACITY(16), MODE SELECT(10), EXTENDED COPY(LID4), LONGLBA */
    bool long_list;       /* REASSIGN BLOCKS: LONGLIST */
    bool physical;        /* WRITE LONG: PBLOCK, all logical blocks of the physical one */
    bool spoils;          /* WRITE LONG: WR_UNCOR or COR_DIS, the block can't be read afterwards */
    bool clears;          /* ORWRITE(32): AND instead of OR, and a new generation */
    bool by_generation;   /* ORWRITE(32): EXPECTED ORWGENERATION is not 0 */
    uint8_t policy;       /* ORWRITE(32): PREVIOUS GENERATION PROCESSING */
    bool aborts;          /* PERSISTENT RESERVE OUT: PREEMPT AND ABORT */
    uint32_t list_id;     /* third-party copies: LIST IDENTIFIER */
    uint32_t data_offset; /* WRITE SCATTERED: where the blocks begin, in blocks */
    uint32_t range_count; /* WRITE SCATTERED */
    const char *ata;      /* ATA PASS-THROUGH: the command inside; NULL unknown */
    enum combination combination;
};

void command_parse(const uint8_t *cdb, size_t cdb_bytes, struct command *command);

/* May the media of the logical unit differ after this command? */
bool command_changes_media(const struct command *command);

/* "WRITE SAME(16)", "operation code c1h", "operation code 7fh, service action 0123h". */
const char *command_text(const struct command *command, char *text, size_t size);

#endif
