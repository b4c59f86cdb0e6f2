/*
 * Doorbells.
 */
#include "rings/doorbell.h"
#include "base/system.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

int sluice_doorbell_open(int ends[2])
{
    int err = sluice_system_pair(SOCK_STREAM, ends);
    if (err) {
        ends[0] = ends[1] = -1;
        return err;
    }
    sluice_system_refuse_rights(ends[0]);
    sluice_system_block(ends[1]);
    return 0;
}

bool sluice_doorbell_ring(int fd)
{
    if (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        return true;
    if (errno != EAGAIN)
        shutdown(fd, SHUT_RDWR);
    return false;
}

static int hear(int fd, int flags)
{
    char rung[4096];
    ssize_t n = recv(fd, rung, sizeof(rung), flags);
    return n < 0 ? -errno : (int)n;
}

int sluice_doorbell_hear(int fd)
{
    return hear(fd, MSG_DONTWAIT);
}

int sluice_doorbell_wait(int fd, int ms)
{
    /* Without a limit the receive itself waits, where the system lets it: one call, not two. */
    int rung = ms < 0 ? hear(fd, 0) : -EAGAIN;
    if (rung != -EAGAIN)
        return rung;
    struct pollfd bell = {.fd = fd, .events = POLLIN};
    int n = poll(&bell, 1, ms);
    if (n < 0)
        return -errno;
    return n == 0 ? -EAGAIN : sluice_doorbell_hear(fd);
}
