/*
 * Datagrams on every backend: who sent, in what order, what was lost and by whom,
 * multicast on the loopback interface.
 */
#include "udp.h"
#include "backends/sim/sim.h"
#include "tests/support/loops.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#define FOR_EACH_KERNEL  FOR_EACH_LOOP(LOOPS_KERNEL, &(struct sluice_loop_config){0})
#define FOR_EACH_BACKEND FOR_EACH_LOOP(LOOPS_SIM, &(struct sluice_loop_config){0})

TestSuite(udp, .timeout = 60);

Test(udp, every_backend_is_there)
{
    loops_are_all_there();
}

struct side {
    struct sluice_udp *udp;
    struct sockaddr_storage local;
    int datagrams, errors, last_error;
    bool echoes, closes;
    size_t last_bytes;
    uint8_t last[2048];
    struct sockaddr_storage last_from;
    uint32_t next; /* expected first word */
    int out_of_order;
};

static void on_datagram(struct sluice_udp *u, const void *data, size_t bytes,
                        const struct sockaddr *from, socklen_t from_bytes, void *user)
{
    struct side *s = user;
    uint32_t number;
    s->datagrams++;
    s->last_bytes = bytes;
    memcpy(s->last, data, bytes < sizeof(s->last) ? bytes : sizeof(s->last));
    memcpy(&s->last_from, from, from_bytes);
    if (bytes >= sizeof(number)) {
        memcpy(&number, data, sizeof(number));
        s->out_of_order += number < s->next;
        s->next = number + 1;
    }
    if (s->echoes)
        cr_expect_eq(sluice_udp_send(u, data, bytes, from, from_bytes), 0);
    if (s->closes)
        sluice_udp_destroy(u);
}

static void on_error(struct sluice_udp *u, int error, void *user)
{
    struct side *s = user;
    (void)u;
    s->errors++;
    s->last_error = error;
}

static struct sockaddr *addr_of(struct side *s)
{
    return (struct sockaddr *)&s->local;
}

static struct sockaddr_in ipv4(const char *text, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    cr_assert_eq(inet_pton(AF_INET, text, &a.sin_addr), 1);
    return a;
}

static void open_side(struct side *s, const char *text, uint32_t rcvbuf_bytes)
{
    static const struct sluice_udp_events events = {on_datagram, on_error};
    struct sockaddr_in a = ipv4(text, 0);
    const struct sluice_udp_config cfg = {
        .local = (struct sockaddr *)&a, .local_bytes = sizeof(a), .rcvbuf_bytes = rcvbuf_bytes};
    *s = (struct side){0};
    cr_assert_eq(sluice_udp_create(&s->udp, loop, &cfg, &events, s), 0, "%s", on);
    cr_assert_eq(sluice_udp_local(s->udp, &s->local), 0);
}

/* A datagram may take its time through the kernel, the older the kernel the more. */
static void turns(int n)
{
    const struct timespec while_ = {.tv_nsec = 2000000};
    for (int i = 0; i < n; i++) {
        if (loop->be->ops == &sluice_backend_sim)
            sluice_sim_advance(loop->be, 2 * SLUICE_NS_PER_MS);
        else
            nanosleep(&while_, NULL);
        cr_assert_geq(sluice_loop_turn(loop), 0);
    }
}

Test(udp, says_who_sent_and_answers_reach_them)
{
    FOR_EACH_BACKEND
    {
        struct side a, b;
        open_side(&a, "127.0.0.1", 0);
        open_side(&b, "127.0.0.1", 0);
        b.echoes = true;
        cr_expect_eq(sluice_udp_send(a.udp, "hello", 5, NULL, 0), -EDESTADDRREQ);
        cr_expect_eq(sluice_udp_send(a.udp, "hello", 5, addr_of(&b), sizeof(struct sockaddr_in)),
                     0);
        cr_expect_eq(sluice_udp_send(a.udp, "", 0, addr_of(&b), sizeof(struct sockaddr_in)), 0);
        while (a.datagrams < 2)
            cr_assert_eq(sluice_loop_run_once(loop), 1, "%s", on); /* asleep: POLL wakes it */
        cr_expect_eq(b.datagrams, 2, "an empty one is one");
        cr_expect_eq(a.last_bytes, 0u);
        cr_expect_arr_eq(b.last, "hello", 5);
        cr_expect_arr_eq(&b.last_from, &a.local, sizeof(struct sockaddr_in));
        cr_expect_arr_eq(&a.last_from, &b.local, sizeof(struct sockaddr_in));
        sluice_udp_destroy(a.udp);
        sluice_udp_destroy(b.udp);
        cr_expect_eq(sluice_loop_run(loop), 0, "nothing is active any more");
    }
}

