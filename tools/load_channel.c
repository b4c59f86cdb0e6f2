/*
 * sluice load through an engine: its messages go into the outbox, the answers come out of the
 * inbox, and the stamps in MSG_METADATA and of the outbox tell how long each stage took. One
 * connection: a channel has no more.
 */
#include "load.h"

#include "fail.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX    256u
#define TURNS_PER_LOOK 4096u /* how often is asked whether the engine is still there */

struct channel {
    struct session session;
    struct options options; /* of the engine in this process: cores behind the load's own */
    struct stages stages;
    uint64_t committed, sent; /* messages; the engine took them up */
    uint32_t turns;
};

static struct channel *channel_of(const struct load *load)
{
    return load->carried;
}

static int open_channel(struct load *load)
{
    const struct load_plan *plan = &load->plan;
    struct channel *ch = calloc(1, sizeof(*ch));
    load->carried = ch;
    if (!ch)
        return fail_errno(-ENOMEM, "channel");
    ch->options = *plan->options;
    struct option_cores *cores = &ch->options.cores;
    memmove(cores->core, cores->core + 1, sizeof(cores->core) - sizeof(cores->core[0]));
    cores->count -= cores->count > 0;
    int failed = session_open(&ch->session, &ch->options, plan->url, SLUICE_UPSTREAM);
    if (failed)
        return failed;
    stages_init(&ch->stages, ch->session.client);
    load->stages = &ch->stages;
    size_t limit = sluice_outbox_limit(ch->session.client);
    if (limit < plan->size_max + WIRE_FRAME_MAX)
        return fail_remedy(SLUICE_REASON_USAGE, "raise --outbox of the engine",
                           "%s: --size %u, its outbox takes %zu", plan->target, plan->size_max,
                           limit);
    return 0;
}

/* The session waited until it was open. */
static int dial(struct load_flow *flow)
{
    struct channel *ch = channel_of(flow->load);
    flow->carried = ch->session.client;
    sluice_client_set_ready(ch->session.client, 1);
    flow_opened(flow);
    return 0;
}

static int send_bytes(struct load_flow *flow, const uint8_t *bytes, size_t count)
{
    struct channel *ch = channel_of(flow->load);
    void *room;
    int err = sluice_outbox_claim(ch->session.client, count, &room);
    if (err)
        return err;
    memcpy(room, bytes, count);
    ch->committed++;
    sluice_outbox_commit(ch->session.client, ch->session.connection, SLUICE_MESSAGE_DATA);
    return 0;
}

static void hang_up(struct load_flow *flow)
{
    flow_ended(flow, SLUICE_REASON_LOCAL_CLOSE, "");
}

static void take_end(struct load_flow *flow, const struct sluice_meta *entry)
{
    struct channel *ch = channel_of(flow->load);
    if (entry->event == SLUICE_EVENT_EOF && flow->state != FLOW_CLOSED) {
        flow_ended(flow, SLUICE_REASON_PEER_CLOSE, "");
        sluice_client_request_close(ch->session.client);
    } else if (entry->event == SLUICE_EVENT_DISCONNECTED && flow->state != FLOW_CLOSED) {
        char why[80];
        snprintf(why, sizeof(why), "connection %u ended%s%s", entry->connection,
                 entry->os_error ? ": " : "", entry->os_error ? strerror(entry->os_error) : "");
        ch->session.connection = entry->connection;
        flow_ended(flow, entry->reason, why);
    }
}

static int64_t take_inbox(struct load *load, struct load_flow *flow)
{
    struct channel *ch = channel_of(load);
    const struct sluice_meta *entries;
    int64_t n = sluice_inbox_peek(ch->session.client, &entries, ENTRIES_MAX);
    if (n <= 0)
        return n;
    int64_t now = now_ns();
    if (load->counting)
        stages_take(&ch->stages, entries, (uint32_t)n);
    for (int64_t i = 0; i < n; i++) {
        if (entries[i].event == SLUICE_EVENT_DATA)
            flow_took(flow, sluice_inbox_at(ch->session.client, entries[i].msg_inbox_offset),
                      entries[i].decrypted_len, now);
        else
            take_end(flow, &entries[i]);
    }
    sluice_inbox_release(ch->session.client, (uint32_t)n);
    return n;
}

/* The newest message that left since the last turn. */
static void look_at_outbox(const struct load *load, struct channel *ch)
{
    struct sluice_outbox_stamp left;
    if (ch->sent == ch->committed || sluice_outbox_stamped(ch->session.client, &left) ||
        left.messages == ch->sent)
        return;
    ch->sent = left.messages;
    if (load->counting)
        stages_sent(&ch->stages, &left);
}

static int turn(struct load *load)
{
    struct channel *ch = channel_of(load);
    struct load_flow *flow = &load->flows[0];
    look_at_outbox(load, ch);
    int64_t n = take_inbox(load, flow);
    if (n < 0)
        return fail_errno((int)n, "%s: inbox", load->plan.target);
    if (flow->full)
        flow_room(flow);
    if (++ch->turns % TURNS_PER_LOOK == 0 && flow->state != FLOW_CLOSED &&
        sluice_client_wait(ch->session.client, SLUICE_WAIT_INBOX, 0) == -EPIPE)
        flow_ended(flow, SLUICE_REASON_ENGINE_GONE, "the engine is gone");
    return 0;
}

static void close_channel(struct load *load)
{
    struct channel *ch = channel_of(load);
    if (ch && ch->session.client)
        sluice_client_set_ready(ch->session.client, 0);
    if (ch)
        session_close(&ch->session);
    free(ch);
    load->carried = NULL;
    load->stages = NULL;
}

static void describe(struct load *load, char *out, size_t out_bytes)
{
    struct sluice_state st;
    sluice_client_state(channel_of(load)->session.client, &st);
    snprintf(out, out_bytes, "engine %s: %s, %s; TLS %s", st.name[0] ? st.name : "(in process)",
             st.backend, st.model, st.tls);
}

const struct load_carrier load_channel = {.name = "channel",
                                          .open = open_channel,
                                          .dial = dial,
                                          .send = send_bytes,
                                          .hang_up = hang_up,
                                          .turn = turn,
                                          .close = close_channel,
                                          .describe = describe};
