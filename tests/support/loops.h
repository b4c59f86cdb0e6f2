/*
 * One loop after the other, each on another backend: what holds on one holds on all.
 */
#ifndef SLUICE_TESTS_LOOPS_H
#define SLUICE_TESTS_LOOPS_H

#include "loop.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum loops_first { LOOPS_SIM, LOOPS_KERNEL }; /* with the simulation, or what the kernel serves */

static const char *const loops_backends[] = {"sim", "ev:epoll", "ev:poll", "ev:select", "uring"};
#define LOOPS (sizeof(loops_backends) / sizeof(*loops_backends))

static struct sluice_loop *loop;
static const char *on; /* which backend */

/** False: this build or kernel has no such backend; loops_are_all_there() says so. */
static inline bool loops_open(const char *backend, const struct sluice_loop_config *cfg)
{
    struct sluice_loop_config mine = *cfg;
    char why[256] = "";
    on = mine.backend = backend;
    int err = strcmp(backend, "sim") == 0
                  ? sluice_loop_create_on(&loop, &sluice_backend_sim, &mine, 1)
                  : sluice_loop_create(&loop, &mine, why, sizeof(why));
    if (err != -ENOSYS && err != -EPERM)
        cr_assert_eq(err, 0, "%s: %s", backend, why);
    return err == 0;
}

static inline void loops_close(void)
{
    sluice_loop_destroy(loop);
    loop = NULL;
}

#define FOR_EACH_LOOP(first, cfg)                  \
    for (size_t i_ = (first); i_ < LOOPS; i_++)    \
        if (loops_open(loops_backends[i_], (cfg))) \
            for (; loop; loops_close())

/** A test of each suite: the one that may be missing is named. */
static inline void loops_are_all_there(void)
{
    if (!loops_open("uring", &(struct sluice_loop_config){0}))
        cr_skip_test("no io_uring in this build or kernel: the others alone");
    loops_close();
}

#endif
