/*
 * produce NAME TAG COUNT BYTES: attaches to an engine as a producer and sends COUNT messages of
 * BYTES bytes each: TAG, a number of 12 digits, padding, a line feed. Prints "attached", and "done"
 * when the kernel has taken all of them.
 */
#include <sluice/channel.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ll

static int fail(const char *what, int error)
{
    fprintf(stderr, "produce: %s: %s\n", what, strerror(-error));
    return 1;
}

/* Until room came back, or the engine is gone (negative errno). */
static int wait_room(struct sluice_client *c)
{
    int what = sluice_client_wait(c, SLUICE_WAIT_OUTBOX, SECOND / 100);
    return what < 0 && what != -EINTR ? what : 0;
}

static int send_one(struct sluice_client *c, char tag, uint64_t number, size_t bytes)
{
    void *room;
    int error;
    while ((error = sluice_outbox_claim(c, bytes, &room)) == -EAGAIN) {
        error = wait_room(c);
        if (error)
            return error;
    }
    if (error)
        return error;
    char head[32];
    snprintf(head, sizeof(head), "%c%012" PRIu64, tag, number);
    memset(room, '.', bytes);
    memcpy(room, head, 13);
    ((char *)room)[bytes - 1] = '\n';
    sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
    return 0;
}

static int wait_sent(struct sluice_client *c)
{
    for (;;) {
        uint64_t messages, bytes;
        sluice_outbox_depth(c, &messages, &bytes);
        if (messages == 0)
            return 0;
        int error = wait_room(c);
        if (error)
            return error;
    }
}

static int produce(struct sluice_client *c, char **argv)
{
    uint64_t count = strtoull(argv[3], NULL, 10);
    size_t bytes = strtoull(argv[4], NULL, 10);
    puts("attached");
    fflush(stdout);
    for (uint64_t i = 0; i < count; i++) {
        int error = send_one(c, argv[2][0], i, bytes);
        if (error)
            return fail("sending", error);
    }
    int error = wait_sent(c);
    if (error)
        return fail("waiting", error);
    puts("done");
    return 0;
}

int main(int argc, char **argv)
{
    struct sluice_client *c;
    if (argc != 5 || strtoull(argv[4], NULL, 10) < 14) {
        fprintf(stderr, "usage: produce NAME TAG COUNT BYTES\n");
        return 2;
    }
    int error = sluice_attach(&c, argv[1], SLUICE_PRODUCER, 5 * SECOND);
    if (error)
        return fail(argv[1], error);
    int failed = produce(c, argv);
    sluice_detach(c);
    return failed;
}
