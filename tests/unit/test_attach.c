/*
 * Attaching by name: roles, continuing after one that left or was killed, a dead engine, a stopped
 * one, other versions. Who owns a name is test_rendezvous.c's, what cannot be done with the memory
 * test_seals.c's.
 */
#include "rings/client.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define NAME "feed"
#define S_NS 1000000000ll

static struct sluice_channel *ch;

static void create(void)
{
    const struct sluice_channel_config cfg = {.name = NAME,
                                              .inbox_bytes = 65536,
                                              .outbox_bytes = 65536,
                                              .metadata_entries = 64,
                                              .outbox_slots = 64};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
}

static void set_up(void)
{
    cr_assert_eq(serve_make_home(), 0);
}

static void tear_down(void)
{
    sluice_channel_destroy(ch);
    cr_expect(serve_remove_home(), "something was left in %s", serve_home);
}

TestSuite(attach, .init = set_up, .fini = tear_down, .timeout = 30);

static struct sluice_client *attach(enum sluice_role role)
{
    struct sluice_client *c;
    cr_assert_eq(serve_attaching(ch, NAME, role, &c), 0);
    cr_assert_not_null(c);
    return c;
}

static void expect_state(uint32_t upstream_pid, uint32_t producers)
{
    struct sluice_state s;
    sluice_channel_state(ch, &s);
    cr_expect_eq(s.upstream_pid, upstream_pid);
    cr_expect_eq(s.producers, producers);
}

/* ---- a child that has its part in the test, until told or killed ---- */

struct child {
    pid_t pid;
    int tell; /* readable when the child said that it is ready; its end: no reader, no child */
};

static void say_ready(int fd)
{
    if (write(fd, "r", 1) != 1)
        _exit(9);
}

static struct child start_child(void (*run)(int tell))
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    fflush(NULL);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pipes[0]);
        run(pipes[1]);
        _exit(0);
    }
    close(pipes[1]);
    return (struct child){.pid = pid, .tell = pipes[0]};
}

static void wait_ready(const struct child *child)
{
    char byte;
    struct pollfd pfd = {.fd = child->tell, .events = POLLIN};
    for (int i = 0; i < 5000 && poll(&pfd, 1, ch ? 0 : 1) == 0; i++)
        if (ch)
            serve_once(ch, 1);
    cr_assert_eq(read(child->tell, &byte, 1), 1, "the child ended");
}

static void end_child(struct child *child, int sig)
{
    kill(child->pid, sig);
    cr_assert_eq(waitpid(child->pid, NULL, 0), child->pid);
    close(child->tell);
}

/* ---- roles ---- */

Test(attach, every_role_by_name)
{
    void *room;
    const struct sluice_meta *m;
    create();
    struct sluice_client *up = attach(SLUICE_UPSTREAM);
    struct sluice_client *producer = attach(SLUICE_PRODUCER);
    struct sluice_client *observer = attach(SLUICE_OBSERVER);
    expect_state((uint32_t)getpid(), 1);
    serve_bytes(ch, 10);
    sluice_channel_flush(ch);
    cr_expect_eq(sluice_inbox_peek(up, &m, 8), 1);
    cr_expect_eq(sluice_inbox_peek(observer, &m, 8), 1);
    cr_expect_eq(sluice_outbox_claim(up, 1, &room), 0);
    cr_expect_eq(sluice_outbox_claim(producer, 1, &room), 0);
    sluice_outbox_commit(producer, 0, SLUICE_MESSAGE_DATA);
    cr_expect_eq(sluice_outbox_refresh(&ch->writers[producer->index].outbox), 1);
    serve_detach(ch, up);
    serve_detach(ch, producer);
    serve_detach(ch, observer);
    expect_state(0, 0);
    struct sluice_state s;
    sluice_channel_state(ch, &s);
    cr_expect_eq(s.counters[SLUICE_COUNTER_clients_attached], 3u);
}

Test(attach, a_second_upstream_is_refused_until_the_first_left)
{
    struct sluice_client *second;
    create();
    struct sluice_client *up = attach(SLUICE_UPSTREAM);
    cr_expect_eq(serve_attaching(ch, NAME, SLUICE_UPSTREAM, &second), -EBUSY);
    cr_expect_null(second);
    cr_expect_eq(sluice_attach_local(&second, ch, SLUICE_UPSTREAM), -EBUSY);
    expect_state((uint32_t)getpid(), 0); /* the first is untouched */
    serve_detach(ch, up);
    up = attach(SLUICE_UPSTREAM);
    serve_detach(ch, up);
}

