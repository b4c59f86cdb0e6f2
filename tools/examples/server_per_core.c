/*
 * A server with one loop on each core: server_per_core [URL [CORES]]. All listen at the same port
 * and the kernel shares the connections out; nothing is shared between the loops. It echoes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* cores of threads */
#endif
#include <sluice/sluice.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CORES_MAX 64

struct server {
    struct sluice_loop *loop;
    struct sluice_listener *listener;
    pthread_t thread;
    unsigned core;
    unsigned long long accepted;
};

/* Cut off when it does not read: see echo_server.c for one that waits. */
static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    if (sluice_conn_write(c, buf->data, buf->bytes))
        sluice_conn_abort(c);
}

static const struct sluice_conn_events events = {.on_data = on_data};

static void *serve(void *user)
{
    struct server *server = user;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(server->core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof(cores), &cores);
    sluice_loop_run(server->loop);
    server->accepted = sluice_listener_accepted(server->listener);
    sluice_loop_destroy(server->loop); /* by the thread that ran it */
    return NULL;
}

/* The first one finds the port, the others take the same. */
static int open_server(struct server *server, const char *url, char *why, size_t why_bytes)
{
    const struct sluice_loop_config loop_config = {.backend = getenv("BACKEND"), .conns_max = 5000};
    const struct sluice_listen_config config = {.url = url, .events = &events, .reuse_port = true};
    int err = sluice_loop_create(&server->loop, &loop_config, why, why_bytes);
    return err ? err
               : sluice_listener_open(&server->listener, server->loop, &config, why, why_bytes);
}

int main(int argc, char **argv)
{
    static struct server servers[CORES_MAX];
    char url[100], why[200];
    sigset_t ends;
    int end;

    snprintf(url, sizeof(url), "%s", argc > 1 ? argv[1] : "tcp://127.0.0.1:7777");
    int cores = argc > 2 ? atoi(argv[2]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1 || cores > CORES_MAX)
        return fprintf(stderr, "cores: 1 to %d\n", CORES_MAX), 2;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* in all threads: main waits for them */
    for (int i = 0; i < cores; i++) {
        if (open_server(&servers[i], url, why, sizeof(why)))
            return fprintf(stderr, "%s\n", why), 1;
        snprintf(strrchr(url, ':'), 8, ":%u", sluice_listener_port(servers[0].listener));
        servers[i].core = (unsigned)i;
    }
    for (int i = 0; i < cores; i++)
        pthread_create(&servers[i].thread, NULL, serve, &servers[i]);
    printf("listening at %s, port %u, on %d cores\n", url,
           sluice_listener_port(servers[0].listener), cores);
    fflush(stdout);
    sigwait(&ends, &end);
    for (int i = 0; i < cores; i++)
        sluice_loop_stop(servers[i].loop);
    for (int i = 0; i < cores; i++) {
        pthread_join(servers[i].thread, NULL);
        printf("core %d: %llu connections\n", i, servers[i].accepted);
    }
    return 0;
}
