/*
 * Frames of a server, through a channel as sluice ws reads them. The first two bytes of an input
 * say in what pieces it arrives; whether a message is seen may not depend on that.
 */
#include "tests/fuzz/fuzz.h"
#include "rings/entry.h"
#include "tools/ws_frames.h"

#define STREAM_BYTES_MAX 60000u

/* What was seen, in order, as one number. */
struct seen {
    uint64_t events, sum;
};

static void note(struct seen *seen, unsigned what, const uint8_t *bytes, size_t count)
{
    seen->events++;
    seen->sum = (seen->sum ^ what ^ count << 8) * 0x100000001b3u;
    for (size_t i = 0; i < count; i++)
        seen->sum = (seen->sum ^ bytes[i]) * 0x100000001b3u;
}

static void on_message(void *user, bool text, const uint8_t *bytes, size_t count)
{
    MUST(count <= FRAMES_MESSAGE_MAX);
    note(user, text ? 1 : 2, bytes, count);
}

static void on_ping(void *user, const uint8_t *bytes, size_t count)
{
    MUST(count <= FRAMES_CONTROL_MAX);
    note(user, 3, bytes, count);
}

static void on_close(void *user, unsigned code, const uint8_t *reason, size_t reason_bytes)
{
    MUST(reason_bytes + 2 <= FRAMES_CONTROL_MAX);
    note(user, 4 + (code << 8), reason, reason_bytes);
}

static const struct frames_events events = {
    .message = on_message, .ping = on_ping, .close = on_close};

static struct sluice_channel *ch;
static struct sluice_client *client;

static void set_up_once(void)
{
    static const struct sluice_channel_config cfg = {.inbox_bytes = 65536,
                                                     .outbox_bytes = 65536,
                                                     .metadata_entries = 64,
                                                     .outbox_slots = 64,
                                                     .pongs_slots = 16};
    if (ch)
        return;
    MUST(sluice_channel_create(&ch, &cfg) == 0);
    MUST(sluice_attach_local(&client, ch, SLUICE_UPSTREAM) == 0);
}

static void arrive(const uint8_t *data, size_t bytes)
{
    static const struct sluice_meta stamps;
    memcpy(ch->inbox.base + (ch->inbox.tail & (ch->inbox.bytes - 1)), data, bytes);
    sluice_inbox_arrived(ch, &stamps, (uint32_t)bytes);
}

static void release_all(void)
{
    const struct sluice_meta *m;
    int64_t n;
    while (sluice_inbox_flush_pending(ch), (n = sluice_inbox_peek(client, &m, 64)) > 0)
        MUST(sluice_inbox_release(client, (uint32_t)n) == 0);
    MUST(n == 0 && sluice_inbox_limit(ch) == ch->inbox.tail + ch->inbox.bytes);
}

/* Returns the code of the CLOSE that refuses it, or 0. */
static unsigned decode(struct seen *seen, const uint8_t *data, size_t bytes, size_t step)
{
    struct frames f;
    unsigned code = 0;
    MUST(frames_init(&f, client, ch->inbox.tail, &events, seen) == 0);
    for (size_t at = 0; at < bytes && !code; at += step) {
        uint64_t kept = frames_keep_from(&f);
        arrive(data + at, bytes - at < step ? bytes - at : step);
        code = frames_decode(&f, ch->inbox.tail);
        MUST(code == 0 || code == FRAMES_CLOSE_PROTOCOL || code == FRAMES_CLOSE_TOO_BIG);
        MUST(f.at <= ch->inbox.tail && f.boundary <= f.at);
        MUST(frames_keep_from(&f) >= kept && frames_keep_from(&f) <= f.at);
    }
    frames_fini(&f);
    release_all();
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct seen whole = {0}, pieces = {0};
    if (bytes < 2 || bytes - 2 > STREAM_BYTES_MAX)
        return 0;
    set_up_once();
    size_t step = 1 + ((size_t)data[0] << 8 | data[1]) % (bytes - 1);
    unsigned code = decode(&whole, data + 2, bytes - 2, STREAM_BYTES_MAX);
    unsigned code_of_pieces = decode(&pieces, data + 2, bytes - 2, step);
    MUST(code == code_of_pieces);
    MUST(whole.events == pieces.events && whole.sum == pieces.sum);
    return 0;
}
