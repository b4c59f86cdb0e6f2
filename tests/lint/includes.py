"""Who may include what: DESIGN section 4 as a table, and the offences against it."""
import os
import re

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')

# Libraries that are not libc: where their headers may be included.
FOREIGN = {
    "liburing": ["backends/uring/"],
    "ev": ["backends/ev/", "tools/examples/"],
    "openssl": ["tls/openssl/", "tools/"],
    "wolfssl": ["tls/wolfssl/"],
    "wslay": ["tools/"],
}

LIBC_FOLDERS = ("arpa", "asm", "asm-generic", "linux", "net", "netinet", "sys")
LIBC = set("""
    aio alloca assert complex cpuid ctype dirent dlfcn elf endian err errno execinfo fcntl features
    fenv float fnmatch ftw getopt glob grp ifaddrs immintrin inttypes libgen limits locale malloc
    math mqueue netdb poll pthread pwd resolv sched search semaphore setjmp signal spawn stdalign
    stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings syscall sysexits
    syslog termios threads time uchar ucontext unistd wchar wctype x86intrin
""".split())

# Where the compiler looks for "name": the include directories of meson.build, in the sources.
SEARCH = ("", "runtime/")
PUBLIC = {"channel.h": "rings/channel.h", "conn.h": "runtime/conn.h", "log.h": "runtime/base/log.h",
          "reason.h": "runtime/base/reason.h", "signals.h": "runtime/signals.h",
          "sluice.h": "runtime/sluice.h", "timer.h": "runtime/timer.h",
          "tls_config.h": "tls/tls_config.h", "udp.h": "runtime/udp.h"}
LAYERS = ("runtime", "backends", "tls", "rings", "tools")


def is_libc(name):
    """Headers of libc, the compiler and the kernel."""
    return name.split("/")[0] in LIBC_FOLDERS if "/" in name else name[:-len(".h")] in LIBC


def foreign_places(name):
    """Where this foreign header may be included, or None for one that nobody knows."""
    return FOREIGN.get(name.split("/")[0].removesuffix(".h"))


def resolve(root, source, name, quoted):
    """Path in the sources of an included file, or None when it is not ours."""
    candidates = [PUBLIC.get(name.removeprefix("sluice/"), name), *(s + name for s in SEARCH)]
    if quoted:
        candidates.insert(0, os.path.normpath(os.path.join(os.path.dirname(source), name)))
    for path in candidates:
        if os.path.isfile(os.path.join(root, path)):
            return path
    return None


def may_include(source, target):
    """The rule between two files of ours."""
    layer = source.split("/")[0]
    base = target.startswith("runtime/base/")
    if source.startswith("runtime/base/"):
        return base
    if layer == "runtime":
        return (target.startswith(("runtime/", "rings/")) or target == "backends/backend.h" or
                re.fullmatch(r"tls/[^/]+", target) is not None)
    if layer in ("backends", "tls"):
        return base or target in own_files(source, target)
    return base or target.startswith(f"{layer}/")


def own_files(source, target):
    """A leaf with folders: its top belongs to all of it, a folder to itself."""
    layer = source.split("/")[0]
    folder = os.path.dirname(target)
    return [target] if folder in (layer, os.path.dirname(source)) else []


def judge(root, source, name, quoted):
    """None, or what is wrong with this include."""
    target = resolve(root, source, name, quoted)
    if source.startswith("tools/"):
        if not quoted and name.startswith("sluice/"):
            return None if target else "no such public header"
        if target and not (quoted and target.startswith("tools/")):
            return "tools include public headers only, as <sluice/...>"
    if target:
        layer = "runtime/base" if source.startswith("runtime/base/") else source.split("/")[0]
        return None if may_include(source, target) else f"{layer} may not include {target}"
    if quoted:
        return "no such file"
    if is_libc(name):
        return None
    places = foreign_places(name)
    if places is None:
        return "not known: a foreign library, or missing in LIBC of tests/lint/includes.py"
    return None if source.startswith(tuple(places)) else f"foreign, belongs to {' '.join(places)}"


def offences(root, sources):
    """All offences as `file:line: text`."""
    found = []
    for source in (s for s in sources if s.split("/")[0] in LAYERS):
        with open(os.path.join(root, source), encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                wrong = judge(root, source, match.group(1) or match.group(2), bool(match.group(2)))
                if wrong:
                    found.append(f"{source}:{number}: {line.strip()}: {wrong}")
    return found
