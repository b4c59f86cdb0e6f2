/*
 * sd_notify(3) without its library: one socket, one datagram for each state.
 */
#include "notify.h"

#include <sluice/log.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NS_PER_US 1000ull

static int notify_fd = -1;

/* A path, or @ and a name that is in no file system. */
static int connect_to(const char *where)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t bytes = strlen(where);
    if ((where[0] != '/' && where[0] != '@') || bytes < 2)
        return -EINVAL;
    if (bytes >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, where, bytes);
    if (where[0] == '@')
        addr.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&addr,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes))) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

void notify_open(void)
{
    const char *where = getenv("NOTIFY_SOCKET");
    if (!where)
        return;
    notify_fd = connect_to(where);
    if (notify_fd < 0)
        sluice_log(SLUICE_LOG_WARN, "NOTIFY_SOCKET=%s: %s; the service manager is told nothing",
                   where, strerror(-notify_fd));
}

void notify_say(const char *format, ...)
{
    char text[512];
    va_list args;
    if (notify_fd < 0)
        return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t bytes = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    if (send(notify_fd, text, bytes, MSG_NOSIGNAL) < 0)
        sluice_log(SLUICE_LOG_DEBUG, "service manager: %s", strerror(errno));
}

uint64_t notify_watchdog_ns(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (notify_fd < 0 || !us || (pid && strtoll(pid, NULL, 10) != getpid()))
        return 0;
    return strtoull(us, NULL, 10) * NS_PER_US / 2;
}

void notify_close(void)
{
    if (notify_fd >= 0)
        close(notify_fd);
    notify_fd = -1;
}
