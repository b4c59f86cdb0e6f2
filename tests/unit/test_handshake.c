/*
 * The handshake of attaching, each side against one that forges its half: other versions, missing
 * descriptors, memory whose header lies.
 */
#include "rings/client.h"
#include "rings/memory.h"
#include "tests/support/memcheck.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NAME "feed"
#define S_NS 1000000000ll

static void set_up(void)
{
    cr_assert_eq(serve_make_home(), 0);
}

static void tear_down(void)
{
    cr_expect(serve_remove_home(), "something was left in %s", serve_home);
}

TestSuite(handshake, .init = set_up, .fini = tear_down, .timeout = 20);

static const struct sluice_channel_config small = {
    .name = NAME, .inbox_bytes = 65536, .outbox_bytes = 65536, .metadata_entries = 64};

/* ---- a client that forges ---- */

static int dial(struct sluice_channel *ch)
{
    int fd = sluice_rendezvous_connect(NAME);
    cr_assert_geq(fd, 0);
    serve_once(ch, 1000);
    return fd;
}

static struct link_message saying(enum link_say what, enum sluice_role role)
{
    return (struct link_message){.magic = LINK_MAGIC,
                                 .say = (uint16_t)what,
                                 .layout = SLUICE_LAYOUT_VERSION,
                                 .role = (uint32_t)role};
}

/* What the engine answers, with its descriptors; say is 0 when it hung up. */
static struct link_message answer(struct sluice_channel *ch, int fd, int fds[LINK_FDS])
{
    struct link_message msg = {0};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * LINK_FDS)];
    struct iovec iov = {&msg, sizeof(msg)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof(control)};
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    serve_once(ch, 1000);
    cr_assert_eq(poll(&pfd, 1, 1000), 1, "no answer");
    ssize_t n = recvmsg(fd, &mh, 0);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
    if (c)
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return msg;
}

static void expect_all_free(struct sluice_channel *ch)
{
    for (int i = 0; i < 4; i++)
        serve_once(ch, 0);
    serve_free_leaving(ch);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        cr_expect_eq(ch->links[i].state, LINK_FREE);
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        cr_expect_eq(ch->writers[i].state, WRITER_FREE);
    cr_expect_eq(ch->upstream, -1);
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_clients_attached], 0u);
    cr_expect_eq(ch->shared->producers, 0u);
}

static void refuse_hello(const struct link_message *hello)
{
    int fds[LINK_FDS];
    struct sluice_channel *ch;
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    int fd = dial(ch);
    cr_assert_eq(send(fd, hello, sizeof(*hello), 0), (ssize_t)sizeof(*hello));
    struct link_message got = answer(ch, fd, fds);
    cr_expect_eq(got.say, LINK_REFUSED);
    cr_expect_eq(got.error, -EPROTO);
    close(fd);
    expect_all_free(ch);
    sluice_channel_destroy(ch);
}

Test(handshake, row_29_a_client_of_another_layout_is_refused)
{
    struct link_message hello = saying(LINK_HELLO, SLUICE_UPSTREAM);
    hello.layout++;
    refuse_hello(&hello);
}

Test(handshake, an_unknown_role_is_refused)
{
    struct link_message hello = saying(LINK_HELLO, (enum sluice_role)4);
    refuse_hello(&hello);
    hello.role = 0;
    refuse_hello(&hello);
    hello.role = UINT32_MAX;
    refuse_hello(&hello);
}

