"""Nothing to do costs nothing: no system call when busy, no wake-up when asleep. Looks with strace."""
import contextlib
import glob
import os
import signal
import time

from tap import check, check_equal, main, skip, test
from tls_peer import context, serve_tls, trusted
from world import World, backend, need, url_of, wait_until

WATCHED_S = 2.0


def tracer_of(pid):
    """Pid of who traces it, 0: nobody."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("TracerPid"))


def switches(pid):
    """Voluntary context switches of all its threads: one for each time it went to sleep."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file
                         if line.startswith("voluntary_ctxt_switches"))
    return total


def settled(process):
    """No switch in a tenth of a second."""
    before = switches(process.pid)
    time.sleep(0.1)
    return switches(process.pid) == before


@contextlib.contextmanager
def traced(w, process):
    """strace on it; gives the path of what it writes, once it writes."""
    out = w.path("strace")
    strace = w.start([need("strace"), "-f", "-o", out, "-p", str(process.pid)])
    wait_until(lambda: tracer_of(process.pid) == strace.pid or not strace.running(), "strace")
    if not strace.running():
        skip(f"strace may not look: {strace.err().strip()}")
    yield out
    strace.signal(signal.SIGINT)
    strace.wait()


def read(path):
    """A text."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def calls_while_idle(w, process):
    """What strace shows over WATCHED_S, after the interruption of attaching itself has passed."""
    with traced(w, process) as out:
        before = None
        while before != read(out):  # attaching restarts the call it sleeps in
            before = read(out)
            time.sleep(0.2)
        time.sleep(WATCHED_S)
        return read(out)[len(before):]


def check_it_is_seen(w, process, peer):
    """The same look does see something when something happens."""
    with traced(w, process) as out:
        before = len(read(out))
        peer.sendall(b"wake up")
        wait_until(lambda: len(read(out)) > before, "a system call in strace's output")


@contextlib.contextmanager
def idle_engine(*flags):
    """A world with an engine whose connection is open and has carried something."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", *flags)
        peer = w.accept(listener)
        cat = w.cat("feed")
        peer.sendall(b"x")
        check_equal(cat.stdout.read(1), b"x", "stdout")
        wait_until(lambda: b'"ready_upstream": true' in w.run("stat", "feed", "--json").out,
                   "the upstream to be seen")
        yield w, engine, peer, cat
        answer = w.run("stat", "feed")
        check_equal(answer.code, 0, f"stat afterwards\n{answer.err}")
        check(b" open " in answer.out, answer.out.decode())
        peer.sendall(b"y")
        wait_until(lambda: b"y" in os.read(cat.stdout.fileno(), 100), "the last byte")
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def busy_engine_makes_no_system_call():
    """Nor does it sleep."""
    if backend().startswith("ev"):
        skip("libev has to ask the kernel what is ready")
    with idle_engine("--busy") as (w, engine, _, _):
        before = switches(engine.pid)
        check_equal(calls_while_idle(w, engine), "", f"calls in {WATCHED_S} s")
        check(engine.running(), "it still runs")
        check(switches(engine.pid) - before <= 20, "it slept (strace's stops aside)")


@test
def sleeping_engine_is_not_woken():
    with idle_engine("--idle", "sleep") as (_, engine, _, cat):
        wait_until(lambda: settled(engine), "the engine to sleep")
        before = switches(engine.pid), switches(cat.pid)
        time.sleep(3)
        check_equal((switches(engine.pid), switches(cat.pid)), before,
                    "switches of engine and cat after 3 s")


@test
def sleeping_engine_makes_no_system_call():
    with idle_engine("--idle", "sleep") as (w, engine, peer, _):
        check_equal(calls_while_idle(w, engine), "", f"calls in {WATCHED_S} s")
        check_it_is_seen(w, engine, peer)


@test
def three_threads_are_not_woken():
    def greet(peer):
        peer.sendall(b"x")
        peer.recv(1)
        peer.unwrap()

    with World() as w:
        engine = w.engine(serve_tls(w, greet, context()), "feed", *trusted(), "--ktls", "off",
                          "--model", "three-thread")
        cat = w.cat("feed")
        check_equal(cat.stdout.read(1), b"x", "stdout")
        wait_until(lambda: settled(engine), "the threads to sleep")
        before = switches(engine.pid)
        check_equal(calls_while_idle(w, engine), "", f"calls in {WATCHED_S} s")
        check(switches(engine.pid) - before <= 20, "woken (strace's stops aside)")
        cat.stdin.close()
        cat.ends(0)
        engine.ends(0)


@test
def spinning_engine_falls_asleep():
    with idle_engine("--idle", "spin", "--spin-us", "1000") as (w, engine, _, _):
        before = switches(engine.pid)
        check_equal(calls_while_idle(w, engine), "", f"calls in {WATCHED_S} s")
        check(switches(engine.pid) - before <= 20, "woken (strace's stops aside)")


@test
def cat_of_a_url_is_idle_too():
    """Engine and pump in one process, both asleep."""
    with World() as w, w.listen() as listener:
        cat = w.cat(url_of(listener))
        peer = w.accept(listener)
        peer.sendall(b"x")
        check_equal(cat.stdout.read(1), b"x", "stdout")
        wait_until(lambda: settled(cat), "both threads to sleep")
        before = switches(cat.pid)
        time.sleep(2)
        check_equal(switches(cat.pid), before, "switches after 2 s")
        peer.close()
        cat.ends(0)


main()
