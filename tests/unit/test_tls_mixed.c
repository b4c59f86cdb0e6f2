/*
 * One provider of this build with another: what both think of TLS, each with itself could agree on
 * anything.
 */
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BYTES        100000u

static struct pair p;
static uint8_t sent[BYTES], got[BYTES];

static const char *const ciphers[] = {NULL,
                                      "TLS_AES_128_GCM_SHA256",
                                      "TLS_AES_256_GCM_SHA384",
                                      "TLS_CHACHA20_POLY1305_SHA256",
                                      "ECDHE-ECDSA-AES128-GCM-SHA256",
                                      "ECDHE-ECDSA-AES256-GCM-SHA384",
                                      "ECDHE-ECDSA-CHACHA20-POLY1305"};

static void tear_down(void)
{
    pair_close(&p);
}

TestSuite(tls_mixed, .fini = tear_down);

/* Ours is the client, and then the server. */
static void meet(const struct sluice_tls_provider *other, bool as_client, const char *cipher)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    const struct sluice_tls_provider *ours = tls_provider();
    c.ciphers = s.ciphers = cipher;
    c.alpn = s.alpn = "http/1.1";
    c.cert = certs("client.pem");
    c.key = certs("client.key");
    s.client_cert = SLUICE_TLS_CERT_REQUIRE;
    s.ca = certs("root.crt");
    s.tickets = true;
    pair_close(&p);
    setenv("TLS_PROVIDER", as_client ? ours->name : other->name, 1);
    end_open(&p.client, &c, PAIR_HOST);
    setenv("TLS_PROVIDER", as_client ? other->name : ours->name, 1);
    end_open(&p.server, &s, NULL);
    setenv("TLS_PROVIDER", ours->name, 1);
    cr_assert(pair_handshake(&p), "%s, %s: %s / %s", other->name, cipher, p.client.s->error.text,
              p.server.s->error.text);
}

static void pass(struct end *from, struct end *to, size_t bytes)
{
    memset(got, 0, bytes);
    end_write(from, to, sent, bytes);
    cr_assert_eq(end_read(to, got, bytes), (ssize_t)bytes, "%s", to->s->error.text);
    cr_assert_eq(memcmp(sent, got, bytes), 0);
}

static void live_and_end(void)
{
    struct sluice_tls_info of_client, of_server;
    p.client.tls->info(p.client.s, &of_client);
    p.server.tls->info(p.server.s, &of_server);
    cr_expect_str_eq(of_client.cipher, of_server.cipher);
    cr_expect_str_eq(of_client.version, of_server.version);
    cr_expect_str_eq(of_client.alpn, "http/1.1");
    cr_expect_str_eq(of_server.peer, "CN=client");
    for (int i = 0; i < 20; i++) {
        struct end *from = i & 1 ? &p.client : &p.server, *to = i & 1 ? &p.server : &p.client;
        int rc = from->tls->rekey(from->s, i & 2);
        cr_expect(rc == 0 || strcmp(of_client.version, "TLSv1.2") == 0);
        pass(from, to, 1 + (size_t)i * 1000);
        pass(to, from, BYTES);
    }
    cr_assert_eq(p.client.tls->close(p.client.s), 0);
    end_flush(&p.client, &p.server);
    cr_expect_eq(end_read(&p.server, got, 1), 0);
    pass(&p.server, &p.client, 1000);
    cr_assert_eq(p.server.tls->close(p.server.s), 0);
    end_flush(&p.server, &p.client);
    cr_expect_eq(end_read(&p.client, got, 1), 0);
}

Test(tls_mixed, each_with_each_other)
{
    fill(sent, sizeof(sent), 5);
    for (size_t i = 0; sluice_tls_providers[i]->session_create; i++) {
        for (size_t k = 0; k < COUNT(ciphers); k++) {
            meet(sluice_tls_providers[i], true, ciphers[k]);
            live_and_end();
            meet(sluice_tls_providers[i], false, ciphers[k]);
            live_and_end();
        }
    }
}
