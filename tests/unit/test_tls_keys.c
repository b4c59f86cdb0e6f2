/*
 * Keys for the kernel: with them alone the next records of a session are opened and made by hand,
 * as the kernel would. And control.c, which judges what the kernel then hands over.
 */
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#define HEADER       5u
#define TAG          16u
#define EXPLICIT     8u
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };

static struct pair p;
static uint8_t record[SLUICE_TLS_WIRE_MAX], plain[SLUICE_TLS_WIRE_MAX], got[65536];

static void tear_down(void)
{
    pair_close(&p);
}

TestSuite(tls_keys, .fini = tear_down);

static const char *const suites[] = {
    "TLS_AES_128_GCM_SHA256",        "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",  "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
};

static void meet(const char *suite, bool tickets)
{
    struct sluice_tls_config client = client_config(), server = server_config();
    tear_down();
    client.ciphers = server.ciphers = suite;
    server.tickets = tickets;
    pair_open(&p, &client, &server);
    p.client.s->wants_keys = p.server.s->wants_keys = true;
    cr_assert(pair_handshake(&p), "%s: %s", suite, p.client.s->error.text);
}

/* ---- what a kernel does ---- */

static const EVP_CIPHER *cipher_of(const struct sluice_tls_keys *k)
{
    return k->aead == SLUICE_TLS_AES_128_GCM   ? EVP_aes_128_gcm()
           : k->aead == SLUICE_TLS_AES_256_GCM ? EVP_aes_256_gcm()
                                               : EVP_chacha20_poly1305();
}

static bool has_explicit(const struct sluice_tls_keys *k)
{
    return k->version == SLUICE_TLS_1_2 && k->aead != SLUICE_TLS_CHACHA20_POLY1305;
}

static void put_number(uint8_t *to, uint64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8)
        to[i] = (uint8_t)number;
}

static void make_nonce(const struct sluice_tls_keys *k, const uint8_t *explicit_part, uint8_t *out)
{
    uint8_t number[8];
    memcpy(out, k->iv, 12);
    if (has_explicit(k)) {
        memcpy(out + 4, explicit_part, EXPLICIT);
        return;
    }
    put_number(number, k->sequence);
    for (int i = 0; i < 8; i++)
        out[4 + i] ^= number[i];
}

static int make_aad(const struct sluice_tls_keys *k, uint8_t type, size_t content, uint8_t *out)
{
    if (k->version == SLUICE_TLS_1_3) {
        memcpy(out, record, HEADER);
        return HEADER;
    }
    put_number(out, k->sequence);
    const uint8_t rest[] = {type, 3, 3, (uint8_t)(content >> 8), (uint8_t)content};
    memcpy(out + 8, rest, sizeof(rest));
    return 13;
}

/* Open `record`: bytes of content in `plain`, or -1; *type its type. */
static int open_record(struct sluice_tls_keys *k, uint8_t *type)
{
    size_t skip = HEADER + (has_explicit(k) ? EXPLICIT : 0);
    size_t body = (size_t)record[3] << 8 | record[4];
    size_t content = HEADER + body - skip - TAG;
    uint8_t nonce[12], aad[13];
    int n = 0;
    make_nonce(k, record + HEADER, nonce);
    int aad_bytes = make_aad(k, record[0], content, aad);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(c, cipher_of(k), NULL, k->key, nonce);
    EVP_DecryptUpdate(c, NULL, &n, aad, aad_bytes);
    EVP_DecryptUpdate(c, plain, &n, record + skip, (int)content);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG, record + skip + content);
    int good = EVP_DecryptFinal_ex(c, plain + n, &n);
    EVP_CIPHER_CTX_free(c);
    k->sequence++;
    if (!good)
        return -1;
    *type = record[0];
    if (k->version == SLUICE_TLS_1_3)
        *type = plain[--content];
    return (int)content;
}

