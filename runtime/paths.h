/*
 * The two paths of a transport: rx (socket to inbox) and tx (outboxes to socket), each a small
 * state machine. transport.c binds them to a connection and a channel; model.c says whether their
 * receives and sends run on the connection's loop or on that of another thread.
 */
#ifndef SLUICE_PATHS_H
#define SLUICE_PATHS_H

#include "away.h"
#include "life.h"
#include "packets.h"
#include "remote.h"
#include "secure.h"
#include "rings/engine.h"

struct sluice_rx_events {
    void (*secured)(void *user); /* the handshake is done */
    void (*eof)(void *user);
    void (*failed)(void *user, int os_error);
    void (*tls_failed)(void *user); /* why: secure->error */
    void (*home)(void *user);       /* the inbox is here for a moment: what waited for it */
};

struct sluice_rx {
    struct sluice_life *life;
    struct sluice_loop *loop; /* that receives */
    struct sluice_away away;
    struct sluice_channel *ch;
    const struct sluice_rx_events *events;
    void *user;
    struct sluice_op op;
    struct sluice_region region; /* the inbox */
    struct sluice_secure *secure;
    struct sluice_region raw; /* its ciphertext; base NULL: not opened */
    bool armed, eof;
    bool socket_eof;               /* with TLS: no ciphertext follows */
    bool stalled;                  /* nothing is armed, or nothing decrypted: the inbox is full */
    bool raw_full;                 /* the loop that receives; decrypting makes room */
    uint64_t raw_seen;             /* up to where of raw was decrypted, or tried to */
    uint64_t received_bytes;       /* of this connection */
    struct sluice_packets packets; /* with life->cfg->timestamps */
};

int sluice_rx_init(struct sluice_rx *rx, struct sluice_life *life, struct sluice_channel *ch,
                   struct sluice_secure *secure, enum sluice_receive how,
                   const struct sluice_rx_events *events, void *user);
void sluice_rx_fini(struct sluice_rx *rx);
int sluice_rx_open_raw(struct sluice_rx *rx); /* before the first TLS: 0 or -ENOBUFS, -ENOMEM */
int sluice_rx_start(struct sluice_rx *rx);    /* bytes are to be had: 0 or negative errno */
void sluice_rx_stop(struct sluice_rx *rx);    /* the receive in flight is cancelled */
bool sluice_rx_work(struct sluice_rx *rx);    /* every turn: room may have come back */

/* Used by away.c: receive what there is room for (true: it does so newly); the end of a receive. */
bool sluice_rx_arm(struct sluice_rx *rx);
void sluice_rx_ended(struct sluice_rx *rx, int32_t result);
struct sluice_region *sluice_rx_region(struct sluice_rx *rx); /* where the kernel writes */

/* The inbox is with whoever receives, else (user-space TLS) with who decrypts. */
static inline bool sluice_rx_takes_inbox(const struct sluice_rx *rx)
{
    return !sluice_secure_is_on(rx->secure);
}

/* Waits for the upstream to release something. */
static inline bool sluice_rx_is_stalled(const struct sluice_rx *rx)
{
    return rx->stalled || rx->ch->inbox.has_pending;
}

#define TX_RUN_MESSAGES_MAX 1024u
#define TX_RUN_BYTES_MAX    (256u << 10) /* so that room comes back while a peer is slow */
#define TX_BATCH_MESSAGES   16u          /* an outbox's batch: until both are reached */
#define TX_BATCH_BYTES      (64u << 10)
#define TX_PONGS_MAX        8u
#define TX_RECORDS_MAX      64u

struct sluice_tx_events {
    void (*fin)(void *user);  /* all is sent: shut our side down */
    void (*sent)(void *user); /* some bytes were taken */
    void (*failed)(void *user, int os_error);
    void (*tls_failed)(void *user); /* why: secure->error */
};

struct sluice_tx {
    struct sluice_life *life;
    struct sluice_channel *ch;
    const struct sluice_tx_events *events;
    void *user;
    struct sluice_op op, room_op; /* room_op: for records that are no data, kernel TLS */
    struct sluice_remote remote;  /* what sends instead, if there is one */
    struct sluice_secure *secure;
    bool started, sending, closing; /* closing: a WS_CLOSE was read, nothing follows it */
    bool waits;                     /* the socket had no room: the next SEND waits for it */
    bool awaited;                   /* about to sleep, and what is being sent is waited for */
    bool opened;                    /* started once since it was reset */
    bool keeps;                     /* messages of MSG_OUTBOX outlive their connection */
    bool notifying;                 /* close_notify stands in the output: then fin */
    uint32_t connection;

    /* whose turn it is */
    uint32_t writer; /* index */
    bool pongs_next; /* its PONGs, else its outbox */

    /* the run being sent: whole messages of one ring, contiguous */
    struct sluice_writer *owner; /* NULL: no run */
    struct sluice_outbox *box;
    bool is_pongs;
    uint64_t run_bytes, run_sent; /* whole; taken by the kernel */
    uint32_t run_messages, run_done;
    uint64_t message_sent; /* bytes taken of message number run_done */
    uint32_t lengths[TX_RUN_MESSAGES_MAX];

    /* with TLS: records of the run that are encrypted and not sent yet */
    struct {
        uint64_t end; /* in the output */
        uint32_t plain_bytes;
    } records[TX_RECORDS_MAX];
    uint32_t record_count, record_first;
    uint64_t run_sealed;     /* bytes encrypted */
    uint32_t sealed_done;    /* messages encrypted whole */
    uint32_t message_sealed; /* bytes encrypted of the next one */

    uint64_t sent_messages, sent_bytes; /* of this connection */
};

void sluice_tx_init(struct sluice_tx *tx, struct sluice_life *life, struct sluice_channel *ch,
                    struct sluice_secure *secure, const struct sluice_tx_events *events,
                    void *user);
void sluice_tx_start(struct sluice_tx *tx, uint32_t connection);
void sluice_tx_stop(struct sluice_tx *tx);    /* the send in flight is cancelled */
void sluice_tx_end(struct sluice_tx *tx);     /* nothing of the outboxes any more: fin follows */
bool sluice_tx_work(struct sluice_tx *tx);    /* every turn: true if it did something */
bool sluice_tx_pending(struct sluice_tx *tx); /* something waits to be sent */

/* About to sleep, before pending() is asked. ends: an end waits for what is being sent. in_line:
 * the upstream runs on this thread. */
void sluice_tx_park(struct sluice_tx *tx, bool ends, bool in_line);

/* Writers that lied are free again, if nothing is in flight: else at the end of the connection. */
void sluice_tx_drop_liars(struct sluice_tx *tx);

/* All is quiet: what stands in the outboxes, for the close record. */
uint64_t sluice_tx_messages_left(struct sluice_tx *tx);

/* The connection, or the attempt at one, is over: forget the run, free writers that left. */
void sluice_tx_reset(struct sluice_tx *tx);

#endif
