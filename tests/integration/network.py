"""Networks that break: in a network namespace of our own, so that routes can be taken away. Where
one cannot be made, that is said and nothing is tried."""
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from refusal import ends_saying, says
from tap import check, check_equal, main, skip, sluice, test
from world import LIMIT_S, World, read, read_to_end, url_of, wait_until

INSIDE = "SLUICE_TESTS_NETNS"
UNSHARE = ("unshare", "-rnm")
SOON = ("--reconnect-min", "0.02", "--reconnect-max", "0.1")


def ip(*words):
    """ip(8), quietly."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def enter():
    """This script once more, in a namespace; there, its loopback is up."""
    if os.environ.get(INSIDE) is None:
        can = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], check=False,
                             capture_output=True, text=True)
        os.environ[INSIDE] = can.stderr.strip() if can.returncode else ""
        if can.returncode == 0:
            os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, *sys.argv])
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


@contextlib.contextmanager
def name_server(w, answers):
    """The one that this namespace asks: it says that there is no such name, or nothing at all."""
    files = {"resolv.conf": "nameserver 127.0.0.1\noptions attempts:1 timeout:5\n",
             "nsswitch.conf": "hosts: dns\n"}
    over = threading.Event()

    def serve(server):
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                query, asker = server.recvfrom(512)
                if answers:  # response, no such name
                    server.sendto(query[:2] + b"\x81\x83" + query[4:], asker)
    with contextlib.ExitStack() as undo:
        for name, text in files.items():
            subprocess.run(["mount", "--bind", w.write(name, text), f"/etc/{name}"], check=True)
            undo.callback(subprocess.run, ["umount", f"/etc/{name}"], check=True)
        server = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind(("127.0.0.1", 53))
        server.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(over.set)
        yield


@test
def row_4_a_name_that_nobody_has():
    needs_namespace()
    with World() as w, name_server(w, True):
        says(w.run("run", "tcp://nobody.test:80"), 10, "nobody.test", "unresolved")


@test
def row_5_a_name_server_that_is_slow_holds_up_nothing():
    needs_namespace()
    with World() as w, name_server(w, False):
        w.env["SLUICE_ONCE"] = "false"
        engine = w.engine("tcp://slow.test:80", "feed", "--connect-timeout", "1", *SOON)
        for _ in range(5):  # its loop turns: it answers at once
            began = time.monotonic()
            answer = w.run("stat", "feed", "--json")
            check(b'"conn_state": "resolving"' in answer.out, answer.out.decode()[:600])
            check(b'"answered": true' in answer.out, answer.out.decode()[:600])
            check(time.monotonic() - began < 1, "stat waits")
        engine.wait_for("not opened: timed-out", limit_s=5)
        engine.signal(signal.SIGTERM)
        engine.ends(0, 3)


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


@test
def row_71_loss_delay_and_reordering_change_no_byte():
    needs_namespace()
    can = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "2ms", "1ms",
                          "loss", "3%", "reorder", "10%"], check=False, capture_output=True, text=True)
    if can.returncode:
        skip(f"no netem here: {can.stderr.strip()}")
    data = random.Random(71).randbytes(4 << 20)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        cat = w.cat("feed", out=w.path("out"))
        cat.stdin.close()
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        read_to_end(peer)
        peer.close()
        cat.ends(0)
        engine.ends(0)
        check_equal(read(w.path("out")) == data, True, "the bytes")
    ip("link", "set", "lo", "down")
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    ip("link", "set", "lo", "up")


enter()
main()