static void make_record(struct sluice_tls_keys *k, struct end *to, uint8_t type, const void *data,
                        size_t bytes)
{
    size_t skip = HEADER + (has_explicit(k) ? EXPLICIT : 0);
    size_t content = bytes + (k->version == SLUICE_TLS_1_3);
    size_t body = skip - HEADER + content + TAG;
    uint8_t nonce[12], aad[13];
    int n = 0;
    memcpy(plain, data, bytes);
    plain[bytes] = type;
    const uint8_t header[] = {k->version == SLUICE_TLS_1_3 ? DATA : type, 3, 3,
                              (uint8_t)(body >> 8), (uint8_t)body};
    memcpy(record, header, HEADER);
    memcpy(record + HEADER, k->nonce, skip - HEADER);
    make_nonce(k, k->nonce, nonce);
    int aad_bytes = make_aad(k, type, content, aad);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(c, cipher_of(k), NULL, k->key, nonce);
    EVP_EncryptUpdate(c, NULL, &n, aad, aad_bytes);
    EVP_EncryptUpdate(c, record + skip, &n, plain, (int)content);
    EVP_EncryptFinal_ex(c, record + skip + n, &n);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG, record + skip + content);
    EVP_CIPHER_CTX_free(c);
    k->sequence++;
    for (int i = 7; i >= 0 && ++k->nonce[i] == 0; i--) {
    }
    end_arrived(to, record, HEADER + body);
}

/* The next record on this end's wire, out of it. */
static void next_record(struct end *e)
{
    size_t whole = HEADER + ((size_t)e->wire[e->head + 3] << 8 | e->wire[e->head + 4]);
    cr_assert_geq(e->tail - e->head, whole);
    memcpy(record, e->wire + e->head, whole);
    e->head += whole;
}

static struct sluice_tls_keys keys_of(struct end *e, enum sluice_tls_direction d)
{
    struct sluice_tls_keys k;
    cr_assert_eq(e->tls->keys(e->s, d, &k), 0);
    return k;
}

/* ---- keys ---- */

Test(tls_keys, open_what_the_peer_sends)
{
    for (size_t i = 0; i < COUNT(suites); i++) {
        uint8_t type = 0;
        meet(suites[i], false);
        struct sluice_tls_keys k = keys_of(&p.client, SLUICE_TLS_RX);
        for (int n = 0; n < 3; n++) {
            end_write(&p.server, &p.client, "from the server", 15);
            next_record(&p.client);
            cr_assert_eq(open_record(&k, &type), 15, "%s, record %d", suites[i], n);
            cr_expect_eq(type, DATA);
            cr_expect_eq(memcmp(plain, "from the server", 15), 0);
        }
    }
}

Test(tls_keys, make_what_the_peer_reads)
{
    for (size_t i = 0; i < COUNT(suites); i++) {
        meet(suites[i], false);
        struct sluice_tls_keys k = keys_of(&p.client, SLUICE_TLS_TX);
        for (int n = 0; n < 3; n++) {
            make_record(&k, &p.server, DATA, "from the client", 15);
            cr_assert_eq(end_read(&p.server, got, 15), 15, "%s, record %d: %s", suites[i], n,
                         p.server.s->error.text);
        }
        make_record(&k, &p.server, ALERT, "\1\0", 2);
        cr_expect_eq(end_read(&p.server, got, 1), 0, "%s", p.server.s->error.text);
    }
}

/* The tickets of a server are records 0 and 1 under its keys. */
Test(tls_keys, of_a_server_count_its_tickets)
{
    for (size_t i = 0; i < COUNT(suites); i++) {
        meet(suites[i], true);
        bool is_1_3 = p.server.s->version == SLUICE_TLS_1_3;
        struct sluice_tls_keys tx = keys_of(&p.server, SLUICE_TLS_TX);
        struct sluice_tls_keys rx = keys_of(&p.server, SLUICE_TLS_RX);
        uint8_t type = 0;
        cr_expect_eq(tx.sequence, is_1_3 ? 2u : 1u, "%s", suites[i]);
        make_record(&tx, &p.client, DATA, "by hand", 7);
        cr_expect_eq(end_read(&p.client, got, 7), 7, "%s: %s", suites[i], p.client.s->error.text);
        end_write(&p.client, &p.server, "there", 5);
        next_record(&p.server);
        cr_expect_eq(open_record(&rx, &type), 5, "%s", suites[i]);
    }
}

