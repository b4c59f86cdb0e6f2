"""The engine against servers that others wrote: nginx, socat, python3-websockets and npm's ws."""
import asyncio
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import threading

import websockets
from npm import npm_package
from tap import check, check_equal, fail, main, sluice, test
from world import IN_GUEST, LIMIT_S, World, in_thread, need, wait_until

MIB = 1 << 20


def noise(size, seed=1):
    """The same random bytes each time."""
    return random.Random(seed).randbytes(size)


def check_bytes(got, expected, what):
    """Equal, without showing megabytes."""
    if got == expected:
        return
    same = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b),
                min(len(got), len(expected)))
    fail(f"{what}: {len(got)} bytes of {len(expected)}, the first wrong one at {same}")


# ---- nginx and socat: a byte stream ------------------------------------------------------------

def http_get(path, connection):
    """A request."""
    return (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n").encode()


def http_body(stream):
    """(status line, body, what follows it) of one response."""
    head, _, rest = stream.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines
                  if line.lower().startswith("content-length:"))
    return lines[0], rest[:length], rest[length:]


@test
def nginx_sends_20_mb():
    """Inbox much smaller than the file. stdin stays open: nginx drops clients that half-close."""
    with World() as w:
        os.mkdir(w.path("www"))
        data = noise(20_000_000)
        w.write("www/file", data)
        port = w.nginx()
        cat = w.cat(f"tcp://127.0.0.1:{port}", "--inbox", "256K")
        cat.stdin.write(http_get("/file", "close"))
        cat.stdin.flush()
        seen = in_thread(cat.stdout.read)()
        cat.ends(0)
        status, body, rest = http_body(seen)
        check_equal(status, "HTTP/1.1 200 OK", "status")
        check_bytes(body, data, "body")
        check_equal(rest, b"", "behind the body")


@test
def nginx_keeps_alive_for_two_requests():
    """Through an engine of its own, two requests and answers on one connection."""
    with World() as w:
        os.mkdir(w.path("www"))
        first, second = noise(100_000, 2), noise(300_000, 3)
        w.write("www/a", first)
        w.write("www/b", second)
        port = w.nginx()
        engine = w.engine(f"tcp://127.0.0.1:{port}", "web")
        engine.wait_for(" open: ")
        cat = w.cat("web")
        cat.stdin.write(http_get("/a", "keep-alive"))
        cat.stdin.flush()
        seen = b""
        while len(seen) < len(first):
            seen += cat.stdout.read1(1 << 16)
        cat.stdin.write(http_get("/b", "close"))
        cat.stdin.close()
        seen += cat.stdout.read()
        status, body, rest = http_body(seen)
        check_equal(status, "HTTP/1.1 200 OK", "first status")
        check_bytes(body, first, "first body")
        status, body, rest = http_body(rest)
        check_equal(status, "HTTP/1.1 200 OK", "second status")
        check_bytes(body, second, "second body")
        check_equal(rest, b"", "behind the second body")
        cat.ends(0)
        engine.ends(0)


@test
def row_13_socat_echoes_10_mb_and_ends_after_our_half_close():
    with World() as w:
        data = noise(10 * MIB)
        port = w.socat("TCP-LISTEN:0,bind=127.0.0.1", "EXEC:cat")
        answer = w.run("cat", f"tcp://127.0.0.1:{port}", stdin=data)
        check_equal(answer.code, 0, answer.err)
        check_bytes(answer.out, data, "echo")


@test
def socat_echoes_10_mb_through_an_engine_of_its_own():
    """Small rings, so that each of them fills again and again."""
    with World() as w:
        data = noise(10 * MIB, 4)
        port = w.socat("TCP-LISTEN:0,bind=127.0.0.1", "EXEC:cat")
        engine = w.engine(f"tcp://127.0.0.1:{port}", "echo", "--inbox", "64K", "--outbox", "64K",
                          "--metadata", "64", "--idle", "spin")
        engine.wait_for(" open: ")
        answer = w.run("cat", "echo", stdin=data)
        check_equal(answer.code, 0, answer.err)
        check_bytes(answer.out, data, "echo")
        engine.ends(0)


@test
def row_14_socat_reads_slowly():
    """The peer reads nothing for a while, then in small pieces: the outbox fills, nothing is lost."""
    with World() as w:
        data = noise(4 * MIB, 5)
        script = w.write("slow.sh", "sleep 0.5\n"
                         "for i in 1 2 3 4 5 6 7 8 9 10; do head -c 30000; sleep 0.03; done\ncat\n")
        port = w.socat("-u", "TCP-LISTEN:0,bind=127.0.0.1,rcvbuf=8192",
                       f"SYSTEM:sh {script} > {w.path('got')}")
        answer = w.run("cat", f"tcp://127.0.0.1:{port}", "--sndbuf", "16K", "--outbox", "64K",
                       stdin=data)
        check_equal(answer.code, 0, answer.err)
        check_equal(answer.out, b"", "stdout")
        wait_until(lambda: os.path.getsize(w.path("got")) >= len(data), "the last bytes")
        with open(w.path("got"), "rb") as file:
            check_bytes(file.read(), data, "what socat read")


