/*
 * Whether this kernel's TLS takes other keys than its first ones.
 */
#ifndef SLUICE_TESTS_NEW_KEYS_H
#define SLUICE_TESTS_NEW_KEYS_H

#include "base/check.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>

/* Since Linux 6.14; in TLS 1.3 only. */
static inline bool kernel_takes_new_keys(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    SLUICE_CHECK(uname(&name) == 0);
    SLUICE_CHECK(sscanf(name.release, "%u.%u", &major, &minor) == 2);
    return major > 6 || (major == 6 && minor >= 14);
}

#endif
