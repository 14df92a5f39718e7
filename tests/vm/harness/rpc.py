# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls into the guest, and what its driver says of itself."""
import base64

from .wait import wait_for

DRIVER = "/sys/bus/pci/drivers/rvmrpc/0000:*"
PARAMETERS = "/sys/module/rvmrpc/parameters"


def call_args(module, procedure, data=None, timeout=None):
    """The arguments of guest-kernel-call."""
    args = {"module": module, "procedure": procedure}
    if data is not None:
        args["data"] = base64.b64encode(data).decode()
    if timeout is not None:
        args["timeout"] = timeout
    return args


def call(qmp, module, procedure, data=None, timeout=None):
    """guest-kernel-call: (status, answer's bytes)."""
    reply = qmp.cmd("guest-kernel-call", call_args(module, procedure, data, timeout), timeout=70)
    return reply["status"], base64.b64decode(reply["data"], validate=True)


def ms(number):
    """The argument of test.sleep and the like."""
    return number.to_bytes(4, "little")


def stats(vm, qmp=None):
    """The counters of query-rvmrpc."""
    return (qmp or vm.qmp).cmd("query-rvmrpc")["stats"]


def driver_file(vm, name):
    """The content of one of the driver's files."""
    return vm.guest.check(f"cat {DRIVER}/{name}").strip()


def counters(vm):
    """The guest driver's own counters."""
    text = vm.guest.check(f"cd {DRIVER}/counters && grep . *")
    return {name: int(value) for name, value in
            (line.split(":") for line in text.splitlines())}


def set_parameter(vm, name, value):
    """Writes a parameter of the driver."""
    vm.guest.check(f"echo '{value}' > {PARAMETERS}/{name}")


def server_cpus(vm):
    """The CPUs that the driver's server thread may run on, as the kernel lists them."""
    # The first grep fails when any process ends meanwhile; without the thread the second does.
    return vm.guest.check("comm=$(grep -lsx rvmrpc /proc/[0-9]*/comm); "
                          "grep Cpus_allowed_list ${comm%/comm}/status").split()[1]


def insmod(vm, name, parameters=""):
    """Loads one of our modules."""
    vm.guest.check(f"insmod /lib/rvmrpc/{name}.ko {parameters}")


def wait_connected(vm, epoch, timeout=30):
    """Waits for a registration other than that of the epoch; query-rvmrpc's answer."""
    def check():
        info = vm.query()
        return info if info["state"] == "connected" and info["epoch"] != epoch else None
    return wait_for(check, timeout, "another registration", interval=0.05)


def balloon_window(vm, first=0, count=None):
    """Has the guest put pages of its window, all by default, into the balloon, so that QEMU discards them.

    The VM needs a virtio-balloon-pci, whose own driver goes.
    """
    start, end = (int(word, 16) for word in vm.guest.check(f"sed -n 3p {DRIVER}/resource").split()[:2])
    count = count or (end + 1 - start) // 4096
    text = vm.guest.run("rmmod virtio_balloon; insmod /lib/rvmrpc/rvmrpc_balloon.ko "
                        f"first={start // 4096 + first} count={count}")[1]
    assert "peration canceled" in text, text
