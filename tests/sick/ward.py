# SPDX-License-Identifier: GPL-2.0-or-later
"""The sick guest, and the command that people ask about it."""
import contextlib
import os
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / name) for name in ("vm", "clients", "stock")]

# pylint: disable=wrong-import-position
from harness import comment, main, shared  # noqa: E402,F401
import tools  # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix="rvmrpc-sick-")
ALLOW = "rvmrpc.allow=default,klog.read,freeze.*"
# Two parts that hang cost as much, one after the other, and each a null call more.
DEADLINE = 12
# What it says of anything that makes tasks wait, and of a busy host; no cause.
SYMPTOMS = ("tasks wait for ", "its CPUs are busy all the time", "CPU . is in the kernel all the time",
            "CPU . counts no time: ")


def guest():
    """One for all cases: ext4 at /data, and at /slow on a disk that slow() slows down."""
    disk = pathlib.Path(FOLDER.name, "disk.raw")
    if not disk.exists():
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
    vm = shared(kernel=os.environ.get("RVMRPC_GUEST", "6.12"), smp=2, memory="320M",
                device_opts=f"socket={FOLDER.name}/sick.sock", append=f"{tools.PATIENT} psi=1 {ALLOW}",
                extra=["-name", "guest=sick", "-drive", f"file={disk},format=raw,if=none,id=slow",
                       "-device", "virtio-blk-pci,drive=slow"])
    vm.guest.check("test -d /data || { mkdir /data /slow /fuse && modprobe -a crc32c_generic ext4 loop virtio_blk && "
                   "dd if=/dev/zero of=/tmp/image bs=1M count=24 2>/dev/null && mke2fs -F /tmp/image >/dev/null && "
                   "mke2fs -F /dev/vda >/dev/null && mount -o loop /tmp/image /data && mount /dev/vda /slow && "
                   "dmesg -n 1 && { modprobe -q fuse; true; }; }", timeout=60)
    return vm


@contextlib.contextmanager
def slow(vm):
    """The disk writes a byte a second meanwhile."""
    def throttle(rate):
        limits = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
        vm.qmp.cmd("block_set_io_throttle", {"device": "slow", **limits, "bps_wr": rate})
    throttle(1)
    try:
        yield
    finally:
        throttle(0)


def rvmrpc(*words):
    """A command on that guest that must succeed."""
    return tools.ok(words[0], "sick", *words[1:], folder=FOLDER.name)


def doctor():
    """The sentences of its report, which must come in time, and the whole of it."""
    report = rvmrpc("doctor")
    sentences = re.findall(r"^  - (.*)$", report.out.split("\nChannel\n")[0], re.M)
    comment(f"{report.seconds:.2f} s\n" + "\n".join(sentences))
    assert report.seconds < DEADLINE, report
    return sentences, report.out


def names(*causes, also=()):
    """doctor() names each of these causes, and nothing that is none of them, a symptom, or what may be said, too."""
    sentences, report = doctor()
    for cause in causes:
        assert any(re.match(cause, s) for s in sentences), (cause, sentences)
    others = [s for s in sentences if not any(re.match(known, s) for known in (*causes, *also, *SYMPTOMS))]
    assert not others, others
    return report
