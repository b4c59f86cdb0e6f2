"""`sluice ws` and servers that break RFC 6455: each upgrade that is none, each frame that may not be. What
came whole before it is printed, nothing of it or behind it; the peer is told; one line says why.
"""
import base64
import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import time

from refusal import says
from tap import check, check_equal, main, sluice, test
from world import World, in_thread, is_sanitized, wait_until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PROTOCOL_ERROR, TOO_BIG = 1002, 1009
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADED = "HTTP/1.1 101 Switching Protocols"
MESSAGE_MAX = 64 << 20


# ---- the server ----------------------------------------------------------------------------------

def frame(opcode, data=b"", fin=True, rsv=0, length=None):
    """One frame; `length`: what its header says instead of the truth, as bytes."""
    n = len(data)
    if length is None:
        length = (bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n) if n < 65536 else
                  b"\x7f" + struct.pack(">Q", n))
    return bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + length + data


def close(code, reason=b""):
    """A CLOSE."""
    return frame(CLOSE, struct.pack(">H", code) + reason)


def request(peer):
    """The client's; it is whole when its empty line is there."""
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        asked += peer.recv(4096)
    return asked


def answer_to(asked, status=UPGRADED, connection="Connection: Upgrade", upgrade="Upgrade: websocket",
              accept=None, more=""):
    """What RFC 6455 4.2.2 wants, but for what is given otherwise."""
    key = next(line for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    digest = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + GUID).digest()).decode()
    accept = f"Sec-WebSocket-Accept: {digest}" if accept is None else accept.replace("{}", digest)
    lines = [status, upgrade, connection, accept, more]
    return ("\r\n".join(line for line in lines if line) + "\r\n\r\n").encode("latin-1")


class Client:
    """What the client said behind its request: (opcode, data) of each frame; and how it ended."""

    def __init__(self, peer):
        self.frames, self.masked, left = [], True, b""
        try:
            while part := peer.recv(65536):
                left += part
        except TimeoutError:
            left += b"\xff"  # no frame
        except OSError:
            pass
        while len(left) >= 6:
            self.masked &= bool(left[1] & 0x80)
            n, at = left[1] & 0x7f, 2
            if n == 126:
                n, at = struct.unpack(">H", left[2:4])[0], 4
            mask, data = left[at:at + 4], left[at + 4:at + 4 + n]
            self.frames.append((left[0], bytes(b ^ mask[i % 4] for i, b in enumerate(data))))
            left = left[at + 4 + n:]
        self.left = left

    def close_code(self):
        """Of its one CLOSE, which is the last it says."""
        closes = [data for first, data in self.frames if first == 0x80 | CLOSE]
        if len(closes) != 1 or self.frames[-1][0] != 0x80 | CLOSE or self.left or not self.masked:
            return f"none, but {self.frames} {self.left}"
        return struct.unpack(">H", closes[0][:2])[0]


def talked(w, wire, *flags, fin=False, **response):
    """(answer of `sluice ws`, Client) with a server that sends its upgrade and these bytes in one piece."""
    seen = []

    def serve(peer):
        peer.settimeout(8)
        peer.sendall(answer_to(request(peer), **response) + wire)
        if fin:
            peer.shutdown(socket.SHUT_WR)
        seen.append(Client(peer))

    url = w.serve(serve).replace("tcp:", "ws:")
    answer = w.run("ws", url, *flags)
    return answer, wait_until(lambda: seen, "the client to leave")[0]


def is_broken(wire, code=PROTOCOL_ERROR):
    """A message, then this: the message is printed, the peer is told, exit code 20."""
    with World() as w:
        answer, client = talked(w, frame(TEXT, b"before") + wire + frame(TEXT, b"behind"))
        check_equal((answer.code, answer.out), (20, b"before\n"), f"{wire[:20]!r}: {answer.err}")
        said = [line for line in answer.lines() if line.startswith("sluice: ")]
        check(len(said) == 1 and "protocol" in said[0], f"{wire[:20]!r}: {answer.err}")
        check_equal(client.close_code(), code, f"{wire[:20]!r}")


