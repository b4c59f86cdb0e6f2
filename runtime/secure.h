/*
 * The TLS of one transport: the context, the session of the connection that is open, and the two
 * rings of ciphertext. rx.c feeds it, tx.c empties it; all on the loop's thread.
 */
#ifndef SLUICE_SECURE_H
#define SLUICE_SECURE_H

#include "tls/tls.h"

#define SECURE_RAW_BYTES (256u << 10) /* ciphertext received and not decrypted yet */
#define SECURE_OUT_BYTES (512u << 10) /* ciphertext to be sent: a whole run fits */

struct sluice_secure {
    const struct sluice_tls_provider *provider;
    struct sluice_tls_context *ctx;     /* NULL: not made yet */
    struct sluice_tls_session *session; /* NULL: no connection is open, or a plain one */
    uint8_t *raw, *out;                 /* mapped twice */
    uint64_t raw_head;                  /* taken by the session */
    struct sluice_tls_error error;      /* why the last one failed */
};

/* Once: 0, -EINVAL, -ENOTSUP, -ENOMEM, -EMFILE, with s->error filled in. */
int sluice_secure_open(struct sluice_secure *s, const char *provider,
                       const struct sluice_tls_config *cfg);
void sluice_secure_fini(struct sluice_secure *s);

/* One connection. raw_at: position of the first byte that will be received. */
int sluice_secure_begin(struct sluice_secure *s, const char *host, uint64_t raw_at);
void sluice_secure_end(struct sluice_secure *s);

/* What was received up to position `to` and not taken yet. */
struct sluice_tls_input sluice_secure_window(const struct sluice_secure *s, uint64_t to);

/* One line: what was agreed, with whom, how it was verified. */
void sluice_secure_describe(const struct sluice_secure *s, char *version, size_t version_bytes,
                            char *text, size_t text_bytes);

static inline bool sluice_secure_is_on(const struct sluice_secure *s)
{
    return s->session != NULL;
}

static inline size_t sluice_secure_output(const struct sluice_secure *s, const uint8_t **data)
{
    return s->session ? sluice_tls_output(s->session, data) : 0;
}

#endif
