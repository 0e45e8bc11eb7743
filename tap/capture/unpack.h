/*
 * unpack: a file as a stream, decompressed on the way when it is xz, zstd or gzip.
 *
 * What it is, is told by its first bytes, not by its name. A plain file is read by stdio directly.
 */
#ifndef SANREWIND_TAP_UNPACK_H
#define SANREWIND_TAP_UNPACK_H

#include "common/error.h"

#include <stdio.h>

/*
 * The caller closes it. NULL with a sentence: ERR_NOT_FOUND, ERR_IO, or ERR_FORMAT for an empty
 * file. Damaged compressed data is a read error (ferror) with errno EBADMSG.
 */
FILE *unpack_open(const char *path, struct error *err);

#endif
