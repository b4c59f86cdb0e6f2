/*
 * The simulation: `sim_world` runs many seeds, `sim_world SEED` one alone. The rules are in
 * rules.c, what happens in world.c.
 */
#include "world.h"
#include "tests/support/long.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__ /* several times slower */
#define SEEDS      400u
#define SEEDS_LONG 1500u
#else
#define SEEDS      1000u
#define SEEDS_LONG 10000u
#endif
#define BLOCK_SEEDS 100u

/* Beyond the short run, and each once broke a rule. */
static const uint64_t regressions[] = {2680, 4246};
#define REGRESSIONS (sizeof(regressions) / sizeof(regressions[0]))

int main(int argc, char **argv)
{
    bool alone = argc > 1;
    uint64_t first = alone ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t seeds = alone ? 1 : is_long() ? SEEDS_LONG : SEEDS;
    alarm(alone ? 60 : 600); /* a world that hangs is a failure */
    uint64_t blocks = (seeds + BLOCK_SEEDS - 1) / BLOCK_SEEDS;
    printf("1..%llu\n", (unsigned long long)blocks + !alone);
    for (size_t i = 0; i < REGRESSIONS && !alone; i++)
        world_run(regressions[i], false);
    for (uint64_t b = 0; b < blocks; b++) {
        uint64_t from = first + b * BLOCK_SEEDS;
        uint64_t to = alone ? first : from + BLOCK_SEEDS - 1;
        for (uint64_t seed = from; seed <= to; seed++)
            world_run(seed, alone);
        printf("ok %llu - seeds %llu to %llu keep the eight rules\n", (unsigned long long)b + 1,
               (unsigned long long)from, (unsigned long long)to);
        fflush(stdout);
    }
    if (!alone)
        printf("ok %llu - seeds that once broke a rule\n", (unsigned long long)blocks + 1);
    return 0;
}
