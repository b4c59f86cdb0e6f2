/*
 * The rx path: the kernel receives straight into the inbox; each completion is published as one
 * entry. An inbox that is full arms no receive, so the TCP window closes.
 */
#include "paths.h"
#include "base/check.h"

#include <errno.h>

static void on_recv(struct sluice_op *op, int32_t result, bool more);

int sluice_rx_init(struct sluice_rx *rx, struct sluice_conn *conn, struct sluice_channel *ch,
                   enum sluice_receive how, const struct sluice_rx_events *events, void *user)
{
    struct sluice_backend *be = conn->loop->be;
    *rx = (struct sluice_rx){.conn = conn, .ch = ch, .events = events, .user = user};
    rx->region = (struct sluice_region){.base = ch->inbox.base,
                                        .bytes = ch->inbox.bytes,
                                        .pos = ch->inbox.tail,
                                        .one_shot = how == SLUICE_RECEIVE_ONE_SHOT};
    sluice_op_init(&rx->op, SLUICE_OP_RECV, on_recv);
    return be->ops->region_open(be, &rx->region);
}

void sluice_rx_fini(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->conn->loop->be;
    SLUICE_CHECK(!rx->armed);
    be->ops->region_close(be, &rx->region);
}

/* At most half of the inbox is lent ahead: observers always have the other half to read. */
static uint64_t lend(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->conn->loop->be;
    uint64_t limit = sluice_inbox_limit(rx->ch);
    uint64_t window = rx->region.pos + rx->region.bytes / 2;
    if (limit > window)
        limit = window;
    sluice_inbox_lend(rx->ch, limit);
    return be->ops->region_lend(be, &rx->region, limit) - rx->region.pos;
}

static bool arm(struct sluice_rx *rx)
{
    if (rx->armed || rx->eof || !sluice_conn_is_live(rx->conn))
        return false;
    if (lend(rx) == 0) {
        if (!rx->stalled)
            sluice_count(rx->ch, SLUICE_COUNTER_inbox_full_stalls, 1);
        rx->stalled = true;
        return false;
    }
    rx->stalled = false;
    rx->op.region = &rx->region;
    rx->op.flags = SLUICE_OP_MULTI;
    rx->armed = sluice_conn_begin(rx->conn, &rx->op) == 0; /* no room for an op: the next turn */
    return rx->armed;
}

void sluice_rx_start(struct sluice_rx *rx)
{
    SLUICE_CHECK(rx->region.pos == rx->ch->inbox.tail);
    rx->eof = rx->stalled = false;
    rx->received_bytes = 0;
    arm(rx);
}

void sluice_rx_stop(struct sluice_rx *rx)
{
    if (rx->armed)
        rx->conn->loop->be->ops->cancel(rx->conn->loop->be, &rx->op);
}

static void arrived(struct sluice_rx *rx, uint32_t bytes)
{
    uint64_t seen = rx->conn->loop->poll_cycle;
    const struct sluice_meta stamps = {.first_nic_frame_poll_cycle = seen,
                                       .latest_nic_frame_poll_cycle = seen,
                                       .latest_raw_frame_poll_cycle = seen,
                                       .ssl_read_cycle = sluice_cycles()};
    rx->region.pos += bytes;
    rx->received_bytes += bytes;
    sluice_inbox_arrived(rx->ch, &stamps, bytes);
}

/* A SEND in flight may have been told of the reset in our place (backend.h, 10). */
static bool reset_unheard(const struct sluice_rx *rx)
{
    const struct sluice_conn *c = rx->conn;
    return c->state == SLUICE_CONN_OPEN &&
           sluice_loop_sockets(c->loop)->was_reset(c->loop->be, c->fd);
}

static void ended(struct sluice_rx *rx, int32_t result)
{
    if (result == 0 && reset_unheard(rx))
        result = -ECONNRESET;
    if (result == 0) {
        rx->eof = true;
        rx->events->eof(rx->user);
    } else if (result == -ENOBUFS) {
        sluice_count(rx->ch, SLUICE_COUNTER_buffer_starvations, 1);
    } else if (result != -ECANCELED) {
        rx->events->failed(rx->user, -result);
    }
}

static void on_recv(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_rx *rx = SLUICE_CONTAINER_OF(op, struct sluice_rx, op);
    struct sluice_conn *conn = rx->conn;
    if (!more)
        rx->armed = false;
    if (result > 0)
        arrived(rx, (uint32_t)result);
    else
        ended(rx, result);
    arm(rx);
    if (!more)
        sluice_conn_end(conn);
}

bool sluice_rx_work(struct sluice_rx *rx)
{
    bool did = rx->ch->inbox.has_pending && sluice_inbox_flush_pending(rx->ch);
    return arm(rx) || did;
}
