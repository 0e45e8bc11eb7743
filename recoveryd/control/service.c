#include "recoveryd/control/service.h"

#include "common/clock.h"
#include "common/queue.h"
#include "proto/limits.h"
#include "recoveryd/control/envelope.h"
#include "recoveryd/receive/socket.h"

#include <pthread.h>

/* Without requests, too, there is something to tidy up. */
#define PAUSE_NS (5 * NS_PER_SECOND)

enum { THREADS = 4, QUEUE_REQUESTS = 64 };

struct service {
    struct control *control;
    struct queue *requests; /* of struct frame */
    struct sender *senders[THREADS];
    pthread_t threads[THREADS];
    unsigned running;
};

struct start {
    struct service *service;
    struct sender *sender;
};

static void answer(struct service *s, const struct frame *frame, struct buffer *reply) {
    AUTO_JSON request = NULL;
    AUTO_JSON result = NULL;
    AUTO_BUFFER data;
    struct error err = {0};
    buffer_init(&data, LIMIT_CONTROL_BYTES / 2);
    buffer_init(reply, LIMIT_CONTROL_BYTES);
    int code = envelope_open_request(frame->data, frame->bytes, &request, &err);
    if (code == 0)
        code = control_run(s->control, request, &result, &data, &err);
    if (code == 0)
        envelope_result(reply, result, &data);
    if (reply->failed)
        code = error_set(&err, ERR_FULL, "the answer is larger than a message: ask for less");
    if (code == 0)
        return;
    buffer_clear(reply);
    err.code = code;
    envelope_error(reply, &err);
}

static void *service_thread(void *context) {
    struct start start = *(struct start *)context;
    free(context);
    struct queue *requests = start.service->requests;
    while (true) {
        struct frame *frame = queue_pop(requests, PAUSE_NS);
        if (frame == NULL && queue_is_closed(requests))
            break;
        control_tidy(start.service->control);
        if (frame == NULL)
            continue;
        AUTO_BUFFER reply;
        answer(start.service, frame, &reply);
        sender_send(start.sender, &frame->from, &reply);
        frame_destroy(frame);
    }
    return NULL;
}

static int start_thread(struct service *s, unsigned number, struct socket *socket,
                        struct error *err) {
    struct start *start = malloc(sizeof *start);
    s->senders[number] = sender_create(socket);
    if (start == NULL || s->senders[number] == NULL) {
        free(start);
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    *start = (struct start){s, s->senders[number]};
    int errnum = pthread_create(&s->threads[number], NULL, service_thread, start);
    if (errnum != 0) {
        free(start);
        return error_errno(err, errnum, "cannot start a thread");
    }
    s->running = number + 1;
    return 0;
}

int service_create(struct control *control, struct socket *socket, struct service **out,
                   struct error *err) {
    AUTO(service) s = calloc(1, sizeof *s);
    if (s == NULL || (s->requests = queue_create(QUEUE_REQUESTS)) == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->control = control;
    int code = 0;
    for (unsigned i = 0; i < THREADS && code == 0; i++)
        code = start_thread(s, i, socket, err);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void service_destroy(struct service *s) {
    if (s == NULL)
        return;
    if (s->requests != NULL) {
        queue_close(s->requests);
        for (struct frame *frame; (frame = queue_pop(s->requests, 0)) != NULL;)
            frame_destroy(frame);
    }
    for (unsigned i = 0; i < s->running; i++)
        pthread_join(s->threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++)
        sender_destroy(s->senders[i]);
    queue_destroy(s->requests);
    free(s);
}

bool service_take(void *service, struct frame *frame) {
    struct service *s = service;
    return queue_try_push(s->requests, frame);
}
