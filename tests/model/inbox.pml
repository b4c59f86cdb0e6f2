/*
 * MSG_INBOX and MSG_METADATA: inbox.c and entry.h against the upstream of client.c.
 *
 *   -DSTREAM_BYTES=n  what the peer sends at most
 *   -DINBOX_BYTES=n   what the inbox holds
 *   -DCUT             a connection ends on the way and another one opens
 */
#include "bells.pml"

#define ENTRIES      4
#define META_RESERVE 2 /* DATA merged before the end, and the end */

#define PHASE(n) (((n) / ENTRIES) % 2 == 0)

typedef entry {
    byte offset;
    byte bytes; /* with event and phase the word stored last */
    bit disconnected, phase;
};

/* engine memfd */
byte inbox[INBOX_BYTES]; /* position p holds p + 1 */
entry meta[ENTRIES];
byte asleep; /* the number of the sleep in which the engine waits for releases */

/* writer memfd */
byte mine_meta_head, mine_inbox_head;
byte waiting; /* the number of the upstream's sleep */

link l;

/* The number of the sleep that one last rang for, and the one that it just loaded. */
byte engine_rung, engine_loaded, client_rung, client_loaded;

/* What the peer sends in all, and behind which of its bytes a connection ended (0: none did): found
 * out on the way, and with -DCUT only the latter. */
byte stream_bytes = STREAM_BYTES;
byte cut;

/* Given back for good, by whatever upstream. */
byte released, released_ends;
#define ALL_RELEASED (released == stream_bytes && released_ends == (cut > 0))

/* The engine's inlines use its variables, as the code does struct sluice_inbox. */

#define OUTSTANDING (meta_tail - meta_head)
#define HAS_ROOM    (OUTSTANDING + META_RESERVE < ENTRIES)

/* The upstream's heads, looked at once each time round. */
inline refresh()
{
    if
    :: attached ->
        seen = mine_meta_head;
        d_step {
            /* else an honest upstream is thrown out */
            assert(seen >= meta_head && seen <= meta_tail);
            meta_head = seen;
            seen = mine_inbox_head;
            assert(seen >= head && seen <= (has_pending -> pending_offset : tail));
            head = seen;
            seen = 0
        }
    :: else
    fi
}

/* All of an entry but the word stored last. */
inline prepare(at, count, end)
{
    meta[meta_tail % ENTRIES].offset = at;
    entry_bytes = count;
    entry_ends = end;
    publishing = true;
#ifdef PLANT_PHASE_FIRST
    meta[meta_tail % ENTRIES].phase = PHASE(meta_tail);
#endif
}

inline prepare_pending()
{
    prepare(pending_offset, pending_bytes, false);
    has_pending = false;
    pending_offset = 0;
    pending_bytes = 0
}

/* sluice_inbox_arrived(): the kernel wrote a byte behind the tail, where it was lent room. */
inline receive()
{
#ifndef PLANT_ENTRY_BEFORE_BYTES
    inbox[tail % INBOX_BYTES] = tail + 1;
#endif
    tail++;
    if
    :: has_pending -> pending_bytes++
    :: else -> /* it may go on at once, or be the first of those that wait */
        has_pending = true;
        pending_offset = tail - 1;
        pending_bytes = 1
    fi;
    if
#ifdef PLANT_NO_RESERVE
    :: OUTSTANDING < ENTRIES -> prepare_pending()
#else
    :: HAS_ROOM -> prepare_pending()
#endif
    :: else
    fi
}

/* sluice_inbox_control(), behind what waits */
inline end_connection()
{
    if
    :: has_pending -> prepare_pending()
    :: else ->
        assert(OUTSTANDING < ENTRIES);
        prepare(tail, 0, true);
        ending = false;
        closed = true
    fi
}

