#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end: VMs by their processes, of other users, in other namespaces, of odd names. No guest runs."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

# pylint: disable=wrong-import-position
from fake import FakeVM  # noqa: E402
from harness import Skip, case, main, wait_for  # noqa: E402
from tools import RVMRPC, environment, rvmrpc  # noqa: E402

PROGRAM = str(pathlib.Path(__file__).with_name("fakeqemu.py"))
NOBODY = 65534
UUID = "7a1d5a5e-0000-4000-8000-{:012x}"
# A QEMU in a container: its own /run, with a socket at a path that the host has, too.
CONTAINER = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount -t tmpfs tmpfs "$0" && exec "$@"']


def need_root():
    """Other users and namespaces are root's to make."""
    if os.geteuid():
        raise Skip("needs root to become somebody else")


class Folder:
    """A folder that all may enter, and the processes and fakes of one case."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="rvmrpc-peers-")
        os.chmod(self.path, 0o777)
        self.ends = []
        self.binary = f"{self.path}/qemu-system-x86_64"
        os.symlink(sys.executable, self.binary)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in reversed(self.ends):
            end()
        shutil.rmtree(self.path)

    def fake(self, file, **options):
        """A fake VM of this process, at file.sock."""
        vm = FakeVM(self.path, file, **options)
        self.ends.append(vm.close)
        return vm

    def qemu(self, *options, before=(), user=None, **env):
        """A process with these options of QEMU, which listens when this returns."""
        variables = {f"FAKE_{key.upper()}": str(value) for key, value in env.items()}
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [*before, self.binary, PROGRAM, *map(str, options)], cwd=self.path, env={**os.environ, **variables},
            stdout=subprocess.PIPE, user=user, group=user,
            extra_groups=[] if user is not None else None)
        self.ends.append(lambda: self._end(process))
        assert process.stdout.readline() == b"ready\n", options
        return process

    @staticmethod
    def _end(process):
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()
        process.stdout.close()


def found(name, **more):
    """VMs of that name in the list."""
    return [vm for vm in rvmrpc("list", "--json", **more).json() if vm["name"] == name]


@case("the VM of a container answers, not the one that has its path here")
def container():
    """By name and by process id, and each its own."""
    need_root()
    with Folder() as folder:
        run = f"{folder.path}/run"
        os.mkdir(run)
        host = FakeVM(run, "vm", name="peers-host", uuid=UUID.format(1), memory=111 << 20)
        folder.ends.append(host.close)
        inner = folder.qemu("-name", "guest=peers-cont,debug-threads=on", "-device",
                            f"rvmrpc,socket={run}/vm.sock", before=[*CONTAINER, run],
                            name="peers-cont", memory=222 << 20)
        for what in ("peers-cont", inner.pid):
            assert rvmrpc("meminfo", what, "--json").json()["total"] == 222 << 20, what
        assert rvmrpc("meminfo", host.path, "--json").json()["total"] == 111 << 20
        assert rvmrpc("meminfo", "peers-host", "--json", folder=run).json()["total"] == 111 << 20


@case("another process that answers at a VM's path is not called")
def other_process():
    """Whatever it says: it is not the process that the name led to."""
    with Folder() as folder:
        qemu = folder.qemu("-name", "peers-moved", "-device", f"rvmrpc,socket={folder.path}/vm.sock")
        os.unlink(f"{folder.path}/vm.sock")
        other = folder.fake("vm", name="peers-moved")
        for what in ("peers-moved", qemu.pid):
            result = rvmrpc("drop-caches", what, "all")
            assert result.status == 4 and f"process {os.getpid()}, not {qemu.pid}" in result.err, result
        assert other.calls == 0


@case("a socket that another VM has taken over is not the VM that was watched")
def taken_over():
    """It is down; the new one is found by its own name."""
    with Folder() as folder:
        first = folder.fake("vm", name="peers-a", uuid=UUID.format(1))
        with subprocess.Popen([RVMRPC, "watch", "peers-a", "--json", "-i", "0.1"], stdout=subprocess.PIPE,
                              env=environment(folder.path), text=True) as watch:
            try:
                assert json.loads(watch.stdout.readline())["state"] == "connected"
                folder.ends.remove(first.close)
                first.close()
                second = folder.fake("vm", name="peers-b", uuid=UUID.format(2))
                # It may have said more before that.
                lines = iter(lambda: json.loads(watch.stdout.readline()), None)
                assert next(line for line in lines if "another VM, peers-b" in (line.get("error") or ""))["state"] == "down"
            finally:
                watch.kill()
        assert second.calls == 0
        assert rvmrpc("meminfo", "peers-b", "--json", folder=folder.path).status == 0


@case("a VM that is watched by its name is found again when it starts anew")
def restarts():
    """Another process, at the same path."""
    with Folder() as folder:
        options = ("-name", "peers-again", "-uuid", UUID.format(3), "-device", f"rvmrpc,socket={folder.path}/vm.sock")
        first = folder.qemu(*options, name="peers-again", uuid=UUID.format(3))
        with subprocess.Popen([RVMRPC, "watch", "peers-again", "--json", "-i", "0.1"], stdout=subprocess.PIPE,
                              env=environment(), text=True) as watch:
            try:
                assert json.loads(watch.stdout.readline())["state"] == "connected"
                first.kill()
                first.wait()
                os.unlink(f"{folder.path}/vm.sock")
                # It may have said more before that.
                lines = iter(lambda: json.loads(watch.stdout.readline()), None)
                assert next(line for line in lines if line["state"] == "down")
                second = folder.qemu(*options, name="peers-again", uuid=UUID.format(3))
                assert next(line for line in lines if line["state"] == "connected")["pid"] == second.pid
            finally:
                watch.kill()


@case("a relative path of a QEMU that went to the background")
def daemonized():
    """It has another folder by then."""
    with Folder() as folder:
        qemu = folder.qemu("-daemonize", "-name", "peers-far", "-device", "rvmrpc,socket=far.sock",
                           memory=333 << 20)
        info = rvmrpc("info", qemu.pid, "--json").json()
        assert info["socket"] == f"{os.path.realpath(folder.path)}/far.sock", info
        assert rvmrpc("meminfo", qemu.pid, "--json").json()["total"] == 333 << 20


@case("a process of any other user is no VM, whatever its command line says")
def other_user():
    """It neither shows nor makes a name ambiguous, and nobody goes to its monitor."""
    need_root()
    with Folder() as folder:
        folder.qemu("-name", "peers-web", "-device", f"rvmrpc,socket={folder.path}/root.sock",
                    name="peers-web", memory=444 << 20)
        folder.qemu("-name", "peers-web", "-device", f"rvmrpc,socket={folder.path}/liar.sock", "-qmp",
                    f"unix:{folder.path}/qmp.sock", user=NOBODY, name="peers-web", memory=5)
        folder.qemu("-name", "peers-qmp", "-device", "rvmrpc", "-qmp", f"unix:{folder.path}/qmp2.sock",
                    user=NOBODY)
        assert rvmrpc("meminfo", "peers-web", "--json").json()["total"] == 444 << 20
        assert len(found("peers-web")) == 1 and not found("peers-qmp")
        assert rvmrpc("meminfo", "peers-qmp").status == 3
        assert not list(pathlib.Path(folder.path).glob("*.visited"))


@case("users that run VMs are named by RVMRPC_USERS; their monitors stay their own")
def vmm_users():
    """By number or name."""
    need_root()
    with Folder() as folder:
        folder.qemu("-name", "peers-vmm", "-device", f"rvmrpc,socket={folder.path}/vmm.sock", user=NOBODY,
                    name="peers-vmm", memory=55 << 20)
        folder.qemu("-name", "peers-qmp", "-device", "rvmrpc", "-qmp", f"unix:{folder.path}/qmp.sock",
                    user=NOBODY)
        for users in (str(NOBODY), "root:nobody"):
            assert rvmrpc("meminfo", "peers-vmm", "--json", RVMRPC_USERS=users).json()["total"] == 55 << 20
            assert rvmrpc("meminfo", "peers-qmp", RVMRPC_USERS=users).status == 4
        assert not pathlib.Path(folder.path, "qmp.sock.visited").exists()
        assert not found("peers-vmm", RVMRPC_USERS="root")


@case("a socket of any other user in the folder is no VM")
def other_socket():
    """Nor is a link to one."""
    need_root()
    with Folder() as folder:
        folder.fake("web", name="peers-web", memory=66 << 20)
        folder.qemu("-device", f"rvmrpc,socket={folder.path}/liar.sock", user=NOBODY, name="peers-web")
        os.mkdir(f"{folder.path}/else")
        hidden = FakeVM(f"{folder.path}/else", "hidden")
        folder.ends.append(hidden.close)
        os.symlink(hidden.path, f"{folder.path}/link.sock")
        vms = rvmrpc("list", "--json", folder=folder.path).json()
        assert [vm["name"] for vm in vms] == ["peers-web"], vms
        assert rvmrpc("meminfo", "peers-web", "--json", folder=folder.path).json()["total"] == 66 << 20


@case("QEMU by any name of its binary, once, whoever began it")
def binaries():
    """kvm; under timeout and a script."""
    with Folder() as folder:
        kvm = f"{folder.path}/kvm"
        os.symlink(sys.executable, kvm)
        # No argument but the program's own has another binary's name.
        code = f"import runpy; runpy.run_path({PROGRAM!r}, run_name='__main__')"
        options = ["-name", "peers-kvm", "-device", f"rvmrpc,socket={folder.path}/kvm.sock"]
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["timeout", "60", kvm, "-c", code, *options], stdout=subprocess.PIPE,
            env={**os.environ, "FAKE_MEMORY": str(77 << 20), "FAKE_NAME": "peers-kvm"})
        folder.ends.append(lambda: Folder._end(process))  # pylint: disable=protected-access
        assert process.stdout.readline() == b"ready\n"
        vms = found("peers-kvm")
        assert len(vms) == 1 and vms[0]["pid"] != process.pid, (process.pid, vms)
        assert rvmrpc("meminfo", "peers-kvm", "--json").json()["total"] == 77 << 20


NAMES = {
    "peers-w,debug-threads=on": "peers-w",
    "peers-x,process=y": "peers-x",
    "guest=peers,,comma,debug-threads=on": "peers,comma",
    "peers-db/primary": "peers-db/primary",
    "-peers-lead": "-peers-lead",
}


@case("names in every form that QEMU takes; such that look like options and paths")
def names():
    """With -- before those that begin with a dash."""
    with Folder() as folder:
        for i, option in enumerate(NAMES):
            # Without a socket that could tell: from the command line alone.
            folder.qemu("-name", option, "-device", "rvmrpc", "-uuid", UUID.format(i))
        vms = {vm["uuid"]: vm["name"] for vm in rvmrpc("list", "--json").json() if "uuid" in vm}
        for i, name in enumerate(NAMES.values()):
            assert vms.get(UUID.format(i)) == name, (name, vms)
    with Folder() as folder:
        folder.fake("one", name="peers-db/primary")
        folder.fake("two", name="-peers-lead")
        for what in (["peers-db/primary"], ["--", "peers-db/primary"], ["--", "-peers-lead"]):
            for args in (["meminfo", "--json", *what], ["--json", "meminfo", *what]):
                result = rvmrpc(*args, folder=folder.path)
                assert result.status == 0 and result.json()["total"], (args, result)
        assert rvmrpc("call", "--", "-peers-lead", "1", "0", "--", folder=folder.path).out == "--"


@case("the VM itself is asked for its name")
def own_name():
    """What its command line says is only where to ask."""
    with Folder() as folder:
        qemu = folder.qemu("-readconfig", "vm.cfg", "-device", f"rvmrpc,socket={folder.path}/x.sock",
                           name="peers-own", uuid=UUID.format(9))
        wait_for(lambda: found("peers-own"), 20, "the VM in the list")
        vm, = found("peers-own")
        assert vm["pid"] == qemu.pid and vm["uuid"] == UUID.format(9), vm


if __name__ == "__main__":
    main(guests=False)
