"""A build with -Dio_uring=false: made here, without the tests; still Linux, with all that libev does."""
import os
import subprocess
import tempfile

from tap import check, check_equal, main, source_dir, test
from world import World, in_thread, read_to_end, url_of

OPTIONS = ("-Dio_uring=false", "-Dtests=false", "-Dtls=openssl", "-Dbuildtype=plain")


def run(*command):
    """To its end; what it said only if it fails."""
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=200, check=False)
    check_equal(said.returncode, 0, said.stdout[-2000:] + said.stderr[-2000:])


def take_all(w, listener):
    """What one connection brings; then our own end."""
    with w.accept(listener) as peer:
        return read_to_end(peer)


@test
def a_build_without_io_uring_does_the_same_on_libev():
    data = os.urandom(1 << 20)
    with tempfile.TemporaryDirectory() as folder, World() as w, w.listen() as listener:
        run("meson", "setup", "--werror", folder, source_dir(), *OPTIONS)
        run("ninja", "-C", folder)
        program = [os.path.join(folder, "tools", "sluice")]
        linked = subprocess.run(["ldd", *program], capture_output=True, text=True, check=True).stdout
        check("libev" in linked and "liburing" not in linked, linked)
        receiving = in_thread(take_all, w, listener)
        answer = w.run("cat", url_of(listener), stdin=data, program=program)
        check(receiving() == data, "what the peer received")
        check_equal(answer.code, 0, answer.err)
        refused = w.run("cat", url_of(listener), "--backend", "uring", program=program)
        check_equal(refused.code, 36, refused.err)
        check("this build lacks it" in refused.err, refused.err)


main()
