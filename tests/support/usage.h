/*
 * What this process has open and mapped: counted before and after, it tells what was left behind.
 */
#ifndef SLUICE_TESTS_USAGE_H
#define SLUICE_TESTS_USAGE_H

#include "base/check.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static inline unsigned usage_descriptors(void)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/fd");
    SLUICE_CHECK(folder != NULL);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

/* Of rings. Not of what has no name: stacks and heaps of threads come and go. */
static inline unsigned usage_maps(void)
{
    char line[512];
    unsigned n = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    SLUICE_CHECK(file != NULL);
    while (fgets(line, sizeof(line), file))
        n += strstr(line, "memfd:") || strstr(line, "io_uring");
    fclose(file);
    return n;
}

#endif
