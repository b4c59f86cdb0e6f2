/*
 * A transport whose TLS handshake is cut short from here. What it does with one that succeeds, or
 * with a peer that damages it, are the models' and the scripts' tests.
 */
#include "tests/support/tls_ends.h"

static const struct sluice_loop_config one_server = {.conns_max = 4};

static struct sluice_channel *must_channel(void)
{
    struct sluice_channel *ch;
    const struct sluice_channel_config cfg = {0};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    return ch;
}

/* Connects, turns the loop so often, and lets go: what the peer said last is on its way. True: it
 * had been open. */
static bool let_go_after(struct conns_world *w, int turns)
{
    struct sluice_transport *t;
    struct sluice_state state;
    struct sluice_tls_config tls = client_config();
    struct sluice_channel *ch = must_channel();
    tls.verify_name = PAIR_HOST;
    const struct sluice_transport_config cfg = {.tls = &tls,
                                                .tls_provider = getenv("TLS_PROVIDER")};
    const struct sluice_transport_events events = {0};
    cr_assert_eq(sluice_transport_create(&t, w->loop, ch, &cfg, &events, NULL), 0);
    cr_assert_eq(sluice_transport_connect(t, w->url), 0);
    while (turns-- > 0)
        world_turn(w);
    sluice_channel_state(ch, &state);
    sluice_transport_destroy(t);
    sluice_channel_destroy(ch);
    return state.conn_state == SLUICE_CONN_OPEN;
}

/* However late it sees the last one go. */
static void forget_it(struct heard *h, const char *what)
{
    if (strcmp(what, "close") == 0)
        h->closed = h->eofs = 0;
}

EACH_BACKEND(transport_tls, closed_at_any_moment_of_the_handshake)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &one_server);
    w.server.then = forget_it;
    int turns = 0;
    while (!let_go_after(&w, turns)) {
        cr_assert_lt(++turns, 2000, "it opens");
        for (int i = 0; i < 20; i++) /* the server sees it go */
            world_turn(&w);
    }
    cr_expect_gt(turns, 1, "there were moments");
    tls_world_close(&w);
}
