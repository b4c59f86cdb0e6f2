/*
 * Kernel TLS: see offload.h. Receiving is switched first, for what cannot be received is the more
 * likely refusal, and until then nothing has changed.
 */
#include "offload.h"
#include "base/system.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

#define SALT_BYTES    4u
#define NONCE_BYTES   8u
#define ALERT_WARNING 1
#define ALERT_FATAL   2
#define KEY_UPDATE    24

static int set_option(struct sluice_life *c, int level, int name, const void *value, size_t bytes)
{
    return sluice_loop_sockets(c->loop)->set_option(c->loop->be, c->fd, level, name, value,
                                                    (socklen_t)bytes);
}

/* ---- whether ---- */

static const char no_module[] = "this kernel has no tls module";
static const char no_keys[] = "this TLS provider does not hand its keys over";

static int cannot(struct sluice_offload *o, const char *what, int err)
{
    char why[96];
    snprintf(why, sizeof(why), "%s%s%s", what, err ? ": " : "",
             err == -ENOENT ? no_module
             : err          ? strerror(-err)
                            : "");
    snprintf(o->where, sizeof(o->where), "user space (%s)", why);
    if (!o->required)
        return 0;
    struct sluice_tls_session *session = o->session;
    session->error = (struct sluice_tls_error){.reason = SLUICE_REASON_KTLS, .alert = -1};
    snprintf(session->error.text, sizeof(session->error.text), "no kernel TLS: %s", why);
    session->state = SLUICE_TLS_FAILED;
    return -EPROTO;
}

int sluice_offload_prepare(struct sluice_offload *o, struct sluice_life *c,
                           struct sluice_tls_session *session, enum sluice_ktls wanted,
                           const char *refusal)
{
    *o = (struct sluice_offload){
        .session = session, .required = wanted == SLUICE_KTLS_REQUIRE, .alert_due = -1};
    if (refusal)
        return cannot(o, refusal, 0);
    if (wanted == SLUICE_KTLS_OFF)
        return cannot(o, "--ktls off", 0);
    if (!session->provider->keys)
        return cannot(o, no_keys, 0);
    int err = set_option(c, IPPROTO_TCP, TCP_ULP, "tls", 3);
    if (err == -ENOENT)
        return cannot(o, no_module, 0) ? -EPROTO : -ENOENT;
    if (err)
        return cannot(o, "TCP_ULP", err);
    o->by_record = session->wants_keys = true;
    return 0;
}

/* The ULP is looked up before the socket's state: ENOENT, no module; ENOTCONN, there it is. */
int sluice_offload_probe(void)
{
    int fd = sluice_system_socket(AF_INET, SOCK_STREAM, false);
    if (fd < 0)
        return fd;
    int err = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4) ? -errno : 0;
    close(fd);
    return err == -ENOTCONN ? 0 : err;
}

const char *sluice_offload_lacks(const struct sluice_tls_provider *provider)
{
    return !provider->keys ? no_keys : sluice_offload_probe() == -ENOENT ? no_module : NULL;
}

/* ---- keys ---- */

union crypto {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 gcm_128;
    struct tls12_crypto_info_aes_gcm_256 gcm_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha20;
};

static void put_sequence(uint8_t *to, uint64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8)
        to[i] = (uint8_t)number;
}

/* With GCM the kernel's "iv" is the rest of the nonce: RFC 8446's, or TLS 1.2's explicit part. */
static size_t fill(union crypto *u, const struct sluice_tls_keys *k)
{
    bool is_1_3 = k->version == SLUICE_TLS_1_3;
    const uint8_t *nonce = is_1_3 ? k->iv + SALT_BYTES : k->nonce;
    memset(u, 0, sizeof(*u));
    u->info.version = is_1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    switch ((enum sluice_tls_aead)k->aead) {
    case SLUICE_TLS_AES_128_GCM:
        u->info.cipher_type = TLS_CIPHER_AES_GCM_128;
        memcpy(u->gcm_128.key, k->key, sizeof(u->gcm_128.key));
        memcpy(u->gcm_128.salt, k->iv, SALT_BYTES);
        memcpy(u->gcm_128.iv, nonce, NONCE_BYTES);
        put_sequence(u->gcm_128.rec_seq, k->sequence);
        return sizeof(u->gcm_128);
    case SLUICE_TLS_AES_256_GCM:
        u->info.cipher_type = TLS_CIPHER_AES_GCM_256;
        memcpy(u->gcm_256.key, k->key, sizeof(u->gcm_256.key));
        memcpy(u->gcm_256.salt, k->iv, SALT_BYTES);
        memcpy(u->gcm_256.iv, nonce, NONCE_BYTES);
        put_sequence(u->gcm_256.rec_seq, k->sequence);
        return sizeof(u->gcm_256);
    case SLUICE_TLS_CHACHA20_POLY1305:
        u->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(u->chacha20.key, k->key, sizeof(u->chacha20.key));
        memcpy(u->chacha20.iv, k->iv, sizeof(u->chacha20.iv));
        put_sequence(u->chacha20.rec_seq, k->sequence);
        return sizeof(u->chacha20);
    }
    return 0;
}

