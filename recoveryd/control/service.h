/*
 * service: control over the server's socket: a few threads that answer recoveryctl, so that the
 * receiver and ingest never wait for it.
 */
#ifndef SANREWIND_RECOVERYD_SERVICE_H
#define SANREWIND_RECOVERYD_SERVICE_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/control/control.h"

#include <stdbool.h>

struct service;
struct socket;
struct frame;

/* Both borrowed; starts the threads. */
int service_create(struct control *control, struct socket *socket, struct service **out,
                   struct error *err);
/* Ends the threads; requests that wait are not answered. */
void service_destroy(struct service *s);

/* server_control's: takes the frame over, or false when too many wait. */
bool service_take(void *service, struct frame *frame);

DEFINE_AUTO(service, service_destroy)

#endif
