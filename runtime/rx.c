/*
 * The rx path: the kernel receives straight into the inbox; each completion is published as one
 * entry. An inbox that is full arms no receive, so the TCP window closes. With TLS the kernel
 * receives into a ring of ciphertext, and records are decrypted straight into the inbox.
 */
#include "paths.h"
#include "base/check.h"
#include "rings/entry.h"

#include <errno.h>

static void on_recv(struct sluice_op *op, int32_t result, bool more);
static bool decrypt(struct sluice_rx *rx);
static bool arm(struct sluice_rx *rx);

int sluice_rx_init(struct sluice_rx *rx, struct sluice_life *life, struct sluice_channel *ch,
                   struct sluice_secure *secure, enum sluice_receive how,
                   const struct sluice_rx_events *events, void *user)
{
    struct sluice_backend *be = life->loop->be;
    *rx = (struct sluice_rx){.life = life,
                             .loop = life->loop,
                             .ch = ch,
                             .secure = secure,
                             .events = events,
                             .user = user};
    rx->region = (struct sluice_region){.base = ch->inbox.base,
                                        .bytes = ch->inbox.bytes,
                                        .pos = ch->inbox.tail,
                                        .one_shot = how == SLUICE_RECEIVE_ONE_SHOT};
    if (life->cfg->timestamps) {
        rx->region.one_shot = true;
        rx->region.stamp = &rx->packets.wire;
    }
    sluice_op_init(&rx->op, SLUICE_OP_RECV, on_recv);
    return be->ops->region_open(be, &rx->region);
}

void sluice_rx_fini(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->life->loop->be;
    SLUICE_CHECK(!rx->armed);
    if (rx->raw.base)
        be->ops->region_close(be, &rx->raw);
    be->ops->region_close(be, &rx->region);
}

int sluice_rx_open_raw(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->life->loop->be;
    struct sluice_region raw = {.base = rx->secure->raw,
                                .bytes = SECURE_RAW_BYTES,
                                .one_shot = rx->region.one_shot,
                                .stamp = rx->region.stamp};
    rx->raw = raw;
    int err = be->ops->region_open(be, &rx->raw);
    if (err)
        rx->raw.base = NULL;
    return err;
}

struct sluice_region *sluice_rx_region(struct sluice_rx *rx)
{
    return sluice_rx_takes_inbox(rx) ? &rx->region : &rx->raw;
}

/* ---- receiving ---- */

/* At most half of the inbox is lent ahead: observers always have the other half to read. */
static uint64_t inbox_limit(struct sluice_rx *rx)
{
    uint64_t limit = sluice_inbox_limit(rx->ch);
    uint64_t window = rx->ch->inbox.tail + rx->ch->inbox.bytes / 2;
    return limit < window ? limit : window;
}

static uint64_t lend(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->loop->be;
    struct sluice_region *region = sluice_rx_region(rx);
    uint64_t limit;
    if (region == &rx->raw) {
        limit = sluice_secure_at(&rx->secure->raw_head) + SECURE_RAW_BYTES;
    } else {
        limit = inbox_limit(rx);
        sluice_inbox_lend(rx->ch, limit);
    }
    return be->ops->region_lend(be, region, limit) - region->pos;
}

static void stall(struct sluice_rx *rx)
{
    if (!rx->stalled)
        sluice_count(rx->ch, SLUICE_COUNTER_inbox_full_stalls, 1);
    rx->stalled = true;
}

/* Not a byte beyond the record: what follows the handshake is for the kernel to decrypt. */
static void prepare_record(struct sluice_rx *rx)
{
    struct sluice_secure *s = rx->secure;
    rx->op.region = NULL;
    rx->op.flags = 0;
    rx->op.recv.addr = s->raw + (sluice_secure_at(&s->raw_tail) & (SECURE_RAW_BYTES - 1));
    rx->op.recv.bytes = sluice_secure_lacks(s);
}

static bool prepare_region(struct sluice_rx *rx)
{
    bool full = lend(rx) == 0;
    if (!sluice_rx_takes_inbox(rx))
        rx->raw_full = full;
    else if (full)
        stall(rx);
    else
        rx->stalled = false;
    rx->op.region = sluice_rx_region(rx);
    rx->op.flags = SLUICE_OP_MULTI | (rx->secure->offload.in_kernel ? SLUICE_OP_RECORDS : 0);
    return !full;
}

