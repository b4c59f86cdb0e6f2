/*
 * The rx path on the loop of another thread: it goes there with all that it needs, the inbox among
 * it (or, with TLS in user space, without: then it fills the ring of ciphertext), and comes back
 * for whatever is not bytes: an end, an error, a record without data, clients that come and go.
 */
#ifndef SLUICE_AWAY_H
#define SLUICE_AWAY_H

#include "loop.h"

struct sluice_rx;
struct sluice_thread;

struct sluice_away {
    struct sluice_thread *thread; /* NULL: it stays at home */
    bool out;                     /* it is there, or on its way */
    _Atomic bool recalled;
    _Atomic uint64_t seen_cycle; /* when the newest ciphertext was there */
    _Atomic uint64_t stamp_ns;   /* and when its last packet came */
    _Atomic bool wants_room;     /* asleep until ciphertext was taken */
    struct sluice_post go, back;
    struct sluice_source source;
    /* there */
    int fd, file;
    bool ended, cancelled, polled;
    int32_t result; /* what the receive ended with; it comes back with it */
    uint64_t shown_ns;
};

/* From now on it receives on that thread (NULL: at home); one that is in flight ends first. */
void sluice_away_use(struct sluice_rx *rx, struct sluice_thread *thread);

/* At home, with nothing in flight: off it goes. */
void sluice_away_leave(struct sluice_rx *rx);

/* It comes back as soon as it can; it may leave again. Fine when it is here. */
void sluice_away_recall(struct sluice_rx *rx);

/* There: the receive ended; ciphertext came. */
void sluice_away_ended(struct sluice_rx *rx, int32_t result);
void sluice_away_tell(struct sluice_rx *rx);

/* At home: ciphertext was taken. */
void sluice_away_release(struct sluice_rx *rx);

/* Its thread's loop broke: it is back, with that error. */
void sluice_away_lost(struct sluice_rx *rx, int error);

#endif
