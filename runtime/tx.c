/*
 * The tx path: runs of whole messages leave from the outboxes as one SEND each, one in flight. Fair
 * between writers, PONGs after each batch, nothing ever inside a message that is half sent. With
 * TLS a run is encrypted first, record by record, and its messages count when their records left.
 */
#include "paths.h"
#include "thread.h"
#include "base/check.h"

#include <errno.h>
#include <poll.h>

static void on_send(struct sluice_op *op, int32_t result, bool more);
static void on_room(struct sluice_op *op, int32_t result, bool more);

void sluice_tx_init(struct sluice_tx *tx, struct sluice_life *life, struct sluice_channel *ch,
                    struct sluice_secure *secure, const struct sluice_tx_events *events, void *user)
{
    *tx = (struct sluice_tx){
        .life = life, .ch = ch, .secure = secure, .events = events, .user = user};
    sluice_op_init(&tx->op, SLUICE_OP_SEND, on_send);
    sluice_op_init(&tx->room_op, SLUICE_OP_POLL, on_room);
    tx->room_op.poll.events = POLLOUT;
    sluice_remote_init(&tx->remote, life);
}

void sluice_tx_start(struct sluice_tx *tx, uint32_t connection)
{
    tx->started = tx->opened = true;
    tx->closing = false;
    tx->connection = connection;
    tx->sent_messages = tx->sent_bytes = 0;
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        tx->ch->writers[i].left_before = tx->ch->writers[i].state == WRITER_LEAVING;
}

void sluice_tx_stop(struct sluice_tx *tx)
{
    tx->started = false;
    sluice_remote_stop(&tx->remote);
    if (!tx->sending)
        return;
    tx->life->loop->be->ops->cancel(tx->life->loop->be, &tx->op);
    tx->life->loop->be->ops->cancel(tx->life->loop->be, &tx->room_op);
}

/* With TLS its end is said first; what was encrypted before it leaves before it. */
void sluice_tx_end(struct sluice_tx *tx)
{
    tx->started = false;
    if (!tx->secure->session) {
        tx->events->fin(tx->user);
        return;
    }
    tx->notifying = true;
    if (tx->secure->offload.in_kernel)
        tx->secure->offload.notify_due = true;
    else
        tx->secure->provider->close(
            tx->secure->session); /* no room: sluice_tx_work() tries again */
}

/* ---- forming a run ---- */

static void throw_out(struct sluice_tx *tx, struct sluice_writer *w)
{
    sluice_channel_throw_out(tx->ch, w);
    if (tx->owner == w)
        tx->owner = NULL;
}

/* PONGS answer a connection that is gone. */
static bool is_stale(const struct sluice_tx *tx, bool pongs, const struct sluice_message *m)
{
    return m->connection != (uint16_t)tx->connection && (pongs || !tx->keeps);
}

/* Before the message at the head counts: not meant for us, or nothing in it. */
static bool skip_head(struct sluice_tx *tx, struct sluice_outbox *box,
                      const struct sluice_message *m)
{
    bool stale = is_stale(tx, tx->is_pongs, m);
    bool empty = m->bytes == 0 && m->type == SLUICE_MESSAGE_DATA;
    if (!stale && !empty)
        return false;
    sluice_outbox_consume(box, m->bytes, 1);
    tx->ch->news |= SLUICE_WAIT_OUTBOX;
    sluice_count(tx->ch, stale ? SLUICE_COUNTER_stale_messages : SLUICE_COUNTER_empty_messages, 1);
    return true;
}

static bool joins(const struct sluice_tx *tx, const struct sluice_message *m, uint32_t max_messages)
{
    if (tx->run_messages == 0)
        return true;
    if (is_stale(tx, tx->is_pongs, m))
        return false;
    if (m->bytes == 0 && m->type == SLUICE_MESSAGE_DATA)
        return false;
    bool batch_full = tx->run_messages >= TX_BATCH_MESSAGES && tx->run_bytes >= TX_BATCH_BYTES;
    return !batch_full && tx->run_messages < max_messages &&
           tx->run_bytes + m->bytes <= TX_RUN_BYTES_MAX;
}

