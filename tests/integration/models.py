"""Which thread runs which path: the choice and its reason, cores, refusals, a thread that fails.
Clients that come and go while another thread holds the inbox are life.py's, on libev."""
import glob
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

from refusal import clean, ends_saying, says
from tap import check, check_equal, main, skip, sluice, test
from tls_peer import context, in_kernel, kernel_has_tls, serve_tls, trusted
from world import LIMIT_S, World, in_thread, is_sanitized, need, url_of

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


def threads_of(engine):
    """Names of those beside the main one, and where each may run."""
    found = {}
    for task in glob.glob(f"/proc/{engine.pid}/task/*/status"):
        with open(task, encoding="ascii") as file:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        found[lines["Name"]] = lines["Cpus_allowed_list"]
    return found


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
    state = json.loads(w.run("stat", "feed", "--json").out)
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
    with World() as w, w.listen() as listener:
        one_core = str(min(os.sched_getaffinity(0)))
        for flags, model in ((["--backend", "ev"], "single"),
                             (["--backend", "ev", "--model", "two-thread"], "two-thread")):
            engine = w.start([need("taskset"), "-c", one_core, sluice(), "run", url_of(listener),
                              "--name", "feed", "--busy", *flags])
            peer = w.accept(listener)
            line = engine.wait_for(" open: ")
            check(f"; model {model} (" in line, line)
            check("busy, and fewer cores than threads" in line or model != "single", line)
            peer.close()
            engine.ends(0)


@test
def what_cannot_be_is_refused():
    with World() as w:
        plain, tls = w.serve(echo), serve_tls(w, echo, context())
        two, three = ("--model", "two-thread"), ("--model", "three-thread")
        says(w.run("run", plain, *three), 39, "three-thread", "user space", "take two-thread")
        says(w.run("run", tls, *trusted(), *two, "--ktls", "off"), 39, "two-thread", "user space",
             "take three-thread")
        says(w.run("run", tls, *trusted(), *three, "--ktls", "require"), 39, "three-thread",
             "--ktls off")
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
        for text in ("1,", "1,2,3,4", "x", "1,-2", "0,5000"):
            says(w.run("run", url, "--core", text), 2, f"'{text}'")
        says(w.run("run", url, "--core", f"{cores[0]},1023"), 2, "1023", "no such core")


@test
def a_thread_that_fails_ends_the_engine_in_order():
    """Its epoll_wait breaks, that of nobody else: the main loop is on io_uring."""
    if is_sanitized():
        skip("LeakSanitizer does not work under strace")
    with World() as w, w.listen() as listener:
        if not has_uring(w):
            skip("the main loop would break as well: no io_uring")
        engine = w.engine(url_of(listener), "feed", "--model", "two-thread")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        tracer = w.start([need("strace"), "-f", "-o", w.path("trace"), "-p", str(engine.pid),
                          "-e", "trace=epoll_wait", "-e", "inject=epoll_wait:error=EBADF:when=2"])
        deadline = time.monotonic() + 10
        while engine.running() and time.monotonic() < deadline:
            if not tracer.running():
                skip(f"strace may not look: {tracer.err().strip()}")
            peer.send(b"x")
            time.sleep(0.02)
        ends_saying(engine, 1, "internal")
        check("a thread's event loop: Bad file descriptor" in engine.err(), engine.err())
        clean(w)


def send_all_slowly(peer, data, pauses):
    """In pieces; after some of them something is done to somebody."""
    pieces = [data[at:at + 65536] for at in range(0, len(data), 65536)]
    for number, piece in enumerate(pieces):
        peer.sendall(piece)
        if number % (len(pieces) // 4) == 1 and pauses:
            pauses.pop(0)()


@test
def who_is_stopped_goes_on():
    """SIGSTOP of upstream, engine and peer in turn: the stream goes on where it stopped."""
    data = noise(8 << 20)
    for tls in (False, True):
        with World() as w:
            plan, ready = [], threading.Event()

            def script(peer, plan=plan, ready=ready):
                ready.wait(LIMIT_S)
                send_all_slowly(peer, data, plan)
                if hasattr(peer, "unwrap"):
                    peer.unwrap()
                else:
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(1)

            url = serve_tls(w, script, context()) if tls else w.serve(script)
            flags = [*trusted(), "--ktls", "off"] if tls else ["--backend", "ev"]

            def stop(process, seconds=0.5):
                process.stop()
                time.sleep(seconds)
                process.signal(signal.SIGCONT)

            # The peer is us: it stops by not going on.
            plan += [lambda: in_thread(stop, w.processes[1]), lambda: time.sleep(0.7),
                     lambda: in_thread(stop, w.processes[0]), lambda: time.sleep(0.7)]
            engine = w.start([sluice(), "run", url, "--name", "feed", "--inbox", "64K", *flags])
            engine.wait_for(" open: ")
            cat = w.start([sluice(), "cat", "feed"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE)
            ready.set()
            got = in_thread(cat.stdout.read)()
            check_equal(plan, [], "stops that did not come")
            check_equal(len(got), len(data), "bytes")
            check(got == data, "byte for byte")
            cat.ends(0)
            engine.ends(0)
            check("three-thread" in engine.err() if tls else "two-thread" in engine.err(),
                  engine.err())


main()
