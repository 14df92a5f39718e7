# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of a Debian system in which packages are installed; the system itself stays as scripts/fetch-root made it."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from harness import BUILD, TOP, Skip  # noqa: E402

# An overlay, with what installations expect.
ENTER = TOP / "scripts" / "in-overlay"
# The same view, as the files of a file system.
IMAGE = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mke2fs -q -t ext4 -E root_owner=0:0 -d "$2/root" "$3" "$4"
"""
# What changes with any package, and is nobody's file.
NOISE = ("/var/log/", "/var/cache/", "/var/lib/dpkg/", "/var/lib/apt/", "/tmp/", "/run/", "/proc/", "/sys/", "/dev/",
         "/debs", "/var/lib/systemd/catalog", "/etc/ld.so.cache", "/usr/share/mime/", "/boot/initrd.img",
         "/var/lib/dkms/mok.")


class Root:
    """A system; run() runs in it. What it changes goes with it."""

    def __init__(self, suite="bookworm"):
        lower = BUILD / "roots" / suite
        if not lower.exists():
            raise Skip(f"no Debian {suite}: run scripts/fetch-root {suite}")
        if os.geteuid():
            raise Skip("needs root")
        self.lower = lower.resolve()
        self.dir = tempfile.TemporaryDirectory(prefix="rvmrpc-root-")
        for name in ("upper", "work", "root"):
            pathlib.Path(self.dir.name, name).mkdir()
        self.upper = pathlib.Path(self.dir.name, "upper")
        folder, script = (("packages", "build-packages") if suite == "bookworm" else
                          (f"packages-{suite}", f"build-packages-in {suite}"))
        debs = sorted(BUILD.glob(f"{folder}/*.deb"))
        if not debs:
            raise Skip(f"no packages: run scripts/{script}")
        self.names = {}
        (self.upper / "debs").mkdir()
        for deb in debs:
            shutil.copy(deb, self.upper / "debs")
            self.names[deb.name.split("_")[0]] = f"/debs/{deb.name}"

    def run(self, *command, check=True, timeout=300):
        """Output and errors of a command there, in one text; with check=False the result."""
        done = subprocess.run([ENTER, self.lower, self.dir.name, *map(str, command)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False, errors="replace",
                              stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout if check else done

    def write(self, path, text):
        """A file there."""
        place = self.upper / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="ascii")

    def install(self, *names, timeout=600):
        """Packages of ours, with what they need, which is there."""
        return self.run("apt-get", "install", "-y", "--no-install-recommends", "--reinstall",
                        *(self.names[name] for name in names), timeout=timeout)

    def purge(self, *names):
        """Takes them away, settings and all."""
        return self.run("dpkg", "--purge", *names)

    def image(self, path, size):
        """All of it as a file system in a file of that size, as "6G"."""
        subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", IMAGE, "sh", self.lower,
                        self.dir.name, path, size], check=True, timeout=600)

    def files(self):
        """All that there is, but for noise."""
        text = self.run("find", "/", "-xdev", "-not", "-type", "d")
        return {line for line in text.splitlines()
                if not line.startswith(NOISE) and not line.endswith(("-", "~", ".pyc"))}

    def close(self):
        """Removes it."""
        self.dir.cleanup()
