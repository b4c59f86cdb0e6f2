"""What is wrong with the input or the machine: one clear line, an exit code of its own, in time, and
nothing left behind.
"""
import contextlib
import os
import signal
import socket
import struct
import subprocess
import time

from tap import build_dir, check, check_equal, fail, main, skip, sluice, test
from refusal import as_nobody, clean, commands, ends_saying, run_as_nobody, says
from world import NOBODY, SLOWNESS, World, free_port, helper, url_of, wait_until

NOT_A_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="


# ---- the connection ------------------------------------------------------------------------------

@test
def row_1_refused():
    with World() as w:
        url = f"tcp://127.0.0.1:{free_port()}"
        for command in commands(url):
            says(w.run(*command), 11, url, "refused", "check host and port")
            clean(w)


@contextlib.contextmanager
def swallowing():
    """A port that drops SYNs: its backlog is full."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            one = held.enter_context(socket.socket())
            one.settimeout(0.2)
            try:
                one.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            fail("the backlog does not fill")
        yield url_of(listener)


@test
def row_2_timed_out():
    with World() as w, swallowing() as url:
        for command in commands(url):
            answer = w.run(*command, "--connect-timeout", "0.3")
            says(answer, 12, url, "timed-out", "--connect-timeout", limit_s=2)
            check(answer.seconds > 0.25, f"gave up after {answer.seconds:.2f} s")
            clean(w)


@test
def rows_2_6_timed_out_at_several_addresses():
    """The limit is for all of them together."""
    with World() as w, swallowing() as url:
        port = url.rpartition(":")[2]
        flags = ["--resolve", f"many.invalid:{port}:127.0.0.1"] * 3
        answer = w.run("run", f"tcp://many.invalid:{port}", *flags, "--connect-timeout", "0.5")
        says(answer, 12, "many.invalid", "timed-out", limit_s=2)


@test
def row_64_signals_while_connecting():
    """However early they come: ends at once, leaves nothing."""
    with World() as w, swallowing() as url:
        for attempt in range(10):
            for number in (signal.SIGINT, signal.SIGTERM):
                for command in ("run", "cat"):
                    process = w.start([sluice(), command, url, "--name", "early"])
                    wait_until(lambda: os.path.exists(w.socket_file("early")), "the socket file")
                    time.sleep(attempt * 0.001)
                    process.signal(number)
                    process.wait(2)
                    clean(w)


@test
def row_4_unresolvable():
    """One that no name server is asked for: a label is at most 63 characters."""
    with World() as w:
        host = "x" * 64 + ".invalid"
        for command in commands(f"tcp://{host}:80"):
            says(w.run(*command), 10, host, "unresolved", "--resolve")
            clean(w)


@test
def rows_4_5_unresolvable_by_the_name_server():
    with World() as w:
        answer = w.run("run", "tcp://no-such-host.invalid:80", "--connect-timeout", "3")
        if answer.code == 12:
            skip("no name server answers here")
        says(answer, 10, "no-such-host.invalid", "unresolved", "--resolve")
        clean(w)


@test
def wrong_urls():
    with World() as w:
        for url in ("tcp://", "tcp://host", "tcp://host:", "tcp://host:0", "tcp://host:65536",
                    "tcp://host:x", "tcp://host:80x", "tcp://:80", "tcp://[::1:80", "tcp://[::1]",
                    "tcp://host:80/path", "tcp://host:-1", "tcp://::1:80", "://h:1",
                    "tcp://" + "h" * 300 + ":80"):
            for command in (["run", url], ["cat", url]):
                line = says(w.run(*command), 2, "usage", "tcp://host:port")
                check(url[:100] in line, f"'{url}' in: {line}")
        for args in (["run", "127.0.0.1:80"], ["run", "feed"], ["run", ""], ["cat", "a:1"],
                     ["cat", ""], ["ws", "a/b"], ["stat", "tcp://h:1"], ["stat", "a b"]):
            says(w.run(*args), 2, "usage")
        clean(w)


@test
def wrong_websocket_urls():
    with World() as w:
        for url in ("ws://", "ws://:80/x", "ws://host:0/", "ws://host:99999/", "ws:///path"):
            says(w.run("ws", url), 2, "usage")
        clean(w)


@test
def schemes_that_are_not_there():
    with World() as w:
        for command, url in (("run", "http://host:80"), ("cat", "udp://host:80"),
                             ("ws", "https://host/")):
            says(w.run(command, url), 39, url, "unsupported")
        clean(w)


@test
def row_7_reset_in_mid_stream():
    """14 for a cat of its own, for an engine, and for the cat attached to it; bytes before it count."""
    def reset(peer, data):
        peer.sendall(data)
        wait_until(lambda: unsent(peer) == 0, "the peer's bytes to be acknowledged")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    with World() as w, w.listen() as listener:
        cat = w.cat(url_of(listener))
        peer = w.accept(listener)
        peer.sendall(b"before")
        check_equal(cat.stdout.read(6), b"before", "stdout")
        reset(peer, b"")
        ends_saying(cat, 14, url_of(listener), "reset")

        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        cat = w.cat("feed")
        peer.sendall(b"before")
        check_equal(cat.stdout.read(6), b"before", "stdout")
        reset(peer, b"")
        ends_saying(cat, 14, url_of(listener), "reset")
        ends_saying(engine, 14, url_of(listener), "reset")
        clean(w)


def unsent(peer):
    """Bytes in a socket's send queue (SIOCOUTQ)."""
    import fcntl
    import termios
    return struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0" * 4))[0]


