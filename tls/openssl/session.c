/*
 * One TLS connection on an SSL object that sees memory only. What became of a failure is error.c's.
 */
#include "tls/openssl/openssl.h"
#include "base/check.h"
#include "base/system.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* Calls of SSL_read() in a row that neither take nor want anything: two are usual. */
#define IDLE_CALLS_MAX 100u

static struct openssl_session *of(struct sluice_tls_session *s)
{
    SLUICE_CHECK(s->magic == SLUICE_TLS_MAGIC);
    return (struct openssl_session *)s;
}

static const char *version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

/* ---- life ---- */

static int set_up(struct openssl_session *o, const char *host, struct sluice_tls_error *err)
{
    o->ssl = SSL_new(o->ctx->ssl);
    BIO *bio = o->ssl && SSL_set_app_data(o->ssl, o) ? openssl_bio_create(o) : NULL;
    if (!bio) {
        ERR_clear_error();
        return sluice_tls_no_memory(err);
    }
    SSL_set_bio(o->ssl, bio, bio);
    if (o->ctx->role == SLUICE_TLS_SERVER)
        SSL_set_accept_state(o->ssl);
    else
        SSL_set_connect_state(o->ssl);
    openssl_ticket_offer(o, host);
    return openssl_verify_target(o, host, err);
}

static void session_destroy(struct sluice_tls_session *s)
{
    if (!s)
        return;
    struct openssl_session *o = of(s);
#ifdef SSL_OP_CLEANSE_PLAINTEXT
    /* It wipes keys by itself, but the buffer where records are decrypted only when asked to; that
     * early it would do so for each record. LibreSSL always does. */
    if (o->ssl)
        SSL_set_options(o->ssl, SSL_OP_CLEANSE_PLAINTEXT);
#endif
    /* The kernel has ended it, where that has the keys: a session that was just dropped would never
     * be resumed. */
    if (o->ssl && o->keys.given)
        SSL_set_shutdown(o->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(o->ssl);
    openssl_context_destroy(o->ctx);
    sluice_system_wipe(&o->keys, sizeof(o->keys));
    s->magic = 0;
    free(o);
}

static int session_create(struct sluice_tls_session **out, struct sluice_tls_context *ctx,
                          const char *host, uint8_t *out_base, size_t out_bytes,
                          struct sluice_tls_error *err)
{
    *out = NULL;
    *err = (struct sluice_tls_error){.alert = -1};
    struct openssl_session *o = calloc(1, sizeof(*o));
    if (!o)
        return sluice_tls_no_memory(err);
    sluice_tls_session_init(&o->base, &sluice_tls_openssl, out_base, out_bytes);
    atomic_fetch_add_explicit(&ctx->references, 1, memory_order_relaxed);
    o->ctx = ctx;
    o->alert_in = o->alert_out = -1;
    int rc = set_up(o, host, err);
    if (rc) {
        session_destroy(&o->base);
        return rc;
    }
    *out = &o->base;
    return 0;
}

/* ---- calls into OpenSSL ---- */

/* SSL_get_error() looks at the thread's queue, where somebody else may have left something. */
static void begin(struct openssl_session *o, struct sluice_tls_input *in)
{
    o->in = in;
    o->starved = o->took = false;
    if (ERR_peek_error())
        ERR_clear_error();
}

/* ---- handshake ---- */

static int finish_handshake(struct openssl_session *o)
{
    const uint8_t *name;
    unsigned bytes;
    SSL_get0_alpn_selected(o->ssl, &name, &bytes);
    if (bytes >= sizeof(o->alpn))
        bytes = 0;
    if (bytes)
        memcpy(o->alpn, name, bytes);
    if (!bytes && o->ctx->alpn_required)
        return sluice_tls_fail(&o->base, SLUICE_REASON_TLS_HANDSHAKE,
                               "the peer chose no protocol by ALPN");
    o->base.version = (uint16_t)SSL_version(o->ssl);
    o->base.state = SLUICE_TLS_OPEN;
    openssl_ticket_keep(o); /* TLS 1.2 */
    return 0;
}

static int handshake(struct sluice_tls_session *s, struct sluice_tls_input *in)
{
    struct openssl_session *o = of(s);
    if (s->state != SLUICE_TLS_HANDSHAKE)
        return s->state == SLUICE_TLS_OPEN ? 0 : -EPROTO;
    begin(o, in);
    int ret = SSL_do_handshake(o->ssl);
    o->in = NULL;
    if (ret == 1)
        return finish_handshake(o);
    switch (SSL_get_error(o->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        return -ENOBUFS;
    default:
        return openssl_fail(o);
    }
}

/* ---- data ---- */

/* SSL_read() took care of something that was no data. Sometimes it takes a record and sends an
 * answer that was due, and only the next call looks at what it took. */
static int count_control(struct openssl_session *o)
{
    struct sluice_tls_session *s = &o->base;
    if (!o->took) {
        if (++o->idle_calls < IDLE_CALLS_MAX)
            return 0;
        return sluice_tls_fail(s, SLUICE_REASON_INTERNAL, "OpenSSL turns in circles");
    }
    o->idle_calls = 0;
    openssl_ticket_keep(o); /* TLS 1.3 */
    return sluice_tls_count_control(s);
}

static ssize_t read_failed(struct openssl_session *o, int ret)
{
    switch (SSL_get_error(o->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return o->starved ? -EAGAIN : count_control(o);
    case SSL_ERROR_WANT_WRITE:
        return -ENOBUFS;
    case SSL_ERROR_ZERO_RETURN:
        o->base.closed |= SLUICE_TLS_CLOSED_BY_PEER;
        return -ESHUTDOWN;
    default:
        return openssl_fail(o);
    }
}

static ssize_t tls_read(struct sluice_tls_session *s, struct sluice_tls_input *in, void *buf,
                        size_t buf_bytes)
{
    struct openssl_session *o = of(s);
    ssize_t rc = 0;
    SLUICE_CHECK(s->state != SLUICE_TLS_HANDSHAKE && buf_bytes > 0);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_PEER)
        return 0;
    int bytes = buf_bytes < SLUICE_TLS_RECORD_MAX ? (int)buf_bytes : (int)SLUICE_TLS_RECORD_MAX;
    if (in->bytes == 0 && s->pending == 0)
        return -EAGAIN;
    while (rc == 0) {
        if (sluice_tls_room(s) < TLS_ANSWER_BYTES)
            return -ENOBUFS;
        begin(o, in);
        int ret = SSL_read(o->ssl, buf, bytes);
        o->in = NULL;
        if (ret > 0) {
            s->pending = (size_t)SSL_pending(o->ssl);
            s->control_run = 0;
            return ret;
        }
        rc = read_failed(o, ret);
    }
    return rc == -ESHUTDOWN ? 0 : rc;
}

static ssize_t tls_write(struct sluice_tls_session *s, const void *data, size_t bytes)
{
    struct openssl_session *o = of(s);
    SLUICE_CHECK(s->state != SLUICE_TLS_HANDSHAKE && bytes > 0);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_US)
        return -EPIPE;
    if (!sluice_tls_has_room(s, bytes))
        return -EAGAIN;
    if (sluice_tls_count_records(s, 1) && openssl_rekey(s, false))
        s->records_out = 0; /* TLS 1.2: there is nothing to renew */
    begin(o, NULL);
    int chunk = bytes < SLUICE_TLS_RECORD_MAX ? (int)bytes : (int)SLUICE_TLS_RECORD_MAX;
    int ret = SSL_write(o->ssl, data, chunk);
    if (ret > 0)
        return ret;
    /* Between two parts of a control message OpenSSL reads before it writes. */
    if (SSL_get_error(o->ssl, ret) == SSL_ERROR_WANT_READ)
        return -EINPROGRESS;
    return openssl_fail(o);
}

static int tls_close(struct sluice_tls_session *s)
{
    struct openssl_session *o = of(s);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_US)
        return 0;
    if (sluice_tls_room(s) < TLS_ANSWER_BYTES)
        return -ENOBUFS;
    begin(o, NULL);
    /* During a handshake, or inside a control message, there is nothing to close: no alert leaves,
     * and the end of the stream tells the peer. */
    SSL_shutdown(o->ssl);
    ERR_clear_error();
    s->closed |= SLUICE_TLS_CLOSED_BY_US;
    return 0;
}

