/*
 * Another connection on the same loop, whatever happens to the first: its peer sends, its upstream
 * sends that back, byte by byte the same; when it breaks, the next one begins at once.
 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SENT_MAX  200u
#define TURNS_MAX 20000u /* for what was sent to come back */

struct neighbour {
    struct sluice_channel *ch;
    struct sluice_transport *transport;
    struct sluice_client *upstream;
    int listener, peer;
    uint32_t connection;
    uint8_t sent, taken, come; /* the next byte: of the peer, at the upstream, back at the peer */
    uint32_t outstanding, waited; /* bytes on their way; turns since */
    uint64_t round_trips;
};

struct neighbour *neighbour_open(struct world *w)
{
    struct neighbour *n = calloc(1, sizeof(*n));
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536, .metadata_entries = 64};
    const struct sluice_transport_config transport_cfg = {
        .reconnect = true, .retry_first_ns = 1000, .retry_max_ns = 1000};
    RULE(w, n != NULL);
    n->listener = sim_listen(w->loop->be, 1, 81, SLUICE_SIM_OPEN);
    n->peer = -1;
    RULE(w, sluice_channel_create(&n->ch, &cfg) == 0);
    RULE(w,
         sluice_transport_create(&n->transport, w->loop, n->ch, &transport_cfg, NULL, NULL) == 0);
    RULE(w, sluice_attach_local(&n->upstream, n->ch, SLUICE_UPSTREAM) == 0);
    RULE(w, sluice_transport_connect(n->transport, "tcp://10.0.0.1:81") == 0);
    return n;
}

static void echo(struct world *w, struct neighbour *n, const struct sluice_meta *m)
{
    void *room;
    const uint8_t *bytes = sluice_inbox_at(n->upstream, m->msg_inbox_offset);
    for (uint32_t i = 0; i < m->decrypted_len; i++)
        RULE(w, bytes[i] == n->taken++);
    RULE(w, sluice_outbox_claim(n->upstream, m->decrypted_len, &room) == 0);
    memcpy(room, bytes, m->decrypted_len);
    sluice_outbox_commit(n->upstream, n->connection, SLUICE_MESSAGE_DATA);
}

static void be_upstream(struct world *w, struct neighbour *n)
{
    const struct sluice_meta *m;
    int64_t count = sluice_inbox_peek(n->upstream, &m, 64);
    RULE(w, count >= 0);
    for (int64_t i = 0; i < count; i++) {
        if (m[i].event == SLUICE_EVENT_DATA)
            echo(w, n, &m[i]);
        else if (m[i].event == SLUICE_EVENT_CONNECTED) {
            n->taken = 0;
            n->connection = m[i].connection; /* an answer is for it, even when it is over by now */
        }
    }
    RULE(w, sluice_inbox_release(n->upstream, (uint32_t)count) == 0);
}

/* The one before may have broken before it was accepted. */
static void meet(struct world *w, struct neighbour *n)
{
    n->peer = sluice_sim_accept(w->loop->be, n->listener);
    n->sent = n->come = 0;
    n->outstanding = n->waited = 0;
}

static void part(struct world *w, struct neighbour *n)
{
    sluice_sim_peer_reset(w->loop->be, n->peer);
    n->peer = -1;
}

static void be_peer(struct world *w, struct neighbour *n)
{
    uint8_t bytes[SENT_MAX];
    ssize_t got = sluice_sim_peer_recv(w->loop->be, n->peer, bytes, sizeof(bytes));
    if (got == 0 || got == -ECONNRESET) {
        part(w, n);
        return;
    }
    for (ssize_t i = 0; i < got; i++)
        RULE(w, bytes[i] == n->come++);
    n->outstanding -= got > 0 ? (uint32_t)got : 0;
    if (n->outstanding) {
        RULE(w, ++n->waited < TURNS_MAX);
        return;
    }
    n->round_trips += n->waited > 0;
    n->waited = 0;
    uint32_t count = 1 + world_random(w, SENT_MAX);
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(n->sent + i);
    ssize_t took = sluice_sim_peer_send(w->loop->be, n->peer, bytes, count);
    if (took > 0) {
        n->sent = (uint8_t)(n->sent + took);
        n->outstanding = (uint32_t)took;
    } else if (took != -EAGAIN)
        part(w, n);
}

void neighbour_step(struct world *w, struct neighbour *n)
{
    be_upstream(w, n);
    if (n->peer < 0)
        meet(w, n);
    if (n->peer >= 0)
        be_peer(w, n);
}

void neighbour_close(struct world *w, struct neighbour *n)
{
    RULE(w, n->round_trips > 0);
    sluice_detach(n->upstream);
    sluice_transport_destroy(n->transport);
    sluice_channel_destroy(n->ch);
    free(n);
}