bool sluice_rx_arm(struct sluice_rx *rx)
{
    if (!rx->away.out)
        return arm(rx);
    if (rx->armed || !prepare_region(rx))
        return false;
    rx->op.fd = rx->away.fd;
    rx->op.file = rx->away.file;
    rx->armed = rx->loop->be->ops->submit(rx->loop->be, &rx->op) == 0;
    return rx->armed;
}

static bool arm(struct sluice_rx *rx)
{
    const struct sluice_secure *s = rx->secure;
    if (rx->away.out || rx->armed || rx->eof || rx->socket_eof || !sluice_life_receives(rx->life))
        return false;
    if (rx->away.thread && sluice_life_is_live(rx->life)) {
        sluice_away_leave(rx);
        return true;
    }
    if (s->offload.by_record && s->session->state != SLUICE_TLS_HANDSHAKE)
        return false; /* until the kernel has the keys */
    if (s->offload.by_record && sluice_secure_lacks(s) == 0)
        return false; /* until there is room for what the session answers */
    if (s->offload.by_record)
        prepare_record(rx);
    else if (!prepare_region(rx))
        return false;
    rx->armed = sluice_life_begin(rx->life, &rx->op) == 0; /* no room for an op: the next turn */
    return rx->armed;
}

/* The kernel's buffers start anew where its ring was filled without them: the inbox by decrypting,
 * the ring of ciphertext record by record. */
static int follow(struct sluice_rx *rx, struct sluice_region *region, uint64_t pos)
{
    struct sluice_backend *be = rx->life->loop->be;
    if (region->pos == pos)
        return 0;
    be->ops->region_close(be, region);
    region->pos = pos;
    return be->ops->region_open(be, region);
}

int sluice_rx_start(struct sluice_rx *rx)
{
    bool tls = sluice_secure_is_on(rx->secure);
    int err = tls ? follow(rx, &rx->raw, sluice_secure_at(&rx->secure->raw_tail))
                  : follow(rx, &rx->region, rx->ch->inbox.tail);
    if (err)
        return err;
    rx->eof = rx->socket_eof = rx->stalled = false;
    rx->received_bytes = 0;
    sluice_packets_start(&rx->packets);
    if (tls)
        decrypt(rx); /* a client speaks first */
    arm(rx);
    return 0;
}

void sluice_rx_stop(struct sluice_rx *rx)
{
    if (rx->away.out)
        sluice_away_recall(rx);
    else if (rx->armed)
        rx->loop->be->ops->cancel(rx->loop->be, &rx->op);
}

/* Of ciphertext that another thread received the last packet's time is all that is known here. */
static void stamp(struct sluice_rx *rx, struct sluice_meta *stamps)
{
    bool elsewhere = rx->away.out && !sluice_rx_takes_inbox(rx);
    const struct sluice_packets *p = &rx->packets;
    stamps->latest_nic_timestamp_ns =
        elsewhere ? atomic_load_explicit(&rx->away.stamp_ns, memory_order_relaxed) : p->last_ns;
    if (!elsewhere) {
        stamps->first_nic_timestamp_ns = p->first_ns;
        stamps->nic_packet_ct = (uint16_t)(p->count > UINT16_MAX ? UINT16_MAX : p->count);
    }
    if (stamps->latest_nic_timestamp_ns)
        stamps->flags |= rx->life->cfg->timestamps == SLUICE_TIMESTAMPS_HARDWARE
                             ? SLUICE_META_STAMP_HW
                             : SLUICE_META_STAMP_SW;
}

/* A receive of so many bytes; some of what came before it may still wait to be decrypted. */
static void note_packets(struct sluice_rx *rx, uint32_t bytes)
{
    const struct sluice_secure *s = rx->secure;
    bool more =
        sluice_secure_is_on(s) && sluice_secure_at(&s->raw_head) != sluice_secure_at(&s->raw_tail);
    if (more)
        sluice_packets_add(&rx->packets, rx->loop, rx->op.fd, bytes);
    else
        sluice_packets_note(&rx->packets, rx->loop, rx->op.fd, bytes);
}