/* ---- what was agreed ---- */

static void info(const struct sluice_tls_session *s, struct sluice_tls_info *out)
{
    const struct openssl_session *o = (const struct openssl_session *)s;
    SLUICE_CHECK(s->magic == SLUICE_TLS_MAGIC);
    bool chain = !o->ctx->target.no_verify, pin = o->ctx->target.pin_count > 0;
    X509 *cert = SSL_get_peer_certificate(o->ssl);
    *out = (struct sluice_tls_info){.version = SSL_get_version(o->ssl),
                                    .cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(o->ssl)),
                                    .alpn = o->alpn,
                                    .verified = "none",
                                    .resumed = SSL_session_reused(o->ssl) == 1,
                                    .ticket = openssl_ticket_waits(o)};
    if (cert) {
        openssl_subject(cert, out->peer, sizeof(out->peer));
        out->verified = chain ? pin ? "chain+pin" : "chain" : pin ? "pin" : "none";
    }
    memcpy(out->doubt, o->doubt, sizeof(out->doubt));
    X509_free(cert);
}

const struct sluice_tls_provider sluice_tls_openssl = {
    .name = "openssl",
    .version = version,
    .context_create = openssl_context_create,
    .context_destroy = openssl_context_destroy,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .handshake = handshake,
    .read = tls_read,
    .write = tls_write,
    .close = tls_close,
    .rekey = openssl_rekey,
    .keys = openssl_keys,
    .next_keys = openssl_next_keys,
    .info = info,
};
