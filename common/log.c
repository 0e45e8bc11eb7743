#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Set once before threads start, read-only afterwards. */
static const char *log_program = "sanrewind";
static enum log_level log_threshold = LOG_LEVEL_INFO;

void log_init(const char *program, enum log_level level) {
    log_program = program;
    log_threshold = level;
}

static void log_line(enum log_level level, const char *name, const char *format, va_list args) {
    if (level > log_threshold)
        return;
    char text[1024];
    if (vsnprintf(text, sizeof text, format, args) < 0)
        return;
    /* One call, so that lines of several threads do not mix. */
    fprintf(stderr, "%s: %s%s\n", log_program, name, text);
}

#define LOG_FUNCTION(function, level, name)                                                        \
    void function(const char *format, ...) {                                                       \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        log_line(level, name, format, args);                                                       \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR, "error: ")
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING, "warning: ")
LOG_FUNCTION(log_info, LOG_LEVEL_INFO, "")
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG, "debug: ")
