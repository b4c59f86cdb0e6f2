"""A TLS server of Python's ssl for tests, and the certificates of tests/tls/make_certs.py."""
import contextlib
import os
import socket
import ssl

NAME = "good.example.test"
TCP_ULP = 31


def kernel_has_tls():
    """ENOENT: no module; ENOTCONN: there it is."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            return error.errno != 2
    return True


def in_kernel():
    """Whether --ktls auto takes it here: a provider must hand its keys over."""
    return kernel_has_tls() and os.environ.get("TLS_PROVIDER", "openssl") == "openssl"


def cert(file):
    """Path of one of them."""
    return os.path.join(os.environ["TESTS_CERTS"], file)


def trusted(name=NAME):
    """Flags of a client that knows whom it wants."""
    return ("--ca", cert("root.pem"), "--verify-name", name)


def context(leaf="good", version=None):
    """A server's."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert(f"{leaf}.chain"), cert(f"{leaf}.key"))
    if version:
        made.minimum_version = made.maximum_version = version
    return made


class Peer:
    """One connection; its end is the script's to say: unwrap() is the clean one."""

    def __init__(self, tls):
        self.tls = tls
        self.recv = tls.recv
        self.sendall = tls.sendall

    def unwrap(self):
        """close_notify, and FIN behind it."""
        with contextlib.suppress(OSError, ssl.SSLError):
            self.tls.unwrap().close()

    def shutdown_socket(self):
        """FIN alone."""
        socket.socket.shutdown(self.tls, socket.SHUT_WR)


def serve_tls(w, script, ctx):
    """script(Peer) for each connection, until the world ends. Returns its tls:// URL."""
    def serve(connection):
        with contextlib.suppress(OSError, ssl.SSLError):
            with ctx.wrap_socket(connection, server_side=True) as tls:
                script(Peer(tls))
                while tls.recv(65536):
                    pass
    return tls_url(w.serve(serve))


def tls_url(url):
    """The same place with TLS."""
    return url.replace("tcp:", "tls:")
