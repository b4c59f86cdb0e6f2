/*
 * Doorbells, and the doorman that hears them on every backend: a death is no signal and is always
 * noticed, whatever was rung before it.
 */
#include "rings/client.h"
#include "rings/engine.h"
#include "tests/support/loops.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* ---- alone ---- */

static struct sluice_doorbell bell;

static void open_bell(void)
{
    cr_assert_eq(sluice_doorbell_open(&bell), 0);
}

static void close_bell(void)
{
    sluice_doorbell_close(&bell);
    sluice_doorbell_close(&bell);
}

TestSuite(doorbell, .init = open_bell, .fini = close_bell);

Test(doorbell, says_what_was_rung_once)
{
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), -EAGAIN);
    cr_expect(sluice_doorbell_ring(bell.ring_fd));
    sluice_doorbell_ring_anyone(bell.ring_fd);
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), 2);
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), -EAGAIN);
}

Test(doorbell, that_is_full_is_heard_all_the_same)
{
    int rung = 0;
    while (sluice_doorbell_ring(bell.ring_fd))
        rung++;
    sluice_doorbell_ring_anyone(bell.ring_fd);
    cr_expect_gt(rung, 1000);
    while (rung > 0)
        rung -= sluice_doorbell_hear(bell.hear_fd);
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), -EAGAIN);
}

Test(doorbell, nobody_is_left_who_could_ring)
{
    cr_expect(sluice_doorbell_ring(bell.ring_fd));
    close(bell.ring_fd);
    bell.ring_fd = -1;
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), 1, "what was rung first");
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), 0);
    cr_expect_eq(sluice_doorbell_hear(bell.hear_fd), 0);
}

static void be_alone(void)
{
    close(bell.hear_fd);
    bell.hear_fd = -1;
}

/* SIGPIPE's default ends the process, which Criterion would tell. */
Test(doorbell, nobody_who_hears_is_no_signal)
{
    sigset_t before, after;
    be_alone();
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (int i = 0; i < 3; i++)
        sluice_doorbell_ring_anyone(bell.ring_fd);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    cr_expect_eq(sigismember(&after, SIGPIPE), sigismember(&before, SIGPIPE));
    sigpending(&after);
    cr_expect(!sigismember(&after, SIGPIPE), "nothing comes later");
}

Test(doorbell, nobody_who_hears_where_the_signal_is_ignored)
{
    be_alone();
    signal(SIGPIPE, SIG_IGN);
    sluice_doorbell_ring_anyone(bell.ring_fd);
    signal(SIGPIPE, SIG_DFL);
    sluice_doorbell_ring_anyone(bell.ring_fd);
}

/* ---- and the doorman ---- */

static const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
static struct sluice_channel *channel;
static struct sluice_transport *transport;
static struct sluice_client *client;

static void turns(int n)
{
    while (n-- > 0)
        cr_assert_geq(sluice_loop_turn(loop), 0, "%s", on);
}

static void open_house(void)
{
    const struct sluice_channel_config cfg = {0};
    const struct sluice_transport_config transport_cfg = {0};
    const struct sluice_transport_events events = {0};
    cr_assert_eq(sluice_channel_create(&channel, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &transport_cfg, &events, NULL),
                 0);
    cr_assert_eq(sluice_attach_local(&client, channel, SLUICE_UPSTREAM), 0);
    turns(5);
}

static void close_house(void)
{
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
}

static struct sluice_link *link_of_client(void)
{
    return &channel->links[0];
}

Test(doorman, a_client_that_rings_and_dies_is_gone)
{
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        cr_expect_eq(link_of_client()->state, LINK_ATTACHED, "%s", on);
        for (int i = 0; i < 3; i++) {
            sluice_doorbell_ring_anyone(client->ring_fd);
            turns(2 - i); /* the last one is still to be heard */
        }
        sluice_detach(client);
        turns(5);
        cr_expect_eq(link_of_client()->state, LINK_FREE, "%s", on);
        close_house();
    }
}

/* Who is thrown out hears it, and its place is free whatever it does. */
Test(doorman, a_client_that_is_thrown_out_keeps_nothing)
{
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        sluice_link_end(channel, link_of_client());
        sluice_doorbell_ring_anyone(client->ring_fd);
        turns(5);
        cr_expect_eq(link_of_client()->state, LINK_FREE, "%s", on);
        sluice_doorbell_ring_anyone(client->ring_fd);
        cr_expect_eq(sluice_client_wait(client, SLUICE_WAIT_INBOX, -1), -EPIPE, "%s", on);
        sluice_detach(client);
        close_house();
    }
}

/* As if it fell asleep and was rung for, again and again, without a POLL for each. */
Test(doorman, hears_each_ring)
{
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        for (int i = 0; i < 100; i++) {
            sluice_doorbell_ring_anyone(client->ring_fd);
            turns(2);
            cr_expect_eq(sluice_doorbell_hear(link_of_client()->fd), -EAGAIN, "%s: ring %d", on, i);
        }
        sluice_detach(client);
        close_house();
    }
}

static void note_signal(int number)
{
    (void)number;
}

static void *signal_soon(void *thread)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    for (int i = 0; i < 10; i++) {
        nanosleep(&moment, NULL);
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
    }
    return NULL;
}

/* Also where the handler asks for restarts, as those of signal(3) do. */
Test(doorman, a_signal_ends_a_wait)
{
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    pthread_t me = pthread_self(), other;
    sigaction(SIGUSR1, &action, NULL);
    cr_assert(loops_open("ev:epoll", &loop_cfg));
    open_house();
    cr_assert_eq(pthread_create(&other, NULL, signal_soon, &me), 0);
    cr_expect_eq(sluice_client_wait(client, SLUICE_WAIT_INBOX, -1), -EINTR);
    cr_expect_eq(sluice_client_wait(client, SLUICE_WAIT_INBOX, 5000000000), -EINTR);
    pthread_join(other, NULL);
    sluice_detach(client);
    close_house();
    loops_close();
}

Test(doorman, on_all_backends)
{
    loops_are_all_there();
}
