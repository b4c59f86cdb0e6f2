/*
 * A connection that goes out: its URL, its TLS, its dial. What becomes of it is conn.c's.
 */
#include "conns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_DEFAULT (10 * SLUICE_NS_PER_S)

/* What is wrong with it stands in why. */
static int parse(const struct sluice_connect_config *cfg, struct sluice_url *parsed,
                 struct sluice_addresses *path, char *why, size_t why_bytes)
{
    const char *url = cfg->url;
    path->count = 0;
    if (!cfg->events)
        return sluice_conns_refuse(why, why_bytes, -EINVAL, "events: a connection needs them");
    if (url && sluice_resolve_path(path, url) == 0)
        return 0;
    if (!url || sluice_url_parse(parsed, url))
        return sluice_conns_refuse(why, why_bytes, -EINVAL,
                                   "%s: not a URL: tcp://host:port or unix:PATH", url ? url : "");
    if (strcmp(parsed->scheme, "tcp") != 0 && strcmp(parsed->scheme, "tls") != 0)
        return sluice_conns_refuse(why, why_bytes, -EPROTONOSUPPORT,
                                   "%s: there are tcp://, tls:// and unix:", url);
    return 0;
}

/* Without one: the system's CAs, read once for each loop. */
static int find_tls(struct sluice_loop *loop, const struct sluice_connect_config *cfg,
                    const struct sluice_tls **out, char *why, size_t why_bytes)
{
    const struct sluice_tls_config verified = {.role = SLUICE_TLS_CLIENT};
    *out = cfg->tls;
    if (cfg->tls && cfg->tls->role != SLUICE_TLS_CLIENT)
        return sluice_conns_refuse(why, why_bytes, -EINVAL,
                                   "%s: its tls is a server's: connecting takes a client's",
                                   cfg->url);
    if (cfg->tls || !loop->conns)
        return 0;
    int err = 0;
    if (!loop->conns->tls_default)
        err = sluice_tls_create(&loop->conns->tls_default, &verified, NULL, why, why_bytes);
    *out = loop->conns->tls_default;
    return err;
}

static int dial(struct sluice_conn *c, const struct sluice_connect_config *cfg,
                const struct sluice_url *url, const struct sluice_addresses *path)
{
    struct conn_dial *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->cfg = (struct sluice_life_config){
        .connect_timeout_ns =
            cfg->connect_timeout_ns ? cfg->connect_timeout_ns : CONNECT_TIMEOUT_DEFAULT,
        .tls_timeout_ns = cfg->tls_timeout_ns ? cfg->tls_timeout_ns : TLS_TIMEOUT_DEFAULT,
        .rcvbuf_bytes = cfg->rcvbuf_bytes,
        .sndbuf_bytes = cfg->sndbuf_bytes};
    c->life.cfg = &d->cfg;
    if (path->count == 0)
        return sluice_dial_start(&d->dial, &c->life, url);
    d->dial.addresses = *path;
    sluice_dial_start_at(&d->dial, &c->life);
    return 0;
}

int sluice_conn_connect(struct sluice_conn **out, struct sluice_loop *loop,
                        const struct sluice_connect_config *cfg, char *why, size_t why_bytes)
{
    struct sluice_url url;
    struct sluice_addresses path;
    *out = NULL;
    if (sluice_loop_is_forked(loop))
        return sluice_conns_refuse(why, why_bytes, -ECHILD, "%s", SLUICE_FORKED);
    int err = parse(cfg, &url, &path, why, why_bytes);
    if (err)
        return err;
    const struct sluice_tls *tls = NULL;
    if (path.count == 0 && strcmp(url.scheme, "tls") == 0)
        err = find_tls(loop, cfg, &tls, why, why_bytes);
    if (err)
        return err;
    struct sluice_conn *c = loop->conns ? sluice_conns_take(loop->conns) : NULL;
    if (!c)
        return sluice_conns_refuse(why, why_bytes, -ENOBUFS,
                                   "no connection left: raise conns_max of the loop (%u)",
                                   loop->conns ? loop->conns->max : 0);
    sluice_conn_init(c, loop->conns, cfg->events, cfg->user);
    c->read_timeout_ns = cfg->read_timeout_ns;
    c->tls_ctx = tls;
    c->ktls = (uint8_t)cfg->ktls;
    c->life.is_tls = tls != NULL;
    err = dial(c, cfg, &url, &path);
    if (err) { /* nobody has heard of it */
        sluice_conn_undo(c);
        return sluice_conns_refuse(why, why_bytes, err, "%s: %s", cfg->url, strerror(-err));
    }
    *out = c;
    return 0;
}
