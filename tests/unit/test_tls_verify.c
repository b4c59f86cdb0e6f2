/*
 * Who is let in: one row per certificate of tests/tls/make_certs.py, pins, revocation lists, names,
 * certificates of clients.
 */
#include "tests/tls/raw.h"
#include "tests/tls/traits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* code: X509_V_ERR_*, X509_V_OK when it is accepted; host NULL: good.example.test. */
struct row {
    const char *cert, *host;
    int code;
    const char *crl, *ca; /* NULL: none; root.crt */
};

/* clang-format off */
static const struct row rows[] = {
    {"good", NULL, X509_V_OK, NULL, NULL},
    {"good", "GOOD.Example.Test", X509_V_OK, NULL, NULL},
    {"good", "good.example.test.", X509_V_OK, NULL, NULL},
    {"good", "example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"good", "a.good.example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"good", "127.0.0.1", X509_V_ERR_IP_ADDRESS_MISMATCH, NULL, NULL},
    {"good", NULL, X509_V_OK, NULL, "inter.crt"},
    {"good", NULL, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, NULL, "other-root.crt"},
    {"rsa", NULL, X509_V_OK, NULL, NULL},
    {"ed25519", NULL, X509_V_OK, NULL, NULL},
    {"no-subject", NULL, X509_V_OK, NULL, NULL},
    {"expired", NULL, X509_V_ERR_CERT_HAS_EXPIRED, NULL, NULL},
    {"not-yet", NULL, X509_V_ERR_CERT_NOT_YET_VALID, NULL, NULL},
    {"unknown-ca", NULL, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, NULL, NULL},
    {"self-signed", NULL, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, NULL, NULL},
    {"self-signed", NULL, X509_V_OK, NULL, "self-signed.crt"},
    {"wrong-name", NULL, X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"cn-only", NULL, X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"wildcard", NULL, X509_V_OK, NULL, NULL},
    {"wildcard", "a.b.example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"wildcard", "example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"wildcard-partial", NULL, X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"wildcard-inner", "good.example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"wildcard-top", "example.test", X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"address", "127.0.0.1", X509_V_OK, NULL, NULL},
    {"address", "::1", X509_V_OK, NULL, NULL},
    {"address", "0:0:0:0:0:0:0:1", X509_V_OK, NULL, NULL},
    {"address", "127.0.0.2", X509_V_ERR_IP_ADDRESS_MISMATCH, NULL, NULL},
    {"address", NULL, X509_V_ERR_HOSTNAME_MISMATCH, NULL, NULL},
    {"address-as-name", "127.0.0.1", X509_V_ERR_IP_ADDRESS_MISMATCH, NULL, NULL},
    {"limited-good", "a.allowed.test", X509_V_OK, NULL, NULL},
    {"limited-bad", NULL, X509_V_ERR_PERMITTED_VIOLATION, NULL, NULL},
    {"limited-deep", NULL, X509_V_ERR_PERMITTED_VIOLATION, NULL, NULL},
    {"limited-excluded", NULL, X509_V_ERR_EXCLUDED_VIOLATION, NULL, NULL},
    {"limited-address", "127.0.0.1", X509_V_ERR_PERMITTED_VIOLATION, NULL, NULL},
    {"under-client", NULL, X509_V_ERR_INVALID_PURPOSE, NULL, NULL},
    {"under-no-sign", NULL, X509_V_ERR_INVALID_CA, NULL, NULL},
    {"under-no-ca", NULL, X509_V_ERR_INVALID_CA, NULL, NULL},
    {"under-short", NULL, X509_V_ERR_PATH_LENGTH_EXCEEDED, NULL, "root-short.crt"},
    {"under-weak", NULL, X509_V_ERR_CA_KEY_TOO_SMALL, NULL, NULL},
    {"any-use", NULL, X509_V_ERR_INVALID_PURPOSE, NULL, NULL},
    {"alone", NULL, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, NULL, NULL},
    {"alone", NULL, X509_V_OK, NULL, "inter.crt"},
    {"client-only", NULL, X509_V_ERR_INVALID_PURPOSE, NULL, NULL},
    {"path-length", NULL, X509_V_ERR_PATH_LENGTH_EXCEEDED, NULL, NULL},
    {"from-leaf", NULL, X509_V_ERR_INVALID_CA, NULL, NULL},
    {"sha1", NULL, X509_V_ERR_CA_MD_TOO_WEAK, NULL, NULL},
    {"under-sha1", NULL, X509_V_ERR_CA_MD_TOO_WEAK, NULL, NULL},
    {"under-expired", NULL, X509_V_ERR_CERT_HAS_EXPIRED, NULL, NULL},
    {"rsa-1024", NULL, X509_V_ERR_EE_KEY_TOO_SMALL, NULL, NULL},
    {"revoked", NULL, X509_V_OK, NULL, NULL},
    {"revoked", NULL, X509_V_ERR_CERT_REVOKED, "crl.pem", NULL},
    {"good", NULL, X509_V_OK, "crl.pem", NULL},
    {"good", NULL, X509_V_ERR_CERT_REVOKED, "crl-inter.pem", NULL},
    {"good", NULL, X509_V_ERR_CRL_HAS_EXPIRED, "crl-expired.pem", NULL},
    {"good", NULL, X509_V_ERR_CRL_HAS_EXPIRED, "crl-inter-expired.pem", NULL},
    {"good", NULL, X509_V_ERR_UNABLE_TO_GET_CRL, "crl-other.pem", NULL},
};
/* clang-format on */

static struct raw raw;
static struct end client;

static void tear_down(void)
{
    end_close(&client);
    raw_close(&raw);
}

TestSuite(tls_verify, .fini = tear_down);

static bool meet(const char *cert, const struct sluice_tls_config *cfg, const char *host)
{
    tear_down();
    raw_open(&raw, cert, TLS1_2_VERSION, TLS1_3_VERSION);
    end_open(&client, cfg, host);
    return raw_handshake(&raw, &client);
}

static void judge(const struct row *row, enum sluice_tls_min min)
{
    struct sluice_tls_config cfg = client_config();
    const struct sluice_tls_error *err;
    cfg.min = min;
    cfg.crl = row->crl ? certs(row->crl) : NULL;
    cfg.ca = row->ca ? certs(row->ca) : cfg.ca;
    if (min == SLUICE_TLS_MIN_1_2)
        cfg.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
    bool open = meet(row->cert, &cfg, row->host ? row->host : PAIR_HOST);
    err = &client.s->error;
    cr_expect_eq(open, row->code == X509_V_OK, "%s for %s: %s", row->cert, row->host, err->text);
    cr_expect_eq(err->verify_code, row->code, "%s for %s: %d %s", row->cert, row->host,
                 err->verify_code, err->text);
    if (row->code == X509_V_OK)
        return;
    cr_expect_eq(err->reason, SLUICE_REASON_TLS_VERIFY, "%s", err->text);
    cr_expect_geq(err->alert, 0, "%s: the peer was not told", row->cert);
    cr_expect(strstr(err->text, X509_verify_cert_error_string(row->code)), "%s", err->text);
    cr_expect(strstr(err->text, "certificate \"CN="), "%s", err->text);
}

Test(tls_verify, rows_30_to_34_every_certificate_with_1_3)
{
    for (size_t i = 0; i < COUNT(rows); i++)
        judge(&rows[i], SLUICE_TLS_MIN_1_3);
}

Test(tls_verify, rows_30_to_34_every_certificate_with_1_2)
{
    for (size_t i = 0; i < COUNT(rows); i++)
        judge(&rows[i], SLUICE_TLS_MIN_1_2);
}

/* The leaf is permitted; the authority between has no name of a host. */
Test(tls_verify, an_authority_below_name_constraints)
{
    struct row row = {"limited-deep-good", "a.allowed.test", X509_V_OK, NULL, NULL};
    if (traits()->wants_names_below_constraints)
        row.code = X509_V_ERR_PERMITTED_VIOLATION;
    judge(&row, SLUICE_TLS_MIN_1_2);
    judge(&row, SLUICE_TLS_MIN_1_3);
}

/* RFC 5280 6.1.4 (l): it does not count for the length of a path, but those below it do. */
Test(tls_verify, an_authority_with_a_new_key)
{
    struct row good = {"under-again", NULL, X509_V_OK, NULL, NULL};
    struct row deep = {"under-again-deep", NULL, X509_V_ERR_PATH_LENGTH_EXCEEDED, NULL, NULL};
    if (traits()->no_self_issued_steps)
        good.code = deep.code = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
    judge(&good, SLUICE_TLS_MIN_1_3);
    judge(&deep, SLUICE_TLS_MIN_1_3);
}

Test(tls_verify, a_folder_counts_when_it_is_hashed)
{
    struct sluice_tls_config cfg = client_config();
    cfg.ca = certs("hashed");
    cr_expect(meet("good", &cfg, PAIR_HOST), "%s", client.s->error.text);
    cfg.ca = certs(""); /* where the root stands as well, by another name */
    cr_expect_not(meet("good", &cfg, PAIR_HOST));
    cr_expect_eq(client.s->error.reason, SLUICE_REASON_TLS_VERIFY);
}

Test(tls_verify, what_one_peer_sent_is_nothing_to_the_next)
{
    struct sluice_tls_config cfg = client_config();
    struct sluice_tls_context *ctx = must_context(&cfg);
    static const char *const servers[] = {"good", "alone", "good"};
    for (size_t i = 0; i < COUNT(servers); i++) {
        tear_down();
        raw_open(&raw, servers[i], TLS1_2_VERSION, TLS1_3_VERSION);
        end_open_with(&client, ctx, PAIR_HOST);
        cr_expect_eq(raw_handshake(&raw, &client), i != 1, "%s: %s", servers[i],
                     client.s->error.text);
    }
    tls_provider()->context_destroy(ctx);
}

Test(tls_verify, system_store_by_default)
{
    struct sluice_tls_config cfg = {.role = SLUICE_TLS_CLIENT};
    cr_expect_not(meet("good", &cfg, PAIR_HOST));
    cr_expect_eq(client.s->error.reason, SLUICE_REASON_TLS_VERIFY);
    setenv("SSL_CERT_FILE", certs("root.crt"), 1); /* where the store is, is the user's to say */
    cr_expect(meet("good", &cfg, PAIR_HOST));
    unsetenv("SSL_CERT_FILE");
}

Test(tls_verify, the_name_wanted_stands_in_the_error)
{
    struct sluice_tls_config cfg = client_config();
    cr_expect_not(meet("wrong-name", &cfg, PAIR_HOST));
    cr_expect(strstr(client.s->error.text, "wanted " PAIR_HOST), "%s", client.s->error.text);
}

Test(tls_verify, verify_name_is_checked_in_place_of_the_host)
{
    struct sluice_tls_config cfg = client_config();
    cfg.verify_name = PAIR_HOST;
    cr_expect(meet("good", &cfg, "10.0.0.1"));
    cfg.verify_name = "other.example.test";
    cr_expect_not(meet("good", &cfg, PAIR_HOST));
    cr_expect_eq(client.s->error.verify_code, X509_V_ERR_HOSTNAME_MISMATCH);
}

Test(tls_verify, names_that_would_match_anything_are_refused)
{
    static const char *const names[] = {"", ".", ".example.test", "..", "."};
    struct sluice_tls_config cfg = client_config();
    for (size_t i = 0; i < COUNT(names); i++) {
        struct sluice_tls_session *s;
        struct sluice_tls_error err;
        uint8_t *ring = client.ring; /* not touched by a session that does not come to be */
        struct sluice_tls_context *ctx = must_context(&cfg);
        cr_expect_eq(tls_provider()->session_create(&s, ctx, names[i], ring, PAIR_RING_BYTES, &err),
                     -EINVAL, "\"%s\"", names[i]);
        cr_expect_eq(err.reason, SLUICE_REASON_TLS_CONFIG);
        cr_expect_null(s);
        tls_provider()->context_destroy(ctx);
    }
}

Test(tls_verify, sni_is_the_name_asked_for)
{
    static const struct {
        const char *host, *verify_name, *sni, *seen;
    } cases[] = {
        {PAIR_HOST, NULL, NULL, PAIR_HOST},
        {"good.example.test.", NULL, NULL, PAIR_HOST},
        {"127.0.0.1", NULL, NULL, ""},
        {"::1", NULL, NULL, ""},
        {"127.0.0.1", PAIR_HOST, NULL, PAIR_HOST},
        {"a.test", PAIR_HOST, NULL, "a.test"},
        {PAIR_HOST, NULL, "b.test", "b.test"},
        {PAIR_HOST, NULL, "", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_tls_config cfg = client_config();
        cfg.no_verify = true;
        cfg.verify_name = cases[i].verify_name;
        cfg.sni = cases[i].sni;
        cr_expect(meet("good", &cfg, cases[i].host));
        cr_expect_str_eq(raw.sni, cases[i].seen, "host %s", cases[i].host);
    }
}

/* ---- pins and not verifying ---- */

static const char *pin_of(const char *cert, bool base64)
{
    static char text[2][65];
    uint8_t digest[32], *spki = NULL;
    char name[64];
    snprintf(name, sizeof(name), "%s.crt", cert);
    BIO *bio = BIO_new_file(certs(name), "r");
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
    EVP_Digest(spki, (size_t)n, digest, NULL, EVP_sha256(), NULL);
    for (unsigned i = 0; i < 32; i++)
        snprintf(text[base64] + 2 * i, 3, "%02x", digest[i]);
    if (base64)
        EVP_EncodeBlock((uint8_t *)text[1], digest, 32);
    OPENSSL_free(spki);
    X509_free(x);
    BIO_free(bio);
    return text[base64];
}

static const char *verified(void)
{
    static struct sluice_tls_info info;
    client.tls->info(client.s, &info);
    return info.verified;
}

Test(tls_verify, a_pin_counts_besides_the_chain)
{
    struct sluice_tls_config cfg = client_config();
    char several[200];
    cfg.pin_sha256 = pin_of("good", false);
    cr_expect(meet("good", &cfg, PAIR_HOST), "%s", client.s->error.text);
    cr_expect_str_eq(verified(), "chain+pin");
    cfg.pin_sha256 = pin_of("good", true);
    cr_expect(meet("good", &cfg, PAIR_HOST));
    cr_expect_not(meet("rsa", &cfg, PAIR_HOST)); /* good, but another key */
    cr_expect_eq(client.s->error.reason, SLUICE_REASON_TLS_VERIFY);
    cr_expect(strstr(client.s->error.text, "pinned"), "%s", client.s->error.text);
    snprintf(several, sizeof(several), "%s,sha256//%s", pin_of("rsa", false),
             pin_of("expired", true));
    cfg.pin_sha256 = several;
    cr_expect(meet("rsa", &cfg, PAIR_HOST));
    cr_expect_not(meet("expired", &cfg, PAIR_HOST)); /* the right key does not make it good */
    cr_expect_eq(client.s->error.verify_code, X509_V_ERR_CERT_HAS_EXPIRED);
}

Test(tls_verify, not_verifying_still_wants_the_pin)
{
    struct sluice_tls_config cfg = client_config();
    cfg.no_verify = true;
    cfg.pin_sha256 = pin_of("self-signed", false);
    cr_expect(meet("self-signed", &cfg, PAIR_HOST));
    cr_expect_str_eq(verified(), "pin");
    cr_expect_not(meet("good", &cfg, PAIR_HOST));
    cr_expect_eq(client.s->error.reason, SLUICE_REASON_TLS_VERIFY);
}

Test(tls_verify, not_verifying_says_what_it_let_through)
{
    struct sluice_tls_config cfg = client_config();
    struct sluice_tls_info info;
    cfg.no_verify = true;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (rows[i].ca || rows[i].crl)
            continue;
        cr_assert(meet(rows[i].cert, &cfg, rows[i].host ? rows[i].host : PAIR_HOST), "%s: %s",
                  rows[i].cert, client.s->error.text);
        client.tls->info(client.s, &info);
        cr_expect_str_eq(info.verified, "none");
        cr_expect_eq(info.doubt[0] == 0, rows[i].code == X509_V_OK, "%s: %s", rows[i].cert,
                     info.doubt);
    }
}

Test(tls_verify, the_peer_is_named)
{
    struct sluice_tls_config cfg = client_config();
    struct sluice_tls_info info;
    cr_assert(meet("good", &cfg, PAIR_HOST));
    client.tls->info(client.s, &info);
    cr_expect_str_eq(info.peer, "CN=good.example.test");
    cr_assert(meet("no-subject", &cfg, PAIR_HOST));
    client.tls->info(client.s, &info);
    cr_expect_str_eq(info.peer, "DNS:good.example.test");
}

/* ---- certificates of clients ---- */

struct client_row {
    enum sluice_tls_client_cert asked;
    const char *cert; /* NULL: none */
    enum sluice_reason server, client;
};

static const struct client_row client_rows[] = {
    {SLUICE_TLS_CERT_NONE, NULL, SLUICE_REASON_NONE, SLUICE_REASON_NONE},
    {SLUICE_TLS_CERT_NONE, "client", SLUICE_REASON_NONE, SLUICE_REASON_NONE},
    {SLUICE_TLS_CERT_ASK, NULL, SLUICE_REASON_NONE, SLUICE_REASON_NONE},
    {SLUICE_TLS_CERT_ASK, "client", SLUICE_REASON_NONE, SLUICE_REASON_NONE},
    {SLUICE_TLS_CERT_ASK, "good", SLUICE_REASON_TLS_VERIFY, SLUICE_REASON_TLS_HANDSHAKE},
    {SLUICE_TLS_CERT_ASK, "unknown-ca", SLUICE_REASON_TLS_VERIFY, SLUICE_REASON_TLS_HANDSHAKE},
    {SLUICE_TLS_CERT_REQUIRE, NULL, SLUICE_REASON_TLS_HANDSHAKE, SLUICE_REASON_TLS_HANDSHAKE},
    {SLUICE_TLS_CERT_REQUIRE, "client", SLUICE_REASON_NONE, SLUICE_REASON_NONE},
    {SLUICE_TLS_CERT_REQUIRE, "expired", SLUICE_REASON_TLS_VERIFY, SLUICE_REASON_TLS_HANDSHAKE},
};

static void judge_client(const struct client_row *row, const char *ciphers)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    struct pair p;
    char path[64], byte;
    s.client_cert = row->asked;
    s.ca = certs("root.crt");
    s.ciphers = ciphers;
    if (row->cert) {
        snprintf(path, sizeof(path), "%s.pem", row->cert);
        c.cert = certs(path);
        snprintf(path, sizeof(path), "%s.key", row->cert);
        c.key = certs(path);
    }
    pair_open(&p, &c, &s);
    bool open = pair_handshake(&p);
    cr_expect_eq(open, row->server == SLUICE_REASON_NONE, "%s", p.server.s->error.text);
    if (open)
        cr_expect(pair_echoes(&p));
    else if (p.client.s->state == SLUICE_TLS_OPEN) /* TLS 1.3 tells it late */
        cr_expect_eq(end_read(&p.client, &byte, 1), -EPROTO);
    cr_expect_eq(p.server.s->error.reason, row->server, "%s", p.server.s->error.text);
    cr_expect_eq(p.client.s->error.reason, row->client, "%s %d %s", row->cert, row->asked,
                 p.client.s->error.text);
    pair_close(&p);
}

Test(tls_verify, certificates_of_clients)
{
    for (size_t i = 0; i < COUNT(client_rows); i++) {
        judge_client(&client_rows[i], NULL);
        judge_client(&client_rows[i], "ECDHE-ECDSA-AES128-GCM-SHA256");
    }
}
