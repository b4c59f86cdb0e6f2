"""The same sources make the same binaries, byte for byte, wherever they lie and wherever they are built."""
import filecmp
import os
import shutil
import subprocess
import tempfile

from tap import check, check_equal, main, source_dir, test

BINARIES = ["libsluice.a", "libsluice.so.0.1.0", "tools/sluice"]


def sources():
    """Every file of the repository, as it stands here."""
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=source_dir(),
                            capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0")
            if name and os.path.isfile(os.path.join(source_dir(), name))]


def run(*command):
    """A step of a build; no cache of compilers may answer for them."""
    done = subprocess.run(command, env=os.environ | {"CCACHE_DISABLE": "1"}, capture_output=True,
                          text=True, check=False)
    check_equal(done.returncode, 0, f"{command}: {done.stdout[-2000:]}{done.stderr}; exit code")


def built(tree, folder):
    """The folder, with a release of a copy of the sources that lies in tree."""
    for name in sources():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        shutil.copy(os.path.join(source_dir(), name), os.path.join(tree, name))
    run("meson", "setup", folder, tree, "-Dbuildtype=release", "-Dtests=false")
    run("ninja", "-C", folder, "-j2", *BINARIES)
    return folder


@test
def two_places_one_result():
    """One builds below its sources, the other elsewhere."""
    with tempfile.TemporaryDirectory() as scratch:
        here = built(os.path.join(scratch, "sluice"), os.path.join(scratch, "sluice/build/release"))
        there = built(os.path.join(scratch, "another place"), os.path.join(scratch, "deep/down/objects"))
        differ = [name for name in BINARIES
                  if not filecmp.cmp(os.path.join(here, name), os.path.join(there, name), shallow=False)]
        check(not differ, f"not the same: {differ}")


main()
