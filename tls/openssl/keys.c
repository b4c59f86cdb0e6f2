/*
 * Secrets and what is made of them: the key log, keys for the kernel, KeyUpdate. The one file with
 * API that LibreSSL lacks: there, keys cannot be had.
 */
#include "tls/openssl/openssl.h"
#include "base/check.h"
#include "base/system.h"

#include <errno.h>
#include <openssl/err.h>
#ifndef LIBRESSL_VERSION_NUMBER
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#endif
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#define HEADER_BYTES   5u
#define HANDSHAKE_TYPE 22
#define MASTER_MAX     64u
#define RANDOM_BYTES   32u
#define KEY_BLOCK_MAX  (2u * (32u + 12u))
#define GCM_SALT_BYTES 4u

/* ---- what OpenSSL tells ---- */

static void log_keys(int fd, const char *line)
{
    struct iovec parts[2] = {{.iov_base = (void *)(uintptr_t)line, .iov_len = strlen(line)},
                             {.iov_base = (char[]){'\n'}, .iov_len = 1}};
    /* One call: lines of several processes do not mix. Nobody can be told of a failure. */
    ssize_t n = writev(fd, parts, 2);
    (void)n;
}

/* "LABEL random secret", the last two in hex. */
static void keep_secret(struct openssl_secret *secret, const char *line)
{
    const char *hex = strrchr(line, ' ') + 1;
    size_t bytes = strlen(hex) / 2;
    if (bytes > sizeof(secret->bytes))
        return;
    for (size_t i = 0; i < bytes; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        secret->bytes[i] = (uint8_t)byte;
    }
    secret->count = bytes;
}

void openssl_on_secret(const SSL *ssl, const char *line)
{
    struct openssl_session *o = openssl_session_of(ssl);
    bool is_server = o->ctx->role == SLUICE_TLS_SERVER;
    if (o->ctx->keylog_fd >= 0)
        log_keys(o->ctx->keylog_fd, line);
    if (!o->base.wants_keys)
        return;
    if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
        keep_secret(&o->keys.secrets[is_server ? SLUICE_TLS_RX : SLUICE_TLS_TX], line);
    else if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0)
        keep_secret(&o->keys.secrets[is_server ? SLUICE_TLS_TX : SLUICE_TLS_RX], line);
}

/* Records that leave in the handshake: how many, and the explicit nonce of the last Finished, for
 * OpenSSL starts it at random and no number may come twice. */
void openssl_watch_output(struct openssl_keys *k, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (k->at < sizeof(k->head))
            k->head[k->at] = data[i];
        k->at++;
        if (k->at < HEADER_BYTES || k->at < HEADER_BYTES + ((unsigned)k->head[3] << 8 | k->head[4]))
            continue;
        if (k->head[0] == HANDSHAKE_TYPE)
            memcpy(k->nonce, k->head + HEADER_BYTES, sizeof(k->nonce));
        k->records++;
        k->at = 0;
    }
}

#ifdef LIBRESSL_VERSION_NUMBER

int openssl_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                 struct sluice_tls_keys *out)
{
    (void)s, (void)d, (void)out;
    return -ENOTSUP;
}

int openssl_next_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                      struct sluice_tls_keys *out)
{
    return openssl_keys(s, d, out);
}

int openssl_rekey(struct sluice_tls_session *s, bool ask)
{
    (void)s, (void)ask;
    return -ENOTSUP;
}

#else

/* ---- derivation ---- */

static int derive(const char *kdf_name, const OSSL_PARAM *params, uint8_t *out, size_t bytes)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    bool done = ctx && EVP_KDF_derive(ctx, out, bytes, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    ERR_clear_error();
    return done ? 0 : -ENOTSUP;
}

static OSSL_PARAM digest_param(const SSL *ssl)
{
    const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
    return OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                            (char *)(uintptr_t)EVP_MD_get0_name(md), 0);
}

static OSSL_PARAM bytes_param(const char *name, const void *bytes, size_t count)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes, count);
}

/* RFC 8446 7.1: HKDF-Expand-Label without a context. */
static int expand_label(const SSL *ssl, const struct openssl_secret *secret, const char *label,
                        uint8_t *out, size_t bytes)
{
    uint8_t info[32];
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    int count = snprintf((char *)info, sizeof(info), "%c%c%ctls13 %s", 0, (int)bytes,
                         (int)(6 + strlen(label)), label);
    info[count] = 0; /* no context: its length */
    const OSSL_PARAM params[] = {
        digest_param(ssl), OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        bytes_param(OSSL_KDF_PARAM_KEY, secret->bytes, secret->count),
        bytes_param(OSSL_KDF_PARAM_INFO, info, (size_t)count + 1), OSSL_PARAM_construct_end()};
    return derive(OSSL_KDF_NAME_HKDF, params, out, bytes);
}

static int keys_of_1_3(struct openssl_session *o, enum sluice_tls_direction d,
                       struct sluice_tls_keys *out)
{
    const struct openssl_secret *secret = &o->keys.secrets[d];
    if (secret->count == 0)
        return -ENOTSUP;
    int err = expand_label(o->ssl, secret, "key", out->key, out->key_bytes);
    return err ? err : expand_label(o->ssl, secret, "iv", out->iv, sizeof(out->iv));
}

