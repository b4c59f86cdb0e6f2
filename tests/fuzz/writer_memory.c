/*
 * An engine on the simulated network and a client that lies, with what follows: steps of 12 bytes
 * write outbox records, indices and anything else into its memory, let it attach anew, and let the
 * engine take turns. Nothing but the connection may end; a producer that does not lie gets its
 * bytes out.
 */
#include "tests/fuzz/fuzz.h"
#include "base/log.h"
#include "loop.h"
#include "rings/client.h"
#include "tests/support/sim_net.h"

#define STEPS_MAX 100u
#define HONEST    0xa5u /* bytes of the one that does not lie; there are none of it elsewhere */

static const struct sluice_channel_config cfg = {.inbox_bytes = 65536,
                                                 .outbox_bytes = 65536,
                                                 .metadata_entries = 64,
                                                 .outbox_slots = 64,
                                                 .pongs_slots = 16};
static struct sluice_loop *loop;
static struct sluice_channel *ch;
static struct sluice_transport *transport;
static struct sluice_client *honest, *liar;
static int listener, peer;
static uint64_t honest_got;

static void set_up_once(void)
{
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY, .ops_max = 64};
    const struct sluice_transport_config transport_cfg = {.drain_timeout_ns = 1000};
    if (loop)
        return;
    sluice_log_set_level(SLUICE_LOG_ERROR); /* each lie is a warning */
    MUST(sluice_loop_create_on(&loop, &sluice_backend_sim, &loop_cfg, 1) == 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    MUST(sluice_channel_create(&ch, &cfg) == 0);
    MUST(sluice_transport_create(&transport, loop, ch, &transport_cfg, NULL, NULL) == 0);
    MUST(sluice_attach_local(&honest, ch, SLUICE_PRODUCER) == 0);
    listener = sim_listen(loop->be, 1, 80, SLUICE_SIM_OPEN);
}

/* ---- the world ---- */

static void peer_turn(void)
{
    static uint8_t got[65536];
    static const uint8_t piece[2000];
    ssize_t n = sluice_sim_peer_recv(loop->be, peer, got, sizeof(got));
    for (ssize_t i = 0; i < n; i++)
        honest_got += got[i] == HONEST;
    sluice_sim_peer_send(loop->be, peer, piece, sizeof(piece));
}

static void turns(unsigned n)
{
    while (n-- > 0) {
        MUST(sluice_loop_turn(loop) >= 0);
        if (peer < 0)
            peer = sluice_sim_accept(loop->be, listener);
        if (peer >= 0)
            peer_turn();
    }
}

static bool is_open(void)
{
    return atomic_load(&ch->shared->conn_state) == SLUICE_CONN_OPEN;
}

static void open_connection(void)
{
    peer = -1;
    if (sluice_transport_connect(transport, "tcp://10.0.0.1:80"))
        return; /* no room: entries that nobody releases */
    for (int i = 0; i < 100 && (!is_open() || peer < 0); i++)
        turns(1);
}

static void close_connection(void)
{
    sluice_transport_close(transport);
    for (int i = 0; i < 1000 && atomic_load(&ch->shared->conn_state) != SLUICE_CONN_CLOSED; i++)
        turns(1);
    MUST(atomic_load(&ch->shared->conn_state) == SLUICE_CONN_CLOSED);
    if (peer >= 0)
        sluice_sim_peer_reset(loop->be, peer);
}

static void show_hang_ups(void)
{
    sim_show_clients(loop->be, ch);
    turns(3);
}

static void put_honestly(unsigned messages)
{
    void *room;
    while (messages-- > 0 && sluice_outbox_claim(honest, 100, &room) == 0) {
        memset(room, HONEST, 100);
        sluice_outbox_commit(honest, 0, SLUICE_MESSAGE_DATA);
    }
}

/* ---- the liar ---- */

static void attach(enum sluice_role role)
{
    sluice_detach(liar);
    liar = NULL;
    show_hang_ups();
    int err = sluice_attach_local(&liar, ch, role);
    MUST(err == 0 || liar == NULL);
}

