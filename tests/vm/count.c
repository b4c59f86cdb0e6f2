/*
 * Runs a command and says what the time stamp counter counted meanwhile: under qemu -icount, where
 * one tick is one instruction, the instructions of all that ran, kernel included. For
 * tests/vm/ruler.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

int main(int argc, char **argv)
{
    int status;
    if (argc < 2)
        return 2;
    uint64_t begin = __rdtsc();
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return 1;
    printf("count: %llu\n", (unsigned long long)(__rdtsc() - begin));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
