"""The programs of tools/examples do what they say."""
import os
import signal
import socket
import subprocess

from tap import build_dir, check_equal, main, test
from world import free_port

LO = socket.inet_aton("127.0.0.1")
LIMIT_S = 20


def example(name):
    """Path of the program."""
    return os.path.join(build_dir(), "tools", "examples", name)


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


@test
def nest_libev_serves_both_loops():
    answer = subprocess.run([example("nest_libev")], capture_output=True, text=True,
                            timeout=LIMIT_S, check=False)
    lines = answer.stdout.splitlines()  # a machine that is late may swap two of them
    check_equal([line for line in lines if line != "libev"], ["sluice 1", "sluice 2", "sluice 3"],
                f"ours; stderr {answer.stderr!r}")
    check_equal(lines.count("libev"), 1, "libev's")
    check_equal(answer.returncode, 0, "exit code")


main()
