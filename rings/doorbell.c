/*
 * Doorbells.
 */
#include "rings/doorbell.h"
#include "base/system.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

int sluice_doorbell_open(struct sluice_doorbell *bell)
{
    int ends[2] = {-1, -1};
    int err = sluice_system_pipe(ends);
    *bell = (struct sluice_doorbell){.hear_fd = ends[0], .ring_fd = ends[1]};
    if (err || (sluice_doorbell_ring(ends[1]) && sluice_doorbell_hear(ends[0]) == 1))
        return err;
    err = -errno;
    sluice_doorbell_close(bell);
    return err;
}

void sluice_doorbell_close(struct sluice_doorbell *bell)
{
    if (bell->hear_fd >= 0)
        close(bell->hear_fd);
    if (bell->ring_fd >= 0)
        close(bell->ring_fd);
    bell->hear_fd = bell->ring_fd = -1;
}

bool sluice_doorbell_ring(int ring_fd)
{
    return write(ring_fd, "", 1) == 1;
}

/* A signal that write(2) brings is pending when it returns, for this thread. */
static int ring_with_signals_blocked(int ring_fd)
{
    sigset_t broken, before, pending;
    int number;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, &before);
    int err = sluice_doorbell_ring(ring_fd) ? 0 : -errno;
    if (err == -EPIPE && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE))
        sigwait(&broken, &number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

int sluice_doorbell_ring_anyone(int ring_fd)
{
    int err = sluice_system_ring(ring_fd);
    return err == -ENOTSUP ? ring_with_signals_blocked(ring_fd) : err;
}

int sluice_doorbell_hear(int hear_fd)
{
    char rung[4096];
    ssize_t n = read(hear_fd, rung, sizeof(rung));
    return n < 0 ? -errno : (int)n;
}

int sluice_doorbell_wait(int hear_fd, int ms)
{
    struct pollfd bell = {.fd = hear_fd, .events = POLLIN};
    int n = poll(&bell, 1, ms);
    if (n < 0)
        return -errno;
    return n == 0 ? -EAGAIN : sluice_doorbell_hear(hear_fd);
}
