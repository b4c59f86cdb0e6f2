/*
 * The wolfSSL provider's own structures. Written for Debian's libwolfssl 5.5.4, with the options
 * that it was built with.
 */
#ifndef SLUICE_TLS_WOLFSSL_H
#define SLUICE_TLS_WOLFSSL_H

#include <wolfssl/options.h> /* before any other header of theirs */

#include "tls/provider.h"

#include <stdatomic.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn.h>

#define PATH_STEPS_MAX      10u /* certificates from the leaf up, the anchor not counted */
#define RECORD_HEADER_BYTES 5u  /* of a record: RFC 8446 5.1 */

struct wolfssl_span {
    const uint8_t *data;
    size_t bytes;
};

/* Certificates or revocation lists of a file, decoded from PEM. */
struct wolfssl_ders {
    struct wolfssl_der {
        DerBuffer *buffer;
        struct wolfssl_span name; /* of a certificate its subject, of a list its issuer */
    } * items;
    size_t count;
};

/* Whom a context trusts. wolfSSL's own store would grow by what peers send: it stays empty, and
 * chain.c makes one for each peer. */
struct wolfssl_trust {
    struct wolfssl_ders anchors, lists;
    bool has_lists;
};

struct sluice_tls_context {
    atomic_uint references; /* its creator's and one per session */
    WOLFSSL_CTX *ssl;
    enum sluice_tls_role role;
    bool alpn_required;
    struct sluice_tls_target target;
    struct sluice_tls_alpn alpn;
    struct wolfssl_trust trust;
};

struct wolfssl_session {
    struct sluice_tls_session base;
    struct sluice_tls_context *ctx;
    WOLFSSL *ssl;
    struct sluice_tls_input *in; /* during a call */
    bool one_record;             /* this call is to see the end of one at most */
    bool whole;                  /* and has seen it */
    uint8_t header[RECORD_HEADER_BYTES];
    size_t header_bytes, body_bytes; /* had of the header, missing of the body */
    const char *bad_record;          /* what is wrong with a header; NULL: nothing */
    bool rekey, is_1_3;              /* rekey: due before the next write */
    bool has_peer;                   /* one whose certificate verify.c let pass */
    const char *version, *cipher;
    char verify_name[TLS_NAME_BYTES];
    char alpn[TLS_ALPN_BYTES];
    char peer[128], doubt[128];
};

/* Why a peer is refused: OpenSSL's number (X509_V_ERR_*) and where; 0: it is not. */
struct wolfssl_verdict {
    int code;
    int depth;
    char subject[96];
};

enum { /* as OpenSSL's x509_vfy.h numbers them, so that both providers say the same */
       VERDICT_OK = 0,
       VERDICT_UNSPECIFIED = 1,
       VERDICT_NO_LIST = 3,
       VERDICT_BAD_SIGNATURE = 7,
       VERDICT_NOT_YET_VALID = 9,
       VERDICT_EXPIRED = 10,
       VERDICT_LIST_EXPIRED = 12,
       VERDICT_NO_MEMORY = 17,
       VERDICT_SELF_SIGNED = 18,
       VERDICT_NO_ISSUER = 20,
       VERDICT_CHAIN_TOO_LONG = 22,
       VERDICT_REVOKED = 23,
       VERDICT_PATH_LENGTH = 25,
       VERDICT_PURPOSE = 26,
       VERDICT_UNHANDLED_EXTENSION = 34,
       VERDICT_NOT_PERMITTED = 47,
       VERDICT_EXCLUDED = 48,
       VERDICT_PINNED = 50,
       VERDICT_HOST = 62,
       VERDICT_ADDRESS = 64,
       VERDICT_SMALL_KEY = 66,
       VERDICT_SMALL_CA_KEY = 67,
       VERDICT_WEAK_DIGEST = 68,
       VERDICT_INVALID_CA = 79,
};

/* ---- context.c ---- */
int wolfssl_context_create(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err);
void wolfssl_context_destroy(struct sluice_tls_context *ctx);

/* ---- cipher.c ---- */

/* Versions and suites that a configuration leaves: 0 or -EINVAL. */
struct wolfssl_suites {
    char list[512]; /* as wolfSSL names them */
    bool has_1_2, has_1_3;
};
int wolfssl_parse_ciphers(struct wolfssl_suites *out, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err);
const char *wolfssl_cipher_name(WOLFSSL *ssl); /* as OpenSSL names it */

/* ---- files.c: 0 or -EINVAL, -ENOMEM ---- */
int wolfssl_load_trust(struct wolfssl_trust *t, const struct sluice_tls_config *cfg,
                       struct sluice_tls_error *err);
void wolfssl_forget_trust(struct wolfssl_trust *t);
int wolfssl_load_identity(WOLFSSL_CTX *ssl, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err);

/* ---- der.c; false, 0: it is not what it should be ---- */
bool wolfssl_der_names(struct wolfssl_span cert, struct wolfssl_span *issuer,
                       struct wolfssl_span *subject);
bool wolfssl_der_issuer_of_list(struct wolfssl_span list, struct wolfssl_span *name);
bool wolfssl_der_public_key_info(const DecodedCert *cert, struct wolfssl_span *info);
size_t wolfssl_der_rsa_bits(const DecodedCert *cert);

static inline struct wolfssl_span wolfssl_span_of(const DerBuffer *der)
{
    return (struct wolfssl_span){der->buffer, der->length};
}

/* ---- rules.c: what is asked of each certificate besides wolfSSL's own checks ---- */
bool wolfssl_key_is_strong(const DecodedCert *cert);
bool wolfssl_digest_is_strong(const DecodedCert *cert);
bool wolfssl_may_issue(const DecodedCert *cert);
bool wolfssl_fits_purpose(const DecodedCert *cert, enum sluice_tls_role peer, bool is_leaf);
int wolfssl_judge_names(const DecodedCert *above, const DecodedCert *leaf); /* VERDICT_* */

/* ---- name.c ---- */
bool wolfssl_has_name(const DecodedCert *cert, const char *name); /* or address */
void wolfssl_subject(const DecodedCert *cert, char *out, size_t out_bytes);

/* ---- chain.c ---- */

/* certs: as the peer sent them, leaf first. */
struct wolfssl_verdict wolfssl_judge_chain(const struct wolfssl_trust *t, enum sluice_tls_role peer,
                                           const WOLFSSL_BUFFER_INFO *certs, size_t count);

/* ---- verify.c: the callback that wolfSSL asks ---- */
int wolfssl_verify(int ok, WOLFSSL_X509_STORE_CTX *store);

/* ---- io.c: callbacks that see memory only ---- */
int wolfssl_receive(WOLFSSL *ssl, char *to, int bytes, void *user);
int wolfssl_send(WOLFSSL *ssl, char *data, int bytes, void *user);

/* ---- error.c ---- */

/* Configuration: "what value: wolfSSL's words". Returns -EINVAL. */
int wolfssl_config_error(struct sluice_tls_error *err, const char *what, const char *value,
                         int code);
/* A session's last call failed with this error of wolfSSL's. Returns -EPROTO. */
int wolfssl_fail(struct wolfssl_session *w, int code);
/* An alert of the peer's that ends the session, or -1. */
int wolfssl_alert_in(struct wolfssl_session *w);

#endif
