"""An engine's life: upstreams that come and go, producers, observers, stalls, ends."""
import contextlib
import hashlib
import os
import random
import select
import signal
import socket
import struct
import subprocess
import threading
import time

from tap import check, check_equal, fail, is_long, main, skip, sluice, test
from world import (LIMIT_S, World, helper, in_thread, is_sanitized, read, read_to_end, stat, url_of,
                   wait_until)

MIB = 1 << 20
SLOWER = 4 if is_sanitized() else 1


def noise(size, seed=1):
    """The same random bytes each time."""
    return random.Random(seed).randbytes(size)


def send_and_end(peer, data, may_end=None, pause_s=0):
    """All of it, then FIN (when it may), then wait for the other side's."""
    for at in range(0, len(data), 64 * 1024):
        peer.sendall(data[at:at + 64 * 1024])
        time.sleep(pause_s)
    if may_end and not may_end.wait(LIMIT_S):
        fail("nobody lets the peer end")
    peer.shutdown(socket.SHUT_WR)
    read_to_end(peer)
    peer.close()


def is_free(w, name):
    """Whether no upstream is attached."""
    return stat(w, name)["upstream_pid"] is None


# ---- upstreams that come and go ------------------------------------------------------------------

@test
def row_23_stale_socket_file_is_replaced_silently():
    with World() as w, w.listen() as listener:
        first = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        first.wait_for(" open: ")
        first.signal(signal.SIGKILL)
        first.wait()
        check(os.path.exists(w.socket_file("feed")), "the dead engine's file is there")
        second = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        second.wait_for(" open: ")
        check_equal(len(second.err().splitlines()), 1, second.err())
        peer.close()
        second.ends(0)
        check_equal(w.left_behind(), [], "left behind")


