/*
 * TLS of a connection, in user space (the kernel's is conn_offload.c's): ciphertext out of leased
 * buffers, plaintext into others, and what is written straight into the ring that is sent from. The
 * rules are tls/tls.h's.
 */
#include "conns.h"
#include "base/check.h"
#include "rings/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALERT_TIMEOUT_NS (100 * SLUICE_NS_PER_MS)

/* ---- contexts ---- */

int sluice_tls_create(struct sluice_tls **out, const struct sluice_tls_config *cfg,
                      const char *provider, char *why, size_t why_bytes)
{
    struct sluice_tls_error error = {.alert = -1};
    *out = NULL;
    struct sluice_tls *tls = calloc(1, sizeof(*tls));
    if (!tls)
        return -ENOMEM;
    tls->role = cfg->role;
    tls->provider = sluice_tls_find(provider);
    if (!tls->provider) {
        free(tls);
        return sluice_conns_refuse(why, why_bytes, -ENOTSUP,
                                   "no such TLS provider in this build: %s", provider);
    }
    int err = tls->provider->context_create(&tls->ctx, cfg, &error);
    if (err) {
        free(tls);
        return sluice_conns_refuse(why, why_bytes, err, "%s", error.text);
    }
    *out = tls;
    return 0;
}

void sluice_tls_destroy(struct sluice_tls *tls)
{
    if (!tls)
        return;
    tls->provider->context_destroy(tls->ctx);
    free(tls);
}

/* ---- memory ---- */

/* Twice the queue: a full one, encrypted, has room. */
static size_t ring_bytes(const struct sluice_conns *conns)
{
    size_t bytes = 2 * (size_t)conns->queue_bytes;
    return bytes < SLUICE_TLS_OUTPUT_MIN ? SLUICE_TLS_OUTPUT_MIN : bytes;
}

static struct conn_tls *make(struct sluice_conns *conns)
{
    struct conn_tls *tls = calloc(1, sizeof(*tls));
    if (!tls)
        return NULL;
    int fd = sluice_memory_create("sluice-tls", ring_bytes(conns));
    if (fd >= 0) {
        tls->out = sluice_memory_map_twice(fd, 0, ring_bytes(conns), MAP_TO_WRITE);
        close(fd);
    }
    if (tls->out)
        return tls;
    free(tls);
    return NULL;
}

static struct conn_tls *take(struct sluice_conns *conns)
{
    struct conn_tls *tls = conns->tls_free;
    if (!tls)
        return make(conns);
    conns->tls_free = tls->next;
    uint8_t *out = tls->out;
    *tls = (struct conn_tls){.out = out};
    return tls;
}

void sluice_conn_tls_end(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    if (!tls)
        return;
    if (tls->session)
        tls->provider->session_destroy(tls->session);
    tls->session = NULL;
    tls->next = c->conns->tls_free;
    c->conns->tls_free = tls;
    c->tls = NULL;
}

void sluice_conns_tls_fini(struct sluice_conns *conns)
{
    while (conns->tls_free) {
        struct conn_tls *tls = conns->tls_free;
        conns->tls_free = tls->next;
        sluice_memory_unmap(tls->out, 2 * ring_bytes(conns));
        free(tls);
    }
    sluice_tls_destroy(conns->tls_default);
}

/* ---- the end ---- */

/* The alert that tells the peer why leaves first. */
void sluice_conn_tls_fail(struct sluice_conn *c, const struct sluice_tls_error *error)
{
    if (error != &c->tls->error)
        c->tls->error = *error;
    c->end = error->reason;
    sluice_conn_leave(c, ALERT_TIMEOUT_NS);
}

void sluice_conn_tls_eof(struct sluice_conn *c)
{
    struct sluice_tls_session *s = c->tls->session;
    if (sluice_tls_eof(s))
        sluice_conn_tls_fail(c, &s->error);
    else
        sluice_conn_told_end(c);
}

