"""What only the portable build does, or does not: memory that nobody seals, and what it refuses."""
import glob
import os
import signal

from refusal import ends_saying, says
from tap import check, check_equal, main, sluice, test
from world import World, url_of, wait_until


def shared_memory(pid):
    """Descriptors of shared memory that a process has: paths that others of its user may open."""
    found = []
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        if os.readlink(path).startswith("/dev/shm/sluice-"):
            found.append(path)
    return found


@test
def what_it_lacks_is_refused():
    with World() as w, w.listen() as listener:
        url = url_of(listener)
        says(w.run("run", url, "--backend", "uring"), 36, "io_uring", "this build lacks it")
        says(w.run("run", url, "--core", "0,0"), 39, "--core")
        engine = w.start([sluice(), "run", url, "--timestamps", "software"])
        ends_saying(engine, 39, "unsupported")
        says(w.run("run", url.replace("tcp", "tls"), "--ktls", "require", "--timestamps", "software"),
             39, "--timestamps")


@test
def its_memory_has_no_name():
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        check(shared_memory(engine.pid), "it has shared memory")
        check_equal(glob.glob("/dev/shm/sluice-*"), [], "names of it")
        engine.signal(signal.SIGTERM)
        engine.wait()


@test
def memory_that_is_made_smaller_ends_the_connection_in_order():
    """Of the same user's: the engine would get SIGBUS."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        engine.wait_for(" open: ")
        before = set(shared_memory(engine.pid))
        cat = w.cat("feed")
        cat.stdin.write(b"hello\n")
        cat.stdin.flush()
        check_equal(peer.recv(100), b"hello\n", "a message")
        wait_until(lambda: set(shared_memory(engine.pid)) - before, "the client's memory")
        for path in set(shared_memory(engine.pid)) - before:
            os.truncate(path, 0)
        peer.sendall(b"x")  # each thread looks at it no sooner than it has to
        w.run("stat", "feed")
        ends_saying(engine, 37, "corrupt")
        check("wrote nonsense" in engine.err(), engine.err())
        cat.wait()


main()
