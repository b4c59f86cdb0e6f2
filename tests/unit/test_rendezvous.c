/*
 * Names: who owns one, what a stale one is, the directory, the sizes of a channel.
 */
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NAME "feed"
#define S_NS 1000000000ll

static void set_up(void)
{
    cr_assert_eq(serve_make_home(), 0);
}

static void tear_down(void)
{
    cr_expect(serve_remove_home(), "something was left in %s", serve_home);
}

TestSuite(rendezvous, .init = set_up, .fini = tear_down, .timeout = 20);

static int create_named(struct sluice_channel **ch, const char *name)
{
    const struct sluice_channel_config cfg = {
        .name = name, .inbox_bytes = 65536, .outbox_bytes = 65536, .metadata_entries = 64};
    return sluice_channel_create(ch, &cfg);
}

/* A process that has the name and waits to be killed; it never looks at its socket. */
static pid_t start_owner(void)
{
    int pipes[2];
    char byte;
    cr_assert_eq(pipe(pipes), 0);
    fflush(NULL);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        struct sluice_channel *ch;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (create_named(&ch, NAME) || write(pipes[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(pipes[1]);
    cr_assert_eq(read(pipes[0], &byte, 1), 1);
    close(pipes[0]);
    return pid;
}

static void kill_owner(pid_t pid)
{
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

Test(rendezvous, nobody_has_the_name)
{
    struct sluice_client *c;
    cr_expect_eq(sluice_attach(&c, NAME, SLUICE_UPSTREAM, S_NS), -ENOENT); /* no directory */
    cr_expect_eq(sluice_channel_owner(NAME), 0);
    cr_assert_eq(mkdir(serve_path(NULL), 0700), 0);
    cr_expect_eq(sluice_attach(&c, NAME, SLUICE_OBSERVER, S_NS), -ENOENT); /* no socket */
    cr_expect_null(c);
    cr_expect_eq(sluice_channel_owner(NAME), 0);
}

Test(rendezvous, row_23_the_socket_of_a_dead_engine_is_replaced)
{
    struct sluice_client *c;
    struct sluice_channel *ch;
    struct stat st;
    kill_owner(start_owner());
    cr_assert_eq(stat(serve_path(NAME ".sock"), &st), 0); /* it left its file */
    cr_expect_eq(sluice_channel_owner(NAME), 0);
    cr_assert_eq(create_named(&ch, NAME), 0);
    cr_assert_eq(serve_attaching(ch, NAME, SLUICE_UPSTREAM, &c), 0);
    cr_expect_eq(sluice_channel_owner(NAME), getpid());
    serve_detach(ch, c);
    sluice_channel_destroy(ch);
}

Test(rendezvous, row_23_the_socket_of_a_dead_engine_is_removed_by_who_asks_for_it)
{
    struct sluice_client *c;
    struct stat st;
    kill_owner(start_owner());
    cr_assert_eq(stat(serve_path(NAME ".sock"), &st), 0);
    for (int i = 0; i < 2; i++)
        cr_expect_eq(sluice_attach(&c, NAME, SLUICE_OBSERVER, S_NS), -ENOENT);
    cr_expect_eq(stat(serve_path(NAME ".sock"), &st), -1);
}

Test(rendezvous, row_24_a_live_engine_keeps_its_name)
{
    struct sluice_channel *ch, *other;
    pid_t owner = start_owner();
    cr_expect_eq(create_named(&ch, NAME), -EADDRINUSE);
    cr_expect_null(ch);
    cr_expect_eq(sluice_channel_owner(NAME), owner);
    cr_assert_eq(create_named(&other, "other"), 0); /* names do not meet */
    sluice_channel_destroy(other);
    cr_expect_eq(sluice_channel_owner(NAME), owner);
    kill_owner(owner);
    cr_assert_eq(create_named(&ch, NAME), 0);
    sluice_channel_destroy(ch);
}

/* A stopped one does not accept: its queue of connections fills. It is alive all the same. */
Test(rendezvous, an_engine_that_accepts_nobody_keeps_its_name)
{
    struct sluice_channel *ch;
    pid_t owner = start_owner();
    for (int i = 0; i < 40; i++)
        cr_assert_eq(create_named(&ch, NAME), -EADDRINUSE, "attempt %d", i);
    kill_owner(owner);
    cr_assert_eq(unlink(serve_path(NAME ".sock")), 0);
}

Test(rendezvous, two_channels_in_one_process)
{
    struct sluice_channel *ch, *twin;
    cr_assert_eq(create_named(&ch, NAME), 0);
    cr_expect_eq(create_named(&twin, NAME), -EADDRINUSE);
    cr_expect_null(twin);
    cr_expect_eq(sluice_channel_owner(NAME), getpid());
    sluice_channel_destroy(ch);
    sluice_channel_destroy(NULL);
}

Test(rendezvous, the_files_are_ours_alone)
{
    struct sluice_channel *ch;
    struct stat st;
    cr_assert_eq(create_named(&ch, NAME), 0);
    cr_assert_eq(stat(serve_path(NULL), &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0700);
    cr_assert_eq(stat(serve_path(NAME ".sock"), &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0600);
    sluice_channel_destroy(ch);
    cr_expect_eq(stat(serve_path(NAME ".sock"), &st), -1); /* nothing is left */
}

Test(rendezvous, bad_names_are_refused)
{
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      ".hidden",
                                      "a/b",
                                      "a b",
                                      "a\nb",
                                      "a%sb",
                                      "a:b",
                                      "\xc3\xa4",
                                      "../x",
                                      "*",
                                      "1234567890123456789012345678901234567890123456789"};
    static const char *const good[] = {"a", "A-b_c.9", "-x", "a..",
                                       "123456789012345678901234567890123456789012345678"};
    struct sluice_channel *ch;
    struct sluice_client *c;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_eq(create_named(&ch, bad[i]), -EINVAL, "'%s'", bad[i]);
        cr_expect_null(ch);
        cr_expect_eq(sluice_attach(&c, bad[i], SLUICE_OBSERVER, 0), -EINVAL, "'%s'", bad[i]);
        cr_expect_eq(sluice_channel_owner(bad[i]), -EINVAL);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct sluice_state s;
        cr_assert_eq(create_named(&ch, good[i]), 0, "'%s'", good[i]);
        sluice_channel_state(ch, &s);
        cr_expect_str_eq(s.name, good[i]);
        sluice_channel_destroy(ch);
    }
}

Test(rendezvous, row_28_a_directory_open_to_others_is_refused)
{
    static const mode_t bad[] = {0755, 0770, 0707, 0701, 0720};
    struct sluice_channel *ch;
    cr_assert_eq(mkdir(serve_path(NULL), 0700), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(chmod(serve_path(NULL), bad[i]), 0);
        cr_expect_eq(create_named(&ch, NAME), -EACCES, "mode %o", bad[i]);
        cr_expect_null(ch);
    }
    cr_assert_eq(chmod(serve_path(NULL), 0700), 0);
    cr_assert_eq(create_named(&ch, NAME), 0);
    sluice_channel_destroy(ch);
}

Test(rendezvous, row_28_a_directory_of_somebody_else_is_refused)
{
    struct sluice_channel *ch;
    if (geteuid() != 0)
        cr_skip_test("only root can give a directory away");
    cr_assert_eq(mkdir(serve_path(NULL), 0700), 0);
    cr_assert_eq(chown(serve_path(NULL), 65534, 65534), 0);
    cr_expect_eq(create_named(&ch, NAME), -EACCES);
}

Test(rendezvous, row_28_a_link_in_place_of_the_directory_is_refused)
{
    struct sluice_channel *ch;
    cr_assert_eq(symlink("/tmp", serve_path(NULL)), 0);
    int err = create_named(&ch, NAME);
    cr_expect(err == -ELOOP || err == -ENOTDIR, "%d", err);
    cr_assert_eq(unlink(serve_path(NULL)), 0);
}

Test(rendezvous, no_place_for_the_directory)
{
    struct sluice_channel *ch;
    char path[160], dir[200];
    snprintf(path, sizeof(path), "%s/not/there", serve_home);
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", path, 1), 0);
    cr_expect_eq(create_named(&ch, NAME), -ENOENT);
    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = 0;
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", path, 1), 0);
    cr_expect_eq(create_named(&ch, NAME), -ENAMETOOLONG); /* a socket's path has 108 bytes */
    cr_expect_null(ch);
    cr_expect_eq(sluice_channel_directory(dir, sizeof(dir)), 0);
    cr_expect_eq(sluice_channel_directory(dir, 10), -ENAMETOOLONG);
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", "relative", 1), 0); /* the specification says: ignore */
    cr_assert_eq(geteuid() == 0 ? sluice_channel_directory(dir, sizeof(dir)) : 0, 0);
    if (geteuid() == 0)
        cr_expect_str_eq(dir, "/run/sluice");
}

static int attach_as_nobody(struct sluice_channel *ch)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        struct sluice_client *c;
        if (setgid(65534) || setuid(65534))
            _exit(100);
        _exit(-sluice_attach(&c, NAME, SLUICE_OBSERVER, 5 * S_NS));
    }
    while (waitpid(pid, &status, WNOHANG) == 0)
        serve_once(ch, 1);
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -1;
}

/* Whatever the modes let through, the engine asks the kernel who it is. */
Test(rendezvous, another_user_is_refused)
{
    struct sluice_channel *ch;
    if (geteuid() != 0)
        cr_skip_test("only root can become somebody else");
    cr_assert_eq(create_named(&ch, NAME), 0);
    cr_expect_eq(attach_as_nobody(ch), -EACCES); /* by the directory */
    cr_assert_eq(chmod(serve_home, 0755) | chmod(serve_path(NULL), 0755), 0);
    cr_assert_eq(chmod(serve_path(NAME ".sock"), 0666), 0);
    for (int i = 0; i < 20; i++) { /* by the engine */
        int err = attach_as_nobody(ch);
        cr_assert_eq(err, -EACCES, "%s", strerror(-err));
    }
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_clients_attached], 0u);
    sluice_channel_destroy(ch);
}

