"""sluice load: each mode against peers of ours and of others, what it says of broken ones, and that
its numbers are true where the truth is known."""
import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib

import websockets
from load_run import SHORT, Run, check_round_trips, check_verified, load, serving
from tap import check, check_equal, main, skip, sluice, source_dir, test
from world import World, helper, in_thread, launched, need, url_of, wait_until

NO_WARMUP = ("--duration", "10", "--warmup", "0")


# ---- modes ---------------------------------------------------------------------------------------

@test
def rtt_over_each_transport():
    """Our own server: TCP, a Unix socket, WebSocket; verified, with sizes, depth and connections."""
    with World() as w:
        for url in ("tcp://127.0.0.1:0", f"unix:{w.path('socket')}", "ws://127.0.0.1:0"):
            with serving(w, "echo", url) as (_, where):
                check_round_trips(load(w, "rtt", where, *SHORT))
                run = load(w, "rtt", where, *SHORT, "--verify", "--size", "16-70000", "--depth",
                           "3", "--connections", "5")
                check_round_trips(run)
                check_verified(run)


@test
def rtt_of_others():
    """socat, which knows nothing of us."""
    with World() as w:
        port = w.socat("TCP-LISTEN:0,bind=127.0.0.1,fork", "PIPE")
        check_round_trips(load(w, "rtt", f"tcp://127.0.0.1:{port}", *SHORT, "--verify"))


@test
def count_is_exact():
    """--count messages, not one more."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        s = load(w, "rtt", where, *NO_WARMUP, "--count", "123", "--depth", "10").ended().summary
        check_equal((s["sent_messages"], s["answered_messages"]), (123, 123), "messages")
        check_equal((s["sent_bytes"], s["received_bytes"]), (123 * 64, 123 * 64), "bytes")


@test
def rate_keeps_its_schedule():
    """As many as were due; both spectra are there."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        run = load(w, "rate", where, "--rate", "1000", "--duration", "1", "--warmup", "0.1",
                   "--connections", "3", "--verify")
        check_round_trips(run)
        s = run.summary
        check_equal(s["sent_messages"], 1000, "messages in 1 s")
        check_equal(s["unsent_messages"], 0, "unsent")
        check_equal(s["uncorrected"]["count"], s["sent_messages"], "uncorrected")
        check_equal(s["late"]["count"], s["sent_messages"], "late")


@test
def stream_each_way():
    """A sink gets what was sent, a source sends, an echo does both; verified at both ends."""
    with World() as w:
        for scheme in ("tcp", "ws"):
            with serving(w, "sink", f"{scheme}://127.0.0.1:0", "--verify") as (peer, where):
                s = load(w, "stream", where, *SHORT, "--verify", "--size", "16K").ended().summary
                check(s["sent_messages"] > 10 and s["received_bytes"] == 0, s)
                peer.signal(signal.SIGTERM)
                peer.ends(0)
                sent = int(peer.wait_for("messages").split(" messages")[0].split()[-1])
                check(sent >= s["sent_messages"], f"{sent} of {s['sent_messages']} came")
            with serving(w, "source", f"{scheme}://127.0.0.1:0", "--verify", "--size",
                         "1000") as (_, where):
                run = load(w, "stream", where, *SHORT, "--verify", "--direction", "in").ended()
                check(run.summary["answered_messages"] > 10, run.summary)
                check_equal(run.summary["sent_messages"], 0, "sent")
                check_verified(run)
            with serving(w, "echo", f"{scheme}://127.0.0.1:0") as (_, where):
                run = load(w, "stream", where, *SHORT, "--direction", "both", "--size", "16K",
                           "--verify").ended()
                check(run.summary["answered_messages"] > 10, run.summary)
                check_verified(run)