Test(attach, producers_up_to_the_limit)
{
    struct sluice_client *all[SLUICE_WRITERS_MAX], *more;
    create();
    struct sluice_client *up = attach(SLUICE_UPSTREAM);
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX - 1; i++)
        all[i] = attach(SLUICE_PRODUCER);
    cr_expect_eq(serve_attaching(ch, NAME, SLUICE_PRODUCER, &more), -EBUSY);
    struct sluice_client *observer = attach(SLUICE_OBSERVER); /* takes no writer's place */
    expect_state((uint32_t)getpid(), SLUICE_WRITERS_MAX - 1);
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX - 1; i++)
        serve_detach(ch, all[i]);
    serve_detach(ch, observer);
    serve_detach(ch, up);
    expect_state(0, 0);
}

/* "One upstream and up to seven producers": producers do not take the upstream's place. */
Test(attach, producers_leave_the_upstreams_place)
{
    struct sluice_client *all[SLUICE_WRITERS_MAX - 1], *up, *more = NULL;
    create();
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX - 1; i++)
        cr_assert_eq(sluice_attach_local(&all[i], ch, SLUICE_PRODUCER), 0);
    cr_expect_eq(sluice_attach_local(&more, ch, SLUICE_PRODUCER), -EBUSY);
    cr_expect_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX - 1; i++)
        sluice_detach(all[i]);
    sluice_detach(up);
    sluice_detach(more);
}

Test(attach, what_a_producer_committed_stays_when_it_leaves)
{
    void *room;
    struct sluice_message m;
    create();
    struct sluice_client *producer = attach(SLUICE_PRODUCER);
    struct sluice_writer *w = &ch->writers[producer->index];
    cr_assert_eq(sluice_outbox_claim(producer, 5, &room), 0);
    memcpy(room, "whole", 5);
    sluice_outbox_commit(producer, 0, SLUICE_MESSAGE_DATA);
    cr_assert_eq(sluice_outbox_claim(producer, 5, &room), 0); /* never committed */
    serve_detach(ch, producer);
    cr_assert_eq(w->state, WRITER_LEAVING);
    cr_assert_eq(sluice_outbox_refresh(&w->outbox), 1);
    cr_assert_eq(sluice_outbox_slot(&w->outbox, 0, 0, &m), 0);
    cr_expect_eq(memcmp(w->outbox.base, "whole", 5), 0);
    sluice_writer_free(ch, w);
    cr_expect_eq(w->state, WRITER_FREE);
}

/* ---- continuing ---- */

static void expect_from(struct sluice_client *c, uint64_t position, uint64_t offset, int64_t count)
{
    const struct sluice_meta *m;
    cr_expect_eq(sluice_inbox_position(c), position);
    cr_assert_eq(sluice_inbox_peek(c, &m, 64), count);
    cr_assert_eq(m[0].msg_inbox_offset, offset);
    for (uint64_t at = position; at < ch->inbox.tail; at++)
        cr_assert_eq(*sluice_inbox_at(c, at), served_byte(at));
}

Test(attach, the_next_upstream_continues_at_the_entry_and_the_byte)
{
    const struct sluice_meta *m;
    create();
    uint64_t position = 0;
    for (uint64_t round = 0; round < 100; round++) {
        struct sluice_client *up = attach(SLUICE_UPSTREAM);
        for (int i = 0; i < 5; i++)
            serve_bytes(ch, 300);
        int64_t there = sluice_inbox_peek(up, &m, 64);
        uint64_t end = m[there - 2].msg_inbox_offset;
        position = end - round % 2 * 77; /* in every second round bytes are kept */
        cr_assert_eq(sluice_inbox_release_to(up, (uint32_t)there - 2, position), 0);
        serve_detach(ch, up);
        serve_bytes(ch, 123); /* comes while nobody is there */
        up = attach(SLUICE_UPSTREAM);
        expect_from(up, position, end, 3);
        cr_assert_eq(sluice_inbox_release(up, 3), 0);
        serve_detach(ch, up);
    }
}

static void release_three_and_stay(int tell)
{
    struct sluice_client *c;
    const struct sluice_meta *m;
    if (sluice_attach(&c, NAME, SLUICE_UPSTREAM, 5 * S_NS) || sluice_inbox_peek(c, &m, 64) != 5 ||
        sluice_inbox_release_to(c, 3, 250))
        _exit(1);
    say_ready(tell);
    for (;;)
        pause();
}