/* Anything else ends the link; the engine and its other clients do not notice. */
Test(handshake, garbage_ends_the_link)
{
    static const struct link_message bad[] = {
        {.magic = LINK_MAGIC + 1, .say = LINK_HELLO, .layout = SLUICE_LAYOUT_VERSION, .role = 1},
        {.magic = LINK_MAGIC, .say = LINK_MAPPED, .layout = SLUICE_LAYOUT_VERSION, .role = 1},
        {.magic = LINK_MAGIC, .say = LINK_WELCOME, .layout = SLUICE_LAYOUT_VERSION, .role = 1},
        {.magic = LINK_MAGIC, .say = 999, .layout = SLUICE_LAYOUT_VERSION, .role = 1},
        {0},
    };
    struct sluice_channel *ch;
    int fds[LINK_FDS];
    char blob[4096] = {0};
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = dial(ch);
        cr_assert_gt(send(fd, &bad[i], sizeof(bad[i]), 0), 0);
        cr_expect_eq(answer(ch, fd, fds).say, 0, "row %zu", i);
        close(fd);
    }
    for (size_t bytes = 1; bytes <= sizeof(blob); bytes *= 2) { /* too short, too long */
        int fd = dial(ch);
        cr_assert_eq(send(fd, blob, bytes, 0), (ssize_t)bytes);
        cr_expect_eq(answer(ch, fd, fds).say, 0, "%zu bytes", bytes);
        close(fd);
    }
    expect_all_free(ch);
    sluice_channel_destroy(ch);
}

Test(handshake, hello_twice_ends_the_link)
{
    struct sluice_channel *ch;
    int fds[LINK_FDS];
    const struct link_message hello = saying(LINK_HELLO, SLUICE_UPSTREAM);
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    int fd = dial(ch);
    cr_assert_gt(send(fd, &hello, sizeof(hello), 0), 0);
    cr_expect_eq(answer(ch, fd, fds).say, LINK_WELCOME);
    cr_assert_gt(send(fd, &hello, sizeof(hello), 0), 0);
    cr_expect_eq(answer(ch, fd, fds).say, 0);
    close(fd);
    expect_all_free(ch);
    sluice_channel_destroy(ch);
}

/* Sealed by the client before it said MAPPED: then the engine could not close the way in. */
Test(handshake, a_writer_that_sealed_its_memory_first_is_refused)
{
    struct sluice_channel *ch;
    int fds[LINK_FDS];
    const struct link_message hello = saying(LINK_HELLO, SLUICE_PRODUCER);
    const struct link_message mapped = saying(LINK_MAPPED, SLUICE_PRODUCER);
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    int fd = dial(ch);
    cr_assert_gt(send(fd, &hello, sizeof(hello), 0), 0);
    cr_assert_eq(answer(ch, fd, fds).say, LINK_WELCOME);
    cr_assert_eq(fcntl(fds[LINK_FD_WRITER], F_ADD_SEALS, F_SEAL_SEAL), 0);
    cr_assert_gt(send(fd, &mapped, sizeof(mapped), 0), 0);
    struct link_message got = answer(ch, fd, fds);
    cr_expect_eq(got.say, LINK_REFUSED);
    cr_expect_eq(got.error, -EACCES);
    close(fd);
    expect_all_free(ch);
    sluice_channel_destroy(ch);
}

/* More clients than the engine has places for: each is told so. */
Test(handshake, too_many_clients_are_told)
{
    struct sluice_channel *ch;
    struct sluice_client *all[SLUICE_LINKS_MAX], *more;
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        cr_assert_eq(sluice_attach_local(&all[i], ch, SLUICE_OBSERVER), 0);
    cr_expect_eq(sluice_attach_local(&more, ch, SLUICE_OBSERVER), -EBUSY);
    for (int i = 0; i < 20; i++) {
        int err = serve_attaching(ch, NAME, SLUICE_OBSERVER, &more);
        cr_expect_eq(err, -EBUSY, "%s", strerror(-err));
    }
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        sluice_detach(all[i]);
    sluice_channel_destroy(ch);
}

/* Who connects and then says nothing, or says what it wants and never maps it, loses its place to
 * somebody else; but not within its second. */
