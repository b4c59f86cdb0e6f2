/*
 * One TLS connection on a WOLFSSL object that sees memory only. What became of a failure is
 * error.c's.
 */
#include "tls/wolfssl/wolfssl.h"
#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct wolfssl_session *of(struct sluice_tls_session *s)
{
    SLUICE_CHECK(s->magic == SLUICE_TLS_MAGIC);
    return (struct wolfssl_session *)s;
}

static const char *version(void)
{
    return wolfSSL_lib_version();
}

/* ---- life ---- */

static int set_up(struct wolfssl_session *w, const char *host, struct sluice_tls_error *err)
{
    char sni[TLS_NAME_BYTES] = "";
    if (w->ctx->role == SLUICE_TLS_CLIENT) {
        int rc = sluice_tls_target_names(&w->ctx->target, host, w->verify_name, sni, err);
        if (rc)
            return rc;
    }
    w->ssl = wolfSSL_new(w->ctx->ssl);
    if (!w->ssl)
        return sluice_tls_no_memory(err);
    wolfSSL_SetIOReadCtx(w->ssl, w);
    wolfSSL_SetIOWriteCtx(w->ssl, w);
    wolfSSL_SetCertCbCtx(w->ssl, w);
    /* wolfSSL goes on when the server's choice is none, unless a list of names says otherwise; of
     * the list the first is enough. */
    const uint8_t *alpn = w->ctx->alpn.wire;
    if (w->ctx->role == SLUICE_TLS_SERVER && w->ctx->alpn.bytes &&
        wolfSSL_UseALPN(w->ssl, (char *)(uintptr_t)(alpn + 1), alpn[0],
                        WOLFSSL_ALPN_FAILED_ON_MISMATCH) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "alpn", "", 0);
    if (sni[0] &&
        wolfSSL_UseSNI(w->ssl, WOLFSSL_SNI_HOST_NAME, sni, (word16)strlen(sni)) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "sni", sni, 0);
    return 0;
}

static void session_destroy(struct sluice_tls_session *s)
{
    if (!s)
        return;
    struct wolfssl_session *w = of(s);
    wolfSSL_free(w->ssl);
    wolfssl_context_destroy(w->ctx);
    s->magic = 0;
    free(w);
}

static int session_create(struct sluice_tls_session **out, struct sluice_tls_context *ctx,
                          const char *host, uint8_t *out_base, size_t out_bytes,
                          struct sluice_tls_error *err)
{
    *out = NULL;
    *err = (struct sluice_tls_error){.alert = -1};
    struct wolfssl_session *w = calloc(1, sizeof(*w));
    if (!w)
        return sluice_tls_no_memory(err);
    sluice_tls_session_init(&w->base, &sluice_tls_wolfssl, out_base, out_bytes);
    atomic_fetch_add_explicit(&ctx->references, 1, memory_order_relaxed);
    w->ctx = ctx;
    int rc = set_up(w, host, err);
    if (rc) {
        session_destroy(&w->base);
        return rc;
    }
    *out = &w->base;
    return 0;
}

/* ---- handshake ---- */

/* What was agreed is noted now: wolfSSL forgets it when both sides have closed. */
static int finish_handshake(struct wolfssl_session *w)
{
    char *name = NULL;
    word16 bytes = 0;
    if (w->ctx->role == SLUICE_TLS_CLIENT && !w->has_peer)
        return sluice_tls_fail(&w->base, SLUICE_REASON_TLS_VERIFY,
                               "the peer showed no certificate");
    w->version = wolfSSL_get_version(w->ssl);
    w->is_1_3 = strcmp(w->version, "TLSv1.3") == 0;
    w->base.version = w->is_1_3 ? SLUICE_TLS_1_3 : SLUICE_TLS_1_2;
    w->cipher = wolfssl_cipher_name(w->ssl);
    if (wolfSSL_ALPN_GetProtocol(w->ssl, &name, &bytes) == WOLFSSL_SUCCESS && name &&
        bytes < sizeof(w->alpn))
        memcpy(w->alpn, name, bytes);
    else if (w->ctx->alpn_required)
        return sluice_tls_fail(&w->base, SLUICE_REASON_TLS_HANDSHAKE,
                               "the peer chose no protocol by ALPN");
    wolfSSL_ERR_clear_error();
    w->base.state = SLUICE_TLS_OPEN;
    return 0;
}

static int handshake(struct sluice_tls_session *s, struct sluice_tls_input *in)
{
    struct wolfssl_session *w = of(s);
    if (s->state != SLUICE_TLS_HANDSHAKE)
        return s->state == SLUICE_TLS_OPEN ? 0 : -EPROTO;
    w->in = in;
    w->one_record = false;
    int ret = wolfSSL_negotiate(w->ssl);
    int code = wolfSSL_get_error(w->ssl, ret);
    w->in = NULL;
    wolfSSL_ERR_clear_error();
    if (code == WOLFSSL_ERROR_WANT_READ)
        return -EAGAIN;
    if (code == WOLFSSL_ERROR_WANT_WRITE)
        return -ENOBUFS;
    return ret == WOLFSSL_SUCCESS ? finish_handshake(w) : wolfssl_fail(w, code);
}

/* ---- data ---- */

