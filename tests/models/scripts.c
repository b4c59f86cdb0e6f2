/*
 * The scripts: what peer and upstream do, in their own words, and what must be said of it.
 */
#include "peer.h"
#include "upstream.h"
#include "reason.h"

#include <string.h>

#define KIB (1u << 10)
#define MIB (1u << 20)

void stream_fill(uint8_t *to, uint64_t at, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        to[i] = stream_byte(at + i);
}

bool stream_matches(const uint8_t *bytes, uint64_t at, uint64_t count)
{
    uint64_t i = 0;
    while (i < count && bytes[i] == stream_byte(at + i))
        i++;
    return i == count;
}

/* What most peers end with: their end, then ours. */
static void end_first(struct peer *p)
{
    peer_half_close(p);
    peer_take_to_end(p);
}

/* ---- bursts of 1 MiB ---- */

static void bursts_peer(struct peer *p)
{
    for (int i = 0; i < 4; i++) {
        peer_send(p, MIB);
        peer_nap(p, 5000);
    }
    end_first(p);
}

/* ---- byte by byte, into few entries, to an upstream with pauses ---- */

static void dribble_peer(struct peer *p)
{
    peer_dribble(p, 3000);
    end_first(p);
}

static void dribble_upstream(struct upstream *u)
{
    upstream_take_slowly(u, 3000);
    upstream_take_to_end(u);
}

/* ---- the peer ends its side and goes on reading ---- */

static void half_close_peer(struct peer *p)
{
    peer_send(p, 100 * KIB);
    end_first(p);
}

static void half_close_upstream(struct upstream *u)
{
    upstream_take_to_eof(u);
    for (int i = 0; i < 200; i++)
        upstream_send(u, 1000);
    upstream_take_to_end(u);
}

/* ---- ours ends first, and the peer's last bytes come ---- */

static void ours_first_peer(struct peer *p)
{
    peer_take_to_end(p);
    peer_send(p, 300 * KIB);
    peer_half_close(p);
}

static void ours_first_upstream(struct upstream *u)
{
    for (int i = 0; i < 20; i++)
        upstream_send(u, 5000);
    upstream_finish(u);
    upstream_take_to_end(u);
}

/* ---- a reset, when all is read ---- */

static void reset_peer(struct peer *p)
{
    peer_send(p, 300001);
    peer_take(p, 10);
    peer_reset(p);
}

static void reset_upstream(struct upstream *u)
{
    upstream_take(u, 300001);
    for (int i = 0; i < 10; i++)
        upstream_send(u, 100);
    upstream_take_to_end(u);
}

/* ---- many small messages to a slow reader, PONGs between them ---- */

static void small_peer(struct peer *p)
{
    peer_take_slowly(p, 10000);
    peer_take_pongs(p, 100); /* what stands behind our own end in its ring would not leave */
    end_first(p);
}

static void small_upstream(struct upstream *u)
{
    for (int i = 0; i < 10000; i++) {
        upstream_send(u, 64);
        if (i % 100 == 0)
            upstream_pong(u);
    }
    upstream_take_to_end(u);
}

/* ---- one message of 8 MiB, one way and the other ---- */

static void big_peer(struct peer *p)
{
    peer_take(p, 1);
    peer_send(p, 8 * MIB);
    end_first(p);
}

static void big_upstream(struct upstream *u)
{
    upstream_send(u, 8 * MIB);
    upstream_take_to_end(u);
}

/* ---- pauses on both sides, a small inbox ---- */

static void pauses_peer(struct peer *p)
{
    while (p->sent_bytes < 2 * MIB && !p->finding.text) {
        uint64_t left = 2 * MIB - p->sent_bytes, n = 1 + random_below(&p->seed, 100 * KIB);
        peer_send(p, n < left ? n : left);
        if (random_below(&p->seed, 4) == 0)
            peer_nap(p, 4000);
    }
    end_first(p);
}

static void pauses_upstream(struct upstream *u)
{
    upstream_take_slowly(u, 2 * MIB);
    upstream_take_to_end(u);
}

/* ---- back and forth: each wakes the other ---- */

static void trips_peer(struct peer *p)
{
    for (uint32_t i = 0; i < 1000 && !p->finding.text; i++) {
        peer_send(p, 64);
        peer_take(p, i + 1);
    }
    end_first(p);
}

static void trips_upstream(struct upstream *u)
{
    for (uint32_t i = 0; i < 1000 && !u->finding.text; i++) {
        upstream_take(u, (i + 1) * 64);
        upstream_send(u, 64);
    }
    upstream_take_to_end(u);
}

/* ---- a burst of 64 MiB while the upstream sleeps; nobody else makes a sound ---- */

#define FLOOD (64 * MIB)

static void flood_peer(struct peer *p)
{
    peer_send(p, FLOOD);
    end_first(p);
}

static void flood_upstream(struct upstream *u)
{
    for (int i = 0; i < 3; i++) { /* each time all of them have long been asleep */
        upstream_sleep(100);
        upstream_take(u, u->taken_bytes + MIB);
    }
    upstream_take_to_end(u);
}

/* ---- an upstream that lies of what it has read, to whichever thread has the inbox ---- */

static void liar_peer(struct peer *p)
{
    peer_send(p, 100 * KIB);
    while (!p->finding.text) {
        peer_nap(p, 5000);
        peer_send(p, 1000);
    }
    p->finding.text = NULL; /* the engine took no more */
}

static void liar_upstream(struct upstream *u)
{
    upstream_take(u, 100 * KIB);
    upstream_lie(u);
}

/* clang-format off: a table is read in columns */
const struct script scripts[] = {
    {"bursts", bursts_peer, upstream_take_to_end, 0, 0, 0, SLUICE_REASON_PEER_CLOSE, 4 * MIB, 1, 0},
    {"dribble", dribble_peer, dribble_upstream, 0, 0, 64, SLUICE_REASON_PEER_CLOSE, 3000, 1, 0},
    {"half_close", half_close_peer, half_close_upstream, 0, 0, 0, SLUICE_REASON_PEER_CLOSE,
     100 * KIB, 201, 0},
    {"ours_first", ours_first_peer, ours_first_upstream, 0, 0, 0, SLUICE_REASON_PEER_CLOSE,
     300 * KIB, 21, 0},
    {"reset", reset_peer, reset_upstream, 0, 0, 0, SLUICE_REASON_RESET, 300001, 10, 0},
    {"small", small_peer, small_upstream, 0, 64 * KIB, 0, SLUICE_REASON_PEER_CLOSE, 0, 10001, 100},
    {"big", big_peer, big_upstream, 0, 16 * MIB, 0, SLUICE_REASON_PEER_CLOSE, 8 * MIB, 2, 0},
    {"pauses", pauses_peer, pauses_upstream, 64 * KIB, 0, 0, SLUICE_REASON_PEER_CLOSE, 2 * MIB, 1,
     0},
    {"trips", trips_peer, trips_upstream, 0, 0, 0, SLUICE_REASON_PEER_CLOSE, 64000, 1001, 0},
    {"flood", flood_peer, flood_upstream, 0, 0, 0, SLUICE_REASON_PEER_CLOSE, FLOOD, 1, 0},
    {"liar", liar_peer, liar_upstream, 0, 0, 0, SLUICE_REASON_CORRUPT, ANY_BYTES, 0, 0},
};
/* clang-format on */

const unsigned script_count = sizeof(scripts) / sizeof(scripts[0]);
