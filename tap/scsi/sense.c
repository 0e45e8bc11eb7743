#include "tap/scsi/sense.h"

#include "common/cursor.h"

#include <stdio.h>

enum { ANY = 0x100 };

bool sense_parse(const uint8_t *data, size_t bytes, struct sense *sense) {
    struct cursor c = cursor_of(data, bytes);
    unsigned format = cursor_u8(&c) & 0x7f;
    *sense = (struct sense){.deferred = format == 0x71 || format == 0x73};
    if (format == 0x72 || format == 0x73) { /* SPC-5 4.4.2 */
        sense->key = cursor_u8(&c) & 0x0f;
        sense->asc = cursor_u8(&c);
        sense->ascq = cursor_u8(&c);
        return cursor_ok(&c);
    }
    if (format != 0x70 && format != 0x71)
        return false;
    cursor_skip(&c, 1); /* SPC-5 4.4.3 */
    sense->key = cursor_u8(&c) & 0x0f;
    if (!cursor_ok(&c))
        return false;
    /* A device may send less than the 14 bytes that hold the additional sense code. */
    cursor_skip(&c, 4);
    uint8_t additional = cursor_u8(&c);
    cursor_skip(&c, 4);
    uint8_t asc = cursor_u8(&c);
    uint8_t ascq = cursor_u8(&c);
    if (cursor_ok(&c) && additional >= 6) {
        sense->asc = asc;
        sense->ascq = ascq;
    }
    return true;
}

struct verdict_row {
    uint8_t key;
    uint16_t asc; /* or ANY */
    uint16_t ascq;
    enum sense_verdict verdict;
};

/* The first row that fits decides; SPC-5 annex F names the codes. */
static const struct verdict_row rows[] = {
    {SENSE_RECOVERED_ERROR, ANY, ANY, VERDICT_DONE},
    {SENSE_COMPLETED, ANY, ANY, VERDICT_DONE},
    {SENSE_NOT_READY, ANY, ANY, VERDICT_REFUSED},
    {SENSE_UNIT_ATTENTION, ANY, ANY, VERDICT_REFUSED},
    {SENSE_DATA_PROTECT, 0x27, 0x07, VERDICT_DOUBT}, /* the pool ran out of space while writing */
    {SENSE_DATA_PROTECT, ANY, ANY, VERDICT_REFUSED},
    {SENSE_ILLEGAL_REQUEST, 0x0e, ANY, VERDICT_REFUSED}, /* invalid information unit */
    {SENSE_ILLEGAL_REQUEST, 0x1a, ANY, VERDICT_REFUSED}, /* parameter list length */
    {SENSE_ILLEGAL_REQUEST, 0x20, ANY, VERDICT_REFUSED}, /* invalid operation code */
    {SENSE_ILLEGAL_REQUEST, 0x21, ANY, VERDICT_REFUSED}, /* LBA out of range */
    {SENSE_ILLEGAL_REQUEST, 0x22, ANY, VERDICT_REFUSED}, /* illegal function */
    {SENSE_ILLEGAL_REQUEST, 0x24, ANY, VERDICT_REFUSED}, /* invalid field in CDB */
    {SENSE_ILLEGAL_REQUEST, 0x25, ANY, VERDICT_REFUSED}, /* logical unit not supported */
    {SENSE_ILLEGAL_REQUEST, 0x26, ANY, VERDICT_REFUSED}, /* invalid field in parameter list */
    {SENSE_ILLEGAL_REQUEST, 0x2c, ANY, VERDICT_REFUSED}, /* command sequence error */
    {SENSE_ILLEGAL_REQUEST, 0x3d, ANY, VERDICT_REFUSED}, /* invalid bits in identify message */
    {SENSE_ILLEGAL_REQUEST, 0x49, ANY, VERDICT_REFUSED}, /* invalid message */
};

static enum sense_verdict verdict_of_sense(const struct sense *sense, bool compares) {
    /* A deferred error ends the command without processing it, but an earlier one went wrong. */
    if (sense->deferred)
        return VERDICT_DOUBT;
    if (sense->key == SENSE_MISCOMPARE && compares)
        return VERDICT_REFUSED;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct verdict_row *row = &rows[i];
        if (row->key == sense->key && (row->asc == ANY || row->asc == sense->asc) &&
            (row->ascq == ANY || row->ascq == sense->ascq))
            return row->verdict;
    }
    return VERDICT_DOUBT;
}

enum sense_verdict sense_verdict(uint8_t status, const struct sense *sense, bool compares) {
    switch (status) {
    case SCSI_GOOD:
    case SCSI_CONDITION_MET:
        return VERDICT_DONE;
    case SCSI_BUSY:
    case SCSI_RESERVATION_CONFLICT:
    case SCSI_TASK_SET_FULL:
    case SCSI_ACA_ACTIVE:
        return VERDICT_REFUSED;
    case SCSI_CHECK_CONDITION:
        return sense != NULL ? verdict_of_sense(sense, compares) : VERDICT_DOUBT;
    default:
        return VERDICT_DOUBT;
    }
}

static const char *status_name(uint8_t status) {
    switch (status) {
    case SCSI_GOOD:
        return "GOOD";
    case SCSI_CHECK_CONDITION:
        return "CHECK CONDITION";
    case SCSI_CONDITION_MET:
        return "CONDITION MET";
    case SCSI_BUSY:
        return "BUSY";
    case SCSI_RESERVATION_CONFLICT:
        return "RESERVATION CONFLICT";
    case SCSI_TASK_SET_FULL:
        return "TASK SET FULL";
    case SCSI_ACA_ACTIVE:
        return "ACA ACTIVE";
    case SCSI_TASK_ABORTED:
        return "TASK ABORTED";
    default:
        return NULL;
    }
}

const char *sense_text(uint8_t status, const struct sense *sense, char *text, size_t size) {
    const char *name = status_name(status);
    if (name == NULL)
        snprintf(text, size, "status %02xh", status);
    else if (sense == NULL)
        snprintf(text, size, "%s", name);
    else
        snprintf(text, size, "%s (sense %x/%02x/%02x%s)", name, sense->key, sense->asc, sense->ascq,
                 sense->deferred ? ", deferred" : "");
    return text;
}
