"""What `meson install` puts somewhere is enough: programs that know nothing but its headers and
pkg-config build and run, linked either way."""
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import threading

from tap import build_dir, check, check_equal, fail, main, source_dir, test
from world import LIMIT_S

STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
EXAMPLE_MARK = "<!-- example: embedded.c -->"


class Prefix:
    """A prefix of its own with sluice installed into it."""

    def __enter__(self):
        self.root = tempfile.mkdtemp()
        done = subprocess.run(["meson", "install", "-C", build_dir(), "--no-rebuild", "--quiet",
                               "--destdir", self.root], capture_output=True, text=True, check=False)
        check_equal(done.returncode, 0, f"meson install: {done.stdout}{done.stderr}; exit code")
        self.libs = os.path.dirname(self.one("**/libsluice.so.0"))
        self.env = os.environ | {"PKG_CONFIG_SYSROOT_DIR": self.root, "LD_LIBRARY_PATH": self.libs,
                                 "PKG_CONFIG_PATH": os.path.dirname(self.one("**/sluice.pc"))}
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def one(self, pattern):
        """The one file that fits."""
        found = glob.glob(os.path.join(self.root, pattern), recursive=True)
        check_equal(len(found), 1, f"{pattern}: files")
        return found[0]

    def flags(self, *which):
        """What pkg-config says, as words."""
        done = subprocess.run(["pkg-config", *which, "sluice"], env=self.env, capture_output=True,
                              text=True, check=False)
        check_equal(done.returncode, 0, f"pkg-config: {done.stderr}; exit code")
        return done.stdout.split()

    def build(self, source, *flags, compiler="cc"):
        """The program made of a file."""
        program = os.path.join(self.root, os.path.basename(source)[:-2])
        done = subprocess.run([compiler, *STRICT, source, "-o", program, *flags],
                              capture_output=True, text=True, check=False)
        check_equal((done.returncode, done.stderr), (0, ""), f"{compiler} {source}")
        return program

    def readme_program(self):
        """The source file in the README."""
        with open(os.path.join(source_dir(), "README.md"), encoding="utf-8") as file:
            before, mark, text = file.read().partition(EXAMPLE_MARK + "\n```c\n")
        if not mark:
            fail(f"README.md: no block of c follows {EXAMPLE_MARK}")
        path = os.path.join(self.root, "embedded.c")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#line {before.count(chr(10)) + 3} "README.md"\n' + text.partition("```\n")[0])
        return path

    def says_hello(self, program):
        """What an echo server hears from it, and what it prints."""
        heard = []

        def serve(listener):
            peer, _ = listener.accept()
            with peer:
                heard.append(peer.recv(100))
                peer.sendall(heard[0])

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(LIMIT_S)
            server = threading.Thread(target=serve, args=[listener])
            server.start()
            done = subprocess.run([program, f"tcp://127.0.0.1:{listener.getsockname()[1]}"],
                                  env=self.env, capture_output=True, text=True, timeout=LIMIT_S,
                                  check=False)
            server.join()
        check_equal((heard, done.stdout, done.stderr), ([b"hello\n"], "hello\n", ""), "heard, said")


@test
def readme_program_builds_and_runs():
    """With the shared library, by both compilers."""
    with Prefix() as prefix:
        source = prefix.readme_program()
        for compiler in ("gcc", "clang"):
            program = prefix.build(source, *prefix.flags("--cflags", "--libs"), compiler=compiler)
            needed = subprocess.run(["readelf", "-d", program], capture_output=True, text=True,
                                    check=True).stdout
            check("[libsluice.so.0]" in needed, f"what it needs: {needed}")
            prefix.says_hello(program)


@test
def readme_program_links_statically():
    """With libsluice.a and what that needs."""
    with Prefix() as prefix:
        for shared in glob.glob(os.path.join(prefix.libs, "libsluice.so*")):
            os.unlink(shared)
        source = prefix.readme_program()
        prefix.says_hello(prefix.build(source, *prefix.flags("--static", "--cflags", "--libs")))


@test
def examples_build():
    """Every file of tools/examples, with one command."""
    more = {"nest_libev.c": ["-lev"], "ws_prices.c": ["-lcrypto", "-lwslay"]}
    with Prefix() as prefix:
        examples = sorted(glob.glob(os.path.join(source_dir(), "tools/examples/*.c")))
        check(examples, "no examples")
        for source in examples:
            prefix.build(source, *prefix.flags("--cflags", "--libs"), "-pthread",
                         *more.get(os.path.basename(source), []))


@test
def installed_program_runs():
    """The tool, away from where it was built."""
    with Prefix() as prefix:
        done = subprocess.run([prefix.one("**/bin/sluice"), "--version"], capture_output=True,
                              text=True, check=False)
        check_equal(done.returncode, 0, f"{done.stderr}; exit code")
        check(done.stdout.startswith("sluice "), done.stdout)


main()
