/*
 * Leases: who has a buffer until it goes back, and who waits for one.
 */
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_BUFS     64u   /* of a record each */
#define SEND_BYTES_MIN 1024u /* less is copied sooner than a SEND of its own is made */

/* ---- the pools ---- */

int sluice_leases_init(struct sluice_conns *conns)
{
    struct lease_pool *wire = &conns->leases[LEASE_WIRE];
    for (int kind = 0; kind < LEASE_KINDS; kind++)
        conns->leases[kind].starved_end = &conns->leases[kind].starved;
    wire->count = conns->loop->be->pool.count;
    wire->all = calloc(wire->count, sizeof(*wire->all));
    if (!wire->all)
        return -ENOMEM;
    for (uint32_t i = 0; i < wire->count; i++)
        wire->all[i] =
            (struct sluice_lease){.conns = conns, .buffer = (uint16_t)i, .kind = LEASE_WIRE};
    return 0;
}

void sluice_leases_fini(struct sluice_conns *conns)
{
    for (int kind = 0; kind < LEASE_KINDS; kind++)
        free(conns->leases[kind].all);
    free(conns->plain);
}

int sluice_leases_init_plain(struct sluice_conns *conns)
{
    struct lease_pool *pool = &conns->leases[LEASE_PLAIN];
    if (conns->plain)
        return 0;
    pool->all = calloc(PLAIN_BUFS, sizeof(*pool->all));
    conns->plain = pool->all ? malloc((size_t)PLAIN_BUFS * SLUICE_TLS_RECORD_MAX) : NULL;
    if (!conns->plain) {
        free(pool->all);
        pool->all = NULL;
        return -ENOMEM;
    }
    pool->count = PLAIN_BUFS;
    for (uint32_t i = PLAIN_BUFS; i-- > 0;) {
        pool->all[i].buf.data = conns->plain + (size_t)i * SLUICE_TLS_RECORD_MAX;
        pool->all[i].conns = conns;
        pool->all[i].kind = LEASE_PLAIN;
        pool->all[i].next = pool->free;
        pool->free = &pool->all[i];
    }
    return 0;
}

/* ---- who waits for one ---- */

void sluice_conn_unstarve(struct sluice_conn *c)
{
    if (!c->starved_link)
        return;
    *c->starved_link = c->starved_next;
    if (c->starved_next)
        c->starved_next->starved_link = c->starved_link;
    else
        c->conns->leases[c->starved_kind].starved_end = c->starved_link;
    c->starved_link = NULL;
}

/* For what it lacks now: what it lacked before may be a buffer that it would not use yet. */
void sluice_conn_starve(struct sluice_conn *c, enum lease_kind kind)
{
    struct lease_pool *pool = &c->conns->leases[kind];
    if (c->starved_link && c->starved_kind == kind)
        return;
    sluice_conn_unstarve(c);
    c->starved_kind = (uint8_t)kind;
    c->starved_next = NULL;
    c->starved_link = pool->starved_end;
    *pool->starved_end = c;
    pool->starved_end = &c->starved_next;
}

bool sluice_leases_may_feed(const struct sluice_conns *conns)
{
    for (int kind = 0; kind < LEASE_KINDS; kind++)
        if (conns->leases[kind].starved && conns->leases[kind].leased < conns->leases[kind].count)
            return true;
    return false;
}

/* At the end of each turn; one for each buffer. Those of completions that we have yet to see count
 * as free here: whoever is told once more that there is none waits again. One that has nothing to
 * receive takes none: the next turn goes on with those behind it. */
void sluice_leases_feed(struct sluice_conns *conns)
{
    for (int kind = 0; kind < LEASE_KINDS; kind++) {
        struct lease_pool *pool = &conns->leases[kind];
        for (uint32_t n = pool->count - pool->leased; n > 0 && pool->starved; n--) {
            struct sluice_conn *c = pool->starved;
            sluice_conn_unstarve(c);
            sluice_conns_due(c, DUE_RECEIVE);
        }
    }
}

/* ---- leases ---- */

