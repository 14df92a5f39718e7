#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command rvmrpc on a host with our KVM: by /dev/rvmrpc, and by the device's socket,
whose calls go through KVM's proxy, too.
"""
import json

from ours import COMMAND, FAR, host, mem_total, named, ok, rvmrpc, shared_l2, status, with_command

from harness import case, main


def pair():
    """(an L2 with a socket, one without)."""
    l1 = with_command(host())
    return (shared_l2(l1, **named("first", 1, device_opts="socket=/tmp/first.sock")),
            shared_l2(l1, slot=1, **named("second", 2, memory="192M")))


@case("the command lists the VMs, each by its way", timeout=240)
def lists():
    """A socket where there is one, else KVM."""
    first, second = pair()
    found = {vm["name"]: vm for vm in json.loads(ok(first, "list --json"))}
    assert set(found) == {"first", "second"}, found
    assert found["first"]["way"] == "socket" and found["second"]["way"] == "kernel", found
    for number, (name, vm) in enumerate((("first", first), ("second", second)), 1):
        assert found[name]["uuid"] == f"{FAR}{number}", found
        assert found[name]["pid"] == vm.process.pid, found
        assert found[name]["state"] == "connected", found


@case("meminfo, echo, info and ping, through KVM's proxy by either way", timeout=240)
def calls():
    """KVM counts each; the values are those of the VM that was named."""
    for vm, name in zip(pair(), ("first", "second")):
        before = status(vm.l1, name)["completed"]
        assert json.loads(ok(vm, f"meminfo {name} --json"))["total"] == mem_total(vm), name
        echo = ok(vm, f"call {name} echo echo 'by name' | cat")
        assert echo == "by name", echo
        info, ping = ok(vm, f"info {name}"), ok(vm, f"ping -c 10 -i 0.01 {name}")
        assert "sysinfo" in info and "10 calls" in ping, (info, ping)
        assert status(vm.l1, name)["completed"] >= before + 12, name


@case("who may not use /dev/rvmrpc is told so, and no such VM is one", timeout=240)
def refusals():
    """Root of another user namespace; a name that nobody has."""
    vm = pair()[1]
    code, text = rvmrpc(vm, "meminfo third")
    assert code != 0 and "third" in text, (code, text)
    code, text = vm.l1.guest.run(f"unshare -r sh -c '{COMMAND} meminfo second'", timeout=60)
    assert code != 0 and "second" in text, (code, text)


if __name__ == "__main__":
    main()