@test
def connect_and_idle():
    """Connections are opened again and again, or all at once and held."""
    with World() as w, serving(w, "echo", "ws://127.0.0.1:0") as (peer, where):
        s = load(w, "connect", where, *NO_WARMUP, "--count", "50").ended().summary
        check_equal((s["opened_connections"], s["latency"]["count"]), (50, 50), "opened")
        s = load(w, "idle", where, *SHORT, "--connections", "100").ended().summary
        check_equal((s["opened_connections"], s["failed_connections"]), (100, 0), "held")
        peer.signal(signal.SIGTERM)
        peer.ends(0)
        check(" 150 connections," in peer.err(), peer.err())


def judged(w, text):
    """What the demo's judge says of the lines that sluice ws printed, and of both reports."""
    judge = os.path.join(source_dir(), "tools", "demo_report.py")
    return subprocess.run([judge, "--quiet", "--feed", w.path("feed"), "--report", w.path("ws")],
                          input=text, capture_output=True, check=False, timeout=30)


@test
def the_feed_is_the_demo_s():
    """What sluice ws prints of it passes the demo's judge; with one line less it does not."""
    with World() as w, serving(w, "feed", "ws://127.0.0.1:0", "--once", "--duration", "1.3",
                               "--rate", "500", "--burst", "300", "--report",
                               w.path("feed")) as (peer, where):
        answer = w.run("ws", where, "--send", "subscribe", "--send", "x", "--report", w.path("ws"))
        check_equal(answer.code, 0, answer.err)
        peer.ends(0)
        counts = json.loads(open(w.path("feed"), encoding="utf-8").read())
        check(counts["sent"] > 300 + 500 and counts["received"] == 2, counts)
        check_equal((counts["pings"], counts["pongs"]), (2, 2), "PINGs")
        lines = answer.out.splitlines(keepends=True)
        for text, code in ((answer.out, 0), (b"".join(lines[:9] + lines[10:]), 1)):
            got = judged(w, text)
            check_equal(got.returncode, code, got.stdout.decode())


@test
def the_feed_of_others():
    """The same stream out of python3-websockets, over TLS where there is TLS, passes as well."""
    feed = os.path.join(source_dir(), "tests", "integration", "feed.py")
    certs = helper("certs")
    tls = os.path.exists(certs)
    flags = ("--cert", f"{certs}/good.pem", "--key", f"{certs}/good.key") if tls else ()
    client = ("--ca", f"{certs}/root.pem", "--verify-name", "good.example.test") if tls else ()
    with World() as w:
        peer = w.start([sys.executable, feed, "--seconds", "1.3", "--rate", "500", "--burst", "300",
                        "--summary", w.path("feed"), *flags], stdout=subprocess.PIPE)
        port = in_thread(peer.stdout.readline)().decode().strip()
        answer = w.run("ws", f"{'wss' if tls else 'ws'}://127.0.0.1:{port}", "--send", "subscribe",
                       "--report", w.path("ws"), *client)
        check_equal(answer.code, 0, answer.err)
        peer.ends(0)
        got = judged(w, answer.out)
        check_equal(got.returncode, 0, got.stdout.decode())
        check(len(answer.out.splitlines()) > 300 + 500, "messages")


# ---- through an engine ---------------------------------------------------------------------------