Test(attach, row_21_a_killed_upstream_leaves_no_gap)
{
    create();
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 100);
    struct child child = start_child(release_three_and_stay);
    wait_ready(&child);
    expect_state((uint32_t)child.pid, 0);
    end_child(&child, SIGKILL);
    serve_once(ch, 1000);
    expect_state(0, 0);
    struct sluice_client *up = attach(SLUICE_UPSTREAM);
    expect_from(up, 250, 300, 2);
    serve_detach(ch, up);
}

/* A release is two stores. One killed between them must not leave the next one a ring that it
 * takes for nonsense: see release_upstream(). */
Test(attach, row_21_an_upstream_killed_within_a_release_leaves_a_ring_one_can_read)
{
    const struct sluice_meta *m;
    create();
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 100);
    struct sluice_client *up = attach(SLUICE_UPSTREAM);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 5);
    atomic_store(&up->mine->meta_head, 3); /* killed here: inbox_head is still 0 */
    serve_detach(ch, up);
    up = attach(SLUICE_UPSTREAM);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 2);
    cr_expect_eq(m[0].msg_inbox_offset, 300u);
    cr_expect_eq(sluice_inbox_position(up), 0u); /* bytes that were kept */
    serve_detach(ch, up);
}

/* The engine saw one upstream lie, another came before the first one's socket was looked at. */
Test(attach, the_pid_is_that_of_the_one_attached)
{
    struct sluice_client *liar, *up;
    create();
    cr_assert_eq(sluice_attach_local(&liar, ch, SLUICE_UPSTREAM), 0);
    atomic_store(&liar->mine->meta_head, 1ull << 40);
    cr_assert_not(sluice_inbox_refresh(ch));
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    serve_once(ch, 1000);
    expect_state((uint32_t)getpid(), 0);
    sluice_detach(liar);
    sluice_detach(up);
}

/* ---- dead and stopped engines ---- */

static atomic_bool stop;

static void on_term(int sig)
{
    (void)sig;
    atomic_store(&stop, true);
}

/* An engine that serves; five entries of ten bytes come when the upstream does. */
static void run_engine(int tell)
{
    signal(SIGTERM, on_term);
    create();
    snprintf(ch->text.backend, sizeof(ch->text.backend), "uring");
    sluice_channel_publish_text(ch);
    say_ready(tell);
    while (ch->upstream < 0 && !atomic_load(&stop))
        serve_once(ch, 10);
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 10);
    sluice_channel_flush(ch);
    while (!atomic_load(&stop))
        serve_once(ch, 10);
    sluice_channel_destroy(ch);
}

struct waiting {
    struct sluice_client *c;
    int result;
    uint64_t elapsed_ns;
};

static void *wait_for_news(void *arg)
{
    struct waiting *w = arg;
    w->result = sluice_client_wait(w->c, SLUICE_WAIT_INBOX | SLUICE_WAIT_STATE, 20 * S_NS);
    return NULL;
}

static void kill_and_expect_the_end(int sig)
{
    struct child engine = start_child(run_engine);
    const struct sluice_meta *m;
    struct waiting w = {0};
    pthread_t thread;
    wait_ready(&engine);
    cr_assert_eq(sluice_attach(&w.c, NAME, SLUICE_UPSTREAM, 5 * S_NS), 0);
    cr_assert_eq(sluice_client_wait(w.c, SLUICE_WAIT_INBOX, 5 * S_NS), SLUICE_WAIT_INBOX);
    while (sluice_inbox_peek(w.c, &m, 64) < 5)
        ;
    cr_assert_eq(sluice_inbox_release(w.c, 5), 0);
    while (sluice_client_wait(w.c, SLUICE_WAIT_STATE, 0) > 0)
        ;
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_news, &w), 0);
    usleep(50000);
    end_child(&engine, sig);
    cr_assert_eq(pthread_join(thread, NULL), 0); /* the suite's limit: 20 s would be too late */
    cr_expect_eq(w.result, -EPIPE);
    sluice_detach(w.c);
    if (sig == SIGKILL)
        cr_expect_eq(unlink(serve_path(NAME ".sock")), 0);
}

