/*
 * A stand-in for libcriterion.so.3 in guests: runs the very same test executables there. Criterion
 * itself wants memory at 2^45 and above, and a process of user-mode-linux ends at 2^39. Has what
 * our tests use, no more: one process per test, limits, expected signals, skips, parameters, TAP
 * (--tap=FILE).
 */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <criterion/options.h>
#include <criterion/parameterized.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a test's process tells ours. */
struct told {
    int failed;
    bool skipped;
    char reason[256];
};

/* A section of pointers in the executable. */
struct pointers {
    void **first;
    size_t count;
};

struct criterion_options criterion_options;

static struct told *told;
static const struct criterion_test *current;
static const struct criterion_suite *current_suite;
static void *parameter; /* of the current one, or NULL */
static jmp_buf *leave;  /* where an aborted test goes on */
static struct pointers suites;
static sigset_t of_children; /* SIGCHLD: blocked here, not in tests */

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static int note_base(struct dl_phdr_info *info, size_t size, void *base)
{
    (void)size;
    *(uintptr_t *)base = info->dlpi_addr;
    return 1; /* the first is the executable */
}

/* Criterion's macros leave pointers in sections, whose bounds no symbol names outside of it. */
static struct pointers section(const char *name)
{
    struct pointers found = {0};
    uintptr_t base = 0;
    dl_iterate_phdr(note_base, &base);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        die("/proc/self/exe");
    const char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        die("mmap");
    const ElfW(Ehdr) *elf = (const void *)file;
    const ElfW(Shdr) *sections = (const void *)(file + elf->e_shoff);
    const char *names = file + sections[elf->e_shstrndx].sh_offset;
    for (size_t i = 0; i < elf->e_shnum; i++)
        if (strcmp(names + sections[i].sh_name, name) == 0) {
            found.first = (void **)(base + sections[i].sh_addr);
            found.count = sections[i].sh_size / sizeof(void *);
        }
    munmap((void *)(uintptr_t)file, (size_t)st.st_size);
    close(fd);
    return found;
}

static const struct criterion_suite *suite_of(const struct criterion_test *test)
{
    for (size_t i = 0; i < suites.count; i++) {
        const struct criterion_suite *suite = suites.first[i];
        if (suite && suite->data && strcmp(suite->name, test->category) == 0)
            return suite;
    }
    static struct criterion_test_extra_data nothing;
    static const struct criterion_suite none = {"", &nothing};
    return &none;
}

/* The three parts of a test, called in turn by what the macro Test made. */

void criterion_internal_test_setup(void)
{
    if (current_suite->data->init)
        current_suite->data->init();
    if (current->data->init)
        current->data->init();
}

void criterion_internal_test_main(void (*body)(void))
{
    jmp_buf here;
    jmp_buf *outer = leave;
    leave = &here;
    if (setjmp(here) == 0) {
        if (parameter)
            ((void (*)(void *))body)(parameter);
        else
            body();
    }
    leave = outer;
}

void criterion_internal_test_teardown(void)
{
    if (current->data->fini)
        current->data->fini();
    if (current_suite->data->fini)
        current_suite->data->fini();
}

/* What the assertions call. */

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (stats->passed)
        return;
    told->failed++;
    fprintf(stderr, "%s:%u: %s\n", stats->file, stats->line, stats->message);
}

void cri_asserts_passed_incr(void)
{
}

void criterion_continue_test(void)
{
}

void criterion_abort_test(void)
{
    longjmp(*leave, 1);
}

void criterion_skip_test(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(told->reason, sizeof(told->reason), format, ap);
    va_end(ap);
    told->skipped = true;
    longjmp(*leave, 1);
}

int cr_asprintf(char **text, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int length = vasprintf(text, format, ap);
    va_end(ap);
    return length;
}

void cr_asprintf_free(char *text)
{
    free(text);
}

char *cr_translate_assert_msg(int index, ...)
{
    if (index == CRITERION_ASSERT_MSG_FAIL)
        return strdup("failed");
    va_list ap;
    va_start(ap, index);
    const char *expression = va_arg(ap, const char *);
    va_end(ap);
    return strdup(expression);
}

