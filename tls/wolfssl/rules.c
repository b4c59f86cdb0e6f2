/*
 * What is asked of each certificate on a path besides wolfSSL's own checks, so that this provider
 * refuses whatever the other one does: weak keys and digests, purposes, names that somebody above
 * does not permit.
 */
#include "tls/wolfssl/wolfssl.h"

#include <string.h>
#include <strings.h>

#define RSA_BITS_MIN  2048u
#define ECC_BYTES_MIN 57u /* of a point on a curve of 224 bits, not compressed: SEC 1 2.3.3 */

bool wolfssl_key_is_strong(const DecodedCert *cert)
{
    switch (cert->keyOID) {
    case RSAk:
        return wolfssl_der_rsa_bits(cert) >= RSA_BITS_MIN;
    case ECDSAk:
        return cert->pubKeySize >= ECC_BYTES_MIN;
    case ED25519k:
    case ED448k:
        return true;
    default:
        return false;
    }
}

bool wolfssl_digest_is_strong(const DecodedCert *cert)
{
    switch (cert->signatureOID) {
    case CTC_SHA256wRSA:
    case CTC_SHA384wRSA:
    case CTC_SHA512wRSA:
    case CTC_SHA256wECDSA:
    case CTC_SHA384wECDSA:
    case CTC_SHA512wECDSA:
    case CTC_ED25519:
    case CTC_ED448:
        return true;
    default:
        return false;
    }
}

bool wolfssl_may_issue(const DecodedCert *cert)
{
    return cert->isCA && cert->version >= 2 && /* counted from 0: RFC 5280 4.1.2.1 */
           (!cert->extKeyUsageSet || cert->extKeyUsage & KEYUSE_KEY_CERT_SIGN);
}

/* RFC 5280 4.2.1.12; who issues is bound by it as well, as OpenSSL has it. */
bool wolfssl_fits_purpose(const DecodedCert *cert, enum sluice_tls_role peer, bool is_leaf)
{
    unsigned use = peer == SLUICE_TLS_SERVER ? EXTKEYUSE_SERVER_AUTH : EXTKEYUSE_CLIENT_AUTH;
    unsigned key = KEYUSE_DIGITAL_SIG | KEYUSE_KEY_AGREE;
    if (peer == SLUICE_TLS_SERVER)
        key |= KEYUSE_KEY_ENCIPHER;
    if (cert->extExtKeyUsageSet && !(cert->extExtKeyUsage & use))
        return false;
    return !is_leaf || !cert->extKeyUsageSet || cert->extKeyUsage & key;
}

/* ---- name constraints: RFC 5280 4.2.1.10 ---- */

static bool is_below(const DNS_entry *name, const Base_entry *base)
{
    size_t bytes = (size_t)base->nameSz, name_bytes = (size_t)name->len;
    if (bytes > name_bytes)
        return false;
    const char *tail = name->name + (name_bytes - bytes);
    if (strncasecmp(tail, base->name, bytes) != 0)
        return false;
    return bytes == 0 || bytes == name_bytes || base->name[0] == '.' || tail[-1] == '.';
}

static bool any_base_holds(const Base_entry *base, const DNS_entry *name)
{
    for (; base; base = base->next)
        if (base->type == ASN_DNS_TYPE && is_below(name, base))
            return true;
    return false;
}

static bool only_dns(const Base_entry *base, bool *any)
{
    for (; base; base = base->next) {
        if (base->type != ASN_DNS_TYPE)
            return false;
        *any = true;
    }
    return true;
}

/* wolfSSL asks only the issuer itself, and forgets constraints on addresses. So: constraints on
 * names of hosts count all the way up; with any other kind nobody gets through. */
int wolfssl_judge_names(const DecodedCert *above, const DecodedCert *leaf)
{
    bool permits = false, excludes = false;
    if (!above->extNameConstraintSet)
        return VERDICT_OK;
    if (!only_dns(above->permittedNames, &permits) || !only_dns(above->excludedNames, &excludes) ||
        !(permits || excludes))
        return VERDICT_NOT_PERMITTED;
    for (const DNS_entry *name = leaf->altNames; name; name = name->next) {
        if (name->type != ASN_DNS_TYPE || (permits && !any_base_holds(above->permittedNames, name)))
            return VERDICT_NOT_PERMITTED;
        if (any_base_holds(above->excludedNames, name))
            return VERDICT_EXCLUDED;
    }
    return VERDICT_OK;
}