def check_stages(run):
    """Each stage has a latency for what came and what left."""
    s = run.summary
    stages = s["stages"]
    for name in ("outbox_to_send", "arrival_to_inbox", "inbox_to_upstream", "arrival_to_upstream"):
        check(stages[name]["count"] > 0 and stages[name]["max_ns"] is not None, f"{name} {stages}")
    left = stages["outbox_to_send"]
    missed = s["sent_messages"] - left["count"]  # of those that left before it looked one is seen
    check(-2 <= missed <= (2 + s["sent_messages"] // 100 if s["mode"] == "rtt" else s["sent_messages"]),
          f"{left} {s}")
    check(0 < left["p50_ns"] <= s["latency"]["p50_ns"], stages)
    check(stages["arrival_to_upstream"]["p50_ns"] <= run.summary["latency"]["p50_ns"], stages)


@test
def through_an_engine():
    """One in this process, and one that is attached to by name; over WebSocket, too."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        for flags in (("rtt",), ("rate", "--rate", "500")):
            run = Run(w.run("load", flags[0], where, "--in-process", "--json", *SHORT, *flags[1:]))
            check_round_trips(run)
            check_stages(run)
        w.engine(where, "feed").wait_for(" open: ")
        for _ in range(2):  # it stays open behind us
            run = Run(w.run("load", "rtt", "--engine", "feed", "--json", "--verify", *SHORT))
            check_round_trips(run)
            check_stages(run)
    with World() as w, serving(w, "echo", "ws://127.0.0.1:0") as (_, where):
        run = load(w, "rtt", where, "--in-process", "--verify", *SHORT)
        check_round_trips(run)
        check_verified(run)


@test
def stream_through_an_engine():
    """Outbox full is back-pressure: all of it arrives."""
    with World() as w, serving(w, "sink", "tcp://127.0.0.1:0", "--verify") as (peer, where):
        s = load(w, "stream", where, "--in-process", "--verify", "--size", "8K", *NO_WARMUP,
                 "--count", "5000").ended().summary
        check_equal(s["sent_messages"], 5000, "sent")
        peer.signal(signal.SIGTERM)
        peer.ends(0)


# ---- honest numbers ------------------------------------------------------------------------------

@test
def a_frozen_peer_shows():
    """The server stops for 1 s of 5: what was due then waited for it, evenly from 1 s down to 0. So
    of all messages a fifth, and a tenth waited longer than half a second. Without the schedule only
    the one in flight would have."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (peer, where):
        def freeze():
            time.sleep(2.5)
            peer.stop()
            time.sleep(1)
            peer.signal(signal.SIGCONT)

        thread = in_thread(freeze)
        run = load(w, "rate", where, "--rate", "1000", "--depth", "1", "--duration", "5",
                   "--warmup", "0.5", "--hgrm", w.path("hgrm")).ended()
        thread()
        s = run.summary
        corrected, plain = s["latency"], s["uncorrected"]
        check_equal(corrected["count"], plain["count"], "counts")
        check_equal(corrected["count"], s["sent_messages"] , "answers")
        check(0.9e9 < corrected["max_ns"] < 2e9, f"corrected max {corrected}")
        check(0.9e9 < plain["max_ns"] < 2e9, f"the one in flight: {plain}")
        check(corrected["p99_ns"] > 0.8e9, f"corrected p99 {corrected}")
        check(corrected["p90_ns"] > 0.3e9, f"corrected p90 {corrected}")
        check(plain["p99_9_ns"] < 0.3e9, f"uncorrected p99.9 {plain}")
        above = share_above(w.path("hgrm"), 500000)
        check(0.05 < above < 0.2, f"{above:.3f} of all above 0.5 s, 0.1 expected")


def share_above(path, micros):
    """From an .hgrm file: the share of values above."""
    with open(path, encoding="ascii") as file:
        rows = [line.split() for line in file if line[:1] in " 0123456789" and "." in line]
    total = int(rows[-1][2])
    return 1 - max((int(row[2]) for row in rows if float(row[0]) <= micros), default=0) / total


@test
def hgrm_agrees_with_the_summary():
    """The file's maximum, count and 100 % line are the summary's."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        s = load(w, "rtt", where, *SHORT, "--hgrm", w.path("hgrm")).ended().summary
        with open(w.path("hgrm"), encoding="ascii") as file:
            text = file.read()
        largest = f"{s['latency']['max_ns'] / 1000:.3f}"
        check(f"#[Max     = {largest:>12}, Total count    = {s['latency']['count']:12}]" in text,
              text[-300:])
        check(text.splitlines()[-4].split() == [largest, "1.000000000000",
                                                str(s["latency"]["count"])], text[-400:])


@test
def a_plain_latency_is_true():
    """A peer that answers after 20 ms is seen to do so."""
    def slow(peer):
        while data := peer.recv(64):
            time.sleep(0.02)
            peer.sendall(data)

    with World() as w:
        s = load(w, "rtt", w.serve(slow), "--duration", "1", "--warmup", "0").ended().summary
        check(20e6 <= s["latency"]["p50_ns"] < 60e6, s["latency"])


@test
def pictures():
    """--plot draws an SVG where gnuplot is, or leaves its script, which has the data."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        args = ("rate", where, "--rate", "500", *SHORT)
        answer = w.run("load", *args, "--plot", w.path("x.gp"))
        check_equal(answer.code, 0, answer.err)
        with open(w.path("x.gp"), encoding="ascii") as file:
            text = file.read()
        for word in ("$latency << END", "$uncorrected << END", "$times << END", "multiplot"):
            check(word in text, f"'{word}' is not in\n{text}")
        answer = w.run("load", *args, "--plot", w.path("y.svg"), env={"PATH": w.root})
        check(answer.code == 0 and "no gnuplot here" in answer.err and w.path("y.gp") in answer.err,
              answer.err)
        check(os.path.exists(w.path("y.gp")), "no script without gnuplot")
        check_equal(w.run("load", *args, "--plot", "z.pdf").code, 2, "a picture that is none")
        need("gnuplot")
        for name, begin in (("z.svg", b"<?xml"), ("z.png", b"\x89PNG")):
            answer = w.run("load", *args, "--plot", w.path(name))
            check_equal(answer.code, 0, answer.err)
            with open(w.path(name), "rb") as file:
                picture = file.read()
            check(picture.startswith(begin) and len(picture) > 5000, f"{name}: {picture[:80]}")


def summary_of(path):
    """The last line that --json wrote there."""
    with open(path, encoding="utf-8") as file:
        return json.loads(file.readlines()[-1])


@test
def two_runs_side_by_side():
    """--compare: the figures of both, their ratio, and what makes them incomparable."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        for name, size in (("a", "64"), ("b", "100")):
            answer = w.run("load", "rtt", where, "--json", "--size", size, *SHORT)
            check_equal(answer.code, 0, answer.err)
            w.write(name, answer.out)
        answer = w.run("load", "--compare", w.path("a"), w.path("b"))
        check_equal(answer.code, 0, answer.err)
        out = answer.out.decode()
        p50 = [summary_of(w.path(name))["latency"]["p50_ns"] / 1000 for name in "ab"]
        row = next(line for line in out.splitlines() if "latency p50, us" in line).split()[-3:]
        check_equal(row, [f"{p50[0]:.1f}", f"{p50[1]:.1f}", f"{p50[1] / p50[0]:.3f}"], out)
        check("size_min_bytes: 64 and 100" in out, out)
        w.write("cut", '{"event": "interval"}\n')
        for words in (("a", "cut"), ("a", "nothing"), ("a",)):
            answer = w.run("load", "--compare", *map(w.path, words))
            check(answer.code != 0 and len(answer.lines()) == 1, f"{words}: {answer.err}")


# ---- verification --------------------------------------------------------------------------------

def damaging(message):
    """What a bad peer sends for message number n, as a list of messages."""
    damaging.number += 1
    number = damaging.number
    if number == 10:
        return []
    if number == 20:
        return [message, message]
    if number == 30:
        damaging.kept = message
        return []
    if number == 31:
        return [message, damaging.kept]
    if number == 40:
        return [message[:-1] + bytes([message[-1] ^ 1])]
    return [message]


@contextlib.contextmanager
def websocket_server(handler):
    """python3-websockets on a thread: its ws:// URL."""
    loop = asyncio.new_event_loop()
    ready, box = threading.Event(), {}

    async def run():
        box["stop"] = asyncio.Event()
        async with websockets.serve(handler, "127.0.0.1", 0, compression=None) as server:
            box["port"] = server.sockets[0].getsockname()[1]
            ready.set()
            await box["stop"].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    check(ready.wait(10), "the WebSocket server does not start")
    try:
        yield f"ws://127.0.0.1:{box['port']}"
    finally:
        loop.call_soon_threadsafe(box["stop"].set)
        thread.join(10)


@test
def damage_is_told_apart():
    """One lost, one doubled, one late, one changed: each counted as what it is; exit code 21."""
    async def handler(peer, *_):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in peer:
                for answer in damaging(message):
                    await peer.send(answer)

    with World() as w, websocket_server(handler) as url:
        damaging.number = 0
        run = load(w, "rtt", url, *NO_WARMUP, "--verify", "--count", "100", "--depth", "8").ended(21)
        s = run.summary
        for name in ("lost", "duplicated", "reordered", "corrupted"):
            check_equal(s[f"{name}_messages"], 1, name)
        check("1 lost, 1 duplicated, 1 reordered, 1 corrupted" in run.err, run.err)
        damaging.number = 100  # from here on it does nothing
        check_verified(load(w, "rtt", url, *NO_WARMUP, "--verify", "--count", "100").ended())


@test
def a_sink_that_verifies_fails_too():
    """The server's exit code tells what it got."""
    with World() as w, serving(w, "sink", "tcp://127.0.0.1:0", "--verify") as (peer, where):
        with socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2]))) as s:
            s.sendall((32).to_bytes(4, "little") + bytes(28))
            s.shutdown(socket.SHUT_WR)
            s.recv(1)
        peer.signal(signal.SIGTERM)
        peer.ends(21)