static void start_run(struct sluice_tx *tx, struct sluice_writer *w, struct sluice_outbox *box)
{
    tx->owner = w;
    tx->box = box;
    tx->is_pongs = box == &w->pongs;
    tx->run_bytes = tx->run_sent = tx->message_sent = 0;
    tx->run_messages = tx->run_done = 0;
    tx->run_sealed = 0;
    tx->sealed_done = tx->message_sealed = 0;
    tx->record_count = tx->record_first = 0;
}

/* The oldest messages of this ring, as many as one batch takes: false if there are none. Lengths
 * are kept here: what the slots say may change under us. */
static bool form_run(struct sluice_tx *tx, struct sluice_writer *w, struct sluice_outbox *box)
{
    int64_t unread = sluice_outbox_refresh(box);
    uint32_t max_messages = box == &w->pongs ? TX_PONGS_MAX : TX_RUN_MESSAGES_MAX;
    if (unread == 0)
        return false;
    start_run(tx, w, box);
    if (unread > 0)
        sluice_count_max(tx->ch, SLUICE_COUNTER_outbox_high_water_bytes,
                         box->byte_tail - box->byte_head);
    while (unread > 0 && tx->run_messages < sluice_outbox_unread(box) && !tx->closing) {
        struct sluice_message m;
        if (sluice_outbox_slot(box, tx->run_messages, tx->run_bytes, &m)) {
            unread = -EBADMSG;
            break;
        }
        if (tx->run_messages == 0 && skip_head(tx, box, &m))
            continue;
        if (!joins(tx, &m, max_messages))
            break;
        tx->lengths[tx->run_messages++] = m.bytes;
        tx->run_bytes += m.bytes;
        tx->closing = m.type == SLUICE_MESSAGE_WS_CLOSE;
    }
    if (unread < 0) {
        throw_out(tx, w);
        return false;
    }
    if (tx->run_messages == 0)
        tx->owner = NULL;
    else
        sluice_outbox_take_up(box, tx->run_messages);
    return tx->owner != NULL;
}

static bool drained(struct sluice_writer *w)
{
    return sluice_outbox_refresh(&w->outbox) <= 0 && sluice_outbox_refresh(&w->pongs) <= 0;
}

static struct sluice_writer *oldest_leaving(struct sluice_channel *ch)
{
    struct sluice_writer *oldest = NULL;
    for (uint32_t used = ch->writers_used; used; used &= used - 1) {
        struct sluice_writer *w = &ch->writers[__builtin_ctz(used)];
        if (w->state == WRITER_LEAVING && (!oldest || w->number < oldest->number))
            oldest = w;
    }
    return oldest;
}

/* What a client left behind goes out before anything of the one that took its place. */
static bool leaving_run(struct sluice_tx *tx)
{
    for (;;) {
        struct sluice_writer *w = oldest_leaving(tx->ch);
        if (!w)
            return false;
        if (form_run(tx, w, &w->outbox) ||
            (w->state == WRITER_LEAVING && form_run(tx, w, &w->pongs)))
            return true;
        sluice_writer_free(tx->ch, w); /* drained, or a liar */
    }
}

/* The common case of a turn that spins: cheap, for it is paid on every look. Nonsense counts as
 * something: forming a run throws its writer out. */
static bool nothing_waits(const struct sluice_tx *tx)
{
    for (uint32_t used = tx->ch->writers_used; used; used &= used - 1) {
        struct sluice_writer *w = &tx->ch->writers[__builtin_ctz(used)];
        if (w->state == WRITER_LEAVING ||
            (w->state == WRITER_ATTACHED &&
             (sluice_outbox_refresh(&w->outbox) != 0 || sluice_outbox_refresh(&w->pongs) != 0)))
            return false;
    }
    return true;
}