def is_fine(wire, out):
    """The same server, and nothing is wrong."""
    with World() as w:
        answer, client = talked(w, wire + close(1000))
        check_equal((answer.code, answer.out), (0, out), f"{wire[:20]!r}: {answer.err}")
        check_equal(client.close_code(), 1000, f"{wire[:20]!r}")


# ---- the upgrade ---------------------------------------------------------------------------------

@test
def upgrades_that_are_none():
    """What the line must name, and one thing wrong in the answer. Nothing behind it is looked at."""
    cases = (
        ("1010 No", {"status": "HTTP/1.1 1010 No"}),
        ("100 Continue", {"status": "HTTP/1.1 100 Continue"}),
        ("200 OK", {"status": "HTTP/1.1 200 OK"}),
        ("HTTP/1.1", {"status": "HTTP/1.0 101 Old"}),
        ("HTTP/1.1", {"status": "HTTP/2 101 New"}),
        ("HTTP/1.1", {"status": " HTTP/1.1 101 Late"}),
        ("HTTP/1.1", {"status": "\0"}),
        ("Upgrade: websocket", {"upgrade": ""}),
        ("Upgrade: websocket", {"upgrade": "Upgrade: h2c"}),
        ("Upgrade: websocket", {"upgrade": "X-Upgrade: websocket"}),
        ("Upgrade: websocket", {"upgrade": "Upgrade : websocket"}),  # RFC 9112 5.1
        ("Connection: Upgrade", {"connection": ""}),
        ("Connection: Upgrade", {"connection": "Connection: keep-alive"}),
        ("Connection: Upgrade", {"connection": "Connection: Upgraded"}),
        ("Sec-WebSocket-Accept", {"accept": ""}),
        ("Sec-WebSocket-Accept", {"accept": "Sec-WebSocket-Accept: {}x"}),
        ("Sec-WebSocket-Accept", {"accept": "Sec-WebSocket-Accept: "}),
        ("Sec-WebSocket-Accept", {"accept": "Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Accept: {}"}),
        ("extension", {"more": "Sec-WebSocket-Extensions: permessage-deflate"}),
        ("subprotocol", {"more": "Sec-WebSocket-Protocol: chat"}),
        ("chat?[31m", {"more": "Sec-WebSocket-Protocol: chat\x1b[31m"}),  # no steering of terminals
    )
    for word, wrong in cases:
        with World() as w:
            answer, client = talked(w, frame(TEXT, b"never"), **wrong)
            check(word in says(answer, 20, "protocol", "upgrade refused"), f"{wrong}: {answer.err}")
            check_equal((answer.out, client.frames), (b"", []), f"{wrong}")


@test
def upgrades_that_look_odd_and_are_good():
    for odd in ({"status": "HTTP/1.1 101"}, {"upgrade": "uPGRADE:WebSocket \t"},
                {"connection": "Connection: keep-alive,  upgrade"},
                {"connection": "Connection: keep-alive\r\nConnection: Upgrade"},
                {"more": "X: " + "y" * 6000}, {"more": "Content-Length: 5"}):
        with World() as w:
            answer, client = talked(w, frame(TEXT, b"text") + close(1000), **odd)
            check_equal((answer.code, answer.out), (0, b"text\n"), f"{odd}: {answer.err}")
            check_equal(client.close_code(), 1000, f"{odd}")
    with World() as w:
        answer, _ = talked(w, close(1000), "--header", "Sec-WebSocket-Protocol: news, chat",
                           more="Sec-WebSocket-Protocol: chat")
        check_equal(answer.code, 0, answer.err)


@test
def upgrades_that_do_not_come():
    """Silence, half of it, and a byte now and then: the deadline stands."""
    def silent(peer):
        request(peer)
        peer.recv(1)

    def half(peer):
        peer.sendall(answer_to(request(peer))[:-4])
        peer.recv(1)

    def dripping(peer):
        request(peer)
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 100:
            peer.sendall(bytes([byte]))
            time.sleep(0.05)

    for handler in (silent, half, dripping):
        with World() as w:
            url = w.serve(handler).replace("tcp:", "ws:")
            answer = w.run("ws", url, "--connect-timeout", "0.5")
            says(answer, 12, "timed-out", "upgrade", limit_s=3)


# ---- frames --------------------------------------------------------------------------------------