Test(handshake, silent_clients_lose_their_places)
{
    const struct link_message hello = saying(LINK_HELLO, SLUICE_UPSTREAM);
    struct sluice_channel *ch;
    struct sluice_client *up;
    int silent[SLUICE_LINKS_MAX - 1];
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX - 1; i++)
        silent[i] = dial(ch);
    cr_assert_eq(send(silent[0], &hello, sizeof(hello), MSG_NOSIGNAL), (ssize_t)sizeof(hello));
    cr_expect_eq(serve_attaching(ch, NAME, SLUICE_UPSTREAM, &up), -EBUSY);
    usleep(1100000);
    cr_assert_eq(serve_attaching(ch, NAME, SLUICE_UPSTREAM, &up), 0);
    sluice_detach(up);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX - 1; i++)
        close(silent[i]);
    sluice_channel_destroy(ch);
}

/* The time is the client's: what the engine took before it heard HELLO does not count. */
Test(handshake, who_was_not_heard_was_not_silent)
{
    const struct link_message hello = saying(LINK_HELLO, SLUICE_UPSTREAM);
    struct sluice_channel *ch;
    int fds[LINK_FDS];
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    int fd = dial(ch);
    cr_assert_eq(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL), (ssize_t)sizeof(hello));
    usleep(1100000);
    cr_expect_eq(answer(ch, fd, fds).say, LINK_WELCOME);
    cr_expect_eq(sluice_link_end_silent(ch), false);
    cr_expect_eq(ch->links[0].state, LINK_WELCOMED);
    usleep(1100000);
    sluice_inbox_leave(ch);
    cr_expect_eq(sluice_link_end_silent(ch), true);
    cr_expect_eq(ch->inbox.wanted, true, "another thread has it");
    cr_expect_eq(ch->links[0].state, LINK_WELCOMED);
    sluice_inbox_came_back(ch);
    cr_expect_eq(ch->links[0].state, LINK_ENDING);
    for (int i = 0; i < LINK_FDS; i++)
        close(fds[i]);
    close(fd);
    sluice_channel_destroy(ch);
}

/* The spare descriptor serves to say it, each time anew. */
Test(handshake, row_61_a_client_is_told_that_the_engine_has_no_descriptor_left)
{
    struct sluice_channel *ch;
    struct rlimit usual;
    int taken[64];
    not_under_valgrind("closes an accepted descriptor that the limit forbids");
    cr_assert_eq(sluice_channel_create(&ch, &small), 0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    for (int i = 0; i < 2; i++) {
        int fd = sluice_rendezvous_connect(NAME);
        cr_assert_geq(fd, 0);
        for (int n = 0; n < 64; n++)
            taken[n] = dup(fd);
        const struct rlimit low = {.rlim_cur = (rlim_t)taken[63] + 1, .rlim_max = usual.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
        cr_assert_gt(serve_once(ch, 1000), 0);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
        for (int n = 0; n < 64; n++)
            close(taken[n]);
        struct link_message got = {0};
        cr_expect_eq(recv(fd, &got, sizeof(got), MSG_DONTWAIT), (ssize_t)sizeof(got));
        cr_expect_eq(got.say, LINK_REFUSED);
        cr_expect_eq(got.error, -EMFILE);
        close(fd);
    }
    sluice_channel_destroy(ch);
}

/* ---- an engine that forges ---- */

struct forged {
    struct link_message msg;
    size_t bytes;
    int fds[LINK_FDS];
    size_t fd_count;
};

static int forger_listen(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    cr_assert(mkdir(serve_path(NULL), 0700) == 0 || errno == EEXIST);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sluice/%s.sock", serve_home, NAME);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    cr_assert_eq(listen(fd, 4), 0);
    return fd;
}

static void forge_answer(int listener, const struct forged *f)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * LINK_FDS)] = {0};
    struct link_message msg;
    struct iovec iov = {(void *)(uintptr_t)&f->msg, f->bytes};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    if (f->fd_count) {
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * f->fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * f->fd_count);
        memcpy(CMSG_DATA(c), f->fds, sizeof(int) * f->fd_count);
    }
    int fd = accept(listener, NULL, NULL);
    cr_assert_eq(recv(fd, &msg, sizeof(msg), 0), (ssize_t)sizeof(msg));
    cr_assert_geq(sendmsg(fd, &mh, MSG_NOSIGNAL), 0);
    (void)!recv(fd, &msg, sizeof(msg), 0); /* MAPPED or the hang-up */
    close(fd);
}

