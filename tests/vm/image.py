"""The first file system of a guest that cannot see this machine's files: an initramfs (cpio, newc)
with busybox, the guest's init, and the programs and files it was asked for, at their own places.
"""
import lzma
import os
import re
import shutil
import stat
import subprocess

BUSYBOX = "/bin/busybox"
PYTHON = "/usr/bin/python3"
NOT_IN_GUESTS = ("__pycache__", "test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "tkinter",
                 "turtledemo")
LIBRARY = re.compile(r"^\s+(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


def _libraries(program):
    """The shared libraries and the loader that a program needs; none for a static one or a script."""
    answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return LIBRARY.findall(answer.stdout)


class Image:
    """Files by their place, written at once."""

    def __init__(self):
        self.entries = {}  # place: (mode, bytes)

    def add_dir(self, place):
        """A directory and those above it."""
        while place not in ("", "/"):
            self.entries.setdefault(place, (stat.S_IFDIR | 0o755, b""))
            place = os.path.dirname(place)

    def add_link(self, place, target):
        """A symbolic link."""
        self.add_dir(os.path.dirname(place))
        self.entries[place] = (stat.S_IFLNK | 0o777, target.encode())

    def add_file(self, source, place=None):
        """One file; a compressed module is stored plainly."""
        place = place or source
        self.add_dir(os.path.dirname(place))
        mode = stat.S_IFREG | stat.S_IMODE(os.stat(source).st_mode)
        with (lzma.open if source.endswith(".xz") else open)(source, "rb") as file:
            self.entries[place] = (mode, file.read())

    def add_tree(self, source):
        """A file, or all of a directory, at its own place."""
        if os.path.isfile(source):
            self.add_file(source)
        for folder, _, names in os.walk(source):
            self.add_dir(folder)
            for name in names:
                self.add_file(os.path.join(folder, name))

    def add_program(self, path):
        """A program with what it is linked to."""
        for file in [path, *_libraries(path)]:
            self.add_file(file)

    def add_python(self):
        """The system's Python with its standard library, as the scripts of tests/integration need it."""
        home = os.path.realpath(os.path.dirname(os.__file__))
        self.add_program(PYTHON)
        for folder, names, files in os.walk(home):
            names[:] = [name for name in names if name not in NOT_IN_GUESTS]
            for file in files:
                path = os.path.join(folder, file)
                if os.path.exists(path):  # Debian links to settings that need not be there
                    (self.add_program if file.endswith(".so") else self.add_file)(path)

    def add_busybox(self):
        """A shell and the usual tools."""
        if not os.access(BUSYBOX, os.X_OK):
            raise FileNotFoundError(f"no {BUSYBOX}: tools/setup check installs busybox-static")
        self.add_file(BUSYBOX)
        listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
        for applet in listed.stdout.split():
            self.entries.setdefault(f"/bin/{applet}", (stat.S_IFLNK | 0o777, BUSYBOX.encode()))

    def write(self, path):
        """As the kernel's Documentation/driver-api/early-userspace/buffer-format.rst has it."""
        with open(path, "wb") as file:
            for number, (place, (mode, data)) in enumerate(sorted(self.entries.items()), 1):
                self._write_entry(file, number, place.lstrip("/"), mode, data)
            self._write_entry(file, 0, "TRAILER!!!", 0, b"")

    @staticmethod
    def _write_entry(file, number, name, mode, data):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        file.write(head + bytes(-len(head) % 4))
        file.write(data + bytes(-len(data) % 4))


def which(program):
    """Where a command's program is on this machine."""
    path = shutil.which(program)
    return os.path.abspath(path) if path else None