/* seen: when the completion was taken. raw_cycle: just before the bytes were read or decrypted. */
static void arrived(struct sluice_rx *rx, uint32_t bytes, uint64_t seen, uint64_t raw_cycle,
                    uint8_t flags)
{
    struct sluice_meta stamps = {.first_nic_frame_poll_cycle = seen,
                                 .latest_nic_frame_poll_cycle = seen,
                                 .latest_raw_frame_poll_cycle = raw_cycle,
                                 .ssl_read_cycle = sluice_cycles(),
                                 .flags = flags};
    if (rx->life->cfg->timestamps)
        stamp(rx, &stamps);
    rx->received_bytes += bytes;
    sluice_inbox_arrived(rx->ch, &stamps, bytes);
}

/* ---- TLS ---- */

/* One step of the handshake: true when data may follow. */
static bool shake_hands(struct sluice_rx *rx, struct sluice_tls_input *in)
{
    struct sluice_secure *s = rx->secure;
    if (!sluice_life_receives(rx->life)) /* it closes: this came before its RECV had ended */
        return false;
    uint64_t end = sluice_secure_at(&s->raw_head) + in->bytes;
    int rc = s->provider->handshake(s->session, in);
    sluice_secure_move(&s->raw_head, end - in->bytes);
    if (rc == 0)
        rx->events->secured(rx->user);
    else if (rc == -EPROTO)
        rx->events->tls_failed(rx->user);
    return rc == 0 && sluice_life_is_live(rx->life);
}

/* Home may not have polled since the other thread saw what is decrypted here. */
static uint64_t seen_cycle(const struct sluice_rx *rx)
{
    uint64_t there = atomic_load_explicit(&rx->away.seen_cycle, memory_order_relaxed);
    return rx->away.out || there > rx->loop->poll_cycle ? there : rx->loop->poll_cycle;
}

/* One record, or what there is room for: -EAGAIN for want of more, -ENOBUFS of room, else the end.
 */
static ssize_t read_record(struct sluice_rx *rx, struct sluice_tls_input *in)
{
    struct sluice_secure *s = rx->secure;
    struct sluice_inbox *inbox = &rx->ch->inbox;
    uint64_t room = inbox_limit(rx) - inbox->tail;
    if (room == 0 && in->bytes == 0 && s->session->pending == 0)
        return -EAGAIN;
    if (room == 0) {
        stall(rx);
        return -ENOBUFS;
    }
    if (room > SLUICE_TLS_RECORD_MAX)
        room = SLUICE_TLS_RECORD_MAX;
    sluice_inbox_lend(rx->ch, inbox->tail + room);
    uint64_t before = sluice_cycles(), end = sluice_secure_at(&s->raw_head) + in->bytes;
    ssize_t n = s->provider->read(s->session, in, inbox->base + (inbox->tail & (inbox->bytes - 1)),
                                  (size_t)room);
    sluice_secure_move(&s->raw_head, end - in->bytes);
    if (n > 0)
        arrived(rx, (uint32_t)n, seen_cycle(rx), before,
                s->session->pending ? 0 : SLUICE_META_RECORD_END);
    return n;
}

/* Everything that came, as far as the inbox has room. */
static bool decrypt(struct sluice_rx *rx)
{
    struct sluice_secure *s = rx->secure;
    struct sluice_tls_input in = sluice_secure_window(s);
    bool did = false;
    ssize_t n = -EAGAIN;
    rx->raw_seen = sluice_secure_at(&s->raw_head) + in.bytes;
    if (rx->eof || s->session->state == SLUICE_TLS_FAILED)
        return false;
    rx->stalled = false;
    if (s->session->state == SLUICE_TLS_OPEN || shake_hands(rx, &in))
        while ((n = read_record(rx, &in)) > 0)
            did = true;
    if (n == 0) {
        rx->eof = true;
        rx->events->eof(rx->user);
    } else if (n == -EPROTO) {
        rx->events->tls_failed(rx->user);
    } else if (n == -EAGAIN && rx->socket_eof && s->session->state != SLUICE_TLS_FAILED) {
        sluice_tls_eof(s->session);
        rx->events->tls_failed(rx->user);
    }
    if (rx->away.out)
        sluice_away_release(rx);
    return did;
}

/* ---- completions ---- */

static void received(struct sluice_rx *rx, uint32_t bytes)
{
    struct sluice_secure *s = rx->secure;
    if (rx->op.region)
        rx->op.region->pos += bytes;
    if (rx->life->cfg->timestamps)
        note_packets(rx, bytes);
    if (sluice_rx_takes_inbox(rx)) {
        arrived(rx, bytes, rx->loop->poll_cycle, rx->loop->poll_cycle, 0);
        return;
    }
    sluice_secure_move(&s->raw_tail, sluice_secure_at(&s->raw_tail) + bytes);
    if (rx->away.out)
        sluice_away_tell(rx);
    else if (!s->offload.by_record || sluice_secure_lacks(s) == 0)
        decrypt(rx);
}

