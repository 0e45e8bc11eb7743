#include "tap/scsi/device.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static char name[DEVICE_NAME_BYTES];

enum { BINARY = 1, ASCII = 2, UTF8 = 3 };
enum { T10 = 1, EUI = 2, NAA = 3, STRING = 8, OF_PORT = 0x10 };

static const uint8_t naa6[16] = {0x60, 0x01, 0x40, 0x5c, 0xba, 0xc0};
static const uint8_t naa5[8] = {0x50, 0x01, 0x40, 0x51, 0x23, 0x45, 0x67, 0x89};
static const uint8_t naa2[8] = {0x20, 0x01, 0x00, 0x14, 0x05, 0x45, 0x67, 0x89};
static const uint8_t eui[8] = {0x00, 0x14, 0x05, 1, 2, 3, 4, 5};

Test(scsi_device, designators_as_text) {
    cr_assert(device_designator(NAA, BINARY, naa6, 16, name) > 0);
    cr_assert_str_eq(name, "naa.6001405cbac000000000000000000000");
    cr_assert(device_designator(NAA, BINARY, naa5, 8, name) > 0);
    cr_assert_str_eq(name, "naa.5001405123456789");
    cr_assert(device_designator(NAA, BINARY, naa2, 8, name) > 0);
    cr_assert_str_eq(name, "naa.2001001405456789");
    cr_assert(device_designator(EUI, BINARY, eui, 8, name) > 0);
    cr_assert_str_eq(name, "eui.0014050102030405");
    cr_assert(device_designator(T10, ASCII, (const uint8_t *)"LIO-ORG disk\0:7 ", 16, name) > 0);
    cr_assert_str_eq(name, "t10.LIO-ORG disk_:7");
    cr_assert(device_designator(STRING, UTF8, (const uint8_t *)"iqn.x,L,0x1\0", 12, name) > 0);
    cr_assert_str_eq(name, "iqn.x,L,0x1");
}

