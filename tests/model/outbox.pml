/*
 * MSG_OUTBOX of one or two clients, PONGS of the first one: outbox.c and tx.c against client.c.
 *
 *   -DCLIENTS=n     1 or 2
 *   -DWITH_PONGS=1  the first one has PONGS
 *   -DSLOTS=n       what a ring holds
 *   -DMESSAGES=n    what is put into the first outbox, -DOTHERS=n into another ring
 */
#include "bells.pml"

#define BYTES 4
#define MESSAGES_OF(r) ((r) == 0 -> MESSAGES : OTHERS)
#define OUTBOX_OF(c) (c)
#define RINGS        (CLIENTS + WITH_PONGS)
#define PONGS        (RINGS - 1)
#define HAS_PONGS(c) (WITH_PONGS && (c) == 0)

/* In the writer memfd, but for the heads. Message number n of a ring is 1 + n % 2 bytes of n. */
typedef ring_parts {
    byte byte_tail, slot_tail;
    byte byte_head, slot_head;
    byte lengths[SLOTS];
    byte bytes[BYTES];
};
ring_parts rings[RINGS];
#define LENGTH(n) (1 + (n) % 2)

/* engine memfd, and what the writers' hold beside their rings */
byte asleep;
byte waiting[CLIENTS];

link links[CLIENTS];
byte engine_rung[CLIENTS], engine_loaded, client_rung[CLIENTS], client_loaded[CLIENTS];

/* How many messages were committed, and how many left whole. */
byte committed[RINGS], sent[RINGS];

#define ALL_COMMITTED_IS_SENT(r) (sent[r] == committed[r])

/* writer_state */
#define FREE     0
#define ATTACHED 1
#define LEAVING  2

inline open_ring(r)
{
    rings[r].byte_tail = 0;
    rings[r].slot_tail = 0;
    rings[r].byte_head = 0;
    rings[r].slot_head = 0
}

#define UNREAD(r) (rings[r].slot_tail != rings[r].slot_head)

/* sluice_link_input() and the places; c is the engine's */
inline links_work()
{
    if
    :: d_step {
            links[c].bells_to_engine > 0;
            links[c].bells_to_engine--;
            did = true
        }
    :: d_step { /* let_writer_go() */
            links[c].bells_to_engine == 0 && links[c].hung_up && links[c].admitted &&
            state[c] == ATTACHED;
            state[c] = LEAVING;
            did = true
        }
    :: d_step { /* sluice_writer_free() */
            state[c] == LEAVING && !UNREAD(OUTBOX_OF(c)) && (!HAS_PONGS(c) || !UNREAD(PONGS));
            assert(ALL_COMMITTED_IS_SENT(OUTBOX_OF(c)));
            assert(!HAS_PONGS(c) || ALL_COMMITTED_IS_SENT(PONGS));
            state[c] = FREE;
            links[c].hung_up = false;
            links[c].wants_in = false;
            links[c].bells_to_client = 0;
            did = true
        }
    :: d_step { /* sluice_writer_create() */
            links[c].wants_in && !links[c].admitted;
            open_ring(OUTBOX_OF(c));
            if
            :: HAS_PONGS(c) -> open_ring(PONGS)
            :: else
            fi;
            waiting[c] = 0;
            engine_rung[c] = 0;
            state[c] = ATTACHED;
            links[c].admitted = true;
            did = true
        }
    :: else
    fi
}

/* sluice_outbox_moved() and sluice_outbox_slot(): an honest one is not thrown out. */
inline form_run(r)
{
    d_step {
        owner == NOBODY && UNREAD(r);
        seen = rings[r].slot_tail - rings[r].slot_head;
        owner = r;
        did = true
    };
    d_step {
        assert(seen <= SLOTS);
        seen = rings[r].byte_tail - rings[r].byte_head;
        assert(seen <= BYTES);
        left = rings[r].lengths[rings[r].slot_head % SLOTS];
        assert(left <= seen && left == LENGTH(sent[r] + 1));
        seen = 0
    }
}