@test
def frames_with_forbidden_headers():
    """RFC 6455 5.2, 5.4, 5.5."""
    masked = bytes([0x81, 0x81]) + b"abcd" + b"x"
    for wire in (masked, *(frame(TEXT, b"x", rsv=bit) for bit in (1, 2, 4)),
                 *(frame(PING, b"x", rsv=bit) for bit in (1, 2, 4)),
                 *(frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
                 *(frame(opcode, b"", fin=False) for opcode in (CLOSE, PING, PONG)),
                 *(frame(opcode, b"x" * 126) for opcode in (CLOSE, PING, PONG)),
                 frame(0, b"x"), frame(0, b"x", fin=False),
                 frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
                 frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False)):
        is_broken(wire)


@test
def lengths_that_are_not_the_shortest():
    for wire in (frame(TEXT, b"x", length=b"\x7e\x00\x01"),
                 frame(TEXT, b"x" * 125, length=b"\x7e\x00\x7d"),
                 frame(TEXT, b"x" * 126, length=b"\x7f" + struct.pack(">Q", 126)),
                 frame(TEXT, b"x" * 65535, length=b"\x7f" + struct.pack(">Q", 65535))):
        is_broken(wire)


@test
def lengths_beyond_the_limit():
    """At the header, whatever follows; and the sum of fragments counts."""
    for n in (MESSAGE_MAX + 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        is_broken(frame(TEXT, b"x" * 30, length=b"\x7f" + struct.pack(">Q", n)), TOO_BIG)
    is_broken(frame(TEXT, b"x" * 1000, fin=False) +
              frame(0, b"x", length=b"\x7f" + struct.pack(">Q", MESSAGE_MAX - 999)), TOO_BIG)


@test
def text_that_is_not_utf8():
    """Overlong, surrogate, beyond the last code point, cut; in one frame and torn into two."""
    for bad in (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
                b"ok \x80", b"\xf8\x88\x80\x80\x80"):
        is_broken(frame(TEXT, bad))
        is_broken(frame(TEXT, bad[:1], fin=False) + frame(0, bad[1:]))
    good = "zwei \u20ac \U0001f600".encode()
    for at in range(len(good)):
        is_fine(frame(TEXT, good[:at], fin=False) + frame(PING) + frame(0, good[at:]), good + b"\n")


@test
def closes_that_may_not_be():
    """One byte, a code that nobody may send, a reason that is no text."""
    is_broken(frame(CLOSE, b"\x03"))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
        is_broken(close(code))
    is_broken(close(1000, b"\xff"))


@test
def closes_that_may_be():
    """The same code comes back, a reason is shown if it is harmless, what is behind is not looked at."""
    for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999):
        with World() as w:
            answer, client = talked(w, frame(TEXT, b"a") + close(code, b"out of \x1b[2Jorder") +
                                    frame(TEXT, b"b") + b"junk")
            check_equal((answer.code, answer.out), (0, b"a\n"), answer.err)
            check_equal(client.close_code(), code, answer.err)
            check(code == 1000 or f"{code} out of ?[2Jorder" in answer.err, answer.err)


@test
def an_end_without_a_close():
    """FIN at a boundary, inside a message, inside a header."""
    for wire in (b"", frame(TEXT, b"whole")[:4], b"\x81", frame(TEXT, b"a", fin=False)):
        with World() as w:
            answer, _ = talked(w, frame(TEXT, b"before") + wire, fin=True)
            check_equal((answer.code, answer.out), (20, b"before\n"), answer.err)
            check("without a CLOSE" in answer.lines()[-1], answer.err)


@test
def an_engine_is_told_as_well():
    """By NAME: the connection is of no use to a successor, so the engine ends it."""
    seen = []

    def serve(peer):
        peer.sendall(answer_to(request(peer)) + frame(TEXT, b"before") + frame(TEXT, b"x", rsv=4))
        seen.append(Client(peer))

    with World() as w:
        engine = w.engine(w.serve(serve), "feed")
        engine.wait_for(" open: ")
        answer = w.run("ws", "feed")
        check_equal((answer.code, answer.out), (20, b"before\n"), answer.err)
        engine.ends(0)
        check_equal(wait_until(lambda: seen, "the end")[0].close_code(), PROTOCOL_ERROR, "told")


