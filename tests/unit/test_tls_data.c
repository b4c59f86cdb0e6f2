/*
 * What goes in comes out: sizes, versions, ciphers, windows of every size, the output ring,
 * closing.
 */
#include "tests/tls/pair.h"
#include "tests/tls/traits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BIG_BYTES    (4u << 20)

static struct pair p;
static uint8_t *sent, *got;

static void set_up(void)
{
    sent = malloc(BIG_BYTES);
    got = malloc(BIG_BYTES);
    cr_assert(sent && got);
    fill(sent, BIG_BYTES, 1);
}

static void tear_down(void)
{
    pair_close(&p);
    free(sent);
    free(got);
}

TestSuite(tls_data, .init = set_up, .fini = tear_down);

static void open_with(const char *ciphers)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    c.ciphers = s.ciphers = ciphers;
    pair_close(&p);
    pair_open(&p, &c, &s);
    cr_assert(pair_handshake(&p), "%s", p.client.s->error.text);
}

static void pass(struct end *from, struct end *to, size_t bytes)
{
    memset(got, 0, bytes);
    end_write(from, to, sent, bytes);
    cr_assert_eq(end_read(to, got, bytes), (ssize_t)bytes, "%s", to->s->error.text);
    cr_assert_eq(memcmp(sent, got, bytes), 0, "%zu bytes", bytes);
    cr_assert_eq(to->s->pending, 0u);
    cr_assert_eq(to->head, to->tail);
}

static const struct {
    const char *cipher, *version;
} suites[] = {
    {"TLS_AES_128_GCM_SHA256", "TLSv1.3"},        {"TLS_AES_256_GCM_SHA384", "TLSv1.3"},
    {"TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3"},  {"ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2"}, {"ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2"},
};

Test(tls_data, every_cipher_of_both_versions)
{
    for (size_t i = 0; i < COUNT(suites); i++) {
        struct sluice_tls_info info;
        open_with(suites[i].cipher);
        p.client.tls->info(p.client.s, &info);
        cr_expect_str_eq(info.cipher, suites[i].cipher);
        cr_expect_str_eq(info.version, suites[i].version);
        cr_expect_str_eq(info.verified, "chain");
        for (size_t bytes = 1; bytes <= 65536; bytes = bytes * 2 + 1) {
            pass(&p.client, &p.server, bytes);
            pass(&p.server, &p.client, bytes);
        }
        pass(&p.client, &p.server, 16384);
        pass(&p.server, &p.client, 16385);
        pass(&p.client, &p.server, 65536);
        pass(&p.server, &p.client, BIG_BYTES);
    }
}

Test(tls_data, every_size_of_small_messages)
{
    pair_open_default(&p);
    for (size_t bytes = 1; bytes < 1100; bytes++)
        pass(&p.server, &p.client, bytes);
}

Test(tls_data, a_message_that_fits_is_one_record)
{
    static const struct {
        size_t bytes;
        unsigned records;
    } cases[] = {{1, 1}, {64, 1}, {16383, 1}, {16384, 1}, {16385, 2}, {65536, 4}};
    for (size_t v = 0; v < COUNT(suites); v += 3) {
        open_with(suites[v].cipher);
        for (size_t i = 0; i < COUNT(cases); i++) {
            end_write(&p.client, &p.server, sent, cases[i].bytes);
            cr_expect_eq(
                count_records(p.server.wire + p.server.head, p.server.tail - p.server.head),
                cases[i].records, "%zu bytes", cases[i].bytes);
            cr_assert_eq(end_read(&p.server, got, BIG_BYTES), (ssize_t)cases[i].bytes);
        }
    }
}

Test(tls_data, windows_of_every_size)
{
    static const size_t steps[] = {1, 2, 3, 4, 5, 6, 7, 21, 22, 23, 100, 1000, 16384, 16406, 20000};
    for (size_t v = 0; v < COUNT(suites); v += 3) {
        for (size_t i = 0; i < COUNT(steps); i++) {
            struct sluice_tls_config c = client_config(), s = server_config();
            c.ciphers = s.ciphers = suites[v].cipher;
            pair_close(&p);
            pair_open(&p, &c, &s);
            p.client.step = p.server.step = steps[i]; /* the handshake as well */
            cr_assert(pair_handshake(&p), "step %zu: %s", steps[i], p.client.s->error.text);
            pass(&p.client, &p.server, 1);
            pass(&p.server, &p.client, 40000);
        }
    }
}