/* A record that may be true: its length, its type, its connection. */
static void put_record(struct producer *p, uint32_t number, uint64_t value)
{
    shared_u64 *words =
        (shared_u64 *)(void *)&p->slots[(p->slot_tail + number) & (p->slot_count - 1)];
    if (value >> 63)
        value = (value & 0xff000000001fff) | (uint64_t)atomic_load(&ch->shared->connection) << 32;
    atomic_store(&words[1], value);
}

static void move_tails(struct producer *p, uint32_t number, uint64_t value)
{
    bool near = number & 1;
    p->byte_tail = near ? p->byte_tail + value % (p->byte_count + 2) : value;
    p->slot_tail = near ? p->slot_tail + (number >> 1) % (p->slot_count + 2) : value >> 7;
    atomic_store(&p->tails->byte_tail, p->byte_tail);
    atomic_store(&p->tails->slot_tail, p->slot_tail);
}

static void move_heads(uint32_t number, uint64_t value)
{
    uint64_t meta_head = atomic_load(&liar->mine->meta_head) + number % 70;
    atomic_store(&liar->mine->meta_head, value >> 63 ? value : meta_head);
    atomic_store(&liar->mine->inbox_head, atomic_load(&liar->mine->inbox_head) + value % 70000);
}

static void lie(unsigned what, uint32_t number, uint64_t value)
{
    struct producer *p = what & 0x80 ? &liar->pongs : &liar->outbox;
    shared_u64 *words = liar->fixed;
    switch (what % 6) {
    case 0:
        atomic_store(&words[number % (liar->fixed_bytes / 8)], value);
        break;
    case 1:
        put_record(p, number, value);
        break;
    case 2:
        move_tails(p, number, value);
        break;
    case 3:
        move_heads(number, value);
        break;
    case 4:
        atomic_store(&liar->mine->request, value);
        break;
    default:
        atomic_store(&liar->mine->waiting, (uint32_t)value);
    }
}

static void step(unsigned what, uint32_t number, uint64_t value)
{
    if (what % 8 < 5 && liar)
        lie(what / 8, number, value);
    else if (what % 8 == 5)
        attach(value & 1 ? SLUICE_UPSTREAM : SLUICE_PRODUCER);
    else if (what % 8 == 6)
        put_honestly(number % 4);
    else
        turns(1 + number % 3);
    MUST(ch->writers[honest->index].state == WRITER_ATTACHED);
}

/* ---- afterwards ---- */

static void release_all(struct sluice_client *up)
{
    const struct sluice_meta *m;
    int64_t n;
    while ((n = sluice_inbox_peek(up, &m, 64)) > 0)
        MUST(sluice_inbox_release(up, (uint32_t)n) == 0);
    MUST(n == 0);
}

static void go_on(void)
{
    struct sluice_client *up;
    sluice_detach(liar);
    liar = NULL;
    show_hang_ups();
    close_connection();
    MUST(sluice_attach_local(&up, ch, SLUICE_UPSTREAM) == 0);
    release_all(up);
    open_connection();
    if (!is_open()) { /* it had committed the end of a connection, and left */
        close_connection();
        release_all(up);
        open_connection();
    }
    MUST(is_open());
    turns(20);
    honest_got = 0;
    put_honestly(10);
    for (int i = 0; i < 200 && honest_got < 1000; i++)
        turns(1);
    MUST(honest_got == 1000);
    release_all(up);
    sluice_detach(up);
    show_hang_ups();
    close_connection();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input in = {data, bytes};
    set_up_once();
    open_connection();
    attach(fuzz_take(&in, 1) & 1 ? SLUICE_UPSTREAM : SLUICE_PRODUCER);
    for (unsigned i = 0; i < STEPS_MAX && in.left >= 12; i++) {
        unsigned what = (unsigned)fuzz_take(&in, 1);
        uint32_t number = (uint32_t)fuzz_take(&in, 3);
        step(what, number, fuzz_take(&in, 8));
        if (!is_open())
            break; /* the next connection is go_on()'s */
    }
    go_on();
    return 0;
}
