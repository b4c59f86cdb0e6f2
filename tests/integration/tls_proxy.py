"""Stands between an engine and its TLS server: cuts, flips, delays and joins what the server sends, at any
byte of the stream or inside a record that its length tells; and flips or stops what the engine sends.
"""
import contextlib
import select
import socket
import threading
import time

from tls_peer import tls_url

HEADER = 5
CHANGE_CIPHER_SPEC = 20


class Cut(Exception):
    """The server's stream ends here: by FIN, or by RST."""

    def __init__(self, reset=False):
        super().__init__()
        self.reset = reset


class Hold(Exception):
    """Nothing more comes, and no end."""


def reset(connection):
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class Proxy:
    """edit(record, offset) -> pieces to pass on, for each record of the server's; may raise Cut or
    Hold with the pieces before it already yielded. What comes with less than hold_s between leaves as one piece.
    `up` does the same to the engine's records, but for ends. `url` is where to connect; `unguarded` are the
    positions that TLS neither reads nor authenticates, `unguarded_up` those of the engine's bytes.
    """

    def __init__(self, w, server_url, edit, hold_s=0.0, up=None):
        self.edit = edit
        self.up = up or untouched
        self.hold_s = hold_s
        self.target = ("127.0.0.1", int(server_url.rsplit(":", 1)[1]))
        self.url = tls_url(w.serve(self.relay))
        self.bytes_seen = self.bytes_up = 0
        self.up_ended = threading.Event()
        self.unguarded, self.unguarded_up = set(), set()

    def relay(self, near):
        """One connection, both ways."""
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), socket.create_connection(self.target) as far:
            up = threading.Thread(target=self.pass_up, args=(near, far), daemon=True)
            up.start()
            try:
                self.pass_on(far, near)
                near.shutdown(socket.SHUT_WR)
                up.join(10)
            except Hold:
                up.join(10)
            except Cut as cut:
                if cut.reset:
                    reset(near)
                    near.shutdown(socket.SHUT_RD)  # or a thread in recv keeps it open
                else:
                    near.shutdown(socket.SHUT_WR)
                up.join(10)

    def pass_up(self, near, far):
        """The engine's records, as up() wants them, and its end, were it a reset."""
        with contextlib.suppress(OSError):
            while record := next_record(near):
                self.unguarded_up.update(unguarded(record, self.bytes_up))
                for piece in self.up(record, self.bytes_up):
                    far.sendall(piece)
                self.bytes_up += len(record)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)
        self.up_ended.set()

    def pass_on(self, far, near):
        """The server's records, as edit() wants them."""
        held = b""
        while record := next_record(far):
            self.unguarded.update(unguarded(record, self.bytes_seen))
            for piece in self.edit(record, self.bytes_seen):
                if self.hold_s:
                    held += piece
                else:
                    near.sendall(piece)
            self.bytes_seen += len(record)
            if held and not select.select([far], [], [], self.hold_s)[0]:
                near.sendall(held)
                held = b""
        near.sendall(held)


def unguarded(record, offset):
    """A header's version (RFC 8446 5.1) and, there for middle boxes, ChangeCipherSpec."""
    here = range(offset, offset + len(record))
    return here if record[0] == CHANGE_CIPHER_SPEC else here[1:3]


def next_record(stream):
    """Whole, or b"" at the end."""
    record = b""
    for want in (HEADER, None):
        want = want or HEADER + int.from_bytes(record[3:5], "big")
        while len(record) < want:
            part = stream.recv(want - len(record))
            if not part:
                return b""
            record += part
    return record


# ---- what can be done to a record ----------------------------------------------------------------

def untouched(record, _):
    """As it came."""
    yield record


def byte_by_byte(record, _):
    """Each byte a segment of its own, or nearly."""
    for i in range(len(record)):
        yield record[i:i + 1]


def dripping(record, _):
    """Always progress, never soon."""
    for piece in byte_by_byte(record, _):
        yield piece
        time.sleep(0.02)


def held_at(position):
    """The stream stops before this byte."""
    def edit(record, offset):
        yield record[:max(0, position - offset)]
        if position - offset < len(record):
            raise Hold

    return edit


def flipped_at(position):
    """One bit of this byte of the stream."""
    def edit(record, offset):
        at = position - offset
        if 0 <= at < len(record):
            record = record[:at] + bytes([record[at] ^ 0x10]) + record[at + 1:]
        yield record

    return edit


def cut_at(position, by_reset=False):
    """The stream ends before this byte."""
    def edit(record, offset):
        yield record[:max(0, position - offset)]
        if position - offset < len(record):
            raise Cut(by_reset)

    return edit


def in_record_of(payload, action):
    """action(position in it) on the record that carries this many bytes, whatever the cipher adds."""
    def choose(at):
        def edit(record, offset):
            extra = len(record) - HEADER - payload
            if 16 <= extra <= 24:
                return action(offset + at)(record, offset)
            return untouched(record, offset)
        return edit

    return choose
