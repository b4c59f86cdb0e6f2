/*
 * Runs a command and says what the time stamp counter counted meanwhile: under qemu -icount, where
 * one tick is one instruction, the instructions of all that ran, kernel included. Then what of it
 * was the command's own, by its CPU time: a tick is a nanosecond too. For tests/vm/ruler.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

static unsigned long long ns(struct timeval t)
{
    return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_usec * 1000u;
}

int main(int argc, char **argv)
{
    int status;
    struct rusage used;
    if (argc < 2)
        return 2;
    uint64_t begin = __rdtsc();
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) < 0)
        return 1;
    printf("count: %llu %llu\n", (unsigned long long)(__rdtsc() - begin),
           ns(used.ru_utime) + ns(used.ru_stime));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
