/*
 * What a peer may say besides data: KeyUpdate, tickets, alerts, requests, records without content;
 * and what it may not.
 */
#include "tests/tls/raw.h"
#include "tests/tls/traits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };

static struct raw raw;
static struct end e; /* ours, the client unless the test says otherwise */
static struct pair p;
static uint8_t sent[65536], got[65536];

static void tear_down(void)
{
    end_close(&e);
    raw_close(&raw);
    pair_close(&p);
}

TestSuite(tls_control, .fini = tear_down);

static void meet(int version)
{
    struct sluice_tls_config cfg = client_config();
    tear_down();
    fill(sent, sizeof(sent), 3);
    raw_open(&raw, "good", version, version);
    end_open(&e, &cfg, PAIR_HOST);
    cr_assert(raw_handshake(&raw, &e), "%s", e.s->error.text);
}

static void expect_data(const char *text)
{
    size_t bytes = strlen(text);
    cr_expect_eq(end_read(&e, got, bytes), (ssize_t)bytes, "%s", e.s->error.text);
    cr_expect_eq(memcmp(got, text, bytes), 0);
}

static void expect_failed(enum sluice_reason reason, int alert)
{
    cr_expect_eq(end_read(&e, got, sizeof(got)), -EPROTO);
    cr_expect_eq(e.s->state, SLUICE_TLS_FAILED);
    cr_expect_eq(e.s->error.reason, reason, "%s", e.s->error.text);
    cr_expect_eq(e.s->error.alert, alert, "%d %s", e.s->error.alert, e.s->error.text);
    cr_expect_eq(end_read(&e, got, sizeof(got)), -EPROTO);
}

/* ---- KeyUpdate ---- */

Test(tls_control, rows_40_41_key_updates_of_both_kinds_in_both_directions)
{
    pair_open_default(&p);
    for (int i = 0; i < 200; i++) {
        struct end *from = i & 1 ? &p.client : &p.server, *to = i & 1 ? &p.server : &p.client;
        bool ask = i & 2;
        uint64_t before = to->s->control_records, answers = from->s->control_records;
        cr_assert_eq(from->tls->rekey(from->s, ask), 0);
        end_write(from, to, "abc", 3);
        cr_assert_eq(end_read(to, got, 3), 3, "%s", to->s->error.text);
        cr_expect_eq(to->s->control_records, before + 1);
        cr_assert(pair_echoes(&p));
        bool asked = ask || traits()->rekey_always_asks;
        cr_expect_eq(from->s->control_records, answers + asked); /* at the latest with data */
    }
}

Test(tls_control, keys_are_renewed_before_their_limit)
{
    pair_open_default(&p);
    p.client.s->records_out = sluice_tls_records_per_key - 3; /* RFC 8446 5.5 */
    for (int i = 0; i < 10; i++) {
        cr_assert(pair_echoes(&p));
        cr_expect_eq(p.server.s->control_records, i >= 2, "%d", i);
    }
}

Test(tls_control, rekey_needs_1_3)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    c.ciphers = s.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    pair_open(&p, &c, &s);
    cr_assert(pair_handshake(&p));
    cr_expect_eq(p.client.tls->rekey(p.client.s, true), -ENOTSUP);
    cr_expect(pair_echoes(&p));
}

static void update_keys(int n)
{
    for (int i = 0; i < n; i++) {
        cr_assert(SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED));
        cr_assert_eq(SSL_do_handshake(raw.ssl), 1);
    }
    raw_move(&raw, &e);
}

Test(tls_control, row_42_a_storm_of_key_updates_ends_the_connection)
{
    meet(TLS1_3_VERSION);
    update_keys(SLUICE_TLS_CONTROL_RUN_MAX);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
    cr_expect_eq(e.s->control_run, SLUICE_TLS_CONTROL_RUN_MAX);
    update_keys(1);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, -1);
    cr_expect(strstr(e.s->error.text, "flood"), "%s", e.s->error.text);
}

Test(tls_control, the_caller_makes_it_a_rate)
{
    meet(TLS1_3_VERSION);
    for (int i = 0; i < 10; i++) {
        update_keys(SLUICE_TLS_CONTROL_RUN_MAX);
        cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
        raw_move(&raw, &e);
        e.s->control_run = 0;
    }
    SSL_write(raw.ssl, "still here", 10);
    raw_move(&raw, &e);
    expect_data("still here");
}

