/*
 * From a peer's certificate up to somebody we trust. wolfSSL checks signatures, dates, constraints
 * and revocation, each step in a store made for this peer alone: what one peer sends is nothing to
 * the next. rules.c has what it does not ask.
 */
#include "tls/wolfssl/wolfssl.h"

#include <stdlib.h>
#include <string.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

struct step {
    DecodedCert cert;
    struct wolfssl_span issuer, subject;
    const WOLFSSL_BUFFER_INFO *der;
};

struct judge {
    const struct wolfssl_trust *trust;
    enum sluice_tls_role peer;
    const WOLFSSL_BUFFER_INFO *certs;
    size_t count;
    WOLFSSL_CERT_MANAGER *store;
    struct step *path; /* from the leaf up, the anchor not in it */
    unsigned length;
    struct wolfssl_verdict verdict;
};

/* ---- words ---- */

static const struct {
    int error, code;
} errors[] = {
    {ASN_BEFORE_DATE_E, VERDICT_NOT_YET_VALID},
    {ASN_AFTER_DATE_E, VERDICT_EXPIRED},
    {ASN_NO_SIGNER_E, VERDICT_NO_ISSUER},
    {ASN_SELF_SIGNED_E, VERDICT_NO_ISSUER},
    {ASN_SIG_CONFIRM_E, VERDICT_BAD_SIGNATURE},
    {ASN_SIG_OID_E, VERDICT_BAD_SIGNATURE},
    {ASN_SIG_HASH_E, VERDICT_BAD_SIGNATURE},
    {ASN_SIG_KEY_E, VERDICT_BAD_SIGNATURE},
    {ASN_PATHLEN_INV_E, VERDICT_PATH_LENGTH},
    {ASN_PATHLEN_SIZE_E, VERDICT_PATH_LENGTH},
    {ASN_NAME_INVALID_E, VERDICT_NOT_PERMITTED},
    {ASN_CRIT_EXT_E, VERDICT_UNHANDLED_EXTENSION},
    {CRL_CERT_REVOKED, VERDICT_REVOKED},
    {CRL_CERT_DATE_ERR, VERDICT_LIST_EXPIRED},
    {MEMORY_E, VERDICT_NO_MEMORY},
};

static int code_of(int error)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errors[i].error == error)
            return errors[i].code;
    return VERDICT_UNSPECIFIED;
}

static bool refuse(struct judge *j, unsigned depth, int code)
{
    j->verdict.code = code;
    j->verdict.depth = (int)depth;
    if (depth < j->length)
        wolfssl_subject(&j->path[depth].cert, j->verdict.subject, sizeof(j->verdict.subject));
    return false;
}

/* ---- the path ---- */

static bool is_same(struct wolfssl_span a, struct wolfssl_span b)
{
    return a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0;
}

static bool is_self_issued(const struct step *step)
{
    return is_same(step->issuer, step->subject);
}

/* Parse and nothing else; the caller frees, whatever the answer. */
static int parse(DecodedCert *cert, const uint8_t *der, size_t bytes)
{
    wc_InitDecodedCert(cert, der, (word32)bytes, NULL);
    return wc_ParseCert(cert, CERT_TYPE, NO_VERIFY, NULL);
}

static bool is_trusted_itself(const struct step *step, const DerBuffer *anchor)
{
    return step->der->length == anchor->length &&
           memcmp(step->der->buffer, anchor->buffer, anchor->length) == 0;
}

/* Above it may stand whom we trust, or else a certificate that the peer sent. One that issued
 * itself leads nowhere: it is an anchor, or of no use. */
static bool add_step(struct judge *j, const WOLFSSL_BUFFER_INFO *der)
{
    struct step *step = &j->path[j->length];
    struct wolfssl_span bytes = {der->buffer, der->length};
    int rc = parse(&step->cert, der->buffer, der->length);
    bool fits = rc == 0 && wolfssl_der_names(bytes, &step->issuer, &step->subject);
    if (fits && j->length > 0)
        fits = is_same(step->subject, step[-1].issuer) && !is_self_issued(step);
    if (!fits) {
        wc_FreeDecodedCert(&step->cert);
        return j->length == 0 ? refuse(j, 0, code_of(rc)) : false;
    }
    step->der = der;
    j->length++;
    return true;
}

