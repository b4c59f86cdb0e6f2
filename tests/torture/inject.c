/*
 * Calls that fail: see inject.h.
 */
#include "inject.h"
#include "tests/tls/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define NO_CALL (-1)

/* Kinds that are no system calls: their place in the table. */
enum { OF_HEAP, OF_RESERVE, OF_THREAD, OF_OPENSSL };

/* Why nobody needs to hear of it when all goes on; what cannot go on must say so. */
static const char again[] = "it is called again";
static const char comfort[] = "an option of comfort, or a question that need not be answered";
static const char last[] = "all is over: closing the descriptor does the rest";
static const char stdio[] = "libc's streams do without";
static const char trial[] =
    "a feature less, as after any trial that fails: sluice_probe() says which";
static const char inside[] = "OpenSSL does without, or tries again";
static const char stays[] = "the name stays, and the next engine takes it over";
static const char served[] = "the spare descriptor serves to refuse, or the next turn accepts";
static const char watched[] =
    "the operation is attempted all the same, and says ENOMEM if it has to wait";

const struct inject_kind inject_kinds[] = {
    [OF_HEAP] = {"row 62: allocation", NO_CALL, ENOMEM, 0, 0, trial},
    [OF_RESERVE] = {"row 62: mmap of nothing", NO_CALL, ENOMEM, 0, 0, NULL},
    [OF_THREAD] = {"row 62: pthread_create", NO_CALL, EAGAIN, 0, 0, NULL},
    [OF_OPENSSL] = {"row 62: allocation of OpenSSL's", NO_CALL, ENOMEM, 0, 0, inside},
    {"row 62: mmap", __NR_mmap, ENOMEM, 4, MAP_SHARED, trial},
    {"row 62: madvise", __NR_madvise, ENOMEM, 3, MADV_DONTFORK & 2, trial},
    {"row 61: memfd_create", __NR_memfd_create, EMFILE, 0, 0, NULL},
    {"row 63: ftruncate", __NR_ftruncate, ENOSPC, 0, 0, NULL},
    {"fcntl, seals", __NR_fcntl, EINVAL, 2, F_ADD_SEALS & ~F_SETFL, NULL},
    {"fcntl, flags", __NR_fcntl, EINVAL, 2, F_SETFL & ~F_ADD_SEALS, comfort},
    {"fstat", __NR_newfstatat, EIO, 0, 0, stdio},
    {"row 61: open", __NR_openat, EMFILE, 0, 0, NULL},
    {"row 63: mkdir", __NR_mkdir, ENOSPC, 0, 0, NULL},
    {"unlink", __NR_unlink, EIO, 0, 0, NULL},
    {"unlinkat", __NR_unlinkat, EIO, 0, 0, stays},
    {"getrandom", __NR_getrandom, EIO, 0, 0, inside},
    {"row 61: eventfd", __NR_eventfd2, EMFILE, 0, 0, NULL},
    {"row 61: socket", __NR_socket, EMFILE, 0, 0, NULL},
    {"row 61: socketpair", __NR_socketpair, EMFILE, 0, 0, trial},
    {"bind", __NR_bind, EACCES, 0, 0, NULL},
    {"listen", __NR_listen, EADDRINUSE, 0, 0, NULL},
    {"row 61: accept", __NR_accept4, EMFILE, 0, 0, served},
    {"row 3: connect", __NR_connect, ENETUNREACH, 0, 0, NULL},
    {"setsockopt", __NR_setsockopt, ENOBUFS, 0, 0, comfort},
    {"getsockopt", __NR_getsockopt, ENOBUFS, 0, 0, comfort},
    {"getpeername", __NR_getpeername, ENOBUFS, 0, 0, comfort},
    {"send", __NR_sendto, ENOBUFS, 0, 0, trial},
    {"sendmsg", __NR_sendmsg, ENOBUFS, 0, 0, last},
    {"row 7: recv", __NR_recvfrom, ECONNRESET, 0, 0, last},
    {"recvmsg", __NR_recvmsg, ENOMEM, 0, 0, NULL},
    {"shutdown", __NR_shutdown, ENOTCONN, 0, 0, last},
    {"poll", __NR_poll, EINTR, 0, 0, again},
    {"row 61: epoll_create", __NR_epoll_create1, EMFILE, 0, 0, NULL},
    {"epoll_ctl", __NR_epoll_ctl, ENOSPC, 0, 0, watched},
    {"epoll_wait", __NR_epoll_wait, EINTR, 0, 0, again},
    {"row 52: io_uring_setup", __NR_io_uring_setup, ENOMEM, 0, 0, trial},
    {"row 51: io_uring_setup, refused", __NR_io_uring_setup, EPERM, 0, 0, trial},
    {"row 53: io_uring_setup, too new", __NR_io_uring_setup, EINVAL, 0, 0, trial},
    {"row 52: io_uring_register", __NR_io_uring_register, ENOMEM, 0, 0, trial},
    {"row 54: io_uring_register, too new", __NR_io_uring_register, EINVAL, 0, 0, trial},
    {"row 57: io_uring_enter, busy", __NR_io_uring_enter, EBUSY, 0, 0, again},
    {"row 57: io_uring_enter, no memory", __NR_io_uring_enter, EAGAIN, 0, 0, again},
    {"row 57: io_uring_enter, interrupted", __NR_io_uring_enter, EINTR, 0, 0, again},
    {"io_uring_enter", __NR_io_uring_enter, EFAULT, 0, 0, trial},
};
const unsigned inject_kind_count = sizeof(inject_kinds) / sizeof(inject_kinds[0]);

