/*
 * Attaching and detaching, the client's end: the handshake, the checks, the mappings.
 */
#include "rings/client.h"
#include "rings/engine.h"
#include "rings/memory.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int say(int sock, enum link_say what, enum sluice_role role)
{
    struct link_message msg = {.magic = LINK_MAGIC,
                               .say = (uint16_t)what,
                               .layout = SLUICE_LAYOUT_VERSION,
                               .role = (uint32_t)role,
                               .error = what == LINK_HELLO ? getpid() : 0};
    ssize_t n = send(sock, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n == (ssize_t)sizeof(msg) ? 0 : n < 0 ? -errno : -EPROTO;
}

static void close_all(const int fds[LINK_FDS])
{
    for (int i = 0; i < LINK_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int left_ms(uint64_t deadline_ns)
{
    uint64_t now = sluice_monotonic_ns();
    if (deadline_ns == UINT64_MAX)
        return -1;
    uint64_t left = now >= deadline_ns ? 0 : (deadline_ns - now) / SLUICE_NS_PER_MS + 1;
    return left > INT_MAX ? INT_MAX : (int)left;
}

/* Wait for one message; descriptors that come with it land in fds (NULL: none are taken). */
static int hear(int sock, enum link_say want, int *fds, uint64_t deadline_ns)
{
    struct link_message msg;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * LINK_FDS)];
    struct iovec iov = {&msg, sizeof(msg)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = fds ? control : NULL,
                        .msg_controllen = fds ? sizeof(control) : 0};
    struct pollfd pfd = {.fd = sock, .events = POLLIN};
    int ready = poll(&pfd, 1, left_ms(deadline_ns));
    if (ready <= 0)
        return ready == 0 ? -ETIMEDOUT : -errno;

    ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == ECONNRESET) /* it closed before it read us; its refusal stands behind */
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    if (fds && n > 0 && c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    if (fds && mh.msg_flags & MSG_CTRUNC)
        return -EMFILE; /* there was no room for them here */
    if (n != (ssize_t)sizeof(msg) || msg.magic != LINK_MAGIC)
        return n == 0 ? -ECONNRESET : -EPROTO;
    if (msg.say == LINK_REFUSED)
        return msg.error < 0 ? msg.error : -EPROTO;
    return msg.say == want && msg.layout == SLUICE_LAYOUT_VERSION ? 0 : -EPROTO;
}

/* The header is a claim, not a fact: every size is checked against the others and the file. */
static int check_engine(const struct engine_header *h, int fd)
{
    if (h->magic != ENGINE_MAGIC || h->layout != SLUICE_LAYOUT_VERSION)
        return -EPROTO;
    uint64_t entries = h->meta_entries, bytes = h->inbox_bytes;
    bool powers = entries && !(entries & (entries - 1)) && bytes && !(bytes & (bytes - 1));
    if (!powers || entries > (1u << 20) || bytes > (1u << 30) || entries < 64 ||
        bytes < LAYOUT_PAGE || h->meta_at != ENGINE_FIXED_BYTES ||
        h->inbox_at != h->meta_at + entries * sizeof(struct sluice_meta))
        return -EPROTO;
    return sluice_memory_check(fd, h->inbox_at + bytes);
}

static int map_engine(struct sluice_client *c, int fd)
{
    int err = sluice_memory_check(fd, ENGINE_FIXED_BYTES);
    if (err)
        return err;
    const char *fixed = sluice_memory_map(fd, 0, ENGINE_FIXED_BYTES, MAP_TO_READ);
    if (!fixed)
        return -errno;
    c->header = (const struct engine_header *)(const void *)fixed;
    c->shared = (const struct engine_shared *)(const void *)(fixed + ENGINE_SHARED_AT);
    struct engine_header h = *c->header; /* loaded once: the engine might change it */
    err = check_engine(&h, fd);
    if (err)
        return err;
    c->entries = h.meta_entries;
    c->inbox_bytes = h.inbox_bytes;
    c->meta = sluice_memory_map_twice(fd, h.meta_at, c->entries * sizeof(struct sluice_meta),
                                      MAP_TO_READ);
    if (!c->meta)
        return -errno;
    c->inbox = sluice_memory_map_twice(fd, h.inbox_at, c->inbox_bytes, MAP_TO_READ);
    return c->inbox ? 0 : -errno;
}

static bool part_ok(const struct ring_part *p)
{
    return p->slots && !(p->slots & (p->slots - 1)) && p->slots <= (1u << 20) && p->bytes &&
           !(p->bytes & (p->bytes - 1)) && p->bytes >= LAYOUT_PAGE && p->bytes <= (1u << 30) &&
           p->at % LAYOUT_PAGE == 0 && p->at <= (1ull << 40) && p->slots_at <= (1ull << 40) &&
           p->slots_at % sizeof(struct ring_slot) == 0;
}

static int check_writer(const struct writer_header *h, const struct sluice_client *c, int fd)
{
    if (h->magic != WRITER_MAGIC || h->layout != SLUICE_LAYOUT_VERSION ||
        h->role != (uint32_t)c->role || h->epoch != c->header->epoch ||
        h->index >= SLUICE_WRITERS_MAX || !part_ok(&h->outbox) || !part_ok(&h->pongs))
        return -EPROTO;
    uint64_t slots_end = h->pongs.slots_at + h->pongs.slots * sizeof(struct ring_slot);
    if (h->outbox.slots_at < WRITER_FIXED_BYTES ||
        h->outbox.slots_at + h->outbox.slots * sizeof(struct ring_slot) > h->outbox.at ||
        slots_end > h->outbox.at)
        return -EPROTO;
    uint64_t end = h->pongs.at + h->pongs.bytes;
    return sluice_memory_check(
        fd, end > h->outbox.at + h->outbox.bytes ? end : h->outbox.at + h->outbox.bytes);
}

static int open_producer(struct producer *p, int fd, const struct ring_part *part, char *slots,
                         struct ring_tails *tails, const struct ring_heads *heads, size_t limit)
{
    *p = (struct producer){.tails = tails,
                           .heads = heads,
                           .slots = (struct ring_slot *)(void *)slots,
                           .slot_count = part->slots,
                           .byte_count = part->bytes,
                           .limit = limit};
    p->base = sluice_memory_map_twice(fd, part->at, part->bytes, MAP_TO_WRITE);
    return p->base ? 0 : -errno;
}

static int map_writer(struct sluice_client *c, int fd)
{
    struct writer_header h;
    SLUICE_CHECK(c->header != NULL); /* map_engine() comes first */
    int err = sluice_memory_check(fd, WRITER_FIXED_BYTES);
    if (err)
        return err;
    if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
        return -EPROTO;
    err = check_writer(&h, c, fd);
    if (err)
        return err;
    char *fixed = sluice_memory_map(fd, 0, h.outbox.at, MAP_TO_WRITE);
    if (!fixed)
        return -errno;
    c->fixed = fixed;
    c->fixed_bytes = h.outbox.at;
    c->mine = (struct writer_shared *)(void *)(fixed + WRITER_SHARED_AT);
    c->index = h.index;
    const struct engine_shared *s = c->shared;
    err = open_producer(&c->outbox, fd, &h.outbox, fixed + h.outbox.slots_at, &c->mine->outbox,
                        &s->writers[h.index].outbox, h.outbox.bytes / 2);
    if (err)
        return err;
    return open_producer(&c->pongs, fd, &h.pongs, fixed + h.pongs.slots_at, &c->mine->pongs,
                         &s->writers[h.index].pongs, PONG_BYTES_MAX);
}

/* An upstream continues where the engine says; an observer at the newest entry. */
static int set_cursor(struct sluice_client *c)
{
    if (c->role == SLUICE_UPSTREAM) {
        c->meta_head = atomic_load_explicit(&c->mine->meta_head, memory_order_relaxed);
        c->inbox_head = atomic_load_explicit(&c->mine->inbox_head, memory_order_relaxed);
    } else {
        c->meta_head = atomic_load_explicit(&c->shared->meta_tail, memory_order_acquire);
        c->inbox_head = atomic_load_explicit(&c->shared->inbox_tail, memory_order_relaxed);
    }
    if (c->role != SLUICE_OBSERVER)
        return 0;
    c->copies_max = 256;
    c->copies = calloc(c->copies_max, sizeof(*c->copies));
    return c->copies ? 0 : -ENOMEM;
}

int sluice_client_open(struct sluice_client **out, enum sluice_role role, const int fds[LINK_FDS])
{
    *out = NULL;
    struct sluice_client *c = calloc(1, sizeof(*c));
    if (!c) {
        close_all(fds);
        return -ENOMEM;
    }
    sluice_clock(); /* messages are stamped in cycles */
    c->magic = CLIENT_MAGIC;
    c->role = role;
    c->bell_fd = fds[LINK_FD_BELL];
    int err = map_engine(c, fds[LINK_FD_ENGINE]);
    if (!err && role != SLUICE_OBSERVER)
        err = map_writer(c, fds[LINK_FD_WRITER]);
    if (!err)
        err = set_cursor(c);
    close(fds[LINK_FD_ENGINE]);
    if (fds[LINK_FD_WRITER] >= 0)
        close(fds[LINK_FD_WRITER]);
    if (err) {
        sluice_detach(c);
        return err;
    }
    *out = c;
    return 0;
}

/* A stopped engine answers nobody; its memory may be found all the same. */
static int memory_of_stuck_engine(int sock, const char *name)
{
    unsigned uid;
    int pid, err = sluice_system_peer(sock, &uid, &pid);
    return err ? err : sluice_memory_of_process(pid, name);
}

static bool fds_ok(const int fds[LINK_FDS], enum sluice_role role)
{
    bool writes = fds[LINK_FD_WRITER] >= 0 && fds[LINK_FD_BELL] >= 0;
    return fds[LINK_FD_ENGINE] >= 0 && (role == SLUICE_OBSERVER || writes);
}

/* Mapped: once the engine has sealed that, it is ours. */
static int settle(int sock, enum sluice_role role, uint64_t deadline_ns)
{
    int err = say(sock, LINK_MAPPED, role);
    return !err || err == -EPIPE ? hear(sock, LINK_READY, NULL, deadline_ns) : err;
}

int sluice_attach(struct sluice_client **out, const char *name, enum sluice_role role,
                  int64_t timeout_ns)
{
    int fds[LINK_FDS] = {-1, -1, -1};
    *out = NULL;
    uint64_t deadline = timeout_ns < 0 ? UINT64_MAX : sluice_monotonic_ns() + (uint64_t)timeout_ns;
    int sock = sluice_rendezvous_connect(name);
    if (sock == -ECONNREFUSED) {
        sluice_rendezvous_forget(name);
        return -ENOENT;
    }
    if (sock < 0)
        return sock == -EAGAIN ? -ETIMEDOUT : sock;
    int err = say(sock, LINK_HELLO, role);
    if (!err || err == -EPIPE) /* it may have refused us already: hear why */
        err = hear(sock, LINK_WELCOME, fds, deadline);
    bool stuck = err == -ETIMEDOUT && role == SLUICE_OBSERVER;
    if (stuck) {
        fds[LINK_FD_ENGINE] = memory_of_stuck_engine(sock, name);
        err = fds[LINK_FD_ENGINE] < 0 ? fds[LINK_FD_ENGINE] : 0;
    }
    if (!err && !fds_ok(fds, role))
        err = -EPROTO;
    if (err) {
        close_all(fds);
        close(sock);
        return err;
    }
    if (role == SLUICE_OBSERVER)
        fds[LINK_FD_BELL] = sock;
    err = sluice_client_open(out, role, fds);
    if (!err && !stuck)
        err = settle(sock, role, deadline);
    if (role != SLUICE_OBSERVER)
        close(sock);
    if (err) {
        sluice_detach(*out);
        *out = NULL;
    }
    return err;
}

void sluice_detach(struct sluice_client *c)
{
    if (!c)
        return;
    SLUICE_CHECK(c->magic == CLIENT_MAGIC);
    sluice_memory_unmap(c->outbox.base, 2 * c->outbox.byte_count);
    sluice_memory_unmap(c->pongs.base, 2 * c->pongs.byte_count);
    sluice_memory_unmap(c->fixed, c->fixed_bytes);
    sluice_memory_unmap(c->inbox, 2 * c->inbox_bytes);
    sluice_memory_unmap(c->meta, 2 * c->entries * sizeof(struct sluice_meta));
    sluice_memory_unmap(c->header, ENGINE_FIXED_BYTES);
    if (c->bell_fd >= 0)
        close(c->bell_fd);
    free(c->copies);
    c->magic = 0;
    free(c);
}
