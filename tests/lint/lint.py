#!/usr/bin/python3
"""What the compiler does not check about the sources: layers, public headers, symbols, form.

Each check is one test point and shows every offence as file:line.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import faults
import includes
from sources import (BUILD, C_FILES, FILES, INTERNAL, LIBRARY_FILES, ROOT, STRICT, all_at_once,
                     none_of, objection)
from tap import fail, main, skip, test

SHARED_LIB = os.path.join(BUILD, "libsluice.so")

LINES_MAX = 700
TOP_LEVEL = {"runtime", "backends", "tls", "rings", "tests", "tools", "meson.build",
             "meson_options.txt", "README.md", "LICENSE"}

# Written so that this file does not hold the words itself.
LEFTOVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
FROM_OPENSSL = re.compile(r"(?:SSL|TLS|X509|BIO|ERR|EVP|OPENSSL|OpenSSL|OSSL|ASN1|GENERAL|CRYPTO|"
                          r"PEM|RSA|EC|HMAC|i2d|d2i)_")
MACHINE_PATH = re.compile(r"(?<![\w.$}*-])/(?:work|root|home/\w+|Users/\w+)/")


def lines_of(name):
    """A file's lines; none for one that is not text."""
    try:
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            return file.read().splitlines()
    except UnicodeDecodeError:
        return []


def search(pattern, names):
    """file:line of each line that matches."""
    return [f"{name}:{number}: {line.strip()}" for name in names
            for number, line in enumerate(lines_of(name), 1) if pattern.search(line)]


def compile_text(compiler, arguments, text, language):
    """What the compiler says about a text."""
    return objection([compiler, *arguments, "-x", language, "-fsyntax-only", "-"], text)


def compile_file(compiler, arguments, name):
    """What the compiler says about a file."""
    return objection([compiler, *arguments, "-fsyntax-only", name])


def public_headers():
    """{name in sluice/: source} as meson installs them."""
    with open(os.path.join(BUILD, "meson-info", "intro-install_plan.json"),
              encoding="utf-8") as file:
        plan = json.load(file)
    return {os.path.basename(row["destination"]): source
            for source, row in plan.get("headers", {}).items()}


@test
def layers_include_only_what_they_may():
    """DESIGN section 4."""
    none_of(includes.offences(ROOT, C_FILES))


@test
def public_headers_compile_alone_as_c11_and_cxx17():
    """From an installed layout, gcc and clang."""
    headers = public_headers()
    if {"sluice.h", "channel.h", "reason.h", "log.h"} - set(headers):
        fail(f"meson.build installs only {sorted(headers)}")
    with tempfile.TemporaryDirectory() as prefix:
        os.mkdir(os.path.join(prefix, "sluice"))
        for name, source in headers.items():
            shutil.copy(source, os.path.join(prefix, "sluice", name))
        compilers = [("gcc", "c11", "c"), ("clang", "c11", "c"),
                     ("g++", "c++17", "c++"), ("clang++", "c++17", "c++")]
        jobs = [(compiler, [f"-std={standard}", *STRICT, f"-I{prefix}"],
                 f"#include <sluice/{name}>\n", language)
                for name in headers for compiler, standard, language in compilers]
        none_of([said.replace(prefix + "/", "") for said in all_at_once(compile_text, jobs)])


@test
def internal_headers_compile_alone():
    """Each with gcc and clang."""
    # The declaration is for headers of macros only: a translation unit may not be empty.
    jobs = [(compiler, INTERNAL, f'#include "{name}"\ntypedef int some;\n', "c") for compiler in ("gcc", "clang")
            for name in LIBRARY_FILES if name.endswith(".h")]
    none_of(all_at_once(compile_text, jobs))


@test
def sources_are_warning_free_with_clang():
    """The build itself is gcc's."""
    jobs = [("clang", INTERNAL, name) for name in LIBRARY_FILES if name.endswith(".c")]
    none_of(all_at_once(compile_file, jobs))


