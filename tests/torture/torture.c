/*
 * The campaign: torture uring|ev plain|tls [KIND PHASE NUMBER]. Each point is a session in a
 * process of its own in which one call fails. It must go on and say what it goes on with, or end
 * and say why; and leave nothing behind. One point alone shows what was said.
 */
#include "torture.h"
#include "base/check.h"
#include "base/clock.h"
#include "tests/support/long.h"
#include "tests/support/random.h"
#include "tests/support/tap.h"
#include "tests/support/usage.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS         20000
#define POINTS           1u  /* of each kind in each phase, unless --long */
#define POINTS_LONG      40u /* all, where there are fewer */
#define CODE_LEFT_BEHIND 3

/* What the process has. */
struct inventory {
    unsigned descriptors, maps;
    long blocks;
};

struct campaign {
    struct session session;
    struct report *report;
    char log[64]; /* where a session's stderr goes */
    char chosen[sizeof(((struct report *)0)->chosen)];
    unsigned calls[INJECT_PHASES][INJECT_KINDS_MAX];
    uint64_t random;
};

/* What came of the points of one kind. */
struct tally {
    unsigned points, missed, quiet, named, ended, bad;
    uint64_t longest_ns;
};

/* ---- in the session's process ---- */

/* What OpenSSL keeps for a thread is no leak. */
static struct inventory take_inventory(void)
{
    OPENSSL_thread_stop();
    return (struct inventory){usage_descriptors(), usage_maps(), inject_blocks()};
}

static int run_here(struct campaign *c, const struct inject_point *point)
{
    struct inventory before = take_inventory();
    SLUICE_CHECK(freopen(c->log, "w", stderr) && setvbuf(stderr, NULL, _IONBF, 0) == 0);
    SLUICE_CHECK(inject_begin(point, &c->report->counts) == 0);
    session_run(&c->session, c->report);
    inject_end();
    struct inventory now = take_inventory();
    if (memcmp(&before, &now, sizeof(now)) == 0)
        return 0;
    fprintf(stderr, "left behind: descriptors %d, maps %d, blocks %ld\n",
            (int)(now.descriptors - before.descriptors), (int)(now.maps - before.maps),
            now.blocks - before.blocks);
    return CODE_LEFT_BEHIND;
}

/* ---- from outside ---- */

/* Its status as waitpid(2) has it; -1: it hung and was killed. */
static int wait_for(pid_t pid)
{
    int status = 0, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};
    SLUICE_CHECK(pidfd >= 0);
    bool in_time = poll(&fd, 1, LIMIT_MS) == 1;
    close(pidfd);
    if (!in_time)
        kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return in_time ? status : -1;
}

static int run_point(struct campaign *c, const struct inject_point *point)
{
    memset(c->report, 0, sizeof(*c->report));
    fflush(stdout);
    pid_t pid = fork();
    SLUICE_CHECK(pid >= 0);
    if (pid == 0)
        _exit(run_here(c, point));
    return wait_for(pid);
}

/* The lines that the library logged. */
static const char *logged(const struct campaign *c)
{
    static char text[2000];
    FILE *file = fopen(c->log, "re");
    size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[n] = 0;
    if (file)
        fclose(file);
    return text;
}

/* NULL, or what is wrong. */
static const char *judge(struct campaign *c, const struct inject_point *point, int status,
                         struct tally *to)
{
    const struct report *r = c->report;
    bool named = r->said[0] || logged(c)[0] || strcmp(r->chosen, c->chosen) != 0;
    if (status == -1)
        return "it hangs";
    if (WIFSIGNALED(status))
        return strsignal(WTERMSIG(status));
    if (WEXITSTATUS(status) == CODE_LEFT_BEHIND)
        return "it leaves something behind";
    if (WEXITSTATUS(status) != 0)
        return "it ends by itself";
    if (r->silent)
        return "somebody waits in vain";
    if (!r->complete && !r->said[0])
        return "it ends and does not say why";
    to->missed += !atomic_load(&r->counts.hit);
    to->ended += !r->complete;
    to->named += r->complete && named;
    to->quiet += r->complete && !named;
    if (r->complete && !named && atomic_load(&r->counts.hit) && !inject_kinds[point->kind].goes_on)
        return "it goes on and does not say with what";
    return NULL;
}

static void show(const struct campaign *c, const struct inject_point *point, const char *wrong)
{
    tap_note("%s: torture %s %s %u %u %u: %s", inject_kinds[point->kind].name,
             c->session.backend ? "ev" : "uring", c->session.tls ? "tls" : "plain", point->kind,
             point->phase, point->number, wrong);
    tap_note("  said: %s", c->report->said);
    tap_note("  chosen: %s", c->report->chosen);
    for (const char *line = strtok((char *)(uintptr_t)logged(c), "\n"); line;
         line = strtok(NULL, "\n"))
        tap_note("  | %s", line);
}