def relay(w, listener, data, number, attempts):
    """One cat after the other, each ended by a signal after some bytes, the last one ends itself.
    Returns the file of each. The peer ends when the last one is there: an engine whose peer ended
    and that has no upstream ends too."""
    engine = w.engine(url_of(listener), "feed", "--inbox", "64K")
    last = threading.Event()
    sent = in_thread(send_and_end, w.accept(listener), data, last, 0.002)  # 30 MB/s: all get some
    files = []
    for attempt in range(attempts):
        wanted = random.randrange(1, 2 * len(data) // attempts)
        received = sum(map(os.path.getsize, files))
        if received + wanted >= len(data):
            break
        files.append(w.path(f"out{attempt}"))
        cat = w.cat("feed", out=files[-1])
        wait_until(lambda n=wanted: os.path.getsize(files[-1]) >= n,
                   f"{wanted} bytes from cat {attempt}")
        cat.signal(number)
        cat.ends(0 if number == signal.SIGINT else -number)
        wait_until(lambda: is_free(w, "feed"), "the engine to notice that its upstream left")
    files.append(w.path("last"))
    cat = w.cat("feed", out=files[-1])
    wait_until(lambda: not is_free(w, "feed"), "the last one to be attached")
    last.set()
    cat.stdin.close()
    cat.ends(0)
    sent()
    engine.ends(0)
    return files


@test
def row_21_upstreams_follow_each_other_byte_exactly():
    """SIGINT: what the next one prints begins exactly where the last one stopped."""
    random.seed(1)
    data = noise(12 * MIB)
    with World() as w, w.listen() as listener:
        files = relay(w, listener, data, signal.SIGINT, 5)
        check(len(files) > 2, "several took part")
        got = b"".join(map(read, files))
        check_equal(len(got), len(data), "bytes of all together")
        check(got == data, "they are the peer's")


@test
def row_21_upstreams_killed_at_random_moments():
    """SIGKILL: nothing is skipped; only what was printed and not yet released may come again."""
    data = noise(12 * MIB, 2)
    for round_ in range(10 if is_long() else 3):
        random.seed(time.monotonic_ns() if is_long() else round_)
        with World() as w, w.listen() as listener:
            position, again = 0, 0
            for path in relay(w, listener, data, signal.SIGKILL, 8):
                got = read(path)
                if not got:
                    continue
                begin = data.find(got[:64], max(0, position - 64 * 1024))
                check(begin >= 0 and begin <= position,
                      f"{path} begins at {begin}, {position} bytes were printed before")
                check(data[begin:begin + len(got)] == got, f"{path} is part of the stream")
                again += position - begin
                position = begin + len(got)
            check_equal(position, len(data), "bytes of all together")


@test
def upstream_that_leaves_without_reading_loses_nothing():
    """Attached and detached again and again while the inbox is full."""
    data = noise(256 * 1024, 3)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K")
        peer = w.accept(listener)
        sent = in_thread(send_and_end, peer, data)
        wait_until(lambda: stat(w, "feed")["inbox_unread_bytes"] > 0, "bytes in the inbox")
        with open("/dev/full", "wb") as full:
            for _ in range(5):
                cat = w.start([sluice(), "cat", "feed"], stdin=subprocess.PIPE, stdout=full)
                cat.ends(35)
                wait_until(lambda: is_free(w, "feed"), "the place to be free")
        cat = w.cat("feed")
        cat.stdin.close()
        check(in_thread(cat.stdout.read)() == data, "the whole stream, nothing twice")
        cat.ends(0)
        sent()
        engine.ends(0)


# ---- producers and observers ---------------------------------------------------------------------

def check_lines(stream, tags, count, size):
    """Whole messages of all the producers, each one's in order."""
    check_equal(len(stream), len(tags) * count * size, "bytes")
    following = dict.fromkeys(tags, 0)
    for at in range(0, len(stream), size):
        line = stream[at:at + size]
        tag = line[:1].decode()
        check(tag in following and line[13:] == b"." * (size - 14) + b"\n",
              f"a whole message at {at}: {line[:40]!r}")
        check_equal(int(line[1:13]), following[tag], f"number after {tag}")
        following[tag] += 1


@test
def producers_while_data_flows_both_ways():
    """Three producers send, the upstream receives, and sluice stat looks on 50 times."""
    data = noise(16 * MIB, 4)
    count, size = 3000, 300
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--outbox", "64K",
                          "--metadata", "64")
        peer = w.accept(listener)
        cat = w.cat("feed", out=w.path("got"))
        producers = [w.start([helper("produce"), "feed", tag, str(count), str(size)],
                             stdout=subprocess.PIPE) for tag in "ABC"]
        for producer in producers:
            check_equal(producer.stdout.readline(), b"attached\n", producer.err())
        lines = in_thread(lambda: b"".join(iter_exactly(peer, 3 * count * size)))
        over = threading.Event()
        sent = in_thread(send_slowly, peer, data, over)
        seen = [stat(w, "feed") for _ in range(50)]
        over.set()
        sent()
        stream = lines()
        for producer in producers:
            producer.ends(0)
            check_equal(producer.stdout.read(), b"done\n", producer.err())
        peer.shutdown(socket.SHUT_WR)
        cat.stdin.close()
        cat.ends(0)
        engine.ends(0)
        check(read(w.path("got")) == data, "what the upstream printed")
        check_lines(stream, "ABC", count, size)
        received = [s["counters"]["received_bytes"] for s in seen]
        check_equal(received, sorted(received), "received_bytes only grows")
        check(received[-1] > received[0], f"the data flowed meanwhile: {received}")
        check_equal({s["conn_state"] for s in seen}, {"open"}, "state")
        check_equal({s["upstream_pid"] for s in seen}, {cat.pid}, "upstream")


def iter_exactly(peer, count):
    """That many bytes of a socket."""
    while count:
        part = peer.recv(min(count, MIB))
        if not part:
            return
        count -= len(part)
        yield part


def send_slowly(peer, data, over):
    """In pieces, so that it lasts until `over` is set; then the rest at once."""
    piece = len(data) // 200
    for at in range(0, len(data), piece):
        peer.sendall(data[at:at + piece])
        over.wait(0.02)