/* wolfSSL took a record that was no data, and was given no more. */
static int finish_control(struct wolfssl_session *w)
{
    int alert = wolfssl_alert_in(w);
    return alert >= 0 ? sluice_tls_fail_by_alert(&w->base, alert)
                      : sluice_tls_count_control(&w->base);
}

static ssize_t read_failed(struct wolfssl_session *w, int ret)
{
    int code = wolfSSL_get_error(w->ssl, ret);
    wolfSSL_ERR_clear_error();
    switch (code) {
    case WOLFSSL_ERROR_WANT_READ:
        return w->whole ? finish_control(w) : -EAGAIN;
    case WOLFSSL_ERROR_WANT_WRITE:
        return -ENOBUFS;
    case WOLFSSL_ERROR_ZERO_RETURN:
        w->base.closed |= SLUICE_TLS_CLOSED_BY_PEER;
        return -ESHUTDOWN;
    default:
        return wolfssl_fail(w, code);
    }
}

static ssize_t tls_read(struct sluice_tls_session *s, struct sluice_tls_input *in, void *buf,
                        size_t buf_bytes)
{
    struct wolfssl_session *w = of(s);
    ssize_t rc = 0;
    SLUICE_CHECK(s->state != SLUICE_TLS_HANDSHAKE && buf_bytes > 0);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_PEER)
        return 0;
    int bytes = buf_bytes < SLUICE_TLS_RECORD_MAX ? (int)buf_bytes : (int)SLUICE_TLS_RECORD_MAX;
    while (rc == 0) {
        if (in->bytes == 0 && s->pending == 0)
            return -EAGAIN;
        if (sluice_tls_room(s) < TLS_ANSWER_BYTES)
            return -ENOBUFS;
        w->in = in;
        w->one_record = true;
        w->whole = false;
        int ret = wolfSSL_read(w->ssl, buf, bytes);
        w->in = NULL;
        if (ret > 0) {
            s->pending = (size_t)wolfSSL_pending(w->ssl);
            s->control_run = 0;
            return ret;
        }
        rc = read_failed(w, ret);
    }
    return rc == -ESHUTDOWN ? 0 : rc;
}

/* wolfSSL asks for new keys of the peer's as well, whenever it may. */
static int renew_keys(struct wolfssl_session *w)
{
    int ret = w->is_1_3 ? wolfSSL_update_keys(w->ssl) : WOLFSSL_SUCCESS;
    w->rekey = false;
    w->base.records_out = 0; /* TLS 1.2: there is nothing to renew */
    return ret == WOLFSSL_SUCCESS ? 0 : wolfssl_fail(w, ret);
}

static ssize_t tls_write(struct sluice_tls_session *s, const void *data, size_t bytes)
{
    struct wolfssl_session *w = of(s);
    SLUICE_CHECK(s->state != SLUICE_TLS_HANDSHAKE && bytes > 0);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_US)
        return -EPIPE;
    if (!sluice_tls_has_room(s, bytes))
        return -EAGAIN;
    if ((sluice_tls_count_records(s, 1) || w->rekey) && renew_keys(w))
        return -EPROTO;
    int chunk = bytes < SLUICE_TLS_RECORD_MAX ? (int)bytes : (int)SLUICE_TLS_RECORD_MAX;
    int ret = wolfSSL_write(w->ssl, data, chunk);
    return ret > 0 ? ret : wolfssl_fail(w, wolfSSL_get_error(w->ssl, ret));
}

static int tls_close(struct sluice_tls_session *s)
{
    struct wolfssl_session *w = of(s);
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_US)
        return 0;
    if (sluice_tls_room(s) < TLS_ANSWER_BYTES)
        return -ENOBUFS;
    if (s->state == SLUICE_TLS_OPEN)
        wolfSSL_shutdown(w->ssl);
    wolfSSL_ERR_clear_error();
    s->closed |= SLUICE_TLS_CLOSED_BY_US;
    return 0;
}

static int rekey(struct sluice_tls_session *s, bool ask)
{
    struct wolfssl_session *w = of(s);
    (void)ask; /* it always does */
    if (!w->is_1_3)
        return -ENOTSUP;
    w->rekey = true;
    return 0;
}

/* ---- what was agreed ---- */

static void info(const struct sluice_tls_session *s, struct sluice_tls_info *out)
{
    const struct wolfssl_session *w = (const struct wolfssl_session *)s;
    SLUICE_CHECK(s->magic == SLUICE_TLS_MAGIC);
    bool chain = !w->ctx->target.no_verify, pin = w->ctx->target.pin_count > 0;
    *out = (struct sluice_tls_info){.version = w->version,
                                    .cipher = w->cipher,
                                    .alpn = w->alpn,
                                    .verified = "none",
                                    .resumed = wolfSSL_session_reused(w->ssl) == 1};
    if (w->has_peer)
        out->verified = chain ? pin ? "chain+pin" : "chain" : pin ? "pin" : "none";
    memcpy(out->peer, w->peer, sizeof(out->peer));
    memcpy(out->doubt, w->doubt, sizeof(out->doubt));
}

const struct sluice_tls_provider sluice_tls_wolfssl = {
    .name = "wolfssl",
    .version = version,
    .context_create = wolfssl_context_create,
    .context_destroy = wolfssl_context_destroy,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .handshake = handshake,
    .read = tls_read,
    .write = tls_write,
    .close = tls_close,
    .rekey = rekey,
    .info = info,
};