# ---- rates and sizes -----------------------------------------------------------------------------

@test
def bytes_one_at_a_time():
    wire = (frame(TEXT, b"hello") + frame(BINARY, b"z" * 300) + frame(PING, b"p" * 125) +
            frame(TEXT, b"a", fin=False) + frame(0, b"b") + close(1000))
    seen = []

    def serve(peer):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in answer_to(request(peer)) + wire:
            peer.sendall(bytes([byte]))
        seen.append(Client(peer))

    with World() as w:
        answer = w.run("ws", w.serve(serve).replace("tcp:", "ws:"))
        check_equal((answer.code, answer.out), (0, b"hello\n0x" + b"7a" * 300 + b"\nab\n"), answer.err)
        check_equal([first & 15 for first, _ in wait_until(lambda: seen, "the end")[0].frames],
                    [PONG, CLOSE], "answers")


@test
def frames_of_chance():
    """Whatever comes: an end in time, with a reason, and the first message is printed."""
    chance = random.Random(6455)
    for _ in range(60):
        wire = bytearray(b"".join(frame(chance.choice((0, TEXT, BINARY, PING, PONG)),
                                        chance.randbytes(chance.randrange(200)),
                                        fin=chance.random() < 0.7) for _ in range(5)))
        for _ in range(chance.randrange(4)):
            wire[chance.randrange(len(wire))] ^= 1 << chance.randrange(8)
        with World() as w:
            answer, _ = talked(w, frame(TEXT, b"first") + bytes(wire), fin=True)
            check_equal(answer.code, 20, f"{bytes(wire)!r}: {answer.err}")
            check(answer.out.startswith(b"first\n"), f"{bytes(wire)!r}: {answer.out!r}")
            check(answer.seconds < 8, f"{bytes(wire)!r}: {answer.seconds:.1f} s")


@test
def pings_that_nobody_collects():
    """A flood of PINGs from a server that reads no PONG: the data behind them arrives."""
    def serve(peer):
        asked = request(peer)
        peer.sendall(answer_to(asked))
        for _ in range(200):
            peer.sendall(frame(PING, b"p" * 125) * 500)
        peer.sendall(frame(TEXT, b"behind") + close(1000))
        Client(peer)

    with World() as w:
        answer = w.run("ws", w.serve(serve).replace("tcp:", "ws:"), "--sndbuf", "4K")
        check_equal((answer.code, answer.out), (0, b"behind\n"), answer.err)


@test
def fragments_without_end():
    """Each costs memory beside its bytes: their number is limited, long before the sum of bytes is."""
    one = frame(0, b"x", fin=False)

    def serve(peer):
        peer.sendall(answer_to(request(peer)) + frame(TEXT, b"before") + frame(TEXT, b"", fin=False))
        for _ in range(4096):
            peer.sendall(one * 1024)

    with World() as w:
        process = w.start([sluice(), "ws", w.serve(serve).replace("tcp:", "ws:")],
                          stdout=subprocess.PIPE)
        _, status, used = os.wait4(process.pid, 0)
        process.popen.returncode = os.waitstatus_to_exitcode(status)
        check_equal((process.popen.returncode, process.stdout.read()), (20, b"before\n"), process.err())
        check("too long" in process.err(), process.err())
        check(is_sanitized() or used.ru_maxrss < 150 << 10, f"{used.ru_maxrss} KiB")


@test
def a_peer_that_does_not_close():
    """Our CLOSE goes out, none comes back: the end all the same, in its time."""
    def serve(peer):
        peer.sendall(answer_to(request(peer)) + frame(TEXT, b"first"))
        while peer.recv(4096):
            pass

    with World() as w:
        process = w.start([sluice(), "ws", w.serve(serve).replace("tcp:", "ws:")],
                          stdout=subprocess.PIPE)
        check_equal(in_thread(process.stdout.readline)(), b"first\n", "stdout")
        began = time.monotonic()
        process.signal(signal.SIGINT)
        process.ends(20)
        check("without a CLOSE" in process.err(), process.err())
        check(time.monotonic() - began < 8, f"{time.monotonic() - began:.1f} s")


main()