/* The one behind this one, round and round; there is one. */
static uint32_t next_writer(const struct sluice_tx *tx)
{
    uint32_t used = tx->ch->writers_used, behind = used & ~((2u << tx->writer) - 1);
    return (uint32_t)__builtin_ctz(behind ? behind : used);
}

/* Rule 4 and 7: a batch of the outbox, then PONGs, then the next writer. */
static bool next_run(struct sluice_tx *tx)
{
    if (leaving_run(tx))
        return true;
    for (uint32_t steps = 0; tx->ch->writers_used && steps < 2 * SLUICE_WRITERS_MAX; steps++) {
        struct sluice_writer *w = &tx->ch->writers[tx->writer];
        bool pongs = tx->pongs_next;
        tx->pongs_next = !pongs;
        if (pongs)
            tx->writer = next_writer(tx);
        if (w->state == WRITER_ATTACHED && form_run(tx, w, pongs ? &w->pongs : &w->outbox))
            return true;
    }
    return false;
}

/* ---- sending it ---- */

/* What the socket most likely takes at once. */
static bool is_quick(const struct sluice_tx *tx)
{
    return !tx->waits && tx->op.send.bytes <= SLUICE_NOWAIT_BYTES_MAX;
}

/* Kernel TLS refuses WAITALL. */
static int begin_here(struct sluice_tx *tx)
{
    tx->op.flags = tx->secure->offload.in_kernel ? 0
                   : is_quick(tx)                ? SLUICE_OP_WAITALL | SLUICE_OP_NOWAIT
                                                 : SLUICE_OP_WAITALL;
    return sluice_life_begin(tx->life, &tx->op);
}

/* To wake the thread that sends costs more than to send what is quick; it gets what is left. */
static int begin(struct sluice_tx *tx)
{
    const struct sluice_thread *sender = tx->remote.thread;
    if (!sender || (is_quick(tx) && sluice_loop_is_asleep(sender->loop)))
        return begin_here(tx);
    tx->op.flags = SLUICE_OP_WAITALL;
    return sluice_remote_send(&tx->remote, &tx->op);
}

static bool send_rest(struct sluice_tx *tx)
{
    uint64_t bytes = tx->run_bytes - tx->run_sent;
    const struct sluice_outbox *box = tx->box;
    tx->op.send.addr = box->base + (box->byte_head & (box->byte_count - 1));
    tx->op.send.bytes = bytes < TX_RUN_BYTES_MAX ? bytes : TX_RUN_BYTES_MAX;
    tx->sending = begin_here(tx) == 0; /* no room: the next turn */
    return tx->sending;
}

/* Bytes the kernel took: give them back, count the messages that are whole now. */
static void took(struct sluice_tx *tx, uint64_t bytes)
{
    uint32_t done = tx->run_done;
    tx->run_sent += bytes;
    tx->message_sent += bytes;
    while (done < tx->run_messages && tx->message_sent >= tx->lengths[done])
        tx->message_sent -= tx->lengths[done++];
    uint32_t whole = done - tx->run_done;
    tx->run_done = done;
    sluice_outbox_consume(tx->box, bytes, whole);
    tx->sent_messages += whole;
    tx->sent_bytes += bytes;
    tx->ch->news |= SLUICE_WAIT_OUTBOX;
    sluice_count(tx->ch, SLUICE_COUNTER_sent_bytes, bytes);
    sluice_count(tx->ch, SLUICE_COUNTER_sent_messages, whole);
    if (tx->is_pongs)
        sluice_count(tx->ch, SLUICE_COUNTER_sent_pongs, whole);
}

static void finish_run(struct sluice_tx *tx)
{
    tx->owner = NULL;
    if (tx->closing && tx->started)
        sluice_tx_end(tx);
}

/* ---- TLS ---- */

