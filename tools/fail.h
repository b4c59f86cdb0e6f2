/*
 * How a command ends: one line on stderr, one exit code, both from the reason table. What failed is
 * said here; what to do about it comes from sluice/reason.h.
 */
#ifndef SLUICE_TOOLS_FAIL_H
#define SLUICE_TOOLS_FAIL_H

#include <sluice/log.h>
#include <sluice/sluice.h>

#define FAIL_PRINTF(at, first) __attribute__((format(printf, at, first)))

/** Print "sluice: WHAT: REASON: REMEDY" and return the exit code of the reason. */
int fail(unsigned reason, const char *what_format, ...) FAIL_PRINTF(2, 3);

/** The same with a remedy that knows more than the table. NULL: the table's. */
int fail_remedy(unsigned reason, const char *remedy, const char *what_format, ...)
    FAIL_PRINTF(3, 4);

/** Which reason a negative errno of the channel or client API stands for. */
unsigned fail_reason_of_errno(int error);

/** fail() for a negative errno: "sluice: WHAT (errno text): REASON: REMEDY". */
int fail_errno(int error, const char *what_format, ...) FAIL_PRINTF(2, 3);

/** fail() for a write to stdout that failed. */
int fail_stdout(int error);

/** fail() for how a connection ended; prints nothing when the exit code is 0. */
int fail_record(const struct sluice_close_record *record, const struct sluice_state *state,
                const char *peer);

/** One line of a close record: "connection 1 closed: peer-close; received 10 B, ...". */
void record_text(const struct sluice_close_record *record, char *out, size_t out_bytes);

#endif
