/*
 * The seam: asynchronous operations (ops) go in, completions come out. What runs them (io_uring,
 * libev, a simulation) cannot be told from outside. One table of cases, tests/conformance/cases.c,
 * runs on every backend; each numbered line below is at least one case there.
 *
 *  1. Every submitted op ends exactly once. Before that a MULTI op may complete any number of times
 *     with MORE set; a completion without MORE is the end, whatever its result.
 *  2. From submit to the end the op, its buffers and its address belong to the backend.
 *  3. Nothing is called back inside submit, cancel or poll; poll only hands back completions.
 *  4. The same event of the network gives the same result on every backend.
 *  5. A cancelled op ends with -ECANCELED or with its real result, never with silence.
 *  6. Short counts are legal everywhere; the simulation produces them often.
 *  7. No room for another op is -EAGAIN from submit, with nothing changed.
 *  8. RECV into a region fills it in order, gap-free, from region->pos on, never beyond what was
 *     lent. It ends with -ENOBUFS or a count when that is used up; bytes of one completion lie
 *     behind those of the one before. Something must be lent; MULTI, unless it is one_shot.
 *  9. Two SENDs, or two RECVs, in flight on one descriptor are the caller's bug.
 * 10. A stream's end is a RECV result of 0. A reset is -ECONNRESET (or -EPIPE for a SEND); but TCP
 *     tells it once, and a SEND beside may have heard it: while our side is open, ask was_reset()
 *     before a 0 is believed.
 * 11. A SEND with NOWAIT and WAITALL takes what there is room for at once: all, a short count, or
 *     -EAGAIN. One that took all may be handed back late: it does not end a poll's wait, but comes
 *     with what does. So one system call sends and waits for the answer.
 * 12. A POOLED RECV takes a buffer of the backend's pool when it has bytes for it, so one that
 * waits holds none. A result > 0 stands in completion.buffer, from its beginning: the caller's
 * until pool_put(). No other result comes with a buffer.
 *     Without MULTI it takes at most recv.bytes, unless that is 0.
 * 13. With no buffer left it ends with -ENOBUFS, whether or not bytes wait; none is lost. It may
 * say so although one is free: submit it again.
 * 14. A READ is of a regular file, also in the simulation. Where the system cannot be asked to do
 *     it meanwhile (libev), poll() waits for the disk.
 * 15. Datagrams are whole, an empty one is one, and those of one sender in order; POLL says when
 *     there are some. What finds no room with the receiver is lost, and counted with a later one.
 *     That nobody is there is told to a connected sender, once.
 */
#ifndef SLUICE_BACKEND_H
#define SLUICE_BACKEND_H

#include "backends/stamp.h"
#include "base/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

enum sluice_op_kind {
    SLUICE_OP_ACCEPT,  /* result: descriptor, non-inheritable */
    SLUICE_OP_CONNECT, /* result: 0 */
    SLUICE_OP_RECV,    /* result: bytes, 0 at the end of the stream. Into addr, a region or, POOLED,
                          wherever it says */
    SLUICE_OP_SEND,    /* result: bytes */
    SLUICE_OP_POLL,    /* result: poll(2) events that stand */
    SLUICE_OP_READ,    /* result: bytes, 0 at the end of the file */
    SLUICE_OP_KINDS
};

enum sluice_op_state { SLUICE_OP_IDLE, SLUICE_OP_IN_FLIGHT };

#define SLUICE_OP_MULTI \
    0x1u /* ACCEPT, POLL, RECV into a region or POOLED: may complete many times */
#define SLUICE_OP_WAITALL 0x2u /* SEND: come back when all is sent, if the backend can */
#define SLUICE_OP_NOWAIT  0x4u /* SEND, with WAITALL: see 11 */
#define SLUICE_OP_POOLED  0x8u /* RECV: into a buffer of the backend's pool */
#define SLUICE_OP_RECORDS \
    0x10u /* RECV, of kernel TLS: a short count does not mean that nothing is behind it */

#define SLUICE_NOWAIT_BYTES_MAX (16u << 10) /* worth it: more rarely finds room at once */

#define SLUICE_OP_MAGIC 0x6f70u

struct sluice_op;
struct sluice_backend;