Test(tls_control, no_room_for_an_answer_is_back_pressure)
{
    meet(TLS1_3_VERSION);
    while (e.tls->write(e.s, sent, 16384) > 0)
        ;
    while (e.tls->write(e.s, sent, 1) > 0)
        ;
    update_keys(60);
    SSL_write(raw.ssl, "behind", 6);
    raw_move(&raw, &e);
    raw_move(&raw, &e);
    expect_data("behind");
    cr_expect_eq(e.s->state, SLUICE_TLS_OPEN);
    tear_down();

    meet(TLS1_3_VERSION); /* the same, but nothing is drained */
    while (e.tls->write(e.s, sent, 16384) > 0)
        ;
    while (e.tls->write(e.s, sent, 1) > 0)
        ;
    for (int i = 0; i < 60; i++) {
        SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED);
        SSL_do_handshake(raw.ssl);
    }
    uint8_t some[8192];
    int n = BIO_read(raw.out, some, sizeof(some));
    end_arrived(&e, some, (size_t)n);
    cr_expect_eq(end_read(&e, got, 1), -ENOBUFS);
    cr_expect_lt(e.head, e.tail);
    cr_expect_geq(PAIR_RING_BYTES - (e.s->out_tail - e.s->out_head), 400u, "room for an alert");
    raw_move(&raw, &e);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
    cr_expect_eq(e.head, e.tail);
}

/* ---- records by hand ---- */

Test(tls_control, row_48_records_without_content_are_skipped_and_bounded)
{
    meet(TLS1_3_VERSION);
    for (int i = 0; i < 20; i++)
        raw_seal(&raw, &e, DATA, NULL, 0, 0);
    raw_seal(&raw, &e, DATA, "data", 4, 0);
    expect_data("data");
    for (int i = 0; i < 200; i++)
        raw_seal(&raw, &e, DATA, NULL, 0, 0);
    raw_seal(&raw, &e, DATA, "never", 5, 0);
    size_t all = e.tail;
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, traits()->unexpected_alert);
    cr_expect_lt(e.head, all / 2, "%zu of %zu bytes were looked at", e.head, all);
}

Test(tls_control, padded_records_lose_and_gain_nothing)
{
    static const size_t paddings[] = {0, 1, 255, 4000, 16000};
    meet(TLS1_3_VERSION);
    for (size_t i = 0; i < COUNT(paddings); i++) {
        raw_seal(&raw, &e, DATA, "padded", 6, paddings[i]);
        expect_data("padded");
    }
    raw_seal(&raw, &e, DATA, "end\0\0\0", 6, 3); /* zeroes of its own */
    cr_expect_eq(end_read(&e, got, 6), 6);
    cr_expect_eq(memcmp(got, "end\0\0\0", 6), 0);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
}

Test(tls_control, row_49_largest_records_back_to_back_and_small_ones)
{
    meet(TLS1_3_VERSION);
    for (int i = 0; i < 3; i++)
        raw_seal(&raw, &e, DATA, sent, 16384, 0);
    cr_assert_eq(end_read(&e, got, 3 * 16384), 3 * 16384);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(memcmp(got + i * 16384, sent, 16384), 0);
    for (unsigned i = 0; i < 5000; i++)
        raw_seal(&raw, &e, DATA, sent + i, 1, 0);
    cr_assert_eq(end_read(&e, got, 5000), 5000);
    cr_expect_eq(memcmp(got, sent, 5000), 0);
}

Test(tls_control, row_48_a_record_of_too_much_is_refused)
{
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, DATA, sent, 16385, 0);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, 22); /* record_overflow */
}

Test(tls_control, row_48_a_record_of_zeroes_is_refused)
{
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, 0, NULL, 0, 20);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, traits()->unexpected_alert);
}

