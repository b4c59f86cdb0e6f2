"""Networks that break: in a network namespace of our own, so that routes can be taken away. Where
one cannot be made, that is said and nothing is tried."""
import os
import re
import signal
import subprocess
import sys
import time

from refusal import ends_saying, says
from tap import check, check_equal, main, skip, sluice, test
from world import LIMIT_S, World, url_of, wait_until

INSIDE = "SLUICE_TESTS_NETNS"
SOON = ("--reconnect-min", "0.02", "--reconnect-max", "0.1")


def ip(*words):
    """ip(8), quietly."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def enter():
    """This script once more, in a namespace; there, its loopback is up."""
    if os.environ.get(INSIDE) is None:
        can = subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], check=False,
                             capture_output=True, text=True)
        os.environ[INSIDE] = can.stderr.strip() if can.returncode else ""
        if can.returncode == 0:
            os.execvp("unshare", ["unshare", "-rn", sys.executable, *sys.argv])
    elif not os.environ[INSIDE]:
        ip("link", "set", "lo", "up")


def needs_namespace():
    """Or skip."""
    if os.environ[INSIDE]:
        skip(f"no network namespace: {os.environ[INSIDE]}")


@test
def row_2_syn_that_nobody_answers():
    needs_namespace()
    with World() as w:
        ip("link", "set", "lo", "down")  # what is sent there is gone
        answer = w.run("run", "tcp://127.0.0.1:80", "--connect-timeout", "0.4")
        ip("link", "set", "lo", "up")
        says(answer, 12, "127.0.0.1:80", "timed-out")
        check(0.35 < answer.seconds < 2, f"{answer.seconds} s")


@test
def row_3_no_route_is_told_at_once():
    needs_namespace()
    with World() as w:
        answer = w.run("run", "tcp://203.0.113.1:80")
        says(answer, 13, "203.0.113.1", "unreachable")
        check(answer.seconds < 2, f"{answer.seconds} s")


def cut_off(w, listener, *flags):
    """An open connection whose network is taken away: how long it takes to be noticed, in s."""
    ip("link", "set", "lo", "up")
    engine = w.start([sluice(), "run", url_of(listener), *flags])
    peer = w.accept(listener)
    engine.wait_for(" open: ")
    peer.sendall(b"x")
    time.sleep(0.1)
    ip("link", "set", "lo", "down")
    began = time.monotonic()
    ends_saying(engine, 15, "peer-gone")
    ip("link", "set", "lo", "up")
    return time.monotonic() - began


@test
def row_70_a_peer_that_vanished_is_noticed_by_keepalive():
    needs_namespace()
    with World() as w, w.listen() as listener:
        took = cut_off(w, listener, "--keepalive", "1")
        check(2 < took < 8, f"1 s of silence and three probes, 1 s apart: {took:.1f} s")


@test
def row_70_a_peer_that_acknowledges_nothing_is_given_up():
    needs_namespace()
    with World() as w, w.listen() as listener:
        ip("link", "set", "lo", "up")
        engine = w.engine(url_of(listener), "feed", "--user-timeout", "1")
        w.accept(listener)
        engine.wait_for(" open: ")
        ip("link", "set", "lo", "down")
        cat = w.cat("feed")
        began = time.monotonic()
        cat.stdin.write(b"is anybody there?")
        cat.stdin.flush()
        ends_saying(engine, 15, "peer-gone")
        took = time.monotonic() - began
        ip("link", "set", "lo", "up")
        check(0.5 < took < 5, f"{took:.1f} s")


@test
def row_70_and_another_connection_follows_when_the_network_is_back():
    needs_namespace()
    with World() as w, w.listen() as listener:
        w.env["SLUICE_ONCE"] = "false"
        engine = w.engine(url_of(listener), "feed", "--keepalive", "1", "--connect-timeout", "0.3",
                          *SOON)
        w.accept(listener)
        engine.wait_for(" open: ")
        ip("link", "set", "lo", "down")
        engine.wait_for("closed: peer-gone", limit_s=LIMIT_S)
        engine.wait_for("not opened: timed-out")
        ip("link", "set", "lo", "up")
        peer = w.accept(listener)
        wait_until(lambda: len(re.findall(" open: ", engine.err())) == 2, "the second connection")
        peer.close()
        engine.signal(signal.SIGTERM)
        engine.ends(0)
        check_equal(w.left_behind(), [], "left behind")


enter()
main()
