/*
 * sluice load over sockets of its own: connections of one loop, which never sleeps.
 */
#include "load.h"

#include "fail.h"
#include "option_tls.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_LEAST  4096u
#define QUEUE_STREAM (256u << 10)
#define CLOSE_NS     1000000000ll
#define BUF_STREAM   (64u << 10)
#define BUF_BYTES    4096u
#define BUFS_LEAST   8u

struct sockets {
    struct sluice_loop *loop;
    struct sluice_tls *tls; /* for tls:// */
};

static struct sluice_loop *loop_of(const struct load *load)
{
    return ((const struct sockets *)load->carried)->loop;
}

/* ---- callbacks ---- */

static void on_open(struct sluice_conn *c, void *user)
{
    (void)c;
    flow_opened(user);
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)c;
    flow_took(user, buf->data, buf->bytes, now_ns());
}

static void on_drain(struct sluice_conn *c, void *user)
{
    (void)c;
    flow_room(user);
}

static void on_eof(struct sluice_conn *c, void *user)
{
    struct load_flow *flow = user;
    flow->peer_ended = true;
    sluice_conn_close(c);
}

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    struct load_flow *flow = user;
    char why[320];
    const char *more = sluice_conn_why(c);
    if (!more[0] && os_error)
        more = strerror(os_error);
    snprintf(why, sizeof(why), "%s%s%s%s",
             flow->state == FLOW_OPEN ? "connection broke" : "cannot connect", more[0] ? " (" : "",
             more, more[0] ? ")" : "");
    flow_ended(flow, flow->peer_ended ? SLUICE_REASON_PEER_CLOSE : reason, why);
}

static const struct sluice_conn_events events = {.on_open = on_open,
                                                 .on_data = on_data,
                                                 .on_drain = on_drain,
                                                 .on_eof = on_eof,
                                                 .on_close = on_close};

/* ---- carrier ---- */

/* Room for all that may be without an answer, within reason, and for two of the longest. */
static uint32_t queue_bytes(const struct load_plan *plan)
{
    uint64_t message = plan->size_max + WIRE_FRAME_MAX;
    uint64_t least = plan->mode == LOAD_STREAM ? QUEUE_STREAM : QUEUE_LEAST;
    uint64_t wanted = plan->mode == LOAD_STREAM ? 0 : plan->depth * message;
    wanted = wanted < QUEUE_STREAM ? wanted : QUEUE_STREAM;
    wanted = wanted < 2 * message ? 2 * message : wanted;
    if (plan->kind == WIRE_FRAMES && wanted < UPGRADE_REQUEST_MAX)
        wanted = UPGRADE_REQUEST_MAX;
    while (least < wanted)
        least *= 2;
    return (uint32_t)least;
}

/* What they hold is read in one turn of the loop, and the clock waits meanwhile. */
static uint32_t recv_bufs(const struct load_plan *plan)
{
    if (plan->sends && plan->answers && plan->mode != LOAD_STREAM) {
        uint64_t pieces = 2ull * plan->connections * plan->depth * (1 + plan->size_max / BUF_BYTES);
        return pieces < BUFS_LEAST ? BUFS_LEAST : pieces > 4096 ? 4096 : (uint32_t)pieces;
    }
    if (plan->mode != LOAD_STREAM)
        return plan->connections > 1024 ? 4096 : 1024;
    return plan->connections < 16 ? 32 : plan->connections < 512 ? 2 * plan->connections : 1024;
}

static int create_tls(struct sockets *sk, const struct load_plan *plan)
{
    struct sluice_tls_config cfg;
    char why[200] = "";
    if (strncmp(plan->url, "tls://", 6) != 0)
        return 0;
    int failed = option_tls(&cfg, plan->options, plan->url);
    if (failed)
        return failed;
    int err = sluice_tls_create(&sk->tls, &cfg, plan->options->tls_provider, why, sizeof(why));
    return err ? fail(err == -ENOTSUP ? SLUICE_REASON_UNSUPPORTED : SLUICE_REASON_TLS_CONFIG,
                      "%s: %s", plan->target, why[0] ? why : strerror(-err))
               : 0;
}