static int install(struct sluice_life *c, enum sluice_tls_direction d,
                   const struct sluice_tls_keys *keys)
{
    union crypto u;
    size_t bytes = fill(&u, keys);
    int err = set_option(c, SOL_TLS, d == SLUICE_TLS_RX ? TLS_RX : TLS_TX, &u, bytes);
    sluice_system_wipe(&u, sizeof(u));
    return err;
}

static int fail(struct sluice_offload *o, enum sluice_reason reason, const char *what, int err)
{
    struct sluice_tls_session *session = o->session;
    session->error = (struct sluice_tls_error){.reason = reason, .alert = -1};
    snprintf(session->error.text, sizeof(session->error.text), "kernel TLS: %s: %s", what,
             strerror(-err));
    session->state = SLUICE_TLS_FAILED;
    return -EPROTO;
}

/* TLS_RX_EXPECT_NO_PAD is not asked for, though TLS 1.3 would then be decrypted in place: when a
 * peer pads all the same, Linux (6.1 and 6.12 tried) delivers what follows shifted by a byte, as if
 * it had moved on in the caller's buffer before it decrypts that record again. */
int sluice_offload_start(struct sluice_offload *o, struct sluice_life *c)
{
    const struct sluice_tls_provider *provider = o->session->provider;
    struct sluice_tls_keys rx, tx;
    o->by_record = false;
    int err = provider->keys(o->session, SLUICE_TLS_RX, &rx);
    if (!err)
        err = provider->keys(o->session, SLUICE_TLS_TX, &tx);
    if (err) {
        err = cannot(o, "the kernel's TLS has no such cipher", 0) ? -EPROTO : -ENOTSUP;
    } else if ((err = install(c, SLUICE_TLS_RX, &rx))) {
        const char *what = err == -ENOENT ? "this kernel lacks the cipher; TLS_RX" : "TLS_RX";
        err = cannot(o, what, err) ? -EPROTO : -ENOTSUP;
    } else if ((err = install(c, SLUICE_TLS_TX, &tx))) {
        err = fail(o, SLUICE_REASON_KTLS, "it receives but does not send", err);
    } else {
        o->in_kernel = true;
        snprintf(o->where, sizeof(o->where), "kernel, both ways");
    }
    sluice_system_wipe(&rx, sizeof(rx));
    sluice_system_wipe(&tx, sizeof(tx));
    return err;
}

/* ---- records without data ---- */

/* The old ones are good for close_notify. */
static int no_new_keys(struct sluice_offload *o, const char *what, int err)
{
    o->answer_due = false;
    o->notify_due = true;
    return fail(o, SLUICE_REASON_TLS_REKEY, what, err);
}

static int renew(struct sluice_offload *o, struct sluice_life *c, enum sluice_tls_direction d)
{
    struct sluice_tls_keys keys;
    int err = o->session->provider->next_keys(o->session, d, &keys);
    if (!err)
        err = install(c, d, &keys);
    sluice_system_wipe(&keys, sizeof(keys));
    return err ? no_new_keys(o, "KeyUpdate", err) : 0;
}

