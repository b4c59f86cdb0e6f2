/*
 * main of the sluice binary: the table of commands, --help and --version. What a command does
 * stands in the file of its name.
 */
#include "tools.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct command {
    const char *name;
    unsigned bit; /* FOR_* */
    uint32_t args_min, args_max;
    const char *args;
    const char *summary;
    const char *text;
    int (*call)(struct options *o);
    void (*more_help)(FILE *out); /* or NULL */
};

static const struct command commands[] = {
    {"run", FOR_RUN, 0, OPTION_ARGS_MAX, "[NAME=]URL...",
     "an engine as a process of its own, others attach to its --name",
     "Connects to URL (tcp:// or tls://host:port) and moves bytes between the socket and the "
     "channel NAME.\n"
     "Prints one line when a connection opens and one when it ended; the exit code tells how.\n"
     "Several URLs: one loop, a channel for each (NAME, NAME-2, ...). Without one: the sections of "
     "the\n"
     "config file, [NAME] and below it url = URL and other keys of that connection.\n"
     "SIGINT or SIGTERM ends in order, a second one at once.\n",
     cmd_run, NULL},
    {"cat", FOR_CAT, 1, 1, "URL|NAME", "stdin to the peer, what it sends to stdout",
     "With a URL (tcp:// or tls://host:port) the engine runs in this process, with a NAME it "
     "attaches to\n"
     "one (flags of the connection and the engine then have no effect, but --connect-timeout).\n"
     "The end of stdin half-closes; it ends when the peer closes, or when stdin is silent for\n"
     "1 s after the peer's end. Byte-exact both ways.\n",
     cmd_cat, NULL},
    {"ws", FOR_WS, 1, 1, "URL|NAME", "a WebSocket client: one received message per line on stdout",
     "With a URL (ws:// or wss://host:port/path) the engine runs in this process, with a NAME it "
     "attaches\n"
     "to one. Answers PING and CLOSE; text lines of stdin are not read, see --send.\n",
     cmd_ws, NULL},
    {"stat", FOR_STAT, 1, 1, "NAME", "state and counters of an engine, read-only",
     "Works while the engine is stuck, too: engine says running, asleep, or stuck since when.\n",
     cmd_stat, NULL},
    {"load", FOR_LOAD, 1, 2, "MODE URL", "latency and throughput of a peer, or of an engine",
     "MODE is rtt (the next message when an answer came), rate (a fixed schedule: latency counts "
     "from\n"
     "when a message was due), stream (MB/s), connect (connections/s) or idle (hold them). URL is\n"
     "tcp:// tls:// ws:// wss:// or unix:PATH; its peer echoes, but for stream: --direction.\n"
     "With --engine NAME messages go through that engine, with --serve WHAT we are the peer.\n"
     "The load never sleeps; --idle is the engine's or the server's.\n",
     cmd_load, load_help},
    {"probe", FOR_PROBE, 0, 0, "", "what this machine offers, and which model auto would pick", "",
     cmd_probe, NULL},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const struct reason_row {
    int exit_code;
    const char *symbol, *name, *text;
} reason_rows[] = {
#define REASON_ROW(sym, num, name, exit_code, cls, text) {exit_code, #sym, name, text},
    SLUICE_REASON_MAP(REASON_ROW)
#undef REASON_ROW
};

static void print_exit_codes(void)
{
    const size_t count = sizeof(reason_rows) / sizeof(reason_rows[0]);
    printf("\nExit codes:\n  %3d  %-12s %s\n", 0, "", "done, or the connection ended in order");
    for (size_t i = 0; i < count; i++) {
        bool seen = reason_rows[i].exit_code == 0;
        for (size_t j = 0; j < i; j++)
            seen |= reason_rows[j].exit_code == reason_rows[i].exit_code;
        if (!seen)
            printf("  %3d  %-12s %s\n", reason_rows[i].exit_code, reason_rows[i].name,
                   reason_rows[i].text);
    }
}

static void print_help(void)
{
    printf("sluice moves bytes between a TCP socket and rings in shared memory.\n\n"
           "usage: sluice COMMAND [FLAGS] [ARGUMENT]\n\n"
           "Commands (sluice COMMAND --help tells more):\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-5s %-9s %s\n", commands[i].name, commands[i].args, commands[i].summary);
    printf(
        "\n  --help     this text\n  --version  versions of sluice and of what it is built with\n"
        "\nData goes to stdout, the log to stderr.\n");
    print_exit_codes();
}

static void print_command_help(const struct command *c)
{
    printf("usage: sluice %s [FLAGS]%s%s\n\n%c%s.\n%s\nFlags:\n", c->name, c->args[0] ? " " : "",
           c->args, c->summary[0] >= 'a' ? c->summary[0] - 'a' + 'A' : c->summary[0],
           c->summary + 1, c->text);
    options_help(stdout, c->bit);
    printf("\nA flag is --key VALUE or --key=VALUE. Defaults < config file < environment\n"
           "(SLUICE_KEY, as in SLUICE_SPIN_US) < flags. Exit codes: see sluice --help.\n");
    if (c->more_help)
        c->more_help(stdout);
}

static enum sluice_log_level log_level_of(const char *name)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    unsigned level = SLUICE_LOG_ERROR;
    while (level < SLUICE_LOG_DEBUG && strcmp(names[level], name) != 0)
        level++;
    return (enum sluice_log_level)level;
}

static int check_arguments(const struct command *c, const struct options *o)
{
    char remedy[64];
    snprintf(remedy, sizeof(remedy), "see sluice %s --help", c->name);
    if (o->arg_count < c->args_min)
        return fail_remedy(SLUICE_REASON_USAGE, remedy, "%s: %s is missing", c->name, c->args);
    if (o->arg_count > c->args_max)
        return fail_remedy(SLUICE_REASON_USAGE, remedy, "%s: one argument too many: '%s'", c->name,
                           o->args[c->args_max]);
    return 0;
}

static int run_command(const struct command *c, int argc, char **argv)
{
    static struct options options; /* static: texts hang on it to the end */
    int failed = options_read(&options, c->bit, argc, argv);
    if (!failed && options.help) {
        print_command_help(c);
        return 0;
    }
    if (!failed)
        failed = check_arguments(c, &options);
    if (failed)
        return failed;
    sluice_log_set_level(log_level_of(options.log_level));
    return c->call(&options);
}

static int choose(int argc, char **argv)
{
    if (argc < 2)
        return fail_remedy(SLUICE_REASON_USAGE, "see sluice --help", "no command");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts(sluice_version());
        return 0;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&commands[i], argc - 2, argv + 2);
    return fail_remedy(SLUICE_REASON_USAGE, "see sluice --help", "unknown command '%s'", argv[1]);
}

/* A descriptor we open must not become stdin, stdout or stderr where those were closed. Opened the
 * wrong way round, so that reading or writing still fails. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return; /* no /dev/null: then without */
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    int exit_code = choose(argc, argv);
    if (fflush(stdout) != 0 && exit_code == 0 && errno != EPIPE)
        return fail_stdout(-errno);
    return exit_code;
}
