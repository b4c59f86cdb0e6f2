/*
 * What a ring of ours may be used for: the operations that uring.c, region.c and pool.c submit, and
 * nothing else, whoever writes into its memory. Costs nothing to measure (6.18: 63 ns per NOP
 * either way).
 */
#include "backends/uring/uring.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* READ last: only where it is wanted. */
static const uint8_t operations[] = {IORING_OP_ACCEPT,   IORING_OP_ASYNC_CANCEL, IORING_OP_CONNECT,
                                     IORING_OP_POLL_ADD, IORING_OP_RECV,         IORING_OP_RECVMSG,
                                     IORING_OP_SEND,     IORING_OP_READ};

/* After it is enabled; before, all are allowed. */
static const uint8_t registers[] = {IORING_REGISTER_EVENTFD,      IORING_UNREGISTER_EVENTFD,
                                    IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_PBUF_RING,
                                    IORING_UNREGISTER_PBUF_RING,  IORING_REGISTER_RING_FDS,
                                    IORING_UNREGISTER_RING_FDS};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))
#define REGISTERS  (sizeof(registers) / sizeof(registers[0]))

int uring_restrict(struct io_uring *ring, bool reads)
{
    struct io_uring_restriction all[OPERATIONS + REGISTERS + 1] = {
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
         .sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS}};
    unsigned n = 1;
    for (size_t i = 0; i < OPERATIONS - !reads; i++)
        all[n++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
                                                 .sqe_op = operations[i]};
    for (size_t i = 0; i < REGISTERS; i++)
        all[n++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_REGISTER_OP,
                                                 .register_op = registers[i]};
    /* As io_uring_enable_rings(), Debian's liburing does not export the call for it. */
    return syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, all, n)
               ? -errno
               : 0;
}