inline publish()
{
    if
    :: publishing ->
        d_step {
            assert(OUTSTANDING < ENTRIES);
            meta[meta_tail % ENTRIES].bytes = entry_bytes;
            meta[meta_tail % ENTRIES].disconnected = entry_ends;
            meta[meta_tail % ENTRIES].phase = PHASE(meta_tail);
            meta_tail++;
            publishing = false;
            entry_bytes = 0;
            entry_ends = false;
            did = true
        }
    :: else
    fi
}

/* sluice_rx_work(), and what the peer does meanwhile. */
inline rx_work()
{
    refresh();
    atomic {
        if
        :: ending -> d_step { end_connection() }
        :: !ending && has_pending && HAS_ROOM -> d_step { prepare_pending() }
        :: !ending && closed && !has_pending && HAS_ROOM -> /* sluice_transport_connect() */
            d_step {
                closed = false;
                did = true
            }
        :: !ending && !closed && tail < stream_bytes && tail < head + INBOX_BYTES ->
            d_step {
                receive();
                did = true
            }
#ifdef CUT
        :: !ending && !closed && tail > 0 && cut == 0 ->
            d_step {
                cut = tail;
                ending = true;
                did = true
            }
#else
        :: !ending && !closed && tail < stream_bytes && tail < head + INBOX_BYTES && tail > 0 ->
            d_step {
                stream_bytes = tail;
                did = true
            }
#endif
        :: else
        fi
    };
    publish();
#ifdef PLANT_ENTRY_BEFORE_BYTES
    if
    :: tail > 0 -> inbox[(tail - 1) % INBOX_BYTES] = tail
    :: else
    fi
#endif
}

/* sluice_channel_flush() */
inline flush()
{
    if
    :: meta_tail != meta_flushed && attached ->
        d_step {
            meta_flushed = meta_tail;
            engine_loaded = waiting
        };
        ring_once(engine_loaded, engine_rung, l.bells_to_client)
    :: else
    fi
}

/* sluice_link_input(): bells first, a client's end stands behind them. */
inline links_work()
{
    if
    :: d_step {
            l.bells_to_engine > 0;
            l.bells_to_engine--;
            did = true
        }
    :: l.bells_to_engine == 0 && l.hung_up -> /* let_writer_go() */
        refresh();
        d_step {
            if
            :: meta_head != meta_tail -> seen = meta[meta_head % ENTRIES].offset
            :: else -> seen = (has_pending -> pending_offset : tail)
            fi;
            assert(head <= seen); /* else it is thrown out, after an honest life */
#ifndef PLANT_KEPT_BYTES_STAY
            if /* sluice_inbox_settle() */
            :: seen == tail && tail == head + INBOX_BYTES -> head = tail
            :: else
            fi;
#endif
            seen = 0;
            attached = false;
            l.hung_up = false;
            l.wants_in = false;
            l.bells_to_client = 0;
            did = true
        }
    :: d_step { /* write_start() */
            l.bells_to_engine == 0 && !l.hung_up && l.wants_in && !l.admitted;
            mine_meta_head = meta_head;
            mine_inbox_head = head;
            waiting = 0;
            engine_rung = 0;
            meta_flushed = meta_tail;
            attached = true;
            l.admitted = true;
            did = true
        }
    :: else
    fi
}

#define STALLED (has_pending || ending || closed || tail == head + INBOX_BYTES)

proctype engine()
{
    byte tail, meta_tail, head, meta_head, meta_flushed; /* struct sluice_inbox */
    byte pending_offset, pending_bytes;
    bool has_pending;
    byte entry_bytes;
    bool publishing, entry_ends, attached, ending, closed, did;
    byte seen;

    do
    ::  links_work();
        rx_work();
        flush();
        if
        :: !did -> /* park(): say that we sleep, then look once more */
            d_step {
                if
                :: STALLED -> take_number(asleep, asleep == client_rung || asleep == client_loaded)
                :: else
                fi
            };
#ifndef PLANT_ENGINE_LOOKS_ONCE
            rx_work();
#endif
            if
            :: !did ->
end_asleep:     (l.bells_to_engine > 0 || l.hung_up || (l.wants_in && !l.admitted))
            :: else
            fi;
            d_step {
                asleep = 0;
                forget(client_loaded, client_rung);
                did = false
            }
        :: else -> did = false
        fi
    od
}

