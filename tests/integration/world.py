"""A small world for one test: directories of its own, servers on loopback, engines, and processes
that end with it.

    with World() as w:
        with w.listen() as listener:
            engine = w.engine(url_of(listener), "feed")
            peer = w.accept(listener)
            engine.wait_for("open")
            ...

Everything that waits has a limit, and says what it waited for.
"""
import contextlib
import errno
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

from tap import build_dir, check_equal, fail, skip, sluice

IN_GUEST = os.environ.get("TESTS_GUEST", "")  # tests/vm: slower, and loopback is all its network
SLOWNESS = 4.0 if IN_GUEST else 1.0
LIMIT_S = 15.0 * SLOWNESS
NOBODY = 65534


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: str
    seconds: float

    def lines(self):
        """Lines of stderr."""
        return self.err.splitlines()


def is_sanitized():
    """Whether the build under test is an instrumented one: slower, and strange to strace."""
    with open(sluice(), "rb") as file:
        return b"__asan_init" in file.read()


def backend():
    """What the engines of this run are on."""
    return os.environ.get("TESTS_BACKEND", "auto")


def launched(argv):
    """A sluice command as this run starts it: the portable build's where nothing that only Linux has
    is to be had."""
    launcher = os.environ.get("TESTS_REFUSE", "")
    return [helper("refuse"), launcher, *argv] if launcher and argv[0] == sluice() else argv


def wait_until(condition, what, limit_s=LIMIT_S):
    """Wait for condition() to be true and return what it returned."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            fail(f"waited {limit_s:g} s for {what}")
        time.sleep(0.005)


def url_of(listener):
    """tcp:// and the address of a listening socket."""
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def helper(name):
    """One of the programs built beside the tests."""
    return os.path.join(build_dir(), "tests", name)


