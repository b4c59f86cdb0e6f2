/*
 * A configuration as a WOLFSSL_CTX: versions, ciphers, ALPN, options. What this provider cannot do
 * is refused here.
 */
#include "tls/wolfssl/wolfssl.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <wolfssl/wolfcrypt/ecc.h>

/* No SHA-1 in the handshake. */
#define SIGNATURES                                                                                 \
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ED25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:" \
    "RSA+SHA256:RSA+SHA384:RSA+SHA512"

#define RSA_BITS_MIN 2048
#define ECC_BITS_MIN 224

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
    wolfSSL_Init();
}

/* ---- versions and ciphers ---- */

static int create(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg,
                  struct sluice_tls_error *err)
{
    struct wolfssl_suites suites;
    int rc = wolfssl_parse_ciphers(&suites, cfg, err);
    if (rc)
        return rc;
    ctx->ssl = wolfSSL_CTX_new(cfg->role == SLUICE_TLS_SERVER ? wolfSSLv23_server_method()
                                                              : wolfSSLv23_client_method());
    if (!ctx->ssl)
        return sluice_tls_no_memory(err);
    if (!wolfSSL_CTX_set_min_proto_version(ctx->ssl,
                                           suites.has_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION) ||
        !wolfSSL_CTX_set_max_proto_version(ctx->ssl,
                                           suites.has_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION))
        return wolfssl_config_error(err, "tls-min", "", 0);
    if (wolfSSL_CTX_set_cipher_list(ctx->ssl, suites.list) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "ciphers", suites.list, 0);
    if (wolfSSL_CTX_set1_sigalgs_list(ctx->ssl, SIGNATURES) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "signatures", SIGNATURES, 0);
    return 0;
}

/* ---- ALPN ---- */

static int choose_alpn(WOLFSSL *ssl, const uint8_t **out, uint8_t *out_bytes, const uint8_t *in,
                       unsigned in_bytes, void *user)
{
    const struct sluice_tls_context *ctx = user;
    const uint8_t *chosen = sluice_tls_alpn_choose(&ctx->alpn, in, in_bytes);
    (void)ssl;
    if (!chosen)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out_bytes = chosen[0];
    *out = chosen + 1;
    return SSL_TLSEXT_ERR_OK;
}

static int set_alpn(struct sluice_tls_context *ctx, const char *text, struct sluice_tls_error *err)
{
    int rc = sluice_tls_alpn_init(&ctx->alpn, text, err);
    if (rc || !text)
        return rc;
    if (ctx->role == SLUICE_TLS_SERVER)
        wolfSSL_CTX_set_alpn_select_cb(ctx->ssl, choose_alpn, ctx);
    else if (wolfSSL_CTX_set_alpn_protos(ctx->ssl, ctx->alpn.wire, ctx->alpn.bytes))
        return wolfssl_config_error(err, "alpn", text, 0);
    return 0;
}

/* ---- the rest ---- */

static void set_options(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg)
{
    WOLFSSL_CTX *ssl = ctx->ssl;
    bool tickets = cfg->role == SLUICE_TLS_SERVER && cfg->tickets;
    wolfSSL_CTX_SetIORecv(ssl, wolfssl_receive);
    wolfSSL_CTX_SetIOSend(ssl, wolfssl_send);
    wolfSSL_CTX_set_session_cache_mode(ssl, WOLFSSL_SESS_CACHE_OFF);
    if (!tickets)
        wolfSSL_CTX_set_options(ssl, WOLFSSL_OP_NO_TICKET);
    wolfSSL_CTX_set_num_tickets(ssl, tickets ? 2 : 0);
    /* wolfSSL_read() comes back after each control record: io.c starves it there. */
    wolfSSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE);
    wolfSSL_CTX_SetMinRsaKey_Sz(ssl, RSA_BITS_MIN);
    wolfSSL_CTX_SetMinEccKey_Sz(ssl, ECC_BITS_MIN);
}

static void set_verification(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg)
{
    int mode = WOLFSSL_VERIFY_PEER;
    if (cfg->role == SLUICE_TLS_SERVER && cfg->client_cert == SLUICE_TLS_CERT_NONE)
        mode = WOLFSSL_VERIFY_NONE;
    if (cfg->role == SLUICE_TLS_SERVER && cfg->client_cert == SLUICE_TLS_CERT_REQUIRE)
        mode |= WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    /* that one tells the client, too */
    if (mode & WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT)
        wolfSSL_CTX_mutual_auth(ctx->ssl, 1);
    wolfSSL_CTX_set_verify(ctx->ssl, mode, wolfssl_verify);
}

/* Debian builds without HAVE_SECRET_CALLBACK. */
static int refuse(const struct sluice_tls_config *cfg, struct sluice_tls_error *err)
{
    if (cfg->keylog)
        sluice_tls_error_set(
            err, SLUICE_REASON_UNSUPPORTED,
            "keylog: wolfSSL tells nobody its secrets: use --tls-provider openssl");
    else if (cfg->role == SLUICE_TLS_CLIENT && cfg->resume)
        sluice_tls_error_set(err, SLUICE_REASON_UNSUPPORTED,
                             "resume: not with wolfSSL here: use --tls-provider openssl");
    return err->reason ? -ENOTSUP : 0;
}

static int configure(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg,
                     struct sluice_tls_error *err)
{
    int rc;
    if ((rc = sluice_tls_target_init(&ctx->target, cfg, err)) || (rc = create(ctx, cfg, err)))
        return rc;
    set_options(ctx, cfg);
    set_verification(ctx, cfg);
    if ((rc = wolfssl_load_trust(&ctx->trust, cfg, err)) ||
        (rc = wolfssl_load_identity(ctx->ssl, cfg, err)) || (rc = set_alpn(ctx, cfg->alpn, err)))
        return rc;
    return refuse(cfg, err);
}

int wolfssl_context_create(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err)
{
    *out = NULL;
    *err = (struct sluice_tls_error){.alert = -1};
    pthread_once(&library_once, init_library);
    struct sluice_tls_context *ctx = calloc(1, sizeof(*ctx));
    if (!ctx)
        return sluice_tls_no_memory(err);
    atomic_init(&ctx->references, 1);
    ctx->role = cfg->role;
    ctx->alpn_required = cfg->alpn_required;
    int rc = configure(ctx, cfg, err);
    wolfSSL_ERR_clear_error();
    if (rc) {
        wolfssl_context_destroy(ctx);
        return rc;
    }
    *out = ctx;
    return 0;
}

void wolfssl_context_destroy(struct sluice_tls_context *ctx)
{
    /* acq_rel: whoever frees it has seen what the others did with it */
    if (!ctx || atomic_fetch_sub_explicit(&ctx->references, 1, memory_order_acq_rel) > 1)
        return;
    wolfSSL_CTX_free(ctx->ssl);
    wolfssl_forget_trust(&ctx->trust);
    /* Multiples of points, up to 12 MB of them, that handshakes keep for their thread: they make
     * the next ones cheap. Who ends the last session frees its own. */
    wc_ecc_fp_free();
    free(ctx);
}
