/*
 * Ten thousand connections on one loop, one in a hundred of them active: what an idle one costs of
 * our memory, that none is lost or mixed up with another, and that nothing is left of them.
 */
#include "tests/support/ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CROWD = 10000,
    ACTIVE = CROWD / 100,
    ROUNDS = 100,
    IDLE_BYTES_MAX = 1024, /* each, of ours */
    LIMIT_S = 60,
};

/* ---- the peers: a process of its own, for there are too few descriptors for both ends ---- */

static int peers[CROWD];

static bool dial_all(uint16_t port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < CROWD; i++) {
        peers[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (peers[i] < 0 || connect(peers[i], (const struct sockaddr *)&to, sizeof(to)))
            return false;
    }
    return true;
}

/* Every hundredth says its number, all at once, and hears it. */
static bool exchange_round(int round)
{
    for (int i = 0; i < CROWD; i += CROWD / ACTIVE) {
        const int said[2] = {i, round};
        if (send(peers[i], said, sizeof(said), MSG_NOSIGNAL) != sizeof(said))
            return false;
    }
    for (int i = 0; i < CROWD; i += CROWD / ACTIVE) {
        int heard[2];
        if (recv(peers[i], heard, sizeof(heard), MSG_WAITALL) != sizeof(heard) || heard[0] != i ||
            heard[1] != round)
            return false;
    }
    return true;
}

static bool idle_heard_nothing(void)
{
    char byte;
    for (int i = 0; i < CROWD; i++)
        if (recv(peers[i], &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
            return false;
    return true;
}

/* Exit code: the step that failed. go: a byte when it may begin to talk. */
static int be_the_peers(uint16_t port, int go)
{
    char byte;
    alarm(LIMIT_S);
    if (!dial_all(port))
        return 1;
    if (read(go, &byte, 1) != 1)
        return 2;
    for (int round = 0; round < ROUNDS; round++)
        if (!exchange_round(round))
            return 3;
    return idle_heard_nothing() ? 0 : 4; /* and all of them end */
}

/* ---- the loop ---- */

static int opened, closed;
static uint64_t messages;

static void on_open(struct sluice_conn *c, void *user)
{
    (void)c, (void)user;
    opened++;
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    messages += buf->bytes / (2 * sizeof(int));
    cr_assert_eq(sluice_conn_write(c, buf->data, buf->bytes), 0);
}

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    (void)c, (void)os_error, (void)user;
    cr_expect_eq(reason, SLUICE_REASON_PEER_CLOSE, "%s", sluice_reason_name(reason));
    closed++;
}

static const struct sluice_conn_events events = {
    .on_open = on_open, .on_data = on_data, .on_close = on_close};

static void run_until(struct sluice_loop *loop, const int *count)
{
    uint64_t limit_ns = sluice_loop_now_ns(loop) + LIMIT_S * SLUICE_NS_PER_S;
    while (*count < CROWD) {
        cr_assert_geq(sluice_loop_run_once(loop), 0);
        cr_assert_lt(sluice_loop_now_ns(loop), limit_ns, "%d of %d in time", *count, CROWD);
    }
}

static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert_eq(fscanf(file, "%*u %lu", &pages), 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Handed out by the heap, its large pieces too. */
static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Nothing for each: the least that malloc gives is 32 bytes. libev has an array by descriptor,
 * which grows when one is higher than any before. */
static void expect_heap(const struct on_backend *on, size_t made)
{
    size_t more = strcmp(on->name, "uring") == 0 ? CROWD : 16 * CROWD;
    cr_expect_leq(heap_bytes(), made + more, "%s: %zu bytes of the heap since the loop was made",
                  on->name, heap_bytes() - made);
}

static void need_descriptors(void)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < CROWD + 100)
        cr_skip_test("%d connections need a hard nofile limit of %d, here it is %lu", CROWD,
                     CROWD + 100, (unsigned long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static const struct on_backend crowds[] = {{"uring"}, {"ev:epoll"}};

ParameterizedTestParameters(conn_crowd, ten_thousand)
{
    return cr_make_param_array(struct on_backend, (void *)(uintptr_t)crowds, 2);
}

ParameterizedTest(struct on_backend *on, conn_crowd, ten_thousand, .timeout = 3 * LIMIT_S)
{
    const struct sluice_loop_config cfg = {.conns_max = CROWD};
    struct sluice_listener *listener;
    int go[2], status = -1;
    const struct sluice_listen_config at = {.url = "tcp://127.0.0.1:0", .events = &events};
    need_descriptors();
    size_t before = resident_bytes();
    struct sluice_loop *loop = world_loop(on->name, &cfg);
    cr_assert_eq(sluice_listener_open(&listener, loop, &at, NULL, 0), 0);
    cr_assert_eq(pipe(go), 0);
    size_t made = heap_bytes();
    pid_t child = fork();
    if (child == 0)
        _exit(be_the_peers(sluice_listener_port(listener), go[0]));
    run_until(loop, &opened);
    size_t grown = resident_bytes() - before;
    printf("# %s: %zu bytes resident for each\n", on->name, grown / CROWD);
    cr_expect_leq(grown, (size_t)CROWD * IDLE_BYTES_MAX, "%s: %zu bytes for an idle one", on->name,
                  grown / CROWD);
    expect_heap(on, made);
    cr_assert_eq(write(go[1], "", 1), 1);
    run_until(loop, &closed);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0, "%s: the peers: step %d", on->name, WEXITSTATUS(status));
    cr_expect_eq(messages, ACTIVE * ROUNDS);
    cr_expect_eq(sluice_listener_accepted(listener), CROWD);
    sluice_loop_turn(loop);
    cr_expect_eq(loop->conns->used, 0);
    expect_heap(on, made);
    sluice_loop_destroy(loop);
}