/* sluice_client_ring() */
inline ring()
{
    client_loaded = asleep;
    ring_once(client_loaded, client_rung, l.bells_to_engine)
}

/* peek_upstream(): one entry or more; then all of their bytes are read. */
inline peek()
{
    d_step {
        peeked = 0;
        ends = 0;
        end = inbox_head;
        at = meta_head % ENTRIES
    };
    do
    :: d_step {
            peeked < ENTRIES && meta[at].phase == PHASE(meta_head + peeked);
            assert(meta[at].offset == end); /* no gap, nothing twice */
            assert(!meta[at].disconnected || (end == cut && released_ends + ends == 0));
            end = end + meta[at].bytes;
            ends = ends + meta[at].disconnected;
            peeked++;
            at = (at + 1) % ENTRIES
        }
    :: peeked > 0 -> break
    od
}

/* All at once: a step in which one of them is torn would be one in which all are looked at. */
inline read()
{
    d_step {
        at = inbox_head;
        do
        :: at < end ->
            assert(inbox[at % INBOX_BYTES] == at + 1); /* not torn */
            at++
        :: else -> break
        od;
        at = 0
    }
}

/* Whoever comes next goes on behind what is released here. */
inline release()
{
#ifdef PLANT_BYTES_RELEASED_FIRST
    mine_inbox_head = end;
#endif
    d_step {
        meta_head = meta_head + peeked;
        mine_meta_head = meta_head;
        released = end;
        released_ends = released_ends + ends
    };
    d_step {
        mine_inbox_head = end;
        inbox_head = end;
        end = 0;
        ends = 0;
        peeked = 0
    };
    ring()
}

/* doze() in wait.c */
inline doze()
{
#ifndef PLANT_CLIENT_ARMS_LATE
    d_step {
        take_number(waiting, waiting == engine_rung || waiting == engine_loaded)
    };
#endif
#ifdef PLANT_CLIENT_LOOKS_ONCE
    (l.bells_to_client > 0 || ALL_RELEASED);
#else
    if
    :: meta[meta_head % ENTRIES].phase == PHASE(meta_head)
    :: else ->
#ifdef PLANT_CLIENT_ARMS_LATE
        waiting = 1;
#endif
        (l.bells_to_client > 0 || ALL_RELEASED)
    fi;
#endif
    d_step {
        waiting = 0;
        forget(engine_loaded, engine_rung)
    };
    d_step {
        if
        :: l.bells_to_client > 0 -> l.bells_to_client--
        :: else
        fi
    }
}

proctype upstream()
{
    byte meta_head, inbox_head, peeked, end, ends, at;

again:
    {
        d_step {
            !l.hung_up;
            l.wants_in = true;
            l.admitted = false
        };
        d_step {
            l.admitted;
            meta_head = mine_meta_head;
            inbox_head = mine_inbox_head;
            client_rung = 0;
            client_loaded = 0;
            /* Killed between its two stores, the last one kept bytes whose entries are released. */
            assert(inbox_head <= released);
            inbox_head = released
        };
        do
        :: ALL_RELEASED -> break
        :: else ->
            if
            :: meta[meta_head % ENTRIES].phase == PHASE(meta_head) ->
                peek();
#ifdef PLANT_RELEASE_BEFORE_READ
                mine_inbox_head = end;
                ring();
#endif
                read();
                release()
            :: else -> doze()
            fi
        od;
        kill = NOBODY - 1 /* nobody dies any more */
    } unless {
        d_step {
            kill == 0;
            kill = NOBODY - 1;
            l.hung_up = l.wants_in
        };
        goto again
    }
}

init {
    atomic {
        run engine();
        run upstream()
    };
    if
    :: kill == NOBODY -> kill = 0
    :: kill != NOBODY /* it is done */
    fi
}
