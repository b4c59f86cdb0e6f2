/*
 * Log lines: formatted into one buffer, written with one call, so that lines of several processes
 * on one stderr do not mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum sluice_log_level max_level = SLUICE_LOG_WARN;

void sluice_log_set_level(enum sluice_log_level level)
{
    max_level = level;
}

void sluice_log(enum sluice_log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn ", "info ", "debug"};
    char line[1024];
    if (level > max_level)
        return;

    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof(line), "%FT%T", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ %s ", ts.tv_nsec / 1000,
                          names[level]);
    va_list ap;
    va_start(ap, fmt);
    int body = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
    va_end(ap);
    if (body > 0)
        n += (size_t)body;
    if (n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* stderr is gone; there is nowhere left to say so */
}
