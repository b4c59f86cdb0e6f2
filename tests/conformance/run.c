/*
 * conformance BACKEND [CASE [SEED]]: runs the table on one backend and prints TAP. Each case is a
 * process of its own, so that a failed check or a hang costs that case only.
 */
#include "tests/conformance/cases.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SIM_SEEDS = 50,
    LIMIT_S = 60,
};

/* A backend by the name that people see. */
struct candidate {
    const char *name;
    const struct sluice_backend_ops *ops;
    const char *event;
    uint32_t sqpoll_idle_ms;
};

struct outcome {
    uint64_t seed; /* the one that ran last */
    bool passed;
    bool skipped;
};

static void run_seed(const struct conformance_case *which, const struct candidate *candidate,
                     uint64_t seed)
{
    struct sluice_backend_config cfg = {.ops_max = CASE_OPS_MAX,
                                        .files_max = CASE_FILES_MAX,
                                        .reads = true,
                                        .pool_bufs = CASE_POOL_BUFS,
                                        .pool_buf_bytes = CASE_POOL_BUF_BYTES,
                                        .sqpoll_idle_ms = candidate->sqpoll_idle_ms,
                                        .seed = seed,
                                        .event = candidate->event};
    struct fixture f = {.poll_max = 16};
    f.ops = strcmp(candidate->name, "sim") == 0 ? &fixture_sim : &fixture_kernel;
    int err = sluice_backend_create(&f.be, candidate->ops, &cfg);
    if (err == -ENOSYS || err == -EPERM)
        case_skipped(strerror(-err));
    EXPECT(err == 0);
    EXPECT(strncmp(f.be->name, candidate->name, strlen(f.be->name)) == 0);
    if (f.ops->start)
        f.ops->start(&f, seed);
    which->run(&f);
    EXPECT(f.be->in_flight == 0);
    sluice_backend_destroy(f.be);
}

/* Leaves through exit(), so that a leak checker has its say. */
static noreturn void run_child(const struct conformance_case *which,
                               const struct candidate *candidate, uint64_t first, uint64_t count)
{
    alarm(LIMIT_S);
    for (uint64_t seed = first; seed < first + count; seed++) {
        case_report->seed = seed;
        run_seed(which, candidate, seed);
    }
    exit(0);
}

static struct outcome run_case(const struct conformance_case *which,
                               const struct candidate *candidate, uint64_t first, uint64_t count)
{
    case_report->seed = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run_child(which, candidate, first, count);
    int status = 0;
    struct outcome outcome = {0};
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        printf("# fork: %s\n", strerror(errno));
        return outcome;
    }
    outcome.seed = case_report->seed;
    outcome.passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    outcome.skipped = WIFEXITED(status) && WEXITSTATUS(status) == CASE_EXIT_SKIP;
    if (WIFSIGNALED(status))
        printf("# ended by signal %d%s\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? ": it hung" : "");
    return outcome;
}

static void print_outcome(const char *backend, const char *name, size_t number,
                          const struct outcome *outcome)
{
    const char *word = outcome->passed || outcome->skipped ? "ok" : "not ok";
    printf("%s %zu - %s: %s", word, number, backend, name);
    if (outcome->skipped)
        printf(" # SKIP %s", case_report->reason);
    putchar('\n');
    if (!outcome->passed && !outcome->skipped)
        printf("# again: conformance %s %s %llu\n", backend, name,
               (unsigned long long)outcome->seed);
}

static bool wanted(const char *only, size_t at)
{
    return !only || strcmp(only, conformance_cases[at].name) == 0;
}

static size_t count_wanted(const char *only)
{
    size_t count = 0;
    for (size_t at = 0; at < conformance_cases_count; at++)
        count += wanted(only, at);
    return count;
}

static const struct candidate *find_backend(const char *name)
{
    static const struct candidate all[] = {{"uring", &sluice_backend_uring, NULL, 0},
                                           {"uring:sqpoll", &sluice_backend_uring, NULL, 20},
                                           {"sim", &sluice_backend_sim, NULL, 0},
                                           {"ev:epoll", &sluice_backend_ev, "epoll", 0},
                                           {"ev:poll", &sluice_backend_ev, "poll", 0},
                                           {"ev:select", &sluice_backend_ev, "select", 0}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const struct candidate *candidate = argc > 1 ? find_backend(argv[1]) : NULL;
    const char *only = argc > 2 ? argv[2] : NULL;
    if (!candidate || argc > 4 || count_wanted(only) == 0) {
        fprintf(stderr, "usage: conformance BACKEND [CASE [SEED]]\n");
        return 2;
    }
    bool one_seed = argc == 4;
    uint64_t first = one_seed ? strtoull(argv[3], NULL, 10) : 0;
    uint64_t count = strcmp(candidate->name, "sim") == 0 && !one_seed ? SIM_SEEDS : 1;
    case_report =
        mmap(NULL, sizeof(*case_report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (case_report == MAP_FAILED)
        return 2;
    printf("1..%zu\n", count_wanted(only));
    bool all = true;
    for (size_t at = 0, number = 1; at < conformance_cases_count; at++) {
        if (!wanted(only, at))
            continue;
        struct outcome outcome = run_case(&conformance_cases[at], candidate, first, count);
        print_outcome(candidate->name, conformance_cases[at].name, number++, &outcome);
        all = all && (outcome.passed || outcome.skipped);
    }
    return all ? 0 : 1;
}