/** One end, or one step, of an op. */
struct sluice_completion {
    struct sluice_op *op;
    int32_t result;  /* >= 0 as the kind says, < 0 negated errno */
    uint16_t more;   /* 1: the op goes on */
    uint16_t buffer; /* POOLED, result > 0: of the pool */
};

/**
 * One asynchronous operation; embedded in its owner, never copied. Idle it may be changed freely.
 * 80 bytes.
 */
struct sluice_op {
    uint16_t magic;
    uint8_t kind;        /* enum sluice_op_kind */
    uint8_t state;       /* enum sluice_op_state; the backend's */
    uint16_t flags;      /* SLUICE_OP_* */
    uint16_t generation; /* the backend's: a late completion of an earlier life is not ours */
    int32_t fd;
    int32_t file; /* from sluice_backend_ops.file_add, or -1 */
    union {
        struct {
            void *addr;
            size_t bytes;
        } recv; /* ignored with a region; POOLED: bytes, see 12 */
        struct {
            uint16_t buffer; /* the completion's, set before done() is called */
        } pooled;
        struct {
            const void *addr;
            size_t bytes;
        } send;
        struct {
            const struct sockaddr *addr;
            socklen_t bytes;
        } connect;
        struct {
            uint32_t events; /* POLLIN, POLLOUT */
        } poll;
        struct {
            void *addr;
            size_t bytes;
            uint64_t offset; /* in the file */
        } read;
    };
    struct sluice_region *region; /* RECV: where the stream goes, or NULL */
    /* Called by the loop for each completion, never by the backend. */
    void (*done)(struct sluice_op *op, int32_t result, bool more);
    struct sluice_op *next; /* the backend's lists */
    struct sluice_op **link;
    uint64_t backend_word;
};

_Static_assert(sizeof(struct sluice_op) == 80, "struct sluice_op: keep it small, it is everywhere");

static inline void sluice_op_init(struct sluice_op *op, enum sluice_op_kind kind,
                                  void (*done)(struct sluice_op *op, int32_t result, bool more))
{
    *op = (struct sluice_op){.magic = SLUICE_OP_MAGIC,
                             .kind = (uint8_t)kind,
                             .generation = op->magic == SLUICE_OP_MAGIC ? op->generation : 0,
                             .fd = -1,
                             .file = -1,
                             .done = done};
}

/**
 * Memory that a stream is received into, in order, without a copy: a byte ring mapped twice back to
 * back. The owner moves pos by each result; the backend moves lent in region_lend().
 */
struct sluice_region {
    uint8_t *base;
    uint64_t bytes;             /* a power of two; base[0 .. 2 * bytes) is mapped */
    uint64_t pos;               /* where the next byte goes; owner's */
    uint64_t lent;              /* the backend may write below this position */
    uint32_t slice_bytes;       /* lent moves in steps of this; 1: any. Set by region_open() */
    uint16_t id;                /* the backend's */
    uint16_t one_shot;          /* owner's wish at region_open(): slices of 1 byte, no buffers */
    struct sluice_stamp *stamp; /* or NULL; one_shot only: of each receive (stamp.h). The owner
                                   takes it before the next poll. */
    void *backend_data;
};

/**
 * Receive buffers of one size, shared by all POOLED RECVs of a backend. Those that nobody has lie
 * on a stack, the warmest on top; io_uring has its own order.
 */
struct sluice_pool {
    uint8_t *base;
    uint32_t count; /* a power of two */
    uint32_t bytes; /* of each */
    uint16_t *free;
    uint32_t free_count;
};

#define SLUICE_POOL_MAX 32768u /* buffers: io_uring_register_buf_ring(3) */

static inline uint8_t *sluice_pool_at(const struct sluice_pool *pool, uint16_t buffer)
{
    return pool->base + (size_t)buffer * pool->bytes;
}

/* At most so many bytes go into a buffer of the pool: see 12. */
static inline size_t sluice_pool_room(const struct sluice_pool *pool, const struct sluice_op *op)
{
    bool limited = !(op->flags & SLUICE_OP_MULTI) && op->recv.bytes > 0;
    return limited && op->recv.bytes < pool->bytes ? op->recv.bytes : pool->bytes;
}

struct sluice_backend_feature {
    const char *name;
    bool have;
    char detail[120];
};

