"""Packages of npm for tests that need another implementation to compare with."""
import contextlib
import os
import shutil
import subprocess

from tap import build_dir, skip
from world import IN_GUEST, World, need


def npm_package(name, version):
    """The folder that has node_modules/NAME; installed there once. Skips the test without network."""
    folder = os.path.join(build_dir(), "npm", name)
    if os.path.exists(os.path.join(folder, "node_modules", name, "package.json")):
        return folder
    need("npm")
    if IN_GUEST:
        skip(f"a guest has no network to get npm's {name} from")
    env = {**os.environ, "HOME": os.environ.get("HOME", folder)}
    with World() as w:  # of its own, so that nobody sees half of it
        place = w.path("npm")
        os.mkdir(place)
        got = subprocess.run(["npm", "install", f"{name}@{version}", "--prefix", place,
                              "--no-package-lock", "--no-save", "--no-audit", "--no-fund"], env=env,
                             check=False, capture_output=True, text=True, timeout=60)
        if got.returncode != 0:
            lines = [line for line in got.stderr.splitlines() if "error" in line.lower()]
            skip(f"npm install {name}@{version} failed: {(lines or ['no network?'])[0]}")
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(OSError):  # a run beside us may have been first
            shutil.copytree(os.path.join(place, "node_modules"),
                            os.path.join(folder, "node_modules"))
    return folder
