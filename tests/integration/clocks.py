"""Clocks that jump, or differ: the wall clock of the engine (libfaketime), its monotonic clock from
that of its upstream (a time namespace).
"""
import glob
import re
import subprocess
import time
from datetime import datetime

from tap import check, check_equal, main, skip, sluice, test
from world import World, need, stat, url_of, wait_until

SILENCE_S = 1


@test
def row_67_a_wall_clock_that_jumps_moves_no_timer():
    library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    check(library, "libfaketime is not there: tools/setup check installs it")
    with World() as w, w.listen() as listener:
        clock = w.write("clock", "+0")
        env = {**w.env, "LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": clock,
               "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
        engine = w.start([sluice(), "run", url_of(listener), "--name", "feed", "--silence",
                          str(SILENCE_S)], env=env)
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        cat = w.cat("feed")
        for jump in ("-1h", "+0", "+1h"):
            with open(clock, "w", encoding="ascii") as file:
                file.write(jump)
            for _ in range(5):
                time.sleep(SILENCE_S / 10)
                peer.sendall(b"tick")
                check_equal(cat.stdout.read(4), b"tick", jump)
        check(engine.running(), engine.err())
        began = time.monotonic()
        engine.wait_for("closed: silent")  # at its time, for all that
        check(0.5 < (time.monotonic() - began) / SILENCE_S < 3, f"{time.monotonic() - began} s")
        stamps = [datetime.fromisoformat(s) for s in re.findall(r"^(\S+)Z", engine.err(), re.M)]
        check((stamps[-1] - stamps[0]).total_seconds() > 3600, f"it jumped for the log: {stamps}")


@test
def row_68_an_engine_with_a_monotonic_clock_of_its_own():
    aside = [need("unshare"), "-rT", "--monotonic", "100000", "--fork"]
    can = subprocess.run([*aside, "true"], check=False, capture_output=True, text=True)
    if can.returncode:
        skip(f"no time namespace: {can.stderr.strip()}")
    with World() as w, w.listen() as listener:
        engine = w.start([*aside, sluice(), "run", url_of(listener), "--name", "feed"])
        w.wait_for_socket("feed", engine)
        peer = w.accept(listener)
        cat = w.cat("feed")
        for _ in range(20):
            peer.sendall(b"tick")
            check_equal(cat.stdout.read(4), b"tick", "what came")
            time.sleep(0.01)
        state = stat(w, "feed")
        check(state["engine_state"] in ("running", "asleep"), state["engine_state"])
        cat.stdin.close()
        peer.close()
        cat.ends(0)
        wait_until(lambda: not engine.running(), "its end")


main()
