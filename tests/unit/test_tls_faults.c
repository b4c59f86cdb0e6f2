/*
 * What must not come out: every byte of a handshake and of a record flipped, every cut. Nothing of
 * a record that is not whole and genuine is handed out.
 */
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define RECORD_BYTES 100u

static struct pair p;
static uint8_t sent[2 * RECORD_BYTES], got[65536];

static void tear_down(void)
{
    pair_close(&p);
}

TestSuite(tls_faults, .fini = tear_down, .timeout = 300);

static const char *const ciphers[] = {"TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256",
                                      "ECDHE-ECDSA-CHACHA20-POLY1305"};

static struct sluice_tls_context *contexts[3][2];

static void fresh(unsigned suite)
{
    if (!contexts[suite][0]) {
        struct sluice_tls_config c = client_config(), s = server_config();
        c.ciphers = s.ciphers = ciphers[suite];
        contexts[suite][0] = must_context(&c);
        contexts[suite][1] = must_context(&s);
    }
    pair_close(&p);
    end_open_with(&p.client, contexts[suite][0], PAIR_HOST);
    end_open_with(&p.server, contexts[suite][1], NULL);
}

static void forget(unsigned suite)
{
    tls_provider()->context_destroy(contexts[suite][0]);
    tls_provider()->context_destroy(contexts[suite][1]);
    contexts[suite][0] = contexts[suite][1] = NULL;
}

/* One direction of a handshake, with one of its bytes changed or everything from it on cut off. */
struct fault {
    struct end *to; /* who gets it */
    size_t at;
    uint8_t flip; /* 0: cut */
    size_t passed;
    bool done;
};

static void deliver(struct end *from, struct end *to, struct fault *f)
{
    size_t before = to->head == to->tail ? 0 : to->tail;
    size_t bytes = end_flush(from, to);
    if (f->to != to || bytes == 0)
        return;
    if (f->at >= f->passed && f->at < f->passed + bytes && !f->done) {
        if (f->flip)
            to->wire[before + f->at - f->passed] ^= f->flip;
        else
            to->tail = before + f->at - f->passed;
        f->done = true;
    } else if (f->done && !f->flip) {
        to->tail = before;
    }
    f->passed += bytes;
}

static bool is_open(const struct end *e)
{
    return e->s->state == SLUICE_TLS_OPEN;
}

static bool handshake_with(struct fault *f)
{
    for (int i = 0; i < 10 && !(is_open(&p.client) && is_open(&p.server)); i++) {
        if (p.client.s->state == SLUICE_TLS_HANDSHAKE)
            end_handshake(&p.client);
        deliver(&p.client, &p.server, f);
        if (p.server.s->state == SLUICE_TLS_HANDSHAKE)
            end_handshake(&p.server);
        deliver(&p.server, &p.client, f);
    }
    return is_open(&p.client) && is_open(&p.server);
}

/* How many bytes this side gets in a handshake without faults. */
static size_t flight(unsigned suite, bool to_client)
{
    struct fault none = {.at = SIZE_MAX, .flip = 1};
    fresh(suite);
    none.to = to_client ? &p.client : &p.server;
    cr_assert(handshake_with(&none));
    return none.passed;
}

/* Flips that nobody notices (the version in the header of an early record, the record of a
 * middlebox-compatible CCS) must change nothing; all others end the handshake. */
static void flip_handshake(unsigned suite, bool to_client)
{
    size_t bytes = flight(suite, to_client), unnoticed = 0;
    for (size_t at = 0; at < bytes; at++) {
        fresh(suite);
        struct fault f = {
            .to = to_client ? &p.client : &p.server, .at = at, .flip = (uint8_t)(1u << at % 8)};
        if (handshake_with(&f)) {
            unnoticed += f.done; /* signatures differ in length: this one may have been shorter */
            cr_expect(pair_echoes(&p), "%s, byte %zu", ciphers[suite], at);
            continue;
        }
        struct end *end = f.to;
        if (end->s->state == SLUICE_TLS_HANDSHAKE) /* it waits for more of a longer record */
            cr_expect_eq(sluice_tls_eof(end->s), -EPROTO);
        if (end->s->state == SLUICE_TLS_OPEN)
            cr_expect_lt(end_read(end, got, sizeof(got)), 0, "%s, byte %zu", ciphers[suite], at);
        else
            cr_expect_neq(end->s->error.reason, SLUICE_REASON_NONE);
    }
    cr_expect_leq(unnoticed, 12u, "%zu of %zu bytes", unnoticed, bytes);
    forget(suite);
}