/* As many whole messages as fit one record; of one that does not, as much as fits. */
static uint32_t next_record(struct sluice_tx *tx, uint32_t *messages)
{
    uint32_t bytes = 0, at = tx->sealed_done;
    uint32_t of_first = tx->message_sealed;
    while (at < tx->run_messages && bytes + tx->lengths[at] - of_first <= SLUICE_TLS_RECORD_MAX) {
        bytes += tx->lengths[at++] - of_first;
        of_first = 0;
    }
    *messages = at - tx->sealed_done;
    return bytes ? bytes : SLUICE_TLS_RECORD_MAX;
}

static bool seal_record(struct sluice_tx *tx)
{
    struct sluice_secure *s = tx->secure;
    const struct sluice_outbox *box = tx->box;
    uint32_t messages, bytes = next_record(tx, &messages);
    uint64_t at = box->byte_head + tx->run_sealed - tx->run_sent;
    ssize_t n = s->provider->write(s->session, box->base + (at & (box->byte_count - 1)), bytes);
    if (n == -EPROTO)
        tx->events->tls_failed(tx->user);
    if (n <= 0) /* no room in the output, or something must be read first */
        return false;
    SLUICE_CHECK((uint32_t)n == bytes);
    tx->records[tx->record_count].end = s->session->out_tail;
    tx->records[tx->record_count++].plain_bytes = bytes;
    tx->run_sealed += bytes;
    tx->sealed_done += messages;
    tx->message_sealed = messages ? 0 : tx->message_sealed + bytes;
    return true;
}

/* Records that left: the peer can read them. */
static void records_left(struct sluice_tx *tx, uint32_t bytes)
{
    struct sluice_tls_session *session = tx->secure->session;
    sluice_tls_sent(session, bytes);
    while (tx->record_first < tx->record_count &&
           tx->records[tx->record_first].end <= session->out_head)
        took(tx, tx->records[tx->record_first++].plain_bytes);
    if (tx->record_first == tx->record_count)
        tx->record_first = tx->record_count = 0;
}

static bool send_output(struct sluice_tx *tx)
{
    const uint8_t *data;
    size_t bytes = sluice_secure_output(tx->secure, &data);
    if (bytes == 0)
        return false;
    tx->op.send.addr = data;
    tx->op.send.bytes = bytes;
    tx->sending = begin(tx) == 0;
    return tx->sending;
}

static void on_room(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_tx *tx = SLUICE_CONTAINER_OF(op, struct sluice_tx, room_op);
    (void)result, (void)more;
    tx->sending = false; /* and what was to be said is tried again */
    sluice_life_end(tx->life);
}

/* Records that are no data, between two SENDs: true when something else must wait. */
static bool say_control(struct sluice_tx *tx)
{
    struct sluice_offload *o = &tx->secure->offload;
    if (!o->in_kernel || !(o->answer_due || o->refusal_due || o->notify_due || o->alert_due >= 0))
        return false;
    int err = sluice_offload_say(o, tx->life, true);
    if (err == -EAGAIN)
        tx->sending = sluice_life_begin(tx->life, &tx->room_op) == 0;
    else if (err == -EPROTO)
        tx->events->tls_failed(tx->user);
    else if (tx->notifying && !o->notify_due) {
        tx->notifying = false;
        tx->events->fin(tx->user);
    }
    return true;
}

static bool work_secure(struct sluice_tx *tx)
{
    struct sluice_tls_session *session = tx->secure->session;
    if (!sluice_life_receives(tx->life))
        return false;
    if (tx->started && (tx->owner || (!nothing_waits(tx) && next_run(tx)))) {
        while (tx->run_sealed < tx->run_bytes && tx->record_count < TX_RECORDS_MAX &&
               seal_record(tx)) {
            /* the next one */
        }
        if (tx->run_bytes == 0) { /* a WS_CLOSE of no bytes */
            took(tx, 0);
            finish_run(tx);
        }
    }
    if (tx->notifying)
        tx->secure->provider->close(session);
    if (send_output(tx))
        return true;
    const uint8_t *rest; /* no room for a SEND just now, or its thread lets go after one failed */
    if (!tx->notifying || !(session->closed & SLUICE_TLS_CLOSED_BY_US) ||
        sluice_secure_output(tx->secure, &rest) > 0)
        return false;
    tx->notifying = false;
    tx->events->fin(tx->user);
    return true;
}

