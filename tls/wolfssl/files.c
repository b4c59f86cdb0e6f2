/*
 * Certificates, keys and revocation lists: the files that a configuration names. Read once, when
 * the context is created.
 */
#include "tls/wolfssl/wolfssl.h"
#include "base/check.h"
#include "base/system.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#define FILE_BYTES_MAX (64u << 20)

/* The system's store, as Debian has it; OpenSSL's variables name another one. */
#define SYSTEM_FILE "/etc/ssl/certs/ca-certificates.crt"

struct kind {
    int type;
    const char *begin, *end, *name;
};

static const struct kind certificates = {CERT_TYPE, "-----BEGIN CERTIFICATE-----",
                                         "-----END CERTIFICATE-----", "certificate"};
static const struct kind lists = {CRL_TYPE, "-----BEGIN X509 CRL-----", "-----END X509 CRL-----",
                                  "revocation list"};

static int no_such(struct sluice_tls_error *err, const char *what, const char *path)
{
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s %s: %s", what, path, strerror(errno));
    return -EINVAL;
}

/* wolfSSL's own words for a missing file do not say so. */
static bool readable(const char *path)
{
    return access(path, R_OK) == 0;
}

/* ---- PEM ---- */

/* The whole file with a 0 behind it; NULL with errno. */
static char *read_file(const char *path)
{
    char *text = NULL;
    struct stat st;
    FILE *file = fopen(path, "re");
    if (file && fstat(fileno(file), &st) == 0) {
        size_t bytes = (size_t)st.st_size;
        errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
        if (S_ISREG(st.st_mode) && bytes < FILE_BYTES_MAX && (text = malloc(bytes + 1)))
            text[fread(text, 1, bytes, file)] = 0;
    }
    if (file)
        fclose(file);
    return text;
}

static bool parses(const struct kind *kind, struct wolfssl_der *der)
{
    DecodedCert cert;
    struct wolfssl_span issuer, at = wolfssl_span_of(der->buffer);
    if (kind->type == CRL_TYPE)
        return wolfssl_der_issuer_of_list(at, &der->name);
    wc_InitDecodedCert(&cert, der->buffer->buffer, der->buffer->length, NULL);
    int rc = wc_ParseCert(&cert, CERT_TYPE, NO_VERIFY, NULL);
    wc_FreeDecodedCert(&cert);
    return rc == 0 && wolfssl_der_names(at, &issuer, &der->name);
}

static int keep(struct wolfssl_ders *to, const struct wolfssl_der *der)
{
    struct wolfssl_der *items = realloc(to->items, (to->count + 1) * sizeof(*items));
    if (!items)
        return -ENOMEM;
    to->items = items;
    items[to->count++] = *der;
    return 0;
}

