#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Module sysinfo at its edges: more CPUs than fit into an answer, huge pages, odd clocks and names."""
import re
import time

from harness import VM, case, comment, main, shared

PATIENT = "rcupdate.rcu_cpu_stall_timeout=300"


def guest():
    """What the small cases share."""
    return shared(memory="256M", append=PATIENT)


@case("8 CPUs and a quarter of a page for the answer: all are in guest-cpuinfo and guest-cpustat", timeout=120)
def pages():
    """In as many answers as it takes. 64 CPUs and a page are in tests/unit/server.c: TCG takes minutes to boot them."""
    cpus = 8
    with VM(smp=cpus, memory="512M", append=PATIENT,
            device_opts="response-bytes=1024,default-timeout=20000") as vm:
        for command in ("guest-cpuinfo", "guest-cpustat"):
            got = vm.qmp.cmd(command)
            assert [cpu["index"] for cpu in got["cpus"]] == list(range(cpus)), (command, got)
        assert all(cpu["idle"] > 0 for cpu in got["cpus"]) and got["total"]["idle"] > 0
        vm.guest.check(f"echo 0 > /sys/devices/system/cpu/cpu{cpus - 2}/online")
        wanted = [cpu for cpu in range(cpus) if cpu != cpus - 2]
        for command in ("guest-cpuinfo", "guest-cpustat"):
            assert [cpu["index"] for cpu in vm.qmp.cmd(command)["cpus"]] == wanted, command


@case("guest-meminfo has the huge pages that were set aside")
def huge():
    """In bytes; neither free nor available."""
    vm = guest()
    before = vm.qmp.cmd("guest-meminfo")
    assert before["hugetlb"] == before["huge-total"] == before["huge-free"] == 0, before
    vm.guest.check("echo 20 > /proc/sys/vm/nr_hugepages")
    own = dict(re.findall(r"^(\w+): +(\d+)", vm.guest.check("cat /proc/meminfo"), re.M))
    got = vm.qmp.cmd("guest-meminfo")
    pages_, size = int(own["HugePages_Total"]), int(own["Hugepagesize"]) * 1024
    comment(f"{pages_} pages of {size}")
    assert pages_ > 10 and got["huge-size"] == size, (own, got)
    assert got["hugetlb"] == got["huge-total"] == got["huge-free"] == pages_ * size, (own, got)
    assert before["available"] - got["available"] > pages_ * size * 0.8, (before, got)
    assert got["percpu"] == int(own["Percpu"]) * 1024, (own, got)
    vm.guest.check("echo 0 > /proc/sys/vm/nr_hugepages")


@case("no boot-time when the clock is set before the uptime", timeout=120)
def clock():
    """It would be before 1970. Linux lets the clock be so once the guest has slept."""
    with VM(memory="256M", append=PATIENT) as vm:
        assert "boot-time" in vm.qmp.cmd("guest-osinfo")
        vm.guest.sock.sendall(b"echo mem > /sys/power/state\n")
        vm.qmp.wait_event("SUSPEND", timeout=20)
        time.sleep(20)
        vm.qmp.cmd("system_wakeup")
        vm.guest.sync(30)
        vm.wait_state()
        wanted = vm.qmp.cmd("guest-osinfo")["uptime-ns"] // 10 ** 9 - 10
        vm.guest.check(f"date -s @{wanted}")
        assert abs(int(vm.guest.check("date +%s")) - wanted) < 10, "the clock was not set"
        got = vm.qmp.cmd("guest-osinfo")
        assert "boot-time" not in got and got["uptime-ns"] > 10 ** 9, got


NAMES = {
    "büro-東京": "büro-東京",
    "a\\b": "a\\\\b",
    "esc\033[2J": "esc\\033[2J",
    "bidi\u202ename": "bidi\\342\\200\\256name",
    "\u009bc1": "\\302\\233c1",
}


@case("a host name outside ASCII passes; what is no text, or moves a terminal, is escaped")
def names():
    """As the schema says."""
    vm = guest()
    for name, wanted in NAMES.items():
        octal = "".join(f"\\{byte:03o}" for byte in name.encode())
        vm.guest.check(f"printf '{octal}' > /proc/sys/kernel/hostname")
        assert vm.qmp.cmd("guest-osinfo")["hostname"] == wanted, name
    vm.guest.check("printf 'half\\303' > /proc/sys/kernel/hostname")
    assert vm.qmp.cmd("guest-osinfo")["hostname"] == "half\\303"


if __name__ == "__main__":
    main()