/* What follows in the stream is no data. */
static void take_control(struct sluice_rx *rx)
{
    const struct sluice_tls_session *session = rx->secure->session;
    if (sluice_offload_control(&rx->secure->offload, rx->life)) {
        rx->socket_eof = true; /* the kernel would go on: nothing behind it is delivered */
        rx->events->tls_failed(rx->user);
    } else if (session->closed & SLUICE_TLS_CLOSED_BY_PEER) {
        rx->eof = true;
        rx->events->eof(rx->user);
    }
}

/* The kernel that decrypts says it with errors of its own: true when this was one of them. */
static bool ended_in_kernel(struct sluice_rx *rx, int32_t result)
{
    struct sluice_secure *s = rx->secure;
    if (!s->offload.in_kernel)
        return false;
    if (result == -EIO) {
        take_control(rx);
        return true;
    }
    if (result == 0)
        sluice_tls_eof(s->session);
    else if (!sluice_offload_verdict(&s->offload, -result))
        return false;
    rx->socket_eof = true;
    rx->events->tls_failed(rx->user);
    return true;
}

/* A SEND in flight may have been told of the reset in our place (backend.h, 10). */
static bool reset_unheard(const struct sluice_rx *rx)
{
    const struct sluice_life *c = rx->life;
    return c->state == SLUICE_CONN_OPEN &&
           sluice_loop_sockets(c->loop)->was_reset(c->loop->be, c->fd);
}

void sluice_rx_ended(struct sluice_rx *rx, int32_t result)
{
    if (sluice_secure_is_on(rx->secure) && rx->raw_seen != sluice_secure_at(&rx->secure->raw_tail))
        decrypt(rx); /* what came before the end, elsewhere */
    if (result == 0 && reset_unheard(rx))
        result = -ECONNRESET;
    if (ended_in_kernel(rx, result))
        return;
    if (result == 0 && sluice_secure_is_on(rx->secure)) {
        rx->socket_eof = true;
        decrypt(rx);
    } else if (result == 0) {
        rx->eof = true;
        rx->events->eof(rx->user);
    } else if (result != -ECANCELED) {
        rx->events->failed(rx->user, -result);
    }
}

static void on_recv(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_rx *rx = SLUICE_CONTAINER_OF(op, struct sluice_rx, op);
    struct sluice_life *life = rx->life;
    bool out = rx->away.out;
    if (!more)
        rx->armed = false;
    if (result > 0)
        received(rx, (uint32_t)result);
    else if (result == -ENOBUFS) /* it is armed again when there is room */
        sluice_count(rx->ch, SLUICE_COUNTER_buffer_starvations, 1);
    else if (out)
        sluice_away_ended(rx, result);
    else
        sluice_rx_ended(rx, result);
    if (out)
        return; /* away.c arms it, when there is nothing to come back for */
    arm(rx);
    if (!more)
        sluice_life_end(life);
}

/* Decrypting had stopped, and what stopped it is gone: room in the inbox, or in the output. */
static bool may_go_on(struct sluice_rx *rx)
{
    const struct sluice_secure *s = rx->secure;
    uint64_t tail = sluice_secure_at(&s->raw_tail);
    bool left = s->offload.by_record
                    ? sluice_secure_lacks(s) == 0
                    : sluice_secure_at(&s->raw_head) != tail || s->session->pending;
    if (rx->away.out && rx->raw_seen != tail)
        return sluice_life_receives(rx->life); /* nobody else tells */
    return sluice_life_receives(rx->life) && left &&
           (rx->stalled ? inbox_limit(rx) > rx->ch->inbox.tail
                        : rx->secure->session->out_head == rx->secure->session->out_tail);
}

bool sluice_rx_work(struct sluice_rx *rx)
{
    if (rx->ch->inbox.away)
        return false; /* with the inbox */
    bool did = rx->ch->inbox.has_pending && sluice_inbox_flush_pending(rx->ch);
    if (sluice_secure_is_on(rx->secure) && may_go_on(rx))
        did |= decrypt(rx);
    return arm(rx) || did;
}