_Static_assert(sizeof(inject_kinds) / sizeof(inject_kinds[0]) <= INJECT_KINDS_MAX, "counts");

static struct inject_point point;
static struct inject_counts *_Atomic counts; /* NULL: not begun, or over */
static _Atomic unsigned phase;
static _Atomic long blocks;

void inject_phase(enum inject_phase now)
{
    atomic_store(&phase, now);
}

long inject_blocks(void)
{
    return atomic_load(&blocks);
}

/* Counts it; whether it is the one that fails. */
static bool is_due(unsigned kind)
{
    struct inject_counts *c = atomic_load(&counts);
    if (!c)
        return false;
    unsigned now = atomic_load(&phase);
    unsigned number = atomic_fetch_add(&c->calls[now][kind], 1) + 1;
    bool due = kind == point.kind && now == point.phase && number == point.number;
    if (due)
        atomic_store(&c->hit, true);
    return due;
}

/* ---- system calls ---- */

/* The one place from which the filter lets all of them through. */
long inject_call(long number, long a, long b, long c, long d, long e, long f);
extern const char inject_called[];
__asm__(".text\n"
        ".globl inject_call\n"
        "inject_call:\n"
        "  mov %rdi, %rax\n"
        "  mov %rsi, %rdi\n"
        "  mov %rdx, %rsi\n"
        "  mov %rcx, %rdx\n"
        "  mov %r8, %r10\n"
        "  mov %r9, %r8\n"
        "  mov 8(%rsp), %r9\n"
        "  syscall\n"
        ".globl inject_called\n"
        "inject_called:\n"
        "  ret\n");

