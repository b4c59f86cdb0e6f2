/*
 * Sessions that are resumed: by the client that wants it, with the host that gave the ticket, and a
 * full handshake, verified as ever, where the peer does not know it.
 */
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CIPHER_1_2 "ECDHE-ECDSA-AES128-GCM-SHA256"

static struct pair p;
static struct sluice_tls_context *client, *server;
static const char *servers = "openssl"; /* provider */

static void be(const char *provider)
{
    setenv("TLS_PROVIDER", provider, 1);
}

static void serve_as(const struct sluice_tls_config *cfg)
{
    be(servers);
    tls_provider()->context_destroy(server);
    server = cfg ? must_context(cfg) : NULL;
    be("openssl");
}

static void tear_down(void)
{
    pair_close(&p);
    tls_provider()->context_destroy(client);
    serve_as(NULL);
}

TestSuite(tls_resume, .fini = tear_down);

static void set_up(bool resume, const char *ciphers)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    c.resume = resume;
    c.verify_name = PAIR_HOST;
    c.ciphers = ciphers;
    s.tickets = true;
    pair_close(&p);
    tls_provider()->context_destroy(client);
    client = must_context(&c);
    serve_as(&s);
}

static struct sluice_tls_info info_of(const struct end *e)
{
    struct sluice_tls_info info;
    e->tls->info(e->s, &info);
    return info;
}

static bool shake_hands(const char *host)
{
    pair_close(&p);
    end_open_with(&p.client, client, host);
    be(servers);
    end_open_with(&p.server, server, NULL);
    be("openssl");
    return pair_handshake(&p);
}

/* A whole connection: whether it was resumed, on which both sides agree. */
static bool resumes(const char *host)
{
    cr_assert(shake_hands(host), "%s / %s", p.client.s->error.text, p.server.s->error.text);
    cr_assert(pair_echoes(&p)); /* takes the tickets, too */
    bool resumed = info_of(&p.client).resumed;
    cr_expect_eq(info_of(&p.server).resumed, resumed);
    cr_expect_str_eq(info_of(&p.client).verified, "chain");
    cr_expect(strstr(info_of(&p.client).peer, "good"), "%s", info_of(&p.client).peer);
    p.client.tls->close(p.client.s);
    end_flush(&p.client, &p.server);
    return resumed;
}

static void from_the_second_on(void)
{
    static const char *const ciphers[] = {CIPHER_1_2, "TLS_AES_128_GCM_SHA256"};
    for (int i = 0; i < 2; i++) {
        set_up(true, ciphers[i]);
        cr_assert(shake_hands("a.example"));
        cr_expect_eq(info_of(&p.client).ticket, i == 0, "in 1.3 it comes behind the handshake");
        cr_expect_not(resumes("a.example"));
        cr_expect(info_of(&p.client).ticket);
        for (int k = 0; k < 3; k++)
            cr_expect(resumes("a.example"), "%s, %d", ciphers[i], k);
        cr_expect_str_eq(info_of(&p.client).version, i ? "TLSv1.3" : "TLSv1.2");
    }
}

Test(tls_resume, in_both_versions_with_every_server)
{
    for (size_t i = 0; sluice_tls_providers[i]->session_create; i++) {
        tear_down();
        client = NULL;
        servers = sluice_tls_providers[i]->name;
        from_the_second_on();
    }
}

/* The kernel would throw tickets away. */
Test(tls_resume, keys_stay_here_while_tickets_may_come)
{
    static const char *const ciphers[] = {CIPHER_1_2, "TLS_AES_128_GCM_SHA256"};
    for (int i = 0; i < 4; i++) {
        struct sluice_tls_keys keys;
        set_up(i & 2, ciphers[i & 1]);
        end_open_with(&p.client, client, "a.example");
        end_open_with(&p.server, server, NULL);
        p.client.s->wants_keys = true;
        cr_assert(pair_handshake(&p));
        cr_expect_eq(p.client.tls->keys(p.client.s, SLUICE_TLS_RX, &keys),
                     (i & 2) && (i & 1) ? -ENOTSUP : 0, "%d", i);
    }
}

Test(tls_resume, not_unless_it_is_wanted)
{
    set_up(false, NULL);
    cr_expect_not(resumes("a.example"));
    cr_expect_not(info_of(&p.client).ticket);
    cr_expect_not(resumes("a.example"));
}

Test(tls_resume, a_ticket_is_its_host_s)
{
    set_up(true, NULL);
    cr_expect_not(resumes("a.example"));
    cr_expect_not(resumes("b.example"));
    cr_expect(resumes("b.example"));
    cr_expect_not(resumes("a.example"), "the newest only is kept");
}

/* Tickets are encrypted under keys of the context that gave them. */
Test(tls_resume, a_peer_that_forgot_it_shakes_hands_anew)
{
    struct sluice_tls_config s = server_config();
    s.tickets = true;
    set_up(true, NULL);
    cr_expect_not(resumes("a.example"));
    serve_as(&s);
    cr_expect_not(resumes("a.example"));
    cr_expect(resumes("a.example"));
}

Test(tls_resume, a_peer_that_does_not_know_it_is_verified)
{
    struct sluice_tls_config s = server_config();
    set_up(true, NULL);
    cr_expect_not(resumes("a.example"));
    s.cert = certs("expired.pem");
    s.key = certs("expired.key");
    serve_as(&s);
    cr_expect_not(shake_hands("a.example"));
    cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_VERIFY);
}
