"""A TLS 1.3 server of Python's ssl that goes on by hand once the handshake is done: it seals records
that no library would send. RFC 8446 5.2, 5.3, 7.1.
"""
import _ssl
import contextlib
import ctypes
import hashlib
import hmac
import itertools
import socket
import ssl

from tls_peer import context, tls_url

ALERT, HANDSHAKE, DATA = 21, 22, 23
PLAIN_MAX = 16384  # bytes of plaintext in one record: RFC 8446 5.1
KEY_UPDATE = bytes([24, 0, 0, 1])  # and what is asked for: 0 nothing, 1 the peer's new keys
CIPHERS = {  # name: (hash, bytes of the key, OpenSSL's function)
    "TLS_AES_128_GCM_SHA256": ("sha256", 16, "EVP_aes_128_gcm"),
    "TLS_AES_256_GCM_SHA384": ("sha384", 32, "EVP_aes_256_gcm"),
}
GET_TAG, TAG_BYTES = 0x10, 16

crypto = ctypes.CDLL(_ssl.__file__)  # and what it is linked to: the same libcrypto as Python's
for function in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm", "EVP_aes_256_gcm"):
    getattr(crypto, function).restype = ctypes.c_void_p


def seal(aead, key, nonce, header, plain):
    """AES-GCM: ciphertext and tag."""
    out, tag, n = (ctypes.create_string_buffer(len(plain) + TAG_BYTES),
                   ctypes.create_string_buffer(TAG_BYTES), ctypes.c_int())
    gcm = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    steps = [crypto.EVP_EncryptInit_ex(gcm, ctypes.c_void_p(getattr(crypto, aead)()), None, key, nonce),
             crypto.EVP_EncryptUpdate(gcm, None, ctypes.byref(n), header, len(header)),
             crypto.EVP_EncryptUpdate(gcm, out, ctypes.byref(n), plain, len(plain)),
             crypto.EVP_EncryptFinal_ex(gcm, tag, ctypes.byref(n)),
             crypto.EVP_CIPHER_CTX_ctrl(gcm, GET_TAG, TAG_BYTES, tag)]
    crypto.EVP_CIPHER_CTX_free(gcm)
    assert steps == [1] * len(steps), steps
    return out.raw[:len(plain)] + tag.raw


class Sealer:
    """What is sent behind the handshake; `tls` itself must not write any more."""

    def __init__(self, tls, secret, updates):
        self.tls = tls
        self.recv = tls.recv
        self.hash, self.key_bytes, self.aead = CIPHERS[tls.cipher()[0]]
        self.count = 0
        self.secret = secret
        self.updates = updates  # the peer's KeyUpdates, one each

    def expand(self, label, size):
        """HKDF-Expand-Label, one block."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0" + b"\1"
        return hmac.new(self.secret, info, self.hash).digest()[:size]

    def record(self, kind, data=b"", padding=0):
        """The next record."""
        plain = data + bytes([kind]) + bytes(padding)
        header = bytes([DATA, 3, 3]) + (len(plain) + TAG_BYTES).to_bytes(2, "big")
        nonce = int.from_bytes(self.expand(b"iv", 12), "big") ^ self.count
        self.count += 1
        return header + seal(self.aead, self.expand(b"key", self.key_bytes), nonce.to_bytes(12, "big"),
                             header, plain)

    def new_keys(self, asked=0):
        """A KeyUpdate; what follows is under the next key."""
        record = self.record(HANDSHAKE, KEY_UPDATE + bytes([asked]))
        self.secret = self.expand(b"traffic upd", hashlib.new(self.hash).digest_size)
        self.count = 0
        return record

    def send(self, *wire):
        """These bytes as they are, in one piece; a peer that had enough may have left."""
        with contextlib.suppress(OSError):
            socket.socket.sendall(self.tls, b"".join(wire))

    def end(self):
        """FIN alone."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.tls, socket.SHUT_WR)

    def answer(self):
        """How the peer ended: the name of its alert as Python has it, "close_notify", or "" for none."""
        try:
            while self.tls.recv(65536):
                pass
            return "close_notify"
        except ssl.SSLEOFError:
            return ""
        except ssl.SSLError as error:
            return error.reason
        except OSError:
            return ""


def serve_sealed(w, script):
    """script(Sealer) for each connection. Returns its tls:// URL and a list that gets what script()
    returned.
    """
    said = []
    numbers = itertools.count()

    def serve(connection):
        keys = w.path(f"keys.{id(said)}.{next(numbers)}")
        ctx = context(version=ssl.TLSVersion.TLSv1_3)
        ctx.num_tickets = 0  # they would count among the server's records
        ctx.keylog_filename = keys
        updates = []
        ctx._msg_callback = lambda _tls, direction, _version, _content, kind, _data: (
            updates.append(kind) if direction == "read" and kind == KEY_UPDATE[0] else None)
        with contextlib.suppress(OSError, ssl.SSLError):
            with ctx.wrap_socket(connection, server_side=True) as tls:
                said.append(script(Sealer(tls, server_secret(keys), updates)))
                while tls.recv(65536):
                    pass

    return tls_url(w.serve(serve)), said


def server_secret(path):
    """The one that this file has."""
    with open(path, encoding="ascii") as file:
        return next(bytes.fromhex(line.split()[2]) for line in file
                    if line.startswith("SERVER_TRAFFIC_SECRET_0"))