# ---- the engine and its name ---------------------------------------------------------------------

@test
def row_24_name_taken():
    with World() as w, w.listen() as listener:
        first = w.engine(url_of(listener), "feed")
        for command in (["run", url_of(listener), "--name", "feed"],
                        ["cat", url_of(listener), "--name", "feed"]):
            says(w.run(*command), 30, "feed", f"pid {first.pid}", "--name")
        check(first.running(), "the first one runs on")
        answer = w.run("stat", "feed")
        check_equal(answer.code, 0, f"the first one still has its name\n{answer.err}")
        peer = w.accept(listener)
        peer.close()
        first.ends(0)
        clean(w)


@test
def row_24_two_engines_race_for_a_name():
    """One gets it, the other is told."""
    with World() as w, w.listen() as listener:
        for round_ in range(5):
            both = [w.start([sluice(), "run", url_of(listener), "--name", f"race{round_}"])
                    for _ in range(2)]
            wait_until(lambda: any(not p.running() for p in both), "one of them to give up")
            loser = next(p for p in both if not p.running())
            winner = both[1 - both.index(loser)]
            loser.ends(30)
            winner.wait_for(" open: ")
            check(f"pid {winner.pid}" in loser.err(), loser.err())
            winner.signal(signal.SIGTERM)
            w.accept(listener).close()
            winner.ends(0)
        clean(w)


@test
def no_engine_of_that_name():
    with World() as w:
        for command in ("cat", "ws", "stat"):
            says(w.run(command, "nobody"), 31, "nobody", "no-engine", "sluice run")
        check(not os.path.exists(os.path.join(w.runtime, "sluice")), "no directory was made")


@test
def row_23_stale_name():
    """The socket file of a dead engine: as if it were not there."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "stale")
        engine.signal(signal.SIGKILL)
        engine.wait()
        check(os.path.exists(w.socket_file("stale")), "the socket file is still there")
        w.wait_for_death("stale")
        for command in ("cat", "stat"):
            says(w.run(command, "stale"), 31, "stale", "no-engine")


@test
def upstream_busy():
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        first = w.cat("feed")
        peer.sendall(b"x")
        check_equal(first.stdout.read(1), b"x", "the first one is attached")
        for command in ("cat", "ws"):
            says(w.run(command, "feed"), 33, "feed", "busy", "detach")
        peer.sendall(b"y")
        check_equal(first.stdout.read(1), b"y", "the first one goes on")
        peer.close()
        first.ends(0)
        engine.ends(0)
        clean(w)


@test
def row_22_engine_killed_under_its_upstream():
    """Noticed within a second, whatever the engine was doing."""
    for idle in ("sleep", "busy"):
        with World() as w, w.listen() as listener:
            engine = w.engine(url_of(listener), "feed", "--idle", idle)
            peer = w.accept(listener)
            cat = w.cat("feed")
            peer.sendall(b"x")
            check_equal(cat.stdout.read(1), b"x", "stdout")
            began = time.monotonic()
            engine.signal(signal.SIGKILL)
            cat.wait(5)
            seconds = time.monotonic() - began
            ends_saying(cat, 32, "feed", "engine-gone")
            check(seconds < 1, f"noticed after {seconds:.2f} s")


@test
def engine_that_does_not_answer():
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        engine.stop()
        for command in ("cat", "ws"):
            answer = w.run(command, "feed", "--connect-timeout", "0.5")
            says(answer, 12, "feed", "timed-out", limit_s=2)
        says(w.run("run", url_of(listener), "--name", "feed"), 30, f"pid {engine.pid}")
        engine.signal(signal.SIGCONT)
        peer.close()
        engine.ends(0)
        clean(w)


@test
def attached_before_the_connection_is_refused():
    """The cat waits with the engine, and is told the same (by the name that it was given)."""
    with World() as w, swallowing() as url:
        engine = w.engine(url, "feed", "--connect-timeout", f"{SLOWNESS:g}")
        cat = w.cat("feed")
        ends_saying(cat, 12, "feed", "timed-out")
        ends_saying(engine, 12, url, "timed-out")
        clean(w)


# ---- rights and limits ---------------------------------------------------------------------------

@test
def no_permission():
    """Another user's engine."""
    with as_nobody() as (w, _), w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        for command in ("cat", "ws", "stat"):
            says(run_as_nobody(w, command, "feed"), 34, "feed", "denied", "user")
        says(run_as_nobody(w, "run", url_of(listener), "--name", "other"), 34, w.runtime)
        peer.close()
        engine.ends(0)
        clean(w)


