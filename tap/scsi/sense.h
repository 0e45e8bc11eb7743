/*
 * sense: what a status says about whether the medium changed (SPC-5 4.4, SAM-6 5.3).
 */
#ifndef SANREWIND_TAP_SCSI_SENSE_H
#define SANREWIND_TAP_SCSI_SENSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_ACA_ACTIVE = 0x30,
    SCSI_TASK_ABORTED = 0x40,
};

enum sense_key {
    SENSE_NO_SENSE = 0x0,
    SENSE_RECOVERED_ERROR = 0x1,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_HARDWARE_ERROR = 0x4,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
    SENSE_DATA_PROTECT = 0x7,
    SENSE_ABORTED_COMMAND = 0xb,
    SENSE_MISCOMPARE = 0xe,
    SENSE_COMPLETED = 0xf,
};

struct sense {
    uint8_t key;
    uint8_t asc;
    uint8_t ascq;
    bool deferred; /* about an earlier command, not this one (SPC-5 4.4.7) */
};

/* Fixed (70h, 71h) or descriptor (72h, 73h) format. False: neither, or cut before the key. */
bool sense_parse(const uint8_t *data, size_t bytes, struct sense *sense);

enum sense_verdict {
    VERDICT_DONE,    /* the command did what it was asked for */
    VERDICT_REFUSED, /* it was turned away before it changed anything */
    VERDICT_DOUBT,   /* it may have changed anything that it had data for */
};

/*
 * `sense` is NULL when none came. What is not known to be harmless is in doubt. A MISCOMPARE
 * refuses a COMPARE AND WRITE only (`compares`): WRITE AND VERIFY has written by then.
 */
enum sense_verdict sense_verdict(uint8_t status, const struct sense *sense, bool compares);

/* "CHECK CONDITION, sense 3/0c/02" and the like. */
const char *sense_text(uint8_t status, const struct sense *sense, char *text, size_t size);

#endif
