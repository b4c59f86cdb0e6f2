"""The kernels that guest.py can start, and how each is started, given its files and its console.

uml61   user-mode-linux of this Debian release: a process that reads this machine's files (hostfs)
uml612  the same of the next release, which tests/vm/fetch unpacks into build/vm
cloud   the cloud kernel of that release's backports, under qemu without KVM; files by initramfs
"""
import os
import shlex
import subprocess
from dataclasses import dataclass

from image import Image, which

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
INIT = os.path.join(HERE, "init")
FETCHED = os.path.join(ROOT, "build", "vm")
BOOT = "console=ttyS0 panic=-1 quiet rdinit=/init"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# kTLS with its ciphers by their names in all these kernels: none can be loaded on demand later.
MODULES = ("tls", "aesni-intel", "gcm", "ghash-generic", "ccm", "ctr", "chacha", "chacha_generic",
           "poly1305_generic", "chacha20poly1305", "ipv6", "sch_netem")


class Absent(Exception):
    """A kernel that is not there, and what to do."""


def module_files(folder, scratch):
    """Files of MODULES and what they need, in the order of loading; what is built in has none."""
    versions = os.listdir(folder)
    if len(versions) != 1:
        raise Absent(f"not one version of modules in {folder}: {versions}")
    os.makedirs(os.path.join(scratch, "lib"))
    os.symlink(folder, os.path.join(scratch, "lib", "modules"))
    answer = subprocess.run(["modprobe", "-d", scratch, "-S", versions[0], "--show-depends", "-a",
                             *MODULES], capture_output=True, text=True, check=False,
                            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    files = [os.path.realpath(line.split()[1]) for line in answer.stdout.splitlines()
             if line.startswith("insmod ")]
    if not any(os.path.basename(path).startswith("tls.ko") for path in files):
        raise Absent(f"no tls among the modules in {folder}: {answer.stderr.partition(chr(10))[0]}")
    return list(dict.fromkeys(files))


@dataclass
class UserModeLinux:
    """Sees this machine's files, read-only; what init hides is mounted where the job needs it."""

    name: str
    root: str = "/"  # where its package is unpacked
    own = ("/tmp", "/run", "/mnt")  # a tmpfs of the guest, over ours
    stream = "/dev/ttyS0"

    def kernel(self):
        """The executable."""
        path = os.path.join(self.root, "usr/bin/linux.uml")
        if not os.access(path, os.X_OK):
            raise Absent(f"no {path}: run tools/setup check" +
                         ("" if self.root == "/" else f" and tests/vm/fetch {self.name}"))
        return path

    def modules(self, scratch):
        """Module files, as the guest sees them."""
        self.kernel()  # says what to do if it is not there
        return module_files(os.path.join(self.root, "usr/lib/uml/modules"), scratch)

    def mounts(self, options):
        """Shell lines."""
        places = [os.path.abspath(place) for place in
                  [ROOT, os.getcwd(), self.root, *options.readable]]
        lines = [self._mount(place, place, "ro") for place in places
                 if "/" + place.split("/")[1] in self.own]
        for pair in options.writable:
            place, source = map(os.path.abspath, pair.split("=", 1))
            os.makedirs(place, exist_ok=True)
            os.makedirs(source, exist_ok=True)
            lines.append(self._mount(place, source, "rw"))
        return lines

    @staticmethod
    def _mount(place, source, how):
        place, source = shlex.quote(place), shlex.quote(source)
        return f"mkdir -p {place} && mount -t hostfs none {place} -o {how},{source}"

    def start(self, options, scratch, kernel_log):
        """Its console goes to the log, its first serial line to our pipe."""
        os.symlink(INIT, os.path.join(scratch, "init"))
        line = [self.kernel(), f"umid=sluice-{os.getpid()}", f"uml_dir={scratch}/",
                f"mem={options.memory}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                "con=null", "con0=null,fd:2", "ssl=null", "ssl0=null,fd:1", f"init={scratch}/init"]
        # tests/vm/fetch says why here and why these libraries.
        env = {"HOME": scratch, "PATH": os.defpath,
               "LD_LIBRARY_PATH": os.path.join(self.root, LIBRARIES)}
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env,
                                cwd=self.root, stderr=kernel_log, process_group=0)


@dataclass
class Cloud:
    """Has only the files that it was given."""

    name: str
    root: str
    own = ()  # all is
    stream = "/dev/ttyS1"

    def modules(self, scratch):
        """Module files, as the image has them."""
        folder = os.path.join(self.root, "usr/lib/modules")
        if not os.path.isdir(folder):
            raise Absent(f"no {folder}: run tests/vm/fetch {self.name}")
        return [path.removesuffix(".xz") for path in module_files(folder, scratch)]

    def mounts(self, options):
        """Shell lines."""
        if options.writable:
            raise Absent(f"{self.name} has no way to write to this machine")
        return [f"mkdir -p {shlex.quote(os.getcwd())}"]

    def _image(self, options, scratch):
        image = Image()
        image.add_busybox()
        image.add_file(INIT, "/init")
        image.add_file(os.path.join(scratch, "job"), "/job")
        for module in self.modules(os.path.join(scratch, "image")):
            source = module if os.path.exists(module) else module + ".xz"
            image.add_file(source, module)
        for program in options.command[:1] + options.program:
            path = which(program)
            if path:
                image.add_program(path)
        if options.python:
            image.add_python()
        for place in options.readable:
            image.add_tree(os.path.abspath(place))
        path = os.path.join(scratch, "initramfs")
        image.write(path)
        return path

    def start(self, options, scratch, kernel_log):
        """Its first serial line goes to the log, its second to our pipe."""
        release = os.listdir(os.path.join(self.root, "usr/lib/modules"))[0]
        kernel = os.path.join(self.root, "usr/lib/modules", release, "vmlinuz")
        line = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display",
                "none", "-accel", "tcg", "-cpu", "max,la57=off", "-m", options.memory,
                "-serial", f"file:{kernel_log.name}", "-serial", "stdio",
                "-kernel", kernel, "-initrd", self._image(options, scratch),
                "-append", " ".join([BOOT, *options.append]), *options.qemu]
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=kernel_log, process_group=0)


KERNELS = {kernel.name: kernel for kernel in (
    UserModeLinux("uml61"),
    UserModeLinux("uml612", os.path.join(FETCHED, "uml612")),
    Cloud("cloud", os.path.join(FETCHED, "cloud")),
)}
