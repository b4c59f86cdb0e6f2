/*
 * A TLS peer on bare OpenSSL, and records made by hand.
 */
#include "tests/tls/raw.h"

#include <criterion/criterion.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_keys(const SSL *ssl, const char *line)
{
    struct raw *r = SSL_get_app_data(ssl);
    const char *hex = strrchr(line, ' ');
    if (strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0 || !hex || strlen(hex + 1) != 64)
        return;
    for (unsigned i = 0; i < 32; i++) {
        const char digits[3] = {hex[1 + 2 * i], hex[2 + 2 * i], 0};
        r->secret[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    r->has_secret = true;
}

static int note_sni(SSL *ssl, int *alert, void *user)
{
    struct raw *r = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert, (void)user;
    strncpy(r->sni, name ? name : "", sizeof(r->sni) - 1);
    return SSL_TLSEXT_ERR_OK;
}

static void open_ssl(struct raw *r)
{
    r->ssl = SSL_new(r->ctx);
    r->in = BIO_new(BIO_s_mem());
    r->out = BIO_new(BIO_s_mem());
    cr_assert(r->ssl && r->in && r->out);
    SSL_set_bio(r->ssl, r->in, r->out);
    SSL_set_app_data(r->ssl, r);
}

static void open_context(struct raw *r, int min_version, int max_version)
{
    *r = (struct raw){.ctx = SSL_CTX_new(TLS_method())};
    SSL_CTX_set_security_level(r->ctx, 0);
    SSL_CTX_set_cipher_list(r->ctx, "ALL:@SECLEVEL=0");
    SSL_CTX_set_min_proto_version(r->ctx, min_version);
    SSL_CTX_set_max_proto_version(r->ctx, max_version);
}

void raw_open(struct raw *r, const char *cert, int min_version, int max_version)
{
    char name[64];
    open_context(r, min_version, max_version);
    SSL_CTX_set_ciphersuites(r->ctx, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_num_tickets(r->ctx, 0);
    SSL_CTX_set_keylog_callback(r->ctx, log_keys);
    SSL_CTX_set_tlsext_servername_callback(r->ctx, note_sni);
    snprintf(name, sizeof(name), "%s.pem", cert);
    cr_assert_eq(SSL_CTX_use_certificate_chain_file(r->ctx, certs(name)), 1, "%s", certs(name));
    snprintf(name, sizeof(name), "%s.key", cert);
    cr_assert_eq(SSL_CTX_use_PrivateKey_file(r->ctx, certs(name), SSL_FILETYPE_PEM), 1);
    open_ssl(r);
    SSL_set_accept_state(r->ssl);
}

void raw_open_client(struct raw *r, int min_version, int max_version)
{
    open_context(r, min_version, max_version);
    open_ssl(r);
    SSL_set_connect_state(r->ssl);
}

void raw_close(struct raw *r)
{
    SSL_free(r->ssl);
    SSL_CTX_free(r->ctx);
    *r = (struct raw){.ctx = NULL};
}

static bool to_end(struct raw *r, struct end *e)
{
    uint8_t some[4096];
    int n, moved = 0;
    for (; (n = BIO_read(r->out, some, sizeof(some))) > 0; moved += n)
        end_arrived(e, some, (size_t)n);
    return moved > 0;
}

static bool to_raw(struct raw *r, struct end *e)
{
    const uint8_t *data;
    size_t bytes = sluice_tls_output(e->s, &data);
    if (bytes)
        cr_assert_eq(BIO_write(r->in, data, (int)bytes), (int)bytes);
    sluice_tls_sent(e->s, bytes);
    return bytes > 0;
}

void raw_move(struct raw *r, struct end *e)
{
    to_end(r, e);
    to_raw(r, e);
}

bool raw_handshake(struct raw *r, struct end *e)
{
    for (bool moved = true; moved;) {
        size_t before = e->head;
        if (e->s->state == SLUICE_TLS_HANDSHAKE)
            end_handshake(e);
        moved = to_raw(r, e) || e->head != before;
        SSL_do_handshake(r->ssl);
        moved |= to_end(r, e);
    }
    return e->s->state == SLUICE_TLS_OPEN && SSL_is_init_finished(r->ssl);
}

/* HKDF-Expand-Label (RFC 8446 7.1) of at most one block, with an empty context. */
static void expand(const uint8_t *secret, const char *label, uint8_t *out, uint8_t bytes)
{
    uint8_t info[64] = {0, bytes, (uint8_t)(6 + strlen(label))}, block[32];
    size_t n = 3;
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, strlen(label));
    n += 6 + strlen(label);
    info[n++] = 0;
    info[n++] = 1;
    cr_assert(HMAC(EVP_sha256(), secret, 32, info, n, block, NULL));
    memcpy(out, block, bytes);
}

void raw_seal(struct raw *r, struct end *client, uint8_t type, const void *data, size_t bytes,
              size_t padding)
{
    static uint8_t plain[20000], record[20100];
    uint8_t key[16], iv[12];
    size_t inner = bytes + 1 + padding, body = inner + 16;
    int n;
    cr_assert(r->has_secret);
    expand(r->secret, "key", key, sizeof(key));
    expand(r->secret, "iv", iv, sizeof(iv));
    for (unsigned i = 0; i < 8; i++) /* RFC 8446 5.3 */
        iv[11 - i] ^= (uint8_t)(r->sealed >> (8 * i));
    r->sealed++;
    memset(plain, 0, inner);
    if (bytes)
        memcpy(plain, data, bytes);
    plain[bytes] = type;
    memcpy(record, (uint8_t[]){23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, 5);
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(gcm, EVP_aes_128_gcm(), NULL, key, iv);
    EVP_EncryptUpdate(gcm, NULL, &n, record, 5);
    EVP_EncryptUpdate(gcm, record + 5, &n, plain, (int)inner);
    EVP_EncryptFinal_ex(gcm, record + 5 + n, &n);
    EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_GET_TAG, 16, record + 5 + inner);
    EVP_CIPHER_CTX_free(gcm);
    end_arrived(client, record, 5 + body);
}