@test
def producer_sees_what_left_though_nothing_else_happens():
    """The engine sleeps, the peer is silent, nobody is told of room: yet the outbox is seen empty."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        for tag in "ABCDE":
            producer = w.start([helper("produce"), "feed", tag, "20", "300"], stdout=subprocess.PIPE)
            check_equal(producer.stdout.read(), b"attached\ndone\n", producer.err())
            producer.ends(0)
            check_equal(len(b"".join(iter_exactly(peer, 20 * 300))), 20 * 300, "bytes")
        engine.signal(signal.SIGTERM)
        peer.close()
        engine.wait()


@test
def producer_killed_in_the_middle():
    """The stream has whole messages only, and the place is free again, 30 times (there are 7)."""
    size = 1000
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--outbox", "64K")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        chunks = []
        reading = in_thread(lambda: chunks.extend(iter(lambda: peer.recv(MIB), b"")))
        for _ in range(30):
            producer = w.start([helper("produce"), "feed", "K", "100000000", str(size)],
                               stdout=subprocess.PIPE)
            check_equal(producer.stdout.readline(), b"attached\n", producer.err())
            before = len(chunks)
            wait_until(lambda n=before: len(chunks) > n, "something to arrive")
            producer.signal(signal.SIGKILL)
            producer.wait()
        wait_until(lambda: stat(w, "feed")["producers"] == 0, "all of them to be gone")
        check_equal(stat(w, "feed")["counters"]["clients_corrupt"], 0, "clients thrown out")
        engine.signal(signal.SIGTERM)
        reading()
        peer.close()
        engine.ends(0)
        stream = b"".join(chunks)
        check_equal(len(stream) % size, 0, "bytes behind the last whole message")
        following = 0
        for at in range(0, len(stream), size):
            line = stream[at:at + size]
            check(line[:1] == b"K" and line.endswith(b".\n"), f"whole at {at}: {line[:40]!r}")
            number = int(line[1:13])
            check(number in (following, 0), f"{number} follows {following - 1}")
            following = number + 1


def start_producer(w, tag):
    """A producer that always has something to send; whether it was let in."""
    producer = w.start([helper("produce"), "feed", tag, "1000000", "1000"], stdout=subprocess.PIPE)
    return producer, producer.stdout.readline() == b"attached\n"


@test
def places_of_writers_are_counted():
    """Seven producers; the next is told; the upstream has its own place. One that was killed keeps
    its place until what it left has been sent."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--outbox", "64K")
        peer = w.accept(listener)  # reads nothing at first: the producers stay
        engine.wait_for(" open: ")
        started = [start_producer(w, chr(65 + i)) for i in range(8)]
        check_equal([let_in for _, let_in in started], [True] * 7 + [False], "let in")
        check("busy" in started[7][0].err().lower(), started[7][0].err())
        w.cat("feed")
        wait_until(lambda: not is_free(w, "feed"), "the upstream to be attached")
        started[0][0].signal(signal.SIGKILL)
        wait_until(lambda: stat(w, "feed")["producers"] == 6, "it to be missed")
        check(not start_producer(w, "Y")[1], "nothing was sent, but its place is free")
        in_thread(read_to_end, peer)
        wait_until(lambda: start_producer(w, "Z")[1], "its place")
        peer.shutdown(socket.SHUT_RDWR)


@test
def stat_of_a_stopped_engine():
    """Answers within its second and says stuck; running again, it says so."""
    if os.environ.get("TESTS_REFUSE"):
        skip("the portable build has no way to the memory of an engine that does not answer")
    for idle in ("busy", "sleep"):
        with World() as w, w.listen() as listener:
            engine = w.engine(url_of(listener), "feed", "--idle", idle)
            peer = w.accept(listener)
            cat = w.cat("feed")
            peer.sendall(b"x" * 1000)
            check_equal(len(cat.stdout.read(1000)), 1000, "bytes")
            engine.stop()
            answer = w.run("stat", "feed")
            check_equal(answer.code, 0, answer.err)
            check(b"stuck" in answer.out, answer.out.decode())
            check(answer.seconds < 3, f"took {answer.seconds:.1f} s")
            seen = stat(w, "feed")
            check_equal((seen["engine_state"], seen["answered"]), ("stuck", False), "stopped")
            check_equal(seen["engine_pid"], engine.pid, "pid")
            check_equal(seen["counters"]["received_bytes"], 1000, "received_bytes")
            check_equal(seen["upstream_pid"], cat.pid, "upstream")
            engine.signal(signal.SIGCONT)
            seen = stat(w, "feed")
            check(seen["engine_state"] in ("running", "asleep") and seen["answered"], str(seen))
            peer.close()
            cat.ends(0)
            engine.ends(0)