Test(attach, a_waiting_client_learns_at_once_that_the_engine_ended, .timeout = 10)
{
    kill_and_expect_the_end(SIGTERM);
}

Test(attach, a_waiting_client_learns_at_once_that_the_engine_was_killed, .timeout = 10)
{
    kill_and_expect_the_end(SIGKILL);
}

Test(attach, row_22_what_a_dead_engine_published_can_still_be_read)
{
    struct sluice_client *c;
    struct sluice_state s;
    const struct sluice_meta *m;
    struct child engine = start_child(run_engine);
    wait_ready(&engine);
    cr_assert_eq(sluice_attach(&c, NAME, SLUICE_UPSTREAM, 5 * S_NS), 0);
    while (sluice_inbox_peek(c, &m, 64) < 5)
        usleep(1000);
    end_child(&engine, SIGTERM);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(sluice_client_wait(c, SLUICE_WAIT_INBOX, S_NS), SLUICE_WAIT_INBOX);
        cr_assert_eq(sluice_inbox_peek(c, &m, 1), 1);
        cr_assert_eq(*sluice_inbox_at(c, m->msg_inbox_offset), served_byte((uint64_t)i * 10));
        cr_assert_eq(sluice_inbox_release(c, 1), 0);
    }
    cr_expect_eq(sluice_client_wait(c, SLUICE_WAIT_INBOX, S_NS), -EPIPE);
    cr_expect_eq(sluice_client_wait(c, SLUICE_WAIT_INBOX, 0), -EPIPE);
    sluice_client_state(c, &s);
    cr_expect_str_eq(s.backend, "uring");
    cr_expect_eq(sluice_client_wait_ready(c, SLUICE_READY_TCP, S_NS), -EPIPE);
    sluice_detach(c);
}

Test(attach, a_stopped_engine_can_be_observed)
{
    struct sluice_client *c;
    struct sluice_state s;
    struct child engine = start_child(run_engine);
    wait_ready(&engine);
    kill(engine.pid, SIGSTOP);
    cr_expect_eq(sluice_attach(&c, NAME, SLUICE_UPSTREAM, S_NS / 10), -ETIMEDOUT);
    cr_expect_null(c);
    cr_assert_eq(sluice_attach(&c, NAME, SLUICE_OBSERVER, S_NS / 10), 0);
    sluice_client_state(c, &s);
    cr_expect_eq(s.engine_pid, (uint32_t)engine.pid);
    cr_expect_str_eq(s.name, NAME);
    cr_expect_str_eq(s.backend, "uring");
    cr_expect_eq(sluice_client_wait(c, SLUICE_WAIT_INBOX, S_NS / 100), 0);
    /* It goes on, answers, and ends: the answer is not taken for a sign of life. */
    kill(engine.pid, SIGCONT);
    usleep(100000);
    end_child(&engine, SIGTERM);
    cr_expect_eq(sluice_client_wait(c, SLUICE_WAIT_OUTBOX, S_NS), -EPIPE);
    sluice_detach(c);
}

/* "Also while the engine is stuck": every look leaves a connection that nobody accepts. */
Test(attach, a_stopped_engine_can_be_observed_any_number_of_times)
{
    struct sluice_client *c;
    struct child engine = start_child(run_engine);
    wait_ready(&engine);
    kill(engine.pid, SIGSTOP);
    for (int i = 0; i < 40; i++) {
        int err = sluice_attach(&c, NAME, SLUICE_OBSERVER, S_NS / 100);
        cr_assert_eq(err, 0, "attempt %d: %s", i, strerror(-err));
        sluice_detach(c);
    }
    kill(engine.pid, SIGCONT);
    end_child(&engine, SIGTERM);
}

Test(attach, an_engine_that_serves_nobody_times_out)
{
    struct sluice_client *c;
    create();
    cr_expect_eq(sluice_attach(&c, NAME, SLUICE_PRODUCER, S_NS / 20), -ETIMEDOUT);
    cr_expect_null(c);
    cr_expect_eq(sluice_attach(&c, NAME, SLUICE_UPSTREAM, 0), -ETIMEDOUT);
    for (int i = 0; i < 4; i++) /* accept, read what they asked for, notice that they are gone */
        serve_once(ch, 0);
    serve_free_leaving(ch);
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        cr_expect_eq(ch->writers[i].state, WRITER_FREE);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++) /* both were let go of */
        cr_expect_eq(ch->links[i].state, LINK_FREE);
}
