/*
 * Foreign descriptors that were woken while no POLL was there to hear it: the next one does.
 */
#ifndef SLUICE_SIM_BELLS_H
#define SLUICE_SIM_BELLS_H

#include "base/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_BELLS_MAX 16u

struct sim_bells {
    struct {
        int fd;
        uint32_t events; /* 0: free */
    } all[SIM_BELLS_MAX];
};

static inline void sim_bells_keep(struct sim_bells *bells, int fd, uint32_t events)
{
    size_t at = SIM_BELLS_MAX;
    for (size_t i = 0; i < SIM_BELLS_MAX; i++) {
        bool same = bells->all[i].events && bells->all[i].fd == fd;
        if (same || (at == SIM_BELLS_MAX && !bells->all[i].events))
            at = i;
        if (same)
            break;
    }
    SLUICE_CHECK(at < SIM_BELLS_MAX);
    bells->all[at].fd = fd;
    bells->all[at].events |= events;
}

/* What it was woken with; 0: it was not. */
static inline uint32_t sim_bells_take(struct sim_bells *bells, int fd)
{
    uint32_t events = 0;
    for (size_t i = 0; i < SIM_BELLS_MAX; i++) {
        if (bells->all[i].events == 0 || bells->all[i].fd != fd)
            continue;
        events = bells->all[i].events;
        bells->all[i].events = 0;
    }
    return events;
}

#endif