@test
def row_24_two_engines():
    """Two names, two streams, nothing mixed."""
    one, two = noise(4 * MIB, 5), noise(4 * MIB, 6)
    with World() as w, w.listen() as listener:
        engines = [w.engine(url_of(listener), "one")]
        peers = [w.accept(listener)]
        engines.append(w.engine(url_of(listener), "two"))
        peers.append(w.accept(listener))
        cats = [w.cat("one", out=w.path("one")), w.cat("two", out=w.path("two"))]
        ends = [in_thread(send_and_end, peer, data)
                for peer, data in zip(peers, (one, two))]
        for cat in cats:
            cat.stdin.close()
        for end in ends:
            end()
        for process in cats + engines:
            process.ends(0)
        check(read(w.path("one")) == one and read(w.path("two")) == two, "each its own")
        check_equal(w.left_behind(), [], "left behind")


@test
def cat_with_a_name_is_an_engine_others_can_look_into():
    with World() as w, w.listen() as listener:
        cat = w.cat(url_of(listener), "--name", "inline")
        peer = w.accept(listener)
        peer.sendall(b"hello")
        check_equal(cat.stdout.read(5), b"hello", "stdout")
        check_equal(stat(w, "inline")["counters"]["received_bytes"], 5, "received_bytes")
        peer.close()
        cat.ends(0)
        check_equal(w.left_behind(), [], "left behind")


# ---- stalls --------------------------------------------------------------------------------------

def send_until_blocked(peer, data):
    """How many bytes go out before the other side takes no more for half a second."""
    peer.setblocking(False)
    sent = 0
    while sent < len(data):
        if not select.select([], [peer], [], 0.5)[1]:
            break
        with contextlib.suppress(BlockingIOError):
            sent += peer.send(data[sent:sent + MIB])
    peer.settimeout(15)
    return sent


