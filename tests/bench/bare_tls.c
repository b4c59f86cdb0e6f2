/*
 * TLS without sluice: see bare_tls.h.
 */
#include "bare_tls.h"
#include "tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DAY_S      86400
#define ECHO_BYTES (64u << 10)

struct sluice_tls_config bare_tls_config = {.ciphers = BARE_TLS_CIPHER};

static SSL_CTX *client, *server;
static char folder[] = "/tmp/sluice-bench-XXXXXX";
static char ca_path[64], cert_path[64], key_path[64];
static _Atomic uint64_t calls;

/* ---- OpenSSL's heap ---- */

static void *counted_malloc(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return malloc(bytes);
}

static void *counted_realloc(void *old, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return realloc(old, bytes);
}

static void counted_free(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    free(memory);
}

uint64_t bare_tls_heap_calls(void)
{
    return atomic_load_explicit(&calls, memory_order_relaxed);
}

/* ---- certificates ---- */

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    BENCH_CHECK(ext && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
}

static X509 *make_certificate(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *signer)
{
    static long serial;
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(cert), DAY_S);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));
    X509_set_pubkey(cert, key);
    if (issuer) {
        add_extension(cert, issuer, NID_basic_constraints, "critical,CA:FALSE");
        add_extension(cert, issuer, NID_subject_alt_name, "IP:127.0.0.1");
    } else {
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign");
    }
    BENCH_CHECK(X509_sign(cert, signer, EVP_sha256()) > 0);
    return cert;
}

static FILE *create(char *path, size_t bytes, const char *name)
{
    snprintf(path, bytes, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    BENCH_CHECK(file != NULL);
    return file;
}

static void write_certificate(char *path, size_t bytes, const char *name, X509 *cert)
{
    FILE *file = create(path, bytes, name);
    BENCH_CHECK(PEM_write_X509(file, cert) && fclose(file) == 0);
}

static void remove_files(void)
{
    unlink(ca_path);
    unlink(cert_path);
    unlink(key_path);
    rmdir(folder);
}

static void make_certificates(void)
{
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    BENCH_CHECK(ca_key && key);
    X509 *ca = make_certificate(ca_key, "bench CA", NULL, ca_key);
    X509 *cert = make_certificate(key, "bench", ca, ca_key);
    BENCH_CHECK(mkdtemp(folder) != NULL);
    atexit(remove_files);
    write_certificate(ca_path, sizeof(ca_path), "ca.pem", ca);
    write_certificate(cert_path, sizeof(cert_path), "cert.pem", cert);
    FILE *file = create(key_path, sizeof(key_path), "key.pem");
    BENCH_CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) && fclose(file) == 0);
    X509_free(ca);
    X509_free(cert);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
}

static SSL_CTX *make_context(const SSL_METHOD *method, int verify)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    BENCH_CHECK(ctx != NULL);
    BENCH_CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION));
    BENCH_CHECK(SSL_CTX_set_ciphersuites(ctx, BARE_TLS_CIPHER));
    BENCH_CHECK(SSL_CTX_load_verify_file(ctx, ca_path));
    BENCH_CHECK(SSL_CTX_use_certificate_chain_file(ctx, cert_path) == 1);
    BENCH_CHECK(SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ctx, verify, NULL);
    return ctx;
}

void bare_tls_begin(void)
{
    BENCH_CHECK(CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free));
    make_certificates();
    client = make_context(TLS_client_method(), SSL_VERIFY_PEER);
    server = make_context(TLS_server_method(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    bare_tls_config.ca = ca_path;
    bare_tls_config.cert = cert_path;
    bare_tls_config.key = key_path;
}

/* ---- client ---- */

SSL *bare_tls_connect(uint16_t port)
{
    SSL *ssl = SSL_new(client);
    BENCH_CHECK(ssl && SSL_set_fd(ssl, tcp_connect(port)));
    BENCH_CHECK(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), "127.0.0.1"));
    BENCH_CHECK(SSL_connect(ssl) == 1);
    return ssl;
}

void bare_tls_close(SSL *ssl)
{
    int fd = SSL_get_rfd(ssl);
    char byte;
    if (SSL_shutdown(ssl) == 0)
        while (SSL_read(ssl, &byte, 1) > 0) { /* to the peer's own end */
        }
    SSL_free(ssl);
    close(fd);
}

/* ---- peers ---- */

SSL *bare_tls_accept(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    tcp_set_nodelay(fd);
    SSL *ssl = SSL_new(server);
    BENCH_CHECK(ssl && SSL_set_fd(ssl, fd));
    BENCH_CHECK(SSL_accept(ssl) == 1);
    return ssl;
}

void bare_tls_end(SSL *ssl)
{
    int fd = SSL_get_rfd(ssl);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

void *bare_tls_greet(void *arg)
{
    char byte;
    for (SSL *ssl; (ssl = bare_tls_accept(*(int *)arg)) != NULL; bare_tls_end(ssl))
        while (SSL_read(ssl, &byte, 1) > 0) {
        }
    return NULL;
}

static void echo(SSL *ssl)
{
    static char bytes[ECHO_BYTES];
    BENCH_CHECK(fcntl(SSL_get_fd(ssl), F_SETFL, O_NONBLOCK) == 0);
    for (;;) {
        int n = SSL_read(ssl, bytes, sizeof(bytes));
        for (int at = 0, took; at<n; at += took> 0 ? took : 0) {
            took = SSL_write(ssl, bytes + at, n - at);
            BENCH_CHECK(took > 0 || SSL_get_error(ssl, took) == SSL_ERROR_WANT_WRITE);
        }
        if (n <= 0 && SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ)
            return;
    }
}

void *bare_tls_echo(void *arg)
{
    for (SSL *ssl; (ssl = bare_tls_accept(*(int *)arg)) != NULL; bare_tls_end(ssl))
        echo(ssl);
    return NULL;
}

/* What the session writes from now on is kept, in memory that every connection uses again. */
static BUF_MEM *keep_output(SSL *ssl, uint64_t bytes)
{
    static BUF_MEM *kept;
    BIO *bio = BIO_new(BIO_s_mem());
    if (!kept)
        kept = BUF_MEM_new();
    BENCH_CHECK(bio && kept && BUF_MEM_grow(kept, bytes + bytes / 64));
    kept->length = 0;
    BIO_set_mem_buf(bio, kept, BIO_NOCLOSE);
    SSL_set0_wbio(ssl, bio);
    return kept;
}

void *bare_tls_blast(void *arg)
{
    const struct bare_tls_blast *b = arg;
    static char plain[BARE_TLS_RECORD_BYTES];
    for (SSL *ssl; (ssl = bare_tls_accept(b->listener)) != NULL; bare_tls_end(ssl)) {
        BUF_MEM *kept = keep_output(ssl, b->bytes);
        for (uint64_t done = 0; done < b->bytes; done += sizeof(plain))
            BENCH_CHECK(SSL_write(ssl, plain, sizeof(plain)) == sizeof(plain));
        tcp_send_all(SSL_get_rfd(ssl), kept->data, kept->length);
        BENCH_CHECK(SSL_set_wfd(ssl, SSL_get_rfd(ssl)));
        while (SSL_read(ssl, plain, sizeof(plain)) > 0) {
        }
    }
    return NULL;
}