/* The kernel takes some of it, or all. */
inline send(some)
{
    d_step {
        count = some;
        assert(rings[owner].bytes[rings[owner].byte_head % BYTES] == sent[owner] + 1);
        assert(rings[owner].bytes[(rings[owner].byte_head + count - 1) % BYTES] == sent[owner] + 1);
        assert(inside == NOBODY || inside == owner); /* nothing stands inside a message */
        left = left - count;
        inside = (left > 0 -> owner : NOBODY);
        rings[owner].byte_head = rings[owner].byte_head + count;
        count = 0;
        did = true
    };
    if
    :: left == 0 ->
        d_step {
            rings[owner].slot_head++;
            sent[owner]++;
            owner = NOBODY
        }
    :: else
    fi;
    news = true
}

inline tx_work()
{
    if
    :: owner != NOBODY && left == 2 -> send(1)
    :: owner != NOBODY -> send(left)
#ifdef PLANT_PONG_INSIDE
    :: d_step { inside != NOBODY && inside != PONGS && UNREAD(PONGS); owner = NOBODY; did = true }
#endif
    :: form_run(0)
#if RINGS > 1
    :: form_run(1)
#endif
#if RINGS > 2
    :: form_run(2)
#endif
    :: else
    fi
}

/* sluice_channel_flush() */
inline flush()
{
    if
    :: news ->
        news = false;
        do
        :: c < CLIENTS ->
            engine_loaded = (state[c] == ATTACHED -> waiting[c] : 0);
            ring_once(engine_loaded, engine_rung[c], links[c].bells_to_client);
            c++
        :: else -> break
        od;
        c = 0
    :: else
    fi
}

#define IS_REMEMBERED(c) (asleep == client_rung[c] || asleep == client_loaded[c])

#define KNOCKS(c) (links[c].bells_to_engine > 0 || (links[c].hung_up && state[c] == ATTACHED) || \
                   (links[c].wants_in && !links[c].admitted))

proctype engine()
{
    byte state[CLIENTS];
    byte owner = NOBODY, left; /* struct sluice_tx */
    byte inside = NOBODY;      /* of which ring the last bytes were, when its message is not whole */
    byte seen, count, c;
    bool did, news;

    do
    ::  do
        :: c < CLIENTS ->
            links_work();
            c++
        :: else -> break
        od;
        c = 0;
        tx_work();
        flush();
        if
        :: !did -> /* park(): say that we sleep, then look once more */
            d_step { take_number(asleep, IS_REMEMBERED(0) || IS_REMEMBERED(CLIENTS - 1)) };
#ifndef PLANT_ENGINE_LOOKS_ONCE
            tx_work();
#endif
            if
            :: !did ->
end_asleep:     (KNOCKS(0) || KNOCKS(CLIENTS - 1))
            :: else
            fi;
            d_step {
                asleep = 0;
                did = false;
                do
                :: c < CLIENTS ->
                    forget(client_loaded[c], client_rung[c]);
                    c++
                :: else -> break
                od;
                c = 0
            }
        :: else -> did = false
        fi
    od
}

/* refresh_heads(): slots first, as they are given back last */
inline refresh_heads(r)
{
    seen_slot_head[r] = rings[r].slot_head;
    seen_byte_head[r] = rings[r].byte_head
}

#define FITS(r) (rings[r].slot_tail - seen_slot_head[r] < SLOTS && \
                 rings[r].byte_tail - seen_byte_head[r] + LENGTH(committed[r] + 1) <= BYTES)

inline write(r, at)
{
    d_step {
        rings[r].bytes[(at) % BYTES] = number;
        rings[r].bytes[((at) + LENGTH(number) - 1) % BYTES] = number
    }
}

inline publish(r)
{
    rings[r].lengths[rings[r].slot_tail % SLOTS] = LENGTH(number);
#ifndef PLANT_TAILS_SWAPPED
    rings[r].byte_tail = rings[r].byte_tail + LENGTH(number);
#endif
    d_step {
        rings[r].slot_tail++;
        committed[r]++
    };
#ifdef PLANT_TAILS_SWAPPED
    rings[r].byte_tail = rings[r].byte_tail + LENGTH(number);
#endif
}