def checked(number):
    """A message of --verify: its length, its checksum, its number."""
    body = number.to_bytes(8, "little")
    return (16).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body


@test
def a_number_far_ahead_is_only_counted():
    """The peer says it; one by one 2^64 would take for ever."""
    def send(peer):
        peer.sendall(checked(0) + checked(2**64 - 2) + checked(2**64 - 1))
        peer.recv(1)

    with World() as w:
        run = load(w, "stream", w.serve(send), *SHORT, "--verify", "--direction", "in").ended(21)
        check_equal(run.summary["lost_messages"], 2**64 - 3, "lost")
        check_equal(run.summary["corrupted_messages"], 0, "corrupted")


# ---- broken peers --------------------------------------------------------------------------------

@test
def nobody_there():
    """One line, the reason's exit code, and no numbers."""
    with World() as w, w.listen() as listener:
        url = url_of(listener)
        listener.close()
        for mode in ("rtt", "connect", "idle", "stream"):
            run = load(w, mode, url, *SHORT).ended(11)
            check(run.summary is None and url in run.err and "refused" in run.err, run.err)
        run = load(w, "rtt", f"unix:{w.path('nothing')}", *SHORT)
        check(run.code != 0 and len(run.err.splitlines()) == 1 and run.summary is None, run.err)
        load(w, "rtt", "tcp://no-such-name.invalid:1", *SHORT).ended(10)