@test
def socat_on_ipv6():
    with World() as w:
        port = w.socat("TCP6-LISTEN:0,bind=[::1]", "EXEC:cat")
        answer = w.run("cat", f"tcp://[::1]:{port}", stdin=b"six\n")
        check_equal((answer.code, answer.out), (0, b"six\n"), answer.err)


# ---- WebSocket, both ways: a URL, and the NAME of an engine that is a process of its own ---------

class WebSocketServer:
    """python3-websockets in a thread; `script(connection)` runs once for each connection."""

    def __init__(self, script, **options):
        self.script = script
        self.options = options
        self.errors, self.closes, self.requests = [], [], []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    async def _handle(self, connection):
        self.requests.append((connection.path, dict(connection.request_headers)))
        try:
            await self.script(connection)
        except websockets.ConnectionClosed as error:
            self.errors.append(f"closed early: {error}")
        except Exception as error:  # told by the test
            self.errors.append(repr(error))
        await connection.close()
        await connection.wait_closed()
        got = connection.close_rcvd
        self.closes.append(got.code if got else None)

    async def _start(self):
        return await websockets.serve(self._handle, "127.0.0.1", 0, ping_interval=None,
                                      compression=None, max_size=None, **self.options)

    def __enter__(self):
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(LIMIT_S)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _stop(self):
        self.server.close()
        await self.server.wait_closed()

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT_S)

    def check(self, close):
        """The script ran to its end and the client closed with this code."""
        wait_until(lambda: self.closes, "the server's side of the end")
        check_equal(self.errors, [], "the server's errors")
        check_equal(self.closes, [close], "code in the client's CLOSE")


def ws_by_url(w, port, *flags, limit_s=LIMIT_S):
    """sluice ws with the engine in its own process."""
    return w.run("ws", f"ws://127.0.0.1:{port}/stream?x=1", *flags, limit_s=limit_s)


def ws_by_name(w, port, *flags, limit_s=LIMIT_S):
    """sluice ws attached to a sluice run."""
    engine = w.engine(f"tcp://127.0.0.1:{port}", "feed")
    engine.wait_for(" open: ")
    answer = w.run("ws", "feed", "--path", "/stream?x=1", *flags, limit_s=limit_s)
    engine.ends(0)
    check_equal(len(engine.err().splitlines()), 2, f"lines of sluice run\n{engine.err()}")
    return answer


BOTH_WAYS = [ws_by_url, ws_by_name]


def converse(script, flags, expected, close=1000, ways=BOTH_WAYS, limit_s=LIMIT_S):
    """Run the script against sluice ws, both ways; stdout must be exactly `expected`."""
    for way in ways:
        with World() as w, WebSocketServer(script) as server:
            answer = way(w, server.port, *flags, limit_s=limit_s)
            check_equal(answer.code, 0, f"{way.__name__}: {answer.err}")
            check_bytes(answer.out, expected, f"{way.__name__}: stdout")
            server.check(close)


