/* Frames that wait: on shelves for a short time, in memory of their own for longer. */
#include "tap/fc/internal.h"

#include <criterion/criterion.h>
#include <string.h>

enum { FRAMES = 8000, FRAME_BYTES = 2112, SHORT_BYTES = 32 };

static uint8_t payload[FRAME_BYTES];

static struct seen *put(struct shelves *s, unsigned number) {
    struct frame frame = {.payload = payload, .bytes = number % 3 == 0 ? SHORT_BYTES : FRAME_BYTES};
    memset(payload, (int)(number & 0xff), sizeof payload);
    return shelves_put(s, &frame, number);
}

static void check(const struct seen *seen, unsigned number) {
    cr_assert_eq(seen->time_ns, number);
    cr_assert_eq(seen->frame.payload, seen->data);
    cr_assert_eq(seen->data[0], (uint8_t)number);
    cr_assert_eq(seen->data[seen->frame.bytes - 1], (uint8_t)number);
}

/* 16 MiB of them: several shelves, freed from both ends. */
Test(fc_seen, any_order_of_freeing) {
    static struct seen *seen[FRAMES];
    struct shelves *s = shelves_create();
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < FRAMES; i++)
            cr_assert_not_null(seen[i] = put(s, i));
        for (unsigned i = 0; i < FRAMES; i++) {
            unsigned from_both_ends = i % 2 == 0 ? i / 2 : FRAMES - 1 - i / 2;
            check(seen[from_both_ends], from_both_ends);
            seen_free(seen[from_both_ends]);
        }
    }
    shelves_destroy(s);
}

/* A shelf is used again when all that lay on it is gone, but what is kept stays as it was. */
Test(fc_seen, what_is_kept_outlives_its_shelf) {
    struct shelves *s = shelves_create();
    struct seen *kept = seen_keep(put(s, 77));
    cr_assert_not_null(kept);
    cr_assert_eq(seen_keep(kept), kept);
    struct seen *first = put(s, 1);
    seen_free(first);
    struct seen *second = put(s, 2);
    cr_assert_eq(first, second, "a shelf that is empty again is not used from its beginning");
    seen_free(second);
    shelves_destroy(s);
    check(kept, 77);
    seen_free(kept);
}
