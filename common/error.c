#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format_text(struct error *err, const char *format, va_list args) {
    if (vsnprintf(err->text, sizeof err->text, format, args) < 0)
        err->text[0] = '\0';
}

int error_set(struct error *err, int code, const char *format, ...) {
    if (err == NULL)
        return code;
    va_list args;
    va_start(args, format);
    format_text(err, format, args);
    va_end(args);
    err->code = code;
    return code;
}

static int code_of_errno(int errnum) {
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return ERR_FULL;
    case ENOMEM:
        return ERR_NOMEM;
    case ENOENT:
        return ERR_NOT_FOUND;
    default:
        return ERR_IO;
    }
}

int error_errno(struct error *err, int errnum, const char *format, ...) {
    int code = code_of_errno(errnum);
    if (err == NULL)
        return code;
    va_list args;
    va_start(args, format);
    format_text(err, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(errnum));
    err->code = code;
    return code;
}

int error_prefix(struct error *err, const char *format, ...) {
    if (err == NULL)
        return ERR_IO;
    struct error whole = {.code = err->code};
    va_list args;
    va_start(args, format);
    format_text(&whole, format, args);
    va_end(args);
    size_t used = strlen(whole.text);
    snprintf(whole.text + used, sizeof whole.text - used, ": %s", err->text);
    *err = whole;
    return err->code;
}

int error_exit_status(int code) {
    switch (code) {
    case ERR_OK:
        return 0;
    case ERR_USAGE:
        return 2;
    case ERR_INEXACT:
        return 3;
    default:
        return 1;
    }
}
