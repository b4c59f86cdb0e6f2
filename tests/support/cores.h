/*
 * Where two threads spin against each other, on one core each takes what the other needs.
 */
#ifndef SLUICE_TESTS_CORES_H
#define SLUICE_TESTS_CORES_H

#include "tests/support/memcheck.h"

#include <unistd.h>

/** First words of a test with a spinning pair. */
static inline void needs_two_cores(void)
{
    not_under_valgrind("runs one thread at a time");
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        cr_skip_test("needs two cores: its threads spin");
}

#endif
