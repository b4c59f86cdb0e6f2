/*
 * What only the libev backend has: event mechanisms by name, descriptors that select(2) cannot
 * hold, numbers that come back with another file behind them. All else is in the conformance table.
 */
#include "backends/backend.h"
#include "sluice.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define OPS_MAX 64

static struct sluice_backend *create(const char *event)
{
    struct sluice_backend *be;
    const struct sluice_backend_config cfg = {.ops_max = OPS_MAX, .event = event};
    cr_assert_eq(sluice_backend_create(&be, &sluice_backend_ev, &cfg), 0);
    return be;
}

static int create_error(const char *event)
{
    struct sluice_backend *be;
    const struct sluice_backend_config cfg = {.ops_max = OPS_MAX, .event = event};
    int err = sluice_backend_create(&be, &sluice_backend_ev, &cfg);
    sluice_backend_destroy(be);
    return err;
}

static void never(struct sluice_op *op, int32_t result, bool more)
{
    (void)op, (void)result, (void)more;
    cr_assert_fail("backends do not call back");
}

static void submit_poll(struct sluice_backend *be, struct sluice_op *op, int fd, uint16_t flags)
{
    sluice_op_init(op, SLUICE_OP_POLL, never);
    op->fd = fd;
    op->flags = flags;
    op->poll.events = POLLIN;
    cr_assert_eq(be->ops->submit(be, op), 0);
}

static int32_t result_of(struct sluice_backend *be, const struct sluice_op *op)
{
    struct sluice_completion c;
    cr_assert_eq(be->ops->poll(be, 1000000000, &c, 1), 1);
    cr_assert_eq(c.op, op);
    return c.result;
}

static bool have(const char *feature)
{
    struct sluice_backend_feature rows[16];
    int n = sluice_backend_ev.features(rows, 16);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].name, feature) == 0)
            return rows[i].have;
    cr_assert_fail("no row %s", feature);
    return false;
}

Test(ev, mechanisms_by_name)
{
    static const char *const names[] = {"epoll", "poll", "select", "linuxaio", "kqueue"};
    cr_assert(have("ev.epoll") && have("ev.poll") && have("ev.select"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char feature[24], full[24];
        snprintf(feature, sizeof(feature), "ev.%s", names[i]);
        snprintf(full, sizeof(full), "ev:%s", names[i]);
        if (!have(feature)) {
            cr_expect_eq(create_error(names[i]), -ENOSYS, "%s", names[i]);
            continue;
        }
        struct sluice_backend *be = create(names[i]);
        cr_expect_str_eq(be->name, full);
        sluice_backend_destroy(be);
    }
    cr_expect_eq(create_error("nonsense"), -EINVAL);
    cr_expect_eq(create_error(""), -EINVAL);
}

Test(ev, epoll_when_none_is_named)
{
    static const char *const none[] = {NULL, "auto"};
    setenv("LIBEV_FLAGS", "1", 1); /* select, if libev were to ask the environment */
    for (int i = 0; i < 2; i++) {
        struct sluice_backend *be = create(none[i]);
        cr_expect_str_eq(be->name, "ev:epoll");
        sluice_backend_destroy(be);
    }
}

Test(ev, a_limit_is_no_reason_to_take_another)
{
    struct rlimit limit, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int unnamed = create_error(NULL), without = create_error("poll");
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0); /* reports need descriptors */
    cr_expect_eq(unnamed, -EMFILE);
    cr_expect_eq(without, 0, "poll needs no descriptor");
}

/* An eventfd with this number or a higher one. */
static int high_eventfd(int number)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int low = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = fcntl(low, F_DUPFD_CLOEXEC, number);
    if (fd < 0)
        cr_skip_test("RLIMIT_NOFILE is too low");
    close(low);
    return fd;
}

static void poll_on_high_descriptor(const char *event, int32_t expected)
{
    struct sluice_op op = {0};
    struct sluice_backend *be = create(event);
    int fd = high_eventfd(FD_SETSIZE);
    cr_assert_eq(eventfd_write(fd, 1), 0);
    submit_poll(be, &op, fd, 0);
    cr_expect_eq(result_of(be, &op), expected, "%s", event);
    sluice_backend_destroy(be);
    close(fd);
}

Test(ev, select_refuses_what_it_cannot_hold)
{
    poll_on_high_descriptor("select", -ERANGE);
    poll_on_high_descriptor("poll", POLLIN);
    poll_on_high_descriptor("epoll", POLLIN);
}