@test
def root_may_look_into_an_engine_of_another_user():
    """The remedy that the line gives works."""
    with as_nobody() as (w, mine), w.listen() as listener:
        env = {**w.env, "XDG_RUNTIME_DIR": mine}
        engine = w.start([w.path("sluice"), "run", url_of(listener), "--name", "theirs"], env=env,
                         user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
        engine.wait_for(" open: ")
        answer = w.run("stat", "theirs", env={"XDG_RUNTIME_DIR": mine})
        check_equal(answer.code, 0, answer.err)
        w.accept(listener).close()
        engine.ends(0)


@test
def row_28_directory_with_wrong_rights():
    with World() as w:
        folder = os.path.join(w.runtime, "sluice")
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        says(w.run("run", "tcp://127.0.0.1:1", "--name", "x"), 34, folder, "denied")
        check_equal(os.listdir(folder), [], "files in it")


@test
def row_28_directory_that_is_a_link():
    with World() as w:
        os.mkdir(w.path("elsewhere"), 0o700)
        os.symlink(w.path("elsewhere"), os.path.join(w.runtime, "sluice"))
        says(w.run("run", "tcp://127.0.0.1:1", "--name", "x"), 34, "sluice", "denied")
        check_equal(os.listdir(w.path("elsewhere")), [], "files behind the link")


@test
def no_rendezvous_directory():
    """Not root, no XDG_RUNTIME_DIR, no /run/user/UID; and one that is not there."""
    with as_nobody() as (w, _):
        if not os.path.exists(f"/run/user/{NOBODY}"):
            says(run_as_nobody(w, "run", "tcp://127.0.0.1:1", "--name", "x",
                               env={"XDG_RUNTIME_DIR": ""}), 34, "XDG_RUNTIME_DIR")
        says(w.run("run", "tcp://127.0.0.1:1", "--name", "x",
                   env={"XDG_RUNTIME_DIR": w.path("not-there")}), 34, "XDG_RUNTIME_DIR")


@test
def path_of_the_socket_too_long():
    with World() as w:
        long = w.path("d" * 100)
        os.mkdir(long, 0o700)
        answer = w.run("run", "tcp://127.0.0.1:1", "--name", "x", env={"XDG_RUNTIME_DIR": long})
        says(answer, answer.code, long[:20])
        check(answer.code not in (0, 1), f"exit code {answer.code}: {answer.err}")


@test
def fifo_not_allowed():
    with as_nobody() as (w, mine), w.listen() as listener:
        answer = run_as_nobody(w, "run", url_of(listener), "--fifo", "10",
                               env={"XDG_RUNTIME_DIR": mine})
        says(answer, 34, "--fifo", "RLIMIT_RTPRIO")
        check_equal(os.listdir(os.path.join(mine, "sluice")), [], "socket files")


@test
def core_that_is_not_there():
    with World() as w:
        says(w.run("run", "tcp://127.0.0.1:1", "--core", "1023"), 2, "--core 1023")
        clean(w)


@test
def io_uring_refused():
    """By seccomp, as containers do it: with EPERM, and as if the kernel had none."""
    if not os.path.exists(helper("refuse")):
        fail(f"{helper('refuse')} is not built: ninja -C {build_dir()}")
    with World() as w, w.listen() as listener:
        for error in ("EPERM", "ENOSYS"):
            for command in commands(url_of(listener)):
                answer = w.run(*command, "--backend", "uring",
                               program=[helper("refuse"), error, sluice()])
                if answer.code == 77:
                    skip(answer.err.strip())
                says(answer, 36, "io_uring", error, "no-backend", "seccomp")
                clean(w)
            answer = w.run("probe", program=[helper("refuse"), error, sluice()])
            check_equal(answer.code, 0, f"probe works all the same\n{answer.err}")
        listener.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            listener.accept()
            fail("it connected before it looked for io_uring")


# ---- the other side does not speak WebSocket ------------------------------------------------------

@test
def nginx_is_no_websocket_server():
    with World() as w:
        os.mkdir(w.path("www"))
        w.write("www/file", "hello")
        port = w.nginx("location /bad { return 400; }")
        for path, status in (("/file", "200"), ("/none", "404"), ("/bad", "400")):
            line = says(w.run("ws", f"ws://127.0.0.1:{port}{path}"), 20, "protocol", status)
            check(f"127.0.0.1:{port}" in line, line)
            engine = w.engine(f"tcp://127.0.0.1:{port}", "web")
            engine.wait_for(" open: ")
            says(w.run("ws", "web", "--path", path), 20, "web", "protocol", status)
            engine.signal(signal.SIGTERM)
            engine.wait(7)
        clean(w)


def answering(text):
    """A server that gives this answer to whatever is asked, and ends."""
    def handler(peer):
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            part = peer.recv(4096)
            if not part:
                return
            asked += part
        peer.sendall(text)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass
    return handler


UPGRADE = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: {accept}\r\n{more}\r\n")


@test
def wrong_handshakes():
    """(answer, what the line must name)"""
    cases = [
        (UPGRADE.format(accept=NOT_A_KEY, more=""), "Sec-WebSocket-Accept"),
        (UPGRADE.format(accept="", more=""), "Sec-WebSocket-Accept"),
        ("HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
         "Sec-WebSocket-Accept"),
        ("HTTP/1.1 101 OK\r\nConnection: Upgrade\r\n\r\n", "Upgrade: websocket"),
        ("HTTP/1.1 101 OK\r\n\r\n", "Upgrade"),
        ("HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1"),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "301"),
        ("HTTP/1.1 101 OK\r\nX: " + "y" * 100_000 + "\r\n\r\n", "headers"),
        ("HTTP/1.1 101 Swit", "CLOSE"), ("", "CLOSE"), ("\r\n\r\n", "HTTP/1.1"), ("H\r\n", "HTTP"),
    ]
    with World() as w:
        for text, names in cases:
            url = w.serve(answering(text.encode())).replace("tcp:", "ws:")
            line = says(w.run("ws", url), 20, "protocol")
            check(names in line, f"'{names}' in: {line}, for {text[:60]!r}")
        clean(w)


