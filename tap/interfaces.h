/*
 * interfaces: what tapd could capture on, what each offers, and what may lose packets there.
 */
#ifndef SANREWIND_TAP_INTERFACES_H
#define SANREWIND_TAP_INTERFACES_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Lists them on standard output. `ring_bytes` as --ring says it. */
int interfaces_print(bool json, uint64_t ring_bytes, struct error *err);

#endif
