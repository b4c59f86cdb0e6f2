/*
 * What inbox.pml and outbox.pml share: sockets, bells, death. Together they are the protocol of the
 * rings, for spin: an engine and its clients, of which one dies at any step and another takes its
 * place. Names are those of rings/; what is one load or store of shared memory there is one step here.
 * rings.py has every order of the steps searched.
 *
 * Sleeping is wait.c's and sluice_channel_sleep()'s. There is no timer: who is not rung for sleeps for
 * ever, which spin reports as an invalid end state.
 *
 * Memory is sequentially consistent here; what release, acquire and fences are for, tests/threads
 * shows. Each -DPLANT_... breaks one thing.
 */

#define NOBODY 255

/* Sleeps are numbered so that each is rung for once: only whether two numbers are the same matters, so
 * here a sleep takes one that nobody remembers. */
#define take_number(sleep, is_remembered) \
    sleep = 1;                            \
    do                                    \
    :: is_remembered -> sleep++           \
    :: else -> break                      \
    od

/* The socket of one client. */
typedef link {
    byte bells_to_engine, bells_to_client;
    bool wants_in, admitted, hung_up;
};

/* Once for each sleep. At most two stand in a socket: one for the sleep that is on, and one that came
 * late for the sleep before. */
#define ring_once(loaded, rung, bells)             \
    d_step {                                       \
        if                                         \
        :: loaded != 0 && loaded != rung ->        \
            rung = loaded;                         \
            assert(bells < 2);                     \
            bells++                                \
        :: else                                    \
        fi;                                        \
        loaded = 0                                 \
    }

/* That sleep is over: no other has its number. */
#define forget(loaded, rung)        \
    if                              \
    :: loaded == rung -> loaded = 0 \
    :: else                         \
    fi;                             \
    rung = 0

/* The client of that number dies before its next step. */
byte kill = NOBODY;
