/*
 * log: lines for the operator on standard error, one event each, "PROGRAM: level: text".
 *
 * Thread-safe. Never log payload bytes. Drops and malformed packets are counted, not logged.
 */
#ifndef SANREWIND_COMMON_LOG_H
#define SANREWIND_COMMON_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Call once at the start of main, before any thread. `program` must outlive the process. */
void log_init(const char *program, enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
