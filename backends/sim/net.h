/*
 * The simulated network: ends of connections, listeners, the bytes between them. It behaves as
 * Linux TCP does and has no faults, no time and no ops: those are sim.c's.
 */
#ifndef SLUICE_SIM_NET_H
#define SLUICE_SIM_NET_H

#include "backends/sim/sim.h"

enum {
    NET_FDS_MAX = 4096,
    NET_BACKLOG_MAX = 128,
    NET_WINDOW_BYTES = 64 * 1024,
};

/* What has arrived at one end and waits there. Positions are free-running. */
struct net_pipe {
    uint8_t *base;
    size_t bytes;
    uint64_t head; /* taken */
    uint64_t tail; /* arrived */
    bool ended;    /* FIN came: nothing follows */
};

enum net_state { NET_FRESH, NET_CONNECTING, NET_OPEN, NET_LISTENING, NET_DATAGRAMS };

struct net_datagrams;

struct net_end {
    int fd; /* -1 in a backlog, and after close while a file slot holds it */
    enum net_state state;
    struct net_end *peer; /* NULL once the other end is closed */
    struct net_pipe in;
    int error; /* errno, told once, by CONNECT or SEND */
    bool reset;
    bool sending_over;
    bool receiving_over;
    bool reset_on_close;
    uint64_t acked_bytes;   /* once peer is NULL */
    uint64_t changes;       /* events so far, for MULTI POLL */
    uint32_t file_slots;    /* they keep the connection alive after close, as in the kernel */
    uint32_t ops;           /* in flight here */
    struct sluice_op *recv; /* at most one of each */
    struct sluice_op *send;
    /* A listener's. */
    enum sluice_sim_listen_mode mode;
    struct sockaddr_storage addr;
    struct net_end *backlog; /* oldest first */
    struct net_end *backlog_next;
    uint32_t backlog_count;
    struct net_datagrams *datagrams; /* NULL: a stream */
};

struct net {
    struct net_end *ends[NET_FDS_MAX];
    size_t window_bytes;
};

struct net *sluice_net_of(struct sluice_backend *be); /* in sim.c */

struct net_end *sluice_net_end(const struct net *net, int fd); /* NULL: not ours */
int sluice_net_open(struct net *net, int family);
int sluice_net_shutdown(struct net_end *end, int how);
void sluice_net_close(struct net *net, struct net_end *end);
/* A file slot lets go; the last one after close ends the connection. */
void sluice_net_release(struct net *net, struct net_end *end);
void sluice_net_fini(struct net *net);

/* 0, -EAGAIN (not yet) or what connect(2) says. */
int sluice_net_connect(struct net *net, struct net_end *end, const struct sockaddr *addr,
                       socklen_t addr_bytes);
/* Descriptor, -EAGAIN or what accept(2) says. */
int sluice_net_accept(struct net *net, struct net_end *listener);

/* Bytes moved, -EAGAIN, or what send(2) and recv(2) say. */
ssize_t sluice_net_send(struct net_end *end, const void *from, size_t bytes);
ssize_t sluice_net_recv(struct net_end *end, void *to, size_t bytes);
/* Bytes that could be moved now; 0 also where send and recv have something else to say. */
size_t sluice_net_sendable(const struct net_end *end);
size_t sluice_net_receivable(const struct net_end *end);

/* The poll(2) events that stand. */
uint32_t sluice_net_events(const struct net_end *end);

/* The connection breaks: both ends see a reset. */
void sluice_net_break(struct net_end *end);

uint64_t sluice_net_acked_bytes(const struct net_end *end);

/* Datagrams: datagram.c. */
bool sluice_net_loses(struct sluice_backend *be); /* in sim.c: one of them, by seed */
bool sluice_net_datagrams_ready(const struct net_datagrams *d, bool *has_error);
int sluice_net_datagrams_address(const struct net_datagrams *d, bool of_peer,
                                 struct sockaddr_storage *out);
int sluice_net_datagrams_option(struct net_datagrams *d, int level, int name, const void *value);
void sluice_net_datagrams_free(struct net_datagrams *d); /* NULL is fine */

extern const struct sluice_socket_ops sluice_sim_sockets; /* socket.c */
extern const struct sluice_datagram_ops sluice_sim_datagrams;

#endif
