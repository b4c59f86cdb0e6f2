/*
 * The engine's side of a channel, as the runtime uses it. Clients' side: client.c. What both see in
 * memory: layout.h. All of it belongs to the one thread that owns the channel; it may let another
 * one hold the inbox for a while.
 */
#ifndef SLUICE_RINGS_ENGINE_H
#define SLUICE_RINGS_ENGINE_H

#include "rings/doorbell.h"
#include "rings/layout.h"

#include <stdbool.h>
#include <sys/types.h>

#define SLUICE_LINKS_MAX 32u

/* The engine's end of one two-part ring (MSG_OUTBOX, PONGS) of one writer. */
struct sluice_outbox {
    const struct ring_tails *tails; /* hostile */
    struct ring_heads *heads;       /* ours */
    const struct ring_slot *slots;  /* hostile */
    const uint8_t *base;            /* hostile, mapped twice */
    uint64_t slot_count, byte_count;
    uint64_t slot_head, byte_head; /* private copies of what stands in heads */
    uint64_t slot_tail, byte_tail; /* last seen, checked */
};

/* One message, read once out of its slot and checked. */
struct sluice_message {
    uint64_t commit_cycle;
    uint32_t bytes;
    uint16_t connection;
    uint8_t type;
};

enum writer_state {
    WRITER_FREE,
    WRITER_ATTACHED,
    WRITER_LEAVING, /* its client is gone; what it committed still leaves */
    WRITER_CORRUPT, /* it lied; nothing of it leaves */
};

struct sluice_writer {
    enum writer_state state;
    enum sluice_role role;
    uint64_t number; /* counts the writers that ever attached */
    int memory_fd;
    int bell_fd; /* rings at its client; the link owns it */
    void *fixed; /* read-only mapping: header, shared, slots */
    uint64_t fixed_bytes;
    const struct writer_shared *shared;
    struct sluice_outbox outbox, pongs;
    shared_u32 rung;       /* the waiting word last rung for */
    uint64_t request_seen; /* the request word last acted on */
    bool left_before;      /* LEAVING since before this connection: its lies do not end this one */
};

/* The engine's end of MSG_INBOX and MSG_METADATA. */
struct sluice_inbox {
    uint8_t *base; /* mapped twice */
    uint64_t bytes;
    struct sluice_meta *meta; /* mapped twice */
    uint64_t entries;
    uint64_t tail, meta_tail;   /* received; published. Side by side: one store's worth of line */
    uint64_t head, meta_head;   /* released by the upstream, last seen */
    uint64_t lent, meta_lent;   /* what observers were told */
    uint64_t meta_flushed;      /* meta_tail at the last flush */
    uint64_t control_events;    /* of what was published */
    struct sluice_meta pending; /* arrivals not published yet: no slot was free */
    bool has_pending;
    bool discards; /* what nobody is attached to read; else it waits, and so does the peer */
    bool lied;     /* the upstream's heads are nonsense, and the owner has yet to hear of it */
    bool away;     /* the owner's: another thread holds all this */
    bool wanted;   /* the owner's: something waits for it to come back */
};

enum link_state {
    LINK_FREE,
    LINK_NEW,
    LINK_WELCOMED,
    LINK_ATTACHED,
    LINK_ENDING, /* over: to be closed when nobody watches its descriptor any more */
};

/* One client. */
struct sluice_link {
    enum link_state state;
    enum sluice_role role;
    int fd;      /* to be watched: its socket, or where it rings */
    int bell[2]; /* of a writer that shakes hands: our end, and its own */
    int writer;  /* index, -1: none */
    int pid;
    uint64_t since_ns; /* CLOCK_MONOTONIC: accepted */
    bool held;         /* what was read last waits for the inbox to come back: */
    ssize_t held_bytes;
    struct link_message held_message;
};

struct sluice_channel {
    int memory_fd;
    struct engine_header *header; /* fixed part, writable, mapped before the seal */
    struct engine_shared *shared;
    struct sluice_inbox inbox;
    struct sluice_writer writers[SLUICE_WRITERS_MAX];
    uint64_t writers_ever;
    uint32_t writers_used; /* a bit for each that is not FREE: looked at every turn */
    int upstream;          /* index of the attached one, -1 */
    struct sluice_link links[SLUICE_LINKS_MAX];
    bool bell_heard;    /* a client rang; the runtime clears it */
    bool links_changed; /* the runtime should look at them again */
    int listen_fd, directory_fd;
    int fd_limit; /* a client whose descriptor here is this high is refused: nobody can watch it */
    char socket_name[SLUICE_NAME_MAX + 8];
    int spare_fd;  /* given up for a moment to refuse a client when there is no other left */
    unsigned news; /* SLUICE_WAIT_* that happened since the last flush */
    /* by the upstream; the runtime acts, clears them */
    bool close_requested, reconnect_requested, prefer_requested;
    bool corrupt; /* a writer lied; the runtime closes the connection and clears it */
    struct state_text text;
};