int sluice_offload_control(struct sluice_offload *o, struct sluice_life *c)
{
    unsigned type;
    struct sluice_tls_session *s = o->session;
    uint8_t *room = s->out_base; /* idle now, and larger than a record */
    ssize_t n = sluice_loop_sockets(c->loop)->recv_record(c->loop->be, c->fd, &type, room,
                                                          SLUICE_TLS_RECORD_MAX);
    if (n == -EAGAIN)
        return 0;
    if (n < 0)
        return sluice_tls_bad_record(s, (int)-n);
    int rc = sluice_tls_control(s, type, room, (size_t)n);
    sluice_system_wipe(room, (size_t)n); /* a ticket is a secret */
    if (rc < 0 && s->error.reason != SLUICE_REASON_TLS_ALERT)
        o->alert_due = s->error.alert;
    if (rc == SLUICE_TLS_REFUSAL_DUE) {
        o->refusal_due = true;
        rc = 0;
    }
    if (rc == SLUICE_TLS_NEW_KEYS || rc == SLUICE_TLS_ANSWER_DUE) {
        o->answer_due |= rc == SLUICE_TLS_ANSWER_DUE;
        rc = renew(o, c, SLUICE_TLS_RX);
    }
    return rc;
}

bool sluice_offload_verdict(struct sluice_offload *o, int os_error)
{
    if (!o->in_kernel || (os_error != EBADMSG && os_error != EMSGSIZE && os_error != EINVAL))
        return false;
    sluice_tls_bad_record(o->session, os_error);
    o->alert_due = o->session->error.alert;
    return true;
}

static int say(struct sluice_life *c, unsigned type, const uint8_t *data, size_t bytes)
{
    ssize_t n = sluice_loop_sockets(c->loop)->send_record(c->loop->be, c->fd, type, data, bytes);
    return n < 0 ? (int)n : 0;
}

/* Said, or a peer that is gone heard nothing of it. */
static int notify(struct sluice_offload *o, struct sluice_life *c)
{
    static const uint8_t close_notify[] = {ALERT_WARNING, 0};
    int err = say(c, SLUICE_TLS_TYPE_ALERT, close_notify, sizeof(close_notify));
    o->notify_due = err == -EAGAIN;
    o->session->closed |= o->notify_due ? 0 : SLUICE_TLS_CLOSED_BY_US;
    return err;
}

/* Asked with a key of no version: EINVAL. EBUSY comes first where keys are taken but once: in TLS
 * 1.2, and before Linux 6.14. */
static bool takes_new_keys(struct sluice_life *c)
{
    const struct tls_crypto_info none = {0};
    return set_option(c, SOL_TLS, TLS_TX, &none, sizeof(none)) != -EBUSY;
}

/* An answer, or of our own accord. */
static int update(struct sluice_offload *o, struct sluice_life *c)
{
    static const uint8_t key_update[] = {KEY_UPDATE, 0, 0, 1, 0}; /* asks for nothing back */
    if (!takes_new_keys(c))
        return no_new_keys(o, "no new keys", -EBUSY);
    int err = say(c, SLUICE_TLS_TYPE_HANDSHAKE, key_update, sizeof(key_update));
    o->answer_due = err == -EAGAIN;
    if (!err)
        o->session->records_out = 0;
    return err ? err : renew(o, c, SLUICE_TLS_TX);
}

/* Each SEND begins a record of its own; those that a short one cut count twice. */
void sluice_offload_sent(struct sluice_offload *o, size_t bytes, bool between)
{
    uint64_t records = (bytes + SLUICE_TLS_RECORD_MAX - 1) / SLUICE_TLS_RECORD_MAX;
    if (sluice_tls_count_records(o->session, records) && between)
        o->answer_due = o->session->state != SLUICE_TLS_FAILED;
}

int sluice_offload_say(struct sluice_offload *o, struct sluice_life *c, bool last)
{
    int err = 0;
    if (o->alert_due >= 0 && last) {
        const uint8_t alert[] = {ALERT_FATAL, (uint8_t)o->alert_due};
        o->alert_due = -1; /* once: it is a courtesy */
        return say(c, SLUICE_TLS_TYPE_ALERT, alert, sizeof(alert));
    }
    if (o->answer_due && (err = update(o, c)))
        return err;
    if (o->refusal_due) {
        static const uint8_t no_renegotiation[] = {ALERT_WARNING, 100};
        err = say(c, SLUICE_TLS_TYPE_ALERT, no_renegotiation, sizeof(no_renegotiation));
        o->refusal_due = err == -EAGAIN;
        if (err)
            return err;
    }
    return o->notify_due && last ? notify(o, c) : 0;
}