Test(udp, a_connected_one_hears_its_peer_only_and_that_nobody_is_there)
{
    FOR_EACH_BACKEND
    {
        struct side a, b, c;
        open_side(&a, "127.0.0.1", 0);
        open_side(&b, "127.0.0.1", 0);
        open_side(&c, "127.0.0.1", 0);
        cr_assert_eq(sluice_udp_connect(a.udp, addr_of(&b), sizeof(struct sockaddr_in)), 0);
        cr_expect_eq(sluice_udp_send(c.udp, "c", 1, addr_of(&a), sizeof(struct sockaddr_in)), 0);
        cr_expect_eq(sluice_udp_send(b.udp, "b", 1, addr_of(&a), sizeof(struct sockaddr_in)), 0);
        turns(6);
        cr_expect_eq(a.datagrams, 1, "%s: %d", on, a.datagrams);
        cr_expect_eq(a.last[0], 'b');
        b.closes = true; /* inside its callback */
        cr_expect_eq(sluice_udp_send(a.udp, "x", 1, NULL, 0), 0);
        cr_expect_eq(sluice_udp_send(a.udp, "y", 1, NULL, 0), 0);
        turns(6);
        cr_expect_eq(b.datagrams, 1, "%s: called after it was destroyed", on);
        cr_expect_eq(sluice_udp_send(a.udp, "z", 1, NULL, 0), 0);
        turns(6);
        cr_expect_eq(a.errors, 1, "%s: %d errors", on, a.errors);
        cr_expect_eq(a.last_error, -ECONNREFUSED, "%s: %d", on, a.last_error);
        sluice_udp_destroy(a.udp);
        sluice_udp_destroy(c.udp);
    }
}

/* What was sent has come or was thrown away by the kernel, which says so with a later one. */
Test(udp, loses_nothing_itself_and_counts_what_the_kernel_does)
{
    FOR_EACH_BACKEND
    {
        struct side a, b;
        char datagram[1000] = {0};
        open_side(&a, "127.0.0.1", 0);
        open_side(&b, "127.0.0.1", 65536);
        uint32_t sent = 0;
        for (int burst = 0; burst < 3; burst++) {
            for (int k = 0; k < 500; k++, sent++) {
                memcpy(datagram, &sent, sizeof(sent));
                cr_assert_eq(sluice_udp_send(a.udp, datagram, sizeof(datagram), addr_of(&b),
                                             sizeof(struct sockaddr_in)),
                             0);
            }
            turns(20);
        }
        memcpy(datagram, &sent, sizeof(sent));
        sluice_udp_send(a.udp, datagram, sizeof(datagram), addr_of(&b), sizeof(struct sockaddr_in));
        turns(6);
        cr_expect_eq((uint64_t)b.datagrams + sluice_udp_dropped(b.udp), sent + 1u,
                     "%s: %d came, %d dropped", on, b.datagrams, (int)sluice_udp_dropped(b.udp));
        cr_expect_gt(sluice_udp_dropped(b.udp), 0u);
        cr_expect_gt(b.datagrams, 64);
        cr_expect_eq(b.out_of_order, 0);
        sluice_udp_destroy(a.udp);
        sluice_udp_destroy(b.udp);
    }
}

/* From this address to the group, over the loopback interface. */
static void send_to_group(struct side *from, struct sockaddr_in *group, unsigned lo)
{
    struct ip_mreqn out = {.imr_ifindex = (int)lo};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in me = *(struct sockaddr_in *)(void *)&from->local;
    me.sin_port = 0;
    cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)), 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&me, sizeof(me)), 0);
    cr_assert_eq(sendto(fd, "tick", 4, 0, (struct sockaddr *)group, sizeof(*group)), 4);
    close(fd);
    turns(6);
}