async def let_end(connection):
    """Wait for the client's CLOSE."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await connection.recv()


@test
def ws_text_both_ways():
    """Headers and path arrive, texts in order, special characters escaped, our CLOSE is 1000."""
    async def script(connection):
        assert connection.path == "/stream?x=1", connection.path
        assert connection.request_headers["X-Token"] == "a b", connection.request_headers
        assert await connection.recv() == "hello"
        assert await connection.recv() == "zwei \u20ac"
        await connection.send("one")
        await connection.send("")
        await connection.send("a\nb\r\\c \u20ac")
        await let_end(connection)

    converse(script, ["--header", "X-Token: a b", "--send", "hello", "--send", "zwei \u20ac",
                      "--count", "3"], "one\n\na\\nb\\r\\\\c \u20ac\n".encode())


@test
def ws_binary():
    data = noise(100_000)

    async def script(connection):
        await connection.send(b"\x00\x01\xfe\xff")
        await connection.send(data)
        await let_end(connection)

    converse(script, ["--count", "2"], b"0x0001feff\n0x" + data.hex().encode() + b"\n")


@test
def ws_lengths_around_the_header_forms():
    """125, 126, 65535, 65536: each has another header."""
    sizes = [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000]

    async def script(connection):
        for size in sizes:
            await connection.send("x" * size)
        await let_end(connection)

    converse(script, ["--count", str(len(sizes))], b"".join(b"x" * n + b"\n" for n in sizes))


@test
def ws_8_mib_and_64_mib():
    """Longer than the inbox; 64 MiB is the documented limit. Not in a guest: user-mode-linux maps page
    by page, and ends a process with more than 65530 maps."""
    sizes = [8 * MIB] if IN_GUEST else [8 * MIB, 64 * MIB]

    async def script(connection):
        for size in sizes:
            await connection.send("0123456789abcdef" * (size // 16))
        await let_end(connection)

    for way in BOTH_WAYS:
        with World() as w, WebSocketServer(script) as server:
            digest, wanted = hashlib.sha256(), hashlib.sha256()
            for size in sizes:
                wanted.update(b"0123456789abcdef" * (size // 16) + b"\n")
            answer = way(w, server.port, "--count", str(len(sizes)))
            digest.update(answer.out)
            check_equal(answer.code, 0, answer.err)
            check_equal(len(answer.out), sum(sizes) + len(sizes), f"{way.__name__}: bytes on stdout")
            check_equal(digest.hexdigest(), wanted.hexdigest(), f"{way.__name__}: hash of stdout")
            server.check(1000)


@test
def row_17_ws_message_over_the_limit_is_refused():
    async def script(connection):
        with contextlib.suppress(websockets.ConnectionClosed, OSError):
            await connection.send(b"x" * (64 * MIB + 1))

    with World() as w, WebSocketServer(script) as server:
        answer = ws_by_url(w, server.port)
        check_equal(answer.code, 20, answer.err)
        check_equal(answer.out, b"", "stdout")
        check("too long" in answer.err, answer.err)


@test
def ws_fragmented_messages():
    """Text and binary in fragments, empty ones too, a PING between the fragments' frames."""
    async def script(connection):
        await connection.send(["ab", "", "cd", "e" * 70000, ""])
        await connection.send([b"\x01", b"\x02\x03", b""])

        async def slow_parts():
            yield "first "
            pong = await connection.ping(b"between")
            yield "second"
            await asyncio.wait_for(pong, 5)
        await connection.send(slow_parts())
        await connection.send("whole")
        await let_end(connection)

    converse(script, ["--count", "4"],
             b"abcd" + b"e" * 70000 + b"\n0x010203\nfirst second\nwhole\n")


@test
def ws_pings_are_answered():
    """Payloads of 0, 1 and 125 bytes come back, and a burst of them is survived."""
    async def script(connection):
        for payload in (b"", b"p", bytes(range(125))):
            pong = await connection.ping(payload)
            await asyncio.wait_for(pong, 5)
        pongs = [await connection.ping(f"burst {i}") for i in range(300)]
        await asyncio.wait_for(pongs[-1], 5)  # the newest must be answered, others may be
        await connection.send("done")
        await let_end(connection)

    converse(script, ["--count", "1"], b"done\n")


@test
def ws_server_closes():
    """1000, 1001, 4000, and none at all: the same code comes back (1000 for none), exit code 0."""
    for code, answered in ((1000, 1000), (1001, 1001), (4000, 4000)):
        async def script(connection, code=code):
            await connection.send("last")
            await connection.close(code, "because")

        converse(script, [], b"last\n", close=answered)


@test
def row_17_ws_sends_up_to_half_the_outbox():
    """The longest message passes; one byte more is refused, and the line names the limit."""
    with World() as w:
        answer = w.run("ws", "--help")
        check(b"half" in answer.out, "the limit stands in --help")

    async def script(connection):
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.send(str(len(await connection.recv())))
            await let_end(connection)

    limit = 32 * 1024
    for way, flags in ((ws_by_url, ["--outbox", "64K"]),):
        with World() as w, WebSocketServer(script) as server:
            refused = way(w, server.port, *flags, "--send", "x" * limit)
            check_equal(refused.code, 2, refused.err)
            words = refused.err.replace(":", " ").replace(",", " ").split()
            named = max(int(word) for word in words if word.isdigit() and int(word) < limit)
            check("--outbox" in refused.err, refused.err)
        with World() as w, WebSocketServer(script) as server:
            answer = way(w, server.port, *flags, "--count", "1", "--send", "x" * named)
            check_equal((answer.code, answer.out), (0, f"{named}\n".encode()), answer.err)
            server.check(1000)


@test
def ws_ends_in_order_on_sigint():
    """CLOSE 1000 goes out; both processes end with 0."""
    async def script(connection):
        await connection.send("first")
        await let_end(connection)

    with World() as w, WebSocketServer(script) as server:
        process = w.start([sluice(), "ws", f"ws://127.0.0.1:{server.port}"],
                          stdout=subprocess.PIPE)
        check_equal(process.stdout.readline(), b"first\n", "stdout")
        process.signal(signal.SIGINT)
        process.ends(0)
        server.check(1000)