struct sluice_lease *sluice_lease_wire(struct sluice_conns *conns, uint16_t buffer, size_t bytes)
{
    struct lease_pool *pool = &conns->leases[LEASE_WIRE];
    struct sluice_lease *lease = &pool->all[buffer];
    SLUICE_CHECK(lease->refs == 0);
    lease->buf = (struct sluice_buf){sluice_pool_at(&conns->loop->be->pool, buffer), bytes};
    lease->refs = 1;
    pool->leased++;
    return lease;
}

struct sluice_lease *sluice_lease_plain(struct sluice_conns *conns)
{
    struct lease_pool *pool = &conns->leases[LEASE_PLAIN];
    struct sluice_lease *lease = pool->free;
    if (!lease)
        return NULL;
    pool->free = lease->next;
    pool->leased++;
    lease->refs = 1;
    return lease;
}

static bool half_is_out(const struct lease_pool *pool)
{
    return pool->leased > pool->count / 2;
}

/* No memory: it stays where it is. */
struct sluice_lease *sluice_lease_set_aside(struct sluice_lease *lease)
{
    struct sluice_conns *conns = lease->conns;
    const struct lease_pool *pool = &conns->leases[lease->kind];
    if (!half_is_out(pool))
        return lease;
    size_t bytes = lease->buf.bytes;
    struct sluice_lease *own = malloc(sizeof(*own) + bytes);
    if (!own)
        return lease;
    memcpy(own + 1, lease->buf.data, bytes);
    *own = (struct sluice_lease){
        .buf = {(const uint8_t *)(own + 1), bytes}, .conns = conns, .refs = 1, .kind = LEASE_HEAP};
    conns->leases[LEASE_HEAP].leased++;
    sluice_buf_release(&lease->buf);
    return own;
}

static struct sluice_lease *lease_of(struct sluice_buf *buf)
{
    struct sluice_lease *lease = SLUICE_CONTAINER_OF(buf, struct sluice_lease, buf);
    SLUICE_CHECK(lease->refs > 0); /* released more often than retained */
    return lease;
}

void sluice_buf_retain(struct sluice_buf *buf)
{
    lease_of(buf)->refs++;
}

void sluice_buf_release(struct sluice_buf *buf)
{
    struct sluice_lease *lease = lease_of(buf);
    struct sluice_conns *conns = lease->conns;
    struct lease_pool *pool = &conns->leases[lease->kind];
    if (--lease->refs > 0)
        return;
    pool->leased--;
    if (lease->kind == LEASE_WIRE) {
        conns->loop->be->ops->pool_put(conns->loop->be, lease->buffer);
    } else if (lease->kind == LEASE_PLAIN) {
        lease->next = pool->free;
        pool->free = lease;
    } else {
        free(lease);
    }
}

/* ---- sending them on ---- */

static void on_sent(struct sluice_send *send, int result)
{
    struct sluice_lease *lease = SLUICE_CONTAINER_OF(send, struct sluice_lease, send);
    (void)result;
    lease->to->lease_bytes -= (uint32_t)send->bytes;
    lease->to = NULL;
    sluice_buf_release(&lease->buf);
}

/* Who does not read keeps nobody from receiving: half of the buffers are not for that, and none for
 * a little in much. */
static bool may_wait(const struct sluice_lease *lease)
{
    const struct lease_pool *pool = &lease->conns->leases[lease->kind];
    size_t room =
        lease->kind == LEASE_WIRE ? lease->conns->loop->be->pool.bytes : SLUICE_TLS_RECORD_MAX;
    return !half_is_out(pool) && lease->buf.bytes >= room / 4;
}

/* One that is on its way already is copied, and so is what is encrypted here. */
int sluice_conn_send_buf(struct sluice_conn *c, struct sluice_buf *buf)
{
    struct sluice_lease *lease = lease_of(buf);
    if (buf->bytes < SEND_BYTES_MIN || !may_wait(lease) || lease->to || sluice_conn_seals(c))
        return sluice_conn_write(c, buf->data, buf->bytes);
    int err = sluice_conn_may_write(c, buf->bytes);
    if (err)
        return err;
    lease->refs++;
    lease->to = c;
    lease->send = (struct sluice_send){.data = buf->data, .bytes = buf->bytes, .done = on_sent};
    c->lease_bytes += (uint32_t)buf->bytes;
    sluice_conn_append(c, &lease->send);
    return 0;
}
