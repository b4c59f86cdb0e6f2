/*
 * Who the peer must be: chain, name or address, pinned key. The files are files.c's.
 */
#include "tls/openssl/openssl.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

/* ---- words ---- */

static size_t finish(BIO *bio, char *out, size_t out_bytes)
{
    int n = BIO_read(bio, out, (int)out_bytes - 1);
    out[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

/* Certificates of today often have no subject, only names. */
static void print_first_name(BIO *bio, X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        BIO_puts(bio, "DNS:");
        ASN1_STRING_print_ex(bio, name->d.dNSName, ASN1_STRFLGS_RFC2253);
        break;
    }
    GENERAL_NAMES_free(names);
}

void openssl_subject(X509 *cert, char *out, size_t out_bytes)
{
    BIO *bio = BIO_new(BIO_s_mem());
    out[0] = 0;
    if (!bio)
        return;
    X509_NAME *subject = X509_get_subject_name(cert);
    if (X509_NAME_entry_count(subject) > 0)
        X509_NAME_print_ex(bio, subject, 0, XN_FLAG_RFC2253);
    else
        print_first_name(bio, cert);
    finish(bio, out, out_bytes);
    BIO_free(bio);
}

static void describe(const struct openssl_session *o, X509_STORE_CTX *store, char *out,
                     size_t out_bytes)
{
    int code = X509_STORE_CTX_get_error(store);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    bool name = code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH;
    char subject[96] = "";
    if (cert)
        openssl_subject(cert, subject, sizeof(subject));
    sluice_tls_describe_refusal(out, out_bytes, subject, X509_verify_cert_error_string(code), code,
                                X509_STORE_CTX_get_error_depth(store),
                                name ? o->verify_name : NULL);
}

/* ---- the pinned key ---- */

static bool has_pinned_key(const struct sluice_tls_context *ctx, X509 *leaf)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint8_t *spki = NULL;
    unsigned digest_bytes = 0;
    bool found = false;
    int bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki); /* RFC 7469 2.4 */
    if (bytes > 0 &&
        EVP_Digest(spki, (size_t)bytes, digest, &digest_bytes, EVP_sha256(), NULL) == 1)
        found = sluice_tls_target_has_pin(&ctx->target, digest);
    OPENSSL_free(spki);
    return found;
}

/* ---- the verdict ---- */

static bool chain_is_good(struct openssl_session *o, X509_STORE_CTX *store)
{
    int ok = X509_verify_cert(store);
    if (ok > 0)
        return true;
    if (X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    if (o->ctx->target.no_verify) {
        describe(o, store, o->doubt, sizeof(o->doubt));
        X509_STORE_CTX_set_error(store, X509_V_OK);
        ERR_clear_error();
        return true;
    }
    char text[sizeof(o->base.error.text)];
    describe(o, store, text, sizeof(text));
    o->base.error.verify_code = X509_STORE_CTX_get_error(store);
    sluice_tls_error_set(&o->base.error, SLUICE_REASON_TLS_VERIFY, "%s", text);
    return false;
}

/* Called by OpenSSL with the peer's chain, in place of X509_verify_cert(). */
static int verify(X509_STORE_CTX *store, void *user)
{
    const struct sluice_tls_context *ctx = user;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct openssl_session *o = openssl_session_of(ssl);
    if (!chain_is_good(o, store))
        return 0;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    if (ctx->target.pin_count == 0 || has_pinned_key(ctx, leaf))
        return 1;
    char subject[96];
    openssl_subject(leaf, subject, sizeof(subject));
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    o->base.error.verify_code = X509_V_ERR_APPLICATION_VERIFICATION;
    sluice_tls_error_set(&o->base.error, SLUICE_REASON_TLS_VERIFY,
                         "certificate \"%s\": its key is not the one pinned", subject);
    return 0;
}

/* A list of revoked leaves is enough: those above are checked where a list of theirs is given. */
static int forgive_missing_list(int ok, X509_STORE_CTX *store)
{
    if (ok || X509_STORE_CTX_get_error(store) != X509_V_ERR_UNABLE_TO_GET_CRL ||
        X509_STORE_CTX_get_error_depth(store) == 0)
        return ok;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

void openssl_verify_setup(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx->ssl);
    int mode = SSL_VERIFY_PEER;
    if (cfg->role == SLUICE_TLS_SERVER && cfg->client_cert == SLUICE_TLS_CERT_NONE)
        mode = SSL_VERIFY_NONE;
    if (cfg->role == SLUICE_TLS_SERVER && cfg->client_cert == SLUICE_TLS_CERT_REQUIRE)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx->ssl, mode, cfg->crl ? forgive_missing_list : NULL);
    SSL_CTX_set_cert_verify_callback(ctx->ssl, verify, ctx);
    if (cfg->ca) /* who names an intermediate there trusts it */
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    if (cfg->crl)
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

/* ---- whom to expect ---- */

int openssl_verify_target(struct openssl_session *o, const char *host, struct sluice_tls_error *err)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(o->ssl);
    const char *name = o->verify_name;
    char sni[TLS_NAME_BYTES];
    if (o->ctx->role == SLUICE_TLS_SERVER)
        return 0;
    int rc = sluice_tls_target_names(&o->ctx->target, host, o->verify_name, sni, err);
    if (rc)
        return rc;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (name[0] && !(sluice_tls_is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(param, name)
                                                 : X509_VERIFY_PARAM_set1_host(param, name, 0)))
        return openssl_config_error(err, "verify-name", name);
    if (sni[0] && !SSL_set_tlsext_host_name(o->ssl, sni))
        return openssl_config_error(err, "sni", sni);
    return 0;
}
