# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest on which is tested what looks after one, and its own truth."""
import re
import time

from .tap import shared
from .wait import wait_for

ALLOW = "default,klog.read,vmcoreinfo.read,clock.set,control.*,freeze.*,reclaim.*"

# QMP commands with their least arguments: those that every guest allows, and those that none does by default.
TELLS = {name: {} for name in ("guest-filesystems", "guest-interfaces", "guest-pressure", "guest-tasks", "guest-clock",
                               "guest-freeze-status")}
CHANGES = {"guest-set-clock": {}, "guest-freeze": {}, "guest-thaw": {}, "guest-reclaim": {"bytes": 1}, "guest-compact": {},
           "guest-sync": {}, "guest-sysrq": {"key": "m"}, "guest-poweroff": {}, "guest-reboot": {"force": True},
           "guest-kernel-log": {}}


def patient(folder, kernel, **options):
    """One for all cases: an ext4 file system at /data, a remote one at /mnt, the same of /data at "/tmp/a b"."""
    vm = shared(kernel=kernel, smp=2, memory="512M", share=folder, append=f"psi=1 rvmrpc.allow={ALLOW}",
                extra=["-blockdev", "null-co,node-name=null,size=1048576,read-zeroes=on",
                       "-device", "virtio-blk-pci,drive=null", "-nic", "user,model=virtio,restrict=on"], **options)
    vm.guest.check("test -d /data || { mkdir /data && modprobe -a crc32c_generic ext4 loop virtio_blk && "
                   "dd if=/dev/zero of=/tmp/image bs=1M count=24 2>/dev/null && mke2fs -F /tmp/image >/dev/null && "
                   "mount -o loop /tmp/image /data && "
                   "mount -t 9p -o trans=virtio,version=9p2000.L share /mnt && "
                   "mkdir '/tmp/a b' && mount --bind /data '/tmp/a b'; }", timeout=60)
    return vm


def addresses(vm):
    """{(interface, address/prefix, scope)} and the interfaces' names, as ip(8) has them."""
    found, names, name = set(), set(), None
    for line in vm.guest.check("ip addr").splitlines():
        if line[0].isdigit():
            name = line.split(":")[1].strip().split("@")[0]
            names.add(name)
        match = re.match(r"\s+inet6? (\S+).* scope (\w+)", line)
        if match:
            found.add((name, match.group(1), match.group(2)))
    return found, names


def steady(vm, ask):
    """ask()'s answer, and the addresses, which were the same before and after: some come by themselves."""
    def same():
        before = addresses(vm)
        answer = ask()
        return (answer, before) if addresses(vm) == before else None
    return wait_for(same, 20, "addresses that stay")


def set_up_network(vm):
    """Addresses of both families on eth0, and some traffic on lo."""
    vm.guest.check("modprobe virtio_net; ip link set lo up; ip addr add 192.0.2.7/25 dev eth0; ip link set eth0 mtu 1400; "
                   "ip link set eth0 up; ip addr add 2001:db8::7/48 dev eth0; sleep 1; ping -c 2 -q 127.0.0.1 >/dev/null")


def df(vm, path):
    """(size, used, available) in bytes, (inodes, free ones)."""
    size, used, available = (int(n) * 1024 for n in vm.guest.check(f"df -k {path} | tail -n 1").split()[1:4])
    inodes, _, inodes_free = (int(n) for n in vm.guest.check(f"df -i {path} | tail -n 1").split()[1:4])
    return (size, used, available), (inodes, inodes_free)


def processes(vm):
    """{pid: name} as /proc has them."""
    text = vm.guest.check("cd /proc && for p in [0-9]*; do read -r c < $p/comm && echo $p $c; done 2>/dev/null")
    return {int(line.split()[0]): line.split(" ", 1)[1] for line in text.splitlines() if " " in line}


def stable_processes(before, after):
    """{pid: name} of those that were there all the time: kernel workers come, go, and call themselves by what they do."""
    return {pid: name for pid, name in before.items() if after.get(pid) == name and "kworker" not in name}


def hog(vm):
    """The PID of a process that has 60 MiB, touched all of them, and runs all the time."""
    pid = int(vm.guest.check("dd if=/dev/zero of=/dev/null bs=60M count=100000 2>/dev/null & echo $!"))
    rss = f"sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/{pid}/status"
    wait_for(lambda: int(vm.guest.check(rss)) > 59 << 10, 20, "its memory")
    return pid


def writer(vm, path):
    """The PID of a shell that waits to write there, for the file system is frozen; then it says so in /tmp/late."""
    vm.guest.check(f"(echo x > {path}; echo done > /tmp/late) & echo $! > /tmp/writer")
    pid = int(vm.guest.check("cat /tmp/writer"))
    wait_for(lambda: vm.guest.check(f"sed 's/.*) //' /proc/{pid}/stat")[0] == "D", 10, "a writer that waits")
    return pid


def guests_clock(vm):
    """(seconds by the guest's clock, what the host's may have been then from and to)"""
    before = time.time()
    return int(vm.guest.check("date +%s")), before, time.time()


def dmesg(vm):
    """[(level and facility, line with its time)]"""
    return [(int(line[1:line.index(">")]), line[line.index(">") + 1:])
            for line in vm.guest.check("dmesg -r", timeout=60).splitlines()]


def log_lines(messages):
    """Of (ns since boot, text of several lines): as dmesg(8) prints them."""
    return [f"[{ns // 10**9:5}.{ns // 1000 % 10**6:06}] {line}" for ns, text in messages for line in text.split("\n")]


def oom_kill(vm):
    """The kernel kills one in a small cgroup; (PID, name) by its own log."""
    vm.guest.check("cd /sys/fs/cgroup && echo +memory > cgroup.subtree_control && mkdir -p small && cd small && "
                   "echo 24M > memory.max && "
                   "{ sh -c 'echo $$ > cgroup.procs; exec tail /dev/zero' > /dev/null; true; }", timeout=60)
    line = vm.guest.check("dmesg | grep -o 'Killed process [0-9]* ([^)]*)' | tail -1").split()
    return int(line[2]), line[3].strip("()")


def table(vm, path):
    """{name: number} of a file such as /proc/vmstat."""
    return {line.split()[0]: int(line.split()[1]) for line in vm.guest.check(f"cat {path}").splitlines()}


def stalls(vm, resource):
    """{some or full: µs since boot} of /proc/pressure."""
    return {line.split()[0]: int(line.split("total=")[1])
            for line in vm.guest.check(f"cat /proc/pressure/{resource}").splitlines()}


def diskstats(vm, name):
    """(device number, 17 counters in the units of the channel)."""
    own = next(line.split() for line in vm.guest.check("cat /proc/diskstats").splitlines() if line.split()[2] == name)
    units = [1, 1, 512, 10**6, 1, 1, 512, 10**6, 1, 10**6, 10**6, 1, 1, 512, 10**6, 1, 10**6]
    return (int(own[0]), int(own[1])), [int(n) * unit for n, unit in zip(own[3:], units)]