Test(tls_control, row_45_alerts_stand_in_the_error_with_number_and_name)
{
    static const struct {
        uint8_t level, alert;
        enum sluice_reason reason;
        const char *name;
    } cases[] = {
        {2, 80, SLUICE_REASON_TLS_ALERT, "internal_error"},
        {2, 20, SLUICE_REASON_TLS_ALERT, "bad_record_mac"},
        {1, 80, SLUICE_REASON_TLS_ALERT, "internal_error"}, /* RFC 8446 6: the level is ignored */
        {2, 99, SLUICE_REASON_TLS_ALERT, "unknown"},
        {2, 116, SLUICE_REASON_TLS_HANDSHAKE, "certificate_required"},
        {2, 45, SLUICE_REASON_TLS_HANDSHAKE, "certificate_expired"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const uint8_t alert[] = {cases[i].level, cases[i].alert};
        char number[16];
        meet(TLS1_3_VERSION);
        raw_seal(&raw, &e, DATA, "last", 4, 0);
        raw_seal(&raw, &e, ALERT, alert, 2, 0);
        expect_data("last");
        expect_failed(cases[i].reason, cases[i].alert);
        snprintf(number, sizeof(number), "alert %d ", cases[i].alert);
        cr_expect(strstr(e.s->error.text, number), "%s", e.s->error.text);
        cr_expect(strstr(e.s->error.text, cases[i].name), "%s", e.s->error.text);
    }
}

Test(tls_control, row_11_user_canceled_and_then_close_notify_is_clean)
{
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, ALERT, "\1\132", 2, 0);
    raw_seal(&raw, &e, ALERT, "\1\0", 2, 0);
    raw_seal(&raw, &e, DATA, "beyond", 6, 0);
    cr_expect_eq(end_read(&e, got, 1), 0);
    cr_expect_eq(sluice_tls_eof(e.s), 0);
    cr_expect_eq(e.s->error.reason, SLUICE_REASON_NONE);
}

Test(tls_control, row_45_malformed_alerts_are_refused)
{
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, ALERT, "\2", 1, 0);
    cr_expect_eq(end_read(&e, got, 1), -EPROTO);
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, ALERT, NULL, 0, 0);
    cr_expect_eq(end_read(&e, got, 1), -EPROTO);
}

Test(tls_control, row_44_a_request_for_a_certificate_after_the_handshake_is_refused)
{
    static const uint8_t request[] = {13, 0, 0, 14, 1, 'x', 0, 10, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4};
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, HANDSHAKE, request, sizeof(request), 0);
    raw_seal(&raw, &e, DATA, "never", 5, 0);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, traits()->unexpected_alert);
    const uint8_t *answer;
    cr_expect_leq(sluice_tls_output(e.s, &answer), 24u, "no more than an alert");
}

Test(tls_control, row_44_a_request_for_a_certificate_after_our_end_is_refused)
{
    static const uint8_t request[] = {13, 0, 0, 14, 1, 'x', 0, 10, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4};
    meet(TLS1_3_VERSION);
    cr_assert_eq(e.tls->close(e.s), 0);
    raw_seal(&raw, &e, HANDSHAKE, request, sizeof(request), 0);
    raw_seal(&raw, &e, DATA, "never", 5, 0);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL,
                  -1); /* nothing follows close_notify, no alert either */
}

Test(tls_control, a_second_handshake_message_is_refused)
{
    static const uint8_t types[] = {0, 1, 2, 5, 8, 11, 15, 20, 21, 99};
    for (size_t i = 0; i < COUNT(types); i++) {
        uint8_t message[4 + 32] = {types[i], 0, 0, 32};
        meet(TLS1_3_VERSION);
        raw_seal(&raw, &e, HANDSHAKE, message, sizeof(message), 0);
        raw_seal(&raw, &e, DATA, "never", 5, 0);
        cr_expect_eq(end_read(&e, got, sizeof(got)), -EPROTO, "type %u", types[i]);
        cr_expect_eq(e.s->error.reason, SLUICE_REASON_TLS_PROTOCOL, "%s", e.s->error.text);
    }
}

Test(tls_control, row_39_tickets_are_ignored_whenever_they_come)
{
    uint8_t ticket[128] = {4, 0, 0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64};
    meet(TLS1_3_VERSION);
    for (int i = 0; i < 5; i++) {
        raw_seal(&raw, &e, HANDSHAKE, ticket, 81, 0);
        raw_seal(&raw, &e, DATA, "x", 1, 0);
        expect_data("x");
    }
    cr_expect_eq(e.s->control_records, 5u);
    for (unsigned i = 0; i <= SLUICE_TLS_CONTROL_RUN_MAX; i++)
        raw_seal(&raw, &e, HANDSHAKE, ticket, 81, 0);
    expect_failed(SLUICE_REASON_TLS_PROTOCOL, -1);
}

Test(tls_control, inside_a_control_message_writing_waits)
{
    uint8_t ticket[128] = {4, 0, 0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64};
    meet(TLS1_3_VERSION);
    raw_seal(&raw, &e, HANDSHAKE, ticket, 40, 0);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
    if (traits()->writes_inside_messages) {
        cr_expect_eq(e.tls->write(e.s, "abc", 3), 3);
        raw_move(&raw, &e);
        cr_expect_eq(SSL_read(raw.ssl, got, sizeof(got)), 3);
    } else {
        cr_expect_eq(e.tls->write(e.s, "abc", 3), -EINPROGRESS);
        cr_expect_eq(e.s->out_head, e.s->out_tail);
    }
    raw_seal(&raw, &e, HANDSHAKE, ticket + 40, 41, 0);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
    cr_expect_eq(e.tls->write(e.s, "other", 5), 5); /* nothing remembers the first try */
    raw_move(&raw, &e);
    cr_expect_eq(SSL_read(raw.ssl, got, sizeof(got)), 5);
    cr_expect_eq(memcmp(got, "other", 5), 0);
}

