/*
 * The OpenSSL provider's own structures. Only API that LibreSSL has as well, except in keys.c.
 */
#ifndef SLUICE_TLS_OPENSSL_H
#define SLUICE_TLS_OPENSSL_H

#include "tls/provider.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

/* The newest ticket, and who gave it. */
struct openssl_ticket {
    SSL_SESSION *session; /* NULL: none came yet */
    char host[TLS_NAME_BYTES];
};

struct sluice_tls_context {
    atomic_uint references; /* its creator's and one per session */
    SSL_CTX *ssl;
    enum sluice_tls_role role;
    bool alpn_required;
    int keylog_fd; /* -1: none */
    struct sluice_tls_target target;
    struct sluice_tls_alpn alpn;
    bool resume;
    struct openssl_ticket ticket;
};

struct openssl_secret {
    uint8_t bytes[EVP_MAX_MD_SIZE];
    size_t count;
};

/* What keys.c needs to know of the handshake; only when somebody will ask for the keys. */
struct openssl_keys {
    struct openssl_secret secrets[2]; /* TLS 1.3, by enum sluice_tls_direction */
    uint8_t head[13];                 /* of the record that leaves: header, explicit nonce */
    uint8_t nonce[8];                 /* of the last record of the handshake */
    unsigned at;                      /* in that record */
    uint64_t records, records_before; /* that left; before something was last read */
    bool given;                       /* handed out: whoever has them ends the session */
};

struct openssl_session {
    struct sluice_tls_session base;
    struct sluice_tls_context *ctx;
    SSL *ssl;
    struct sluice_tls_input *in; /* during a call */
    bool took, starved;          /* in this call: some of the window, and wanted more than it had */
    uint32_t idle_calls;         /* that did neither, in a row */
    int alert_in, alert_out;     /* the last fatal ones, -1: none */
    char host[TLS_NAME_BYTES];   /* resume: whose tickets are taken and offered; "": nobody's */
    char verify_name[TLS_NAME_BYTES];
    char alpn[TLS_ALPN_BYTES];
    char doubt[128]; /* what verification would have said */
    struct openssl_keys keys;
};

static inline struct openssl_session *openssl_session_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* ---- context.c ---- */
int openssl_context_create(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err);
void openssl_context_destroy(struct sluice_tls_context *ctx);

/* ---- files.c: certificates, keys and lists of them; 0 or -EINVAL ---- */
int openssl_load_trust(SSL_CTX *ssl, const struct sluice_tls_config *cfg,
                       struct sluice_tls_error *err);
int openssl_load_identity(SSL_CTX *ssl, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err);
int openssl_open_keylog(struct sluice_tls_context *ctx, const char *path,
                        struct sluice_tls_error *err);

/* ---- verify.c ---- */
void openssl_verify_setup(struct sluice_tls_context *ctx, const struct sluice_tls_config *cfg);
/* Whom this session must meet, and the name it asks for. */
int openssl_verify_target(struct openssl_session *o, const char *host,
                          struct sluice_tls_error *err);
/* Subject, or else the first name, escaped to printable ASCII. */
void openssl_subject(X509 *cert, char *out, size_t out_bytes);

/* ---- ticket.c: sessions that are resumed; for clients whose configuration says so ---- */
void openssl_ticket_offer(struct openssl_session *o, const char *host); /* the one there is */
void openssl_ticket_keep(struct openssl_session *o); /* the one that may have come just now */
bool openssl_ticket_waits(const struct openssl_session *o); /* for the next session of its host */

/* ---- bio.c ---- */
BIO *openssl_bio_create(struct openssl_session *o); /* NULL: out of memory */

/* ---- error.c ---- */

/* Configuration: "what: path: OpenSSL's words". Clears the error queue. Returns -EINVAL. */
int openssl_config_error(struct sluice_tls_error *err, const char *what, const char *value);

/* A session's last call failed: reason and text from alerts and the error queue. -EPROTO. */
int openssl_fail(struct openssl_session *o);
void openssl_info_callback(const SSL *ssl, int where, int value);

/* ---- keys.c ---- */
void openssl_on_secret(const SSL *ssl, const char *line); /* as a key log has it */
void openssl_watch_output(struct openssl_keys *k, const uint8_t *data, size_t bytes);
int openssl_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                 struct sluice_tls_keys *out);
int openssl_next_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                      struct sluice_tls_keys *out);
int openssl_rekey(struct sluice_tls_session *s, bool ask);

#endif
