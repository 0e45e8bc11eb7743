#include "tap/scsi/parameter.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static void put_range(uint8_t *at, uint64_t lba, uint32_t blocks) {
    put_be(at, lba, 8);
    put_be(at + 8, blocks, 4);
}

Test(scsi_parameter, unmap_list) {
    uint8_t data[8 + 48] = {0, 54, 0, 48};
    struct range_list list;
    put_range(data + 8, 0x123456789a, 5);
    put_range(data + 24, 7, 0);
    put_range(data + 40, 9, UINT32_MAX);
    cr_assert(unmap_list_parse(data, sizeof data, &list));
    cr_assert_eq(list.count, 3);
    cr_assert_eq(range_list_at(&list, 0).lba, 0x123456789a);
    cr_assert_eq(range_list_at(&list, 0).blocks, 5);
    cr_assert_eq(range_list_at(&list, 1).blocks, 0);
    cr_assert_eq(range_list_at(&list, 2).blocks, UINT32_MAX);
    for (size_t bytes = 0; bytes < sizeof data; bytes++)
        cr_expect_not(unmap_list_parse(data, bytes, &list), "%zu bytes", bytes);
    data[3] = 49; /* one more than there are descriptors: the last is incomplete, and ignored */
    cr_assert(unmap_list_parse(data, sizeof data, &list));
    cr_assert_eq(list.count, 3);
    data[3] = 64;
    cr_assert_not(unmap_list_parse(data, sizeof data, &list));
    data[3] = 0;
    cr_assert(unmap_list_parse(data, sizeof data, &list));
    cr_assert_eq(list.count, 0);
}

Test(scsi_parameter, token_list) {
    uint8_t data[536 + 32] = {0};
    struct range_list list;
    put_be(data + 534, 32, 2);
    put_range(data + 536, 11, 22);
    put_range(data + 552, 33, 44);
    cr_assert(token_list_parse(data, sizeof data, &list));
    cr_assert_eq(list.count, 2);
    cr_assert_eq(range_list_at(&list, 1).lba, 33);
    cr_assert_eq(range_list_at(&list, 1).blocks, 44);
    for (size_t bytes = 0; bytes < sizeof data; bytes++)
        cr_expect_not(token_list_parse(data, bytes, &list));
}

enum { CSCDS = 64, SEGMENT = 28, SEGMENT_OFFSET = 32 };

/* Two disks, ...00 and ...03, and one segment from the first to the second. */
static size_t make_copy(uint8_t *data, bool long_form, uint8_t type) {
    size_t head = long_form ? 48 : 16;
    size_t segment = type == 0x02 ? SEGMENT : SEGMENT_OFFSET;
    memset(data, 0, head + CSCDS + segment);
    put_be(data + (long_form ? 42 : 2), CSCDS, 2);
    put_be(data + (long_form ? 44 : 8), segment, long_form ? 2 : 4);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *cscd = data + head + 32 * i;
        cscd[0] = 0xe4;
        cscd[4] = 0x01;
        cscd[5] = 0x03;
        cscd[7] = 16;
        put_be(cscd + 8, 0x60014050, 4);
        cscd[23] = (uint8_t)(3 * i);
        put_be(cscd + 29, 512, 3);
    }
    uint8_t *at = data + head + CSCDS;
    at[0] = type;
    put_be(at + 2, segment - 4, 2);
    put_be(at + 6, 1, 2);
    return head + CSCDS + segment;
}

Test(scsi_parameter, copy_of_blocks) {
    for (int long_form = 0; long_form < 2; long_form++) {
        uint8_t data[256];
        struct copy_list list;
        struct copy_segment segment;
        size_t bytes = make_copy(data, long_form, 0x02);
        uint8_t *at = data + bytes - SEGMENT;
        put_be(at + 10, 77, 2);
        put_be(at + 20, 0x1122334455, 8);
        cr_assert(copy_list_parse(data, bytes, long_form, &list));
        cr_assert_eq(copy_list_next(&list, &segment), COPY_SEGMENT);
        cr_assert_str_eq(segment.destination, "naa.60014050000000000000000000000003");
        cr_assert_eq(segment.lba, 0x1122334455);
        cr_assert_eq(segment.units, 77);
        cr_assert_str_eq(segment.source, "naa.60014050000000000000000000000000");
        cr_assert(segment.units_of_source && !segment.units_are_bytes && !segment.carries);
        cr_assert_eq(segment.source_block, 512);
        cr_assert_eq(copy_list_next(&list, &segment), COPY_END);
        at[1] = 0x02; /* DC: the destination's blocks count */
        copy_list_parse(data, bytes, long_form, &list);
        copy_list_next(&list, &segment);
        cr_assert_not(segment.units_of_source);
        for (size_t cut = 0; cut < bytes; cut++)
            cr_expect_not(copy_list_parse(data, cut, long_form, &list));
    }
}

