/*
 * What is wanted of TLS. Public (installs as sluice/tls_config.h). No behaviour here: tls.h.
 */
#ifndef SLUICE_TLS_CONFIG_H
#define SLUICE_TLS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum sluice_tls_role { SLUICE_TLS_CLIENT, SLUICE_TLS_SERVER };

enum sluice_tls_min { SLUICE_TLS_MIN_1_2, SLUICE_TLS_MIN_1_3 };

enum sluice_tls_client_cert { SLUICE_TLS_CERT_NONE, SLUICE_TLS_CERT_ASK, SLUICE_TLS_CERT_REQUIRE };

/** Who encrypts: the kernel in both directions, or this process. AUTO: the kernel where it can. */
enum sluice_ktls { SLUICE_KTLS_AUTO, SLUICE_KTLS_REQUIRE, SLUICE_KTLS_OFF };

/**
 * What is wanted. Zeroes are safe: verified against the system's CA store, TLS 1.2 or later. Texts
 * are borrowed for context_create(); NULL: not given.
 */
struct sluice_tls_config {
    enum sluice_tls_role role;
    enum sluice_tls_min min;
    const char *ca;      /* PEM file or hashed directory, instead of the system's store */
    const char *crl;     /* PEM file: the leaf must be covered, the rest is checked where it is */
    const char *cert;    /* PEM chain, leaf first; a server needs it */
    const char *key;     /* PEM, not encrypted */
    const char *ciphers; /* by name, ':' between; nothing else is offered; TLS_* are of 1.3 */
    const char *alpn;    /* by preference, ',' between */
    bool alpn_required;  /* the peer must choose one of them */
    const char *keylog;  /* file to append secrets to: only where the user asked for that */

    /* client */
    const char *verify_name; /* name or IP address in the certificate; NULL: the session's host */
    const char *sni;         /* NULL: the host, or else verify_name, whichever is a name; "": none
                                is sent */
    const char *pin_sha256;  /* of the leaf's public key, hex or base64, ',' between: one must
                                match, besides the rest */
    bool no_verify;          /* neither chain nor name; a pin still counts */
    bool resume;             /* keep the newest ticket, and offer it to the same host: the peer is
                                not verified again then. Not with wolfSSL; with TLS 1.3 in user
                                space */

    /* server */
    enum sluice_tls_client_cert client_cert; /* verified against ca */
    bool tickets;
};

#ifdef __cplusplus
}
#endif
#endif