/* What an attaching client makes of that answer. */
static int attach_to_forger(const struct forged *f, enum sluice_role role)
{
    int listener = forger_listen();
    struct serve_attach a = {.name = NAME, .role = role};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, serve_attach_thread, &a), 0);
    forge_answer(listener, f);
    pthread_join(thread, NULL);
    close(listener);
    cr_assert_eq(unlink(serve_path(NAME ".sock")), 0);
    cr_expect_null(a.client);
    return a.result;
}

static struct forged honest(struct sluice_channel *ch, const struct sluice_client *up)
{
    const struct sluice_writer *w = &ch->writers[up->index];
    return (struct forged){.msg = saying(LINK_WELCOME, 0),
                           .bytes = sizeof(struct link_message),
                           .fds = {ch->memory_fd, w->memory_fd},
                           .fd_count = LINK_FDS};
}

static void make_private(struct sluice_channel **ch, struct sluice_client **up)
{
    struct sluice_channel_config cfg = small;
    cfg.name = NULL;
    cr_assert_eq(sluice_channel_create(ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(up, *ch, SLUICE_UPSTREAM), 0);
}

Test(handshake, row_29_an_engine_of_another_layout_or_with_garbage_is_refused)
{
    struct sluice_channel *ch;
    struct sluice_client *up;
    make_private(&ch, &up);
    const struct forged good = honest(ch, up);
    struct forged f = good;
    f.msg.layout++;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.msg.magic++;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.msg.say = LINK_READY;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.bytes -= 8;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.fd_count = 0;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.fd_count = 1;
    cr_expect_eq(attach_to_forger(&f, SLUICE_PRODUCER), -EPROTO);
    f = good, f.fds[LINK_FD_ENGINE] = ch->links[0].fd; /* not a memfd */
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f = good, f.msg.say = LINK_REFUSED, f.msg.error = 12; /* no errno of ours */
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EPROTO);
    f.msg.error = -EBUSY;
    cr_expect_eq(attach_to_forger(&f, SLUICE_OBSERVER), -EBUSY);
    f = good, f.fds[LINK_FD_WRITER] = ch->memory_fd; /* the writer's header is not there */
    cr_expect_eq(attach_to_forger(&f, SLUICE_PRODUCER), -EPROTO);
    sluice_detach(up);
    sluice_channel_destroy(ch);
}

/* A header of an engine's memory with one field wrong. */
static int attach_to_header(const struct engine_header *h, uint64_t bytes, bool sealed)
{
    int fd = sluice_memory_create("forged", bytes);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, h, sizeof(*h), 0), (ssize_t)sizeof(*h));
    if (sealed)
        cr_assert_eq(sluice_memory_seal_size(fd), 0);
    struct forged f = {
        .msg = saying(LINK_WELCOME, 0), .bytes = sizeof(f.msg), .fds = {fd}, .fd_count = 1};
    int err = attach_to_forger(&f, SLUICE_OBSERVER);
    close(fd);
    return err;
}

