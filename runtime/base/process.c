/*
 * Which process this is, in system.h's words: counted in every child of fork, for getpid() would be
 * a system call. Children of vfork(), and of clone(2) by hand, have only what such children may do.
 */
#include "base/system.h"

#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t forks;

static void in_child(void)
{
    forks++;
}

static void watch(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

uint64_t sluice_system_process(void)
{
    pthread_once(&once, watch);
    return forks;
}
