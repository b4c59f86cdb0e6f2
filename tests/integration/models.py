"""Which thread runs which path: the choice and its reason, cores, refusals, a thread that fails.
Clients that come and go while another thread holds the inbox are life.py's too, on libev."""
import glob
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from refusal import clean, ends_saying, says
from tap import check, check_equal, fail, is_long, main, skip, sluice, source_dir, test
from tls_peer import cert, context, in_kernel, kernel_has_tls, serve_tls, trusted
from world import (LIMIT_S, World, free_port, helper, in_thread, is_sanitized, need, read, stat, url_of,
                   wait_until)

STOPPED_S = 10 if is_long() else 1
QUICK_BYTES = 16 << 10  # SLUICE_NOWAIT_BYTES_MAX
SLEEPS = "voluntary_ctxt_switches"
THREADS = {"single": [], "two-thread": ["sluice-rx"], "three-thread": ["sluice-rx", "sluice-tx"]}


def noise(size):
    """The same random bytes each time."""
    return random.Random(9).randbytes(size)


def echo(peer):
    """What came goes back, to the end."""
    while data := peer.recv(65536):
        peer.sendall(data)
    if hasattr(peer, "unwrap"):
        peer.unwrap()


def tasks_of(engine, field):
    """What the kernel says of each thread, by the thread's name."""
    found = {}
    for task in glob.glob(f"/proc/{engine.pid}/task/*/status"):
        with open(task, encoding="ascii") as file:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        found[lines["Name"]] = lines[field]
    return found


def threads_of(engine):
    """Where each may run."""
    return tasks_of(engine, "Cpus_allowed_list")


def probe(w):
    """What sluice says this machine offers."""
    return json.loads(w.run("probe", "--json").out)


def has_uring(w):
    """Whether auto takes io_uring here."""
    return " on uring" in probe(w)["auto_tcp"]["model"]


def runs(w, url, model, *flags):
    """An engine that says what it runs, and does; some bytes go there and back."""
    data = noise(2 << 20)
    engine = w.engine(url, "feed", *flags)
    line = engine.wait_for(" open: ")
    state = stat(w, "feed")
    check(f"; model {model} ({state['model_reason']}); " in line, line)
    check_equal(state["model"], model, "stat")
    check_equal(sorted(set(threads_of(engine)) - {"sluice"}), THREADS[model], "threads")
    got = w.run("cat", "feed", stdin=data)
    check_equal(got.code, 0, got.err)
    check(got.out == data, f"{model}: {len(got.out)} bytes came back")
    engine.ends(0)
    clean(w)
    return line


@test
def auto_chooses_by_what_the_connection_is():
    with World() as w:
        uring = has_uring(w)
        line = runs(w, w.serve(echo), "single" if uring else "two-thread")
        check("plain TCP on uring" in line or not uring, line)
        line = runs(w, w.serve(echo), "two-thread", "--backend", "ev")
        check("plain TCP on ev:epoll, receiving on ev:epoll" in line, line)
        url = serve_tls(w, echo, context())
        line = runs(w, url, "three-thread", *trusted(), "--ktls", "off")
        check("TLS in user space, on " in line and "sockets on ev:" in line, line)
        if in_kernel():
            line = runs(w, url, "two-thread", *trusted(), "--backend", "ev")
            check("TLS in the kernel, on ev:epoll, receiving on ev:epoll" in line, line)
        said = probe(w)
        check_equal(said["auto_tcp"]["model"].split(" ")[0], "single" if uring else "two-thread",
                    "probe")
        check_equal(said["auto_tls"]["model"].split(" ")[0],
                    said["auto_tcp"]["model"].split(" ")[0] if kernel_has_tls() else "three-thread",
                    "probe, TLS")


@test
def what_is_asked_for_runs():
    with World() as w:
        for model in ("single", "two-thread"):
            check("asked for" in runs(w, w.serve(echo), model, "--model", model), model)
        url = serve_tls(w, echo, context())
        for model in ("single", "three-thread"):
            line = runs(w, url, model, *trusted(), "--model", model, "--ktls", "off")
            check("asked for" in line, line)
        stamped = ("--timestamps", "software")
        runs(w, w.serve(echo), "two-thread", "--model", "two-thread", *stamped)
        line = runs(w, url, "three-thread", *trusted(), *stamped)
        check("user space (--timestamps: " in line, line)
        if in_kernel():
            runs(w, url, "two-thread", *trusted(), "--model", "two-thread")
            runs(w, url, "three-thread", *trusted(), "--model", "three-thread")