Test(udp, multicast_of_everybody_and_of_one_source)
{
    unsigned lo = if_nametoindex("lo");
    cr_assert_neq(lo, 0u);
    FOR_EACH_KERNEL
    {
        struct side all, from;
        open_side(&all, "0.0.0.0", 0);
        open_side(&from, "127.0.0.1", 0);
        struct sockaddr_in mine = ipv4("239.1.2.3", 0), source = ipv4("127.0.0.1", 0);
        struct sockaddr_in stranger = ipv4("127.0.0.9", 0);
        struct sockaddr *group = (struct sockaddr *)&mine;
        mine.sin_port = ((struct sockaddr_in *)(void *)&all.local)->sin_port;
        cr_expect_eq(sluice_udp_join(all.udp, group, NULL, 9999), -ENODEV);
        cr_assert_eq(sluice_udp_join(all.udp, group, NULL, lo), 0);
        cr_expect_eq(sluice_udp_join(all.udp, group, NULL, lo), -EADDRINUSE);
        send_to_group(&from, &mine, lo);
        cr_expect_eq(all.datagrams, 1, "%s: %d", on, all.datagrams);
        cr_assert_eq(sluice_udp_leave(all.udp, group, NULL, lo), 0);
        cr_expect_eq(sluice_udp_leave(all.udp, group, NULL, lo), -EADDRNOTAVAIL);
        cr_assert_eq(sluice_udp_join(all.udp, group, (struct sockaddr *)&stranger, lo), 0);
        send_to_group(&from, &mine, lo);
        cr_expect_eq(all.datagrams, 1, "%s: not from this source", on);
        cr_assert_eq(sluice_udp_join(all.udp, group, (struct sockaddr *)&source, lo), 0);
        send_to_group(&from, &mine, lo);
        cr_expect_eq(all.datagrams, 2, "%s: from this one", on);
        cr_assert_eq(sluice_udp_leave(all.udp, group, (struct sockaddr *)&source, lo), 0);
        send_to_group(&from, &mine, lo);
        cr_expect_eq(all.datagrams, 2, "%s: left", on);
        cr_assert_eq(sluice_udp_leave(all.udp, group, (struct sockaddr *)&stranger, lo), 0);
        struct ip_mreqn others = {.imr_multiaddr = mine.sin_addr, .imr_ifindex = (int)lo};
        int other = socket(AF_INET, SOCK_DGRAM, 0);
        cr_assert_eq(setsockopt(other, IPPROTO_IP, IP_ADD_MEMBERSHIP, &others, sizeof(others)), 0);
        send_to_group(&from, &mine, lo);
        cr_expect_eq(all.datagrams, 2, "%s: somebody else's group", on);
        close(other);
        sluice_udp_destroy(all.udp);
        sluice_udp_destroy(from.udp);
    }
}

Test(udp, what_cannot_be_opened_is_said)
{
    FOR_EACH_BACKEND
    {
        static const struct sluice_udp_events none = {0};
        struct side a;
        struct sluice_udp *u;
        open_side(&a, "127.0.0.1", 0);
        const struct sluice_udp_config taken = {.local = addr_of(&a),
                                                .local_bytes = sizeof(struct sockaddr_in)};
        cr_expect_eq(sluice_udp_create(&u, loop, &taken, &none, NULL), -EADDRINUSE);
        cr_expect_null(u);
        sluice_udp_destroy(NULL);
        sluice_udp_destroy(a.udp);
    }
}

/* Which of so many arrive over a network that loses some, a bit each. */
static uint64_t arrivals(uint64_t seed)
{
    struct sluice_sim_faults faults = sluice_sim_faults_default;
    struct side a, b;
    uint64_t came = 0;
    faults.lose_ppm = 300 * 1000;
    cr_assert_eq(
        sluice_loop_create_on(&loop, &sluice_backend_sim, &(struct sluice_loop_config){0}, seed),
        0);
    sluice_sim_set_faults(loop->be, &faults);
    on = "sim";
    open_side(&a, "10.0.0.1", 0);
    open_side(&b, "10.0.0.2", 0);
    for (uint32_t i = 0; i < 64; i++) {
        int before = b.datagrams;
        cr_assert_eq(sluice_udp_send(a.udp, &i, sizeof(i), addr_of(&b), sizeof(struct sockaddr_in)),
                     0);
        for (int k = 0; k < 50; k++)
            cr_assert_geq(sluice_loop_turn(loop), 0);
        came |= (uint64_t)(b.datagrams - before) << i;
    }
    cr_expect_eq(sluice_udp_join(a.udp, addr_of(&b), NULL, 0), -ENOPROTOOPT, "no groups there");
    sluice_udp_destroy(a.udp);
    sluice_udp_destroy(b.udp);
    loops_close();
    return came;
}

Test(udp, the_simulation_loses_some_by_seed)
{
    uint64_t came = arrivals(1);
    cr_expect_gt(__builtin_popcountll(came), 25);
    cr_expect_lt(__builtin_popcountll(came), 62);
    cr_expect_eq(arrivals(1), came);
    cr_expect_neq(arrivals(2), came);
}
