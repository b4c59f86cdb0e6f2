/*
 * The engine's end of the rendezvous sockets: who may attach, the handshake, and noticing that a
 * client is gone. The runtime watches the descriptors and calls in here.
 */
#include "rings/client.h"
#include "rings/engine.h"
#include "rings/memory.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* 0, or negative errno: the client is gone, or does not read what it was sent before, or there is
 * no memory. */
static int say(int fd, enum link_say what, const struct sluice_channel *ch, int error,
               const int *fds, int fd_count)
{
    struct link_message msg = {.magic = LINK_MAGIC,
                               .say = (uint16_t)what,
                               .layout = SLUICE_LAYOUT_VERSION,
                               .error = error,
                               .epoch = ch->header->epoch};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * LINK_FDS)] = {0};
    struct iovec iov = {&msg, sizeof(msg)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count) {
        size_t bytes = sizeof(int) * (size_t)fd_count;
        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), fds, bytes);
    }
    return sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

void sluice_link_clear(struct sluice_link *link)
{
    *link = (struct sluice_link){.state = LINK_FREE, .fd = -1, .bell = {-1, -1}, .writer = -1};
}

static const char *const role_names[] = {[0] = "nobody yet",
                                         [SLUICE_UPSTREAM] = "upstream",
                                         [SLUICE_PRODUCER] = "producer",
                                         [SLUICE_OBSERVER] = "observer"};

/* ---- places ---- */

static void let_writer_go(struct sluice_channel *ch, struct sluice_link *link)
{
    struct sluice_writer *w = &ch->writers[link->writer];
    if (ch->upstream == link->writer) {
        sluice_channel_take_requests(ch);
        sluice_inbox_upstream_left(ch);
        ch->upstream = -1;
    }
    w->bell_fd = -1;
    link->writer = -1;
    if (w->state == WRITER_ATTACHED)
        w->state = WRITER_LEAVING;
    if (w->state == WRITER_LEAVING && sluice_outbox_refresh(&w->outbox) == 0 &&
        sluice_outbox_refresh(&w->pongs) == 0)
        sluice_writer_free(ch, w); /* nothing of it is left, so nothing is in flight */
}

static void close_bell(struct sluice_link *link)
{
    for (int i = 0; i < 2; i++)
        if (link->bell[i] >= 0)
            close(link->bell[i]);
    link->bell[0] = link->bell[1] = -1;
}

static void uncount(struct sluice_channel *ch, enum sluice_role role)
{
    if (role == SLUICE_UPSTREAM)
        atomic_store_explicit(&ch->shared->upstream_pid, 0, memory_order_relaxed);
    else if (role == SLUICE_PRODUCER)
        atomic_fetch_sub_explicit(&ch->shared->producers, 1, memory_order_relaxed);
}

/* What it held is for others now; what is watched stays until its watcher lets go. */
static void leave(struct sluice_channel *ch, struct sluice_link *link)
{
    if (link->state == LINK_ATTACHED)
        uncount(ch, link->role);
    link->state = LINK_ENDING;
    if (link->writer >= 0)
        let_writer_go(ch, link);
    ch->news |= SLUICE_WAIT_STATE;
}

void sluice_link_end(struct sluice_channel *ch, struct sluice_link *link)
{
    if (link->state == LINK_FREE || link->state == LINK_ENDING)
        return;
    leave(ch, link);
    shutdown(link->fd, SHUT_RDWR); /* its client hears that */
    ch->links_changed = true;
}

void sluice_link_close(struct sluice_channel *ch, struct sluice_link *link)
{
    sluice_log(SLUICE_LOG_DEBUG, "%s: %s gone, pid %d", ch->header->name, role_names[link->role],
               link->pid);
    leave(ch, link);
    close(link->fd);
    close_bell(link);
    sluice_link_clear(link);
    ch->links_changed = true;
}

bool sluice_link_end_silent(struct sluice_channel *ch)
{
    bool any = false;
    uint64_t now = sluice_monotonic_ns();
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++) {
        struct sluice_link *link = &ch->links[i];
        if (!sluice_link_attaches(link) || link->held || now - link->since_ns <= LINK_HANDSHAKE_NS)
            continue;
        any = true;
        if (ch->inbox.away)
            ch->inbox.wanted = true;
        else
            sluice_link_end(ch, link);
    }
    return any;
}

static struct sluice_link *find_free(struct sluice_channel *ch)
{
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++)
        if (ch->links[i].state == LINK_FREE)
            return &ch->links[i];
    return NULL;
}

static void begin(struct sluice_channel *ch, struct sluice_link *link, int fd, int pid)
{
    sluice_link_clear(link);
    link->state = LINK_NEW;
    link->fd = fd;
    link->pid = pid;
    link->since_ns = sluice_monotonic_ns();
    ch->links_changed = true;
}

/* Who could not be watched would never be heard. */
static int check_height(const struct sluice_channel *ch, int fd)
{
    return fd < ch->fd_limit ? 0 : -ERANGE;
}