Test(ev, the_highest_descriptor_of_select)
{
    struct sluice_op op = {0};
    struct sluice_completion c;
    struct sluice_backend *be = create("select");
    int fd = high_eventfd(FD_SETSIZE - 1);
    submit_poll(be, &op, fd, 0);
    cr_assert_eq(be->ops->poll(be, 0, &c, 1), 0);
    cr_assert_eq(eventfd_write(fd, 1), 0);
    cr_expect_eq(result_of(be, &op), POLLIN);
    sluice_backend_destroy(be);
    close(fd);
}

static void fill_low_descriptors(void)
{
    int high = high_eventfd(FD_SETSIZE);
    while (dup(high) < FD_SETSIZE)
        ;
}

/* A loop's own descriptor is the first to be too high. */
Test(ev, a_loop_on_select_says_what_it_cannot_hold)
{
    struct sluice_loop *loop;
    char why[200];
    struct sluice_loop_config cfg = {.backend = "ev", .event = "select"};
    fill_low_descriptors();
    cr_expect_eq(sluice_loop_create(&loop, &cfg, why, sizeof(why)), -ERANGE);
    cr_expect_null(loop);
    cr_expect_not_null(strstr(why, "ev:select: a descriptor"), "%s", why);
    cfg.event = "poll";
    cr_expect_eq(sluice_loop_create(&loop, &cfg, why, sizeof(why)), 0);
    cr_expect_str_eq(why, "");
    cr_expect_str_eq(sluice_loop_backend(loop), "ev:poll");
    sluice_loop_destroy(loop);
}

static struct sluice_loop *create_select_loop(void)
{
    struct sluice_loop *loop;
    const struct sluice_loop_config cfg = {.backend = "ev:select"};
    cr_assert_eq(sluice_loop_create(&loop, &cfg, NULL, 0), 0);
    return loop;
}

static struct sluice_channel *create_channel(void)
{
    struct sluice_channel *ch;
    char name[32];
    snprintf(name, sizeof(name), "ev-%d", (int)getpid());
    const struct sluice_channel_config cfg = {.name = name};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    return ch;
}

Test(ev, a_channel_that_select_cannot_watch_is_refused)
{
    const struct sluice_transport_config cfg = {0};
    struct sluice_transport *t;
    struct sluice_loop *loop = create_select_loop();
    fill_low_descriptors();
    struct sluice_channel *ch = create_channel();
    cr_expect_eq(sluice_transport_create(&t, loop, ch, &cfg, NULL, NULL), -ERANGE);
    cr_expect_null(t);
    sluice_channel_destroy(ch);
    sluice_loop_destroy(loop);
}

/* It would never be heard: refused instead, and no turn is spent on it again. */
Test(ev, a_client_that_select_cannot_watch_is_refused)
{
    const struct sluice_transport_config cfg = {0};
    struct sluice_transport *t;
    struct sluice_loop *loop = create_select_loop();
    struct sluice_channel *ch = create_channel();
    cr_assert_eq(sluice_transport_create(&t, loop, ch, &cfg, NULL, NULL), 0);
    fill_low_descriptors();
    struct sluice_client *c;
    cr_expect_eq(sluice_attach_local(&c, ch, SLUICE_UPSTREAM), -ERANGE);
    cr_expect_null(c);
    cr_expect_null(sluice_transport_upstream(t));
    for (int turns = 0; turns < 5; turns++)
        cr_assert_geq(sluice_loop_turn(loop), 0);
    cr_expect_eq(sluice_loop_turn(loop), 0, "nothing to do");
    sluice_transport_destroy(t);
    sluice_channel_destroy(ch);
    sluice_loop_destroy(loop);
}

