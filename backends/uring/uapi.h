/*
 * io_uring's kernel interface beyond Debian 12's liburing 2.3: constants only, each with the kernel
 * that brought it. Values are ABI. Whether the running kernel has them is asked in preflight.c.
 */
#ifndef SLUICE_URING_UAPI_H
#define SLUICE_URING_UAPI_H

#include <liburing.h>

#ifndef IOU_PBUF_RING_INC
#define IOU_PBUF_RING_INC 2 /* 6.12: io_uring_buf_reg.flags; named pad in 2.3 */
#endif

#define URING_REGISTER_NAPI 27 /* 6.9: struct io_uring_napi */

struct uring_napi {
    uint32_t busy_poll_us;
    uint8_t prefer_busy_poll;
    uint8_t pad[3];
    uint64_t resv;
};

#endif