/* ---- TLS 1.2 ---- */

Test(tls_control, row_43_a_server_that_wants_to_renegotiate_is_told_no)
{
    meet(TLS1_2_VERSION);
    cr_assert(SSL_renegotiate(raw.ssl));
    SSL_do_handshake(raw.ssl); /* HelloRequest */
    raw_move(&raw, &e);
    cr_expect_eq(end_read(&e, got, 1), -EAGAIN);
    cr_expect_eq(e.s->state, SLUICE_TLS_OPEN);
    const uint8_t *answer;
    cr_assert_gt(sluice_tls_output(e.s, &answer), 5u);
    cr_expect_eq(answer[0], ALERT);
}

Test(tls_control, a_client_that_wants_to_renegotiate_is_told_no)
{
    struct sluice_tls_config cfg = server_config();
    raw_open_client(&raw, TLS1_2_VERSION, TLS1_2_VERSION);
    end_open(&e, &cfg, NULL);
    SSL_do_handshake(raw.ssl);
    raw_move(&raw, &e);
    cr_assert(raw_handshake(&raw, &e), "%s", e.s->error.text);
    cr_assert(SSL_renegotiate(raw.ssl));
    SSL_do_handshake(raw.ssl); /* ClientHello */
    raw_move(&raw, &e);
    ssize_t n = end_read(&e, got, 1);
    cr_expect(n == -EAGAIN || n == -EPROTO);
    const uint8_t *answer;
    cr_assert_gt(sluice_tls_output(e.s, &answer), 5u);
    cr_expect_eq(answer[0], ALERT);
    raw_move(&raw, &e);
    cr_expect_leq(SSL_do_handshake(raw.ssl), 0);
}

Test(tls_control, older_versions_are_refused_both_ways)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    raw_open(&raw, "rsa", TLS1_VERSION, TLS1_1_VERSION);
    end_open(&e, &c, PAIR_HOST);
    cr_expect_not(raw_handshake(&raw, &e));
    cr_expect_eq(e.s->error.reason, SLUICE_REASON_TLS_HANDSHAKE);
    cr_expect_eq(e.s->error.alert, 70, "%s", e.s->error.text);
    tear_down();
    raw_open_client(&raw, TLS1_VERSION, TLS1_1_VERSION);
    end_open(&e, &s, NULL);
    SSL_do_handshake(raw.ssl);
    raw_move(&raw, &e);
    cr_expect_not(raw_handshake(&raw, &e));
    cr_expect_eq(e.s->error.reason, SLUICE_REASON_TLS_HANDSHAKE);
}

Test(tls_control, a_server_gives_tickets_only_when_told_to)
{
    for (int i = 0; i < 4; i++) {
        struct sluice_tls_config cfg = server_config();
        int version = i & 2 ? TLS1_3_VERSION : TLS1_2_VERSION;
        tear_down();
        cfg.tickets = i & 1;
        raw_open_client(&raw, version, version);
        end_open(&e, &cfg, NULL);
        SSL_do_handshake(raw.ssl);
        raw_move(&raw, &e);
        cr_assert(raw_handshake(&raw, &e), "%s", e.s->error.text);
        cr_assert_eq(e.tls->write(e.s, "x", 1), 1);
        raw_move(&raw, &e);
        cr_expect_eq(SSL_read(raw.ssl, got, 1), 1);
        cr_expect_eq(SSL_SESSION_has_ticket(SSL_get0_session(raw.ssl)), i & 1, "%d", i);
    }
}

Test(tls_control, a_session_is_never_resumed)
{
    struct sluice_tls_config cfg = client_config();
    struct sluice_tls_context *ctx = must_context(&cfg);
    for (int i = 0; i < 3; i++) {
        tear_down();
        raw_open(&raw, "good", TLS1_2_VERSION, i & 1 ? TLS1_2_VERSION : TLS1_3_VERSION);
        end_open_with(&e, ctx, PAIR_HOST);
        cr_assert(raw_handshake(&raw, &e));
        cr_expect_not(SSL_session_reused(raw.ssl));
    }
    tls_provider()->context_destroy(ctx);
}