Test(tls_data, a_read_takes_no_more_than_its_record)
{
    pair_open_default(&p);
    end_write(&p.server, &p.client, sent, 100);
    size_t first = p.client.tail - p.client.head;
    end_write(&p.server, &p.client, sent + 100, 200);
    struct sluice_tls_input in = {p.client.wire + p.client.head, p.client.tail - p.client.head};
    size_t all = in.bytes;
    cr_expect_eq(p.client.tls->read(p.client.s, &in, got, BIG_BYTES), 100);
    cr_expect_eq(all - in.bytes, first);
    cr_expect_eq(p.client.s->pending, 0u);
    cr_expect_eq(p.client.tls->read(p.client.s, &in, got, BIG_BYTES), 200);
    cr_expect_eq(in.bytes, 0u);
    cr_expect_eq(p.client.tls->read(p.client.s, &in, got, BIG_BYTES), -EAGAIN);
}

Test(tls_data, a_small_buffer_gets_a_record_in_parts)
{
    pair_open_default(&p);
    end_write(&p.server, &p.client, sent, 1000);
    struct sluice_tls_input in = {p.client.wire + p.client.head, p.client.tail - p.client.head};
    for (size_t at = 0; at < 1000; at += 100) {
        cr_assert_eq(p.client.tls->read(p.client.s, &in, got + at, 100), 100);
        cr_assert_eq(in.bytes, 0u);
        cr_assert_eq(p.client.s->pending, 900 - at);
    }
    cr_expect_eq(memcmp(sent, got, 1000), 0);
}

Test(tls_data, row_38_first_data_right_behind_finished)
{
    for (size_t v = 0; v < COUNT(suites); v += 3) {
        struct sluice_tls_config c = client_config(), s = server_config();
        c.ciphers = s.ciphers = suites[v].cipher;
        pair_close(&p);
        pair_open(&p, &c, &s);
        /* Of the two the one that is done first sends at once: its peer gets both together. */
        struct end *first = v == 0 ? &p.client : &p.server, *last = v == 0 ? &p.server : &p.client;
        while (first->s->state != SLUICE_TLS_OPEN) {
            end_flush(last, first);
            end_handshake(last);
            end_flush(last, first);
            end_handshake(first);
            if (first->s->state != SLUICE_TLS_OPEN)
                end_flush(first, last);
        }
        cr_assert_eq(last->s->state, SLUICE_TLS_HANDSHAKE);
        end_write(first, last, sent, 500);
        cr_assert_eq(end_handshake(last), 0);
        cr_assert_lt(last->head, last->tail);
        cr_expect_eq(end_read(last, got, BIG_BYTES), 500);
        cr_expect_eq(memcmp(sent, got, 500), 0);
    }
}

/* ---- the output ring ---- */

Test(tls_data, a_full_ring_takes_whole_chunks_or_nothing)
{
    static const size_t chunks[] = {1, 100, 5000, 16384};
    for (size_t i = 0; i < COUNT(chunks); i++) {
        size_t written = 0;
        pair_close(&p);
        pair_open_default(&p);
        for (;;) {
            uint64_t tail = p.client.s->out_tail;
            bool room = sluice_tls_has_room(p.client.s, chunks[i]);
            ssize_t n = p.client.tls->write(p.client.s, sent + written, chunks[i]);
            cr_assert_eq(n > 0, room);
            if (n < 0) {
                cr_expect_eq(n, -EAGAIN);
                cr_expect_eq(p.client.s->out_tail, tail);
                break;
            }
            cr_assert_eq(n, (ssize_t)chunks[i]);
            written += (size_t)n;
        }
        cr_expect_gt(written, 2000u);
        /* Nobody drains it, and yet KeyUpdate is answered and close_notify fits. */
        cr_assert_eq(p.server.tls->rekey(p.server.s, true), 0);
        end_write(&p.server, &p.client, "x", 1);
        cr_assert_eq(end_read(&p.client, got, 1), 1);
        cr_assert_eq(p.client.tls->close(p.client.s), 0);
        end_flush(&p.client, &p.server);
        cr_assert_eq(end_read(&p.server, got, BIG_BYTES), (ssize_t)written);
        cr_expect_eq(memcmp(sent, got, written), 0);
        cr_expect_eq(end_read(&p.server, got, 1), 0);
    }
}