def answers(w, handler, *flags, mode="rtt"):
    """A run against a peer that is a function."""
    return load(w, mode, w.serve(handler), *NO_WARMUP, *flags)


@test
def a_peer_that_closes():
    """What came before counts and is shown."""
    def three(peer):
        for _ in range(3):
            peer.sendall(peer.recv(64))
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(64):  # a close with bytes unread is a reset
            pass

    with World() as w:
        run = answers(w, three).ended(14)
        check("the peer closed the connection" in run.err, run.err)
        check_equal(run.summary["answered_messages"], 3, "partial results")
        check_equal(run.summary["failed_connections"], 1, "failed")
        run = load(w, "rtt", w.serve(three), "--in-process", *NO_WARMUP)
        check_equal((run.code, run.summary["answered_messages"]), (14, 3), f"by channel {run.err}")


@test
def a_peer_that_answers_wrongly():
    """Too much, nothing, no WebSocket, a broken frame, not what was sent."""
    def twice(peer):
        while data := peer.recv(64):
            peer.sendall(data + data)

    def silent(peer):
        while peer.recv(64):
            pass

    def web(peer):
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        peer.recv(1)

    def zeros(peer):
        while data := peer.recv(64):
            peer.sendall(bytes(len(data)))

    with World() as w:
        run = answers(w, twice).ended(20)
        check("more than it was asked for" in run.err, run.err)
        run = load(w, "rtt", w.serve(silent), "--duration", "0.2", "--warmup", "0").ended(12)
        check("1 messages had no answer" in run.err and run.summary["unanswered_messages"] == 1,
              run.err)
        run = load(w, "rtt", w.serve(web).replace("tcp", "ws"), *NO_WARMUP).ended(20)
        check("404" in run.err and run.summary is None, run.err)
        for flags in ((), ("--in-process",)):
            run = load(w, "rtt", w.serve(silent).replace("tcp", "ws"), *NO_WARMUP,
                       "--connect-timeout", "0.3", *flags).ended(12)
            check("no answer to the upgrade" in run.err, run.err)
        run = load(w, "rtt", w.serve(silent), *NO_WARMUP, "--in-process", "--size", "600K").ended(2)
        check("--outbox" in run.err, run.err)
        run = answers(w, zeros, "--verify").ended(20)
        check("no message" in run.err, run.err)


