/*
 * Counting packets by TCP's own count of segments. It says how many came, not how many of them were
 * in a receive; only when nothing is left behind do the two agree.
 */
#include "packets.h"

void sluice_packets_start(struct sluice_packets *p)
{
    p->first_ns = p->last_ns = p->taken_bytes = 0;
    p->seen = p->count = 0;
    p->in_step = true;
}

void sluice_packets_note(struct sluice_packets *p, struct sluice_loop *loop, int fd, uint32_t bytes)
{
    uint64_t received;
    uint32_t segments;
    bool was_in_step = p->in_step;
    p->taken_bytes += bytes;
    p->in_step = sluice_loop_sockets(loop)->segments(loop->be, fd, &received, &segments) &&
                 received == p->taken_bytes;
    p->count = p->in_step && was_in_step ? segments - p->seen : 0;
    p->seen = segments;
    p->last_ns = p->wire.ns;
    p->first_ns = p->count == 1 ? p->wire.ns : 0;
}

void sluice_packets_add(struct sluice_packets *p, struct sluice_loop *loop, int fd, uint32_t bytes)
{
    uint64_t first_ns = p->first_ns;
    uint32_t count = p->count;
    sluice_packets_note(p, loop, fd, bytes);
    p->first_ns = first_ns;
    p->count = count && p->count ? count + p->count : 0;
}