@test
def row_19_stalled_upstream_pushes_back():
    """A stopped cat: the peer's send blocks, nothing is lost, all arrives when it goes on."""
    data = noise(24 * MIB, 7)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--rcvbuf", "64K")
        peer = w.accept(listener)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        cat = w.cat("feed", out=w.path("got"))
        wait_until(lambda: not is_free(w, "feed"), "the upstream to be attached")
        cat.stop()
        sent = send_until_blocked(peer, data)
        check(sent < len(data) // 4, f"{sent} bytes went out with nobody reading")
        seen = stat(w, "feed")
        check_equal(seen["engine_state"] in ("running", "asleep"), True, seen["engine_state"])
        check(seen["inbox_unread_bytes"] > 32 * 1024, f"unread: {seen['inbox_unread_bytes']}")
        check(seen["counters"]["inbox_full_stalls"] > 0, "inbox_full_stalls")
        cat.signal(signal.SIGCONT)
        send_all = in_thread(send_and_end, peer, data[sent:])
        cat.stdin.close()
        send_all()
        cat.ends(0)
        engine.ends(0)
        check(read(w.path("got")) == data, "the whole stream")


@test
def row_14_stalled_peer_pushes_back():
    """A peer that does not read: cat's stdin blocks, nothing is lost, all arrives when it reads."""
    data = noise(24 * MIB, 8)
    with World() as w, w.listen(rcvbuf=65536) as listener:
        engine = w.engine(url_of(listener), "feed", "--outbox", "64K", "--sndbuf", "64K")
        peer = w.accept(listener)
        cat = w.cat("feed")
        os.set_blocking(cat.stdin.fileno(), False)
        taken = 0
        while select.select([], [cat.stdin], [], 0.5)[1]:
            taken += os.write(cat.stdin.fileno(), data[taken:taken + 65536])
            check(taken < len(data) // 4, f"cat takes {taken} bytes with nobody reading")
        os.set_blocking(cat.stdin.fileno(), True)
        got = in_thread(read_to_end, peer)
        cat.stdin.write(data[taken:])
        cat.stdin.close()
        check(got() == data, "the whole stream")
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def row_20_small_rings_big_stream():
    """200 MB through the smallest rings, both idle modes that sleep and spin."""
    size = 200_000_000 // SLOWER
    block = noise(MIB, 9)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--metadata", "64")
        peer = w.accept(listener)
        cat = w.cat("feed")
        cat.stdin.close()
        wanted = hashlib.sha256()

        def send():
            left = size
            while left:
                part = block[:min(left, MIB)]
                peer.sendall(part)
                wanted.update(part)
                left -= len(part)
            peer.shutdown(socket.SHUT_WR)

        sent = in_thread(send)
        got, total = hashlib.sha256(), 0
        while True:
            part = cat.stdout.read1(MIB)
            if not part:
                break
            got.update(part)
            total += len(part)
        sent()
        check_equal(total, size, "bytes")
        check_equal(got.hexdigest(), wanted.hexdigest(), "hash")
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def echo_of_everything_at_once():
    """Both directions at full speed through small rings: no deadlock, nothing lost."""
    data = noise(16 * MIB, 10)

    def echo(peer):
        while True:
            part = peer.recv(65536)
            if not part:
                return
            peer.sendall(part)

    for idle in ("sleep", "busy", "spin"):
        with World() as w:
            url = w.serve(echo)
            answer = w.run("cat", url, "--inbox", "64K", "--outbox", "64K", "--metadata", "64",
                           "--idle", idle, stdin=data)
            check_equal(answer.code, 0, answer.err)
            check(answer.out == data, f"{idle}: {len(answer.out)} bytes of {len(data)}")


# ---- ends ----------------------------------------------------------------------------------------

def fill_outbox(w, listener, *flags):
    """An engine whose producer has messages that the peer does not take yet."""
    engine = w.engine(url_of(listener), "feed", "--sndbuf", "16K", *flags)
    peer = w.accept(listener)
    engine.wait_for(" open: ")
    producer = w.start([helper("produce"), "feed", "P", "3000", "300"], stdout=subprocess.PIPE)
    check_equal(producer.stdout.readline(), b"attached\n", producer.err())

    def settled():
        before = stat(w, "feed")["counters"]["sent_bytes"]
        time.sleep(0.1)  # nothing says "no more will follow" but that nothing does
        return before == stat(w, "feed")["counters"]["sent_bytes"]
    wait_until(settled, "the peer's window to be full")
    check(stat(w, "feed")["counters"]["sent_messages"] < 3000, "messages are left in the outbox")
    return engine, peer, producer


@test
def row_64_sigterm_drains():
    """The peer gets all that was committed, then FIN; the engine ends with 0."""
    with World() as w, w.listen(rcvbuf=16384) as listener:
        engine, peer, _ = fill_outbox(w, listener)
        engine.signal(signal.SIGTERM)
        engine.wait_for("ending in order")
        stream = in_thread(read_to_end, peer)()
        peer.close()
        engine.ends(0)
        check_lines(stream, "P", 3000, 300)
        check(" 0 messages left" in engine.err(), engine.err())
        check_equal(w.left_behind(), [], "left behind")


@test
def row_65_second_sigterm_ends_at_once():
    """What could not be sent is counted, the peer sees the end."""
    with World() as w, w.listen(rcvbuf=16384) as listener:
        engine, peer, _ = fill_outbox(w, listener)
        engine.signal(signal.SIGTERM)
        engine.wait_for("ending in order")
        check(engine.running(), "it waits for the peer")
        began = time.monotonic()
        engine.signal(signal.SIGTERM)
        engine.wait(3)
        check(time.monotonic() - began < 1, "at once")
        check("messages left" in engine.err() and " 0 messages left" not in engine.err(),
              engine.err())
        with contextlib.suppress(ConnectionResetError):
            read_to_end(peer)
        check_equal(w.left_behind(), [], "left behind")


@test
def row_64_sigterm_with_a_peer_that_never_ends():
    """The drain has a limit: the engine ends although the peer does not close."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        engine.signal(signal.SIGTERM)
        check_equal(read_to_end(peer), b"", "FIN comes at once")
        engine.wait(8)
        check_equal(w.left_behind(), [], "left behind")


@test
def sigterm_ends_the_cat_that_is_attached():
    """It has all the bytes, and ends with the engine's end in order."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        cat = w.cat("feed")
        peer.sendall(b"before")
        check_equal(cat.stdout.read(6), b"before", "stdout")
        engine.signal(signal.SIGTERM)
        engine.wait_for("ending in order")
        check_equal(read_to_end(peer), b"", "FIN")
        peer.sendall(b"after")
        peer.close()
        check_equal(cat.stdout.read(), b"after", "what the peer still sent")
        cat.ends(0)
        engine.ends(0)


@test
def row_21_without_an_upstream_what_comes_is_given_up_if_told_so():
    """And counted; the peer never waits, and whoever attaches reads on from there without a gap."""
    gone, seen = noise(8 * MIB, 3), noise(MIB, 4)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--no-upstream", "discard")
        peer = w.accept(listener)
        for sent in (8 * MIB, 17 * MIB):
            peer.sendall(gone)
            wait_until(lambda sent=sent: stat(w, "feed")["counters"]["received_bytes"] == sent,
                       "all of it to arrive")
            cat = w.cat("feed")
            wait_until(lambda: not is_free(w, "feed"), "the upstream")
            peer.sendall(seen)
            check_equal(cat.stdout.read(MIB) == seen, True, "what came while it was there")
            cat.end()
            wait_until(lambda: is_free(w, "feed"), "its end")
        counters = stat(w, "feed")["counters"]
        check_equal(counters["received_bytes"], 18 * MIB, "received")
        check(counters["discarded_bytes"] >= 16 * MIB - (64 << 10), f"{counters}")
        peer.close()
        engine.ends(0)


@test
def row_21_who_says_hello_and_no_more_holds_nothing_up():
    """Its place as the upstream is free a second later, whoever else comes or not."""
    hello = struct.pack("<HHIIiQ", 0x6c73, 1, 2, 1, 0, 0)  # rings/layout.h: struct link_message
    with World() as w, w.listen() as listener, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as half:
        engine = w.engine(url_of(listener), "feed", "--inbox", "64K", "--no-upstream", "discard")
        peer = w.accept(listener)
        half.connect(os.path.join(w.runtime, "sluice", "feed.sock"))
        half.sendall(hello)
        check_equal(struct.unpack("<HHIIiQ", half.recv(24))[:5], (0x6c73, 3, 2, 0, 0), "its welcome")
        in_thread(peer.sendall, noise(2 * MIB, 3))
        wait_until(lambda: stat(w, "feed")["counters"]["received_bytes"] == 2 * MIB, "all of it to arrive")
        check_equal(half.recv(24), b"", "what it is told")
        peer.close()
        engine.ends(0)


@test
def upstream_that_comes_late_gets_everything():
    """All of it arrived before anybody attached."""
    data = noise(500_000, 11)
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        peer.sendall(data)
        wait_until(lambda: stat(w, "feed")["counters"]["received_bytes"] == len(data), "bytes")
        cat = w.cat("feed")
        wait_until(lambda: not is_free(w, "feed"), "the upstream to be attached")
        peer.shutdown(socket.SHUT_WR)
        cat.stdin.close()
        check(in_thread(cat.stdout.read)() == data, "the whole stream")
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def unread_bytes_are_named_at_the_end():
    """Nobody read them: the engine says how many."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        peer.sendall(b"x" * 12345)
        wait_until(lambda: stat(w, "feed")["counters"]["received_bytes"] == 12345, "bytes")
        peer.close()
        engine.signal(signal.SIGTERM)
        engine.wait(8)
        check("12345 received bytes" in engine.err(), engine.err())


@test
def counters_add_up():
    """stat, the record and the truth agree."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        cat = w.cat("feed")
        peer.sendall(b"y" * 100_000)
        check_equal(len(cat.stdout.read(100_000)), 100_000, "bytes")
        cat.stdin.write(b"z" * 50_000)
        cat.stdin.flush()
        check_equal(len(b"".join(iter_exactly(peer, 50_000))), 50_000, "bytes at the peer")
        wait_until(lambda: stat(w, "feed")["inbox_unread_bytes"] == 0, "all to be released")
        seen = stat(w, "feed")
        check_equal((seen["counters"]["received_bytes"], seen["counters"]["sent_bytes"]),
                    (100_000, 50_000), "received and sent")
        check_equal((seen["ready_tcp"], seen["ready_upstream"]), (True, True), "ready")
        peer.close()
        cat.ends(0)
        engine.ends(0)
        for part in ("received 100000 B", "50000 B", "peer-close"):
            check(part in engine.err(), f"'{part}' in {engine.err()}")


main()
