"""SIGKILL at random moments, under load both ways: what was delivered is exact and in order, whoever
is left is told, and the next engine takes the name over."""
import os
import random
import signal
import time

from tap import check, check_equal, is_long, main, test
from world import LIMIT_S, World, in_thread, url_of

MIB = 1 << 20
DATA = random.Random(1).randbytes(16 * MIB)  # more than is through before the kill
LONG_S = 110  # of each test, with --long
NO_ENGINE, ENGINE_GONE = 31, 32  # README: exit codes
SETTLED = 3  # x the time an engine takes to start: all of it has been used by then


def rounds(daily):
    """Numbers of the kills to make; a seed each, so that one that failed can be had again."""
    began = time.monotonic()
    number = 0
    while (time.monotonic() - began < LONG_S) if is_long() else (number < daily):
        random.seed(number)
        yield number
        number += 1
    print(f"# {number} kills", flush=True)


def flood(peer):
    """All of DATA, unless the other side dies first."""
    try:
        peer.sendall(DATA)
    except OSError:
        pass


def receive(peer):
    """What came until the other side died."""
    got = bytearray()
    try:
        while chunk := peer.recv(1 << 18):
            got += chunk
    except OSError:
        pass
    return bytes(got)


def check_begin(got, what, number):
    """That it is a beginning of DATA."""
    check(DATA.startswith(got), f"kill {number}: {what}: {len(got)} bytes are no beginning of the stream")


def kill_one_engine(w, listener, source, number):
    """An engine and its upstream on a name that a dead one had; returns how many bytes came through,
    received and sent."""
    received = w.path("received")
    began = time.monotonic()
    engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--outbox", "64K")
    moment_s = random.random() * SETTLED * (time.monotonic() - began)
    peer = w.accept(listener)
    flooding, receiving = in_thread(flood, peer), in_thread(receive, peer)
    with open(source, "rb") as stdin:
        cat = w.cat("feed", out=received, stdin=stdin)
    time.sleep(moment_s)
    engine.signal(signal.SIGKILL)
    engine.wait()
    code = cat.wait(LIMIT_S)
    check(code in (NO_ENGINE, ENGINE_GONE), f"kill {number}: cat ended with {code}: {cat.err()}")
    sent = receiving()
    peer.close()
    flooding()
    with open(received, "rb") as file:
        got = file.read()
    check_begin(got, "received", number)
    check_begin(sent, "sent", number)
    check(len(engine.err().splitlines()) <= 1, f"kill {number}: more than its open line: {engine.err()}")
    return len(got), len(sent)


@test
def row_22_engines_killed_at_random_moments():
    """Under load; the last one lives, and everything comes through."""
    with World() as w, w.listen() as listener:
        source = w.write("source", DATA)
        through = [kill_one_engine(w, listener, source, number) for number in rounds(30)]
        check(any(got for got, _ in through) and any(sent for _, sent in through),
              "some were killed while bytes flowed both ways")
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        receiving = in_thread(receive, peer)
        with open(source, "rb") as stdin:
            cat = w.cat("feed", out=w.path("whole"), stdin=stdin)
        flood(peer)
        check(receiving() == DATA, "all was sent")
        peer.close()
        cat.ends(0)
        engine.ends(0)
        check_equal(os.path.getsize(w.path("whole")), len(DATA), "bytes received")
        check_equal(w.left_behind(), [], "left behind")


main()
