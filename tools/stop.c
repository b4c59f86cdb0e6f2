/*
 * SIGINT and SIGTERM, as a number and a descriptor to poll. SIGPIPE is ignored: writes tell. What
 * to do about a signal is the command's.
 */
#include "stop.h"

#include "fail.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

static atomic_uint stops;
static int stop_event = -1;
static _Atomic(struct sluice_loop *) loop_to_stop;

static void on_stop(int signal_number)
{
    (void)signal_number;
    int saved = errno;
    atomic_fetch_add(&stops, 1);
    if (eventfd_write(stop_event, 1) < 0) {
        /* the counter is full: it is readable all the same */
    }
    struct sluice_loop *loop = atomic_load(&loop_to_stop);
    if (loop)
        sluice_loop_stop(loop);
    errno = saved;
}

int stop_install(void)
{
    stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_event < 0)
        return fail_errno(-errno, "eventfd");
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
    return stop_event;
}

void stop_clear(void)
{
    eventfd_t count;
    if (eventfd_read(stop_event, &count) < 0)
        return; /* nothing there */
}

void stop_loop(struct sluice_loop *loop)
{
    atomic_store(&loop_to_stop, loop);
    if (loop && stop_count() > 0) /* one that came before the loop was known here */
        sluice_loop_stop(loop);
}
