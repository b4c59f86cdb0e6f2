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

#define TLS_PINS_MAX   8u
#define TLS_PIN_BYTES  32u  /* SHA-256 */
#define TLS_NAME_BYTES 256u /* a DNS name has 253 at most: RFC 1035 2.3.4 */
#define TLS_ALPN_BYTES 256u

extern const struct sluice_tls_provider sluice_tls_none;
extern const struct sluice_tls_provider sluice_tls_openssl;
extern const struct sluice_tls_provider sluice_tls_wolfssl;

/* Fill in an error: bytes that are not printable ASCII become '?'. Only the first one counts. */
void sluice_tls_error_set(struct sluice_tls_error *err, enum sluice_reason reason, const char *fmt,
                          ...) __attribute__((format(printf, 3, 4)));
void sluice_tls_error_set_va(struct sluice_tls_error *err, enum sluice_reason reason,
                             const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));

int sluice_tls_no_memory(struct sluice_tls_error *err); /* returns -ENOMEM */

/* The same for a session, which is FAILED from then on. Returns -EPROTO. */
int sluice_tls_fail(struct sluice_tls_session *s, enum sluice_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Count a record that was no data: 0, or -EPROTO when there were too many in a row. */
int sluice_tls_count_control(struct sluice_tls_session *s);

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

/* ---- alert.c ---- */

/* The peer gave up. Returns -EPROTO. */
int sluice_tls_fail_by_alert(struct sluice_tls_session *s, int alert);

/* ---- alpn.c ---- */

struct sluice_tls_alpn {
    uint8_t wire[TLS_ALPN_BYTES]; /* RFC 7301 3.1: each with its length before it */
    unsigned bytes;
};

/* From names with ',' between, NULL: none. 0 or -EINVAL. */
int sluice_tls_alpn_init(struct sluice_tls_alpn *a, const char *text, struct sluice_tls_error *err);

/* The first of ours that is offered, its length before it; NULL: none. */
const uint8_t *sluice_tls_alpn_choose(const struct sluice_tls_alpn *a, const uint8_t *offered,
                                      size_t bytes);

/* ---- target.c ---- */

/* Of a configuration: whom its sessions must meet. Starts as zeroes. */
struct sluice_tls_target {
    bool has_verify_name, has_sni, no_verify;
    char verify_name[TLS_NAME_BYTES], sni[TLS_NAME_BYTES];
    uint8_t pins[TLS_PINS_MAX][TLS_PIN_BYTES];
    unsigned pin_count;
};

/* 0 or -EINVAL. */
int sluice_tls_target_init(struct sluice_tls_target *t, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err);

/* For one session, TLS_NAME_BYTES each: what the certificate must have ("": nobody asks), and what
 * is asked for ("": nothing). 0 or -EINVAL. */
int sluice_tls_target_names(const struct sluice_tls_target *t, const char *host, char *verify_name,
                            char *sni, struct sluice_tls_error *err);

bool sluice_tls_target_has_pin(const struct sluice_tls_target *t, const uint8_t *digest);
bool sluice_tls_is_address(const char *name);

/* One line: whose certificate, what is wrong with it, and where; wanted: the name, or NULL. */
void sluice_tls_describe_refusal(char *out, size_t out_bytes, const char *subject,
                                 const char *words, int code, int depth, const char *wanted);

#endif