static void sent(struct sluice_tx *tx, uint32_t bytes)
{
    if (sluice_secure_is_on(tx->secure))
        records_left(tx, bytes);
    else
        took(tx, bytes);
    tx->events->sent(tx->user);
    if (tx->owner && tx->run_sent == tx->run_bytes)
        finish_run(tx);
    if (tx->secure->offload.in_kernel)
        sluice_offload_sent(&tx->secure->offload, bytes, tx->message_sent == 0);
}

static void on_send(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_tx *tx = SLUICE_CONTAINER_OF(op, struct sluice_tx, op);
    struct sluice_life *life = tx->life;
    (void)more;
    tx->sending = false;
    sluice_count(tx->ch, SLUICE_COUNTER_sends, 1);
    tx->waits = result == -EAGAIN || (result > 0 && (size_t)result < op->send.bytes);
    if (result > 0) {
        sluice_count(tx->ch, SLUICE_COUNTER_short_sends, tx->waits);
        sent(tx, (uint32_t)result);
    } else if (result != -ECANCELED && result != -EAGAIN) {
        tx->events->failed(tx->user, result ? -result : EPIPE);
    }
    sluice_life_end(life);
}

bool sluice_tx_work(struct sluice_tx *tx)
{
    bool ended = tx->sending && sluice_remote_look(&tx->remote);
    if (tx->sending)
        return ended;
    if (sluice_secure_is_on(tx->secure))
        return work_secure(tx);
    if (say_control(tx))
        return true;
    if (!tx->started)
        return false;
    if (!tx->owner && (nothing_waits(tx) || !next_run(tx)))
        return false;
    if (tx->run_bytes == 0) { /* a WS_CLOSE of no bytes */
        took(tx, 0);
        finish_run(tx);
        return true;
    }
    return send_rest(tx);
}

/* Nothing but the run that is being sent. */
static bool nothing_else_waits(const struct sluice_tx *tx)
{
    for (uint32_t used = tx->ch->writers_used; used; used &= used - 1) {
        struct sluice_writer *w = &tx->ch->writers[__builtin_ctz(used)];
        int64_t outbox = sluice_outbox_refresh(&w->outbox),
                pongs = sluice_outbox_refresh(&w->pongs);
        int64_t run = tx->run_messages - tx->run_done;
        if (w->state != WRITER_ATTACHED || outbox != (tx->box == &w->outbox ? run : 0) ||
            pongs != (tx->box == &w->pongs ? run : 0))
            return false;
    }
    return true;
}

/* The end of what is being sent changes nothing for anybody: it may be told with what comes next. A
 * quarter of a ring that is given back late is in nobody's way: no claim is longer than half. */
static bool may_be_late(const struct sluice_tx *tx)
{
    const struct sluice_tls_session *session = tx->secure->session;
    const struct sluice_outbox *box = tx->box;
    if (!tx->started || !tx->owner || tx->closing || tx->run_bytes > box->byte_count / 4 ||
        tx->run_messages > box->slot_count / 4)
        return false;
    bool is_last = sluice_secure_is_on(tx->secure)
                       ? tx->run_sealed == tx->run_bytes &&
                             session->out_tail - session->out_head == tx->op.send.bytes
                       : tx->run_bytes - tx->run_sent == tx->op.send.bytes;
    return is_last && nothing_else_waits(tx);
}

/* A writer of another process looks when it likes at what has left. Only our own comes by later. */
void sluice_tx_park(struct sluice_tx *tx, bool ends, bool in_line)
{
    bool awaited = tx->sending && (ends || !may_be_late(tx));
    int upstream = in_line ? tx->ch->upstream : -1;
    bool ours = upstream >= 0 && tx->owner == &tx->ch->writers[upstream];
    tx->awaited = tx->sending && (awaited || !ours) && tx->op.flags & SLUICE_OP_NOWAIT;
    if (tx->remote.thread)
        sluice_remote_want(&tx->remote, awaited);
}

