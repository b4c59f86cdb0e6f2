/*
 * Certificates, keys, revocation lists and the key log: the files that a configuration names. Read
 * once, when the context is created; only the key log is written later.
 */
#include "tls/openssl/openssl.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int no_such(struct sluice_tls_error *err, const char *what, const char *path)
{
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s %s: %s", what, path, strerror(errno));
    return -EINVAL;
}

/* OpenSSL's own words for a missing file name its source lines, not the error. */
static bool readable(const char *path)
{
    return access(path, R_OK) == 0;
}

/* ---- whom we trust ---- */

static int load_ca(SSL_CTX *ssl, const char *path, struct sluice_tls_error *err)
{
    struct stat st;
    if (stat(path, &st) || !readable(path))
        return no_such(err, "ca", path);
    bool folder = S_ISDIR(st.st_mode);
    if (!SSL_CTX_load_verify_locations(ssl, folder ? NULL : path, folder ? path : NULL))
        return openssl_config_error(err, "ca", path);
    return 0;
}

static int load_crl(SSL_CTX *ssl, const char *path, struct sluice_tls_error *err)
{
    if (!readable(path))
        return no_such(err, "crl", path);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(SSL_CTX_get_cert_store(ssl), X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) <= 0)
        return openssl_config_error(err, "crl", path);
    return 0;
}

/* A server's request names the authorities that it accepts: RFC 8446 4.2.4. */
static int load_client_ca(SSL_CTX *ssl, const char *path, struct sluice_tls_error *err)
{
    struct stat st;
    if (stat(path, &st) || S_ISDIR(st.st_mode))
        return 0;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (!names)
        return openssl_config_error(err, "ca", path);
    SSL_CTX_set_client_CA_list(ssl, names);
    return 0;
}

int openssl_load_trust(SSL_CTX *ssl, const struct sluice_tls_config *cfg,
                       struct sluice_tls_error *err)
{
    bool server = cfg->role == SLUICE_TLS_SERVER;
    if (server && cfg->client_cert == SLUICE_TLS_CERT_NONE)
        return 0;
    if (server && !cfg->ca) { /* the world's authorities know nothing about our clients */
        sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG,
                             "ca: needed to verify certificates of clients");
        return -EINVAL;
    }
    int rc = cfg->ca ? load_ca(ssl, cfg->ca, err) : 0;
    if (!cfg->ca && !SSL_CTX_set_default_verify_paths(ssl))
        rc = openssl_config_error(err, "ca", "of the system");
    if (!rc && server)
        rc = load_client_ca(ssl, cfg->ca, err);
    if (!rc && cfg->crl)
        rc = load_crl(ssl, cfg->crl, err);
    return rc;
}

/* ---- who we are ---- */

static int no_password(char *out, int bytes, int writing, void *user)
{
    (void)out, (void)bytes, (void)writing, (void)user;
    return -1; /* never ask on the terminal */
}

int openssl_load_identity(SSL_CTX *ssl, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err)
{
    const char *key = cfg->key ? cfg->key : cfg->cert;
    if (!cfg->cert) {
        if (cfg->role == SLUICE_TLS_CLIENT && !cfg->key)
            return 0;
        sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "cert: needed");
        return -EINVAL;
    }
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    if (!readable(cfg->cert))
        return no_such(err, "cert", cfg->cert);
    if (SSL_CTX_use_certificate_chain_file(ssl, cfg->cert) != 1)
        return openssl_config_error(err, "cert", cfg->cert);
    if (!readable(key))
        return no_such(err, "key", key);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1)
        return openssl_config_error(err, "key", key);
    return 0;
}

/* ---- the key log ---- */

int openssl_open_keylog(struct sluice_tls_context *ctx, const char *path,
                        struct sluice_tls_error *err)
{
    if (sluice_system_is_privileged()) {
        sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG,
                             "keylog: not for a program with privileges of another user");
        return -EINVAL;
    }
    ctx->keylog_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (ctx->keylog_fd < 0)
        return no_such(err, "keylog", path);
    return 0;
}
