/*
 * For load_hist.py: numbers of nanoseconds on stdin, a line each, to HdrHistogram's text on stdout
 * and percentiles on stderr. Half of them go through a second histogram that is added.
 */
#include "../../tools/hist.h"

#include <inttypes.h>
#include <stdlib.h>

static struct hist all, part;

int main(int argc, char **argv)
{
    uint64_t ns, n = 0;
    while (scanf("%" SCNu64, &ns) == 1)
        hist_record(n++ % 2 ? &part : &all, ns);
    hist_add(&all, &part);
    hist_clear(&part);
    if (part.count || part.max || hist_percentile(&part, 50) || hist_percentile(&part, 100))
        return 1;
    hist_write(&all, stdout);
    for (int i = 1; i < argc; i++)
        fprintf(stderr, "%" PRIu64 "\n", hist_percentile(&all, atof(argv[i])));
    return 0;
}
