/*
 * How long to wait before the next attempt: nothing after a connection that lasted, else a time
 * that doubles up to a cap, of which a random half is taken off, so that those who lost the same
 * peer do not all come back at once.
 */
#ifndef SLUICE_RETRY_H
#define SLUICE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct sluice_retry {
    uint64_t first_ns, max_ns;
    uint64_t lasted_ns; /* a connection that was open so long starts anew */
    bool on;
    uint32_t failures; /* since one that lasted */
};

/* Another one ended, after so long (0: never open). now_ns: what the random part is made of. */
uint64_t sluice_retry_wait_ns(struct sluice_retry *r, uint64_t open_ns, uint64_t now_ns);

#endif
