/*
 * What providers share: their list, and how they fail. Nothing outside this folder includes it.
 */
#ifndef SLUICE_TLS_PROVIDER_H
#define SLUICE_TLS_PROVIDER_H

#include "tls/tls.h"

#include <stdarg.h>

/* Room that write() and the handshake leave free behind themselves: an answer to KeyUpdate, or an
 * alert. */
#define TLS_ANSWER_BYTES 512u

extern const struct sluice_tls_provider sluice_tls_none;
extern const struct sluice_tls_provider sluice_tls_openssl;

/* Fill in an error: bytes that are not printable ASCII become '?'. Only the first one counts. */
void sluice_tls_error_set(struct sluice_tls_error *err, enum sluice_reason reason, const char *fmt,
                          ...) __attribute__((format(printf, 3, 4)));
void sluice_tls_error_set_va(struct sluice_tls_error *err, enum sluice_reason reason,
                             const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));

int sluice_tls_no_memory(struct sluice_tls_error *err); /* returns -ENOMEM */

/* The same for a session, which is FAILED from then on. Returns -EPROTO. */
int sluice_tls_fail(struct sluice_tls_session *s, enum sluice_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Start of every session: checks the ring, leaves the rest zero. */
void sluice_tls_session_init(struct sluice_tls_session *s,
                             const struct sluice_tls_provider *provider, uint8_t *out_base,
                             size_t out_bytes);

static inline size_t sluice_tls_room(const struct sluice_tls_session *s)
{
    return s->out_bytes - (size_t)(s->out_tail - s->out_head);
}

/* Append to the output ring as much as fits: bytes taken. */
size_t sluice_tls_emit(struct sluice_tls_session *s, const void *data, size_t bytes);

/* Move bytes out of the window: how many, at most `bytes`. */
size_t sluice_tls_take(struct sluice_tls_input *in, void *to, size_t bytes);

#endif