/* sluice_client_ring() */
inline ring()
{
    client_loaded[c] = asleep;
    ring_once(client_loaded[c], client_rung[c], links[c].bells_to_engine)
}

/* sluice_outbox_claim(), the bytes, sluice_outbox_commit() */
inline put(r)
{
    if
    :: !FITS(r) -> refresh_heads(r)
    :: else
    fi;
    if
    :: !FITS(r) -> is_full[r] = true
    :: else ->
        d_step {
            is_full[r] = false;
            number = committed[r] + 1
        };
#ifdef PLANT_SLOT_BEFORE_BYTES
        publish(r);
        write(r, rings[r].byte_tail - LENGTH(number));
#else
        write(r, rings[r].byte_tail);
        publish(r);
#endif
        number = 0;
        ring()
    fi
}

#define CAME_BACK(r) (is_full[r] && (rings[r].slot_head != seen_slot_head[r] || rings[r].byte_head != seen_byte_head[r]))

/* doze() in wait.c, for room in a ring that was full */
inline doze()
{
    d_step { take_number(waiting[c], waiting[c] == engine_rung[c] || waiting[c] == engine_loaded) };
    if
#ifndef PLANT_CLIENT_LOOKS_ONCE
    :: CAME_BACK(OUTBOX_OF(c)) || (HAS_PONGS(c) && CAME_BACK(PONGS))
#endif
    :: else -> links[c].bells_to_client > 0
    fi;
    d_step {
        waiting[c] = 0;
        forget(engine_loaded, engine_rung[c])
    };
    d_step {
        if
        :: links[c].bells_to_client > 0 -> links[c].bells_to_client--
        :: else
        fi;
        is_full[OUTBOX_OF(c)] = false;
        is_full[PONGS] = false
    }
}

#define LACKS(r) (committed[r] < MESSAGES_OF(r) && !is_full[r])

proctype client(byte c)
{
    byte seen_slot_head[RINGS], seen_byte_head[RINGS], number;
    bool is_full[RINGS];

again:
    {
        d_step {
            !links[c].hung_up;
            links[c].wants_in = true;
            links[c].admitted = false
        };
        d_step {
            links[c].admitted;
            client_rung[c] = 0;
            client_loaded[c] = 0
        };
        do
        :: LACKS(OUTBOX_OF(c)) -> put(OUTBOX_OF(c))
        :: HAS_PONGS(c) && LACKS(PONGS) -> put(PONGS)
        :: is_full[OUTBOX_OF(c)] || is_full[PONGS] -> doze()
        :: committed[OUTBOX_OF(c)] == MESSAGES_OF(OUTBOX_OF(c)) &&
           (!HAS_PONGS(c) || committed[PONGS] == OTHERS) ->
            break
        od;
        /* it waits for an answer */
        ALL_COMMITTED_IS_SENT(OUTBOX_OF(c)) && (!HAS_PONGS(c) || ALL_COMMITTED_IS_SENT(PONGS));
        d_step {
            links[c].hung_up = true;
            if
            :: kill == c || kill == NOBODY -> kill = NOBODY - 1
            :: else
            fi
        }
    } unless {
        d_step {
            kill == c;
            kill = NOBODY - 1;
            links[c].hung_up = links[c].wants_in;
            number = 0;
            is_full[OUTBOX_OF(c)] = false;
            is_full[PONGS] = false;
            seen_slot_head[OUTBOX_OF(c)] = 0;
            seen_byte_head[OUTBOX_OF(c)] = 0;
            seen_slot_head[PONGS] = 0;
            seen_byte_head[PONGS] = 0
        };
        goto again
    }
}

init {
    atomic {
        run engine();
        run client(0);
        if
        :: CLIENTS > 1 -> run client(1)
        :: else
        fi
    };
    if
    :: kill == NOBODY -> kill = 0
    :: kill == NOBODY && CLIENTS > 1 -> kill = 1
    :: kill != NOBODY
    fi
}
