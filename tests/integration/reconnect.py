"""Connecting again, over the kernel's TCP: rows of the fault matrix, and one stream after the other
through every model. When exactly, and what is kept, is tests/unit/test_reconnect.c's.
"""
import contextlib
import random
import re
import signal
import socket
import ssl
import time

from refusal import ends_saying, says
from tap import check, check_equal, main, sluice, test
from tls_peer import context, tls_url, trusted
from world import LIMIT_S, World, free_port, read, read_to_end, stat, url_of, wait_until

SOON = ("--reconnect-min", "0.02", "--reconnect-max", "0.2")
MODELS = (("--model", "single"), ("--model", "two-thread", "--backend", "ev"))
TLS_MODELS = (("--model", "single"), ("--model", "three-thread", "--backend", "ev"))


def world():
    """One whose engines connect again."""
    w = World()
    w.env["SLUICE_ONCE"] = "false"
    return w


def waits(engine):
    """The waits it has said, in s."""
    return [float(s) for s in re.findall(r"the next attempt in ([0-9.]+) s", engine.err())]


def ends_in_order(w, engine):
    """By a signal, whatever it does just now; by two, where a peer keeps it waiting."""
    engine.signal(signal.SIGTERM)
    engine.wait_for("ending in order")
    time.sleep(0.1)
    if engine.running():
        engine.signal(signal.SIGTERM)
    engine.ends(0)
    check_equal(w.left_behind(), [], "left behind")


def ends(peer):
    """In order, and not before the other side has."""
    if isinstance(peer, ssl.SSLSocket):
        with contextlib.suppress(OSError):
            peer.unwrap()
    else:
        peer.shutdown(socket.SHUT_WR)
        read_to_end(peer)
    peer.close()


@test
def row_1_refused_is_tried_again_until_somebody_listens():
    with world() as w, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        says(w.run("run", url, "--once"), 11, url, "refused")
        engine = w.engine(url, "feed", *SOON)
        wait_until(lambda: len(waits(engine)) >= 6, "six attempts")
        check("not opened: refused" in engine.err(), engine.err())
        said = waits(engine)
        check(all(0.01 <= s <= 0.2 for s in said) and said[5] > said[0], f"{said}")
        check(stat(w, "feed")["counters"]["connect_failures"] >= 6, "they are counted")
        listener.listen()
        peer, _ = listener.accept()
        engine.wait_for(" open: ")
        peer.close()
        ends_in_order(w, engine)


@test
def row_4_a_name_without_an_address_is_looked_up_again():
    with world() as w:
        engine = w.engine("tcp://no-such-host.invalid:80", "feed", *SOON)
        wait_until(lambda: len(waits(engine)) >= 2, "two attempts")
        check("not opened: unresolved" in engine.err(), engine.err())
        ends_in_order(w, engine)


@test
def row_72_a_peer_that_accepts_and_closes_sees_no_storm():
    with world() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--reconnect-min", "0.05")
        times = []
        for _ in range(6):
            peer, _ = listener.accept()
            times.append(time.monotonic())
            peer.close()
        check(times[-1] - times[0] >= (0.05 + 0.1 + 0.2 + 0.4 + 0.8) / 2, f"{times}")
        wait_until(lambda: len(waits(engine)) == 6, "the sixth end")
        check_equal(stat(w, "feed")["counters"]["connections"], 6, "connections counted")
        ends_in_order(w, engine)


@test
def a_connection_that_lasted_is_followed_at_once():
    with world() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--reconnect-min", "60", "--reconnect-reset",
                          "0.2", "--reconnect-max", "60")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        time.sleep(0.3)
        peer.close()
        w.accept(listener).close()
        wait_until(lambda: len(waits(engine)) == 2, "the second end")
        check(waits(engine)[0] == 0 and waits(engine)[1] >= 30, f"{waits(engine)}")
        ends_in_order(w, engine)  # while it waits


@test
def fatal_ends_are_the_last():
    with world() as w:
        url = tls_url(w.serve(lambda peer: peer.sendall(b"this is no TLS\r\n")))
        says(w.run("run", url, *trusted()), 41, url)


def one_after_the_other(w, listener, wrapped, url, *flags):
    """Streams of different lengths; an upstream for each reads just its connection's bytes."""
    engine = w.engine(url, "feed", *SOON, *flags)
    for i, size in enumerate((1, 70000, 3 << 20, 0, 12345)):
        data = random.Random(i).randbytes(size)
        peer = wrapped(w.accept(listener))
        cat = w.cat("feed", out=w.path("out"))
        wait_until(lambda: stat(w, "feed")["upstream_pid"] is not None, "its upstream")
        cat.popen.stdin.close()
        peer.sendall(data)
        ends(peer)
        cat.ends(0)
        check_equal(read(w.path("out")) == data, True, f"bytes of connection {i + 1}")
    ends_in_order(w, engine)
    check(engine.err().count(" open: ") >= 5, engine.err())


@test
def each_connection_has_its_own_bytes_on_every_model():
    for flags in MODELS:
        with world() as w, w.listen() as listener:
            one_after_the_other(w, listener, lambda peer: peer, url_of(listener), *flags)


@test
def each_connection_has_its_own_bytes_over_tls():
    server = context()
    for flags in TLS_MODELS:
        with world() as w, w.listen() as listener:
            one_after_the_other(w, listener, lambda peer: server.wrap_socket(peer, server_side=True),
                                tls_url(url_of(listener)), *trusted(), *flags)


@test
def row_69_silence_ends_it_and_another_follows():
    with world() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", *SOON, "--silence", "0.4")
        peer = w.accept(listener)
        for _ in range(6):
            time.sleep(0.15)
            peer.sendall(b"x")
        check_equal(waits(engine), [], "it was not silent")
        w.accept(listener)
        engine.wait_for("closed: silent")
        ends_in_order(w, engine)
    with World() as w, w.listen() as listener:
        ends_saying(w.start([sluice(), "run", url_of(listener), "--silence", "0.2"]), 16, "silent",
                    "--silence")


@test
def a_signal_ends_it_in_whatever_state():
    with world() as w, w.listen() as listener:
        port = free_port()
        for url, sign in ((f"tcp://127.0.0.1:{port}", "next attempt"), (url_of(listener), " open: "),
                          (url_of(listener).replace("tcp", "tls"), None)):
            engine = w.engine(url, "feed", "--reconnect-min", "30")
            if sign:
                engine.wait_for(sign)
            engine.signal(signal.SIGTERM)
            if sign == " open: ":
                w.accept(listener).close()
            engine.ends(0, LIMIT_S)
        check_equal(w.left_behind(), [], "left behind")


main()
