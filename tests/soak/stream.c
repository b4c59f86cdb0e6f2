/*
 * What is sent, and that it came.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void soak_fail(const char *who, const char *what, uint64_t number)
{
    printf("# %s: %s (%llu)\nnot ok 1 - bytes arrive as they were sent\n1..1\n", who, what,
           (unsigned long long)number);
    fflush(stdout);
    _exit(1);
}

void soak_pause(uint64_t *random)
{
    uint64_t what = random_below(random, 400);
    struct timespec t = {.tv_nsec = (long)random_below(random, what == 0 ? 20000000 : 200000)};
    if (what < 8)
        nanosleep(&t, NULL);
}

static uint64_t word(uint64_t key, uint64_t at)
{
    uint64_t state = key * 0x9e3779b97f4a7c15u + at / 8;
    return random_next(&state);
}

static uint8_t byte_at(uint64_t key, uint64_t at)
{
    return (uint8_t)(at < KEY_BYTES ? key >> 8 * at : word(key, at) >> 8 * (at % 8));
}

void stream_write(struct stream *s, uint8_t *to, size_t bytes)
{
    size_t i = 0;
    for (; i < bytes && (s->at < KEY_BYTES || s->at % 8); i++)
        to[i] = byte_at(s->key, s->at++);
    for (; i + 8 <= bytes; i += 8, s->at += 8) {
        uint64_t eight = word(s->key, s->at);
        memcpy(to + i, &eight, 8);
    }
    for (; i < bytes; i++)
        to[i] = byte_at(s->key, s->at++);
}

static void take_key(struct stream *s, uint8_t byte)
{
    s->begin[s->at++] = byte;
    if (s->at == KEY_BYTES)
        memcpy(&s->key, s->begin, KEY_BYTES);
}

void stream_check(struct stream *s, const uint8_t *bytes, size_t count, const char *who)
{
    uint8_t want[512];
    while (count > 0 && s->at < KEY_BYTES)
        take_key(s, *bytes++), count--;
    while (count > 0) {
        size_t n = count < sizeof(want) ? count : sizeof(want);
        struct stream before = *s;
        stream_write(s, want, n);
        if (memcmp(want, bytes, n) != 0)
            soak_fail(who, "other bytes than were sent, at", before.at);
        bytes += n;
        count -= n;
    }
}