Test(ev, what_the_loop_is_asked_for)
{
    static const struct {
        const char *backend, *event, *name; /* NULL: refused as nonsense */
    } wishes[] = {
        {"ev", NULL, "ev:epoll"},
        {"ev", "auto", "ev:epoll"},
        {"ev", "select", "ev:select"},
        {"ev:poll", NULL, "ev:poll"},
        {NULL, "poll", "ev:poll"},
        {"auto", "epoll", "ev:epoll"},
        {"ev:poll", "poll", "ev:poll"},
        {"ev:poll", "epoll", NULL},
        {"uring", "epoll", NULL},
        {"ev:nonsense", NULL, NULL},
        {"ev:", NULL, NULL},
        {"evil", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        struct sluice_loop *loop;
        char why[200] = "?";
        const struct sluice_loop_config cfg = {.backend = wishes[i].backend,
                                               .event = wishes[i].event};
        int err = sluice_loop_create(&loop, &cfg, why, sizeof(why));
        cr_expect_eq(err, wishes[i].name ? 0 : -EINVAL, "%zu: %d", i, err);
        cr_expect_eq(why[0] == 0, err == 0, "%zu: %s", i, why);
        if (loop)
            cr_expect_str_eq(sluice_loop_backend(loop), wishes[i].name);
        sluice_loop_destroy(loop);
        cr_expect_eq(sluice_loop_create(&loop, &cfg, NULL, 0), err, "nobody asks why");
        sluice_loop_destroy(loop);
    }
}

/* Those that this libev was built without: by name, and what there is instead. */
Test(ev, a_mechanism_that_is_not_there_is_refused_by_name)
{
    static const char *const names[] = {"linuxaio", "kqueue"};
    for (int i = 0; i < 2; i++) {
        struct sluice_loop *loop;
        char why[200] = "", feature[24], begin[40];
        const struct sluice_loop_config cfg = {.backend = "ev", .event = names[i]};
        snprintf(feature, sizeof(feature), "ev.%s", names[i]);
        snprintf(begin, sizeof(begin), "ev:%s: libev or the kernel", names[i]);
        int err = sluice_loop_create(&loop, &cfg, why, sizeof(why));
        cr_expect_eq(err, have(feature) ? 0 : -ENOSYS, "%s: %d", names[i], err);
        cr_expect(err == 0 || strstr(why, begin) == why, "%s", why);
        cr_expect(err == 0 || strstr(why, "there are epoll, poll, select"), "%s", why);
        sluice_loop_destroy(loop);
    }
}

/* libev itself would abort in such a case. */
Test(ev, a_descriptor_that_is_closed_is_an_error)
{
    static const char *const events[] = {"epoll", "poll", "select"};
    for (int i = 0; i < 3; i++) {
        struct sluice_op op = {0};
        struct sluice_backend *be = create(events[i]);
        int fd = eventfd(0, EFD_CLOEXEC);
        close(fd);
        submit_poll(be, &op, fd, 0);
        cr_expect_eq(result_of(be, &op), -EBADF, "%s", events[i]);
        submit_poll(be, &op, fd, SLUICE_OP_MULTI);
        cr_expect_eq(result_of(be, &op), -EBADF, "%s", events[i]);
        sluice_backend_destroy(be);
    }
}

/* The number comes back with another file behind it, between two turns and across them. */
Test(ev, a_descriptor_number_lives_many_times)
{
    static const char *const events[] = {"epoll", "poll", "select"};
    for (int i = 0; i < 3; i++) {
        struct sluice_backend *be = create(events[i]);
        for (int life = 0; life < 20; life++) {
            struct sluice_op op = {0};
            struct sluice_completion c;
            int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
            submit_poll(be, &op, fd, SLUICE_OP_MULTI);
            cr_assert_eq(be->ops->poll(be, 0, &c, 1), 0);
            if (life % 2)
                cr_assert_eq(be->ops->poll(be, 0, &c, 1), 0);
            eventfd_write(fd, 1);
            cr_assert_eq(result_of(be, &op), POLLIN, "%s, life %d", events[i], life);
            be->ops->cancel(be, &op);
            while (op.state == SLUICE_OP_IN_FLIGHT)
                cr_assert_geq(be->ops->poll(be, 0, &c, 1), 0);
            close(fd);
        }
        sluice_backend_destroy(be);
    }
}

/* A file of another process's that outlives our descriptor keeps epoll talking: no op hears it. */
Test(ev, a_file_that_outlives_its_descriptor)
{
    struct sluice_op op = {0};
    struct sluice_completion c;
    struct sluice_backend *be = create("epoll");
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int elsewhere = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    submit_poll(be, &op, fd, 0);
    cr_assert_eq(be->ops->poll(be, 0, &c, 1), 0);
    be->ops->cancel(be, &op);
    cr_assert_eq(result_of(be, &op), -ECANCELED);
    close(fd);
    eventfd_write(elsewhere, 1);
    int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cr_assert_eq(other, fd, "the number is there again");
    submit_poll(be, &op, other, 0);
    for (int turns = 0; turns < 10; turns++)
        cr_assert_eq(be->ops->poll(be, 1000000, &c, 1), 0);
    eventfd_write(other, 1);
    cr_expect_eq(result_of(be, &op), POLLIN);
    sluice_backend_destroy(be);
    close(other);
    close(elsewhere);
}

/* Left to itself libev prints and aborts. */
Test(ev, what_libev_cannot_mend_is_an_error)
{
    struct sluice_completion c;
    int next = dup(0);
    close(next);
    struct sluice_backend *be = create("epoll");
    cr_assert_eq(close(next), 0, "its epoll descriptor");
    cr_expect_eq(be->ops->poll(be, 0, &c, 1), -EBADF);
    cr_assert_eq(dup2(0, next), next);
    cr_expect_eq(be->ops->poll(be, 0, &c, 1), -EINVAL, "no epoll descriptor");
    sluice_backend_destroy(be);
}

/* From now on the kernel watches nothing more, as beyond fs.epoll.max_user_watches. */
static void refuse_watches(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_epoll_ctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        cr_skip_test("no seccomp");
}

Test(ev, what_the_kernel_will_not_watch_is_an_error)
{
    enum { BIG = 4 << 20 };
    static uint8_t big[BIG];
    struct sluice_op op = {0};
    int pair[2];
    int bell = eventfd(0, EFD_CLOEXEC);
    struct sluice_backend *be = create("epoll");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    refuse_watches();
    submit_poll(be, &op, bell, 0);
    cr_expect_eq(result_of(be, &op), -ENOMEM);
    sluice_op_init(&op, SLUICE_OP_SEND, never);
    op.fd = pair[0];
    op.flags = SLUICE_OP_WAITALL;
    op.send.addr = big;
    op.send.bytes = BIG;
    cr_assert_eq(be->ops->submit(be, &op), 0);
    int32_t sent = result_of(be, &op);
    cr_expect(sent > 0 && sent < BIG, "what has left counts");
    cr_assert_eq(be->ops->submit(be, &op), 0);
    cr_expect_eq(result_of(be, &op), -ENOMEM);
    sluice_backend_destroy(be);
}

/* libev knows of it before it sleeps, and says it after. */
Test(ev, a_refusal_waits_for_nothing_else, .timeout = 10)
{
    struct sluice_op op = {0};
    struct sluice_completion c;
    int bell = eventfd(0, EFD_CLOEXEC);
    struct sluice_backend *be = create("epoll");
    refuse_watches();
    submit_poll(be, &op, bell, 0);
    cr_assert_eq(be->ops->poll(be, -1, &c, 1), 1);
    cr_expect_eq(c.result, -ENOMEM);
    sluice_backend_destroy(be);
}

enum { FILLERS = 8 };

/* A listener whose backlog is full: it answers nobody, until somebody takes one out. */
struct full_listener {
    struct sockaddr_in addr;
    int fd;
    int fillers[FILLERS];
};

static void open_full_listener(struct full_listener *l)
{
    socklen_t bytes = sizeof(l->addr);
    l->addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(l->fd, (struct sockaddr *)&l->addr, bytes), 0);
    cr_assert_eq(getsockname(l->fd, (struct sockaddr *)&l->addr, &bytes), 0);
    cr_assert_eq(listen(l->fd, 0), 0);
    for (int i = 0; i < FILLERS; i++) {
        l->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(l->fillers[i], (struct sockaddr *)&l->addr, bytes);
    }
}

