/*
 * No time stamps without Linux: they are refused before anything is received.
 */
#include "backends/stamp.h"

#include <errno.h>
#include <stdio.h>

struct msghdr *sluice_stamp_prepare(struct sluice_stamp *s, void *to, size_t bytes)
{
    s->iov = (struct iovec){.iov_base = to, .iov_len = bytes};
    s->msg = (struct msghdr){.msg_iov = &s->iov, .msg_iovlen = 1};
    return &s->msg;
}

void sluice_stamp_take(struct sluice_stamp *s)
{
    s->ns = 0;
}

int sluice_stamp_enable(int fd, bool hardware)
{
    (void)fd, (void)hardware;
    return -ENOTSUP;
}

int sluice_stamp_check_hardware(int fd, char *why, size_t why_bytes)
{
    (void)fd;
    snprintf(why, why_bytes, "--timestamps: this build has none");
    return -ENOTSUP;
}
