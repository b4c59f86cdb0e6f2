"""A long stream over TLS through a small inbox to an upstream that pauses, with records between its data
that are none: byte-exact; and with kernel TLS not a byte of it goes through a buffer of the engine's.
1 GiB with --long (tests/vm: guest_uml61_stream, guest_uml612_stream).
"""
import re
import ssl
import subprocess
import time

from tap import check, check_equal, is_long, main, sluice, test
from tls_peer import context, kernel_has_tls, serve_tls, trusted
from tls_seal import ALERT, DATA, HANDSHAKE, PLAIN_MAX, serve_sealed
from world import IN_GUEST, World

MIB = 1 << 20
COUNT = 1024 if is_long() else 64 if IN_GUEST else 16
RING_BYTES = 256 << 10  # the engine's for ciphertext
HANDSHAKE_MAX = 32 << 10
PAUSE_EACH, PAUSE_S = 16, 0.2
TICKET = bytes([4, 0, 0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64]) + bytes(64 + 2)
USER_CANCELED = b"\1\x5a"
KINDS = (("require",) if is_long() else ("require", "off")) if kernel_has_tls() else ("off",)

NOISE = b"".join((i * 2654435761 % (1 << 32)).to_bytes(4, "little") for i in range(2 * MIB // 4))


def piece(number):
    """This MiB of the stream; no two are alike."""
    at = number * 4099 % MIB
    return NOISE[at:at + MIB]


def sealed(sealer):
    """TLS 1.3: each MiB in full records, and a ticket and a warning behind it."""
    for i in range(COUNT):
        data = piece(i)
        sealer.send(*(sealer.record(DATA, data[at:at + PLAIN_MAX]) for at in range(0, MIB, PLAIN_MAX)),
                    sealer.record(HANDSHAKE, TICKET), sealer.record(ALERT, USER_CANCELED))
    sealer.recv(1)
    sealer.send(sealer.record(ALERT, b"\1\0"))
    return sealer.answer()


def plain(peer):
    """TLS 1.2, which has neither behind its handshake."""
    for i in range(COUNT):
        peer.sendall(piece(i))
    peer.recv(1)
    peer.unwrap()


def used_of_ring(pid):
    """Bytes of the ring for ciphertext that anybody ever wrote (what was wiped aside)."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as file:
        places = [re.match(r"([0-9a-f]+)-([0-9a-f]+) .*memfd:sluice-tls", line) for line in file]
    places = [[int(number, 16) for number in place.groups()] for place in places if place]
    start = next(begin for begin, end in places if end - begin == RING_BYTES)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        ring = memory.read(RING_BYTES)
    return RING_BYTES - ring.count(0)


def stream(w, url, ktls):
    """From the engine to a client that pauses."""
    engine = w.engine(url, "feed", *trusted(), "--inbox", "1M", "--ktls", ktls)
    cat = w.start([sluice(), "cat", "feed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    began = time.monotonic()
    for i in range(COUNT):
        if i % PAUSE_EACH == 3:
            time.sleep(PAUSE_S)
        check(cat.stdout.read(MIB) == piece(i), f"MiB {i} differs: {engine.err()}")
    seconds = time.monotonic() - began
    used = used_of_ring(engine.pid)
    cat.stdin.write(b"e")
    cat.stdin.close()
    check_equal(cat.stdout.read(), b"", "behind it")
    cat.ends(0)
    engine.ends(0)
    return seconds, used


def check_stream(version, serve):
    """In the kernel where there is TLS, and in user space, where the ring must be full: or what is
    said of the kernel would mean nothing.
    """
    for ktls in KINDS:
        with World() as w:
            seconds, used = stream(w, serve(w), ktls)
        print(f"# {version}, --ktls {ktls}: {COUNT} MiB in {seconds:.1f} s with pauses of "
              f"{COUNT // PAUSE_EACH * PAUSE_S:.1f} s; {used} bytes of the ring used", flush=True)
        if ktls == "require":
            check(used < HANDSHAKE_MAX, f"{used} bytes went through the engine's own ring")
        else:
            check(used > RING_BYTES * 0.9, f"{used} bytes of the ring used")


@test
def tls_1_2():
    check_stream("TLS 1.2", lambda w: serve_tls(w, plain, context(version=ssl.TLSVersion.TLSv1_2)))


@test
def tls_1_3_with_tickets_and_alerts():
    check_stream("TLS 1.3", lambda w: serve_sealed(w, sealed)[0])


main()