/* Two disks with one name would become one volume: such names are worse than none. */
Test(scsi_device, names_that_are_not_unique_are_refused) {
    static const uint8_t no_company_6[16] = {0x60, 0, 0, 0, 0, 0, 0, 0, 0x0e, 0, 0, 0, 0, 1, 0, 1};
    static const uint8_t no_company_5[8] = {0x50, 0, 0, 0, 0, 1, 0, 1};
    static const uint8_t no_company_2[8] = {0x21, 0x23, 0, 0, 0, 1, 0, 1};
    static const uint8_t local[8] = {0x31, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t zeros[8] = {0};
    cr_expect_eq(device_designator(NAA, BINARY, no_company_6, 16, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, no_company_5, 8, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, no_company_2, 8, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, local, 8, name), 0);
    cr_expect_eq(device_designator(EUI, BINARY, zeros, 8, name), 0);
    cr_expect_eq(device_designator(T10, ASCII, (const uint8_t *)"IET     00010001", 16, name), 0);
    cr_expect_eq(device_designator(NAA | OF_PORT, BINARY, naa6, 16, name), 0,
                 "the name of a port is not that of a logical unit");
    cr_expect_eq(device_designator(NAA, ASCII, naa6, 16, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, naa6, 15, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, naa6, 8, name), 0);
    cr_expect_eq(device_designator(NAA, BINARY, naa5, 7, name), 0);
    cr_expect_eq(device_designator(EUI, BINARY, eui, 7, name), 0);
    cr_expect_eq(device_designator(T10, ASCII, (const uint8_t *)"LIO-ORG ", 8, name), 0);
}

struct page {
    uint8_t bytes[256];
    size_t length;
};

static void add(struct page *page, uint8_t kind, uint8_t code_set, const void *data,
                uint8_t length) {
    uint8_t *at = page->bytes + page->length;
    at[0] = code_set;
    at[1] = kind;
    at[3] = length;
    memcpy(at + 4, data, length);
    page->length += 4u + length;
    put_be(page->bytes + 2, page->length - 4, 2);
}

static struct page begin(void) {
    return (struct page){.bytes = {0, PAGE_IDENTIFICATION}, .length = 4};
}

Test(scsi_device, best_designator_wins_in_any_place) {
    struct page page = begin();
    add(&page, STRING, UTF8, "iqn.x,L,0x1", 11);
    add(&page, T10, ASCII, "LIO-ORG disk", 12);
    add(&page, EUI, BINARY, eui, 8);
    cr_assert(device_identification(page.bytes, page.length, name));
    cr_assert_str_eq(name, "eui.0014050102030405");
    add(&page, NAA, BINARY, naa2, 8);
    add(&page, NAA | OF_PORT, BINARY, naa6, 16);
    device_identification(page.bytes, page.length, name);
    cr_assert_str_eq(name, "naa.2001001405456789");
    add(&page, NAA, BINARY, naa6, 16);
    static const uint8_t second[16] = {0x60, 0x01, 0x40, 0x5d};
    add(&page, NAA, BINARY, naa5, 8);
    add(&page, NAA, BINARY, second, 16);
    device_identification(page.bytes, page.length, name);
    cr_assert_str_eq(name, "naa.6001405cbac000000000000000000000", "of two alike, the first");
}

/* Initiators ask for a few bytes first, to learn the length: that teaches nothing. */
Test(scsi_device, half_a_page_is_no_page) {
    struct page page = begin();
    add(&page, T10, ASCII, "LIO-ORG disk", 12);
    add(&page, NAA, BINARY, naa6, 16);
    for (size_t bytes = 0; bytes < page.length; bytes++)
        cr_expect_not(device_identification(page.bytes, bytes, name), "%zu bytes", bytes);
    page.bytes[1] = PAGE_SERIAL;
    cr_expect_not(device_identification(page.bytes, page.length, name), "another page");
}

Test(scsi_device, designator_longer_than_its_page) {
    struct page page = begin();
    add(&page, T10, ASCII, "LIO-ORG disk", 12);
    add(&page, NAA, BINARY, naa6, 16);
    page.bytes[4 + 4 + 12 + 3] = 17;
    cr_assert(device_identification(page.bytes, page.length, name));
    cr_assert_str_eq(name, "t10.LIO-ORG disk", "what lies before it still counts");
}

Test(scsi_device, serial_number) {
    static const uint8_t page[] = {0, PAGE_SERIAL, 0, 6, ' ', 'a', 1, 'c', ' ', 0};
    cr_assert(device_serial(page, sizeof page, name));
    cr_assert_str_eq(name, "a_c");
    for (size_t bytes = 0; bytes < sizeof page; bytes++)
        cr_expect_not(device_serial(page, bytes, name));
}

Test(scsi_device, provisioning_page) {
    uint8_t page[8] = {0, PAGE_PROVISIONING, 0, 4};
    enum unmapped_content unmapped;
    static const enum unmapped_content of_bits[8] = {
        UNMAPPED_UNDEFINED, UNMAPPED_ZEROS, UNMAPPED_PATTERN,   UNMAPPED_ZEROS,
        UNMAPPED_UNDEFINED, UNMAPPED_ZEROS, UNMAPPED_UNDEFINED, UNMAPPED_ZEROS};
    for (uint8_t bits = 0; bits < 8; bits++) {
        page[5] = (uint8_t)(0xe0 | bits << 2 | 0x03);
        cr_assert(device_provisioning(page, sizeof page, &unmapped));
        cr_expect_eq(unmapped, of_bits[bits], "LBPRZ %u", bits);
    }
    for (size_t bytes = 0; bytes < sizeof page; bytes++)
        cr_expect_not(device_provisioning(page, bytes, &unmapped));
}

Test(scsi_device, capacity) {
    uint8_t data[32] = {0};
    struct capacity capacity;
    put_be(data, 0x7fff, 8);
    put_be(data + 8, 4096, 4);
    data[12] = 0x01;
    data[14] = 0xc0;
    cr_assert(device_capacity(data, sizeof data, true, &capacity));
    cr_assert_eq(capacity.blocks, 0x8000);
    cr_assert_eq(capacity.block_bytes, 4096);
    cr_assert(capacity.complete && capacity.provisioned && capacity.zeros && capacity.protection);
    data[14] = 0x80;
    device_capacity(data, sizeof data, true, &capacity);
    cr_assert(capacity.provisioned && !capacity.zeros);
    for (size_t bytes = 0; bytes < 12; bytes++)
        cr_expect_not(device_capacity(data, bytes, true, &capacity));
    for (size_t bytes = 12; bytes < 15; bytes++) {
        cr_expect(device_capacity(data, bytes, true, &capacity));
        cr_expect_not(capacity.complete, "provisioning is not known with %zu bytes", bytes);
    }
}

Test(scsi_device, short_capacity) {
    uint8_t data[8] = {0, 0, 0x7f, 0xff, 0, 0, 2, 0};
    struct capacity capacity;
    cr_assert(device_capacity(data, sizeof data, false, &capacity));
    cr_assert_eq(capacity.blocks, 0x8000);
    cr_assert_eq(capacity.block_bytes, 512);
    for (size_t bytes = 0; bytes < sizeof data; bytes++)
        cr_expect_not(device_capacity(data, bytes, false, &capacity));
    memset(data, 0xff, 4);
    cr_assert(device_capacity(data, sizeof data, false, &capacity));
    cr_assert_eq(capacity.blocks, 0, "larger than it can say");
}

Test(scsi_device, absurd_capacities) {
    uint8_t data[32] = {0};
    struct capacity capacity;
    cr_expect_not(device_capacity(data, sizeof data, true, &capacity), "blocks of no bytes");
    memset(data, 0xff, 8);
    put_be(data + 8, 512, 4);
    cr_expect_not(device_capacity(data, sizeof data, true, &capacity));
    put_be(data, INT64_MAX / 512, 8);
    cr_expect_not(device_capacity(data, sizeof data, true, &capacity), "more than 8 EiB");
}

Test(scsi_device, standard_inquiry) {
    uint8_t data[36] = {0};
    struct standard_inquiry inquiry;
    memcpy(data + 8, "LIO-ORG ", 8);
    cr_assert(device_standard_inquiry(data, sizeof data, &inquiry));
    cr_assert(inquiry.is_disk && inquiry.ignores_same);
    memcpy(data + 8, "SEAGATE ", 8);
    device_standard_inquiry(data, sizeof data, &inquiry);
    cr_assert_not(inquiry.ignores_same);
    data[0] = 0x01; /* tape */
    device_standard_inquiry(data, sizeof data, &inquiry);
    cr_assert_not(inquiry.is_disk);
    data[0] = 0x60; /* a disk, but nothing is connected there */
    device_standard_inquiry(data, sizeof data, &inquiry);
    cr_assert_not(inquiry.is_disk);
    data[0] = 0x14; /* host-managed zoned */
    device_standard_inquiry(data, sizeof data, &inquiry);
    cr_assert(inquiry.is_disk);
    cr_assert_not(device_standard_inquiry(data, 0, &inquiry));
}