bool sluice_conn_tls_notify(struct sluice_conn *c)
{
    struct sluice_tls_session *s = c->tls->session;
    if (c->tls->offload.in_kernel)
        return sluice_conn_offload_notify(c);
    if (!s || s->state != SLUICE_TLS_OPEN || (s->closed & SLUICE_TLS_CLOSED_BY_US))
        return false;
    return c->tls->provider->close(s) == 0; /* the queue is empty: there is room */
}

/* ---- receiving ---- */

/* The ciphertext that is due, from where it was left. */
static struct sluice_tls_input window(const struct sluice_conn *c)
{
    const struct sluice_lease *lease = c->held;
    if (!lease)
        return (struct sluice_tls_input){.data = NULL};
    return (struct sluice_tls_input){.data = lease->buf.data + c->tls->wire_at,
                                     .bytes = lease->buf.bytes - c->tls->wire_at};
}

/* What a call took; a buffer that was taken whole goes back. */
static void took(struct sluice_conn *c, const struct sluice_tls_input *in)
{
    if (!c->held)
        return;
    c->tls->wire_at = c->held->buf.bytes - in->bytes;
    if (in->bytes > 0)
        return;
    c->tls->wire_at = 0;
    sluice_buf_release(&sluice_conn_unhold(c)->buf);
}

/* Every call may leave something to be sent: an answer, an alert. */
static void note_output(struct sluice_conn *c)
{
    const uint8_t *data;
    if (sluice_tls_output(c->tls->session, &data) > 0)
        sluice_conns_due(c, DUE_SEND);
}

/* True: go on. */
static bool shake_hands(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    struct sluice_tls_input in = window(c);
    int rc = tls->provider->handshake(tls->session, &in);
    took(c, &in);
    note_output(c);
    tls->output_full = rc == -ENOBUFS;
    if (rc == -EPROTO)
        sluice_conn_tls_fail(c, &tls->session->error);
    if (rc == 0 && tls->offload.by_record)
        sluice_conns_due(c, DUE_SEND); /* open when all of the handshake has left */
    else if (rc == 0)
        sluice_life_secured(&c->life); /* the rest is due after on_open */
    return rc == -EAGAIN && c->held;
}

static bool read_record(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    struct sluice_lease *lease = sluice_lease_plain(c->conns);
    if (!lease) {
        sluice_conn_starve(c, LEASE_PLAIN);
        return false;
    }
    struct sluice_tls_input in = window(c);
    ssize_t n = tls->provider->read(tls->session, &in, (void *)(uintptr_t)lease->buf.data,
                                    SLUICE_TLS_RECORD_MAX);
    took(c, &in);
    note_output(c);
    tls->output_full = n == -ENOBUFS;
    if (n > 0) {
        lease->buf.bytes = (size_t)n;
        sluice_conn_deliver(c, lease);
        return true;
    }
    sluice_buf_release(&lease->buf);
    if (n == 0)
        sluice_conn_told_end(c);
    else if (n == -EPROTO)
        sluice_conn_tls_fail(c, &tls->session->error);
    return n == -EAGAIN;
}

/* Tickets and KeyUpdates without data between are limited to so many in a row: a rate, not a sum.
 */
void sluice_conn_tls_forgive(struct sluice_conn *c)
{
    uint64_t now = c->conns->loop->now_ns;
    if (now - c->tls->control_ns < SLUICE_NS_PER_S)
        return;
    c->tls->control_ns = now;
    c->tls->session->control_run = 0;
}

/* What could not be written until something was read is tried again. */
static void write_again(struct sluice_conn *c)
{
    c->tls->reads_first = false;
    sluice_conns_due(c, DUE_SEND);
    sluice_conn_tell_drained(c);
}

void sluice_conn_tls_receive(struct sluice_conn *c)
{
    struct sluice_tls_session *s = c->tls->session;
    bool go_on = true;
    sluice_conn_tls_forgive(c);
    while (go_on && s->state == SLUICE_TLS_HANDSHAKE && sluice_conn_has_unread(c))
        go_on = shake_hands(c);
    while (go_on && s->state == SLUICE_TLS_OPEN && sluice_conn_has_unread(c) && !c->paused &&
           c->in != IN_OVER && !sluice_conn_is_leaving(c)) {
        go_on = read_record(c);
        if (c->tls->reads_first)
            write_again(c);
    }
}

