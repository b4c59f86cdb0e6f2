"""Where io_uring is refused, auto takes libev and says why; what is a limit stays an error: limits.py."""
import json
import os
import random
import signal

from tap import build_dir, check, check_equal, fail, main, skip, sluice, test
from refusal import clean, says
from world import World, helper, in_thread, read_to_end, url_of

REFUSALS = {"EPERM": "kernel.io_uring_disabled or a seccomp profile refuses it",
            "ENOSYS": "this kernel has none, or seccomp hides it, or this build lacks it"}


def refused(error):
    """The launcher, in front of a sluice command."""
    if not os.path.exists(helper("refuse")):
        fail(f"{helper('refuse')} is not built: ninja -C {build_dir()}")
    return [helper("refuse"), error, sluice()]


def noise(size):
    """The same random bytes each time."""
    return random.Random(5).randbytes(size)


@test
def row_51_run_takes_libev_and_says_why():
    """The open line, stat and probe agree; bytes go both ways."""
    data = noise(3 << 20)
    for error, why in REFUSALS.items():
        with World() as w, w.listen() as listener:
            engine = w.start([*refused(error), "run", url_of(listener), "--name", "feed"])
            peer = w.accept(listener)
            line = engine.wait_for(" open: ")
            reason = f"io_uring: {error}: {why}; libev"
            check(f"backend ev:epoll ({reason}" in line, line)
            check("model two-thread (plain TCP on ev:epoll, receiving on ev:epoll)" in line, line)
            stat = json.loads(w.run("stat", "feed", "--json").out)
            check_equal(stat["backend"], "ev:epoll", "stat")
            check(stat["backend_reason"].startswith(reason), stat["backend_reason"])
            probe = json.loads(w.run("probe", "--json", program=refused(error)).out)["auto_tcp"]
            check_equal(probe["model"], "two-thread on ev", "probe")
            check(probe["reason"].startswith(reason), probe["reason"])
            cat = w.cat("feed")
            sending = in_thread(peer.sendall, data)
            check_equal(cat.stdout.read(len(data)) == data, True, "from the peer")
            sending()
            receiving = in_thread(read_to_end, peer)
            cat.stdin.write(data)
            cat.stdin.close()
            check_equal(receiving() == data, True, "to the peer")
            peer.close()
            cat.ends(0)
            engine.ends(0)


@test
def a_sleeping_engine_without_io_uring_ends_at_a_signal():
    with World() as w, w.listen() as listener:
        engine = w.start([*refused("EPERM"), "run", url_of(listener), "--name", "feed"])
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        engine.signal(signal.SIGTERM)
        check_equal(peer.recv(1), b"", "end of stream")
        peer.close()
        engine.ends(0)
        clean(w)


@test
def row_51_named_backends_do_not_change():
    with World() as w, w.listen() as listener:
        url = url_of(listener)
        for error in REFUSALS:
            answer = w.run("cat", url, "--backend", "uring", program=refused(error))
            if answer.code == 77:
                skip(answer.err.strip())
            says(answer, 36, "io_uring", error)
            engine = w.start([*refused(error), "run", url, "--backend", "ev", "--event", "poll"])
            w.accept(listener).close()
            check("backend ev:poll (asked for; libev" in engine.wait_for(" open: "), engine.err())
            engine.ends(0)


main()
