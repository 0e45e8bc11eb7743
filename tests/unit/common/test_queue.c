#include "common/queue.h"

#include <criterion/criterion.h>
#include <pthread.h>

enum { ITEMS = 20000 };

Test(queue, first_in_first_out_and_bounded) {
    AUTO(queue) q = queue_create(2);
    int a = 0, b = 0, c = 0;
    cr_assert(queue_try_push(q, &a));
    cr_assert(queue_try_push(q, &b));
    cr_assert_not(queue_try_push(q, &c));
    cr_assert_eq(queue_pop(q, 0), &a);
    cr_assert_eq(queue_pop(q, 0), &b);
    cr_assert_null(queue_pop(q, 1000));
}

Test(queue, closed_gives_what_is_left) {
    AUTO(queue) q = queue_create(4);
    int a = 0;
    queue_push(q, &a);
    queue_close(q);
    cr_assert_not(queue_push(q, &a));
    cr_assert_eq(queue_pop(q, UINT64_MAX), &a);
    cr_assert_null(queue_pop(q, UINT64_MAX));
}

static void *produce(void *context) {
    struct queue *q = context;
    static int items[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        items[i] = i;
        queue_push(q, &items[i]);
    }
    queue_close(q);
    return NULL;
}

Test(queue, passes_everything_between_threads) {
    AUTO(queue) q = queue_create(8);
    pthread_t thread;
    pthread_create(&thread, NULL, produce, q);
    int expected = 0;
    for (int *item; (item = queue_pop(q, UINT64_MAX)) != NULL; expected++)
        cr_assert_eq(*item, expected);
    cr_assert_eq(expected, ITEMS);
    pthread_join(thread, NULL);
}