/* Same user or root, whatever the file's mode lets through. */
static int check_user(int fd, int *pid)
{
    unsigned uid;
    int err = sluice_system_peer(fd, &uid, pid);
    if (err)
        return err;
    return uid == geteuid() || uid == 0 ? 0 : -EACCES;
}

/* No descriptor is left: the spare one serves to tell the client. */
static int accept_without_room(struct sluice_channel *ch)
{
    close(ch->spare_fd);
    int fd = sluice_system_accept(ch->listen_fd, true);
    int err = fd < 0 ? fd : 0;
    if (fd >= 0) {
        say(fd, LINK_REFUSED, ch, -EMFILE, NULL, 0);
        close(fd);
    }
    ch->spare_fd = fcntl(ch->memory_fd, F_DUPFD_CLOEXEC, 0);
    return err;
}

int sluice_channel_accept(struct sluice_channel *ch)
{
    int fd = sluice_system_accept(ch->listen_fd, true);
    if ((fd == -EMFILE || fd == -ENFILE) && ch->spare_fd >= 0)
        return accept_without_room(ch);
    if (fd < 0)
        return fd;
    int pid = 0;
    struct sluice_link *link = find_free(ch);
    int err = check_height(ch, fd);
    if (!err)
        err = check_user(fd, &pid);
    if (!err && !link) {
        sluice_link_end_silent(ch); /* for the next one: their sockets are still watched */
        err = -EBUSY;
    }
    if (err) {
        say(fd, LINK_REFUSED, ch, err, NULL, 0);
        close(fd);
        return 0;
    }
    begin(ch, link, fd, pid);
    return 0;
}

/* ---- the handshake ---- */

/* From now on it rings; all that could be said was. */
static void hear_rings(struct sluice_link *link)
{
    close(link->fd);
    link->fd = link->bell[0];
    link->bell[0] = -1;
    close_bell(link); /* the other end is its client's alone: gone with it */
}

static void attached(struct sluice_channel *ch, struct sluice_link *link)
{
    link->state = LINK_ATTACHED;
    sluice_count(ch, SLUICE_COUNTER_clients_attached, 1);
    if (link->role == SLUICE_UPSTREAM)
        atomic_store_explicit(&ch->shared->upstream_pid, (uint32_t)link->pid, memory_order_relaxed);
    if (link->role == SLUICE_PRODUCER)
        atomic_fetch_add_explicit(&ch->shared->producers, 1, memory_order_relaxed);
    ch->news |= SLUICE_WAIT_STATE;
    sluice_log(SLUICE_LOG_DEBUG, "%s: %s attached, pid %d", ch->header->name,
               role_names[link->role], link->pid);
}

static int admit(struct sluice_channel *ch, struct sluice_link *link, enum sluice_role role)
{
    if (role != SLUICE_UPSTREAM && role != SLUICE_PRODUCER && role != SLUICE_OBSERVER)
        return -EPROTO;
    link->role = role;
    if (role == SLUICE_OBSERVER)
        return 0;
    int err = sluice_doorbell_open(link->bell);
    if (!err)
        err = check_height(ch, link->bell[0]);
    if (!err)
        err = sluice_writer_create(ch, role, &link->writer);
    if (err == -EBUSY && sluice_link_end_silent(ch))
        err = sluice_writer_create(ch, role, &link->writer);
    if (err)
        return err;
    ch->writers[link->writer].bell_fd = link->bell[0];
    if (role == SLUICE_UPSTREAM)
        ch->upstream = link->writer;
    return 0;
}

static void hello(struct sluice_channel *ch, struct sluice_link *link,
                  const struct link_message *msg)
{
    link->since_ns = sluice_monotonic_ns(); /* its turn again, however long ours took */
    if (link->pid == 0)
        link->pid = msg->error;
    int err = msg->layout != SLUICE_LAYOUT_VERSION ? -EPROTO
                                                   : admit(ch, link, (enum sluice_role)msg->role);
    if (err) {
        say(link->fd, LINK_REFUSED, ch, err, NULL, 0);
        sluice_link_end(ch, link);
        return;
    }
    bool has_writer = link->writer >= 0;
    const int fds[LINK_FDS] = {[LINK_FD_ENGINE] = ch->memory_fd,
                               [LINK_FD_WRITER] =
                                   has_writer ? ch->writers[link->writer].memory_fd : -1,
                               [LINK_FD_BELL] = link->bell[1]};
    if (say(link->fd, LINK_WELCOME, ch, 0, fds, has_writer ? LINK_FDS : 1))
        sluice_link_end(ch, link);
    else
        link->state = LINK_WELCOMED;
}

/* Only now: before the client had mapped its memory the seal would have locked it out as well. A
 * refusal means that somebody sealed it first, to keep a way in. */
static void mapped(struct sluice_channel *ch, struct sluice_link *link)
{
    if (link->writer >= 0 && sluice_memory_seal_writes(ch->writers[link->writer].memory_fd)) {
        say(link->fd, LINK_REFUSED, ch, -EACCES, NULL, 0);
        sluice_link_end(ch, link);
        return;
    }
    attached(ch, link);
    if (say(link->fd, LINK_READY, ch, 0, NULL, 0))
        sluice_link_end(ch, link);
    else if (link->writer >= 0)
        hear_rings(link);
}