/* ---- sizes ---- */

static int create_sized(const struct sluice_channel_config *cfg, struct sluice_state *s)
{
    struct sluice_channel *ch;
    int err = sluice_channel_create(&ch, cfg);
    cr_expect_eq(ch == NULL, err != 0);
    if (!err)
        sluice_channel_state(ch, s);
    sluice_channel_destroy(ch);
    return err;
}

Test(rendezvous, sizes_out_of_range_are_refused)
{
    static const struct sluice_channel_config bad[] = {
        {.inbox_bytes = 65535},
        {.inbox_bytes = (1ull << 30) + 1},
        {.inbox_bytes = UINT64_MAX},
        {.outbox_bytes = 1},
        {.outbox_bytes = 1ull << 31},
        {.metadata_entries = 63},
        {.metadata_entries = (1u << 20) + 1},
        {.metadata_entries = UINT32_MAX},
        {.outbox_slots = 63},
        {.outbox_slots = UINT32_MAX},
        {.pongs_slots = 15},
        {.pongs_slots = 65537},
    };
    struct sluice_state s;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(create_sized(&bad[i], &s), -EINVAL, "row %zu", i);
}

Test(rendezvous, sizes_have_defaults_and_become_powers_of_two)
{
    struct sluice_state s;
    cr_assert_eq(create_sized(&(struct sluice_channel_config){0}, &s), 0);
    cr_expect_eq(s.inbox_bytes, 1u << 20);
    cr_expect_eq(s.outbox_bytes, 1u << 20);
    cr_expect_eq(s.metadata_entries, 4096u);
    cr_expect_eq(s.outbox_slots, 4096u);
    cr_expect_eq(s.pongs_slots, 64u);
    const struct sluice_channel_config odd = {.inbox_bytes = 65537,
                                              .outbox_bytes = 100000,
                                              .metadata_entries = 65,
                                              .outbox_slots = 64,
                                              .pongs_slots = 17};
    cr_assert_eq(create_sized(&odd, &s), 0);
    cr_expect_eq(s.inbox_bytes, 131072u);
    cr_expect_eq(s.outbox_bytes, 131072u);
    cr_expect_eq(s.metadata_entries, 128u);
    cr_expect_eq(s.outbox_slots, 64u);
    cr_expect_eq(s.pongs_slots, 32u);
    cr_expect_eq(s.pongs_bytes, 32u * 256);
}