@test
def bad_arguments():
    """One line that names what is wrong, exit code 2."""
    url = "tcp://127.0.0.1:9"
    with World() as w:
        for words, said in (
                (["rtt"], "URL"), (["fast", url], "fast"), ([], "MODE"), (["rate", url], "--rate"),
                (["rtt", url, "--rate", "5"], "--rate"), (["rtt", url, "--size", "9-3"], "9-3"),
                (["rtt", url, "--size", "0"], "--size"), (["rtt", "127.0.0.1:9"], "127.0.0.1:9"),
                (["rtt", url, "--verify", "--size", "8"], "16 bytes"),
                (["rtt", url, "--in-process", "--connections", "2"], "--connections"),
                (["connect", url, "--in-process"], "connect"), (["rtt", url, "x"], "x"),
                (["rtt", url, "--engine", "feed"], "--engine"),
                (["--serve", "echo", "tcp://nowhere"], "tcp://nowhere"),
                (["--serve", "soup", "tcp://127.0.0.1:0"], "soup"),
                (["--serve", "echo", "tls://127.0.0.1:0"], "tls://127.0.0.1:0"),
                (["rtt", "http://127.0.0.1:9"], "http")):
            answer = w.run("load", *words)
            check(answer.code in (2, 39, 40) and len(answer.lines()) == 1 and said in answer.err,
                  f"{words}: {answer.code} {answer.err}")
            check_equal(answer.out, b"", f"stdout of {words}")
        with serving(w, "sink", "tcp://127.0.0.1:0") as (_, where):
            check_equal(w.run("load", "--serve", "sink", where).code, 30, "a port that is taken")


@test
def a_signal_ends_it_with_what_there_is():
    """SIGINT: the results so far."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        process = w.start([sluice(), "load", "rtt", where, "--duration", "60", "--json"],
                          stdout=subprocess.PIPE)
        first = json.loads(in_thread(process.stdout.readline)())
        process.signal(signal.SIGINT)
        lines = [first, *map(json.loads, in_thread(process.stdout.readlines)())]
        process.ends(0)
        check_equal(lines[-1]["event"], "summary", "last line")
        check(lines[-1]["sent_messages"] >= first["sent_messages"] > 0, lines[-1])


def keys_of(value):
    """All keys of an object, and of those in it."""
    inner = [keys_of(one) for one in value.values() if isinstance(one, dict)]
    return set(value).union(*inner)


@test
def each_field_is_documented():
    """Every key that --json writes stands in --help; each number is an integer, and says its unit."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        told = w.run("load", "--help").out.decode()
        listed = set(re.findall(r"[a-z0-9_]+", told[told.index("Fields of --json"):]))
        for flags in (("rtt", where, "--in-process", "--verify"), ("rate", where, "--rate", "100")):
            run = load(w, *flags[:2], *SHORT, *flags[2:]).ended()
            for line in (*run.intervals, run.summary):
                check(keys_of(line) <= listed, f"not in --help: {keys_of(line) - listed}")
                check(not any(isinstance(value, float) for value in line.values()), line)


