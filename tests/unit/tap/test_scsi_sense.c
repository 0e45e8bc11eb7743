#include "tap/scsi/sense.h"

#include <criterion/criterion.h>

Test(scsi_sense, fixed_format) {
    const uint8_t data[18] = {0xf0, 0, 0x25, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x21, 0x07};
    struct sense sense;
    cr_assert(sense_parse(data, sizeof data, &sense));
    cr_assert_eq(sense.key, 5, "the bits above the key are others");
    cr_assert_eq(sense.asc, 0x21);
    cr_assert_eq(sense.ascq, 0x07);
    cr_assert_not(sense.deferred);
}

Test(scsi_sense, descriptor_format) {
    const uint8_t data[8] = {0x72, 0x03, 0x0c, 0x02};
    struct sense sense;
    cr_assert(sense_parse(data, sizeof data, &sense));
    cr_assert_eq(sense.key, 3);
    cr_assert_eq(sense.asc, 0x0c);
    cr_assert_eq(sense.ascq, 0x02);
}

Test(scsi_sense, deferred) {
    const uint8_t fixed[18] = {0x71, 0, 3, 0, 0, 0, 0, 10};
    const uint8_t descriptor[8] = {0x73, 3};
    struct sense sense;
    cr_assert(sense_parse(fixed, sizeof fixed, &sense));
    cr_assert(sense.deferred);
    cr_assert(sense_parse(descriptor, sizeof descriptor, &sense));
    cr_assert(sense.deferred);
    cr_assert_eq(sense_verdict(SCSI_CHECK_CONDITION, &sense, false), VERDICT_DOUBT);
}

Test(scsi_sense, cut_short) {
    const uint8_t fixed[18] = {0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0};
    const uint8_t descriptor[8] = {0x72, 5, 0x24, 0};
    struct sense sense;
    for (size_t bytes = 0; bytes < 3; bytes++)
        cr_expect_not(sense_parse(fixed, bytes, &sense));
    for (size_t bytes = 0; bytes < 4; bytes++)
        cr_expect_not(sense_parse(descriptor, bytes, &sense));
    for (size_t bytes = 3; bytes < 14; bytes++) {
        cr_expect(sense_parse(fixed, bytes, &sense));
        cr_expect_eq(sense.asc, 0, "the code is not there with %zu bytes", bytes);
    }
    const uint8_t short_inside[18] = {0x70, 0, 5, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x24, 0};
    cr_assert(sense_parse(short_inside, sizeof short_inside, &sense));
    cr_assert_eq(sense.asc, 0, "the additional length ends before the code");
    const uint8_t neither[18] = {0x7f};
    cr_assert_not(sense_parse(neither, sizeof neither, &sense));
}

Test(scsi_sense, statuses) {
    cr_expect_eq(sense_verdict(SCSI_GOOD, NULL, false), VERDICT_DONE);
    cr_expect_eq(sense_verdict(SCSI_CONDITION_MET, NULL, false), VERDICT_DONE);
    cr_expect_eq(sense_verdict(SCSI_BUSY, NULL, false), VERDICT_REFUSED);
    cr_expect_eq(sense_verdict(SCSI_TASK_SET_FULL, NULL, false), VERDICT_REFUSED);
    cr_expect_eq(sense_verdict(SCSI_RESERVATION_CONFLICT, NULL, false), VERDICT_REFUSED);
    cr_expect_eq(sense_verdict(SCSI_ACA_ACTIVE, NULL, false), VERDICT_REFUSED);
    cr_expect_eq(sense_verdict(SCSI_TASK_ABORTED, NULL, false), VERDICT_DOUBT);
    cr_expect_eq(sense_verdict(SCSI_CHECK_CONDITION, NULL, false), VERDICT_DOUBT,
                 "without sense nothing is known");
    cr_expect_eq(sense_verdict(0x55, NULL, false), VERDICT_DOUBT);
}

static enum sense_verdict verdict(uint8_t key, uint8_t asc, uint8_t ascq, bool compares) {
    struct sense sense = {.key = key, .asc = asc, .ascq = ascq};
    return sense_verdict(SCSI_CHECK_CONDITION, &sense, compares);
}

Test(scsi_sense, keys) {
    cr_expect_eq(verdict(SENSE_RECOVERED_ERROR, 0x17, 0x01, false), VERDICT_DONE);
    cr_expect_eq(verdict(SENSE_NOT_READY, 0x04, 0x01, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_UNIT_ATTENTION, 0x29, 0x00, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_DATA_PROTECT, 0x27, 0x00, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_DATA_PROTECT, 0x27, 0x07, false), VERDICT_DOUBT,
                 "space ran out while writing");
    cr_expect_eq(verdict(SENSE_ILLEGAL_REQUEST, 0x20, 0x00, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_ILLEGAL_REQUEST, 0x21, 0x00, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_ILLEGAL_REQUEST, 0x24, 0x00, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_ILLEGAL_REQUEST, 0x0e, 0x03, false), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_ILLEGAL_REQUEST, 0x4e, 0x00, false), VERDICT_DOUBT,
                 "overlapped commands are aborted, whatever they had done");
    cr_expect_eq(verdict(SENSE_MEDIUM_ERROR, 0x0c, 0x00, false), VERDICT_DOUBT);
    cr_expect_eq(verdict(SENSE_HARDWARE_ERROR, 0x44, 0x00, false), VERDICT_DOUBT);
    cr_expect_eq(verdict(SENSE_ABORTED_COMMAND, 0x00, 0x00, false), VERDICT_DOUBT);
    cr_expect_eq(verdict(SENSE_NO_SENSE, 0x00, 0x00, false), VERDICT_DOUBT);
    cr_expect_eq(verdict(SENSE_MISCOMPARE, 0x1d, 0x00, true), VERDICT_REFUSED);
    cr_expect_eq(verdict(SENSE_MISCOMPARE, 0x1d, 0x00, false), VERDICT_DOUBT,
                 "WRITE AND VERIFY has written by then");
}
