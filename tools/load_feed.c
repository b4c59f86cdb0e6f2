/*
 * The stream of sluice load --serve feed. Each message is numbered and carries the CRC-32 of what
 * stands before it: tools/demo_report.py checks both.
 */
#include "load_feed.h"

#include "fail.h"
#include "json.h"
#include "load_wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define SECOND     1000000000ll
#define TEXT       0x81u /* FIN and opcode */
#define PING       0x89u
#define CLOSE      0x88u
#define TEXT_BYTES 192u

static int64_t realtime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static bool send_frame(struct feed *f, uint8_t first, const void *bytes, size_t count)
{
    uint8_t frame[WIRE_FRAME_MAX + TEXT_BYTES];
    size_t n = wire_write_frame(frame, first, NULL, bytes, count);
    return sluice_conn_write(f->conn, frame, n) == 0;
}

/* One quote; crc covers what stands before it. */
static bool send_quote(struct feed *f)
{
    static const char *const symbols[] = {"BTC-USD", "ETH-USD", "SOL-USD", "EUR-USD"};
    char text[TEXT_BYTES];
    int n = snprintf(text, sizeof(text),
                     "{\"seq\":%" PRIu64 ",\"ts_ns\":%" PRId64 ",\"sym\":\"%s\",\"px\":%" PRIu64
                     ",\"qty\":%" PRIu64,
                     f->sent, realtime_ns(), symbols[f->sent % 4], 60000 + f->sent % 977,
                     1 + f->sent % 50);
    n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"crc\":%" PRIu32 "}",
                  wire_crc(0, (const uint8_t *)text, (size_t)n));
    if (!send_frame(f, TEXT, text, (size_t)n))
        return false;
    f->sent++;
    f->sent_bytes += (uint64_t)n;
    return true;
}

static void send_ping(struct feed *f)
{
    uint8_t payload[WIRE_CONTROL_MAX]; /* the longest there is (RFC 6455, 5.5) */
    memset(payload, 'p', sizeof(payload));
    for (unsigned i = 0; i < 4; i++)
        payload[i] = (uint8_t)((f->pings + 1) >> (24 - 8 * i));
    f->pings += send_frame(f, PING, payload, sizeof(payload));
}

static void send_end(struct feed *f)
{
    static const uint8_t code[] = {1000 >> 8, 1000 & 255};
    char text[TEXT_BYTES];
    int n = snprintf(text, sizeof(text), "{\"end\": %" PRIu64 "}", f->sent);
    f->said_end = send_frame(f, TEXT, text, (size_t)n) && send_frame(f, CLOSE, code, sizeof(code));
}

void feed_push(struct feed *f, int64_t now)
{
    const struct options *o = f->options;
    int64_t past = now - f->began_ns;
    if (f->began_ns == 0 || f->said_end)
        return;
    if (past >= o->duration_ns) {
        send_end(f);
        return;
    }
    if ((uint64_t)(past / SECOND) >= f->pings)
        send_ping(f);
    uint64_t due = (uint64_t)((double)past / SECOND * (double)o->rate);
    while (f->steady < due && send_quote(f))
        f->steady++;
    uint64_t bursts = (uint64_t)((past + SECOND / 2) / SECOND) * (uint64_t)o->burst;
    while (f->bursts < bursts && send_quote(f))
        f->bursts++;
}

int feed_report(const struct feed *f, const char *path)
{
    struct json j = {.out = fopen(path, "w")};
    if (!j.out)
        return fail_errno(-errno, "--report %s", path);
    json_open(&j, NULL, '{');
    json_number(&j, "sent", f->sent);
    json_number(&j, "sent_bytes", f->sent_bytes);
    json_number(&j, "received", f->received);
    json_number(&j, "pings", f->pings);
    json_number(&j, "pongs", f->pongs);
    json_close(&j, '}');
    return fclose(j.out) ? fail_errno(-errno, "--report %s", path) : 0;
}
