/*
 * What io_uring polls by itself on request: a thread for submissions, the NIC. That it was done is
 * the kernel's to say (/proc/self/fdinfo), and everything else goes on as without.
 */
#include "tests/support/ends.h"

#include "backends/uring/uring.h"

static struct sluice_loop_config cfg;

/* The number behind a word about our ring, -1: the kernel says nothing of it. */
static long kernel_says(const struct conns_world *w, const char *word)
{
    char path[64], line[256];
    long number = -1;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
             ((struct uring *)(void *)w->loop->be)->ring.ring_fd);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, word, strlen(word)) == 0)
            number = atol(line + strlen(word));
    fclose(file);
    return number;
}

static void set_up(void)
{
    cfg = (struct sluice_loop_config){.conns_max = 8};
}

TestSuite(polling, .init = set_up, .timeout = 30);

static void open_world(struct conns_world *w)
{
    const struct sluice_loop_config plain = {0};
    sluice_loop_destroy(world_loop("uring", &plain)); /* or it is skipped */
    *w = (struct conns_world){0};
    struct sluice_loop_config mine = cfg;
    char why[200] = "";
    mine.backend = "uring";
    int err = sluice_loop_create(&w->loop, &mine, why, sizeof(why));
    if (err == -ENOTSUP && strstr(why, "NAPI") && cfg.napi_busy_poll_us)
        cr_skip_test("%s", why);
    cr_assert_eq(err, 0, "%s", why);
    world_listen(w);
    world_pair(w);
}

static void echo_a_while(struct conns_world *w)
{
    size_t sent = 0;
    sluice_conn_set_events(w->server.conn, &heard_echoing);
    for (int i = 0; i < 200; i++) {
        write_pattern(w->client.conn, sent, 100);
        sent += 100;
        TURN_UNTIL(w, w->client.count == sent);
    }
    expect_pattern(&w->client, sent);
    sluice_conn_close(w->client.conn);
    TURN_UNTIL(w, w->client.closed && w->server.closed);
    world_close(w);
}

Test(polling, nothing_polls_unasked)
{
    struct conns_world w;
    open_world(&w);
    cr_expect_eq(kernel_says(&w, "SqThread:\t"), -1);
    cr_expect_eq(kernel_says(&w, "napi_busy_poll_dt:\t"), -1);
    cr_expect_null(strstr(sluice_loop_backend_reason(w.loop), "thread of the kernel's"));
    echo_a_while(&w);
}

Test(polling, a_thread_of_the_kernels_submits)
{
    struct conns_world w;
    cfg.sqpoll_idle_ms = 20;
    open_world(&w);
    cr_expect_gt(kernel_says(&w, "SqThread:\t"), 0);
    cr_expect_not_null(strstr(sluice_loop_backend_reason(w.loop), "thread of the kernel's"));
    world_pass(&w, 60 * SLUICE_NS_PER_MS); /* it falls asleep, and is woken */
    echo_a_while(&w);
}

Test(polling, the_nic_is_asked)
{
    struct conns_world w;
    cfg.napi_busy_poll_us = 30;
    open_world(&w);
    if (kernel_says(&w, "NAPI:\t") >= 0) /* an older one takes it and does not show it */
        cr_expect_eq(kernel_says(&w, "napi_busy_poll_dt:\t"), 30000);
    cr_expect_not_null(strstr(sluice_loop_backend_reason(w.loop), "NAPI"));
    echo_a_while(&w);
}