@test
def busy_threads_want_a_core_each():
    """Fewer: auto does without threads and says why; what is asked for by name stays."""
    one_core = str(min(os.sched_getaffinity(0)))
    lacking = "busy, and fewer cores than threads"
    with World() as w:
        plain, tls = w.serve(echo), serve_tls(w, echo, context())
        secure = [*trusted(), "--ktls", "off"]
        cases = [(plain, "single", lacking, ["--backend", "ev"]),
                 (plain, "two-thread", "asked for", ["--backend", "ev", "--model", "two-thread"]),
                 (tls, "single", lacking, secure),
                 (tls, "three-thread", "asked for", [*secure, "--model", "three-thread"])]
        if has_uring(w):
            cases += [(plain, "single", "plain TCP on uring", [])]  # it lacks no core
        for url, model, why, flags in cases:
            engine = w.start([need("taskset"), "-c", one_core, sluice(), "run", url, "--name",
                              "feed", "--busy", *flags])
            line = engine.wait_for(" open: ")
            reason = line.partition(f"; model {model} (")[2].partition(")")[0]
            check(reason.endswith(why), f"{flags}: {line}")
            check_equal(sorted(set(threads_of(engine)) - {"sluice"}), THREADS[model], "threads")
            engine.signal(signal.SIGTERM)
            engine.ends(0)
        clean(w)


@test
def what_cannot_be_is_refused():
    with World() as w:
        nobody = f"127.0.0.1:{free_port()}"  # these are refused before anything is tried
        two, three = ("--model", "two-thread"), ("--model", "three-thread")
        says(w.run("run", f"tcp://{nobody}", *three), 39, "three-thread", "user space",
             "take two-thread")
        says(w.run("run", f"tls://{nobody}", *trusted(), *two, "--ktls", "off"), 39, "two-thread",
             "user space", "take three-thread")
        says(w.run("run", f"tls://{nobody}", *trusted(), *three, "--ktls", "require"), 39,
             "three-thread", "--ktls off")
        plain, tls = w.serve(echo), serve_tls(w, echo, context())
        says(w.run("run", tls, *trusted(), "--timestamps", "software", "--ktls", "require"), 39,
             "--timestamps", "--ktls auto")
        engine = w.start([sluice(), "run", plain, "--timestamps", "hardware"])
        ends_saying(engine, 39, "--timestamps hardware: interface lo: ", "take software")
        if not in_kernel():  # known only after the handshake
            engine = w.start([sluice(), "run", tls, *trusted(), *two])
            ends_saying(engine, 39, "two-thread", "user space", "take three-thread")
        clean(w)


@test
def each_thread_has_its_core():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        skip("one core")
    with World() as w:
        wish = [cores[0], cores[1], cores[0]]
        url = serve_tls(w, echo, context())
        engine = w.engine(url, "feed", *trusted(), "--ktls", "off", "--core",
                          ",".join(map(str, wish)))
        engine.wait_for(" open: ")
        check_equal(threads_of(engine), dict(zip(("sluice", "sluice-rx", "sluice-tx"),
                                                 map(str, wish))), "cores")
        engine.signal(signal.SIGTERM)
        engine.ends(0)
        engine = w.engine(url, "feed", *trusted(), "--ktls", "off", "--core", str(cores[1]))
        engine.wait_for(" open: ")
        found = threads_of(engine)
        check_equal(found["sluice"], str(cores[1]), "the engine's")
        check(found["sluice-rx"] == found["sluice-tx"] != str(cores[1]), f"not on its core: {found}")
        engine.signal(signal.SIGTERM)
        engine.ends(0)


@test
def cores_that_are_none_are_refused():
    with World() as w:
        url = w.serve(echo)
        for text in ("1,", ",1", "1,2,3,4", "x", "1,-2", "0,5000"):
            says(w.run("run", url, "--core", text), 2, f"'{text}'")
        core = min(os.sched_getaffinity(0))
        for text in ("1023", f"{core},1023", f"{core},{core},1023"):
            says(w.run("run", url, "--core", text), 2, "1023", "no such core")
        clean(w)


def there_and_back(cat, message):
    """False: cat has come to its end."""
    try:
        cat.stdin.write(message)
        cat.stdin.flush()
    except BrokenPipeError:
        return False
    got = cat.stdout.read(len(message))
    check_equal(got, message[:len(got)], "what came back")
    return got == message


def is_missed(w, tracer, failure):
    """A thread that broke is; strace may not have broken it."""
    trace = read(w.path("trace")).decode()
    check("INJECTED" not in trace, failure)
    skip(f"strace broke nothing, its last lines: {' '.join((tracer.err() + trace).split(chr(10))[-3:])}")