/* Also of one whose output had no room for both at once. */
Test(tls_keys, of_a_server_that_stopped_between_its_tickets)
{
    struct sluice_tls_config client = client_config(), server = server_config();
    struct sluice_tls_session *s;
    server.tickets = true;
    pair_open(&p, &client, &server);
    s = p.server.s;
    p.client.s->wants_keys = s->wants_keys = true;
    end_handshake(&p.client);
    end_flush(&p.client, &p.server);
    end_handshake(&p.server);
    end_flush(&p.server, &p.client);
    cr_assert_eq(end_handshake(&p.client), 0);
    end_flush(&p.client, &p.server);
    size_t before = PAIR_RING_BYTES - 300; /* of room that one takes, and not two */
    s->out_tail += before;
    cr_assert_eq(end_handshake(&p.server), -ENOBUFS);
    sluice_tls_sent(s, before);
    end_flush(&p.server, &p.client);
    cr_assert_eq(end_handshake(&p.server), 0);
    cr_expect_eq(keys_of(&p.server, SLUICE_TLS_TX).sequence, 2);
}

/* A nonce of AES-GCM that comes twice gives the key away. */
Test(tls_keys, continue_the_explicit_nonce)
{
    meet("ECDHE-ECDSA-AES128-GCM-SHA256", false);
    struct sluice_tls_keys k = keys_of(&p.client, SLUICE_TLS_TX);
    end_write(&p.client, &p.server, "x", 1); /* OpenSSL's own next one */
    next_record(&p.server);
    cr_expect_eq(memcmp(k.nonce, record + HEADER, EXPLICIT), 0);
}

Test(tls_keys, follow_key_updates)
{
    for (size_t i = 0; i < 3; i++) {
        uint8_t type = 0;
        meet(suites[i], false);
        struct sluice_tls_keys k = keys_of(&p.client, SLUICE_TLS_RX);
        for (int n = 0; n < 3; n++) {
            cr_assert_eq(p.server.tls->rekey(p.server.s, false), 0);
            end_write(&p.server, &p.client, "new", 3);
            next_record(&p.client);
            cr_assert_eq(open_record(&k, &type), 5);
            cr_expect_eq(type, HANDSHAKE);
            cr_expect_eq(sluice_tls_control(p.client.s, type, plain, 5), SLUICE_TLS_NEW_KEYS);
            cr_assert_eq(p.client.tls->next_keys(p.client.s, SLUICE_TLS_RX, &k), 0);
            next_record(&p.client);
            cr_assert_eq(open_record(&k, &type), 3, "%s, update %d", suites[i], n);
        }
    }
}

Test(tls_keys, are_not_there_unless_asked_for_in_time)
{
    struct sluice_tls_keys k;
    pair_open_default(&p);
    cr_expect_eq(p.client.tls->keys(p.client.s, SLUICE_TLS_RX, &k), -ENOTSUP);
    meet(suites[3], false);
    cr_expect_eq(p.client.tls->next_keys(p.client.s, SLUICE_TLS_RX, &k), -ENOTSUP, "TLS 1.2");
}

/* ---- records that are no data ---- */

struct control_case {
    const char *suite;
    uint8_t type;
    const char *bytes;
    size_t count;
    int rc;
    enum sluice_reason reason;
    int alert;
};

#define TLS13       "TLS_AES_128_GCM_SHA256"
#define TLS12       "ECDHE-ECDSA-AES128-GCM-SHA256"
#define BYTES(text) text, sizeof(text) - 1