Test(handshake, an_engines_header_that_lies_is_refused)
{
    struct sluice_channel *ch;
    struct sluice_client *up;
    make_private(&ch, &up);
    const struct engine_header good = *ch->header;
    uint64_t bytes = good.memory_bytes;
    struct engine_header h = good;
    cr_expect_eq(attach_to_header(&h, bytes, true), -ECONNRESET); /* good; nobody says READY */
    cr_expect_eq(attach_to_header(&h, bytes, false), -EPROTO);
    cr_expect_eq(attach_to_header(&h, bytes - LAYOUT_PAGE, true), -EPROTO);
    cr_expect_eq(attach_to_header(&h, LAYOUT_PAGE, true), -EPROTO);
    h = good, h.magic++;
    cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO);
    h = good, h.layout++;
    cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO);
    static const uint64_t bad[] = {0, 1, 63, 65, 96, 1ull << 21, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        h = good, h.meta_entries = bad[i];
        h.inbox_at = h.meta_at + bad[i] * sizeof(struct sluice_meta);
        cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO, "entries %zu", i);
        h = good, h.inbox_bytes = bad[i] << 10;
        cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO, "bytes %zu", i);
        h = good, h.meta_at = bad[i] << 12;
        cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO, "meta_at %zu", i);
        h = good, h.inbox_at = bad[i] << 12;
        cr_expect_eq(attach_to_header(&h, bytes, true), -EPROTO, "inbox_at %zu", i);
    }
    sluice_detach(up);
    sluice_channel_destroy(ch);
}

static int attach_to_writer(struct forged f, const struct writer_header *h, uint64_t bytes)
{
    int fd = sluice_memory_create("forged", bytes);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, h, sizeof(*h), 0), (ssize_t)sizeof(*h));
    cr_assert_eq(sluice_memory_seal_size(fd), 0);
    f.fds[LINK_FD_WRITER] = fd;
    int err = attach_to_forger(&f, SLUICE_UPSTREAM);
    close(fd);
    return err;
}

Test(handshake, a_writers_header_that_lies_is_refused)
{
    struct sluice_channel *ch;
    struct sluice_client *up;
    make_private(&ch, &up);
    const struct forged f = honest(ch, up);
    struct writer_header good, h;
    cr_assert_eq(pread(f.fds[LINK_FD_WRITER], &good, sizeof(good), 0), (ssize_t)sizeof(good));
    uint64_t bytes = good.memory_bytes;
    cr_expect_eq(attach_to_writer(f, &good, bytes), -ECONNRESET); /* good; nobody says READY */
    cr_expect_eq(attach_to_writer(f, &good, bytes - 1), -EPROTO);
#define LIE(field, value)                                                               \
    do {                                                                                \
        h = good;                                                                       \
        h.field = (value);                                                              \
        cr_expect_eq(attach_to_writer(f, &h, bytes), -EPROTO, "%s %s", #field, #value); \
    } while (0)
    LIE(magic, 0);
    LIE(layout, SLUICE_LAYOUT_VERSION + 1);
    LIE(role, SLUICE_PRODUCER);
    LIE(epoch, good.epoch + 1);
    LIE(index, SLUICE_WRITERS_MAX);
    LIE(index, UINT32_MAX);
    LIE(outbox.at, 0);
    LIE(outbox.at, good.outbox.at + 1);
    LIE(outbox.at, good.outbox.at + bytes);
    LIE(outbox.at, UINT64_MAX - LAYOUT_PAGE + 1);
    LIE(outbox.bytes, 0);
    LIE(outbox.bytes, 65537);
    LIE(outbox.bytes, 1ull << 31);
    LIE(outbox.slots, 0);
    LIE(outbox.slots, 65);
    LIE(outbox.slots, 1u << 20);
    LIE(outbox.slots_at, 0);
    LIE(outbox.slots_at, WRITER_FIXED_BYTES + 1);
    LIE(outbox.slots_at, UINT64_MAX - 15);
    LIE(pongs.at, bytes);
    LIE(pongs.at, UINT64_MAX - LAYOUT_PAGE + 1);
    LIE(pongs.bytes, 1ull << 30);
    LIE(pongs.slots_at, bytes);
    LIE(pongs.slots, 1u << 20);
#undef LIE
    sluice_detach(up);
    sluice_channel_destroy(ch);
}
