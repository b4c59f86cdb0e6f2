/*
 * TLS of a connection in the kernel: the handshake read record by record, the moment when the
 * kernel takes over, and the records it leaves to us. Bytes go the way of a plain connection then.
 * The rules are offload.h's.
 */
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <string.h>

/* ---- the handshake ---- */

/* A loop asks a kernel without the module but once: looking for one is slow. */
int sluice_conn_offload_begin(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    int err =
        sluice_offload_prepare(&tls->offload, &c->life, tls->session, c->ktls,
                               c->conns->no_kernel_tls ? "this kernel has no tls module" : NULL);
    c->conns->no_kernel_tls |= err == -ENOENT;
    return err == -EPROTO ? err : 0;
}

static size_t record_bytes(const struct conn_tls *tls)
{
    return SLUICE_TLS_HEADER_BYTES + ((size_t)tls->head[3] << 8 | tls->head[4]);
}

/* Of the header, while that is not whole. */
static size_t lacking(const struct conn_tls *tls)
{
    bool has_header = tls->record_at >= SLUICE_TLS_HEADER_BYTES;
    return (has_header ? record_bytes(tls) : SLUICE_TLS_HEADER_BYTES) - tls->record_at;
}

void sluice_conn_offload_note(struct sluice_conn *c, const struct sluice_buf *buf)
{
    struct conn_tls *tls = c->tls;
    if (!tls->offload.by_record)
        return;
    SLUICE_CHECK(buf->bytes <= lacking(tls)); /* never more than was asked for */
    if (tls->record_at < SLUICE_TLS_HEADER_BYTES)
        memcpy(tls->head + tls->record_at, buf->data, buf->bytes);
    tls->record_at += (uint32_t)buf->bytes;
    if (tls->record_at >= SLUICE_TLS_HEADER_BYTES && tls->record_at == record_bytes(tls))
        tls->record_at = 0;
}

/* A header, then the rest of its record: what follows the handshake is for the kernel to decrypt.
 * False: nothing until it has the keys. */
bool sluice_conn_offload_arm(struct sluice_conn *c)
{
    const struct conn_tls *tls = c->tls;
    if (!tls->offload.by_record)
        return true;
    if (tls->session->state != SLUICE_TLS_HANDSHAKE)
        return false;
    c->recv_op.flags = SLUICE_OP_POOLED;
    c->recv_op.recv.bytes = lacking(tls);
    return true;
}

bool sluice_conn_offload_start(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    if (!tls->offload.by_record || tls->session->state != SLUICE_TLS_OPEN)
        return false;
    SLUICE_CHECK(!c->receiving);
    if (sluice_offload_start(&tls->offload, &c->life) == -EPROTO) {
        tls->error = tls->session->error;
        sluice_life_close(&c->life, tls->error.reason, 0);
        return true;
    }
    bool of_records = tls->offload.in_kernel;
    c->recv_op.flags = SLUICE_OP_MULTI | SLUICE_OP_POOLED | (of_records ? SLUICE_OP_RECORDS : 0);
    sluice_life_secured(&c->life);
    return true;
}

/* ---- records without data ---- */

/* In its place among the bytes: all before it was delivered. */
static void take_control(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    c->in = IN_OPEN;
    c->heard_ns = c->conns->loop->now_ns;
    sluice_conn_tls_forgive(c);
    sluice_conns_due(c, DUE_SEND); /* an answer, or an alert */
    if (sluice_offload_control(&tls->offload, &c->life))
        sluice_conn_tls_fail(c, &tls->session->error);
    else if (tls->session->closed & SLUICE_TLS_CLOSED_BY_PEER)
        sluice_conn_told_end(c);
}

bool sluice_conn_offload_ended(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    if (!tls->offload.in_kernel)
        return false;
    if (c->in_error == -EIO) {
        take_control(c);
        return true;
    }
    if (!sluice_offload_verdict(&tls->offload, -c->in_error))
        return false;
    sluice_conn_tls_fail(c, &tls->session->error);
    return true;
}

/* The verdict was told to a SEND, some of which may have left: nothing is sent any more. */
void sluice_conn_offload_refused(struct sluice_conn *c)
{
    struct conn_tls *tls = c->tls;
    if (tls->error.reason || !sluice_offload_verdict(&tls->offload, EBADMSG))
        return;
    tls->error = tls->session->error;
    c->end = tls->error.reason;
}

int sluice_conn_offload_say(struct sluice_conn *c, bool last)
{
    struct conn_tls *tls = c->tls;
    if (!tls->offload.in_kernel)
        return 0;
    int err = sluice_offload_say(&tls->offload, &c->life, last);
    if (err == -EPROTO)
        sluice_conn_tls_fail(c, &tls->session->error);
    return err == -EAGAIN ? err : 0;
}

bool sluice_conn_offload_notify(struct sluice_conn *c)
{
    struct sluice_offload *o = &c->tls->offload;
    const struct sluice_tls_session *s = o->session;
    o->notify_due |= s->state == SLUICE_TLS_OPEN && !(s->closed & SLUICE_TLS_CLOSED_BY_US);
    return o->notify_due || o->alert_due >= 0;
}