Test(tls_data, output_stays_where_it_is_until_sent)
{
    const uint8_t *before, *after;
    pair_open_default(&p);
    cr_assert_eq(p.client.tls->write(p.client.s, sent, 1000), 1000);
    size_t first = sluice_tls_output(p.client.s, &before);
    end_arrived(&p.server, before, first); /* a SEND is under way */
    cr_assert_eq(p.client.tls->write(p.client.s, sent + 1000, 1000), 1000);
    cr_expect_gt(sluice_tls_output(p.client.s, &after), first);
    cr_expect_eq(before, after);
    cr_expect_eq(memcmp(p.server.wire + p.server.tail - first, after, first), 0);
    sluice_tls_sent(p.client.s, first);
    end_flush(&p.client, &p.server);
    cr_expect_eq(end_read(&p.server, got, 2000), 2000);
    cr_expect_eq(memcmp(sent, got, 2000), 0);
}

Test(tls_data, a_ring_taken_byte_by_byte)
{
    const uint8_t *data;
    struct sluice_tls_config c = client_config(), s = server_config();
    pair_open(&p, &c, &s);
    for (int i = 0; i < 20000 && p.client.s->state == SLUICE_TLS_HANDSHAKE; i++) {
        end_handshake(&p.client);
        end_handshake(&p.server);
        if (sluice_tls_output(p.client.s, &data)) {
            end_arrived(&p.server, data, 1);
            sluice_tls_sent(p.client.s, 1);
        }
        if (sluice_tls_output(p.server.s, &data)) {
            end_arrived(&p.client, data, 1);
            sluice_tls_sent(p.server.s, 1);
        }
    }
    cr_assert_eq(p.client.s->state, SLUICE_TLS_OPEN);
    cr_assert(pair_handshake(&p));
    cr_expect(pair_echoes(&p));
}

/* ---- closing ---- */

Test(tls_data, row_11_close_notify_is_the_clean_end)
{
    for (size_t v = 0; v < COUNT(suites); v += 3) {
        open_with(suites[v].cipher);
        end_write(&p.server, &p.client, sent, 300);
        cr_assert_eq(p.server.tls->close(p.server.s), 0);
        cr_assert_gt(end_flush(&p.server, &p.client), 0u);
        cr_assert_eq(p.server.tls->close(p.server.s), 0); /* once */
        cr_assert_eq(end_flush(&p.server, &p.client), 0u);
        cr_expect_eq(end_read(&p.client, got, BIG_BYTES), 300);
        cr_expect_eq(end_read(&p.client, got, BIG_BYTES), 0);
        cr_expect_eq(p.client.s->closed, SLUICE_TLS_CLOSED_BY_PEER);
        cr_expect_eq(sluice_tls_eof(p.client.s), 0);
        cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_NONE);
        cr_expect_eq(p.server.tls->write(p.server.s, sent, 1), -EPIPE);
    }
}

Test(tls_data, half_close_ends_one_direction_only)
{
    for (size_t v = 0; v < COUNT(suites); v += 3) {
        open_with(suites[v].cipher);
        cr_assert_eq(p.client.tls->close(p.client.s), 0);
        end_flush(&p.client, &p.server);
        cr_assert_eq(end_read(&p.server, got, 1), 0);
        pass(&p.server, &p.client, 100000);
        for (int i = 0; i < 3 && p.server.tls->rekey(p.server.s, true) == 0; i++)
            pass(&p.server, &p.client, 100);
        cr_expect_eq(end_flush(&p.client, NULL), 0u); /* behind close_notify nothing leaves */
        pass(&p.server, &p.client, 1);
        cr_assert_eq(p.server.tls->close(p.server.s), 0);
        end_flush(&p.server, &p.client);
        cr_expect_eq(end_read(&p.client, got, 1), 0);
        cr_expect_eq(sluice_tls_eof(p.client.s), 0);
        cr_expect_eq(sluice_tls_eof(p.server.s), 0);
    }
}

Test(tls_data, row_10_eof_without_close_notify_is_truncation)
{
    pair_open_default(&p);
    end_write(&p.server, &p.client, sent, 300);
    cr_expect_eq(end_read(&p.client, got, BIG_BYTES), 300);
    cr_expect_eq(sluice_tls_eof(p.client.s), -EPROTO);
    cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_TRUNCATED);
    cr_expect_eq(p.client.s->state, SLUICE_TLS_FAILED);
    struct sluice_tls_input in = {sent, 0};
    cr_expect_eq(p.client.tls->read(p.client.s, &in, got, 1), -EPROTO);
    cr_expect_eq(p.client.tls->write(p.client.s, got, 1), -EPROTO);
}

/* ---- what is agreed ---- */