struct sluice_backend_config {
    uint32_t ops_max;   /* in flight at once */
    uint32_t files_max; /* descriptors file_add() can take */
    uint32_t pool_bufs; /* rounded up to a power of two; 0: no pool */
    uint32_t pool_buf_bytes;
    bool reads; /* READ is wanted: else io_uring is told to refuse it */
    /* io_uring's alone, the others answer -ENOTSUP; 0: not wanted. See sluice_loop_config. */
    uint32_t napi_busy_poll_us, sqpoll_idle_ms;
    uint64_t seed;     /* sim only */
    const char *event; /* ev only: "epoll", "poll", "select", ...; NULL: "auto" */
};

/** What is known about a datagram. */
struct sluice_datagram {
    struct sockaddr_storage from;
    socklen_t from_bytes;
    uint32_t dropped; /* that found no room before it came, in all; 0 also: not known */
};

/** Datagrams: calls that never wait, see 15. Descriptors are closed as those of streams. */
struct sluice_datagram_ops {
    int (*open)(struct sluice_backend *be, int family); /* or -errno */
    int (*bind)(struct sluice_backend *be, int fd, const struct sockaddr *addr, socklen_t bytes);
    /** From now on only this peer is heard. */
    int (*connect)(struct sluice_backend *be, int fd, const struct sockaddr *addr, socklen_t bytes);
    /** 0: all of it; -EAGAIN, -EMSGSIZE, ... : nothing. to: NULL where it is connected. */
    int (*send)(struct sluice_backend *be, int fd, const void *data, size_t bytes,
                const struct sockaddr *to, socklen_t to_bytes);
    /** Bytes of the oldest, cut to the room; -EAGAIN there is none, or another negative errno. */
    ssize_t (*recv)(struct sluice_backend *be, int fd, void *to, size_t room,
                    struct sluice_datagram *about);
};

/** Socket calls that never wait. The kernel's are shared by all real backends; sim has its own. */
struct sluice_socket_ops {
    int (*open)(struct sluice_backend *be, int family); /* stream socket, or -errno */
    /** A socket that listens, or -errno. reuse_port: others may listen there too. */
    int (*listen)(struct sluice_backend *be, const struct sockaddr *addr, socklen_t bytes,
                  int backlog, bool reuse_port);
    /** Of this end or the peer's: 0 or -errno. *bytes: the room in, the length out. */
    int (*address)(struct sluice_backend *be, int fd, bool of_peer, struct sockaddr *out,
                   socklen_t *bytes);
    int (*set_option)(struct sluice_backend *be, int fd, int level, int name, const void *value,
                      socklen_t bytes);
    int (*shutdown)(struct sluice_backend *be, int fd, int how);
    int (*reset_on_close)(struct sluice_backend *be, int fd); /* close sends RST, not FIN */
    void (*close)(struct sluice_backend *be, int fd);
    bool (*was_reset)(struct sluice_backend *be, int fd);       /* see 10 */
    uint64_t (*acked_bytes)(struct sluice_backend *be, int fd); /* UINT64_MAX: not known */
    /** Receives into a region with a stamp have one; hardware: of the NIC's. 0 or negative errno.
     */
    int (*stamp)(struct sluice_backend *be, int fd, bool hardware);
    /** What TCP received so far: bytes of the stream, packets with data. False: not known. */
    bool (*segments)(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments);
    /** Kernel TLS: one record that is no data. Bytes, -EAGAIN or another negative errno. */
    ssize_t (*send_record)(struct sluice_backend *be, int fd, unsigned type, const void *data,
                           size_t bytes);
    ssize_t (*recv_record)(struct sluice_backend *be, int fd, unsigned *type, void *buf,
                           size_t bytes);
    const struct sluice_datagram_ops *datagrams;
};

