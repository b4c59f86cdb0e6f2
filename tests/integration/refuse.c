/*
 * refuse ENOSYS|EPERM|PORTABLE COMMAND...: runs a command for which io_uring does not exist, as a
 * container's seccomp profile would have it; PORTABLE: nor does anything else that only Linux has.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libev is left with poll(2). Futexes stay: threads are made of them. */
static const unsigned calls[] = {
    __NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register, /* up to here: io_uring */
    __NR_memfd_create,   __NR_eventfd,        __NR_eventfd2,          __NR_epoll_create,
    __NR_epoll_create1,  __NR_epoll_ctl,      __NR_epoll_wait,        __NR_epoll_pwait,
    __NR_accept4,        __NR_timerfd_create, __NR_signalfd,          __NR_signalfd4};

#define IO_URING_CALLS 3u
#define CALLS          (sizeof(calls) / sizeof(calls[0]))

static int refuse(unsigned count, unsigned error)
{
    struct sock_filter filter[CALLS + 3] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (unsigned i = 0; i < count; i++)
        filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i],
                                                     (unsigned char)(count - i), 0);
    filter[1 + count] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[2 + count] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    const struct sock_fprog program = {.len = (unsigned short)(count + 3), .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    bool portable = argc > 1 && strcmp(argv[1], "PORTABLE") == 0;
    if (argc < 3 ||
        (!portable && strcmp(argv[1], "ENOSYS") != 0 && strcmp(argv[1], "EPERM") != 0)) {
        fprintf(stderr, "usage: refuse ENOSYS|EPERM|PORTABLE COMMAND...\n");
        return 2;
    }
    if (refuse(portable ? CALLS : IO_URING_CALLS, strcmp(argv[1], "EPERM") == 0 ? EPERM : ENOSYS)) {
        perror("refuse: seccomp");
        return 77;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
