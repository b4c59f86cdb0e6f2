/*
 * How a command ends: one line on stderr, one exit code, both from the reason table. What failed is
 * said by the caller; what to do about it by sluice/reason.h.
 */
#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One write per line, so that lines of several processes on one stderr do not mix. */
static void write_line(char *line, size_t line_bytes, size_t length)
{
    if (length > line_bytes - 1)
        length = line_bytes - 1;
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\n')
            line[i] = ' ';
    line[length++] = '\n';
    if (write(STDERR_FILENO, line, length) < 0)
        return; /* stderr is gone; there is nowhere left to say so */
}

static int fail_line(unsigned reason, const char *remedy, const char *what)
{
    char line[1280];
    int n = snprintf(line, sizeof(line), "sluice: %s: %s: %s", what, sluice_reason_name(reason),
                     remedy ? remedy : sluice_reason_text(reason));
    write_line(line, sizeof(line), n < 0 ? 0 : (size_t)n);
    return sluice_reason_exit_code(reason);
}

int fail(unsigned reason, const char *what_format, ...)
{
    char what[640];
    va_list ap;
    va_start(ap, what_format);
    vsnprintf(what, sizeof(what), what_format, ap);
    va_end(ap);
    return fail_line(reason, NULL, what);
}

int fail_remedy(unsigned reason, const char *remedy, const char *what_format, ...)
{
    char what[640];
    va_list ap;
    va_start(ap, what_format);
    vsnprintf(what, sizeof(what), what_format, ap);
    va_end(ap);
    return fail_line(reason, remedy, what);
}

unsigned fail_reason_of_errno(int error)
{
    switch (abs(error)) {
    case 0:
        return SLUICE_REASON_NONE;
    case EADDRINUSE:
        return SLUICE_REASON_NAME_TAKEN;
    case EACCES:
    case EPERM:
        return SLUICE_REASON_DENIED;
    case ENOENT:
        return SLUICE_REASON_NO_ENGINE;
    case EBUSY:
        return SLUICE_REASON_BUSY;
    case EPROTO:
        return SLUICE_REASON_MISMATCH;
    case ETIMEDOUT:
        return SLUICE_REASON_TIMED_OUT;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case ERANGE:
        return SLUICE_REASON_LIMIT;
    case EBADMSG:
        return SLUICE_REASON_CORRUPT;
    case EPIPE:
        return SLUICE_REASON_ENGINE_GONE;
    case EINVAL:
        return SLUICE_REASON_USAGE;
    case EPROTONOSUPPORT:
    case ENOSYS:
        return SLUICE_REASON_UNSUPPORTED;
    default:
        return SLUICE_REASON_INTERNAL;
    }
}

/* The table says "the limit that the line names": name it. NULL: the table's text will do. */
static const char *remedy_of_errno(int error)
{
    switch (error) {
    case EMFILE:
        return "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)";
    case ENFILE:
        return "raise fs.file-max";
    case ERANGE:
        return "a descriptor is too high for select: choose --event epoll or poll";
    case ENOMEM:
        return "free some memory, or raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)";
    default:
        return NULL;
    }
}

int fail_errno(int error, const char *what_format, ...)
{
    char what[640];
    va_list ap;
    va_start(ap, what_format);
    int n = vsnprintf(what, sizeof(what), what_format, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(what))
        snprintf(what + n, sizeof(what) - (size_t)n, " (%s)", strerror(abs(error)));
    return fail_line(fail_reason_of_errno(error), remedy_of_errno(abs(error)), what);
}

int fail_stdout(int error)
{
    bool full = error == -ENOSPC || error == -EDQUOT;
    return fail_remedy(full ? SLUICE_REASON_LIMIT : SLUICE_REASON_USAGE,
                       full ? "make room there" : "give a stdout that can be written",
                       "stdout (%s)", strerror(-error));
}

void record_text(const struct sluice_close_record *record, char *out, size_t out_bytes)
{
    char error[96] = "", alert[40] = "", acked[48] = "", half[64] = "";
    if (record->os_error != 0)
        snprintf(error, sizeof(error), " (%s)", strerror(record->os_error));
    if (record->tls_alert != 0)
        snprintf(alert, sizeof(alert), " (TLS alert %" PRIu32 ")", record->tls_alert - 1);
    if (record->half_sent_bytes != 0)
        snprintf(half, sizeof(half), ", %" PRIu64 " B of one half sent", record->half_sent_bytes);
    if (record->acked_bytes == UINT64_MAX)
        snprintf(acked, sizeof(acked), "not known");
    else
        snprintf(acked, sizeof(acked), "%" PRIu64 " B", record->acked_bytes);
    snprintf(out, out_bytes,
             "connection %" PRIu32 " %s: %s%s%s; received %" PRIu64 " B; sent %" PRIu64
             " messages, %" PRIu64 " B%s, %" PRIu64 " messages left; acked %s",
             record->connection, record->opened_ns ? "closed" : "not opened",
             sluice_reason_name(record->reason), error, alert, record->received_bytes,
             record->messages_sent, record->sent_bytes, half, record->messages_left, acked);
}

int fail_record(const struct sluice_close_record *record, const struct sluice_state *state,
                const char *peer)
{
    if (sluice_reason_exit_code(record->reason) == 0)
        return 0;
    const char *stage = record->opened_ns ? "connection broke" : "cannot connect";
    if (strcmp(state->tls, "failed") == 0)
        return fail(record->reason, "%s: %s", peer, state->tls_reason);
    if (record->os_error == 0)
        return fail(record->reason, "%s: %s", peer, stage);
    return fail_remedy(record->reason, remedy_of_errno(record->os_error), "%s: %s (%s)", peer,
                       stage, strerror(record->os_error));
}
