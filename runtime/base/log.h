/*
 * Log lines to stderr, with level and time stamp (UTC). Public (installs as sluice/log.h). Cold
 * path only: nothing on a busy turn logs.
 */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SLUICE_API
#define SLUICE_API __attribute__((visibility("default")))
#endif

enum sluice_log_level { SLUICE_LOG_ERROR, SLUICE_LOG_WARN, SLUICE_LOG_INFO, SLUICE_LOG_DEBUG };

/** Lines above this level are dropped; WARN at start. Any thread, before others log. */
SLUICE_API void sluice_log_set_level(enum sluice_log_level level);

/** One line, written whole, so that those of several processes do not mix. Any thread. */
SLUICE_API void sluice_log(enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
