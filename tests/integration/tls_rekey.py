"""KeyUpdate, rows 40 to 42 of the fault matrix, wherever the records are made: in user space, in a kernel
that takes new keys (Linux 6.14), and in an older one, which cannot go on. The limits inside a provider:
unit/test_tls_control.c.
"""
import os
import re
import socket
import subprocess
import time

from tap import check, check_equal, main, test
from tls_peer import cert, in_kernel, trusted
from tls_seal import ALERT, DATA, PLAIN_MAX, serve_sealed
from world import World, free_port, need, read, wait_until

LETTER_S = 0.3  # a letter must be all that one read(2) of s_server brings
ROUNDS = 12
PIECE = b"".join(i.to_bytes(4, "little") for i in range(30_000))


def goes_on():
    """Whether a connection outlives a KeyUpdate here; its keys are the kernel's if it can."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()
    return not in_kernel() or (int(major), int(minor)) >= (6, 14)


WHERE = (*trusted(), "--ktls", "require" if in_kernel() else "off")


def data(sealer, text):
    """Its records."""
    return b"".join(sealer.record(DATA, text[at:at + PLAIN_MAX])
                    for at in range(0, len(text), PLAIN_MAX))


def receive(sealer, size):
    """So many bytes of the engine's."""
    got = b""
    while len(got) < size and (part := sealer.recv(size - len(got))):
        got += part
    return got


def refused(cat, before):
    """The old kernel's end: its reason and its remedy; what came before is delivered, nothing behind."""
    check(cat.stdout.read() == before, "other bytes than those before")
    cat.ends(47)
    check("tls-rekey" in cat.err() and "--ktls off" in cat.err(), cat.err())


def rounds(updates):
    """`updates` (what each asks for) in a row, then data both ways, some times; each is answered that
    asks, and the answers come before the data behind them.
    """
    def script(sealer):
        seen = []
        for i in range(ROUNDS):
            sealer.send(data(sealer, PIECE), *(sealer.new_keys(asked) for asked in updates))
            sealer.send(data(sealer, b"round %2d\n" % i))
            seen.append((receive(sealer, len(b"answer %2d\n" % i)), len(sealer.updates)))
        sealer.send(sealer.record(ALERT, b"\1\0"))
        return seen, sealer.answer()

    with World() as w:
        url, said = serve_sealed(w, script)
        cat = w.cat(url, *WHERE)
        if not goes_on():
            refused(cat, PIECE)
            return
        for i in range(ROUNDS):
            check(cat.stdout.read(len(PIECE)) == PIECE, f"{updates}: bytes of round {i}; {cat.err()}")
            check_equal(cat.stdout.readline(), b"round %2d\n" % i, "behind new keys")
            cat.stdin.write(b"answer %2d\n" % i)
            cat.stdin.flush()
        check_equal(cat.stdout.read(), b"", "behind the end")
        cat.ends(0)
        seen, end = wait_until(lambda: said, "the server")[0]
        check_equal([line for line, _ in seen], [b"answer %2d\n" % i for i in range(ROUNDS)], "ours")
        check_equal(end, "close_notify", "our end")
        per_round = [n - before for (_, n), (_, before) in zip(seen, [(b"", 0), *seen])]
        asking = sum(updates)  # several that ask may have one answer: RFC 8446 4.6.3
        check(all(min(asking, 1) <= n <= asking for n in per_round), f"answers: {per_round}")


@test
def row_40_new_keys_not_asked_for_ours():
    rounds((0,))


@test
def row_41_new_keys_and_ours_are_asked_for():
    rounds((1,))


@test
def rows_40_41_several_in_a_row():
    rounds((1, 0, 1, 1))


@test
def row_41_asked_for_while_we_send():
    """Ours change between any two records of a long stream; not a byte of it is lost or comes twice."""
    stream = PIECE * 80

    def script(sealer):
        got = b""
        sealer.tls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # or all has left at once
        while len(got) < len(stream) and (part := receive(sealer, len(PIECE))):
            got += part
            sealer.send(sealer.new_keys(1))
            time.sleep(0.02)  # a flood is something else: row 42
        sealer.send(data(sealer, b"all of it"), sealer.record(ALERT, b"\1\0"))
        return got, len(sealer.updates)

    with World() as w:
        url, said = serve_sealed(w, script)
        with open(w.write("stream", stream), "rb") as file:
            cat = w.cat(url, *WHERE, stdin=file)
        if not goes_on():
            refused(cat, b"")
            return
        out = cat.stdout.read()
        check_equal((cat.wait(), out), (0, b"all of it"), cat.err())
        got, updates = wait_until(lambda: said, "the server")[0]
        check(got == stream, f"{len(got)} bytes of {len(stream)}")
        check(updates > 3, f"{updates} answers")


@test
def row_42_a_storm_of_new_keys():
    """Asked for or not: an end with its reason, long before they are all looked at."""
    for asked in (0, 1):
        with World() as w:
            url, _ = serve_sealed(w, lambda s, a=asked: (
                s.send(data(s, b"before"), *(s.new_keys(a) for _ in range(1000)), data(s, b"behind")),
                s.end()))
            cat = w.cat(url, *WHERE)
            if not goes_on():
                refused(cat, b"before")
                continue
            check_equal(cat.stdout.read(), b"before", "what is delivered")
            cat.ends(46)
            check("tls-protocol" in cat.err() and "flood" in cat.err(), cat.err())


@test
def rows_40_41_by_letters_of_s_server():
    """Its K asks for ours too, its k does not."""
    with World() as w:
        port, log = free_port(), w.path("s_server.log")
        with open(log, "wb") as out:
            server = w.start([need("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
                              cert("good.pem"), "-cert_chain", cert("good.chain"), "-key",
                              cert("good.key"), "-tls1_3", "-naccept", "1"],
                             stdin=subprocess.PIPE, stdout=out)
        wait_until(lambda: b"ACCEPT" in read(log), "s_server to listen")
        cat = w.cat(f"tls://127.0.0.1:{port}", *WHERE)
        wait_until(lambda: b"CIPHER is" in read(log), "the handshake")
        for command in (None, b"K\n", b"k\n", b"K\n"):
            if command:
                server.stdin.write(command)
                server.stdin.flush()
                time.sleep(LETTER_S)
            if command and not goes_on():
                refused(cat, b"")
                return
            server.stdin.write(b"a line\n")
            server.stdin.flush()
            check_equal(cat.stdout.readline(), b"a line\n", f"after {command}")
            before = read(log).count(b"an answer")
            cat.stdin.write(b"an answer\n")
            cat.stdin.flush()
            wait_until(lambda n=before: read(log).count(b"an answer") == n + 1, "our answer")


main()