static int judge_anchor(const struct judge *j, const DerBuffer *der, const DecodedCert *anchor)
{
    if (is_trusted_itself(&j->path[j->length - 1], der))
        return VERDICT_OK;
    if (!wolfssl_may_issue(anchor))
        return VERDICT_INVALID_CA;
    /* wolfSSL asks those below, but not one that signed itself */
    if (anchor->pathLengthSet && anchor->pathLength < j->length - 1)
        return VERDICT_PATH_LENGTH;
    if (!wolfssl_key_is_strong(anchor))
        return VERDICT_SMALL_CA_KEY;
    if (!wolfssl_fits_purpose(anchor, j->peer, false))
        return VERDICT_PURPOSE;
    return wolfssl_judge_names(anchor, &j->path[0].cert);
}

/* Of the highest step; an anchor that does not suit says why, in case there is no other. */
static bool load_anchor(struct judge *j, const DerBuffer *der)
{
    DecodedCert anchor;
    int rc = parse(&anchor, der->buffer, der->length);
    int code = rc ? code_of(rc) : judge_anchor(j, der, &anchor);
    if (code == VERDICT_OK) {
        rc = wolfSSL_CertManagerLoadCABuffer(j->store, der->buffer, der->length,
                                             WOLFSSL_FILETYPE_ASN1);
        code = rc == WOLFSSL_SUCCESS ? VERDICT_OK : code_of(rc);
    }
    if (code != VERDICT_OK) {
        refuse(j, j->length, code);
        wolfssl_subject(&anchor, j->verdict.subject, sizeof(j->verdict.subject));
    }
    wc_FreeDecodedCert(&anchor);
    return code == VERDICT_OK;
}

static bool load_anchors(struct judge *j, bool *named)
{
    bool loaded = false;
    *named = false;
    for (size_t i = 0; i < j->trust->anchors.count; i++) {
        const struct wolfssl_der *der = &j->trust->anchors.items[i];
        if (!is_same(der->name, j->path[j->length - 1].issuer))
            continue;
        *named = true;
        loaded |= load_anchor(j, der->buffer);
    }
    return loaded;
}

static bool find_path(struct judge *j)
{
    bool named;
    while (!load_anchors(j, &named)) {
        unsigned below = j->length;
        if (named)
            return false;
        if (below == PATH_STEPS_MAX)
            return refuse(j, below - 1, VERDICT_CHAIN_TOO_LONG);
        for (size_t i = 1; i < j->count && j->length == below; i++)
            add_step(j, &j->certs[i]);
        if (j->length == below)
            return refuse(j, below - 1,
                          below == 1 && is_self_issued(&j->path[0]) ? VERDICT_SELF_SIGNED
                                                                    : VERDICT_NO_ISSUER);
    }
    j->verdict = (struct wolfssl_verdict){.code = VERDICT_OK};
    return true;
}

/* ---- each step ---- */

static bool obeys_rules(struct judge *j, unsigned depth)
{
    const DecodedCert *cert = &j->path[depth].cert;
    if (depth > 0 && !wolfssl_may_issue(cert))
        return refuse(j, depth, VERDICT_INVALID_CA);
    if (!wolfssl_fits_purpose(cert, j->peer, depth == 0))
        return refuse(j, depth, VERDICT_PURPOSE);
    if (!wolfssl_key_is_strong(cert))
        return refuse(j, depth, depth ? VERDICT_SMALL_CA_KEY : VERDICT_SMALL_KEY);
    if (!wolfssl_digest_is_strong(cert))
        return refuse(j, depth, VERDICT_WEAK_DIGEST);
    int names = depth > 0 ? wolfssl_judge_names(cert, &j->path[0].cert) : VERDICT_OK;
    return names == VERDICT_OK || refuse(j, 0, names);
}