def breaks_in(w, thread, url, *flags):
    """The epoll_wait of that thread breaks, that of nobody else: strace looks at it alone. Each message is
    long enough for the thread that sends.
    """
    message = noise(QUICK_BYTES + 1)
    engine = w.engine(url, "feed", *flags)
    engine.wait_for(" open: ")
    cat = w.cat("feed")
    check(there_and_back(cat, message), "before")
    tracer = w.start([need("strace"), "-o", w.path("trace"), "-p", tasks_of(engine, "Pid")[thread],
                      "-e", "trace=epoll_wait", "-e", "inject=epoll_wait:error=EBADF:when=2"])
    deadline = time.monotonic() + LIMIT_S
    while there_and_back(cat, message):
        if not tracer.running() and "attached" not in tracer.err():
            skip(f"strace may not look: {tracer.err().strip()}")
        if time.monotonic() >= deadline:
            is_missed(w, tracer, f"{thread} is not missed: {engine.err()}")
        time.sleep(0.02)
    ends_saying(engine, 1, "internal")
    check("a thread's event loop: Bad file descriptor" in engine.err(), engine.err())
    check_equal(cat.wait(), 1, f"the upstream is told: {cat.err()}")
    clean(w)


@test
def row_74_a_thread_that_fails_ends_the_engine_in_order():
    if is_sanitized():
        skip("LeakSanitizer does not work under strace")
    with World() as w:
        tls = [*trusted(), "--ktls", "off"]
        breaks_in(w, "sluice-rx", w.serve(echo), "--model", "two-thread")
        breaks_in(w, "sluice-rx", w.serve(echo), "--backend", "ev")
        for thread in THREADS["three-thread"]:
            breaks_in(w, thread, serve_tls(w, echo, context()), *tls)


@test
def a_sender_that_sleeps_is_not_woken_for_what_is_quick():
    with World() as w:
        engine = w.engine(serve_tls(w, echo, context()), "feed", *trusted(), "--ktls", "off", "--model", "three-thread")
        engine.wait_for(" open: ")
        cat = w.cat("feed")
        check(there_and_back(cat, b"x"), "before")

        def wakes(message):
            before = tasks_of(engine, SLEEPS)["sluice-tx"]
            for _ in range(20):
                check(there_and_back(cat, message), "there and back")
            return int(tasks_of(engine, SLEEPS)["sluice-tx"]) - int(before)
        check(wakes(b"x") <= 2, "woken for one byte")
        check(wakes(noise(QUICK_BYTES + 1)) >= 10, "not used for what is long")


# ---- who comes, goes and stops -------------------------------------------------------------------

def whole_messages(stream, size):
    """Those of producers that followed each other: each begins at 0 and leaves nothing out."""
    check_equal(len(stream) % size, 0, "bytes behind the last whole message")
    following = 0
    for at in range(0, len(stream), size):
        line = stream[at:at + size]
        check(line[:1] == b"P" and line[13:] == b"." * (size - 14) + b"\n",
              f"a whole message at {at}: {line[:40]!r}")
        check(int(line[1:13]) in (0, following), f"{line[1:13]} follows {following - 1}")
        following = int(line[1:13]) + 1


def left_at(w):
    """Where the next upstream begins, once the inbox is full and nothing moves any more."""
    seen = []

    def settled():
        state = stat(w, "feed")
        seen.append((state["counters"]["received_bytes"], state["inbox_unread_bytes"],
                     state["upstream_pid"]))
        return len(seen) > 1 and seen[-1] == seen[-2] and seen[-1][1] > 0 and not seen[-1][2]
    wait_until(settled, "the inbox to be full with nobody reading")
    return seen[-1][0] - seen[-1][1]