Test(tls_faults, row_47_handshake_1_3_to_the_client_flipped_at_every_byte)
{
    flip_handshake(0, true);
}

Test(tls_faults, row_47_handshake_1_3_to_the_server_flipped_at_every_byte)
{
    flip_handshake(0, false);
}

Test(tls_faults, row_47_handshake_1_2_to_the_client_flipped_at_every_byte)
{
    flip_handshake(1, true);
}

Test(tls_faults, row_47_handshake_1_2_to_the_server_flipped_at_every_byte)
{
    flip_handshake(1, false);
}

Test(tls_faults, rows_9_10_handshake_cut_at_every_byte)
{
    for (unsigned suite = 0; suite < 2; suite++) {
        size_t bytes = flight(suite, true);
        for (size_t at = 0; at < bytes; at++) {
            fresh(suite);
            struct fault f = {.to = &p.client, .at = at};
            bool open = handshake_with(&f);
            if (!f.done) /* signatures differ in length: this one was shorter */
                continue;
            cr_expect_not(open, "%s, byte %zu of %zu", ciphers[suite], at, bytes);
            cr_expect_eq(p.client.s->state, SLUICE_TLS_HANDSHAKE);
            cr_expect_eq(sluice_tls_eof(p.client.s), -EPROTO);
            cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_TRUNCATED);
        }
        forget(suite);
    }
}

/* ---- records ---- */

/* An open pair, and two records on the way to the client: where the second begins. */
static size_t two_records(unsigned suite)
{
    fresh(suite);
    cr_assert(pair_handshake(&p));
    fill(sent, sizeof(sent), 7);
    memset(got, 0, sizeof(got));
    cr_expect_eq(end_read(&p.client, got, 1), -EAGAIN);
    end_write(&p.server, &p.client, sent, RECORD_BYTES);
    size_t second = p.client.tail;
    end_write(&p.server, &p.client, sent + RECORD_BYTES, RECORD_BYTES);
    return second;
}

static void expect_first_only(const char *what, size_t at)
{
    ssize_t n = end_read(&p.client, got, sizeof(got));
    cr_expect_eq(n, RECORD_BYTES, "%s at %zu: %zd", what, at, n);
    cr_expect_eq(memcmp(got, sent, RECORD_BYTES), 0);
    for (size_t i = RECORD_BYTES; i < sizeof(sent); i++)
        cr_assert_eq(got[i], 0, "%s at %zu: byte %zu of it was written", what, at, i);
}

static void flip_record(unsigned suite)
{
    size_t bytes = 1;
    for (size_t at = 0; at < bytes; at++) {
        size_t second = two_records(suite);
        bytes = p.client.tail - second;
        p.client.wire[second + at] ^= (uint8_t)(1u << at % 8);
        expect_first_only("flipped", at);
        ssize_t n = end_read(&p.client, got, sizeof(got));
        if (n == -EAGAIN) /* its length was made longer */
            n = sluice_tls_eof(p.client.s);
        cr_expect_eq(n, -EPROTO);
        cr_expect(p.client.s->error.reason == SLUICE_REASON_TLS_PROTOCOL ||
                      (at < 5 && p.client.s->error.reason == SLUICE_REASON_TLS_TRUNCATED),
                  "byte %zu: %s", at, p.client.s->error.text);
        if (at >= 5)
            cr_expect_eq(p.client.s->error.alert, 20, "%s", p.client.s->error.text);
        cr_expect(at < 5 || end_flush(&p.client, &p.server) > 0, "the peer was not told");
    }
    cr_expect_gt(bytes, RECORD_BYTES);
    forget(suite);
}

