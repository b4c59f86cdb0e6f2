/*
 * The eight rules of the rings, as what an upstream, an observer and a peer may see. Nothing here
 * moves the world.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

void rule_failed(const struct world *w, const char *what, const char *file, int line)
{
    printf("# seed %llu breaks a rule: %s (%s:%d), connection %u\n", (unsigned long long)w->seed,
           what, file, line, w->connection);
    printf("# alone: tests/sim_world %llu\n", (unsigned long long)w->seed);
    fflush(stdout);
    exit(1);
}

uint8_t pattern_rx(uint32_t connection, uint64_t position)
{
    uint64_t x = (position + 1) * 0x9e3779b97f4a7c15ull + connection * 0xbf58476d1ce4e5b9ull;
    return (uint8_t)(x >> 56);
}

uint8_t pattern_tx(uint32_t source, uint32_t sequence, uint32_t at)
{
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15ull + sequence * 0x94d049bb133111ebull + source;
    return (uint8_t)(x >> 56);
}

/* Rule 1: gap-free, in order with control events; rule 5: one pointer and a length. */
static void check_data(struct world *w, const struct sluice_meta *m)
{
    const uint8_t *bytes = sluice_inbox_at(w->upstream, m->msg_inbox_offset);
    RULE(w, m->decrypted_len > 0);
    RULE(w, !w->eof_seen && !w->end_seen && w->upstream_knows);
    RULE(w, m->first_nic_frame_poll_cycle <= m->latest_nic_frame_poll_cycle);
    RULE(w, m->latest_nic_frame_poll_cycle <= m->ssl_read_cycle);
    for (uint32_t i = 0; i < m->decrypted_len; i++)
        RULE(w, bytes[i] == pattern_rx(w->connection, m->msg_inbox_offset - w->base + i));
}

void check_entry(struct world *w, const struct sluice_meta *m)
{
    RULE(w, m->msg_inbox_offset == w->next_position);
    switch ((enum sluice_event)m->event) {
    case SLUICE_EVENT_CONNECTED:
        RULE(w, !w->upstream_knows && m->connection == w->connection && m->decrypted_len == 0);
        w->upstream_knows = true;
        w->base = m->msg_inbox_offset;
        break;
    case SLUICE_EVENT_EOF:
        RULE(w, !w->eof_seen && w->peer_fin && m->decrypted_len == 0);
        RULE(w, w->next_position - w->base == w->peer_sent); /* rule 2: nothing lost before it */
        w->eof_seen = true;
        break;
    case SLUICE_EVENT_DISCONNECTED:
        RULE(w, !w->end_seen && m->connection == w->connection && m->decrypted_len == 0);
        w->end_seen = true;
        break;
    case SLUICE_EVENT_DATA:
        check_data(w, m);
        break;
    }
    w->next_position += m->decrypted_len;
}

/* Bytes that were seen and not released are still there. */
void check_kept(struct world *w)
{
    uint64_t from = w->released > w->base ? w->released : w->base;
    if (!w->upstream_knows)
        return;
    const uint8_t *bytes = sluice_inbox_at(w->upstream, from);
    for (uint64_t p = from; p < w->next_position; p++)
        RULE(w, bytes[p - from] == pattern_rx(w->connection, p - w->base));
}

/* An observer that was not lapped sees the same stream. */
void check_observed(struct world *w, const struct sluice_meta *m)
{
    if (w->observer_synced)
        RULE(w, m->msg_inbox_offset == w->next_observed);
    w->observer_synced = true;
    w->next_observed = m->msg_inbox_offset + m->decrypted_len;
}

