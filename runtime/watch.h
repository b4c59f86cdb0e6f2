/*
 * A descriptor that is watched until that is stopped: its POLL op is armed again each time it ends,
 * and after a while where the loop has no room for it or the poll itself fails.
 */
#ifndef SLUICE_WATCH_H
#define SLUICE_WATCH_H

#include "timer.h"
#include "backends/backend.h"

struct sluice_loop;

struct sluice_watch {
    struct sluice_loop *loop;
    struct sluice_op op;
    struct sluice_timer timer; /* until it is armed again */
    uint64_t backoff_ns;
    void (*ready)(struct sluice_watch *watch,
                  int32_t result);            /* poll(2) events, or negative errno */
    void (*gone)(struct sluice_watch *watch); /* NULL: nobody asks */
    bool armed; /* until its last completion was seen: the backend is ahead */
    bool telling, stopped;
};

/*
 * Watch fd for POLLIN; nothing is called before the next turn.
 *
 * @param flags  SLUICE_OP_MULTI, or 0: said again at once while something is left to read.
 * @param ready  may stop it; called on the loop's thread.
 * @return 0; -EAGAIN the loop has no room for one more operation; other negated errno values. Then
 *         nothing was begun.
 */
int sluice_watch_start(struct sluice_watch *watch, struct sluice_loop *loop, int fd, uint16_t flags,
                       void (*ready)(struct sluice_watch *watch, int32_t result));

/* Ready is not called again. Gone is, once the descriptor and the memory are free: maybe inside
 * this call, never inside ready. */
void sluice_watch_stop(struct sluice_watch *watch, void (*gone)(struct sluice_watch *watch));

#endif
