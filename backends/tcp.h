/*
 * The part of struct sluice_socket_ops that systems do in different ways: tcp_linux.c, tcp_posix.c.
 * The contracts stand there, in backend.h.
 */
#ifndef SLUICE_TCP_H
#define SLUICE_TCP_H

#include "backends/backend.h"

bool sluice_tcp_was_reset(struct sluice_backend *be, int fd);
uint64_t sluice_tcp_acked_bytes(struct sluice_backend *be, int fd);
int sluice_tcp_stamp(struct sluice_backend *be, int fd, bool hardware);
bool sluice_tcp_segments(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments);
ssize_t sluice_tcp_send_record(struct sluice_backend *be, int fd, unsigned type, const void *data,
                               size_t bytes);
ssize_t sluice_tcp_recv_record(struct sluice_backend *be, int fd, unsigned *type, void *buf,
                               size_t bytes);

#endif
