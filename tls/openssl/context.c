/*
 * A configuration as an SSL_CTX: versions, ciphers, ALPN, options. Everything that matters is set
 * here, whatever openssl.cnf of the machine says.
 */
#include "tls/openssl/openssl.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No SHA-1, no RSA or DH below 2048 bits, in the handshake and in the chain. */
#define SECURITY_LEVEL 2

/* TLS 1.2 only with forward secrecy and an AEAD; 1.3 has nothing else. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

#define CIPHERS_BYTES 1024u

static int bad(struct sluice_tls_error *err, const char *text)
{
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s", text);
    return -EINVAL;
}

/* ---- versions and ciphers ---- */

struct cipher_lists {
    char of_1_2[CIPHERS_BYTES], of_1_3[CIPHERS_BYTES];
};

static bool append(char *list, const char *name, size_t bytes)
{
    size_t have = strlen(list);
    if (have + bytes + 2 > CIPHERS_BYTES)
        return false;
    if (have)
        list[have++] = ':';
    memcpy(list + have, name, bytes);
    list[have + bytes] = 0;
    return true;
}

/* OpenSSL ignores names that it does not know as long as it knows one. */
static bool is_known(SSL_CTX *ssl, const char *name, size_t bytes)
{
    char one[128] = "";
    if (bytes >= sizeof(one))
        return false;
    memcpy(one, name, bytes);
    if (strncmp(one, "TLS_", 4) == 0)
        return SSL_CTX_set_ciphersuites(ssl, one);
    return strchr("!-+@", one[0]) || SSL_CTX_set_cipher_list(ssl, one);
}

static int split_ciphers(SSL_CTX *ssl, struct cipher_lists *lists, const char *text,
                         struct sluice_tls_error *err)
{
    for (;;) {
        size_t bytes = strcspn(text, ":");
        char *list = strncmp(text, "TLS_", 4) == 0 ? lists->of_1_3 : lists->of_1_2;
        if (bytes == 0 || !is_known(ssl, text, bytes) || !append(list, text, bytes))
            return openssl_config_error(err, "ciphers", text);
        if (!text[bytes])
            return 0;
        text += bytes + 1;
    }
}

/* Nothing but what was asked for: without a cipher of a version that version is not offered. */
static int set_ciphers(SSL_CTX *ssl, const struct sluice_tls_config *cfg,
                       struct sluice_tls_error *err)
{
    struct cipher_lists lists = {CIPHERS_1_2, ""};
    if (cfg->ciphers) {
        lists.of_1_2[0] = 0;
        if (split_ciphers(ssl, &lists, cfg->ciphers, err))
            return -EINVAL;
        if (!lists.of_1_3[0] && cfg->min == SLUICE_TLS_MIN_1_3)
            return bad(err, "ciphers: none of them is for TLS 1.3 (TLS_*)");
    }
    if (lists.of_1_2[0] && !SSL_CTX_set_cipher_list(ssl, lists.of_1_2))
        return openssl_config_error(err, "ciphers", lists.of_1_2);
    if (lists.of_1_3[0] && !SSL_CTX_set_ciphersuites(ssl, lists.of_1_3))
        return openssl_config_error(err, "ciphers", lists.of_1_3);
    bool only_1_3 = cfg->min == SLUICE_TLS_MIN_1_3 || !lists.of_1_2[0];
    bool only_1_2 = cfg->ciphers && !lists.of_1_3[0];
    if (!SSL_CTX_set_min_proto_version(ssl, only_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) ||
        !SSL_CTX_set_max_proto_version(ssl, only_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION))
        return openssl_config_error(err, "tls-min", "");
    return 0;
}

/* ---- ALPN ---- */

static int choose_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_bytes, const uint8_t *in,
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
        SSL_CTX_set_alpn_select_cb(ctx->ssl, choose_alpn, ctx);
    else if (SSL_CTX_set_alpn_protos(ctx->ssl, ctx->alpn.wire, ctx->alpn.bytes))
        return openssl_config_error(err, "alpn", text);
    return 0;
}

/* ---- the rest ---- */

static void set_options(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg)
{
    static const uint8_t session_id_context[] = "sluice";
    SSL_CTX *ssl = ctx->ssl;
    bool gives = cfg->role == SLUICE_TLS_SERVER && cfg->tickets;
    SSL_CTX_clear_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT |
                                   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 (gives || ctx->resume ? 0 : SSL_OP_NO_TICKET));
    SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* SSL_read() comes back after each control record: they are counted, and their answers find
     * room. */
    SSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_read_ahead(ssl, 0); /* nothing is taken beyond a record */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ssl, session_id_context, sizeof(session_id_context));
    SSL_CTX_set_num_tickets(ssl, gives ? 2 : 0);
    SSL_CTX_set_info_callback(ssl, openssl_info_callback);
    SSL_CTX_set_keylog_callback(ssl, openssl_on_secret);
}

static int configure(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg,
                     struct sluice_tls_error *err)
{
    int rc = sluice_tls_target_init(&ctx->target, cfg, err);
    if (rc)
        return rc;
    ctx->ssl = SSL_CTX_new(TLS_method());
    if (!ctx->ssl)
        return openssl_config_error(err, "openssl", "");
    set_options(ctx, cfg);
    if ((rc = set_ciphers(ctx->ssl, cfg, err)))
        return rc;
    SSL_CTX_set_security_level(ctx->ssl, SECURITY_LEVEL); /* behind the ciphers: @SECLEVEL=0 */
    if ((rc = openssl_load_trust(ctx->ssl, cfg, err)) ||
        (rc = openssl_load_identity(ctx->ssl, cfg, err)) || (rc = set_alpn(ctx, cfg->alpn, err)) ||
        (rc = cfg->keylog ? openssl_open_keylog(ctx, cfg->keylog, err) : 0))
        return rc;
    openssl_verify_setup(ctx, cfg);
    return 0;
}

int openssl_context_create(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err)
{
    *out = NULL;
    *err = (struct sluice_tls_error){.alert = -1};
    struct sluice_tls_context *ctx = calloc(1, sizeof(*ctx));
    if (!ctx)
        return sluice_tls_no_memory(err);
    atomic_init(&ctx->references, 1);
    ctx->keylog_fd = -1;
    ctx->role = cfg->role;
    ctx->alpn_required = cfg->alpn_required;
    ctx->resume = cfg->role == SLUICE_TLS_CLIENT && cfg->resume;
    int rc = configure(ctx, cfg, err);
    if (rc) {
        openssl_context_destroy(ctx);
        return rc;
    }
    *out = ctx;
    return 0;
}

void openssl_context_destroy(struct sluice_tls_context *ctx)
{
    /* acq_rel: whoever frees it has seen what the others did with it */
    if (!ctx || atomic_fetch_sub_explicit(&ctx->references, 1, memory_order_acq_rel) > 1)
        return;
    SSL_SESSION_free(ctx->ticket.session);
    SSL_CTX_free(ctx->ssl);
    if (ctx->keylog_fd >= 0)
        close(ctx->keylog_fd);
    free(ctx);
}
