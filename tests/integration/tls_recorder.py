"""Stands between two ends of TLS and keeps what they send: for what only the wire can tell."""
import socket
import threading

from tap import check_equal

LIMIT_S = 10
CHANGE_CIPHER_SPEC = 20


class Recorder:
    """One connection to that port, through self.port."""

    def __init__(self, port):
        self.seen = bytearray()  # the client's
        self.answered = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = port
        self.thread = threading.Thread(target=self.relay, daemon=True)
        self.thread.start()

    def relay(self):
        """Both ways, to both ends."""
        near, _ = self.listener.accept()
        far = socket.create_connection(("127.0.0.1", self.target))
        back = threading.Thread(target=self.copy, args=(far, near, self.answered), daemon=True)
        back.start()
        self.copy(near, far, self.seen)
        back.join(LIMIT_S)

    @staticmethod
    def copy(source, to, keep):
        """Until the end, which is passed on."""
        try:
            while data := source.recv(65536):
                keep += data
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def ended(self):
        """Itself, when all of it is kept."""
        self.thread.join(LIMIT_S)
        return self


def records(wire):
    """(type, body) of each."""
    at = 0
    while at + 5 <= len(wire):
        size = int.from_bytes(wire[at + 3:at + 5], "big")
        yield wire[at], bytes(wire[at + 5:at + 5 + size])
        at += 5 + size


def in_sequence(wire):
    """TLS 1.2 with GCM: the explicit nonces of one end, from its Finished on, go up by one: none comes
    twice. How many there are.
    """
    encrypted, nonces = False, []
    for kind, body in records(wire):
        if encrypted:
            nonces.append(int.from_bytes(body[:8], "big"))
        encrypted |= kind == CHANGE_CIPHER_SPEC
    check_equal(nonces, list(range(nonces[0], nonces[0] + len(nonces))), "nonces")
    return len(nonces)
