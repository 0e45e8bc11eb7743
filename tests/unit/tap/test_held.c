#include "tap/tcp/held.h"
#include "tests/unit/common/seed.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SPAN = 400, ROUNDS = 300, NOBODY = -1, CUT = -2 };

static void add(struct held *h, uint64_t offset, const char *text, uint32_t cut,
                struct held_overlap *overlap) {
    uint32_t kept = (uint32_t)strlen(text);
    struct span span = {.offset = offset, .bytes = kept + cut, .kept = kept};
    cr_assert(held_add(h, &span, (const uint8_t *)text, overlap));
}

static void expect_front(struct held *h, uint64_t offset, const char *text, uint32_t cut) {
    cr_assert_not(held_empty(h));
    struct piece *front = held_pop(h);
    cr_assert_eq(front->span.offset, offset);
    cr_assert_eq(front->span.kept, strlen(text));
    cr_assert_eq(front->span.bytes, strlen(text) + cut);
    cr_assert_eq(memcmp(front->data, text, strlen(text)), 0);
    free(front);
}

Test(held, fills_around_what_is_there) {
    struct held h = {0};
    struct held_overlap overlap = {0};
    add(&h, 10, "klm", 0, &overlap);
    add(&h, 15, "p", 0, &overlap);
    add(&h, 8, "ijKLmnoPqr", 0, &overlap);
    cr_assert_eq(overlap.duplicate_bytes, 4);
    cr_assert_eq(overlap.conflicting_bytes, 3);
    expect_front(&h, 8, "ij", 0);
    expect_front(&h, 10, "", 3); /* from the first byte on that has two values */
    expect_front(&h, 13, "no", 0);
    expect_front(&h, 15, "", 1);
    expect_front(&h, 16, "qr", 0);
    cr_assert(held_empty(&h));
    cr_assert_eq(h.memory, 0);
    held_release(&h);
}

Test(held, clip_trims_across_the_start) {
    struct held h = {0};
    struct held_overlap overlap = {0};
    add(&h, 10, "abc", 4, &overlap);
    add(&h, 20, "xyz", 0, &overlap);
    add(&h, 30, "end", 0, &overlap);
    held_clip(&h, 12, 30);
    expect_front(&h, 12, "c", 4);
    held_clip(&h, 25, 30);
    cr_assert(held_empty(&h));
    held_release(&h);
}

Test(held, number_of_pieces_is_limited) {
    struct held h = {0};
    struct held_overlap overlap = {0};
    struct span span = {.bytes = 1, .kept = 1};
    const uint8_t byte = 7;
    for (unsigned i = 0; i < HELD_PIECES; i++) {
        span.offset = i * 2;
        cr_assert(held_add(&h, &span, &byte, &overlap));
    }
    span.offset = HELD_PIECES * 2;
    cr_assert_not(held_add(&h, &span, &byte, &overlap));
    free(held_pop(&h));
    cr_assert(held_add(&h, &span, &byte, &overlap));
    held_release(&h);
}

/* Copies that agree, as all honest ones do. */
static uint8_t byte_at(unsigned place) {
    return (uint8_t)(place * 7 + place / 32);
}

/* What is at each place: the byte, NOBODY, or CUT by the snap length of the first that covered it.
 */
static void compare(struct held *h, const int *model) {
    int found[SPAN];
    for (unsigned i = 0; i < SPAN; i++)
        found[i] = NOBODY;
    uint64_t end = 0;
    while (!held_empty(h)) {
        struct piece *p = held_pop(h);
        cr_assert_geq(p->span.offset, end, "sorted and disjoint");
        end = p->span.offset + p->span.bytes;
        for (unsigned i = 0; i < p->span.bytes; i++)
            found[p->span.offset + i] = i < p->span.kept ? p->data[i] : CUT;
        free(p);
    }
    cr_assert_eq(memcmp(found, model, sizeof found), 0);
}

Test(held, behaves_like_a_table_of_first_comers) {
    unsigned seed = test_seed();
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct held h = {0};
        struct held_overlap overlap = {0};
        int model[SPAN];
        for (unsigned i = 0; i < SPAN; i++)
            model[i] = NOBODY;
        for (int who = 0; who < 40; who++) {
            uint8_t data[60];
            struct span span = {.offset = (unsigned)rand_r(&seed) % (SPAN - 60),
                                .bytes = 1 + (unsigned)rand_r(&seed) % 60};
            span.kept = (unsigned)rand_r(&seed) % 3 == 0 ? (unsigned)rand_r(&seed) % span.bytes
                                                         : span.bytes;
            for (unsigned i = 0; i < sizeof data; i++)
                data[i] = byte_at((unsigned)span.offset + i);
            cr_assert(held_add(&h, &span, data, &overlap));
            for (unsigned i = 0; i < span.bytes; i++)
                if (model[span.offset + i] == NOBODY)
                    model[span.offset + i] = i < span.kept ? data[i] : CUT;
        }
        compare(&h, model);
        cr_assert_eq(h.memory, 0);
        cr_assert_eq(overlap.conflicting_bytes, 0);
        held_release(&h);
    }
}

/* Two values for one place: neither of them comes out. */
Test(held, what_two_copies_say_differently_is_lost) {
    unsigned seed = test_seed();
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct held h = {0};
        struct held_overlap overlap = {0};
        uint8_t data[60];
        bool two[SPAN] = {false};
        int first[SPAN];
        for (unsigned i = 0; i < SPAN; i++)
            first[i] = NOBODY;
        for (int who = 0; who < 10; who++) {
            memset(data, who, sizeof data);
            struct span span = {.offset = (unsigned)rand_r(&seed) % (SPAN - 60), .bytes = 60};
            span.kept = span.bytes;
            cr_assert(held_add(&h, &span, data, &overlap));
            for (unsigned i = 0; i < span.bytes; i++) {
                two[span.offset + i] |= first[span.offset + i] != NOBODY;
                first[span.offset + i] = who;
            }
        }
        while (!held_empty(&h)) {
            struct piece *p = held_pop(&h);
            for (unsigned i = 0; i < p->span.kept; i++)
                cr_assert_not(two[p->span.offset + i]);
            free(p);
        }
        cr_assert_eq(h.memory, 0);
        held_release(&h);
    }
}