/* ---- sending ---- */

/* Chunk by chunk, as write() counts it: sluice_tls_has_room(). */
bool sluice_conn_tls_has_room(const struct sluice_conn *c, size_t bytes)
{
    const struct sluice_tls_session *s = c->tls->session;
    size_t chunks = bytes / SLUICE_TLS_RECORD_MAX + 1;
    size_t used = (size_t)(s->out_tail - s->out_head);
    return s->out_bytes - used >= bytes + bytes / 4 + 1024 * chunks;
}

ssize_t sluice_conn_tls_write(struct sluice_conn *c, const uint8_t *data, size_t bytes)
{
    struct conn_tls *tls = c->tls;
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = tls->provider->write(tls->session, data + done, bytes - done);
        tls->reads_first = n == -EINPROGRESS;
        if (n == -EINPROGRESS || n == -EAGAIN)
            break;
        if (n <= 0) {
            sluice_conn_tls_fail(c, &tls->session->error);
            return -EPIPE;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

bool sluice_conn_tls_pull(struct sluice_conn *c, struct sluice_send *send)
{
    ssize_t n = sluice_conn_tls_write(c, (const uint8_t *)send->data + send->taken,
                                      send->bytes - send->taken);
    send->taken += n > 0 ? (size_t)n : 0;
    return send->taken == send->bytes;
}

/* ---- the beginning ---- */

void sluice_conn_tls_begin(struct sluice_conn *c, const char *host)
{
    const struct sluice_tls *ctx = c->tls_ctx;
    c->tls = take(c->conns);
    if (!c->tls || sluice_leases_init_plain(c->conns)) {
        sluice_life_close(&c->life, SLUICE_REASON_LIMIT, ENOMEM);
        return;
    }
    c->tls->provider = ctx->provider;
    if (ctx->provider->session_create(&c->tls->session, ctx->ctx, host, c->tls->out,
                                      ring_bytes(c->conns), &c->tls->error)) {
        sluice_life_close(&c->life, c->tls->error.reason, 0);
        return;
    }
    if (sluice_conn_offload_begin(c)) {
        c->tls->error = c->tls->session->error;
        sluice_life_close(&c->life, c->tls->error.reason, 0);
        return;
    }
    c->tls->control_ns = c->conns->loop->now_ns;
    if (ctx->role == SLUICE_TLS_CLIENT)
        shake_hands(c); /* the first word is its own */
    if (!sluice_conn_is_leaving(c))
        sluice_conn_receive(c);
}

/* ---- facts ---- */

int sluice_conn_tls(const struct sluice_conn *c, struct sluice_tls_facts *out)
{
    SLUICE_CHECK(c->magic == CONN_MAGIC); /* a call after on_close */
    struct sluice_tls_info info;
    *out = (struct sluice_tls_facts){.provider = ""};
    if (!c->tls || !c->tls->session || c->tls->session->version == 0)
        return -ENOTCONN;
    c->tls->provider->info(c->tls->session, &info);
    *out = (struct sluice_tls_facts){.provider = c->tls->provider->name,
                                     .version = info.version,
                                     .cipher = info.cipher,
                                     .alpn = info.alpn,
                                     .verified = info.verified,
                                     .resumed = info.resumed,
                                     .ticket = info.ticket,
                                     .in_kernel = c->tls->offload.in_kernel,
                                     .where = c->tls->offload.where};
    snprintf(out->peer, sizeof(out->peer), "%s", info.peer);
    return 0;
}

const char *sluice_conn_why(const struct sluice_conn *c)
{
    SLUICE_CHECK(c->magic == CONN_MAGIC);
    return c->tls ? c->tls->error.text : "";
}