static bool is_kind(const struct inject_kind *kind, long call, const greg_t *regs)
{
    const int args[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    return kind->call == call &&
           (!kind->flag_in || ((unsigned)regs[args[kind->flag_in - 1]] & kind->flags));
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    int error = 0;
    (void)signal;
    for (unsigned i = 0; i < inject_kind_count; i++)
        if (is_kind(&inject_kinds[i], info->si_syscall, regs) && is_due(i))
            error = inject_kinds[i].error;
    regs[REG_RAX] = error ? -error
                          : inject_call(info->si_syscall, regs[REG_RDI], regs[REG_RSI],
                                        regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(field))
#define END(what)   BPF_STMT(BPF_RET | BPF_K, (what))

/* From our own place: let through. Then a few instructions for each kind. */
static unsigned write_filter(struct sock_filter *to)
{
    uintptr_t from = (uintptr_t)inject_called;
    unsigned n = 0, ip = offsetof(struct seccomp_data, instruction_pointer);
    to[n++] = (struct sock_filter)LOAD(ip);
    to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)from, 0, 3);
    to[n++] = (struct sock_filter)LOAD(ip + 4);
    to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 0, 1);
    to[n++] = (struct sock_filter)END(SECCOMP_RET_ALLOW);
    for (unsigned i = 0; i < inject_kind_count; i++) {
        const struct inject_kind *kind = &inject_kinds[i];
        unsigned arg = kind->flag_in ? (unsigned)kind->flag_in - 1 : 0;
        if (kind->call == NO_CALL)
            continue;
        to[n++] = (struct sock_filter)LOAD(offsetof(struct seccomp_data, nr));
        to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)kind->call, 0,
                                               (unsigned char)(kind->flag_in ? 3 : 1));
        if (kind->flag_in) {
            to[n++] = (struct sock_filter)LOAD(offsetof(struct seccomp_data, args) + arg * 8u);
            to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kind->flags, 0, 1);
        }
        to[n++] = (struct sock_filter)END(SECCOMP_RET_TRAP);
    }
    to[n++] = (struct sock_filter)END(SECCOMP_RET_ALLOW);
    return n;
}

int inject_begin(const struct inject_point *which, struct inject_counts *to)
{
    static struct sock_filter filter[INJECT_KINDS_MAX * 5 + 6];
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sock_fprog program = {.filter = filter};
    point = *which;
    atomic_store(&counts, to);
    program.len = (unsigned short)write_filter(filter);
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return -errno;
    return 0;
}

void inject_end(void)
{
    atomic_store(&counts, NULL);
}

/* ---- what the linker puts in the place of libc's ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
int __real_posix_memalign(void **out, size_t align, size_t bytes);
void __real_free(void *old);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __real_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);
int __wrap_posix_memalign(void **out, size_t align, size_t bytes);
void __wrap_free(void *old);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);

static void *counted(void *block)
{
    atomic_fetch_add(&blocks, block != NULL);
    return block;
}

static bool heap_is_due(void)
{
    bool due = is_due(OF_HEAP);
    if (due)
        errno = ENOMEM;
    return due;
}

void *__wrap_malloc(size_t bytes)
{
    return heap_is_due() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return heap_is_due() ? NULL : counted(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *old, size_t bytes)
{
    if (heap_is_due())
        return NULL;
    void *block = __real_realloc(old, bytes);
    return old ? block : counted(block);
}

char *__wrap_strdup(const char *text)
{
    return heap_is_due() ? NULL : counted(__real_strdup(text));
}

int __wrap_posix_memalign(void **out, size_t align, size_t bytes)
{
    int err = heap_is_due() ? ENOMEM : __real_posix_memalign(out, align, bytes);
    atomic_fetch_add(&blocks, err == 0);
    return err;
}

void __wrap_free(void *old)
{
    atomic_fetch_sub(&blocks, old != NULL);
    __real_free(old);
}

/* Shared maps are seen by the filter. */
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if ((flags & MAP_PRIVATE) && is_due(OF_RESERVE)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, bytes, prot, flags, fd, offset);
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    return is_due(OF_THREAD) ? EAGAIN : __real_pthread_create(out, attr, run, arg);
}

/* A trap that finds its signal blocked kills. */
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t mine;
    if (!set || how == SIG_UNBLOCK)
        return __real_pthread_sigmask(how, set, old);
    mine = *set;
    sigdelset(&mine, SIGSYS);
    return __real_pthread_sigmask(how, &mine, old);
}

/* ---- OpenSSL's heap: heap_openssl.c ---- */

void *heap_take(void *old, size_t bytes)
{
    if (is_due(OF_OPENSSL))
        return NULL;
    void *block = __real_realloc(old, bytes);
    return old ? block : counted(block);
}

void heap_give(void *old)
{
    __wrap_free(old);
}