@test
def connection_reset_during_the_handshake():
    def handler(peer):
        peer.recv(4096)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with World() as w:
        url = w.serve(handler)
        process = w.start([sluice(), "ws", url.replace("tcp:", "ws:")])
        ends_saying(process, 14, url, "reset")
        clean(w)


# ---- our own ends ---------------------------------------------------------------------------------

@test
def stdout_that_is_full_or_closed():
    with World() as w:
        url = w.serve(lambda peer: peer.sendall(b"x" * 100_000))
        with open("/dev/full", "wb") as full:
            process = w.start([sluice(), "cat", url], stdout=full)
        ends_saying(process, 35, "stdout", "No space left")
        process = w.start([sluice(), "cat", url], stdout=subprocess.PIPE)
        process.stdout.close()
        check_equal(process.wait(5), -signal.SIGPIPE, "as cat(1) ends")
        for args in (["--help"], ["probe"]):
            with open("/dev/full", "wb") as full:
                process = w.start([sluice(), *args], stdout=full)
            ends_saying(process, 35, "stdout")
        clean(w)


@test
def closed_standard_descriptors():
    """They are not taken for sockets or rings."""
    with World() as w:
        url = w.serve(lambda peer: peer.sendall(b"data"))
        for redirect, code in ((">&-", 2), ("<&-", 0), ("2>&-", 0)):
            answer = w.run("-c", f"exec {sluice()} cat {url} {redirect}", program=["sh"])
            check_equal(answer.code, code, f"cat {redirect}: {answer.err}")
            if code == 0:
                check_equal(answer.out, b"data", f"cat {redirect}")
        clean(w)


main()