def need(program):
    """Path of a program, or the test is skipped."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return path or skip(f"{program} is not installed")


class Process:
    """One process of a world; stderr goes to a file, stdout where it was told to."""

    def __init__(self, world, argv, **popen):
        self.argv = argv
        self.log = world.path(f"{len(world.processes)}.err")
        with open(self.log, "wb") as err:
            self.popen = subprocess.Popen(argv, stderr=err, **popen)
        self.pid = self.popen.pid
        self.stdin, self.stdout = self.popen.stdin, self.popen.stdout

    def err(self):
        """What it wrote on stderr so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def running(self):
        """Whether it has not ended."""
        return self.popen.poll() is None

    def wait_for(self, text, limit_s=LIMIT_S):
        """Wait until stderr has text; returns its line."""
        deadline = time.monotonic() + limit_s
        while True:
            running = self.running()  # before reading: what it wrote last counts
            for line in self.err().splitlines():
                if text in line:
                    return line
            if not running:
                fail(f"{self.name()} ended ({self.popen.returncode}) without '{text}':\n"
                     f"{self.err()}")
            if time.monotonic() > deadline:
                fail(f"{self.name()} did not say '{text}' in {limit_s:g} s:\n{self.err()}")
            time.sleep(0.005)

    def wait(self, limit_s=LIMIT_S):
        """Its exit code."""
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            return fail(f"{self.name()} still runs after {limit_s:g} s:\n{self.err()}")

    def ends(self, code=0, limit_s=LIMIT_S):
        """Wait for its end and check the exit code."""
        got = self.wait(limit_s)
        if got != code:
            fail(f"{self.name()}: exit code {got}, expected {code}:\n{self.err()}")

    def signal(self, number):
        """Send it a signal."""
        self.popen.send_signal(number)

    def is_stopped(self):
        """Whether it is stopped by SIGSTOP."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def stop(self):
        """SIGSTOP, and wait until it has stopped."""
        self.signal(signal.SIGSTOP)
        wait_until(self.is_stopped, f"{self.name()} to stop")

    def end(self):
        """Kill it, however it is."""
        if self.running():
            self.popen.kill()
        self.popen.wait()
        for stream in (self.stdin, self.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    def name(self):
        """Its command line, short."""
        return " ".join(os.path.basename(word) for word in self.argv)[:80]


class World:
    """Directories, processes and threads of one test. Ends all it started."""

    def __init__(self):
        # Short, and not below TMPDIR, where other users cannot enter: uid 65534 runs here too.
        self.root = tempfile.mkdtemp(prefix="w-", dir="/tmp")
        self.runtime = os.path.join(self.root, "r")
        os.mkdir(self.runtime, 0o700)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        if "TLS_PROVIDER" in os.environ:  # meson.build starts a script once for each
            self.env["SLUICE_TLS_PROVIDER"] = os.environ["TLS_PROVIDER"]
        self.env["XDG_RUNTIME_DIR"] = self.runtime
        self.env["SLUICE_BACKEND"] = backend()
        self.env["SLUICE_ONCE"] = "true"  # an engine ends with its connection; reconnect.py's does not
        self.processes = []
        self.cleanups = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.end()
        self.cleanups.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def path(self, name):
        """A path in the world's own directory."""
        return os.path.join(self.root, name)

    def write(self, name, data):
        """A file there; returns its path."""
        with open(self.path(name), "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    # ---- processes

    def start(self, argv, **popen):
        """Start a program; stdin is empty and stdout goes nowhere unless told otherwise."""
        popen.setdefault("env", self.env)
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.DEVNULL)
        process = Process(self, launched(argv), **popen)
        self.processes.append(process)
        return process

    def engine(self, url, name, *flags):
        """sluice run, until its socket is there (the connection may not be)."""
        process = self.start([sluice(), "run", url, "--name", name, *flags])
        self.wait_for_socket(name, process)
        return process

    def socket_file(self, name):
        """Where the engine of that name listens."""
        return os.path.join(self.runtime, "sluice", f"{name}.sock")

    def wait_for_socket(self, name, process):
        """Until the engine's socket answers, or it ended."""
        path = self.socket_file(name)

        def there():
            if not process.running():
                fail(f"{process.name()} ended ({process.popen.returncode}):\n{process.err()}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                return probe.connect_ex(path) == 0
        wait_until(there, path)

    def wait_for_death(self, name):
        """Until the socket of a killed engine is dead: the kernel ends its ring a little later."""
        def dead():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                return probe.connect_ex(self.socket_file(name)) == errno.ECONNREFUSED
        wait_until(dead, f"the socket of {name} to be dead")

    def cat(self, target, *flags, out=None, **popen):
        """sluice cat with a pipe as stdin; stdout is a pipe too, or the file `out`."""
        popen.setdefault("stdin", subprocess.PIPE)
        argv = [sluice(), "cat", target, *flags]
        if out is None:
            return self.start(argv, stdout=subprocess.PIPE, **popen)
        with open(out, "wb") as file:
            return self.start(argv, stdout=file, **popen)

    def run(self, *args, stdin=b"", limit_s=LIMIT_S, program=None, env=None, **popen):
        """A sluice command to its end; what it said and how long it took."""
        began = time.monotonic()
        with subprocess.Popen(launched([*(program or [sluice()]), *args]), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**self.env, **(env or {})}, **popen) as child:
            try:
                out, err = child.communicate(stdin, limit_s)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = child.communicate()
                fail(f"sluice {' '.join(args)[:80]}: still runs after {limit_s:g} s:\n"
                     f"{err.decode(errors='replace')}")
        return Result(child.returncode, out, err.decode(errors="replace"),
                      time.monotonic() - began)

    def living(self):
        """Our processes that run in this world's runtime directory."""
        mark = f"XDG_RUNTIME_DIR={self.runtime}".encode()
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                if (mark in file.read().split(b"\0") and
                        "sluice" in os.readlink(path.replace("environ", "exe"))):
                    found.append(int(path.split("/")[2]))
        return found

    def left_behind(self):
        """Socket files, processes and shared memory that are still there, as text."""
        left = glob.glob(os.path.join(self.runtime, "sluice", "*"))
        left += [f"pid {pid}" for pid in self.living()]
        left += glob.glob("/dev/shm/*sluice*")
        return left

    # ---- servers

    @contextlib.contextmanager
    def listen(self, backlog=8, rcvbuf=0):
        """A listening socket on loopback."""
        with socket.socket() as listener:
            if rcvbuf:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            listener.bind(("127.0.0.1", 0))
            listener.listen(backlog)
            listener.settimeout(LIMIT_S)
            yield listener

    def accept(self, listener):
        """The next connection of a listening socket; closed with the world."""
        peer, _ = listener.accept()
        peer.settimeout(LIMIT_S)
        return self.cleanups.enter_context(peer)

    def serve(self, handler):
        """A server thread: handler(connection) for each connection. Returns its tcp:// URL."""
        listener = self.cleanups.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        stopping = threading.Event()

        def loop():
            while True:
                peer, _ = listener.accept()
                with peer:
                    if stopping.is_set():
                        return
                    peer.settimeout(LIMIT_S)
                    with contextlib.suppress(OSError):
                        handler(peer)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()

        def stop():
            stopping.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join(LIMIT_S)

        self.cleanups.callback(stop)
        return url_of(listener)

    def nginx(self, locations=""):
        """nginx in the foreground with the files of the world's `www`. Returns its port."""
        program = need("nginx")
        www = self.path("www")
        os.makedirs(www, exist_ok=True)
        for attempt in range(5):  # nginx takes no port 0: another may take ours first
            port = free_port()
            conf = self.write(f"nginx{attempt}.conf", NGINX_CONF.format(
                root=self.root, www=www, port=port, locations=locations))
            process = self.start([program, "-e", self.path("nginx.log"), "-c", conf,
                                  "-p", self.root])
            wait_until(lambda: connects(port) or not process.running(), "nginx to listen")
            if process.running():
                return port
        return fail(f"nginx does not start:\n{process.err()}")

    def socat(self, *addresses, flags=("-t", "20")):
        """socat with TCP-LISTEN:0 as its first address. Returns its port."""
        process = self.start([need("socat"), "-d", "-d", *flags, *addresses])
        line = process.wait_for("listening on")
        return int(line.rpartition(":")[2])


NGINX_CONF = """
daemon off;
master_process off;
pid {root}/nginx.pid;
error_log {root}/nginx.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {www}; }}
        {locations}
    }}
}}
"""


def stat(w, name):
    """The state block of an engine as a dictionary."""
    answer = w.run("stat", name, "--json")
    check_equal(answer.code, 0, f"stat {name}\n{answer.err}")
    return json.loads(answer.out)


def read(path):
    """A file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def free_port():
    """A TCP port of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connects(port):
    """Whether somebody listens on that port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def read_to_end(peer):
    """All that a socket brings until its end."""
    parts = []
    while True:
        part = peer.recv(1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def in_thread(function, *args):
    """Run it in a thread; returns a function that waits for the end and gives the result."""
    box = {}

    def body():
        try:
            box["value"] = function(*args)
        except Exception as error:  # given to whoever waits
            box["error"] = error

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def result(limit_s=LIMIT_S):
        thread.join(limit_s)
        if thread.is_alive():
            fail(f"{function.__name__} did not end within {limit_s:g} s")
        if "error" in box:
            raise box["error"]
        return box.get("value")

    return result