@test
def ws_successor_goes_on_with_an_open_websocket():
    """One sluice ws is killed, the next one resumes: no message is lost."""
    async def script(connection):
        for number in range(20000):
            await connection.send(f"message {number}")
        await connection.close()

    with World() as w, WebSocketServer(script) as server:
        engine = w.engine(f"tcp://127.0.0.1:{server.port}", "feed", "--inbox", "64K")
        engine.wait_for(" open: ")
        first = w.start([sluice(), "ws", "feed"], stdout=subprocess.PIPE)
        seen = [first.stdout.readline() for _ in range(1000)]
        check_equal(seen[-1], b"message 999\n", "the thousandth line")
        first.signal(signal.SIGKILL)
        seen += [line for line in first.stdout.read().splitlines(True) if line.endswith(b"\n")]
        first.wait()

        def is_free():
            return b'"upstream_pid": null' in w.run("stat", "feed", "--json").out
        wait_until(is_free, "the engine to see that its upstream is gone")
        answer = w.run("ws", "feed")
        check_equal(answer.code, 0, answer.err)
        rest = answer.out.splitlines(True)
        begin = int(rest[0].split()[1])
        check(begin <= len(seen), f"{len(seen)} were printed, the second begins with {begin}")
        check_equal(rest, [f"message {i}\n".encode() for i in range(begin, 20000)][:len(rest)],
                    "what the second one printed")
        check_equal(len(rest), 20000 - begin, "messages of the second one")
        engine.ends(0)


# ---- npm's ws ------------------------------------------------------------------------------------

NODE_SERVER = """
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket, request) => {
  const mode = new URL(request.url, 'http://x').pathname;
  console.error('open ' + request.url);
  socket.on('message', (data, binary) => socket.send(data, { binary }));
  socket.on('pong', (data) => { console.error('pong ' + data.length); socket.send('ponged ' + data.length); });
  socket.on('close', (code) => console.error('close ' + code));
  socket.on('error', (error) => console.error('error ' + error));
  if (mode === '/ping') { socket.ping(Buffer.alloc(0)); socket.ping(Buffer.alloc(125, 7)); }
  if (mode === '/close') { socket.send('bye'); socket.close(4000, 'enough'); }
  if (mode === '/fragments') {
    socket.send('one ', { fin: false }); socket.send('two ', { fin: false }); socket.send('three');
  }
  if (mode === '/big') socket.send('z'.repeat(8 << 20));
});
"""


@contextlib.contextmanager
def node_server(w):
    """npm's ws server: its process and its port."""
    script = w.write("server.js", NODE_SERVER)
    env = {**w.env, "NODE_PATH": os.path.join(npm_package("ws", 8), "node_modules")}
    server = w.start([need("node"), script], env=env, stdout=subprocess.PIPE)
    line = in_thread(server.stdout.readline)()
    check(line.strip().isdigit(), f"no port from node: {line!r} {server.err()}")
    yield server, int(line)


def node_conversation(path, flags, expected, *said):
    """sluice ws against npm's ws, by URL and by NAME."""
    for by_name in (False, True):
        with World() as w, node_server(w) as (server, port):
            if by_name:
                engine = w.engine(f"tcp://127.0.0.1:{port}", "feed")
                engine.wait_for(" open: ")
                answer = w.run("ws", "feed", "--path", path, *flags)
                engine.ends(0)
            else:
                answer = w.run("ws", f"ws://127.0.0.1:{port}{path}", *flags)
            check_equal(answer.code, 0, f"{answer.err}\n{server.err()}")
            check_bytes(answer.out, expected, "stdout")
            for text in said:
                server.wait_for(text)
            check("error" not in server.err(), server.err())


@test
def npm_ws_echoes():
    node_conversation("/echo", ["--send", "one", "--send", "zwei \u20ac", "--count", "2"],
                      "one\nzwei \u20ac\n".encode(), "open /echo", "close 1000")


@test
def npm_ws_pings():
    node_conversation("/ping", ["--count", "2"], b"ponged 0\nponged 125\n", "pong 0", "pong 125",
                      "close 1000")


@test
def npm_ws_closes():
    node_conversation("/close", [], b"bye\n", "close 4000")


@test
def npm_ws_sends_fragments_and_a_big_one():
    node_conversation("/fragments", ["--count", "1"], b"one two three\n", "close 1000")
    node_conversation("/big", ["--count", "1"], b"z" * (8 << 20) + b"\n", "close 1000")


main()