static const struct control_case control_cases[] = {
    {TLS13, ALERT, BYTES("\1\0"), 0, 0, -1},   /* close_notify */
    {TLS13, ALERT, BYTES("\1\132"), 0, 0, -1}, /* user_canceled */
    {TLS13, ALERT, BYTES("\2\120"), -EPROTO, SLUICE_REASON_TLS_ALERT, 80},
    {TLS13, ALERT, BYTES("\1\120"), -EPROTO, SLUICE_REASON_TLS_ALERT, 80}, /* no warnings in 1.3 */
    {TLS12, ALERT, BYTES("\1\144"), 0, 0, -1},
    {TLS13, ALERT, BYTES("\2"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS13, ALERT, BYTES("\2\120\0"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS12, ALERT, BYTES("\3\120"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS12, ALERT, BYTES("\2\24"), -EPROTO, SLUICE_REASON_TLS_ALERT, 20},
    {TLS13, HANDSHAKE, BYTES("\4\0\0\3abc"), 0, 0, -1},
    {TLS13, HANDSHAKE, BYTES("\4\0\0\3abc\4\0\0\1x"), 0, 0, -1},
    {TLS13, HANDSHAKE, BYTES("\30\0\0\1\0"), SLUICE_TLS_NEW_KEYS, 0, -1},
    {TLS13, HANDSHAKE, BYTES("\30\0\0\1\1"), SLUICE_TLS_ANSWER_DUE, 0, -1},
    {TLS13, HANDSHAKE, BYTES("\30\0\0\1\2"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS13, HANDSHAKE, BYTES("\30\0\0\2\0\0"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS13, HANDSHAKE, BYTES("\30\0\0\1\0\4"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
    {TLS13, HANDSHAKE, BYTES("\4\0\0\1x\30\0\0\1\0"), SLUICE_TLS_NEW_KEYS, 0, -1},
    {TLS13, HANDSHAKE, BYTES("\15\0\0\1x"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
    {TLS13, HANDSHAKE, BYTES("\4\377\377\377"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 50},
    {TLS12, HANDSHAKE, BYTES("\0\0\0\0"), SLUICE_TLS_REFUSAL_DUE, 0,
     -1}, /* HelloRequest: renegotiate? no */
    {TLS12, HANDSHAKE, BYTES("\30\0\0\1\0"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
    {TLS12, HANDSHAKE, BYTES("\4\0\0\1x"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
    {TLS13, 20, BYTES("\1"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
    {TLS13, 24, BYTES("\1\0\20x"), -EPROTO, SLUICE_REASON_TLS_PROTOCOL, 10},
};

/* However the kernel cuts a record, the verdict is the same. */
Test(tls_keys, control_records_are_judged)
{
    for (size_t i = 0; i < COUNT(control_cases); i++) {
        const struct control_case *c = &control_cases[i];
        for (size_t step = 1; step <= c->count; step++) {
            meet(c->suite, false);
            struct sluice_tls_session *s = p.client.s;
            int rc = 0;
            if (step < c->count && c->type == ALERT) /* always a record of its own */
                continue;
            /* in one piece a KeyUpdate can be told from one that bytes follow */
            if (step < c->count && c->alert == 10 && c->bytes[0] == '\30')
                continue;
            for (size_t at = 0; at < c->count && rc == 0; at += step) {
                size_t bytes = c->count - at < step ? c->count - at : step;
                rc = sluice_tls_control(s, c->type, (const uint8_t *)c->bytes + at, bytes);
            }
            cr_expect_eq(rc, c->rc, "case %zu by %zu: %d", i, step, rc);
            cr_expect_eq(s->error.reason, c->reason, "case %zu: %s", i, s->error.text);
            cr_expect_eq(s->error.alert, c->alert, "case %zu: %s", i, s->error.text);
            cr_expect_eq(s->state, rc == -EPROTO ? SLUICE_TLS_FAILED : SLUICE_TLS_OPEN);
            cr_expect_eq(s->closed, i == 0 ? SLUICE_TLS_CLOSED_BY_PEER : 0u);
        }
    }
}

Test(tls_keys, control_records_without_end_are_a_flood)
{
    int rc = 0;
    meet(TLS13, false);
    for (unsigned n = 1; n <= SLUICE_TLS_CONTROL_RUN_MAX + 1; n++) {
        cr_expect_eq(rc, 0);
        rc = sluice_tls_control(p.client.s, HANDSHAKE, (const uint8_t *)"\4\0\0\1x", 5);
    }
    cr_expect_eq(rc, -EPROTO);
    cr_expect_eq(p.client.s->error.reason, SLUICE_REASON_TLS_PROTOCOL);
}

Test(tls_keys, what_the_kernel_refuses_is_answered)
{
    meet(TLS13, false);
    cr_expect_eq(sluice_tls_bad_record(p.client.s, EBADMSG), -EPROTO);
    cr_expect_eq(p.client.s->error.alert, 20);
    meet(TLS13, false);
    cr_expect_eq(sluice_tls_bad_record(p.client.s, EMSGSIZE), -EPROTO);
    cr_expect_eq(p.client.s->error.alert, 22);
}