@test
def clients_come_and_go_while_another_thread_receives():
    """The main loop on io_uring, the receiving one on libev: producers and observers all the time, upstreams
    that are killed. The next one begins exactly where the last one had released.
    """
    data, size, messages = noise(24 << 20), 300, 50
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--model", "two-thread", "--inbox", "64K",
                          "--metadata", "64", "--rcvbuf", "64K")
        peer = w.accept(listener)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        engine.wait_for(" open: ")
        chunks, over, may_end = [], threading.Event(), threading.Event()

        def send():
            for at in range(0, len(data), 65536):
                peer.sendall(data[at:at + 65536])
            may_end.wait(LIMIT_S)
            peer.shutdown(socket.SHUT_WR)

        def produce():
            count = 0
            while not over.is_set():
                answer = w.run("feed", "P", str(messages), str(size), program=[helper("produce")])
                check_equal((answer.code, answer.out), (0, b"attached\ndone\n"), answer.err)
                count += 1
            return count

        def look():
            seen = []
            while not over.is_set():
                seen.append(stat(w, "feed"))
            return seen

        sending = in_thread(send)
        receiving = in_thread(lambda: chunks.extend(iter(lambda: peer.recv(1 << 20), b"")))
        guests = in_thread(produce), in_thread(look)
        begin = 0
        for attempt in range(4):
            path = w.path(f"out{attempt}")
            cat = w.cat("feed", out=path)
            if attempt < 3:
                wait_until(lambda p=path: os.path.getsize(p) > len(data) // 8, "bytes of it")
                cat.signal(signal.SIGKILL)
                cat.wait()
                end = left_at(w)
            else:
                wait_until(lambda p=path, b=begin: os.path.getsize(p) >= len(data) - b, "the rest")
                over.set()
                runs_of_producers, seen = (guest() for guest in guests)
                may_end.set()
                cat.stdin.close()
                cat.ends(0)
                end = len(data)
            with open(path, "rb") as file:
                got = file.read()
            check(begin < end <= begin + len(got), f"{attempt}: {begin} to {end}, {len(got)} bytes")
            check(got == data[begin:begin + len(got)], f"upstream {attempt} begins at {begin}")
            begin = end
        sending()
        receiving()
        peer.close()
        engine.ends(0)
        check_equal({(s["conn_state"], s["model"]) for s in seen}, {("open", "two-thread")}, "seen")
        received = [s["counters"]["received_bytes"] for s in seen]
        check_equal(received, sorted(received), "received_bytes only grows")
        check_equal(seen[-1]["counters"]["clients_corrupt"], 0, "clients thrown out")
        stream = b"".join(chunks)
        check_equal(len(stream), runs_of_producers * messages * size, "bytes of producers")
        whole_messages(stream, size)
        clean(w)


class Flow:
    """A stream through cat and back, which waits at each quarter until it is let on."""

    def __init__(self, cat, data):
        self.cat, self.data = cat, data
        self.allowed = len(data) // 4
        self.changed = threading.Condition()
        self.got = bytearray()
        self.feeding, self.reading = in_thread(self._feed), in_thread(self._read)

    def _feed(self):
        for at in range(0, len(self.data), 65536):
            with self.changed:
                self.changed.wait_for(lambda n=at: n < self.allowed, LIMIT_S)
            self.cat.stdin.write(self.data[at:at + 65536])
        self.cat.stdin.close()

    def _read(self):
        while part := self.cat.stdout.read1(1 << 20):
            self.got += part

    def goes_on(self):
        """Another quarter."""
        with self.changed:
            self.allowed += len(self.data) // 4
            self.changed.notify()

    def stops_with(self, process):
        """SIGSTOP in the middle of a quarter: nothing passes him; then it goes on."""
        before = len(self.got)
        wait_until(lambda: len(self.got) > before, "the stream")
        process.stop()
        self.goes_on()
        time.sleep(STOPPED_S - 0.3)
        settled = len(self.got)
        time.sleep(0.3)
        check(process.is_stopped(), f"{process.name()} is stopped")
        check_equal(len(self.got), settled, f"bytes pass {process.name()}, which is stopped")
        check(settled < len(self.data), "the stream is over")
        process.signal(signal.SIGCONT)


@test
def row_66_who_is_stopped_goes_on():
    """SIGSTOP of upstream, peer and engine in turn, bytes under way in both directions."""
    data = noise(16 << 20)
    for model in ("two-thread", "three-thread"):
        tls = model == "three-thread"
        with World() as w:
            peer = w.start([sys.executable,
                            os.path.join(source_dir(), "tests/integration/echo_peer.py"),
                            *([cert("good.chain"), cert("good.key")] if tls else [])],
                           stdout=subprocess.PIPE)
            port = int(peer.stdout.readline() or fail(peer.err()))
            engine = w.engine(f"{'tls' if tls else 'tcp'}://127.0.0.1:{port}", "feed", "--model", model,
                              *([*trusted(), "--ktls", "off"] if tls else []), "--inbox", "64K",
                              "--outbox", "64K", "--rcvbuf", "64K", "--sndbuf", "64K")
            line = engine.wait_for(" open: ")
            check(f"; model {model} (" in line, line)
            cat = w.cat("feed")
            flow = Flow(cat, data)
            for process in (cat, peer, engine):
                flow.stops_with(process)
            flow.feeding()
            flow.reading()
            check_equal(len(flow.got), len(data), "bytes")
            check(flow.got == data, "byte for byte")
            for process in (cat, engine, peer):
                process.ends(0)
            clean(w)


main()