Test(scsi_parameter, copy_of_bytes) {
    uint8_t data[256];
    struct copy_list list;
    struct copy_segment segment;
    size_t bytes = make_copy(data, false, 0x0a);
    uint8_t *at = data + bytes - SEGMENT_OFFSET;
    put_be(at + 8, 1000, 4);
    put_be(at + 20, 9, 8);
    put_be(at + 30, 100, 2);
    cr_assert(copy_list_parse(data, bytes, false, &list));
    cr_assert_eq(copy_list_next(&list, &segment), COPY_SEGMENT);
    cr_assert(segment.units_are_bytes);
    cr_assert_eq(segment.units, 1000);
    cr_assert_eq(segment.lba, 9);
    cr_assert(segment.skip == 100 && segment.source_skip == 0);
    cr_assert_not(segment.carries);
}

/* Whatever a descriptor is that is not understood: it must not be taken for nothing. */
Test(scsi_parameter, copies_that_are_not_understood) {
    uint8_t data[256];
    struct copy_list list;
    struct copy_segment segment;
    size_t bytes = make_copy(data, false, 0x02);
    uint8_t *at = data + bytes - SEGMENT;
    const struct {
        size_t offset;
        uint8_t value;
        const char *what;
    } changes[] = {
        {16 + CSCDS, 0x04, "embedded data"},
        {16 + CSCDS + 3, 25, "a segment longer than the list"},
        {16 + CSCDS + 3, 10, "a segment shorter than its fields"},
        {16 + CSCDS + 7, 2, "a destination that is not in the list"},
        {16 + 32, 0xe0, "a destination of another kind"},
        {16 + 32 + 7, 21, "a designator longer than its room"},
        {16 + 32 + 7, 15, "a designator of the wrong length"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_copy(data, false, 0x02);
        data[changes[i].offset] = changes[i].value;
        cr_assert(copy_list_parse(data, bytes, false, &list));
        cr_expect_eq(copy_list_next(&list, &segment), COPY_OPAQUE, "%s", changes[i].what);
    }
    make_copy(data, false, 0x02);
    put_be(data + 8, UINT32_MAX, 4);
    cr_assert_not(copy_list_parse(data, bytes, false, &list));
    (void)at;
}

Test(scsi_parameter, mode_select_that_changes_nothing_of_the_geometry) {
    uint8_t six[4 + 8 + 4] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 2, 0};
    cr_assert(mode_list_keeps_geometry(six, sizeof six, false, 512, 1 << 20));
    put_be(six + 4, (1 << 20) / 512, 4);
    cr_assert(mode_list_keeps_geometry(six, sizeof six, false, 512, 1 << 20));
    put_be(six + 4, 100, 4);
    cr_assert_not(mode_list_keeps_geometry(six, sizeof six, false, 512, 1 << 20), "shorter");
    put_be(six + 4, UINT32_MAX, 4);
    cr_assert(mode_list_keeps_geometry(six, sizeof six, false, 512, 1 << 20));
    six[10] = 16;
    cr_assert_not(mode_list_keeps_geometry(six, sizeof six, false, 512, 1 << 20), "4096");
    six[10] = 2;
    cr_assert_not(mode_list_keeps_geometry(six, sizeof six, false, 0, 0), "not known");
    for (size_t bytes = 0; bytes < 12; bytes++)
        cr_expect_not(mode_list_keeps_geometry(six, bytes, false, 512, 1 << 20));
    uint8_t without[4 + 4] = {0};
    cr_assert(mode_list_keeps_geometry(without, sizeof without, false, 0, 0));
    uint8_t ten[8 + 16] = {0, 0, 0, 0, 1, 0, 0, 16};
    put_be(ten + 8 + 12, 4096, 4);
    cr_assert(mode_list_keeps_geometry(ten, sizeof ten, true, 4096, 1 << 20));
    cr_assert_not(mode_list_keeps_geometry(ten, sizeof ten, true, 512, 1 << 20));
    for (size_t bytes = 0; bytes < sizeof ten; bytes++)
        cr_expect_not(mode_list_keeps_geometry(ten, bytes, true, 4096, 1 << 20));
}