static void try_point(struct campaign *c, const struct inject_point *point, struct tally *to)
{
    uint64_t since_ns = sluice_monotonic_ns();
    const char *wrong = judge(c, point, run_point(c, point), to);
    uint64_t took_ns = sluice_monotonic_ns() - since_ns;
    if (took_ns > to->longest_ns)
        to->longest_ns = took_ns;
    to->points++;
    to->bad += wrong != NULL;
    if (wrong)
        show(c, point, wrong);
}

/* ---- which ---- */

static void try_phase(struct campaign *c, struct inject_point point, struct tally *to)
{
    unsigned calls = c->calls[point.phase][point.kind];
    unsigned points = is_long() ? POINTS_LONG : POINTS;
    for (unsigned i = 0; i < points && i < calls; i++) {
        point.number = points >= calls ? i + 1 : 1 + (unsigned)random_below(&c->random, calls);
        try_point(c, &point, to);
    }
}

static void try_kind(struct campaign *c, unsigned kind)
{
    struct tally tally = {0};
    for (unsigned phase = 0; phase < INJECT_PHASES; phase++)
        try_phase(c, (struct inject_point){.kind = kind, .phase = phase}, &tally);
    if (tally.points == 0)
        return;
    tap_ok(tally.bad == 0, "%s: %s", inject_kinds[kind].name,
           strerrorname_np(inject_kinds[kind].error));
    tap_note(
        "%u of %u calls: %u ended, %u went on and said so, %u went on, %u not met; %llu ms at most",
        tally.points, c->calls[INJECT_EDGES][kind] + c->calls[INJECT_STEADY][kind], tally.ended,
        tally.named, tally.quiet, tally.missed,
        (unsigned long long)(tally.longest_ns / SLUICE_NS_PER_MS));
}

/* Without a fault: what there is to fail, and what is chosen. */
static bool measure(struct campaign *c)
{
    struct tally tally = {0};
    const struct inject_point none = {0};
    int status = run_point(c, &none);
    memcpy(c->chosen, c->report->chosen, sizeof(c->chosen));
    const char *wrong = judge(c, &none, status, &tally);
    if (!wrong && (!c->report->complete || c->report->said[0]))
        wrong = "not without a fault";
    if (wrong)
        show(c, &none, wrong);
    for (unsigned phase = 0; phase < INJECT_PHASES; phase++)
        for (unsigned kind = 0; kind < inject_kind_count; kind++)
            c->calls[phase][kind] = atomic_load(&c->report->counts.calls[phase][kind]);
    return tap_ok(!wrong, "two connections, a hundred messages each way on each");
}

/* Once here, on libev, what is done once in a process; io_uring is asked anew in each session. */
static void warm_up(const struct campaign *c)
{
    struct session on_ev = c->session;
    on_ev.backend = "ev:epoll";
    session_run(&on_ev, c->report);
    SLUICE_CHECK(c->report->complete);
}

int main(int argc, char **argv)
{
    static char ca[512];
    struct campaign c = {.random = sluice_realtime_ns() % 1000000};
    const char *certs = getenv("TESTS_CERTS"), *seed = getenv("SLUICE_SEED");
    SLUICE_CHECK(argc >= 3 && certs);
    snprintf(ca, sizeof(ca), "%s/root.pem", certs);
    snprintf(c.log, sizeof(c.log), "%s/session.log", getenv("XDG_RUNTIME_DIR"));
    if (seed)
        c.random = strtoull(seed, NULL, 10);
    c.session = (struct session){.backend = strcmp(argv[1], "ev") == 0 ? "ev:epoll" : NULL,
                                 .tls = strcmp(argv[2], "tls") == 0,
                                 .ca = ca};
    c.report =
        mmap(NULL, sizeof(*c.report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SLUICE_CHECK(c.report != MAP_FAILED);
    tap_begin();
    tap_note("SLUICE_SEED=%llu", (unsigned long long)c.random);
    int peer = peer_start(&c.session.port, c.session.tls, certs);
    warm_up(&c);
    if (measure(&c) && argc == 6) {
        struct inject_point one = {(unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]),
                                   (unsigned)atoi(argv[5])};
        struct tally tally = {0};
        const char *wrong = judge(&c, &one, run_point(&c, &one), &tally);
        show(&c, &one, wrong ? wrong : "as it should be");
    } else {
        for (unsigned kind = 0; kind < inject_kind_count; kind++)
            try_kind(&c, kind);
    }
    kill(peer, SIGKILL);
    waitpid(peer, NULL, 0);
    unlink(c.log);
    return tap_end();
}
