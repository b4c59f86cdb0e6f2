/*
 * Names to addresses, off the loop. A request is freed by whoever lets go of it last: the thread,
 * which nothing can interrupt, or the loop.
 */
#include "resolve.h"
#include "url.h"
#include "base/check.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct sluice_resolve {
    struct sluice_post post;
    pthread_mutex_t lock;
    struct sluice_loop *loop; /* NULL: abandoned */
    void (*done)(void *user, int error, const struct sluice_addresses *found);
    void *user;
    int error;
    struct sluice_addresses found;
    char host[URL_HOST_MAX], port[8];
};

static int look_up(struct sluice_addresses *out, const char *host, const char *port, int flags)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *list;
    int error = getaddrinfo(host, port, &hints, &list);
    if (error)
        return error;
    out->count = 0;
    for (struct addrinfo *ai = list; ai && out->count < RESOLVE_ADDRESSES_MAX; ai = ai->ai_next) {
        memcpy(&out->at[out->count].addr, ai->ai_addr, ai->ai_addrlen);
        out->at[out->count++].bytes = ai->ai_addrlen;
    }
    freeaddrinfo(list);
    return out->count ? 0 : EAI_NONAME;
}

int sluice_resolve_literal(struct sluice_addresses *out, const char *host, const char *port)
{
    return look_up(out, host, port, AI_NUMERICHOST) ? -EINVAL : 0;
}

int sluice_resolve_path(struct sluice_addresses *out, const char *url)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strncmp(url, "unix:", 5) != 0)
        return -EINVAL;
    size_t n = strlen(url + 5);
    if (n == 0 || n >= sizeof(addr.sun_path))
        return -EINVAL;
    memcpy(addr.sun_path, url + 5, n + 1);
    memcpy(&out->at[0].addr, &addr, sizeof(addr));
    out->at[0].bytes = sizeof(addr);
    out->count = 1;
    return 0;
}

static void release(struct sluice_resolve *r)
{
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void deliver(struct sluice_post *post)
{
    struct sluice_resolve *r = SLUICE_CONTAINER_OF(post, struct sluice_resolve, post);
    pthread_mutex_lock(&r->lock); /* the thread may still hold it behind its post */
    bool wanted = r->loop != NULL;
    pthread_mutex_unlock(&r->lock);
    if (wanted)
        r->done(r->user, r->error, &r->found);
    release(r);
}

static void *resolve_thread(void *arg)
{
    struct sluice_resolve *r = arg;
    r->error = look_up(&r->found, r->host, r->port, AI_ADDRCONFIG);
    pthread_mutex_lock(&r->lock);
    bool abandoned = r->loop == NULL;
    if (!abandoned)
        sluice_loop_post(r->loop, &r->post);
    pthread_mutex_unlock(&r->lock);
    if (abandoned)
        release(r);
    return NULL;
}

/* A loop that spins on its core, with a priority perhaps, would never let it run there. */
static int start_thread(struct sluice_resolve *r, const struct sluice_cores *cores)
{
    struct sluice_cores before;
    pthread_attr_t attr;
    pthread_t thread;
    bool moved = cores && sluice_system_cores(&before) == 0 && sluice_system_set_cores(cores) == 0;
    pthread_attr_init(&attr); /* no priority */
    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int err = pthread_create(&thread, &attr, resolve_thread, r);
    pthread_attr_destroy(&attr);
    if (moved)
        sluice_system_set_cores(&before);
    return -err;
}

int sluice_resolve_start(struct sluice_resolve **out, struct sluice_loop *loop, const char *host,
                         const char *port, const struct sluice_cores *cores,
                         void (*done)(void *user, int error, const struct sluice_addresses *found),
                         void *user)
{
    *out = NULL;
    struct sluice_resolve *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    pthread_mutex_init(&r->lock, NULL);
    r->post.call = deliver;
    r->loop = loop;
    r->done = done;
    r->user = user;
    strncpy(r->host, host, sizeof(r->host) - 1);
    strncpy(r->port, port, sizeof(r->port) - 1);
    int err = start_thread(r, cores);
    if (err) {
        release(r);
        return err;
    }
    *out = r;
    return 0;
}

void sluice_resolve_abandon(struct sluice_resolve *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->loop = NULL;
    pthread_mutex_unlock(&r->lock);
}
