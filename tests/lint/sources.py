"""The repository's files, and how a tool is asked about each of them."""
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tap import build_dir, fail, source_dir

ROOT = source_dir()
BUILD = build_dir()

LIBRARY = ("runtime/", "backends/", "tls/", "rings/", "tools/")
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
INCLUDES = [*(f"-I{ROOT}/{folder}" for folder in ("", "runtime")),
            *(f"-I{BUILD}/include{folder}" for folder in ("", "/sluice"))]
INTERNAL = ["-std=gnu11", "-D_GNU_SOURCE", *STRICT, "-Wconversion", "-Wshadow",
            "-Wstrict-prototypes", "-Wswitch-enum", "-Wmissing-prototypes", *INCLUDES]


def git_files():
    """Every file that is or would be part of the repository."""
    answer = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached",
                             "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            text=True, check=True)
    return sorted({name for name in answer.stdout.split("\0")
                   if name and os.path.isfile(os.path.join(ROOT, name))})


FILES = git_files()
C_FILES = [name for name in FILES if name.endswith((".c", ".h"))]
LIBRARY_FILES = [name for name in C_FILES if name.startswith(LIBRARY)]


def none_of(offences):
    """Pass when the list is empty, else show it."""
    if offences:
        fail("\n".join(offences))


def objection(command, text=""):
    """What a tool says; empty when it has no objection."""
    try:
        answer = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT,
                                check=False)
    except FileNotFoundError:
        return f"{command[0]} is not installed: tools/setup analyzers"
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def all_at_once(function, jobs):
    """Results of function(*job), two at a time, without the empty ones."""
    with ThreadPoolExecutor(2) as pool:
        return [result for result in pool.map(lambda job: function(*job), jobs) if result]
