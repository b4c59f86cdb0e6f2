"""As a service: what the manager is told (sd_notify), what SIGUSR1 shows, and the unit for systemd."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from refusal import says
from tap import check, check_equal, main, skip, source_dir, test
from world import LIMIT_S, World, url_of, wait_until

WATCHDOG_S = 0.4


def read(path):
    """A file's text."""
    with open(path, encoding="utf-8") as file:
        return file.read()


class Manager:
    """Who hears it."""

    def __init__(self, w, where):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(where.replace("@", "\0", 1))
        self.socket.settimeout(LIMIT_S)
        w.env["NOTIFY_SOCKET"] = where
        w.cleanups.callback(self.socket.close)

    def next(self):
        """One datagram's lines."""
        return self.socket.recv(4096).decode().split("\n")

    def next_but_watchdog(self):
        """The first that is something else."""
        while (said := self.next()) == ["WATCHDOG=1"]:
            pass
        return said


def tells_its_life(where):
    """Ready when an upstream can come; open, then the end of the connection."""
    with World() as w, w.listen() as listener:
        manager = Manager(w, where(w))
        engine = w.engine(url_of(listener), "feed")
        check_equal(manager.next(), ["READY=1", f"STATUS=connecting to {url_of(listener)}"], "first")
        peer = w.accept(listener)
        said = manager.next()
        check_equal(said, [f"STATUS=feed: connection 1 open: {url_of(listener)}"], "when it is open")
        engine.signal(signal.SIGTERM)
        check_equal(manager.next(), ["STOPPING=1"], "after SIGTERM")
        peer.close()
        said = manager.next()
        check(said[0] == "STOPPING=1" and said[1].startswith("STATUS=feed: connection 1 "), said)
        engine.ends(0)


@test
def manager_at_a_path_is_told():
    """As systemd has it."""
    tells_its_life(lambda w: w.path("notify"))


@test
def manager_at_an_abstract_name_is_told():
    """As others have it."""
    tells_its_life(lambda w: f"@sluice-test-{os.getpid()}")


@test
def watchdog_is_fed_while_the_loop_turns():
    """Twice in each interval; not by an engine that is stuck."""
    with World() as w, w.listen() as listener:
        manager = Manager(w, w.path("notify"))
        w.env["WATCHDOG_USEC"] = str(int(WATCHDOG_S * 1e6))
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        check_equal(manager.next_but_watchdog()[0], "READY=1", "first")
        check(manager.next_but_watchdog()[0].startswith("STATUS="), "second")
        last = time.monotonic()
        for _ in range(4):
            check_equal(manager.next(), ["WATCHDOG=1"], "then")
            now = time.monotonic()
            check(now - last < WATCHDOG_S, f"after {now - last:.2f} s, {WATCHDOG_S} s are allowed")
            last = now
        engine.stop()
        manager.socket.settimeout(2 * WATCHDOG_S)
        try:
            while True:  # at most what was under way
                manager.next()
                check(time.monotonic() - last < WATCHDOG_S, "a stuck engine feeds its watchdog")
        except TimeoutError:
            pass
        engine.signal(signal.SIGCONT)
        peer.close()
        engine.ends(0)


@test
def watchdog_of_another_process_is_left_alone():
    """WATCHDOG_PID is not ours."""
    with World() as w, w.listen() as listener:
        manager = Manager(w, w.path("notify"))
        w.env.update(WATCHDOG_USEC="1000", WATCHDOG_PID="1")
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        check_equal([manager.next()[0][:6] for _ in range(2)], ["READY=", "STATUS"], "said")
        time.sleep(0.1)
        peer.close()
        check_equal(manager.next()[0], "STOPPING=1", "next")
        engine.ends(0)


@test
def manager_that_cannot_be_reached_is_one_line():
    """And the engine runs."""
    for where, why in (("/nowhere/notify", "No such file"), ("vsock", "Invalid argument"),
                       ("/" + "x" * 200, "too long")):
        with World() as w, w.listen() as listener:
            w.env["NOTIFY_SOCKET"] = where
            engine = w.engine(url_of(listener), "feed")
            w.accept(listener).close()
            engine.ends(0)
            lines = [line for line in engine.err().splitlines() if "NOTIFY_SOCKET" in line]
            check_equal(len(lines), 1, engine.err())
            check(where in lines[0] and why in lines[0], lines[0])


@test
def sigusr1_shows_the_state():
    """As sluice stat does, on stderr, as often as it comes; the connection goes on."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        cat = w.cat("feed")
        for number in (1, 2):
            peer.sendall(b"x")
            check_equal(cat.stdout.read(1), b"x", "received")
            engine.signal(signal.SIGUSR1)
            wait_until(lambda n=number: engine.err().count("received_bytes") == n, "the state")
            check(re.search(rf"^received_bytes +{number} ", engine.err(), re.MULTILINE), engine.err())
        check(f"engine pid {engine.pid}" in engine.err(), engine.err())
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def row_65_sighup_opens_the_log_anew():
    with World() as w, w.listen() as listener:
        log = w.path("log")
        engine = w.engine(url_of(listener), "feed", "--log-file", log)
        peer = w.accept(listener)
        wait_until(lambda: " open: " in read(log), "the first line")
        os.rename(log, w.path("old"))
        engine.signal(signal.SIGHUP)
        wait_until(lambda: os.path.exists(log) and "anew" in read(log), "the file to be opened anew")
        peer.close()
        engine.ends(0)
        check("closed: peer-close" in read(log), read(log))
        check(" open: " in read(w.path("old")) and "closed" not in read(w.path("old")), "the old one")
        check_equal(engine.err(), "", "on stderr")
        says(w.run("run", url_of(listener), "--log-file", w.path("no/such")), 2, "no/such")


@test
def row_63_a_log_that_is_full_stops_nothing():
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed", "--log-file", "/dev/full")
        cat = w.cat("feed")
        peer = w.accept(listener)
        peer.sendall(b"all the same")
        check_equal(cat.stdout.read(12), b"all the same", "what came")
        cat.stdin.close()
        peer.close()
        cat.ends(0)
        engine.ends(0)


@test
def unit_is_good_and_closed():
    """By systemd's own tools."""
    if not shutil.which("systemd-analyze"):
        skip("systemd-analyze is not there")
    with open(os.path.join(source_dir(), "tools/sluice@.service"), encoding="utf-8") as file:
        unit = file.read().replace("/usr/local/bin/sluice", "/bin/true")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sluice@feed.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit)
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True,
                              check=False)
        check_equal((done.returncode, done.stderr), (0, ""), "verify")
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", path],
                              capture_output=True, text=True, check=False)
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        check(level and float(level.group(1)) < 3, done.stdout[-200:] + done.stderr)


main()
