/*
 * What sluice load counts.
 */
#include "load_tally.h"

#include <string.h>

const char *tally_key(enum load_count which)
{
    static const char *const keys[] = {
#define LOAD_COUNT_KEY(name, key, text) key,
        LOAD_COUNT_MAP(LOAD_COUNT_KEY)
#undef LOAD_COUNT_KEY
    };
    return keys[which];
}

void tally_add(struct tally *t, const struct tally *other)
{
    for (unsigned i = 0; i < LOAD_COUNTS; i++)
        t->count[i] += other->count[i];
    hist_add(&t->latency, &other->latency);
    hist_add(&t->service, &other->service);
    hist_add(&t->late, &other->late);
}

void tally_clear(struct tally *t)
{
    memset(t->count, 0, sizeof(t->count));
    hist_clear(&t->latency);
    hist_clear(&t->service);
    hist_clear(&t->late);
}