bool sluice_tx_pending(struct sluice_tx *tx)
{
    const uint8_t *data;
    if (tx->sending && sluice_remote_look(&tx->remote))
        return true;
    if (tx->sending) /* others may have committed since park() looked: the SEND's end is their turn
                      */
        return tx->awaited || (tx->op.flags & SLUICE_OP_NOWAIT && !nothing_else_waits(tx));
    const struct sluice_offload *o = &tx->secure->offload;
    if (tx->notifying || o->answer_due || o->refusal_due || o->notify_due ||
        sluice_secure_output(tx->secure, &data))
        return true;
    if (!tx->started)
        return false;
    if (tx->owner)
        return true;
    for (uint32_t used = tx->ch->writers_used; used; used &= used - 1) {
        struct sluice_writer *w = &tx->ch->writers[__builtin_ctz(used)];
        if ((w->state == WRITER_ATTACHED || w->state == WRITER_LEAVING) && !drained(w))
            return true;
    }
    return false;
}

/* Those meant for this connection; what was stale already is not of it. */
static uint64_t count_left(const struct sluice_tx *tx, struct sluice_outbox *box, bool pongs)
{
    struct sluice_message m;
    uint64_t left = 0, offset = 0;
    int64_t unread = sluice_outbox_refresh(box);
    for (int64_t k = 0; k < unread; k++) {
        bool half_sent = k == 0 && box == tx->box && tx->owner && tx->message_sent > 0;
        if (half_sent) /* its first bytes were given back already */
            m = (struct sluice_message){
                .bytes = (uint32_t)(tx->lengths[tx->run_done] - tx->message_sent)};
        else if (sluice_outbox_slot(box, (uint64_t)k, offset, &m))
            break;
        else
            left += !is_stale(tx, pongs, &m);
        offset += m.bytes;
    }
    return left;
}

uint64_t sluice_tx_messages_left(struct sluice_tx *tx)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++) {
        struct sluice_writer *w = &tx->ch->writers[i];
        if (w->state == WRITER_ATTACHED || w->state == WRITER_LEAVING)
            left += count_left(tx, &w->outbox, false) + count_left(tx, &w->pongs, true);
    }
    return left;
}

void sluice_tx_drop_liars(struct sluice_tx *tx)
{
    for (int i = 0; i < (int)SLUICE_WRITERS_MAX && !tx->sending; i++)
        if (tx->ch->writers[i].state == WRITER_CORRUPT && tx->ch->upstream != i)
            sluice_writer_free(tx->ch, &tx->ch->writers[i]);
}

/* What it committed leaves on the next connection: it was for none that opened, or it is kept. */
static bool outlives(const struct sluice_tx *tx, struct sluice_writer *w)
{
    if (w->state != WRITER_LEAVING || (tx->opened && !tx->keeps))
        return false;
    return sluice_outbox_refresh(&w->outbox) > 0 || sluice_outbox_refresh(&w->pongs) > 0;
}

void sluice_tx_reset(struct sluice_tx *tx)
{
    SLUICE_CHECK(!tx->sending);
    /* What is left of a half-sent message must never leave on another connection. */
    if (tx->owner && tx->owner->state != WRITER_CORRUPT && tx->message_sent > 0)
        sluice_outbox_consume(tx->box, tx->lengths[tx->run_done] - tx->message_sent, 1);
    tx->owner = NULL;
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++) {
        struct sluice_writer *w = &tx->ch->writers[i];
        if ((w->state == WRITER_LEAVING && !outlives(tx, w)) || w->state == WRITER_CORRUPT)
            sluice_writer_free(tx->ch, w);
    }
    tx->started = tx->opened = tx->closing = tx->notifying = false;
    tx->message_sent = 0;
}