struct sluice_backend_ops {
    const char *name;
    size_t state_bytes; /* the core allocates it, zeroed */
    /** 0, or -ENOSYS, -EPERM (not there), -EINVAL (no such event), -ENOMEM, -EMFILE (a limit), ...
     */
    int (*init)(struct sluice_backend *be, const struct sluice_backend_config *cfg);
    void (*fini)(struct sluice_backend *be);                         /* with no op in flight */
    int (*submit)(struct sluice_backend *be, struct sluice_op *op);  /* 0 or -EAGAIN */
    void (*cancel)(struct sluice_backend *be, struct sluice_op *op); /* a request; see 5 */
    /**
     * Start what was submitted, then hand back up to max completions. With none at hand, wait for
     * one up to timeout_ns (-1: no limit, 0: never wait). io_uring then makes no system call if
     * nothing is due; readiness has to be asked for. Returns their number or a negative errno; a
     * signal is 0, and so is a descriptor that was ready for nobody.
     */
    int (*poll)(struct sluice_backend *be, int64_t timeout_ns, struct sluice_completion *out,
                int max);
    uint64_t (*now_ns)(struct sluice_backend *be); /* CLOCK_MONOTONIC, or the virtual clock */
    /** A shorter name for a descriptor (io_uring's registered files): index, or negative errno. */
    int (*file_add)(struct sluice_backend *be, int fd);
    void (*file_remove)(struct sluice_backend *be, int file);
    int (*region_open)(struct sluice_backend *be, struct sluice_region *region);
    void (*region_close)(struct sluice_backend *be,
                         struct sluice_region *region); /* once or twice */
    /** Let the backend write below limit (as far as whole slices go); returns the new lent. */
    uint64_t (*region_lend)(struct sluice_backend *be, struct sluice_region *region,
                            uint64_t limit);
    /** The caller has done with a buffer. */
    void (*pool_put)(struct sluice_backend *be, uint16_t buffer);
    /** Start what was submitted: a descriptor that is readable when poll() has something to hand
     * back; or negative errno. due: it may have so already, whatever the descriptor says. NULL:
     * none is to be had. */
    int (*pollable)(struct sluice_backend *be, bool *due);
    const struct sluice_socket_ops *sockets;
    /** What this machine offers it: fills up to max rows, returns their number. NULL: nothing to
     * say. */
    int (*features)(struct sluice_backend_feature *out, int max);
};

/** First member of every backend's state. */
struct sluice_backend {
    const struct sluice_backend_ops *ops;
    uint32_t ops_max;
    uint32_t in_flight;
    struct sluice_pool pool;
    bool edge;     /* a MULTI POLL tells of each write, whether what came before was read or not */
    int fd_limit;  /* an op on a descriptor from here on ends with -ERANGE */
    char name[16]; /* "uring", "ev:epoll" */
    char detail[160]; /* which features are in use, for people */
};

extern const struct sluice_backend_ops sluice_backend_uring;
extern const struct sluice_backend_ops sluice_backend_ev;
extern const struct sluice_backend_ops sluice_backend_sim;
extern const struct sluice_socket_ops sluice_kernel_sockets;
extern const struct sluice_datagram_ops sluice_kernel_datagrams;

int sluice_backend_create(struct sluice_backend **out, const struct sluice_backend_ops *ops,
                          const struct sluice_backend_config *cfg);
void sluice_backend_destroy(struct sluice_backend *be); /* NULL is fine */

/** CLOCK_MONOTONIC, for every backend that runs on the kernel. */
uint64_t sluice_kernel_now_ns(struct sluice_backend *be);

/* Used by backends without a pool of their own: a buffer, or -ENOBUFS; and back. */
int sluice_pool_take(struct sluice_pool *pool);
void sluice_pool_put(struct sluice_backend *be, uint16_t buffer);

/* Used by backends: the two ends of an op's life, with their checks. */
static inline void sluice_op_begin(struct sluice_backend *be, struct sluice_op *op)
{
    SLUICE_CHECK(op->magic == SLUICE_OP_MAGIC);
    SLUICE_CHECK(op->kind < SLUICE_OP_KINDS);
    SLUICE_CHECK(op->state == SLUICE_OP_IDLE);
    op->state = SLUICE_OP_IN_FLIGHT;
    op->generation++;
    be->in_flight++;
}

static inline void sluice_op_end(struct sluice_backend *be, struct sluice_op *op)
{
    SLUICE_CHECK(op->magic == SLUICE_OP_MAGIC);
    SLUICE_CHECK(op->state == SLUICE_OP_IN_FLIGHT);
    SLUICE_CHECK(be->in_flight > 0);
    op->state = SLUICE_OP_IDLE;
    be->in_flight--;
}

#endif