/* ---- state ---- */
static inline void sluice_count(struct sluice_channel *ch, enum sluice_counter which, uint64_t n)
{
    shared_u64 *c = &ch->shared->counters[which];
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void sluice_count_set(struct sluice_channel *ch, enum sluice_counter which,
                                    uint64_t n)
{
    atomic_store_explicit(&ch->shared->counters[which], n, memory_order_relaxed);
}

static inline void sluice_count_max(struct sluice_channel *ch, enum sluice_counter which,
                                    uint64_t n)
{
    shared_u64 *c = &ch->shared->counters[which];
    if (n > atomic_load_explicit(c, memory_order_relaxed))
        atomic_store_explicit(c, n, memory_order_relaxed);
}

void sluice_channel_set_conn_state(struct sluice_channel *ch, enum sluice_conn_state s);
void sluice_channel_set_ready(struct sluice_channel *ch, uint32_t set, uint32_t clear);
void sluice_channel_set_preferred(struct sluice_channel *ch, bool preferred);
void sluice_channel_set_connection(struct sluice_channel *ch, uint32_t connection);
void sluice_channel_publish_text(struct sluice_channel *ch); /* after changes in ch->text */
void sluice_channel_add_close(struct sluice_channel *ch, const struct sluice_close_record *r);
void sluice_state_read(const struct engine_header *h, const struct engine_shared *s,
                       struct sluice_state *out);

/* ---- inbox ----
 * Of this section, up to sluice_inbox_leave(), the thread calls that holds the inbox. */

/* Look at the upstream's heads again; one that lies is thrown out. */
bool sluice_inbox_refresh(struct sluice_channel *ch);

/* With inbox.discards, and no upstream attached: all that was published is given up. When room is
 * wanted, and when one comes. */
void sluice_inbox_discard(struct sluice_channel *ch);

/* The upstream is gone: its last releases. */
void sluice_inbox_upstream_left(struct sluice_channel *ch);

/* It is gone: the one that follows must find heads that fit each other, and something to release.
 */
void sluice_inbox_settle(struct sluice_channel *ch);

/* Position below which bytes are free to be received into. Looks at the upstream's head again. */
uint64_t sluice_inbox_limit(struct sluice_channel *ch);

/* Tell observers that bytes below this position may be written from now on; before lending. */
void sluice_inbox_lend(struct sluice_channel *ch, uint64_t lent);

/* sluice_inbox_arrived() in entry.h, when the slots are full or were. */
void sluice_inbox_arrived_when_full(struct sluice_channel *ch, const struct sluice_meta *stamps,
                                    uint32_t bytes);

/* Publish what is pending, if there is room now: true when nothing is pending any more. */
bool sluice_inbox_flush_pending(struct sluice_channel *ch);

/* A control event, behind all bytes so far; META_RESERVE keeps room for it. event: everything but
 * offset and length. */
void sluice_inbox_control(struct sluice_channel *ch, const struct sluice_meta *event);

/* Another connection may open: its events and the next end will fit. */
bool sluice_inbox_has_room_to_open(struct sluice_channel *ch);

/* End of a turn: publish its cursors, wake the upstream. The owner's sluice_channel_flush() does it
 * when the inbox is here. */
void sluice_inbox_flush(struct sluice_channel *ch);

/* Its cursors and high water as they are now. */
void sluice_inbox_show(struct sluice_channel *ch);

/* Position behind the last byte that an entry speaks of. */
static inline uint64_t sluice_inbox_published(const struct sluice_inbox *in)
{
    return in->has_pending ? in->pending.msg_inbox_offset : in->tail;
}

static inline bool sluice_inbox_has_news(const struct sluice_inbox *in)
{
    return in->meta_tail != in->meta_flushed;
}

/* About to sleep (or awake again): as sluice_channel_sleep(), for a thread that holds the inbox. */
void sluice_inbox_sleep(struct sluice_channel *ch, bool wake_on_release);

/* The owner lets another thread hold it. What would need it here waits meanwhile (clients that come
 * and go, an upstream that lied) and sets inbox.wanted. */
void sluice_inbox_leave(struct sluice_channel *ch);

/* The other thread has let go of it, and what it did is visible here. */
void sluice_inbox_came_back(struct sluice_channel *ch);

/* The holder sleeps until something is released. Any thread. */
bool sluice_inbox_sleeps(const struct sluice_channel *ch);

/* ---- outboxes ---- */

/* The producer's slot tail is another one: see sluice_outbox_refresh(). */
int64_t sluice_outbox_moved(struct sluice_outbox *box, uint64_t slot_tail);

/* Look at the tails again: unread slots, or -EBADMSG when they are nonsense. */
static inline int64_t sluice_outbox_refresh(struct sluice_outbox *box)
{
    /* acquire: pairs with the release in client.c; slots and bytes below the tails are there */
    uint64_t slot_tail = atomic_load_explicit(&box->tails->slot_tail, memory_order_acquire);
    if (slot_tail != box->slot_tail)
        return sluice_outbox_moved(box, slot_tail);
    return (int64_t)(slot_tail - box->slot_head);
}

/* The unread slot number k (0: oldest) whose bytes start at byte offset from byte_head: 0, or
 * -EBADMSG. */
int sluice_outbox_slot(const struct sluice_outbox *box, uint64_t k, uint64_t offset,
                       struct sluice_message *out);

static inline uint64_t sluice_outbox_unread(const struct sluice_outbox *box)
{
    return box->slot_tail - box->slot_head;
}

/* Give bytes and whole messages back to the producer. */
void sluice_outbox_consume(struct sluice_outbox *box, uint64_t bytes, uint64_t slots);

/* So many unread ones are to leave now: stamped for their writer. */
void sluice_outbox_take_up(struct sluice_outbox *box, uint64_t slots);

/* ---- writers and links ---- */

/* A writer that lied: its client is thrown out, ch->corrupt is set. */
void sluice_channel_throw_out(struct sluice_channel *ch, struct sluice_writer *w);

/* Forget a leaving or corrupt writer; nothing may be in flight from its memory. */
void sluice_writer_free(struct sluice_channel *ch, struct sluice_writer *w);

/* Take the next client from the listening socket: 0, -EAGAIN, or negative errno. With the inbox
 * here. */
int sluice_channel_accept(struct sluice_channel *ch);

/* The link's descriptor is readable: handshake, a ring, or its client is gone. One that shakes
 * hands may be free then: its descriptor is watched once. Ending: nobody watches it any more. */
void sluice_link_input(struct sluice_channel *ch, struct sluice_link *link);

/* The other end of its doorbell is closed, whatever stands in it unheard. */
void sluice_link_hung_up(struct sluice_channel *ch, struct sluice_link *link);

#define LINK_HANDSHAKE_NS SLUICE_NS_PER_S /* longer, and it loses its place */

/* It is half-way in. */
static inline bool sluice_link_attaches(const struct sluice_link *link)
{
    return link->state == LINK_NEW || link->state == LINK_WELCOMED;
}

/* It has a doorbell, which is watched until the link is ending or held. */
static inline bool sluice_link_rings(const struct sluice_link *link)
{
    return link->state == LINK_ATTACHED && link->writer >= 0;
}

/* Those that began to attach LINK_HANDSHAKE_NS ago and went no further: true if there are any.
 * While the inbox is away it is only wanted. */
bool sluice_link_end_silent(struct sluice_channel *ch);

/* The other end of sluice_attach_local(), when nobody watches its link any more: its place is free
 * at once. */
void sluice_detach_local(struct sluice_channel *ch, struct sluice_client *c);

/* Take over the upstream's ready flag; set close_requested, reconnect_requested when newly asked.
 */
void sluice_channel_take_requests(struct sluice_channel *ch);

bool sluice_channel_has_request(const struct sluice_channel *ch); /* one not taken yet */

/* End of a turn: publish cursors, wake the clients that sleep for what happened. */
void sluice_channel_flush(struct sluice_channel *ch);

/* About to sleep: clients ring their doorbells for these WAKE_ON_* (ON_INBOX: with the inbox here
 * only). Look at the rings once more after it. 0 wakes up. */
void sluice_channel_sleep(struct sluice_channel *ch, unsigned wake_on);

/* ---- used between the files of this folder ---- */
int sluice_rendezvous_listen(struct sluice_channel *ch, const char *name);
void sluice_rendezvous_unlisten(struct sluice_channel *ch);
int sluice_rendezvous_connect(const char *name);
void sluice_rendezvous_forget(const char *name); /* the file of an engine that was killed */
bool sluice_channel_name_ok(const char *name);
void sluice_link_end(struct sluice_channel *ch, struct sluice_link *link); /* thrown out */
void sluice_link_close(struct sluice_channel *ch, struct sluice_link *link);
void sluice_link_clear(struct sluice_link *link); /* nobody's */
int sluice_writer_create(struct sluice_channel *ch, enum sluice_role role, int *index);
void sluice_link_take_held(struct sluice_channel *ch); /* the inbox came back */
void sluice_writer_ring(struct sluice_channel *ch, struct sluice_writer *w, unsigned news);
void sluice_channel_publish_inbox(struct sluice_channel *ch); /* its cursors */
void sluice_channel_change_asleep(struct sluice_channel *ch, unsigned mine, unsigned wake_on);

/* It runs on the engine's own thread: never to be woken, nor the engine by it. */
void sluice_client_is_inline(struct sluice_client *c);

/* Takes over the descriptors (-1: none), also on failure. An observer hears on its socket. */
int sluice_client_open(struct sluice_client **out, enum sluice_role role, const int fds[LINK_FDS]);

#endif
