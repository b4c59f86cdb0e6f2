/*
 * The one place where a failed check ends the process.
 */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

noreturn void sluice_check_failed(const char *cond, const char *file, int line, const char *func)
{
    fprintf(stderr, "sluice: check failed: %s (%s:%d, %s)\n", cond, file, line, func);
    abort();
}