static bool all_obey_rules(struct judge *j)
{
    for (unsigned depth = 0; depth < j->length; depth++)
        if (!obeys_rules(j, depth))
            return false;
    return true;
}

/* From the top down: each is verified by those above, and only then trusted to verify the next. */
static bool walk_down(struct judge *j)
{
    for (unsigned depth = j->length; depth-- > 0;) {
        const WOLFSSL_BUFFER_INFO *der = j->path[depth].der;
        int rc = wolfSSL_CertManagerVerifyBuffer(j->store, der->buffer, der->length,
                                                 WOLFSSL_FILETYPE_ASN1);
        if (rc == WOLFSSL_SUCCESS && depth > 0)
            rc = wolfSSL_CertManagerLoadCABuffer(j->store, der->buffer, der->length,
                                                 WOLFSSL_FILETYPE_ASN1);
        if (rc != WOLFSSL_SUCCESS)
            return refuse(j, depth, code_of(rc));
    }
    return true;
}

/* ---- revocation ---- */

static bool has_list(const struct judge *j, const struct step *step)
{
    for (size_t i = 0; i < j->trust->lists.count; i++)
        if (is_same(j->trust->lists.items[i].name, step->issuer))
            return true;
    return false;
}

/* A list of revoked leaves is enough: those above are checked where a list of theirs is given. One
 * that is there, but of no use (old, or not its issuer's), reads as missing. */
static bool is_not_revoked(struct judge *j, unsigned depth)
{
    const struct step *step = &j->path[depth];
    int rc = wolfSSL_CertManagerCheckCRL(j->store, step->der->buffer, (int)step->der->length);
    if (rc == WOLFSSL_SUCCESS)
        return true;
    if (rc == CRL_CERT_REVOKED)
        return refuse(j, depth, VERDICT_REVOKED);
    if (has_list(j, step))
        return refuse(j, depth, VERDICT_LIST_EXPIRED);
    return (rc == CRL_MISSING && depth > 0) || refuse(j, depth, VERDICT_NO_LIST);
}

static bool nobody_is_revoked(struct judge *j)
{
    if (!j->trust->has_lists)
        return true;
    if (wolfSSL_CertManagerEnableCRL(j->store, WOLFSSL_CRL_CHECKALL) != WOLFSSL_SUCCESS ||
        /* it would fetch lists from where a certificate says */
        wolfSSL_CertManagerSetCRL_IOCb(j->store, NULL) != WOLFSSL_SUCCESS)
        return refuse(j, 0, VERDICT_NO_LIST);
    for (size_t i = 0; i < j->trust->lists.count; i++) {
        const DerBuffer *list = j->trust->lists.items[i].buffer;
        wolfSSL_CertManagerLoadCRLBuffer(j->store, list->buffer, list->length,
                                         WOLFSSL_FILETYPE_ASN1); /* those of others fail */
    }
    for (unsigned depth = 0; depth < j->length; depth++)
        if (!is_not_revoked(j, depth))
            return false;
    return true;
}

struct wolfssl_verdict wolfssl_judge_chain(const struct wolfssl_trust *t, enum sluice_tls_role peer,
                                           const WOLFSSL_BUFFER_INFO *certs, size_t count)
{
    struct judge j = {.trust = t, .peer = peer, .certs = certs, .count = count};
    j.store = wolfSSL_CertManagerNew();
    j.path = calloc(PATH_STEPS_MAX, sizeof(*j.path));
    if (!j.store || !j.path)
        refuse(&j, 0, VERDICT_NO_MEMORY);
    else if (count == 0)
        refuse(&j, 0, VERDICT_UNSPECIFIED);
    else if (add_step(&j, &certs[0]) && find_path(&j) && all_obey_rules(&j) && walk_down(&j))
        nobody_is_revoked(&j);
    for (unsigned i = 0; i < j.length; i++)
        wc_FreeDecodedCert(&j.path[i].cert);
    free(j.path);
    wolfSSL_CertManagerFree(j.store);
    return j.verdict;
}
