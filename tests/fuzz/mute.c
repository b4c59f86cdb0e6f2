/*
 * tools/fail.h for fuzz targets: lines are made as there, and not written.
 */
#include "tools/fail.h"

#include <stdarg.h>
#include <stdio.h>

static int format_line(unsigned reason, const char *format, va_list args)
{
    char line[640];
    vsnprintf(line, sizeof(line), format, args);
    return sluice_reason_exit_code(reason);
}

int fail(unsigned reason, const char *what_format, ...)
{
    va_list args;
    va_start(args, what_format);
    int code = format_line(reason, what_format, args);
    va_end(args);
    return code;
}

int fail_remedy(unsigned reason, const char *remedy, const char *what_format, ...)
{
    va_list args;
    (void)remedy;
    va_start(args, what_format);
    int code = format_line(reason, what_format, args);
    va_end(args);
    return code;
}