@test
def exported_symbols_are_the_public_ones():
    """libsluice.so against SLUICE_API in the public headers."""
    answer = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", SHARED_LIB],
                            capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        fail(answer.stderr)
    exported = {line.split()[0].split("@")[0] for line in answer.stdout.splitlines()}
    declared = {}
    for source in public_headers().values():
        with open(source, encoding="utf-8") as file:
            text = file.read()
        for match in re.finditer(r"^SLUICE_API\b[^;(]*?(\w+)\s*\(", text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            declared[match.group(1)] = f"{os.path.relpath(source, ROOT)}:{line}"
    none_of([f"{name}: exported by {SHARED_LIB} but not SLUICE_API in a public header"
             for name in sorted(exported - set(declared))] +
            [f"{where}: {name} is SLUICE_API but libsluice.so does not have it"
             for name, where in sorted(declared.items()) if name not in exported] +
            [f"{where}: {name} does not begin with sluice_"
             for name, where in sorted(declared.items()) if not name.startswith("sluice_")])


@test
def openssl_is_used_as_libressl_has_it():
    """tests/lint/openssl_api.txt against the objects of tls/openssl, but keys.c."""
    with open(os.path.join(ROOT, "tests", "lint", "openssl_api.txt"), encoding="ascii") as file:
        kept = {line.strip() for line in file if not line.startswith("#")}
    objects = [path for path in glob.glob(os.path.join(BUILD, "libsluice.so.*.p", "tls_openssl_*.o"))
               if not path.endswith("keys.c.o")]
    if not objects:
        skip("this build has no provider openssl")
    answer = subprocess.run(["nm", "-u", "--format=posix", *objects], capture_output=True,
                            text=True, check=True)
    used = {line.split()[0] for line in answer.stdout.splitlines() if FROM_OPENSSL.match(line)}
    none_of([f"{name}: not in openssl_api.txt: does LibreSSL have it?" for name in sorted(used - kept)] +
            [f"{name}: in openssl_api.txt, but not used" for name in sorted(kept - used)])


@test
def files_are_short():
    """Look for the second noun in one that is not."""
    sizes = {name: len(lines_of(name)) for name in FILES if not name.endswith(".md")}
    none_of([f"{name}:{size}: more than {LINES_MAX} lines" for name, size in sizes.items()
             if size > LINES_MAX])


@test
def top_level_is_in_order():
    """A person should see the layers at once."""
    entries = {name.split("/")[0] for name in FILES}
    none_of([f"{entry}: does not belong at the top level"
             for entry in sorted(entries - TOP_LEVEL) if not entry.startswith(".")])


@test
def nothing_is_left_for_later():
    """An issue is the place for that."""
    none_of(search(LEFTOVER, FILES))


@test
def no_path_of_one_machine():
    """Sources work from any folder."""
    own = re.compile(re.escape(ROOT) + r"\b")
    none_of(search(MACHINE_PATH, FILES) + (search(own, FILES) if len(ROOT) > 8 else []))


@test
def c_files_open_with_a_comment():
    """What lives there, and what does not."""
    none_of([f"{name}:1: does not open with a comment" for name in C_FILES
             if not (lines_of(name) or [""])[0].startswith("/*")])


@test
def scripts_are_executable():
    """A #! line and the mode bit go together."""
    offences = []
    for name in FILES:
        path = os.path.join(ROOT, name)
        with open(path, "rb") as file:
            script = file.read(2) == b"#!"
        if script != os.access(path, os.X_OK):
            offences.append(f"{name}:1: " + ("has #! but is not executable" if script else
                                             "is executable but has no #!"))
    none_of(offences)


@test
def every_fault_has_a_test_or_a_reason():
    """tests/faults.txt against the names of the tests; and that faults.md is of this table."""
    rows, tested = faults.read_rows(), faults.rows_of_sources()
    written = "\n".join(lines_of("tests/faults.md"))
    none_of([f"tests/faults.txt: row {n} has no test, and no reason" for n, row in sorted(rows.items())
             if n not in tested and not row.no_test] +
            [f"tests/faults.txt: row {n} has a test: its reason for none is old" for n, row in sorted(rows.items())
             if n in tested and row.no_test] +
            [f"tests: row {n}: not in tests/faults.txt" for n in sorted(tested - set(rows))] +
            [f"tests/faults.md: row {n} is not the table's: tests/run.py BUILD --faults tests/faults.md"
             for n, row in sorted(rows.items()) if f"## {n}: {row.fault}\n\n{row.outcome}\n" not in written])


@test
def c_files_are_formatted():
    """clang-format -i FILE mends it."""
    answer = subprocess.run(["clang-format", "--dry-run", "-Werror", *C_FILES], cwd=ROOT,
                            capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        fail("\n".join(line for line in answer.stderr.splitlines() if "error:" in line))


main()