static void take(struct sluice_channel *ch, struct sluice_link *link,
                 const struct link_message *msg, ssize_t bytes)
{
    bool whole = bytes == (ssize_t)sizeof(*msg) && msg->magic == LINK_MAGIC;
    if (whole && link->state == LINK_NEW && msg->say == LINK_HELLO)
        hello(ch, link, msg);
    else if (whole && link->state == LINK_WELCOMED && msg->say == LINK_MAPPED)
        mapped(ch, link);
    else
        sluice_link_close(ch, link);
}

/* Bytes, 0 at its end, or negative errno. */
static ssize_t hear(const struct sluice_link *link, struct link_message *msg)
{
    if (sluice_link_rings(link))
        return sluice_doorbell_hear(link->fd);
    ssize_t n = recv(link->fd, msg, sizeof(*msg), MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* A doorbell is watched on, which only whoever watches can end. */
static void heard(struct sluice_channel *ch, struct sluice_link *link,
                  const struct link_message *msg, ssize_t bytes)
{
    if (sluice_link_rings(link))
        sluice_link_end(ch, link);
    else if (link->state != LINK_ENDING)
        take(ch, link, msg, bytes);
}

/* Now, or when the inbox is back: whoever comes or goes changes who reads it. */
static void heed(struct sluice_channel *ch, struct sluice_link *link,
                 const struct link_message *msg, ssize_t bytes)
{
    if (!ch->inbox.away) {
        heard(ch, link, msg, bytes);
        return;
    }
    link->held = ch->inbox.wanted = ch->links_changed = true;
    link->held_bytes = bytes;
    link->held_message = *msg;
}

void sluice_link_hung_up(struct sluice_channel *ch, struct sluice_link *link)
{
    heed(ch, link, &(struct link_message){0}, 0);
}

void sluice_link_input(struct sluice_channel *ch, struct sluice_link *link)
{
    struct link_message msg = {0};
    SLUICE_CHECK(link->state != LINK_FREE && !link->held);
    if (link->state == LINK_ENDING) {
        sluice_link_close(ch, link);
        return;
    }
    ssize_t n = hear(link, &msg);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n > 0 && sluice_link_rings(link))
        ch->bell_heard = true;
    else
        heed(ch, link, &msg, n);
}

void sluice_link_take_held(struct sluice_channel *ch)
{
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++) {
        struct sluice_link *link = &ch->links[i];
        bool held = link->held && link->state != LINK_FREE;
        link->held = false;
        if (held)
            heard(ch, link, &link->held_message, link->held_bytes);
    }
}

/* As WELCOME would bring them; sock: an observer's. */
static int give_all(const struct sluice_channel *ch, const struct sluice_link *link, int sock,
                    int fds[LINK_FDS])
{
    const int ours[LINK_FDS] = {[LINK_FD_ENGINE] = ch->memory_fd,
                                [LINK_FD_WRITER] =
                                    link->writer >= 0 ? ch->writers[link->writer].memory_fd : -1,
                                [LINK_FD_BELL] = link->writer >= 0 ? link->bell[1] : sock};
    int err = 0;
    for (int i = 0; i < LINK_FDS; i++) {
        fds[i] = ours[i] >= 0 ? fcntl(ours[i], F_DUPFD_CLOEXEC, 0) : -1;
        if (ours[i] >= 0 && fds[i] < 0)
            err = -errno;
    }
    return err;
}

int sluice_attach_local(struct sluice_client **out, struct sluice_channel *ch,
                        enum sluice_role role)
{
    int pair[2], fds[LINK_FDS];
    *out = NULL;
    struct sluice_link *link = find_free(ch);
    if (!link || ch->inbox.away)
        return -EBUSY;
    int err = sluice_system_pair(SOCK_SEQPACKET, pair);
    if (err)
        return err;
    begin(ch, link, pair[0], getpid());
    err = admit(ch, link, role);
    if (err) {
        close(pair[1]);
        sluice_link_close(ch, link);
        return err;
    }
    err = give_all(ch, link, pair[1], fds);
    close(pair[1]);
    int opened = sluice_client_open(out, role, fds); /* takes them over, whatever they are */
    if (!err)
        err = opened;
    if (!err && link->writer >= 0)
        err = sluice_memory_seal_writes(ch->writers[link->writer].memory_fd);
    if (err) {
        sluice_detach(*out);
        *out = NULL;
        sluice_link_close(ch, link);
        return err;
    }
    if (link->writer >= 0)
        (*out)->number = ch->writers[link->writer].number;
    attached(ch, link);
    if (link->writer >= 0)
        hear_rings(link);
    return 0;
}

void sluice_detach_local(struct sluice_channel *ch, struct sluice_client *c)
{
    for (int i = 0; c && i < (int)SLUICE_LINKS_MAX; i++)
        if (ch->links[i].state == LINK_ATTACHED && ch->links[i].writer == (int)c->index &&
            ch->writers[c->index].number == c->number)
            sluice_link_close(ch, &ch->links[i]);
    sluice_detach(c);
}
