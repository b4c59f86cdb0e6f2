/*
 * Under valgrind (tests/run.py --memcheck) some things cannot be shown.
 */
#ifndef SLUICE_TESTS_MEMCHECK_H
#define SLUICE_TESTS_MEMCHECK_H

#include <criterion/criterion.h>
#include <stdlib.h>

/** First words of such a test. */
static inline void not_under_valgrind(const char *why)
{
    if (getenv("TESTS_MEMCHECK"))
        cr_skip_test("valgrind %s", why);
}

#endif
