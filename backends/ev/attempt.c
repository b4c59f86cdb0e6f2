/*
 * One attempt of each kind of op: the system call, made so that it never waits. When to make it is
 * ev.c's.
 */
#include "backends/ev/ev.h"
#include "base/check.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

static bool is_not_yet(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static enum libev_outcome failed(int error, int32_t *result)
{
    if (is_not_yet(error))
        return LIBEV_PARK;
    *result = -error;
    return LIBEV_END;
}

/* For accept(2) and connect(2), which take no MSG_DONTWAIT. */
static int make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if (flags & O_NONBLOCK)
        return 0;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

static enum libev_outcome attempt_accept(const struct sluice_op *op, int32_t *result)
{
    int err = make_nonblocking(op->fd);
    if (err)
        return failed(-err, result);
    int fd = sluice_system_accept(op->fd, false);
    if (fd < 0)
        return failed(-fd, result);
    *result = fd;
    return op->flags & SLUICE_OP_MULTI ? LIBEV_TELL_MORE : LIBEV_END;
}

/* Failed: SO_ERROR has it, once. Else connect(2) again says whether it is through. */
static int connect_again(const struct sluice_op *op)
{
    int error = 0;
    socklen_t bytes = sizeof(error);
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &bytes))
        return -errno;
    if (error)
        return -error;
    return connect(op->fd, op->connect.addr, op->connect.bytes) && errno != EISCONN ? -errno : 0;
}

static enum libev_outcome attempt_connect(struct libev_slot *slot, int32_t *result)
{
    const struct sluice_op *op = slot->op;
    int err;
    if (slot->connecting) {
        err = connect_again(op);
    } else {
        slot->connecting = true;
        err = make_nonblocking(op->fd);
        if (!err && connect(op->fd, op->connect.addr, op->connect.bytes))
            err = -errno;
    }
    if (err == -EINPROGRESS || err == -EALREADY)
        return LIBEV_PARK;
    *result = err;
    return err == -EINTR ? LIBEV_PARK : LIBEV_END;
}

/* A count short of the room means that the socket was empty, as EAGAIN would: what comes later is
 * told again, for every mechanism of libev is level-triggered. Not so with kernel TLS: behind a
 * KeyUpdate that it holds ready Linux (7.3 tried) calls the socket unreadable. */
static enum libev_outcome attempt_region(struct libev_slot *slot, int32_t *result)
{
    const struct sluice_op *op = slot->op;
    const struct sluice_region *region = op->region;
    uint64_t room = region->lent - slot->region_pos;
    if (room > INT_MAX)
        room = INT_MAX;
    uint8_t *to = region->base + (slot->region_pos & (region->bytes - 1));
    struct sluice_stamp *stamp = region->stamp;
    ssize_t count =
        stamp ? recvmsg(op->fd, sluice_stamp_prepare(stamp, to, (size_t)room), MSG_DONTWAIT)
              : recv(op->fd, to, (size_t)room, MSG_DONTWAIT);
    if (count < 0)
        return failed(errno, result);
    if (stamp)
        sluice_stamp_take(stamp);
    *result = (int32_t)count;
    slot->region_pos += (uint64_t)count;
    if (count == 0 || region->one_shot || (uint64_t)count == room)
        return LIBEV_END;
    return op->flags & SLUICE_OP_RECORDS ? LIBEV_TELL_MORE : LIBEV_TELL;
}

/* A buffer is taken for the attempt only. A full one tells nothing about what is behind it. */
static enum libev_outcome attempt_pooled(struct sluice_pool *pool, struct libev_slot *slot,
                                         int32_t *result, uint16_t *buffer)
{
    const struct sluice_op *op = slot->op;
    int taken = sluice_pool_take(pool);
    if (taken < 0)
        return failed(-taken, result);
    ssize_t count = recv(op->fd, sluice_pool_at(pool, (uint16_t)taken), sluice_pool_room(pool, op),
                         MSG_DONTWAIT);
    if (count <= 0) {
        int error = count < 0 ? errno : 0;
        pool->free[pool->free_count++] = (uint16_t)taken;
        *result = 0;
        return count < 0 ? failed(error, result) : LIBEV_END;
    }
    *result = (int32_t)count;
    *buffer = (uint16_t)taken;
    if (!(op->flags & SLUICE_OP_MULTI))
        return LIBEV_END;
    bool is_full = (size_t)count == pool->bytes;
    return is_full || op->flags & SLUICE_OP_RECORDS ? LIBEV_TELL_MORE : LIBEV_TELL;
}