/* All of that kind; one that wolfSSL cannot read is not kept: it would never match. */
static int add_blocks(struct wolfssl_ders *to, const struct kind *kind, const char *text)
{
    const char *end;
    for (; (text = strstr(text, kind->begin)) && (end = strstr(text, kind->end)); text = end) {
        struct wolfssl_der der = {.buffer = NULL};
        end += strlen(kind->end);
        int rc = wc_PemToDer((const uint8_t *)text, end - text, kind->type, &der.buffer, NULL, NULL,
                             NULL);
        bool good = rc == 0 && parses(kind, &der);
        rc = good ? keep(to, &der) : rc == MEMORY_E ? -ENOMEM : 0;
        if (!good || rc)
            wc_FreeDer(&der.buffer);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_file(struct wolfssl_ders *to, const struct kind *kind, const char *what,
                    const char *path, struct sluice_tls_error *err)
{
    size_t before = to->count;
    char *text = read_file(path);
    if (!text)
        return no_such(err, what, path);
    int rc = add_blocks(to, kind, text);
    free(text);
    wolfSSL_ERR_clear_error();
    if (rc)
        return sluice_tls_no_memory(err);
    if (to->count > before)
        return 0;
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s %s: no %s that can be read in it", what,
                         path, kind->name);
    return -EINVAL;
}

/* ---- whom we trust ---- */

/* c_rehash(1): eight hex digits, a dot, a number. */
static bool is_hashed(const char *name)
{
    for (int i = 0; i < 8; i++)
        if (!isxdigit((unsigned char)name[i]))
            return false;
    return name[8] == '.' && name[9] && name[strspn(name + 9, "0123456789") + 9] == 0;
}

static int add_folder(struct wolfssl_ders *to, const char *path, struct sluice_tls_error *err)
{
    DIR *folder = opendir(path);
    int rc = 0;
    if (!folder)
        return no_such(err, "ca", path);
    for (const struct dirent *entry; rc != -ENOMEM && (entry = readdir(folder));) {
        char file[4096];
        struct sluice_tls_error ignored = {.reason = SLUICE_REASON_NONE}; /* one of many */
        int n = snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (is_hashed(entry->d_name) && n < (int)sizeof(file))
            rc = add_file(to, &certificates, "ca", file, &ignored);
    }
    closedir(folder);
    return rc == -ENOMEM ? sluice_tls_no_memory(err) : 0;
}

static int load_ca(struct wolfssl_ders *to, const char *path, struct sluice_tls_error *err)
{
    struct stat st;
    if (stat(path, &st) || !readable(path))
        return no_such(err, "ca", path);
    return S_ISDIR(st.st_mode) ? add_folder(to, path, err)
                               : add_file(to, &certificates, "ca", path, err);
}

static int load_system_ca(struct wolfssl_ders *to, struct sluice_tls_error *err)
{
    bool trusted = !sluice_system_is_privileged();
    const char *file = trusted ? getenv("SSL_CERT_FILE") : NULL;
    const char *folder = trusted ? getenv("SSL_CERT_DIR") : NULL;
    int rc = folder ? load_ca(to, folder, err) : 0;
    if (!rc && file)
        rc = load_ca(to, file, err);
    if (!folder && !file && readable(SYSTEM_FILE)) /* else there is nobody to trust */
        rc = load_ca(to, SYSTEM_FILE, err);
    return rc;
}

int wolfssl_load_trust(struct wolfssl_trust *t, const struct sluice_tls_config *cfg,
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
    int rc = cfg->ca ? load_ca(&t->anchors, cfg->ca, err) : load_system_ca(&t->anchors, err);
    t->has_lists = cfg->crl != NULL;
    if (!rc && cfg->crl)
        rc = readable(cfg->crl) ? add_file(&t->lists, &lists, "crl", cfg->crl, err)
                                : no_such(err, "crl", cfg->crl);
    return rc;
}

static void forget(struct wolfssl_ders *ders)
{
    for (size_t i = 0; i < ders->count; i++)
        wc_FreeDer(&ders->items[i].buffer);
    free(ders->items);
    *ders = (struct wolfssl_ders){.count = 0};
}

void wolfssl_forget_trust(struct wolfssl_trust *t)
{
    forget(&t->anchors);
    forget(&t->lists);
}

/* ---- who we are ---- */

static int no_password(char *out, int bytes, int writing, void *user)
{
    (void)out, (void)bytes, (void)writing, (void)user;
    return -1; /* never ask on the terminal */
}

/* What we would refuse in others is no use to us either. */
static int judge_own(const char *path, struct sluice_tls_error *err)
{
    struct wolfssl_ders own = {.count = 0};
    DecodedCert cert;
    int rc = add_file(&own, &certificates, "cert", path, err);
    if (rc == 0) {
        SLUICE_CHECK(own.items != NULL);
        wc_InitDecodedCert(&cert, own.items[0].buffer->buffer, own.items[0].buffer->length, NULL);
        if (wc_ParseCert(&cert, CERT_TYPE, NO_VERIFY, NULL) || !wolfssl_key_is_strong(&cert)) {
            sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "cert %s: its key is too small",
                                 path);
            rc = -EINVAL;
        }
        wc_FreeDecodedCert(&cert);
    }
    forget(&own);
    return rc;
}

int wolfssl_load_identity(WOLFSSL_CTX *ssl, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err)
{
    const char *key = cfg->key ? cfg->key : cfg->cert;
    if (!cfg->cert) {
        if (cfg->role == SLUICE_TLS_CLIENT && !cfg->key)
            return 0;
        sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "cert: needed");
        return -EINVAL;
    }
    wolfSSL_CTX_set_default_passwd_cb(ssl, no_password);
    if (!readable(cfg->cert))
        return no_such(err, "cert", cfg->cert);
    int rc = judge_own(cfg->cert, err);
    if (rc)
        return rc;
    if ((rc = wolfSSL_CTX_use_certificate_chain_file(ssl, cfg->cert)) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "cert", cfg->cert, rc);
    if (!readable(key))
        return no_such(err, "key", key);
    if ((rc = wolfSSL_CTX_use_PrivateKey_file(ssl, key, WOLFSSL_FILETYPE_PEM)) != WOLFSSL_SUCCESS ||
        (rc = wolfSSL_CTX_check_private_key(ssl)) != WOLFSSL_SUCCESS)
        return wolfssl_config_error(err, "key", key, rc);
    return 0;
}
