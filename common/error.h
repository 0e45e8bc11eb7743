/*
 * error: the one way that a failure travels up.
 *
 * A function that can fail returns 0 or one of the negative codes below, and writes, once and where
 * the detail is known, a sentence for the person who has to act: what is wrong and what to do.
 * Callers pass the code on; only main() turns it into an exit status.
 */
#ifndef SANREWIND_COMMON_ERROR_H
#define SANREWIND_COMMON_ERROR_H

#include <stddef.h>

enum error_code {
    ERR_OK = 0,
    ERR_USAGE = -1,     /* the command line or the configuration is wrong */
    ERR_IO = -2,        /* the operating system refused: see the text for errno */
    ERR_FULL = -3,      /* no space left, or a configured limit reached */
    ERR_FORMAT = -4,    /* bytes that are not what they should be */
    ERR_VERSION = -5,   /* a format or protocol newer than this program */
    ERR_NOT_FOUND = -6, /* a volume, a time, a file that does not exist */
    ERR_INEXACT = -7,   /* refused, because the result would not be exact */
    ERR_NET = -8,       /* the other side does not answer, or answers nonsense */
    ERR_BUSY = -9,      /* somebody else holds it */
    ERR_NOMEM = -10,    /* out of memory */
    ERR_STOPPED = -11,  /* a signal or a close ended it before it was done */
};

/* Written by the callee on failure only. A caller that does not want the text passes NULL. */
struct error {
    int code;
    char text[512];
};

/* Set the text and return `code`, so that `return error_set(err, ERR_IO, ...)` reads as one step.
 */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with ": strerror(errnum)" behind; ENOSPC and EDQUOT become ERR_FULL, ENOMEM ERR_NOMEM.
 */
int error_errno(struct error *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " before a text that a callee wrote. Returns err->code. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The command-line contract: 0 done, 1 failed, 2 usage, 3 refused because not exact. */
int error_exit_status(int code);

#endif