static uint32_t word_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Rules 3, 4 and 7: whole messages, each source in order, a PONG only between messages. */
static void begin_message(struct world *w)
{
    w->body_source = word_at(w->header);
    w->body_sequence = word_at(w->header + 4);
    w->body_left = word_at(w->header + 8);
    w->body_at = 0;
    RULE(w, w->body_source < SOURCES);
    struct source_log *log = &w->sources[w->body_source];
    RULE(w, w->body_sequence == log->seen);
    RULE(w, w->body_sequence >= log->first); /* nothing of an earlier connection */
    log->seen++;
}

void check_peer_bytes(struct world *w, const uint8_t *bytes, size_t n)
{
    w->peer_got += n;
    while (n > 0) {
        if (w->body_left == 0) {
            w->header[w->header_have++] = *bytes++;
            n--;
            if (w->header_have < MESSAGE_HEADER)
                continue;
            w->header_have = 0;
            begin_message(w);
            continue;
        }
        RULE(w, *bytes == pattern_tx(w->body_source, w->body_sequence, w->body_at));
        bytes++;
        n--;
        w->body_at++;
        w->body_left--;
    }
}

/* Rule 6: positions stay within their rings; nobody was taken for a liar. */
void check_positions(struct world *w)
{
    const struct sluice_inbox *in = &w->ch->inbox;
    struct sluice_state st;
    RULE(w, in->tail - in->head <= in->bytes);
    RULE(w, in->meta_tail - in->meta_head <= in->entries);
    RULE(w, in->lent - in->head <= in->bytes);
    RULE(w, !w->ch->corrupt);
    sluice_channel_state(w->ch, &st);
    RULE(w, st.counters[SLUICE_COUNTER_clients_corrupt] == 0);
    RULE(w, st.inbox_tail <= in->tail && st.metadata_tail <= in->meta_tail);
}

/* The engine's end of the upstream's doorbell. */
static int bell_of(const struct world *w)
{
    int link = 0;
    while (w->ch->links[link].writer != w->ch->upstream)
        link++;
    return w->ch->links[link].fd;
}

static int times_rung(const struct world *w)
{
    int bytes = 0;
    RULE(w, ioctl(bell_of(w), FIONREAD, &bytes) == 0);
    return bytes;
}

/* Going to sleep: with nothing pending, whatever a client does next must ring. */
void check_asleep(struct world *w)
{
    struct sluice_source *src = w->loop->sources;
    src->park(src);
    if (!src->pending(src) && w->upstream && w->open) {
        int before = times_rung(w);
        void *room;
        if (sluice_pong_claim(w->upstream, MESSAGE_HEADER, &room) == 0) {
            const uint32_t header[3] = {FROM_PONGS, w->sources[FROM_PONGS].next++, 0};
            memcpy(room, header, sizeof(header));
            w->sources[FROM_PONGS].committed++;
            sluice_pong_commit(w->upstream, w->connection);
            RULE(w, times_rung(w) == before + 1);
        }
    }
    src->unpark(src);
}

/* The close record adds up: every message is sent whole, half sent, or left; every byte counted. */
void check_end(struct world *w)
{
    const struct sluice_close_record *r = &w->record;
    uint64_t committed = 0, seen = 0;
    for (int i = 0; i < SOURCES; i++) {
        committed += w->sources[i].committed;
        seen += w->sources[i].seen - w->sources[i].first;
    }
    RULE(w, r->connection == w->connection);
    RULE(w, r->messages_sent + (r->half_sent_bytes > 0) + r->messages_left == committed);
    RULE(w, r->received_bytes == w->next_position - w->base);
    RULE(w, r->inbox_end == w->next_position);
    RULE(w, r->received_bytes <= w->peer_sent);
    RULE(w, w->peer_got <= r->sent_bytes);
    RULE(w, seen <= r->messages_sent + (r->half_sent_bytes > 0));
    if (w->eof_seen)
        RULE(w, r->received_bytes == w->peer_sent);
    if (!w->peer_rst && r->reason != SLUICE_REASON_RESET && r->reason != SLUICE_REASON_RECONNECT)
        RULE(w, w->peer_got == r->sent_bytes);
}
