/*
 * A multicast receiver: prints each datagram of a group, until SIGINT, SIGTERM, or as many as asked
 * for. udp_multicast GROUP PORT INTERFACE [COUNT]
 */
#include <sluice/sluice.h>
#include <sluice/udp.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct receiver {
    struct sluice_loop *loop;
    struct sluice_udp *udp;
    unsigned long count, wanted;
};

static void on_datagram(struct sluice_udp *u, const void *data, size_t bytes,
                        const struct sockaddr *from, socklen_t from_bytes, void *user)
{
    struct receiver *r = user;
    const struct sockaddr_in *sender = (const struct sockaddr_in *)(const void *)from;
    char text[INET_ADDRSTRLEN];
    (void)u, (void)from_bytes;
    inet_ntop(AF_INET, &sender->sin_addr, text, sizeof(text));
    printf("%s %zu %.*s\n", text, bytes, (int)bytes, (const char *)data);
    fflush(stdout);
    if (++r->count == r->wanted)
        sluice_loop_stop(r->loop);
}

static void on_signal(struct sluice_signal *s, void *user)
{
    (void)s;
    sluice_loop_stop(user);
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "udp_multicast: %s: %s\n", what, strerror(-error));
    return EXIT_FAILURE;
}

static int receive(struct receiver *r, const struct sockaddr_in *group, unsigned interface)
{
    static const struct sluice_udp_events events = {.on_datagram = on_datagram};
    struct sockaddr_in local = *group; /* bound to the group: nothing else of that port comes */
    const struct sluice_udp_config cfg = {
        .local = (struct sockaddr *)&local, .local_bytes = sizeof(local), .reuse_address = true};
    int err = sluice_udp_create(&r->udp, r->loop, &cfg, &events, r);
    if (err)
        return fail("open", err);
    err = sluice_udp_join(r->udp, (const struct sockaddr *)group, NULL, interface);
    if (err)
        return fail("join", err);
    puts("ready");
    fflush(stdout);
    err = sluice_loop_run(r->loop);
    if (err)
        return fail("run", err);
    printf("%lu received, %llu dropped\n", r->count,
           (unsigned long long)sluice_udp_dropped(r->udp));
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct sockaddr_in group = {.sin_family = AF_INET};
    struct receiver r = {0};
    struct sluice_signal *on_int = NULL, *on_term = NULL;
    char why[160];
    if (argc < 4 || inet_pton(AF_INET, argv[1], &group.sin_addr) != 1) {
        fprintf(stderr, "usage: udp_multicast GROUP PORT INTERFACE [COUNT]\n");
        return 2;
    }
    group.sin_port = htons((uint16_t)atoi(argv[2]));
    r.wanted = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    if (sluice_loop_create(&r.loop, &(struct sluice_loop_config){0}, why, sizeof(why))) {
        fprintf(stderr, "udp_multicast: %s\n", why);
        return EXIT_FAILURE;
    }
    int err = sluice_signal_create(&on_int, r.loop, SIGINT, on_signal, r.loop);
    if (!err)
        err = sluice_signal_create(&on_term, r.loop, SIGTERM, on_signal, r.loop);
    int code = err ? fail("signals", err) : receive(&r, &group, if_nametoindex(argv[3]));
    sluice_udp_destroy(r.udp);
    sluice_signal_destroy(on_int);
    sluice_signal_destroy(on_term);
    sluice_loop_destroy(r.loop);
    return code;
}
