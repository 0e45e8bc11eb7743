#include "tap/scsi/payload.h"

#include "../common/seed.h"
#include "common/crc32c.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 << 10, MIB = 1 << 20 };

static uint8_t *pattern(size_t bytes) {
    uint8_t *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    return data;
}

static void assert_holds(const struct payload *p, const uint8_t *data, size_t bytes) {
    size_t part = 0;
    for (size_t done = 0; done < bytes; done += part) {
        const uint8_t *at = payload_bytes(p, done, bytes - done, &part);
        cr_assert_not_null(at);
        cr_assert_arr_eq(at, data + done, part);
    }
    cr_assert_null(payload_bytes(p, bytes, 1, &part));
    cr_assert_eq(payload_crc32c(p, 0, bytes), crc32c(0, data, bytes));
}

Test(scsi_payload, in_order) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = pattern(200000);
    struct payload *p = payload_create(pool, 200000);
    struct range hole;
    cr_assert(payload_missing(p, 0, 200000, &hole));
    for (size_t done = 0; done < 200000; done += 1000)
        cr_assert(payload_write(p, done, data + done, 1000));
    cr_assert_not(payload_missing(p, 0, 200000, &hole));
    cr_assert_eq(payload_arrived(p), 200000);
    assert_holds(p, data, 200000);
    payload_destroy(p);
    cr_assert_eq(payload_pool_used(pool), 0);
}

Test(scsi_payload, a_header_takes_no_memory) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    struct payload *p = payload_create(pool, UINT32_MAX);
    cr_assert_eq(payload_pool_used(pool), 0);
    cr_assert(payload_write(p, 0, (const uint8_t *)"x", 1));
    cr_assert_leq(payload_pool_used(pool), CHUNK);
    payload_destroy(p);
}

Test(scsi_payload, small_writes_take_small_chunks) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = pattern(4096);
    struct payload *p = payload_create(pool, 4096);
    payload_write(p, 0, data, 4096);
    cr_assert_eq(payload_pool_used(pool), 4096);
    payload_destroy(p);
}

Test(scsi_payload, outside_is_refused) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    struct payload *p = payload_create(pool, 100);
    uint8_t data[101] = {0};
    cr_assert_not(payload_write(p, 0, data, 101));
    cr_assert_not(payload_write(p, 100, data, 1));
    cr_assert_not(payload_write(p, UINT64_MAX, data, 2));
    cr_assert(payload_write(p, 100, data, 0));
    cr_assert_eq(payload_arrived(p), 0);
    payload_destroy(p);
}

Test(scsi_payload, pool_has_a_limit_and_gives_back) {
    AUTO(payload_pool) pool = payload_pool_create(2 * CHUNK);
    AUTO_FREE uint8_t *data = pattern(CHUNK);
    struct payload *a = payload_create(pool, CHUNK);
    struct payload *b = payload_create(pool, CHUNK);
    struct payload *c = payload_create(pool, CHUNK);
    cr_assert(payload_write(a, 0, data, CHUNK));
    cr_assert(payload_write(b, 0, data, CHUNK));
    cr_assert(payload_pool_is_short(pool));
    cr_assert_not(payload_write(c, 0, data, 1));
    payload_destroy(a);
    cr_assert(payload_write(c, 0, data, CHUNK));
    assert_holds(c, data, CHUNK);
    payload_destroy(b);
    payload_destroy(c);
    /* What is kept of one size must not stand in the way of another. */
    for (int i = 0; i < 32; i++) {
        struct payload *small = payload_create(pool, 4096);
        cr_assert(payload_write(small, 0, data, 4096));
        payload_destroy(small);
    }
    struct payload *large = payload_create(pool, CHUNK);
    cr_assert(payload_write(large, 0, data, CHUNK));
    payload_destroy(large);
}

Test(scsi_payload, revoked_bytes_are_missing_until_they_come_again) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = pattern(3000);
    struct payload *p = payload_create(pool, 3000);
    struct range hole;
    payload_write(p, 0, data, 3000);
    payload_revoke(p, 1000, 500);
    cr_assert(payload_missing(p, 0, 3000, &hole));
    cr_assert(hole.start == 1000 && hole.end == 1500);
    cr_assert_not(payload_missing(p, 1500, 3000, &hole));
    cr_assert_eq(payload_arrived(p), 2500);
    payload_write(p, 1000, data + 1000, 500);
    cr_assert_not(payload_missing(p, 0, 3000, &hole));
    payload_revoke(p, 2990, 1000);
    cr_assert(payload_missing(p, 0, 3000, &hole));
    cr_assert(hole.start == 2990 && hole.end == 3000);
    payload_revoke(p, 5000, 1);
    payload_revoke(p, 0, UINT64_MAX);
    cr_assert_eq(payload_arrived(p), 0);
    payload_destroy(p);
}