void cr_log(enum criterion_severity severity, const char *format, ...)
{
    (void)severity;
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* One test, in a process of its own. */

static time_t limit_s(void)
{
    double limit =
        current->data->timeout > 0 ? current->data->timeout : current_suite->data->timeout;
    limit *= getenv("TESTS_MEMCHECK") ? 10 : 1; /* as much as tests/run.py gives the whole */
    return limit > 0 ? (time_t)limit + 1 : 3600;
}

static void run_in_child(void)
{
    jmp_buf here;
    leave = &here;
    if (setjmp(here) == 0)
        current->test();
    exit(0);
}

/* Why the process ended in a way the test does not expect; NULL when it did. */
static const char *wrong_end(int status)
{
    static char text[80];
    const struct criterion_test_extra_data *expected = current->data;
    if (WIFSIGNALED(status) && WTERMSIG(status) != expected->signal)
        snprintf(text, sizeof(text), "ended by signal %d", WTERMSIG(status));
    else if (!WIFSIGNALED(status) && expected->signal != 0)
        snprintf(text, sizeof(text), "not ended by signal %d", expected->signal);
    else if (!WIFSIGNALED(status) && WEXITSTATUS(status) != expected->exit_code)
        snprintf(text, sizeof(text), "exit code %d", WEXITSTATUS(status));
    else
        return NULL;
    return text;
}

/* Wait for the test's process; why it failed, NULL when it did not. */
static const char *outcome_of(pid_t pid)
{
    const struct timespec limit = {.tv_sec = limit_s()};
    bool late = sigtimedwait(&of_children, NULL, &limit) < 0; /* valgrind has no pidfd_open() */
    if (late)
        kill(pid, SIGKILL);
    int status;
    if (waitpid(pid, &status, 0) < 0)
        die("waitpid");
    if (late)
        return "its time limit";
    const char *wrong = wrong_end(status);
    return wrong ? wrong : told->failed ? "assertions" : NULL;
}

/* Run the current test and write its point; false when it failed. */
static bool run_once(const struct criterion_test *test, FILE *tap)
{
    *told = (struct told){0};
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        sigprocmask(SIG_UNBLOCK, &of_children, NULL);
        run_in_child();
    }
    const char *problem = outcome_of(pid);
    if (problem)
        fprintf(tap, "not ok - %s::%s %s\n", test->category, test->name, problem);
    else if (told->skipped)
        fprintf(tap, "ok - %s::%s # SKIP %s\n", test->category, test->name, told->reason);
    else
        fprintf(tap, "ok - %s::%s\n", test->category, test->name);
    fflush(tap);
    return !problem;
}

/* As often as it has parameters. Returns how many points failed. */
static int run_test(const struct criterion_test *test, FILE *tap, int *points)
{
    current = test;
    current_suite = suite_of(test);
    parameter = NULL;
    if (test->data->kind_ != CR_TEST_PARAMETERIZED) {
        ++*points;
        return !run_once(test, tap);
    }
    struct criterion_test_params all = test->data->param_();
    int failed = 0;
    for (size_t i = 0; i < all.length; i++) {
        parameter = (char *)all.params + i * all.size;
        failed += !run_once(test, tap);
    }
    *points += (int)all.length;
    return failed;
}

int main(int argc, char **argv)
{
    FILE *tap = stdout;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--tap=", 6) == 0)
            tap = fopen(argv[i] + 6, "w");
    told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!tap || told == MAP_FAILED)
        die("start");
    sigemptyset(&of_children);
    sigaddset(&of_children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &of_children, NULL);
    suites = section("cr_sts");
    struct pointers tests = section("cr_tst");
    int points = 0, failed = 0;
    for (size_t i = 0; i < tests.count; i++)
        if (tests.first[i])
            failed += run_test(tests.first[i], tap, &points);
    fprintf(tap, "1..%d\n", points);
    return fclose(tap) == 0 && failed == 0 ? 0 : 1;
}
