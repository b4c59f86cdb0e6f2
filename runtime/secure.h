/*
 * The TLS of one transport: the context, the session of the connection that is open, and the two
 * rings of ciphertext. rx.c feeds it, tx.c empties it; all on the loop's thread.
 */
#ifndef SLUICE_SECURE_H
#define SLUICE_SECURE_H

#include "offload.h"
#include "sluice.h"

#include <stdatomic.h>

#define SECURE_RAW_BYTES (256u << 10) /* ciphertext received and not decrypted yet */
#define SECURE_OUT_BYTES (512u << 10) /* ciphertext to be sent: a whole run fits */

struct sluice_secure {
    const struct sluice_tls_provider *provider;
    struct sluice_tls_context *ctx;      /* NULL: not made yet */
    struct sluice_tls_session *session;  /* NULL: no connection is open, or a plain one */
    uint8_t *raw, *out;                  /* mapped twice */
    _Atomic uint64_t raw_head, raw_tail; /* taken by the session; received, maybe elsewhere */
    enum sluice_ktls ktls;
    const char *ktls_off; /* why it shall not be in the kernel, or NULL */
    struct sluice_offload offload;
    struct sluice_tls_error error; /* why the last one failed */
};

/* Once: 0, -EINVAL, -ENOTSUP, -ENOMEM, -EMFILE, with s->error filled in. */
int sluice_secure_open(struct sluice_secure *s, const char *provider,
                       const struct sluice_tls_config *cfg, enum sluice_ktls ktls);
void sluice_secure_fini(struct sluice_secure *s);

/* One connection: 0, or a negative errno with s->error filled in. */
int sluice_secure_begin(struct sluice_secure *s, const char *host, struct sluice_life *c);
void sluice_secure_end(struct sluice_secure *s);

/* release: pairs with the acquire of the other thread's, where there is one; the bytes below are
 * there, or were taken */
static inline void sluice_secure_move(_Atomic uint64_t *end, uint64_t to)
{
    atomic_store_explicit(end, to, memory_order_release);
}

static inline uint64_t sluice_secure_at(const _Atomic uint64_t *end)
{
    return atomic_load_explicit(end, memory_order_acquire);
}

/* What was received and not taken yet. */
struct sluice_tls_input sluice_secure_window(const struct sluice_secure *s);

/* Bytes that the record which begins there still lacks; of its header, while that is not whole. */
size_t sluice_secure_lacks(const struct sluice_secure *s);

/* One line: what was agreed, with whom, how it was verified. */
void sluice_secure_describe(const struct sluice_secure *s, char *version, size_t version_bytes,
                            char *text, size_t text_bytes);

/* Records are ours to make and to open; else bytes go as they are, or the kernel does it. */
static inline bool sluice_secure_is_on(const struct sluice_secure *s)
{
    return s->session != NULL && !s->offload.in_kernel;
}

static inline size_t sluice_secure_output(const struct sluice_secure *s, const uint8_t **data)
{
    return sluice_secure_is_on(s) ? sluice_tls_output(s->session, data) : 0;
}

#endif
