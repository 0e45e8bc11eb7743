/* Packed changes come out as they went in, whatever follows what; what is cut or impossible is
 * refused. */
#include "recoveryd/index/change.h"
#include "tests/unit/common/seed.h"

#include <criterion/criterion.h>
#include <string.h>

enum { CHANGES = 3000 };

static uint64_t random64(unsigned *seed) {
    uint64_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 16 ^ (uint64_t)rand_r(seed);
    return value >> (rand_r(seed) % 64);
}

/* Mostly small steps from the one before, sometimes anything. */
static struct change next_change(unsigned *seed, const struct change *last) {
    static const uint8_t ops[] = {UPDATE_WRITE, UPDATE_ZERO, UPDATE_PATTERN, UPDATE_FLUSH};
    struct change c = *last;
    bool wild = rand_r(seed) % 8 == 0;
    c.stamp.time_ns += wild ? random64(seed) : (uint64_t)(rand_r(seed) % 1000000);
    c.stamp.order += wild ? random64(seed) : 1;
    if (rand_r(seed) % 10 == 0)
        c.stamp.stream = random64(seed);
    if (rand_r(seed) % 10 == 0)
        c.path = random64(seed);
    c.issued_ns = rand_r(seed) % 3 == 0 ? 0 : c.stamp.time_ns - (uint64_t)(rand_r(seed) % 100000);
    c.op = ops[rand_r(seed) % 4];
    c.flags = rand_r(seed) % 4 == 0;
    c.length_bytes = wild ? random64(seed) >> 45 : (uint64_t)(rand_r(seed) % 16) * 512;
    c.offset_bytes = wild ? random64(seed) >> 2 : (uint64_t)(rand_r(seed) % 100000) * 512;
    c.whole_offset = c.offset_bytes;
    c.extent = (struct extent){0};
    c.payload_crc32c = 0;
    bool payload = c.op == UPDATE_WRITE || c.op == UPDATE_PATTERN;
    if (!payload || c.length_bytes == 0 || c.length_bytes > 1 << 19 || rand_r(seed) % 4 == 0)
        return c;
    uint64_t before = rand_r(seed) % 3 == 0 && c.offset_bytes >= 4096 ? 4096 : 0;
    c.whole_offset -= before;
    c.extent = (struct extent){1 + (uint32_t)rand_r(seed) % 5, (uint32_t)(c.length_bytes + before),
                               random64(seed) >> 34};
    c.payload_crc32c = (uint32_t)random64(seed);
    return c;
}

static void expect_same(const struct change *a, const struct change *b) {
    cr_assert_eq(stamp_compare(&a->stamp, &b->stamp), 0);
    cr_assert(a->path == b->path && a->issued_ns == b->issued_ns && a->op == b->op &&
              a->flags == b->flags);
    cr_assert(a->offset_bytes == b->offset_bytes && a->length_bytes == b->length_bytes &&
              a->whole_offset == b->whole_offset);
    cr_assert(a->extent.segment == b->extent.segment && a->extent.offset == b->extent.offset &&
              a->extent.bytes == b->extent.bytes && a->payload_crc32c == b->payload_crc32c);
}

Test(change, packed_ones_come_out_as_they_went_in) {
    static struct change list[CHANGES];
    unsigned seed = test_seed();
    struct change last = {.stamp = {1, 2, 3, 4}};
    struct change_state state = change_state_at(&last.stamp);
    AUTO_BUFFER b;
    AUTO_CHANGES out = {0};
    struct error err;
    buffer_init(&b, CHANGES * CHANGE_MOST_BYTES);
    for (int i = 0; i < CHANGES; i++) {
        size_t before = b.length;
        list[i] = last = next_change(&seed, &last);
        cr_assert(change_is_sound(&last));
        change_pack(&state, &b, &last);
        cr_assert_leq(b.length - before, CHANGE_MOST_BYTES);
    }
    struct stamp first = {1, 2, 3, 4};
    cr_assert_eq(changes_unpack(&out, change_state_at(&first), cursor_of(b.data, b.length), &err),
                 0, "%s", err.text);
    cr_assert_eq(out.count, CHANGES);
    for (int i = 0; i < CHANGES; i++)
        expect_same(&list[i], &out.list[i]);
}

static int unpack(const void *bytes, size_t length) {
    AUTO_CHANGES out = {0};
    struct error err;
    return changes_unpack(&out, change_state_none(), cursor_of(bytes, length), &err);
}

Test(change, what_is_cut_is_refused) {
    struct change c = {.stamp = {1795403330000000000u, 1, 2, 5},
                       .path = 9,
                       .issued_ns = 1795403329999900000u,
                       .offset_bytes = 1 << 20,
                       .length_bytes = 4096,
                       .whole_offset = 1 << 20,
                       .extent = {3, 4096, 8192},
                       .payload_crc32c = 77,
                       .op = UPDATE_WRITE};
    struct change_state state = change_state_none();
    AUTO_BUFFER b;
    buffer_init(&b, 4096);
    change_pack(&state, &b, &c);
    cr_assert_eq(unpack(b.data, b.length), 0);
    for (size_t length = 1; length < b.length; length++)
        cr_assert_eq(unpack(b.data, length), ERR_FORMAT);
}

Test(change, what_is_impossible_is_refused) {
    /* Fields that there are not, an operation that there is not, a number that never ends. */
    static const uint8_t fields[] = {0x80, 0x20, 0};
    static const uint8_t operation[] = {0x40, 2, 9, 0};
    static const uint8_t endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff};
    cr_assert_eq(unpack(fields, sizeof fields), ERR_FORMAT);
    cr_assert_eq(unpack(operation, sizeof operation), ERR_FORMAT);
    cr_assert_eq(unpack(endless, sizeof endless), ERR_FORMAT);
}
