/*
 * How much time a campaign may take.
 */
#ifndef SLUICE_TESTS_LONG_H
#define SLUICE_TESTS_LONG_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/** True under --long; not in a build that has its long campaigns elsewhere (meson.build). */
static inline bool is_long(void)
{
    const char *value = getenv("SLUICE_LONG");
    return value && strcmp(value, "1") == 0;
}

#endif
