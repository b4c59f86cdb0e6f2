/*
 * Who the peer must be: the chain's verdict (chain.c), its name or address, the pinned key; and
 * what a refusal is called.
 */
#include "tls/wolfssl/wolfssl.h"

#include <stdlib.h>
#include <string.h>
#include <wolfssl/wolfcrypt/sha256.h>

/* As X509_verify_cert_error_string(3) has them. */
static const struct {
    int code;
    const char *words;
} reasons[] = {
    {VERDICT_NO_LIST, "unable to get certificate CRL"},
    {VERDICT_BAD_SIGNATURE, "certificate signature failure"},
    {VERDICT_NOT_YET_VALID, "certificate is not yet valid"},
    {VERDICT_EXPIRED, "certificate has expired"},
    {VERDICT_LIST_EXPIRED, "CRL has expired"},
    {VERDICT_NO_MEMORY, "out of memory"},
    {VERDICT_SELF_SIGNED, "self-signed certificate"},
    {VERDICT_NO_ISSUER, "unable to get local issuer certificate"},
    {VERDICT_CHAIN_TOO_LONG, "certificate chain too long"},
    {VERDICT_REVOKED, "certificate revoked"},
    {VERDICT_PATH_LENGTH, "path length constraint exceeded"},
    {VERDICT_PURPOSE, "unsuitable certificate purpose"},
    {VERDICT_UNHANDLED_EXTENSION, "unhandled critical extension"},
    {VERDICT_NOT_PERMITTED, "permitted subtree violation"},
    {VERDICT_EXCLUDED, "excluded subtree violation"},
    {VERDICT_HOST, "hostname mismatch"},
    {VERDICT_ADDRESS, "IP address mismatch"},
    {VERDICT_SMALL_KEY, "EE certificate key too weak"},
    {VERDICT_SMALL_CA_KEY, "CA certificate key too weak"},
    {VERDICT_WEAK_DIGEST, "CA signature digest algorithm too weak"},
    {VERDICT_INVALID_CA, "invalid CA certificate"},
};

static const char *words_of(int code)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].code == code)
            return reasons[i].words;
    return "unspecified certificate verification error";
}

static struct wolfssl_verdict judge_name(const struct wolfssl_session *w, const DecodedCert *leaf)
{
    const char *name = w->verify_name;
    struct wolfssl_verdict verdict = {.code = VERDICT_OK};
    if (!name[0] || wolfssl_has_name(leaf, name)) /* a server wants none */
        return verdict;
    verdict.code = sluice_tls_is_address(name) ? VERDICT_ADDRESS : VERDICT_HOST;
    wolfssl_subject(leaf, verdict.subject, sizeof(verdict.subject));
    return verdict;
}

/* Whether it may go on. */
static bool accept_verdict(struct wolfssl_session *w, const struct wolfssl_verdict *v)
{
    char text[sizeof(w->base.error.text)], *out = text;
    size_t out_bytes = sizeof(text);
    bool name = v->code == VERDICT_HOST || v->code == VERDICT_ADDRESS;
    if (v->code == VERDICT_OK)
        return true;
    if (w->ctx->target.no_verify) {
        out = w->doubt;
        out_bytes = sizeof(w->doubt);
    }
    sluice_tls_describe_refusal(out, out_bytes, v->subject, words_of(v->code), v->code, v->depth,
                                name ? w->verify_name : NULL);
    if (w->ctx->target.no_verify)
        return true;
    w->base.error.verify_code = v->code;
    sluice_tls_error_set(&w->base.error, SLUICE_REASON_TLS_VERIFY, "%s", text);
    return false;
}

static bool has_pinned_key(struct wolfssl_session *w, const DecodedCert *leaf)
{
    uint8_t digest[TLS_PIN_BYTES];
    struct wolfssl_span info; /* RFC 7469 2.4 */
    if (w->ctx->target.pin_count == 0)
        return true;
    if (wolfssl_der_public_key_info(leaf, &info) &&
        wc_Sha256Hash(info.data, (word32)info.bytes, digest) == 0 &&
        sluice_tls_target_has_pin(&w->ctx->target, digest))
        return true;
    w->base.error.verify_code = VERDICT_PINNED;
    sluice_tls_error_set(&w->base.error, SLUICE_REASON_TLS_VERIFY,
                         "certificate \"%s\": its key is not the one pinned", w->peer);
    return false;
}

static bool judge(struct wolfssl_session *w, const WOLFSSL_BUFFER_INFO *certs, size_t count,
                  DecodedCert *leaf)
{
    enum sluice_tls_role peer =
        w->ctx->role == SLUICE_TLS_SERVER ? SLUICE_TLS_CLIENT : SLUICE_TLS_SERVER;
    struct wolfssl_verdict verdict = wolfssl_judge_chain(&w->ctx->trust, peer, certs, count);
    wc_InitDecodedCert(leaf, certs[0].buffer, certs[0].length, NULL);
    if (wc_ParseCert(leaf, CERT_TYPE, NO_VERIFY, NULL) == 0)
        wolfssl_subject(leaf, w->peer, sizeof(w->peer));
    else if (verdict.code == VERDICT_OK)
        verdict.code = VERDICT_UNSPECIFIED;
    if (verdict.code == VERDICT_OK)
        verdict = judge_name(w, leaf);
    return accept_verdict(w, &verdict) && has_pinned_key(w, leaf);
}

/* wolfSSL asks for each certificate, the leaf last. It trusts nobody by itself, so what it thinks
 * of them counts for nothing. */
int wolfssl_verify(int ok, WOLFSSL_X509_STORE_CTX *store)
{
    struct wolfssl_session *w = store->userCtx;
    if (store->error_depth != 0)
        return 1;
    if (store->totalCerts < 1) /* whether a client needs one says the mode; a server does */
        return ok && w->ctx->role == SLUICE_TLS_SERVER;
    DecodedCert *leaf = malloc(sizeof(*leaf));
    if (!leaf) {
        sluice_tls_no_memory(&w->base.error);
        return 0;
    }
    w->has_peer = judge(w, store->certs, (size_t)store->totalCerts, leaf);
    wc_FreeDecodedCert(leaf);
    free(leaf);
    return w->has_peer;
}
