/*
 * The few elements of DER that wolfSSL does not hand out: what it parsed before is walked again.
 */
#include "tls/wolfssl/wolfssl.h"

#define TAG_INTEGER  0x02u
#define TAG_SEQUENCE 0x30u
#define TAG_VERSION  0xa0u /* [0] EXPLICIT: RFC 5280 4.1 */

/* X.690 8.1.3: lengths of up to three bytes, which is more than any certificate has. */
static bool take_length(struct wolfssl_span *in, size_t *length)
{
    if (in->bytes == 0)
        return false;
    size_t extra = *in->data & 0x80 ? *in->data & 0x7fu : 0;
    *length = extra ? 0 : *in->data;
    if (extra > 3 || (*in->data == 0x80) || in->bytes < 1 + extra)
        return false;
    for (size_t i = 1; i <= extra; i++)
        *length = *length << 8 | in->data[i];
    in->data += 1 + extra;
    in->bytes -= 1 + extra;
    return *length <= in->bytes;
}

static bool next(struct wolfssl_span *in, uint8_t *tag, struct wolfssl_span *content)
{
    if (in->bytes < 2)
        return false;
    *tag = *in->data++;
    in->bytes--;
    if (!take_length(in, &content->bytes))
        return false;
    content->data = in->data;
    in->data += content->bytes;
    in->bytes -= content->bytes;
    return true;
}

static bool enter(struct wolfssl_span *at)
{
    uint8_t tag;
    struct wolfssl_span inside;
    if (!next(at, &tag, &inside) || tag != TAG_SEQUENCE)
        return false;
    *at = inside;
    return true;
}

static bool skip(struct wolfssl_span *at, unsigned count)
{
    uint8_t tag;
    struct wolfssl_span any;
    for (unsigned i = 0; i < count; i++)
        if (!next(at, &tag, &any))
            return false;
    return true;
}

/* One element with its tag and length. */
static bool whole(struct wolfssl_span at, struct wolfssl_span *element)
{
    element->data = at.data;
    if (!skip(&at, 1))
        return false;
    element->bytes = (size_t)(at.data - element->data);
    return true;
}

bool wolfssl_der_issuer_of_list(struct wolfssl_span list, struct wolfssl_span *name)
{
    if (!enter(&list) || !enter(&list)) /* CertificateList, TBSCertList: RFC 5280 5.1 */
        return false;
    if (list.bytes && *list.data == TAG_INTEGER && !skip(&list, 1)) /* version */
        return false;
    return skip(&list, 1) && whole(list, name);
}

/* Certificate, TBSCertificate, version: RFC 5280 4.1. What follows: serialNumber, signature,
 * issuer, validity, subject, subjectPublicKeyInfo. */
static bool enter_certificate(struct wolfssl_span *at)
{
    return enter(at) && enter(at) && at->bytes && (*at->data != TAG_VERSION || skip(at, 1));
}

bool wolfssl_der_names(struct wolfssl_span cert, struct wolfssl_span *issuer,
                       struct wolfssl_span *subject)
{
    return enter_certificate(&cert) && skip(&cert, 2) && whole(cert, issuer) && skip(&cert, 2) &&
           whole(cert, subject);
}

bool wolfssl_der_public_key_info(const DecodedCert *cert, struct wolfssl_span *info)
{
    struct wolfssl_span at = {cert->source, cert->maxIdx};
    return enter_certificate(&at) && skip(&at, 5) && whole(at, info);
}

size_t wolfssl_der_rsa_bits(const DecodedCert *cert)
{
    uint8_t tag;
    struct wolfssl_span info, bits_of_key, key;
    if (cert->keyOID != RSAk || !wolfssl_der_public_key_info(cert, &info) || !enter(&info) ||
        !skip(&info, 1) || !next(&info, &tag, &bits_of_key) || bits_of_key.bytes < 2)
        return 0;
    bits_of_key.data++; /* the count of unused bits */
    bits_of_key.bytes--;
    if (!enter(&bits_of_key) || !next(&bits_of_key, &tag, &key) || tag != TAG_INTEGER)
        return 0;
    while (key.bytes && *key.data == 0) {
        key.data++;
        key.bytes--;
    }
    size_t bits = key.bytes * 8;
    for (unsigned high = key.bytes ? *key.data : 0x80; high && !(high & 0x80); high <<= 1)
        bits--;
    return bits;
}
