/*
 * libev's event mechanisms by name, and the loop made on one of them. A loop of our own each: never
 * the default loop, no signals, nothing from the environment.
 */
#include "backends/ev/ev.h"
#include "base/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>

#define QUIET (EVFLAG_NOENV | EVFLAG_NOSIGMASK)

struct mechanism {
    const char *name;
    const char *feature;
    unsigned flag;
    bool preferred; /* tried without being named, in this order */
};

static const struct mechanism mechanisms[] = {
    {"epoll", "ev.epoll", EVBACKEND_EPOLL, true},
    {"kqueue", "ev.kqueue", EVBACKEND_KQUEUE, true},
    {"poll", "ev.poll", EVBACKEND_POLL, true},
    {"select", "ev.select", EVBACKEND_SELECT, true},
    {"linuxaio", "ev.linuxaio", EVBACKEND_LINUXAIO, false},
};

#define MECHANISMS (sizeof(mechanisms) / sizeof(mechanisms[0]))

static int open_loop(struct ev_loop **out, const struct mechanism *m)
{
    *out = NULL;
    if (!(ev_supported_backends() & m->flag))
        return -ENOSYS;
    errno = 0;
    *out = ev_loop_new(m->flag | QUIET);
    if (!*out)
        return errno ? -errno : -ENOSYS;
    SLUICE_CHECK(ev_backend(*out) == m->flag);
    return 0;
}

static int open_on(struct libev *ev, const struct mechanism *m)
{
    int err = open_loop(&ev->loop, m);
    if (err)
        return err;
    ev->fd = -1;
    ev->base.fd_limit = m->flag == EVBACKEND_SELECT ? FD_SETSIZE : INT_MAX;
    snprintf(ev->base.name, sizeof(ev->base.name), "ev:%s", m->name);
    snprintf(ev->base.detail, sizeof(ev->base.detail), "libev %d.%d", ev_version_major(),
             ev_version_minor());
    return 0;
}

static const struct mechanism *find(const char *name)
{
    for (size_t i = 0; i < MECHANISMS; i++)
        if (strcmp(mechanisms[i].name, name) == 0)
            return &mechanisms[i];
    return NULL;
}

/* Not named: the first that is there. A limit is no reason to take another. */
int libev_open_loop(struct libev *ev, const char *event)
{
    if (event && strcmp(event, "auto") != 0) {
        const struct mechanism *m = find(event);
        return m ? open_on(ev, m) : -EINVAL;
    }
    int err = -ENOSYS;
    for (size_t i = 0; i < MECHANISMS && (err == -ENOSYS || err == -EPERM); i++)
        if (mechanisms[i].preferred)
            err = open_on(ev, &mechanisms[i]);
    return err;
}

/* libev tells it to nobody but the watcher of a loop that embeds this one. */
int libev_descriptor(struct libev *ev)
{
    if (ev_backend(ev->loop) != EVBACKEND_EPOLL)
        return -ENOTSUP;
    if (ev->fd >= 0)
        return ev->fd;
    struct ev_loop *outer = ev_loop_new(EVBACKEND_SELECT | QUIET); /* never runs */
    if (!outer)
        return -ENOMEM;
    ev_embed embed;
    ev_embed_init(&embed, NULL, ev->loop);
    ev_embed_start(outer, &embed);
    ev->fd = embed.io.fd;
    ev_embed_stop(outer, &embed);
    ev_loop_destroy(outer);
    return ev->fd;
}

static void describe(struct sluice_backend_feature *row, const struct mechanism *m)
{
    struct ev_loop *loop;
    int err = open_loop(&loop, m);
    row->name = m->feature;
    row->have = err == 0;
    if (err == 0) {
        ev_loop_destroy(loop);
        snprintf(row->detail, sizeof(row->detail), "usable");
    } else if (ev_supported_backends() & m->flag) {
        snprintf(row->detail, sizeof(row->detail), "refused: %s", strerror(-err));
    } else {
        snprintf(row->detail, sizeof(row->detail), "this libev was built without it");
    }
}

int libev_features(struct sluice_backend_feature *out, int max)
{
    int n = 0;
    for (size_t i = 0; i < MECHANISMS && n < max; i++)
        describe(&out[n++], &mechanisms[i]);
    return n;
}
