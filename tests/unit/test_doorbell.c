/*
 * Doorbells, and the doorman that hears them on every backend: a death is no signal and is always
 * noticed, whatever was rung before it.
 */
#include "rings/client.h"
#include "rings/engine.h"
#include "tests/support/loops.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- alone ---- */

static int ends[2];

static void open_bell(void)
{
    cr_assert_eq(sluice_doorbell_open(ends), 0);
}

TestSuite(doorbell, .init = open_bell);

Test(doorbell, says_what_was_rung_once_either_way)
{
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(sluice_doorbell_hear(ends[i]), -EAGAIN);
        cr_expect(sluice_doorbell_ring(ends[!i]));
        cr_expect(sluice_doorbell_ring(ends[!i]));
        cr_expect_eq(sluice_doorbell_hear(ends[i]), 2);
        cr_expect_eq(sluice_doorbell_hear(ends[i]), -EAGAIN);
    }
}

Test(doorbell, that_is_full_is_heard_all_the_same)
{
    int rung = 0;
    while (sluice_doorbell_ring(ends[0]))
        rung++;
    cr_expect_gt(rung, 10);
    while (rung > 0)
        rung -= sluice_doorbell_hear(ends[1]);
    cr_expect_eq(sluice_doorbell_hear(ends[1]), -EAGAIN);
    cr_expect(sluice_doorbell_ring(ends[0]));
}

/* SIGPIPE's default ends the process, which Criterion would tell. */
Test(doorbell, nobody_is_left_at_the_other_end)
{
    signal(SIGPIPE, SIG_DFL);
    cr_expect(sluice_doorbell_ring(ends[1]));
    close(ends[1]);
    cr_expect_eq(sluice_doorbell_hear(ends[0]), 1, "what was rung first");
    cr_expect_eq(sluice_doorbell_hear(ends[0]), 0);
    cr_expect_not(sluice_doorbell_ring(ends[0]));
}

Test(doorbell, takes_no_descriptor_of_its_client)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec byte = {.iov_base = control, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &byte,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&msg);
    int passed = 0;
    socklen_t bytes = sizeof(passed);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &ends[0], sizeof(int));
    if (getenv("TESTS_REFUSE"))
        cr_skip_test("the portable build knows no SO_PASSRIGHTS");
    if (getsockopt(ends[0], SOL_SOCKET, 83, &passed, &bytes)) /* SO_PASSRIGHTS */
        cr_skip_test("this kernel knows no SO_PASSRIGHTS");
    cr_expect_eq(sendmsg(ends[1], &msg, 0), -1);
    cr_expect_eq(errno, EPERM);
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
    static const char rings[65536]; /* more than is heard at once */
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        cr_expect_eq(link_of_client()->state, LINK_ATTACHED, "%s", on);
        for (int i = 0; i < 3; i++) {
            sluice_doorbell_ring(client->bell_fd);
            turns(2 - i); /* the last one is still to be heard */
        }
        cr_assert_gt(send(client->bell_fd, rings, sizeof(rings), MSG_DONTWAIT), 4096);
        sluice_detach(client);
        turns(100);
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
        sluice_doorbell_ring(client->bell_fd);
        turns(5);
        cr_expect_eq(link_of_client()->state, LINK_FREE, "%s", on);
        sluice_doorbell_ring(client->bell_fd);
        cr_expect_eq(sluice_client_wait(client, SLUICE_WAIT_INBOX, -1), -EPIPE, "%s", on);
        sluice_detach(client);
        close_house();
    }
}

/* There is no connection that ends, with which places were freed. */
Test(doorman, liars_keep_no_place)
{
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        for (int i = 0; i < 20; i++) {
            atomic_store(&client->mine->meta_head, 1u << 30);
            turns(5);
            sluice_detach(client);
            turns(5);
            cr_assert_eq(sluice_attach_local(&client, channel, SLUICE_UPSTREAM), 0, "%s: %d", on,
                         i);
        }
        sluice_detach(client);
        close_house();
    }
}

/* As if it fell asleep and was rung for, again and again, without a POLL for each. Where that tells
 * of each ring they are read by the dozen. */
Test(doorman, hears_each_ring)
{
    FOR_EACH_LOOP(LOOPS_KERNEL, &loop_cfg)
    {
        open_house();
        for (int i = 0; i < 100; i++) {
            sluice_doorbell_ring(client->bell_fd);
            turns(2);
            int unread = -1;
            cr_assert_eq(ioctl(link_of_client()->fd, FIONREAD, &unread), 0);
            cr_expect_eq(unread, loop->be->edge ? (i + 1) % 32 : 0, "%s: ring %d: %d", on, i,
                         unread);
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