static void close_fillers(struct full_listener *l)
{
    for (int i = 0; i < FILLERS; i++)
        close(l->fillers[i]);
}

static void make_room(struct full_listener *l)
{
    cr_assert_eq(fcntl(l->fd, F_SETFL, O_NONBLOCK), 0);
    for (int fd = accept(l->fd, NULL, NULL); fd >= 0; fd = accept(l->fd, NULL, NULL))
        close(fd);
}

/* Loopback answers connect(2) at once, unless the SYN was dropped and has to be sent again. */
static void connect_late(bool refused)
{
    struct sluice_op op = {0};
    struct sluice_completion c;
    struct full_listener l;
    open_full_listener(&l);
    struct sluice_backend *be = create("epoll");
    sluice_op_init(&op, SLUICE_OP_CONNECT, never);
    op.fd = be->ops->sockets->open(be, AF_INET);
    op.connect.addr = (struct sockaddr *)&l.addr;
    op.connect.bytes = sizeof(l.addr);
    cr_assert_eq(be->ops->submit(be, &op), 0);
    cr_assert_eq(be->ops->poll(be, 20000000, &c, 1), 0, "not yet");
    close_fillers(&l);
    if (!refused)
        make_room(&l);
    else
        close(l.fd);
    cr_assert_eq(be->ops->poll(be, 5000000000, &c, 1), 1);
    cr_expect_eq(c.result, refused ? -ECONNREFUSED : 0);
    if (!refused)
        close(l.fd);
    close(op.fd);
    sluice_backend_destroy(be);
}

