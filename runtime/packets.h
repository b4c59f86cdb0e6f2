/*
 * What is known of the packets behind a receive: when the last one came, and how many they were,
 * where that can be said for certain.
 */
#ifndef SLUICE_PACKETS_H
#define SLUICE_PACKETS_H

#include "loop.h"
#include "backends/backend.h"

struct sluice_packets {
    struct sluice_stamp wire;   /* filled in by the receive */
    uint64_t first_ns, last_ns; /* 0: not known */
    uint32_t count;             /* 0: not known */
    uint64_t taken_bytes;       /* by all receives of the connection */
    uint32_t seen;              /* segments behind all that was taken */
    bool in_step;               /* seen is right */
};

/* A connection opened: nothing was taken from it. */
void sluice_packets_start(struct sluice_packets *p);

/* A receive of so many bytes: what is known of it. */
void sluice_packets_note(struct sluice_packets *p, struct sluice_loop *loop, int fd,
                         uint32_t bytes);

/* As note(), for a receive that adds to bytes of which nothing was told yet. */
void sluice_packets_add(struct sluice_packets *p, struct sluice_loop *loop, int fd, uint32_t bytes);

#endif
