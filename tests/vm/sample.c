/*
 * What the ruler is tried on. sample loop N: N times 1000 instructions. sample trips N: N round
 * trips of 64 bytes between two processes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void loop(long count)
{
    for (long i = 0; i < count; i++) {
        long left = 500;
        __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(left));
    }
}

static int trips(long count)
{
    char message[64] = "";
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 1;
    pid_t echo = fork();
    if (echo == 0) {
        close(ends[0]);
        while (read(ends[1], message, sizeof(message)) > 0 &&
               write(ends[1], message, sizeof(message)) > 0)
            continue;
        _exit(0);
    }
    close(ends[1]);
    for (long i = 0; i < count; i++)
        if (write(ends[0], message, sizeof(message)) < 0 ||
            read(ends[0], message, sizeof(message)) <= 0)
            return 1;
    close(ends[0]);
    return waitpid(echo, NULL, 0) == echo ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long count = atol(argv[2]);
    if (strcmp(argv[1], "trips") == 0)
        return trips(count);
    loop(count);
    return 0;
}