Test(ev, a_connection_that_comes_late)
{
    connect_late(false);
}

Test(ev, a_refusal_that_comes_late)
{
    connect_late(true);
}

static void on_signal(int number)
{
    (void)number;
}

/* Nothing is watched, and there is no limit: it waits all the same, here for a signal. */
Test(ev, it_waits_for_nothing)
{
    struct sluice_completion c;
    const struct sigaction action = {.sa_handler = on_signal};
    const struct itimerval soon = {.it_value.tv_usec = 30000};
    struct sluice_backend *be = create("epoll");
    cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
    uint64_t before = be->ops->now_ns(be);
    cr_assert_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
    cr_expect_eq(be->ops->poll(be, -1, &c, 1), 0);
    cr_expect_geq(be->ops->now_ns(be) - before, 25000000);
    sluice_backend_destroy(be);
}

/* From the call on, not from when libev last looked at its clock. */
Test(ev, it_waits_as_long_after_a_pause)
{
    struct sluice_completion c;
    struct sluice_backend *be = create("epoll");
    cr_assert_eq(be->ops->poll(be, 0, &c, 1), 0);
    usleep(50000);
    uint64_t before = be->ops->now_ns(be);
    cr_expect_eq(be->ops->poll(be, 30000000, &c, 1), 0);
    cr_expect_geq(be->ops->now_ns(be) - before, 29000000);
    sluice_backend_destroy(be);
}

enum { BELLS = 8 };

struct bells {
    struct sluice_backend *be;
    int fds[BELLS];
    struct sluice_op ops[BELLS];
};

static void watch_all(struct bells *b)
{
    struct sluice_completion out[BELLS];
    for (int i = 0; i < BELLS; i++)
        submit_poll(b->be, &b->ops[i], b->fds[i], SLUICE_OP_MULTI);
    cr_assert_eq(b->be->ops->poll(b->be, 0, out, BELLS), 0);
}

/* All at once, then a sleep that times out, then all given up. */
static void use_all(struct bells *b)
{
    struct sluice_completion out[BELLS];
    eventfd_t count;
    for (int i = 0; i < BELLS; i++)
        cr_assert_eq(eventfd_write(b->fds[i], 1), 0);
    cr_assert_eq(b->be->ops->poll(b->be, -1, out, BELLS), BELLS);
    for (int i = 0; i < BELLS; i++)
        cr_assert_eq(eventfd_read(b->fds[i], &count), 0);
    cr_assert_eq(b->be->ops->poll(b->be, 1000000, out, BELLS), 0);
    for (int i = 0; i < BELLS; i++)
        b->be->ops->cancel(b->be, &b->ops[i]);
    cr_assert_eq(b->be->ops->poll(b->be, -1, out, BELLS), BELLS);
}

/* Sanitizers have a heap of their own, where mallinfo2() sees nothing. */
Test(ev, no_memory_once_its_descriptors_are_watched)
{
    static const char *const events[] = {"epoll", "poll", "select"};
    for (int i = 0; i < 3; i++) {
        struct bells b = {.be = create(events[i])};
        for (int bell = 0; bell < BELLS; bell++)
            b.fds[bell] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        watch_all(&b);
        size_t before = mallinfo2().uordblks;
        use_all(&b);
        for (int round = 0; round < 3; round++) {
            watch_all(&b);
            use_all(&b);
        }
        cr_expect_eq(mallinfo2().uordblks, before, "%s", events[i]);
        sluice_backend_destroy(b.be);
        for (int bell = 0; bell < BELLS; bell++)
            close(b.fds[bell]);
    }
}
