/*
 * What every system has, each in its own way: linux.c, and posix.c for the portable build. Results
 * are 0 or a count, or a negative errno.
 */
#ifndef SLUICE_SYSTEM_H
#define SLUICE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sockets: close-on-exec. */
int sluice_system_socket(int family, int type, bool nonblocking);
int sluice_system_accept(int fd, bool nonblocking);
int sluice_system_pair(int type, int pair[2]); /* non-blocking */

/* Nobody can hand a descriptor to this end: one that comes and is closed may block (SO_LINGER).
 * Since Linux 6.16; elsewhere it does nothing. */
void sluice_system_refuse_rights(int fd);

/* Receiving from it waits from now on, and ends at a signal whatever the handler's flags are. Where
 * a system has no such way it does nothing. */
void sluice_system_block(int fd);

/* Who is at the other end of a Unix socket. pid: 0 where the system does not say. */
int sluice_system_peer(int fd, unsigned *uid, int *pid);

/* Of a directory, against others that do the same. A descriptor to unlock, or negative errno: where
 * it is not to wait, that another has it. */
int sluice_system_lock(int directory_fd, bool wait);
void sluice_system_unlock(int lock_fd);

/* A number of this process: another one in a child of fork. No system call. */
uint64_t sluice_system_process(void);

int sluice_system_random(void *to, size_t bytes);

/* Overwritten although nobody reads it again. */
void sluice_system_wipe(void *secret, size_t bytes);

/* This process has privileges that its caller has not. */
bool sluice_system_is_privileged(void);

/* A descriptor that is readable once it was rung. */
struct sluice_bell {
    int fd, ring_fd;
};
int sluice_bell_open(struct sluice_bell *bell);
void sluice_bell_ring(const struct sluice_bell *bell); /* any thread, any signal handler */
void sluice_bell_clear(const struct sluice_bell *bell);
void sluice_bell_close(struct sluice_bell *bell); /* one that was not opened: fds -1 */

/* Cores, a bit each; of the calling thread. -ENOTSUP where threads have none. */
#define SLUICE_CORES_MAX 1024u
struct sluice_cores {
    uint64_t bits[SLUICE_CORES_MAX / 64];
};
int sluice_system_cores(struct sluice_cores *out);
int sluice_system_set_cores(const struct sluice_cores *cores);
void sluice_system_name_thread(const char *name); /* the calling one */

#endif