static enum libev_outcome attempt_recv(struct sluice_pool *pool, struct libev_slot *slot,
                                       int32_t *result, uint16_t *buffer)
{
    const struct sluice_op *op = slot->op;
    if (op->region)
        return attempt_region(slot, result);
    if (op->flags & SLUICE_OP_POOLED)
        return attempt_pooled(pool, slot, result, buffer);
    size_t room = op->recv.bytes > INT_MAX ? INT_MAX : op->recv.bytes;
    ssize_t count = recv(op->fd, op->recv.addr, room, MSG_DONTWAIT);
    if (count < 0)
        return failed(errno, result);
    *result = (int32_t)count;
    return LIBEV_END;
}

/* An error behind bytes that have left is for the next SEND to hear, as on io_uring. */
static enum libev_outcome attempt_send(struct libev_slot *slot, int32_t *result)
{
    const struct sluice_op *op = slot->op;
    size_t all = op->send.bytes > INT_MAX ? INT_MAX : op->send.bytes;
    const uint8_t *from = (const uint8_t *)op->send.addr + slot->sent_bytes;
    ssize_t count = send(op->fd, from, all - slot->sent_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool parks = !(op->flags & SLUICE_OP_NOWAIT);
    if (count < 0 && !parks) {
        *result = is_not_yet(errno) ? -EAGAIN : -errno;
        return LIBEV_END;
    }
    if (count < 0 && (is_not_yet(errno) || slot->sent_bytes == 0))
        return failed(errno, result);
    slot->sent_bytes += count > 0 ? (size_t)count : 0;
    *result = (int32_t)slot->sent_bytes;
    bool wants_rest = op->flags & SLUICE_OP_WAITALL && parks && count > 0;
    return wants_rest && slot->sent_bytes < all ? LIBEV_PARK : LIBEV_END;
}

static enum libev_outcome attempt_poll(struct libev_slot *slot, int32_t *result)
{
    const struct sluice_op *op = slot->op;
    struct pollfd p = {.fd = op->fd, .events = (short)op->poll.events, .revents = slot->ready};
    int n = slot->ready ? 1 : poll(&p, 1, 0);
    slot->ready = 0;
    if (n < 0)
        return failed(errno, result);
    if (n == 0)
        return LIBEV_PARK;
    *result = p.revents & POLLNVAL ? -EBADF : p.revents;
    return *result > 0 && op->flags & SLUICE_OP_MULTI ? LIBEV_TELL : LIBEV_END;
}

/* No mechanism of libev tells when a file can be read: it is waited for. */
static enum libev_outcome attempt_read(const struct sluice_op *op, int32_t *result)
{
    size_t room = op->read.bytes > INT_MAX ? INT_MAX : op->read.bytes;
    ssize_t count;
    do {
        count = pread(op->fd, op->read.addr, room, (off_t)op->read.offset);
    } while (count < 0 && errno == EINTR);
    *result = count < 0 ? -errno : (int32_t)count;
    return LIBEV_END;
}

enum libev_outcome libev_attempt(struct sluice_pool *pool, struct libev_slot *slot, int32_t *result,
                                 uint16_t *buffer)
{
    const struct sluice_op *op = slot->op;
    switch ((enum sluice_op_kind)op->kind) {
    case SLUICE_OP_ACCEPT:
        return attempt_accept(op, result);
    case SLUICE_OP_CONNECT:
        return attempt_connect(slot, result);
    case SLUICE_OP_RECV:
        return attempt_recv(pool, slot, result, buffer);
    case SLUICE_OP_SEND:
        return attempt_send(slot, result);
    case SLUICE_OP_POLL:
        return attempt_poll(slot, result);
    case SLUICE_OP_READ:
        return attempt_read(op, result);
    case SLUICE_OP_KINDS:
        break;
    }
    SLUICE_CHECK(op->kind < SLUICE_OP_KINDS);
    return LIBEV_PARK;
}

int libev_interest(const struct sluice_op *op)
{
    if (op->kind == SLUICE_OP_POLL)
        return (op->poll.events & POLLIN ? EV_READ : 0) |
               (op->poll.events & POLLOUT ? EV_WRITE : 0);
    return op->kind == SLUICE_OP_CONNECT || op->kind == SLUICE_OP_SEND ? EV_WRITE : EV_READ;
}
