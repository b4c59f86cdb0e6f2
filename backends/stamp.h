/*
 * When packets were received, as the kernel or the NIC stamped them: what comes with a receive into
 * a region that has one of these. Linux' SO_TIMESTAMPING; nothing of the NIC is configured here.
 */
#ifndef SLUICE_STAMP_H
#define SLUICE_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct sluice_stamp {
    uint64_t ns; /* CLOCK_REALTIME, of the last packet of the last receive; 0: it had none */
    struct msghdr msg;
    struct iovec iov;
    _Alignas(struct cmsghdr) char control[128];
};

/* For the recvmsg that comes next. */
struct msghdr *sluice_stamp_prepare(struct sluice_stamp *s, void *to, size_t bytes);

/* It came back: ns is of it. */
void sluice_stamp_take(struct sluice_stamp *s);

/* Before packets come: 0 or negative errno. */
int sluice_stamp_enable(int fd, bool hardware);

/* A connected socket whose interface stamps what it receives, and was told to: 0; else -ENOTSUP and
 * why not in a line. */
int sluice_stamp_check_hardware(int fd, char *why, size_t why_bytes);

#endif
