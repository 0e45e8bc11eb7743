/*
 * format_file: DIR/FORMAT, what tells a store from any other directory. Internal to the store.
 *
 * Three lines of text, so that a person who finds the directory knows what it is:
 *
 *     sanrewind store
 *     version 1
 *     id 0123456789abcdef
 */
#ifndef SANREWIND_RECOVERYD_FORMAT_FILE_H
#define SANREWIND_RECOVERYD_FORMAT_FILE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_VERSION = 1, FORMAT_FILE_BYTES = 4096 };

/* `text` need not end in NUL. 0, ERR_FORMAT or ERR_VERSION; the sentence begins with "it". */
int format_file_parse(const char *text, size_t bytes, uint64_t *store_id, struct error *err);

/* ERR_NOT_FOUND: there is none. */
int format_file_read(const char *dir, uint64_t *store_id, struct error *err);
/* Written aside, synced and renamed: there is a whole one or none. The last step of making a store.
 */
int format_file_write(const char *dir, uint64_t store_id, struct error *err);

#endif
