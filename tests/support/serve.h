/*
 * The engine's side of a channel without a loop: a poll(2) over its descriptors, as
 * runtime/doorman.c does with ops. For tests of the rings alone.
 */
#ifndef SLUICE_TESTS_SERVE_H
#define SLUICE_TESTS_SERVE_H

#include "rings/entry.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SERVE_UNUSED __attribute__((unused))

/* One round: accept, handshakes, rings, hang-ups, those thrown out. Waits up to timeout_ms for
 * something to happen; what poll(2) says. */
static inline int serve_once(struct sluice_channel *ch, int timeout_ms)
{
    struct pollfd fds[1 + SLUICE_LINKS_MAX];
    fds[0] = (struct pollfd){.fd = ch->listen_fd, .events = POLLIN};
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        fds[1 + i] = (struct pollfd){.fd = ch->links[i].state == LINK_FREE ? -1 : ch->links[i].fd,
                                     .events = POLLIN};
    int n = poll(fds, 1 + SLUICE_LINKS_MAX, timeout_ms);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        if (ch->links[i].state == LINK_ENDING)
            sluice_link_input(ch, &ch->links[i]);
    if (n <= 0)
        return n;
    if (fds[0].revents)
        while (sluice_channel_accept(ch) == 0)
            ;
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        if (fds[1 + i].revents && ch->links[i].state != LINK_FREE)
            sluice_link_input(ch, &ch->links[i]);
    return n;
}

/* Forget clients that left and have nothing more to send, as the tx path does. */
static SERVE_UNUSED void serve_free_leaving(struct sluice_channel *ch)
{
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++) {
        struct sluice_writer *w = &ch->writers[i];
        if (w->state == WRITER_CORRUPT ||
            (w->state == WRITER_LEAVING && sluice_outbox_refresh(&w->outbox) == 0 &&
             sluice_outbox_refresh(&w->pongs) == 0))
            sluice_writer_free(ch, w);
    }
}

/* ---- bytes of a known pattern ---- */

static inline uint8_t served_byte(uint64_t position)
{
    return (uint8_t)(position * 2654435761u >> 13);
}

/* bytes at the inbox's tail, published as one entry. */
static inline void serve_bytes(struct sluice_channel *ch, uint32_t bytes)
{
    const struct sluice_meta stamps = {
        .first_nic_frame_poll_cycle = 1, .latest_nic_frame_poll_cycle = 2, .ssl_read_cycle = 3};
    sluice_inbox_lend(ch, ch->inbox.tail + bytes);
    for (uint32_t i = 0; i < bytes; i++)
        ch->inbox.base[(ch->inbox.tail + i) & (ch->inbox.bytes - 1)] =
            served_byte(ch->inbox.tail + i);
    sluice_inbox_arrived(ch, &stamps, bytes);
}

static inline void serve_control(struct sluice_channel *ch, enum sluice_event what)
{
    const struct sluice_meta event = {.connection = 1, .event = (uint8_t)what};
    sluice_inbox_control(ch, &event);
}

/* ---- a rendezvous directory of this process's own ---- */

static char serve_home[64] SERVE_UNUSED;

static SERVE_UNUSED int serve_make_home(void)
{
    snprintf(serve_home, sizeof(serve_home), "/tmp/sluice-test-XXXXXX");
    return mkdtemp(serve_home) && setenv("XDG_RUNTIME_DIR", serve_home, 1) == 0 ? 0 : -1;
}

static SERVE_UNUSED const char *serve_path(const char *file)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/sluice%s%s", serve_home, file ? "/" : "", file ? file : "");
    return path;
}

/* False when something was left behind in the directory. */
static SERVE_UNUSED bool serve_remove_home(void)
{
    bool clean = rmdir(serve_path(NULL)) == 0 || errno == ENOENT;
    return rmdir(serve_home) == 0 && clean;
}

/* ---- attaching by name while the caller is the engine ---- */

struct serve_attach {
    const char *name;
    enum sluice_role role;
    struct sluice_client *client;
    int result;
    atomic_bool done;
};

static SERVE_UNUSED void *serve_attach_thread(void *arg)
{
    struct serve_attach *a = arg;
    a->result = sluice_attach(&a->client, a->name, a->role, 5000000000);
    atomic_store(&a->done, true);
    return NULL;
}

/* What sluice_attach() says, with the engine's part done by this thread meanwhile. */
static SERVE_UNUSED int serve_attaching(struct sluice_channel *ch, const char *name,
                                        enum sluice_role role, struct sluice_client **out)
{
    struct serve_attach a = {.name = name, .role = role};
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve_attach_thread, &a))
        abort();
    while (!atomic_load(&a.done))
        serve_once(ch, 1);
    pthread_join(thread, NULL);
    serve_once(ch, 0); /* the hang-up of one that was refused */
    *out = a.client;
    return a.result;
}

/* Detach, and let the engine notice. */
static SERVE_UNUSED void serve_detach(struct sluice_channel *ch, struct sluice_client *c)
{
    sluice_detach(c);
    serve_once(ch, 1000);
    serve_free_leaving(ch);
}

#endif