@test
def what_spoils_numbers():
    """Clock, cores and gaps; a core that is shared makes it disturbed."""
    cores = sorted(os.sched_getaffinity(0))
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        with open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                  encoding="ascii") as file:
            clock = file.read().strip()
        for _ in range(2):  # two more on the load's core
            w.start(["sh", "-c", "while :; do :; done"],
                    preexec_fn=lambda: os.sched_setaffinity(0, {cores[0]}))
        s = load(w, "rtt", where, *SHORT, "--core", str(cores[0])).ended().summary
        machine = s["machine"]
        check_equal((machine["clock_source"], machine["cores"]), (clock, len(cores)), "machine")
        check(machine["disturbed"] and machine["core_wait_ppm"] > 300000, machine)
        check(machine["core_wait_ns"] <= s["duration_ns"] * 1.5, machine)
        check(machine["idle_gaps_before_per_s"] > 0 and machine["idle_gap_max_ns"] > 50000, machine)


@test
def a_cache_line_s_way():
    """Known where there is another core: tens of ns to some us, in a moment when nobody else is on
    either."""
    if len(os.sched_getaffinity(0)) == 1:
        skip("one core")
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        def quiet_moment():
            machine = load(w, "rtt", where, *NO_WARMUP, "--count", "1").ended().summary["machine"]
            hops = [machine["cache_line_hop_before_ns"], machine["cache_line_hop_after_ns"]]
            return any(hop and 20 < hop < 20000 for hop in hops)
        wait_until(quiet_moment, "a cache line that goes both ways in 20 us")


@test
def text_for_people():
    """The table on stdout, the live lines on stderr."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        answer = w.run("load", "rate", where, "--rate", "100", "--duration", "1.2")
        out = answer.out.decode()
        for word in (f"rate {where}", "since it was due", "uncorrected", "sent late by", "clock",
                     "idle gaps"):
            check(word in out, f"'{word}' is not in\n{out}")
        check(len(answer.lines()) == 2 and "messages/s" in answer.err, answer.err)


@test
def a_bar_on_a_terminal():
    """One line that is written over each second, with a bar that grows, and gone at the end."""
    with World() as w, serving(w, "echo", "tcp://127.0.0.1:0") as (_, where):
        ours, terminal = pty.openpty()
        argv = launched([sluice(), "load", "rtt", where, "--duration", "2.2"])
        with os.fdopen(ours, "rb", buffering=0) as screen, subprocess.Popen(
                argv, env=w.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=terminal) as process:
            os.close(terminal)
            shown = b""
            with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
                while piece := screen.read(4096):
                    shown += piece
            check_equal(process.wait(30), 0, "exit code")
        lines = [line.split("]")[0].count("#") for line in shown.decode().split("\r\033[K[")[1:]]
        check_equal((len(lines), lines), (3, sorted(lines)), f"bars\n{shown}")
        check(lines[0] in range(5, 12) and lines[-1] == 20, f"{lines}")
        check(shown.endswith(b"\r\033[K"), f"{shown}")


if os.path.exists(helper("certs")):
    CERTS = helper("certs")

    @test
    def tls():
        """tls:// and wss://, verified both ways: bytes and names."""
        server = ("--cert", f"{CERTS}/good.pem", "--key", f"{CERTS}/good.key")
        client = ("--ca", f"{CERTS}/root.pem", "--verify-name", "good.example.test")
        with World() as w:
            for scheme in ("tls", "wss"):
                with serving(w, "echo", f"{scheme}://127.0.0.1:0", *server) as (peer, where):
                    check_round_trips(load(w, "rtt", where, *SHORT, "--verify", *client))
                    check_round_trips(load(w, "rtt", where, *SHORT, "--in-process", *client))
                    s = load(w, "connect", where, *NO_WARMUP, "--count", "5", *client)
                    check_equal(s.ended().summary["opened_connections"], 5, "handshakes")
                    load(w, "rtt", where, *SHORT).ended(42)
                    peer.signal(signal.SIGTERM)
                    peer.ends(0)
                    check(" 7 connections," in peer.err(), peer.err())


main()