Test(tls_faults, row_47_record_1_3_flipped_at_every_byte)
{
    flip_record(0);
}

Test(tls_faults, row_47_record_1_2_flipped_at_every_byte)
{
    flip_record(1);
}

Test(tls_faults, row_47_record_1_2_chacha_flipped_at_every_byte)
{
    flip_record(2);
}

Test(tls_faults, rows_8_9_record_cut_at_every_byte)
{
    for (unsigned suite = 0; suite < 3; suite++) {
        size_t bytes = 1;
        for (size_t at = 0; at < bytes; at++) {
            size_t second = two_records(suite);
            bytes = p.client.tail - second;
            p.client.tail = second + at;
            expect_first_only("cut", at);
            cr_expect_eq(end_read(&p.client, got, 1), -EAGAIN);
            cr_expect_eq(sluice_tls_eof(p.client.s), -EPROTO);
            cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_TRUNCATED);
        }
        cr_expect_gt(bytes, RECORD_BYTES);
        forget(suite);
    }
}

static void expect_refused(const void *bytes, size_t count, const char *what)
{
    size_t second = two_records(0);
    p.client.tail = second;
    end_arrived(&p.client, bytes, count);
    expect_first_only(what, 0);
    cr_expect_eq(end_read(&p.client, got, sizeof(got)), -EPROTO, "%s", what);
    cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_PROTOCOL, "%s", what);
    forget(0);
}

Test(tls_faults, row_46_plaintext_in_the_stream_is_refused)
{
    static const uint8_t close_notify[] = {21, 3, 3, 0, 2, 1, 0}, fatal[] = {21, 3, 3, 0, 2, 2, 80},
                         data[] = {23, 3, 3, 0, 5, 'h', 'e', 'l', 'l', 'o'},
                         ccs[] = {20, 3, 3, 0, 1, 1};
    expect_refused(close_notify, sizeof(close_notify), "close_notify");
    expect_refused(fatal, sizeof(fatal), "alert");
    expect_refused(data, sizeof(data), "data");
    expect_refused(ccs, sizeof(ccs), "CCS");
    expect_refused("HTTP/1.1 400 Bad Request\r\n", 26, "HTTP");
}

Test(tls_faults, row_48_a_record_beyond_the_maximum_is_refused_at_its_header)
{
    static const uint8_t header[] = {23, 3, 3, 0x41, 0x01}; /* 16641: RFC 8446 5.2 allows 16640 */
    expect_refused(header, sizeof(header), "long record");
    two_records(0);
    forget(0);
}

Test(tls_faults, records_swapped_or_repeated_are_refused)
{
    size_t first, second = two_records(0);
    uint8_t copy[512];
    first = p.client.head;
    size_t bytes = second - first;
    cr_assert_eq(p.client.tail - second, bytes);
    memcpy(copy, p.client.wire + first, bytes);
    memcpy(p.client.wire + second, copy, bytes); /* the first one again */
    expect_first_only("repeated", 0);
    cr_expect_eq(end_read(&p.client, got, sizeof(got)), -EPROTO);
    second = two_records(0);
    memmove(p.client.wire + p.client.head, p.client.wire + second, bytes);
    memset(got, 0, sizeof(got));
    cr_expect_eq(end_read(&p.client, got, sizeof(got)), -EPROTO);
    cr_expect_eq(got[0], 0);
    forget(0);
}

Test(tls_faults, a_port_that_speaks_something_else)
{
    static const char *const texts[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9\r\n",
                                        "\x16\x03\x01", "\x15\x03\x01\x02\x02\x28"};
    for (size_t i = 0; i < 2; i++) {
        fresh(0);
        end_handshake(&p.client);
        end_arrived(&p.client, texts[i], strlen(texts[i]));
        cr_expect_eq(end_handshake(&p.client), -EPROTO);
        cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_HANDSHAKE);
        cr_expect(strstr(p.client.s->error.text, "wrong version number"), "%s",
                  p.client.s->error.text);
    }
    forget(0);
}
