/*
 * Log lines to stderr, with level and time stamp. Cold path only: nothing on a busy turn logs.
 */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

enum sluice_log_level { SLUICE_LOG_ERROR, SLUICE_LOG_WARN, SLUICE_LOG_INFO, SLUICE_LOG_DEBUG };

/** Lines above this level are dropped; INFO at start. Any thread, before others log. */
void sluice_log_set_level(enum sluice_log_level level);

/** One line, written whole. Any thread. */
void sluice_log(enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define SLUICE_ERROR(...) sluice_log(SLUICE_LOG_ERROR, __VA_ARGS__)
#define SLUICE_WARN(...)  sluice_log(SLUICE_LOG_WARN, __VA_ARGS__)
#define SLUICE_INFO(...)  sluice_log(SLUICE_LOG_INFO, __VA_ARGS__)
#define SLUICE_DEBUG(...) sluice_log(SLUICE_LOG_DEBUG, __VA_ARGS__)

#endif