static int open_sockets(struct load *load)
{
    const struct load_plan *plan = &load->plan;
    const struct options *o = plan->options;
    char why[200] = "";
    const struct sluice_loop_config cfg = {.backend = o->backend,
                                           .event = o->event,
                                           .idle = SLUICE_IDLE_BUSY,
                                           .conns_max = plan->connections,
                                           .recv_bufs = recv_bufs(plan),
                                           .recv_buf_bytes =
                                               plan->mode == LOAD_STREAM ? BUF_STREAM : BUF_BYTES,
                                           .send_queue_bytes = queue_bytes(plan)};
    struct sockets *sk = calloc(1, sizeof(*sk));
    load->carried = sk;
    if (!sk)
        return fail_errno(-ENOMEM, "sockets");
    int err = sluice_loop_create(&sk->loop, &cfg, why, sizeof(why));
    if (err)
        return fail(fail_reason_of_errno(err), "event loop: %s", why[0] ? why : strerror(-err));
    return create_tls(sk, plan);
}

static int dial(struct load_flow *flow)
{
    struct load *load = flow->load;
    const struct options *o = load->plan.options;
    char why[200] = "";
    struct sluice_conn *c;
    const struct sluice_connect_config cfg = {.url = load->plan.url,
                                              .events = &events,
                                              .user = flow,
                                              .tls = ((struct sockets *)load->carried)->tls,
                                              .ktls = options_ktls(o),
                                              .tls_timeout_ns = (uint64_t)o->tls_timeout_ns,
                                              .connect_timeout_ns = (uint64_t)o->connect_timeout_ns,
                                              .rcvbuf_bytes = (uint32_t)o->rcvbuf_bytes,
                                              .sndbuf_bytes = (uint32_t)o->sndbuf_bytes};
    flow->peer_ended = flow->hung_up = false;
    int err = sluice_conn_connect(&c, loop_of(load), &cfg, why, sizeof(why));
    flow->carried = c;
    if (err == -EINVAL)
        return fail_remedy(SLUICE_REASON_USAGE,
                           "write tcp://host:port, tls://host:port or unix:PATH", "%s: not a URL",
                           load->plan.target);
    if (err == -EPROTONOSUPPORT)
        return fail(SLUICE_REASON_UNSUPPORTED, "%s", load->plan.target);
    return err ? fail(fail_reason_of_errno(err), "%s: %s", load->plan.target,
                      why[0] ? why : strerror(-err))
               : 0;
}

static int send_bytes(struct load_flow *flow, const uint8_t *bytes, size_t count)
{
    return sluice_conn_write(flow->carried, bytes, count);
}

/* Plain ones are reset where thousands end per second: no TIME_WAIT of ours uses up the ports. The
 * end of a TLS handshake is still to leave. */
static void hang_up(struct load_flow *flow)
{
    const struct sockets *sk = flow->load->carried;
    if (flow->load->plan.mode == LOAD_CONNECT && !sk->tls)
        sluice_conn_abort(flow->carried);
    else
        sluice_conn_close(flow->carried);
}

static int turn(struct load *load)
{
    int n = sluice_loop_turn(loop_of(load));
    return n < 0 ? fail_errno(n, "event loop") : 0;
}

static int tls_of(const struct load_flow *flow, struct sluice_tls_facts *out)
{
    return flow->carried ? sluice_conn_tls(flow->carried, out) : -ENOTCONN;
}

/* In order, within a second: peers are not to log resets. */
static void close_all(struct load *load)
{
    int64_t until = now_ns() + CLOSE_NS;
    bool left = true;
    for (bool first = true; left && now_ns() < until; first = false) {
        left = false;
        for (uint32_t i = 0; i < load->plan.connections; i++) {
            struct load_flow *flow = &load->flows[i];
            left |= flow->carried != NULL;
            if (first && flow->carried)
                sluice_conn_close(flow->carried);
        }
        if (left && sluice_loop_turn(loop_of(load)) < 0)
            return;
    }
}

static void close_sockets(struct load *load)
{
    struct sockets *sk = load->carried;
    if (!sk)
        return;
    if (sk->loop)
        close_all(load);
    sluice_loop_destroy(sk->loop);
    sluice_tls_destroy(sk->tls);
    free(sk);
    load->carried = NULL;
}

static void describe(struct load *load, char *out, size_t out_bytes)
{
    struct sluice_tls_facts tls;
    struct sluice_conn *c = load->flows[0].carried;
    const char *backend = sluice_loop_backend(loop_of(load));
    if (c && sluice_conn_tls(c, &tls) == 0)
        snprintf(out, out_bytes, "sockets on %s; %s %s by %s, %s", backend, tls.version, tls.cipher,
                 tls.provider, tls.where);
    else
        snprintf(out, out_bytes, "sockets on %s", backend);
}

const struct load_carrier load_sockets = {.name = "sockets",
                                          .open = open_sockets,
                                          .dial = dial,
                                          .send = send_bytes,
                                          .hang_up = hang_up,
                                          .turn = turn,
                                          .tls = tls_of,
                                          .close = close_sockets,
                                          .describe = describe};
