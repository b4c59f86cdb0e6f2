/*
 * Other programs as contestants: see commands.h.
 */
#include "commands.h"
#include "tcp.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_BYTES 65536

const char *command_sluice(void)
{
    static char path[512];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    char *end = n > 0 ? (path[n] = 0, strstr(path, "/tests/")) : NULL;
    BENCH_CHECK(end && strlen("/tools/sluice") < sizeof(path) - (size_t)(end - path));
    memcpy(end, "/tools/sluice", sizeof("/tools/sluice"));
    return path;
}

const char *command_output(const char *format, ...)
{
    static char text[LINE_BYTES];
    char command[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    FILE *out = popen(command, "r");
    BENCH_CHECK(out);
    size_t n = fread(text, 1, sizeof(text) - 1, out);
    text[n] = 0;
    return pclose(out) == 0 ? text : "";
}

double command_number(const char *text, const char *mark, const char *key)
{
    const char *at = strstr(text, mark);
    at = at ? strstr(at, key) : NULL;
    if (!at)
        bench_fail("%s %s is not in what it said (is it there? tools/setup bench): %.200s", mark,
                   key, text);
    return strtod(at + strlen(key), NULL);
}

pid_t command_start(char *const argv[], FILE **out)
{
    int pipe_fds[2];
    BENCH_CHECK(pipe(pipe_fds) == 0);
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid == 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)bench_cores[1], &set);
        sched_setaffinity(0, sizeof(set), &set);
        dup2(pipe_fds[1], STDOUT_FILENO);
        close(pipe_fds[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    *out = fdopen(pipe_fds[0], "r");
    BENCH_CHECK(*out);
    return pid;
}

void command_wait(pid_t pid, FILE *out)
{
    waitpid(pid, NULL, 0);
    fclose(out);
}

uint16_t command_free_port(void)
{
    uint16_t port;
    close(tcp_listen(&port));
    return port;
}
