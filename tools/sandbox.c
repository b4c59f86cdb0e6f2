/*
 * --sandbox, by seccomp and Landlock. A thread that looks up a name may do so at any time: its
 * files and system calls are allowed, too.
 */
#include "sandbox.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sluice/channel.h>
#include <sluice/log.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- files ---- */

#define TO_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define TO_MEET                                                              \
    (TO_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define ALL      (2 * LANDLOCK_ACCESS_FS_MAKE_SYM - 1) /* of Landlock's first version (5.13) */

/* Of the C library, for names; of TLS, for certificates. Those that are not there are passed over.
 */
static const char *const read_by_libraries[] = {"/etc/gai.conf",
                                                "/etc/host.conf",
                                                "/etc/hosts",
                                                "/etc/ld.so.cache",
                                                "/etc/nsswitch.conf",
                                                "/etc/resolv.conf",
                                                "/etc/services",
                                                "/etc/ssl",
                                                "/etc/localtime",
                                                "/lib",
                                                "/lib64",
                                                "/usr/lib",
                                                "/usr/lib64",
                                                "/usr/local/share/ca-certificates",
                                                "/usr/share/ca-certificates",
                                                "/usr/share/zoneinfo",
                                                "/dev/urandom",
                                                "/proc/self",
                                                "/proc/sys",
                                                "/sys/devices/system/cpu"};

static int allow(int ruleset, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access};
    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return -errno;
    int failed = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    if (failed && errno == EINVAL) { /* a file: nothing lies beneath it */
        rule.allowed_access &= OF_FILES;
        failed = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    int err = failed ? -errno : 0;
    close(rule.parent_fd);
    return err;
}

/* The directory that engines and clients meet in; what it is to be made in, if it is not there. */
static void allow_meeting(int ruleset)
{
    char path[256];
    if (sluice_channel_directory(path, sizeof(path)))
        return; /* creating the channel says it better */
    if (allow(ruleset, path, TO_MEET) == -ENOENT) {
        *strrchr(path, '/') = 0;
        allow(ruleset, path, TO_MEET);
    }
}

static int allow_named(int ruleset, const char *path)
{
    int err = path ? allow(ruleset, path, TO_READ) : 0;
    return err ? fail_errno(err, "--sandbox: %s", path) : 0;
}

static int allow_named_by(int ruleset, const struct options *o)
{
    const char *const named[] = {o->ca, o->crl, o->cert, o->key};
    int failed = 0;
    for (size_t i = 0; !failed && i < sizeof(named) / sizeof(named[0]); i++)
        failed = allow_named(ruleset, named[i]);
    return failed;
}

static int restrict_files(const struct options *const *each, uint32_t count)
{
    const struct landlock_ruleset_attr all = {.handled_access_fs = ALL};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
    if (ruleset < 0) {
        sluice_log(SLUICE_LOG_WARN, "--sandbox: files stay as they are: no Landlock here (%s)",
                   strerror(errno));
        return 0;
    }
    int failed = 0;
    for (size_t i = 0; i < sizeof(read_by_libraries) / sizeof(read_by_libraries[0]); i++)
        allow(ruleset, read_by_libraries[i], TO_READ);
    for (uint32_t i = 0; !failed && i < count; i++)
        failed = allow_named_by(ruleset, each[i]);
    allow_meeting(ruleset);
    if (!failed && syscall(SYS_landlock_restrict_self, ruleset, 0))
        failed = fail_errno(-errno, "--sandbox: Landlock");
    close(ruleset);
    return failed;
}

int sandbox_begin(const struct options *o, const struct options *const *each, uint32_t count)
{
    const struct rlimit none = {0, 0};
    if (!o->sandbox)
        return 0;
    if (o->keylog || o->report || o->log_file)
        return fail_remedy(
            SLUICE_REASON_USAGE, "leave one of them out",
            "--sandbox goes without --keylog, --report and --log-file, which write files");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ||
        setrlimit(RLIMIT_CORE, &none))
        return fail_errno(-errno, "--sandbox: no new privileges, no core dump");
    return restrict_files(each, count);
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* Of a running engine or client, of starting its threads, and of looking up a name. */
static const uint32_t allowed[] = {
    /* bytes and waiting */
    SYS_io_uring_enter,
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_pwait,
    SYS_epoll_ctl,
    SYS_epoll_create1,
    SYS_eventfd2,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_pipe2,
    SYS_io_submit,
    SYS_io_setup,
    SYS_io_destroy,
    SYS_io_getevents,
    SYS_futex,
    SYS_restart_syscall,
    SYS_sched_yield,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    /* sockets */
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept4,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_ioctl,
    /* descriptors and files */
    SYS_close,
    SYS_fcntl,
    SYS_dup,
    SYS_dup3,
    SYS_lseek,
    SYS_pread64,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_openat,
    SYS_faccessat,
    SYS_readlinkat,
    SYS_getdents64,
    SYS_unlinkat,
    SYS_uname,
    SYS_flock,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fsync,
    /* memory */
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_memfd_create,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_munlock,
    SYS_munlockall,
    SYS_membarrier,
    SYS_getrandom,
    /* rings and threads of later connections; clone: see head */
    SYS_io_uring_setup,
    SYS_io_uring_register,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_set_tid_address,
    SYS_sched_getaffinity,
    SYS_sched_setaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_setscheduler,
    SYS_prctl,
    SYS_getcpu,
    SYS_gettid,
    SYS_getpid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getppid,
    SYS_sysinfo,
    SYS_prlimit64,
    SYS_getrusage,
    /* signals and the end */
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_sigaltstack,
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
#ifdef __x86_64__ /* where there are older ones, too */
    SYS_poll,
    SYS_select,
    SYS_epoll_wait,
    SYS_epoll_create,
    SYS_eventfd,
    SYS_accept,
    SYS_dup2,
    SYS_pipe,
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_unlink,
    SYS_getdents,
    SYS_time,
    SYS_arch_prctl,
#endif
};
#define ALLOWED_COUNT (sizeof(allowed) / sizeof(allowed[0]))

#define LOAD(field) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(what)        BPF_STMT(BPF_RET | BPF_K, (what))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define REFUSE(error)       RETURN(SECCOMP_RET_ERRNO | (error))

/* seccomp sees no memory, so not the flags of clone3: it is not there, and the C library takes
 * clone, which makes threads here and no processes. args[0] by its lower half: little endian. */
static const struct sock_filter head[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    UNLESS(SYS_clone3, 1),
    REFUSE(ENOSYS),
    UNLESS(SYS_clone, 4),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
    RETURN(SECCOMP_RET_ALLOW),
    REFUSE(EPERM),
};
#define HEAD_COUNT (sizeof(head) / sizeof(head[0]))

int sandbox_close(const struct options *o)
{
    struct sock_filter filter[HEAD_COUNT + 2 * ALLOWED_COUNT + 1];
    struct sock_fprog program = {.filter = filter};
    if (!o->sandbox)
        return 0;
    memcpy(filter, head, sizeof(head));
    program.len = HEAD_COUNT;
    for (size_t i = 0; i < ALLOWED_COUNT; i++) {
        filter[program.len++] = (struct sock_filter)UNLESS(allowed[i], 1);
        filter[program.len++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    }
    filter[program.len++] = (struct sock_filter)REFUSE(EPERM);
    long failed =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (failed)
        return fail_errno(failed < 0 ? -errno : -ESRCH, "--sandbox: seccomp");
    return 0;
}