Test(tls_data, row_36_alpn)
{
    static const struct {
        const char *client, *server, *chosen; /* chosen NULL: refused */
        bool required;
    } cases[] = {
        {"http/1.1", "http/1.1", "http/1.1", true},
        {"h2,http/1.1", "http/1.1,x", "http/1.1", true},
        {"a,b", "b,a", "b", true},
        {"http/1.1", NULL, "", false},
        {"http/1.1", NULL, NULL, true},
        {NULL, "http/1.1", "", false},
        {"http/1.1", "h2", NULL, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sluice_tls_config c = client_config(), s = server_config();
        struct sluice_tls_info info;
        c.alpn = cases[i].client;
        c.alpn_required = cases[i].required;
        s.alpn = cases[i].server;
        pair_close(&p);
        pair_open(&p, &c, &s);
        bool open = pair_handshake(&p);
        cr_expect_eq(open, cases[i].chosen != NULL, "%zu: %s", i, p.client.s->error.text);
        if (open) {
            p.client.tls->info(p.client.s, &info);
            cr_expect_str_eq(info.alpn, cases[i].chosen);
            p.server.tls->info(p.server.s, &info);
            cr_expect_str_eq(info.alpn, cases[i].chosen);
        } else {
            cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_HANDSHAKE);
        }
        if (cases[i].server && strcmp(cases[i].server, "h2") == 0)
            cr_expect_eq(p.client.s->error.alert, 120); /* no_application_protocol */
    }
}

Test(tls_data, row_35_versions_without_overlap)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    c.min = SLUICE_TLS_MIN_1_3;
    s.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    pair_open(&p, &c, &s);
    cr_expect_not(pair_handshake(&p));
    cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_HANDSHAKE);
    cr_expect_eq(p.client.s->error.alert, traits()->no_version_alert, "%s", p.client.s->error.text);
    cr_expect_neq(p.server.s->state, SLUICE_TLS_OPEN);
}

Test(tls_data, row_39_tickets_are_taken_and_not_counted_as_data)
{
    for (int tickets = 0; tickets < 2; tickets++) {
        struct sluice_tls_config c = client_config(), s = server_config();
        s.tickets = tickets;
        pair_close(&p);
        pair_open(&p, &c, &s);
        cr_assert(pair_handshake(&p));
        cr_expect_eq(end_read(&p.client, got, 1), -EAGAIN);
        cr_expect_eq(p.client.s->control_records, tickets ? 2u : 0u);
        pass(&p.server, &p.client, 1000);
        cr_expect_eq(p.client.s->control_run, 0u);
    }
}

Test(tls_data, keys_are_logged_only_on_request)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    char path[512], line[256];
    struct stat st;
    snprintf(path, sizeof(path), "%s/keylog", getenv("TMPDIR") ? getenv("TMPDIR") : ".");
    setenv("SSLKEYLOGFILE", path, 1);
    pair_open(&p, &c, &s);
    cr_assert(pair_handshake(&p));
    cr_expect_neq(access(path, F_OK), 0);
    pair_close(&p);
    c.keylog = path;
    if (!traits()->tells_secrets) {
        struct sluice_tls_context *ctx;
        struct sluice_tls_error err;
        cr_expect_eq(tls_provider()->context_create(&ctx, &c, &err), -ENOTSUP);
        cr_expect_neq(access(path, F_OK), 0);
        return;
    }
    pair_open(&p, &c, &s);
    cr_assert(pair_handshake(&p));
    cr_assert_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0600u);
    FILE *file = fopen(path, "r");
    int found = 0;
    while (fgets(line, sizeof(line), file))
        found += strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
    fclose(file);
    unlink(path);
    cr_expect_eq(found, 1);
}

Test(tls_data, one_context_serves_many_sessions)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    struct sluice_tls_context *cc = must_context(&c), *sc = must_context(&s);
    struct pair pairs[4];
    for (size_t i = 0; i < COUNT(pairs); i++) {
        end_open_with(&pairs[i].client, cc, PAIR_HOST);
        end_open_with(&pairs[i].server, sc, NULL);
    }
    tls_provider()->context_destroy(cc); /* sessions live on */
    tls_provider()->context_destroy(sc);
    for (size_t i = 0; i < COUNT(pairs); i++)
        cr_expect(pair_handshake(&pairs[i]) && pair_echoes(&pairs[i]));
    for (size_t i = 0; i < COUNT(pairs); i++)
        pair_close(&pairs[i]);
}
