"""echo_peer.py [CHAIN KEY]: a peer that can be stopped, being a process of its own: prints its port, echoes
one connection (with CHAIN and KEY over TLS) to its end.
"""
import contextlib
import socket
import ssl
import sys


def main():
    """One connection."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        print(listener.getsockname()[1], flush=True)
        peer = listener.accept()[0]
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[1:])
        peer = context.wrap_socket(peer, server_side=True)
    with peer:
        while data := peer.recv(65536):
            peer.sendall(data)
        if len(sys.argv) > 1:
            with contextlib.suppress(OSError):
                peer.unwrap().close()


main()
