"""The programs of tools/examples, as somebody would run them who copied them."""
import asyncio
import json
import os
import queue
import random
import select
import signal
import socket
import ssl
import subprocess
import threading

import websockets

from tap import build_dir, check, check_equal, fail, main, skip, test
from world import LIMIT_S, free_port

BACKENDS = ["uring", "ev:epoll", "ev:poll"]
LO = socket.inet_aton("127.0.0.1")
LIMIT = 60000  # of ws_prices
ORDER = '{"buy":"BTC-USD"}'


class Program:
    """One example that runs until it is stopped."""

    def __init__(self, name, *arguments, backend):
        self.process = subprocess.Popen([example(name), *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        env=os.environ | {"BACKEND": backend})
        self.last = ""
        self.said = self.process.stdout.readline()
        if not self.said:
            why = self.process.communicate()[1].strip()
            if "io_uring" in why:
                skip(why)
            fail(f"{name}: {why}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.last, said = self.process.communicate(timeout=LIMIT_S)
        check_equal((self.process.returncode, said), (0, ""), "how it ended")

    def port(self):
        """Where it listens."""
        return int(self.said.split("port ")[1].split(",")[0])


def example(name):
    """Its binary."""
    return os.path.join(build_dir(), "tools", "examples", name)


def echo(url, data, backend):
    """What the client prints when it is given data."""
    answer = subprocess.run([example("echo_client"), url], input=data, capture_output=True,
                            timeout=LIMIT_S, check=False, env=os.environ | {"BACKEND": backend})
    check_equal(answer.stderr, b"", "what the client complains of")
    check_equal(answer.returncode, 0, "exit code")
    return answer.stdout


@test
def echo_comes_back_whole():
    """Far more than any queue holds, so both ends meet a full one."""
    data = random.Random(1).randbytes(3_000_001)
    for backend in BACKENDS:
        with Program("echo_server", "tcp://127.0.0.1:0", backend=backend) as server:
            got = echo(f"tcp://127.0.0.1:{server.port()}", data, backend)
            check(got == data, f"{backend}: {len(got)} bytes of {len(data)}, or other ones")


@test
def echo_over_a_unix_socket():
    """The same by path."""
    path = os.path.join(os.environ["TMPDIR"], "echo")
    for backend in BACKENDS:
        with Program("echo_server", f"unix:{path}", backend=backend):
            check_equal(echo(f"unix:{path}", b"by path\n", backend), b"by path\n", backend)
        os.unlink(path)


def exchange(tls, data):
    """Send it and read as much, on one thread: an SSL object has no room for two."""
    sent, got = 0, b""
    tls.setblocking(False)
    while len(got) < len(data):
        try:
            if sent < len(data):
                sent += tls.send(data[sent:sent + 16384])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            piece = tls.recv(65536)
            check(piece, f"it ended after {len(got)} bytes")
            got += piece
        except ssl.SSLWantReadError:
            ready = select.select([tls], [tls] if sent < len(data) else [], [], LIMIT_S)
            check(any(ready), f"nothing moves after {len(got)} bytes")
    return got


@test
def tls_proxy_carries_both_ways():
    """A client of Python's ssl through the proxy to the echo server, and the end behind the bytes."""
    certs = os.environ["TESTS_CERTS"]
    context = ssl.create_default_context(cafile=os.path.join(certs, "root.crt"))
    data = random.Random(2).randbytes(1_000_003)
    for backend in BACKENDS:
        with Program("echo_server", "tcp://127.0.0.1:0", backend=backend) as server, \
             Program("tls_proxy", os.path.join(certs, "good.pem"), os.path.join(certs, "good.key"),
                     "tls://127.0.0.1:0", f"tcp://127.0.0.1:{server.port()}",
                     backend=backend) as proxy, \
             socket.create_connection(("127.0.0.1", proxy.port()), LIMIT_S) as plain, \
             context.wrap_socket(plain, server_hostname="good.example.test") as wrapped:
            check(exchange(wrapped, data) == data, f"{backend}: other bytes came back")


@test
def server_per_core_shares_out():
    """Each loop gets some of the connections, and none is lost."""
    with Program("server_per_core", "tcp://127.0.0.1:0", "2", backend="auto") as server:
        for i in range(40):
            with socket.create_connection(("127.0.0.1", server.port()), LIMIT_S) as peer:
                peer.sendall(b"%d" % i)
                check_equal(peer.recv(100), b"%d" % i, "the echo")
    counts = [int(line.split()[2]) for line in server.last.splitlines()]
    check_equal((len(counts), sum(counts)), (2, 40), "loops, connections")
    check(min(counts) > 0, f"shared out as {counts}")


@test
def client_says_that_nobody_listens():
    """One line, and the exit code of a failure."""
    answer = subprocess.run([example("echo_client"), "tcp://127.0.0.1:1"], input=b"",
                            capture_output=True, timeout=LIMIT_S, check=False)
    check_equal(answer.returncode, 1, "exit code")
    check(b"refused" in answer.stderr, f"it says {answer.stderr}")


@test
def udp_multicast_prints_what_the_group_gets():
    port = free_port()
    command = [example("udp_multicast"), "239.7.7.7", str(port), "lo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        check_equal(receiver.stdout.readline(), "ready\n", "first line")
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, LO)
        for text in ("one", "two"):
            sender.sendto(text.encode(), ("239.7.7.7", port))
            check_equal(receiver.stdout.readline(), f"127.0.0.1 3 {text}\n", "datagram")
        receiver.send_signal(signal.SIGTERM)
        check_equal(receiver.communicate(timeout=LIMIT_S)[0], "2 received, 0 dropped\n", "last line")
        check_equal(receiver.returncode, 0, "exit code")


class Prices:
    """A feed of python3-websockets': so many quotes, a PING between, then CLOSE. What it got."""

    def __init__(self, quotes, context=None):
        self.quotes, self.context = quotes, context
        self.orders, self.path, self.close_code, self.ponged = [], None, None, False
        self.port = queue.Queue()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    def __enter__(self):
        self.thread.start()
        self.port = self.port.get(timeout=LIMIT_S)
        return self

    def __exit__(self, *_):
        self.thread.join()

    async def serve(self, peer):
        self.path = peer.path
        for i, price in enumerate(self.quotes):
            await peer.send(json.dumps({"sym": "BTC-USD", "px": price, "pad": "x" * (i % 700)},
                                       separators=(",", ":")))
        await asyncio.wait_for(await peer.ping(b'"px":1'), LIMIT_S)
        self.ponged = True
        try:
            while True:  # all of them came before the PONG
                self.orders.append(await asyncio.wait_for(peer.recv(), 0.05))
        except asyncio.TimeoutError:
            await peer.close()
        self.close_code = peer.close_code
        self.done.set()

    async def run(self):
        self.done = asyncio.Event()
        async with websockets.serve(self.serve, "127.0.0.1", 0, ssl=self.context,
                                    compression=None, max_queue=None) as server:
            self.port.put(server.sockets[0].getsockname()[1])
            await asyncio.wait_for(self.done.wait(), LIMIT_S)


def prices(url, backend):
    """The price client at its end, which trusts the tests' root."""
    root = os.path.join(os.environ["TESTS_CERTS"], "root.crt")
    return subprocess.run([example("ws_prices"), url, str(LIMIT), ORDER], capture_output=True,
                          text=True, timeout=LIMIT_S, check=False,
                          env=os.environ | {"BACKEND": backend, "SSL_CERT_FILE": root})


@test
def ws_prices_answers_what_is_cheap():
    """Over ws:// and wss://: all is printed in order, each quote below the limit has its order."""
    certs = os.environ["TESTS_CERTS"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(certs, "address.pem"), os.path.join(certs, "address.key"))
    dice = random.Random(3)
    quotes = [LIMIT + dice.randrange(-50, 50) for _ in range(2000)]
    for backend in BACKENDS:
        for scheme, of_server in (("ws", None), ("wss", context)):
            with Prices(quotes, of_server) as feed:
                answer = prices(f"{scheme}://127.0.0.1:{feed.port}/btc?depth=1", backend)
            check_equal((answer.returncode, answer.stderr), (0, ""), f"{backend} {scheme}: end")
            printed = [json.loads(line)["px"] for line in answer.stdout.splitlines()]
            check(printed == quotes, f"{backend} {scheme}: {len(printed)} lines, or other ones")
            cheap = [price for price in quotes if price < LIMIT]
            check(feed.orders == [ORDER] * len(cheap), f"{backend} {scheme}: {len(feed.orders)} orders")
            check_equal((feed.path, feed.ponged, feed.close_code), ("/btc?depth=1", True, 1000),
                        f"{backend} {scheme}: the server's view")


@test
def ws_prices_refuses_what_is_no_websocket():
    """A wrong Sec-WebSocket-Accept, another status, an end: it is the client that ends it."""
    answers = [b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
               b"HTTP/1.1 404 Not Found\r\n\r\n", b""]
    for said in answers:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            client = subprocess.Popen([example("ws_prices"), f"ws://127.0.0.1:{port}/", "0", ""],
                                      stderr=subprocess.PIPE, text=True)
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.settimeout(LIMIT_S)
                peer.sendall(said)
                if not said:
                    peer.shutdown(socket.SHUT_WR)
                check_equal(peer.recv(100), b"", f"{said}: what follows")
            why = client.communicate(timeout=LIMIT_S)[1]
            check_equal(client.returncode, 1, f"{said}: exit code")
            check("ended badly" in why, f"it says {why!r}")


@test
def nest_libev_serves_both_loops():
    for backend in BACKENDS:
        answer = subprocess.run([example("nest_libev")], capture_output=True, text=True,
                                timeout=LIMIT_S, check=False, env=os.environ | {"BACKEND": backend})
        if backend == "ev:poll":
            check_equal((answer.returncode, answer.stdout), (1, ""), f"{backend}: refused")
            check("nest_libev: ev:poll: Operation not supported" in answer.stderr, answer.stderr)
            continue
        lines = answer.stdout.splitlines()  # a machine that is late may swap two of them
        check_equal([line for line in lines if line != "libev"],
                    ["sluice 1", "sluice 2", "sluice 3"], f"{backend}: ours; {answer.stderr!r}")
        check_equal(lines.count("libev"), 1, f"{backend}: libev's")
        check_equal(answer.returncode, 0, f"{backend}: exit code")


main()