Test(scsi_payload, extent) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    uint8_t data[10] = {0};
    struct payload *p = payload_create(pool, 1000);
    struct range extent;
    cr_assert_not(payload_extent(p, &extent));
    payload_write(p, 500, data, 10);
    payload_write(p, 300, data, 10);
    cr_assert(payload_extent(p, &extent));
    cr_assert(extent.start == 300 && extent.end == 510);
    payload_write(p, 0, data, 10);
    payload_extent(p, &extent);
    cr_assert(extent.start == 0 && extent.end == 510);
    payload_destroy(p);
}

Test(scsi_payload, zeros) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = calloc(1, 2 * CHUNK);
    struct payload *p = payload_create(pool, 2 * CHUNK);
    payload_write(p, 0, data, 2 * CHUNK);
    cr_assert(payload_is_zero(p, 0, 2 * CHUNK));
    payload_write(p, 2 * CHUNK - 1, (const uint8_t *)"\1", 1);
    cr_assert_not(payload_is_zero(p, 0, 2 * CHUNK));
    cr_assert(payload_is_zero(p, 0, 2 * CHUNK - 1));
    payload_write(p, 0, (const uint8_t *)"\1", 1);
    cr_assert_not(payload_is_zero(p, 0, 1));
    cr_assert(payload_is_zero(p, 1, CHUNK));
    payload_destroy(p);
}

Test(scsi_payload, agreement_looks_at_what_has_come) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = pattern(100000);
    struct payload *whole = payload_create(pool, 100000);
    struct payload *part = payload_create(pool, 100000);
    struct payload *shorter = payload_create(pool, 99999);
    payload_write(whole, 0, data, 100000);
    cr_assert(payload_agrees(part, whole));
    payload_write(part, 0, data, 10);
    payload_write(part, 70000, data + 70000, 10);
    cr_assert(payload_agrees(part, whole));
    payload_write(part, 90000, data, 1000);
    cr_assert_not(payload_agrees(part, whole));
    cr_assert_not(payload_agrees(shorter, whole));
    payload_destroy(whole);
    payload_destroy(part);
    payload_destroy(shorter);
}

Test(scsi_payload, slice) {
    AUTO(payload_pool) pool = payload_pool_create(MIB);
    AUTO_FREE uint8_t *data = pattern(200000);
    struct payload *p = payload_create(pool, 200000);
    payload_write(p, 0, data, 200000);
    struct payload *slice = payload_slice(p, 65000, 70000);
    cr_assert_not_null(slice);
    cr_assert_eq(payload_length(slice), 70000);
    assert_holds(slice, data + 65000, 70000);
    payload_destroy(slice);
    payload_destroy(p);
}

/* Any order, any overlap: the same bytes as in a plain buffer, and the same idea of what is
 * missing. */
Test(scsi_payload, random_pieces) {
    enum { LENGTH = 150000 };
    srand(test_seed());
    for (int round = 0; round < 30; round++) {
        AUTO(payload_pool) pool = payload_pool_create(MIB);
        AUTO_FREE uint8_t *data = pattern(LENGTH);
        AUTO_FREE uint8_t *here = calloc(1, LENGTH + 1);
        struct payload *p = payload_create(pool, LENGTH);
        for (int i = 0; i < 200; i++) {
            size_t start = (size_t)rand() % LENGTH;
            size_t bytes = (size_t)rand() % (LENGTH - start < 9000 ? LENGTH - start : 9000);
            bool revoke = rand() % 8 == 0;
            if (revoke)
                payload_revoke(p, start, bytes);
            else
                cr_assert(payload_write(p, start, data + start, bytes));
            memset(here + start, revoke ? 0 : 1, bytes);
        }
        struct range hole = {0, 0};
        for (size_t at = 0; at < LENGTH; at = hole.end) {
            bool found = payload_missing(p, at, LENGTH, &hole);
            size_t expected = at;
            while (expected < LENGTH && here[expected])
                expected++;
            cr_assert_eq(found, expected < LENGTH);
            if (!found)
                break;
            cr_assert_eq(hole.start, expected);
            while (expected < LENGTH && !here[expected])
                expected++;
            cr_assert_eq(hole.end, expected);
        }
        payload_write(p, 0, data, LENGTH);
        assert_holds(p, data, LENGTH);
        payload_destroy(p);
        cr_assert_eq(payload_pool_used(pool), 0);
    }
}
