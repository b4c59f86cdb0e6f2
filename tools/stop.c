/*
 * SIGINT and SIGTERM, as a number and a descriptor to poll. SIGPIPE is ignored: writes tell. What
 * to do about a signal is the command's.
 */
#include "stop.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_uint stops;
static int stop_pipe[2] = {-1, -1};
static _Atomic(struct sluice_loop *) loop_to_stop;

static void on_stop(int signal_number)
{
    (void)signal_number;
    int saved = errno;
    atomic_fetch_add(&stops, 1);
    if (write(stop_pipe[1], "", 1) < 0) {
        /* it is full: it is readable all the same */
    }
    struct sluice_loop *loop = atomic_load(&loop_to_stop);
    if (loop)
        sluice_loop_stop(loop);
    errno = saved;
}

int stop_install(void)
{
    if (pipe(stop_pipe))
        return fail_errno(-errno, "pipe");
    for (int i = 0; i < 2; i++) {
        fcntl(stop_pipe[i], F_SETFD, FD_CLOEXEC);
        fcntl(stop_pipe[i], F_SETFL, O_NONBLOCK);
    }
    struct sigaction action = {.sa_handler = on_stop}; /* no SA_RESTART: writes get EINTR */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    return 0;
}

unsigned stop_count(void)
{
    return atomic_load(&stops);
}

int stop_fd(void)
{
    return stop_pipe[0];
}

void stop_clear(void)
{
    char stop[16];
    while (read(stop_pipe[0], stop, sizeof(stop)) > 0) {
        /* all of them */
    }
}

void stop_loop(struct sluice_loop *loop)
{
    atomic_store(&loop_to_stop, loop);
    if (loop && stop_count() > 0) /* one that came before the loop was known here */
        sluice_loop_stop(loop);
}
