/*
 * Behind --sandbox, as a program that was taken over would try it: each thing that is forbidden,
 * and the few that must go on.
 */
#include "base/check.h"
#include "tests/support/tap.h"
#include "tools/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char home[] = "/tmp/sluice-forbidden-XXXXXX", secret[64], ca[64], meeting[64];

static void refused(long result, int want, const char *what)
{
    int error = errno;
    tap_ok(result < 0 && error == want, "%s: %s", what, result < 0 ? strerror(error) : "it worked");
}

static void try_processes(void)
{
    static char program[] = "/bin/true";
    char *const args[] = {program, NULL};
    struct iovec io = {program, 1};
    refused(execv(program, args), EPERM, "another program");
    refused(fork(), EPERM, "another process");
    refused(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), EPERM, "a debugger");
    refused(process_vm_readv(getppid(), &io, 1, &io, 1, 0), EPERM, "another one's memory");
    refused(kill(getppid(), SIGTERM), EPERM, "a signal to another one");
    refused(syscall(SYS_clone3, NULL, 0), ENOSYS, "clone3, whose flags a filter does not see");
}

static void try_privileges(void)
{
    refused(setuid(0), EPERM, "another user");
    refused(unshare(CLONE_NEWUSER), EPERM, "a namespace");
    refused(mount("none", "/tmp", "tmpfs", 0, NULL), EPERM, "a mount");
    refused(chroot("/"), EPERM, "another root");
    refused(syscall(SYS_bpf, 0, NULL, 0), EPERM, "bpf");
    refused(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), EPERM, "perf_event_open");
    refused(syscall(SYS_userfaultfd, 0), EPERM, "userfaultfd");
    refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0), EPERM, "keyctl");
}

static void try_files(void)
{
    char path[256];
    refused(open("/etc/passwd", O_RDONLY), EACCES, "a file that is nobody's business");
    refused(open("/", O_RDONLY | O_DIRECTORY), EACCES, "the root directory");
    refused(open("/etc/hosts", O_RDWR), EACCES, "to write what may be read");
    snprintf(path, sizeof(path), "%s/outside", home);
    refused(open(path, O_WRONLY | O_CREAT, 0600), EACCES, "a new file");
    refused(open(secret, O_RDONLY), EACCES, "a file of this user");
    refused(unlink(secret), EACCES, "to remove it");
}

static void *on_thread(void *arg)
{
    (void)arg;
    errno = 0;
    return fork() == -1 && errno == EPERM ? arg : NULL;
}

static void go_on(void)
{
    struct addrinfo *list = NULL;
    pthread_t thread;
    void *result = NULL;
    int there;
    int fd = open(ca, O_RDONLY);
    tap_ok(fd >= 0, "the CA file is read");
    close(fd);
    tap_ok(getaddrinfo("localhost", "80", NULL, &list) == 0, "a name is looked up");
    fd = socket(AF_INET, SOCK_STREAM, 0);
    tap_ok(fd >= 0, "a socket is opened");
    close(fd);
    int err = pthread_create(&thread, NULL, on_thread, &there);
    if (!err)
        pthread_join(thread, &result);
    tap_ok(!err && result == &there, "a thread starts, in the same sandbox");
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void make_home(void)
{
    SLUICE_CHECK(mkdtemp(home) && setenv("XDG_RUNTIME_DIR", home, 1) == 0);
    snprintf(secret, sizeof(secret), "%s/secret", home);
    snprintf(ca, sizeof(ca), "%s/ca", home);
    snprintf(meeting, sizeof(meeting), "%s/sluice", home);
    close(open(secret, O_WRONLY | O_CREAT, 0600));
    close(open(ca, O_WRONLY | O_CREAT, 0600));
    SLUICE_CHECK(mkdir(meeting, 0700) == 0);
}

static int remove_home(void)
{
    bool all_there = unlink(secret) == 0 && unlink(ca) == 0 && rmdir(meeting) == 0;
    return all_there && rmdir(home) == 0 ? 0 : 1;
}

static int try_all(void)
{
    const struct options o = {.sandbox = true, .ca = ca};
    struct rlimit core = {1, 1};
    bool landlock = has_landlock(); /* asked here: it is forbidden, too */
    tap_begin();
    tap_ok(sandbox_begin(&o, (const struct options *const[]){&o}, 1) == 0 && sandbox_close(&o) == 0,
           "closed");
    tap_ok(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no new privileges");
    tap_ok(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, "no debugger reads its memory");
    tap_ok(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0, "no core dump");
    try_processes();
    try_privileges();
    if (landlock)
        try_files();
    else
        tap_skip("files", "no Landlock in this kernel");
    go_on();
    return tap_end();
}

/* In a child: it cannot remove what is to be removed. */
int main(void)
{
    int status = 1;
    make_home();
    pid_t child = fork();
    if (child == 0)
        return try_all();
    waitpid(child, &status, 0);
    return remove_home() || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
}
