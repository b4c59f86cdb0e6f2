"""The protocol of the rings, searched whole by spin; and with one step of it broken, spin finds that."""
import os
import re
import subprocess
import tempfile
import time

from tap import check, check_equal, main, source_dir, test

FOLDER = os.path.join(source_dir(), "tests/model")
INBOX = ["inbox.pml", "-DSTREAM_BYTES=5", "-DINBOX_BYTES=4"]
SMALL = ["inbox.pml", "-DSTREAM_BYTES=4", "-DINBOX_BYTES=2"]
ENDS = ["inbox.pml", "-DSTREAM_BYTES=4", "-DINBOX_BYTES=4", "-DCUT"]
PONGS = ["outbox.pml", "-DCLIENTS=1", "-DWITH_PONGS=1", "-DSLOTS=2", "-DMESSAGES=3", "-DOTHERS=1"]
TWO = ["outbox.pml", "-DCLIENTS=2", "-DWITH_PONGS=0", "-DSLOTS=1", "-DMESSAGES=1", "-DOTHERS=1"]


def search(model, *options):
    """What the search of that model finds first, "" for nothing, and how many states it saw."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        def run(*command):
            return subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=100,
                                  check=True).stdout
        run("spin", *options, "-a", os.path.join(FOLDER, model))
        run("gcc", "-O1", "-w", "-DSAFETY", "-DNOFAIR", "-o", "pan", "pan.c")
        said = run("./pan", "-n", "-m100000", "-w24")
    states = re.search(r"(\d+) states, stored", said)
    check(states and "max search depth too small" not in said and "out of memory" not in said, said)
    found = re.search(r"pan:1: (.*) \(at depth", said)
    errors = int(re.search(r"errors: (\d+)", said).group(1))
    check_equal(errors, 1 if found else 0, said)
    print(f"# {' '.join((model, *options))}: {int(states.group(1)):,} states, "
          f"{time.monotonic() - began:.1f} s{', ' + found.group(1) if found else ''}", flush=True)
    return found.group(1) if found else ""


def holds(options):
    """No order of the steps breaks it."""
    check_equal(search(*options), "", "found")


def breaks(options, plant, how):
    """With that planted, some order does."""
    found = search(*options, f"-DPLANT_{plant}")
    check(how in found, f"{plant}: found {found!r}, not {how!r}")


ASLEEP_FOR_EVER = "invalid end state"


@test
def inbox_loses_nothing_and_shows_nothing_twice_or_torn():
    """Whoever dies when; and nobody sleeps for ever."""
    holds(INBOX)


@test
def inbox_that_is_smaller_than_its_entries():
    """An upstream may release all there is at once."""
    holds(SMALL)


@test
def inbox_when_connections_end():
    """DISCONNECTED finds room however full it is."""
    holds(ENDS)


@test
def outbox_and_pongs():
    """Every message that was committed leaves once, whole, nothing inside it."""
    holds(PONGS)


@test
def two_outboxes():
    """One dies while the other one goes on."""
    holds(TWO)


@test
def entry_before_its_bytes():
    """The reader finds other bytes there."""
    breaks(INBOX, "ENTRY_BEFORE_BYTES", "inbox[")


@test
def phase_before_the_entry():
    """It is not the word stored last."""
    breaks(INBOX, "PHASE_FIRST", "offset==end")


@test
def release_before_read():
    """Seen as bytes given back under an entry that the next upstream would read."""
    breaks(INBOX, "RELEASE_BEFORE_READ", "head<=seen")


@test
def bytes_released_before_their_entries():
    """And death between the two stores."""
    breaks(INBOX, "BYTES_RELEASED_FIRST", "head<=seen")


@test
def bytes_without_an_entry_stay_kept():
    """Death between the two stores of a release of all there is: the next upstream has nothing to release."""
    breaks(SMALL, "KEPT_BYTES_STAY", ASLEEP_FOR_EVER)


@test
def no_slot_in_reserve():
    """The end of a connection finds none."""
    breaks(ENDS, "NO_RESERVE", "(meta_tail-meta_head)<4")


@test
def engine_does_not_look_again_before_it_sleeps():
    """What was released or committed meanwhile is not rung for."""
    breaks(INBOX, "ENGINE_LOOKS_ONCE", ASLEEP_FOR_EVER)
    breaks(PONGS, "ENGINE_LOOKS_ONCE", ASLEEP_FOR_EVER)


@test
def client_does_not_look_again_before_it_sleeps():
    """Nor if it looks before it says that it sleeps, which is what its fence is against."""
    breaks(INBOX, "CLIENT_LOOKS_ONCE", ASLEEP_FOR_EVER)
    breaks(INBOX, "CLIENT_ARMS_LATE", ASLEEP_FOR_EVER)
    breaks(PONGS, "CLIENT_LOOKS_ONCE", ASLEEP_FOR_EVER)


@test
def slot_before_its_bytes():
    """The engine sends other bytes."""
    breaks(PONGS, "SLOT_BEFORE_BYTES", ".bytes[")


@test
def slot_tail_before_byte_tail():
    """The engine takes an honest writer for a liar."""
    breaks(PONGS, "TAILS_SWAPPED", "left<=seen")


@test
def pong_inside_a_message():
    """A run that left in part is taken for done."""
    breaks(PONGS, "PONG_INSIDE", "assertion violated")


main()