/* RFC 5246 6.3: keys of client and server, then what of their nonces does not change. */
static int keys_of_1_2(struct openssl_session *o, enum sluice_tls_direction d,
                       struct sluice_tls_keys *out)
{
    static const char label[] = "key expansion";
    uint8_t block[KEY_BLOCK_MAX], master[MASTER_MAX], seed[sizeof(label) - 1 + 2ull * RANDOM_BYTES];
    uint8_t *random = seed + sizeof(label) - 1;
    bool is_client = (d == SLUICE_TLS_TX) == (o->ctx->role == SLUICE_TLS_CLIENT);
    size_t iv_bytes = out->aead == SLUICE_TLS_CHACHA20_POLY1305 ? sizeof(out->iv) : GCM_SALT_BYTES;
    size_t count = SSL_SESSION_get_master_key(SSL_get_session(o->ssl), master, sizeof(master));
    memcpy(seed, label, sizeof(label) - 1);
    SSL_get_server_random(o->ssl, random, RANDOM_BYTES);
    SSL_get_client_random(o->ssl, random + RANDOM_BYTES, RANDOM_BYTES);
    const OSSL_PARAM params[] = {
        digest_param(o->ssl), bytes_param(OSSL_KDF_PARAM_SECRET, master, count),
        bytes_param(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)), OSSL_PARAM_construct_end()};
    int err = derive(OSSL_KDF_NAME_TLS1_PRF, params, block, 2 * (out->key_bytes + iv_bytes));
    if (!err) {
        memcpy(out->key, block + (is_client ? 0 : out->key_bytes), out->key_bytes);
        memcpy(out->iv, block + 2 * (size_t)out->key_bytes + (is_client ? 0 : iv_bytes), iv_bytes);
    }
    sluice_system_wipe(block, sizeof(block));
    sluice_system_wipe(master, sizeof(master));
    return err;
}

static int choose_aead(const SSL *ssl, struct sluice_tls_keys *out)
{
    switch (SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(ssl))) {
    case NID_aes_128_gcm:
        out->aead = SLUICE_TLS_AES_128_GCM;
        out->key_bytes = 16;
        return 0;
    case NID_aes_256_gcm:
        out->aead = SLUICE_TLS_AES_256_GCM;
        out->key_bytes = 32;
        return 0;
    case NID_chacha20_poly1305:
        out->aead = SLUICE_TLS_CHACHA20_POLY1305;
        out->key_bytes = 32;
        return 0;
    default:
        return -ENOTSUP;
    }
}

static void add_one(uint8_t *number, size_t bytes)
{
    while (bytes > 0 && ++number[bytes - 1] == 0)
        bytes--;
}

/* Finished was number 0 in TLS 1.2. In 1.3 all begins anew behind it; a server's tickets are what
 * what it wrote since it last read something. */
static uint64_t next_record(const struct openssl_session *o, enum sluice_tls_direction d)
{
    if (o->base.version != SLUICE_TLS_1_3)
        return 1;
    return d == SLUICE_TLS_TX && o->ctx->role == SLUICE_TLS_SERVER
               ? o->keys.records - o->keys.records_before
               : 0;
}

int openssl_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                 struct sluice_tls_keys *out)
{
    struct openssl_session *o = (struct openssl_session *)s;
    SLUICE_CHECK(s->state == SLUICE_TLS_OPEN);
    *out = (struct sluice_tls_keys){.version = s->version, .sequence = next_record(o, d)};
    if (o->ctx->resume && s->version == SLUICE_TLS_1_3)
        return -ENOTSUP; /* tickets come behind the handshake, and are OpenSSL's to read */
    int err = choose_aead(o->ssl, out);
    if (!err)
        err = s->version == SLUICE_TLS_1_3 ? keys_of_1_3(o, d, out) : keys_of_1_2(o, d, out);
    o->keys.given = err == 0;
    if (d == SLUICE_TLS_TX) {
        memcpy(out->nonce, o->keys.nonce, sizeof(out->nonce));
        add_one(out->nonce, sizeof(out->nonce));
    }
    return err;
}

/* RFC 8446 7.2 */
int openssl_next_keys(struct sluice_tls_session *s, enum sluice_tls_direction d,
                      struct sluice_tls_keys *out)
{
    struct openssl_session *o = (struct openssl_session *)s;
    struct openssl_secret *secret = &o->keys.secrets[d], next = {.count = secret->count};
    if (s->version != SLUICE_TLS_1_3 || secret->count == 0)
        return -ENOTSUP;
    int err = expand_label(o->ssl, secret, "traffic upd", next.bytes, next.count);
    if (!err) {
        *secret = next;
        *out = (struct sluice_tls_keys){.version = s->version};
        choose_aead(o->ssl, out);
        err = keys_of_1_3(o, d, out);
    }
    sluice_system_wipe(&next, sizeof(next));
    return err;
}

int openssl_rekey(struct sluice_tls_session *s, bool ask)
{
    struct openssl_session *o = (struct openssl_session *)s;
    if (SSL_key_update(o->ssl, ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED)) {
        s->records_out = 0;
        return 0;
    }
    ERR_clear_error();
    return -ENOTSUP;
}

#endif
