# SPDX-License-Identifier: GPL-2.0-or-later
"""A service of the guest's loopback, reached from the host: rvmrpc nc beside SSH's, vsock, and the guest's own loopback."""
import statistics
import time

from stand import BIG_SLOTS, CID

PORT = 7000
MIB = 1 << 20


def ways(stand, vm):
    """{name: (runs a command, words of a command line that is a connection)}"""
    service = f"127.0.0.1:{PORT}"
    found = {
        "rvmrpc nc": (stand.sh, f"{stand.tools}/rvmrpc nc {stand.folder}/rpc.sock {service}"),
        "ssh -W (dropbear)": (stand.sh, stand.ssh(options=f"-B {service}")),
        "loopback in the guest": (vm.guest.check, f"nc 127.0.0.1 {PORT}"),
    }
    if stand.vsock:
        found["vsock"] = (stand.sh, f"{stand.bench}/bench_vsocknc {CID} {PORT}")
    return found


def timed(run, connection, size, up):
    """MiB/s of so many bytes one way, the start of the programs included."""
    if up:
        text = f"(echo count; head -c {size} /dev/zero) | {connection} | grep -q '^{size} '"
    else:
        text = f"echo give {size} | {connection} | wc -c | grep -q '^{size}$'"
    start = time.monotonic()
    run(text, 300)
    return size / MIB / (time.monotonic() - start)


def forward(stand, size, rounds):
    """Interleaved; the median and the best of the rounds, MiB/s."""
    vm, own = stand.vm, None
    if "sock" not in stand.target:
        # Calls go by KVM there, which has no tunnels; SSH and vsock stay with the first.
        vm = own = stand.make_vm(smp=1, memory="192M", device_opts=f"{BIG_SLOTS},socket={stand.folder}/rpc.sock",
                                 extra=["-name", "tunnels"]).boot()
    for guest in {stand.vm, vm}:
        guest.guest.check(f"ip link set lo up; echo 127.0.0.1:{PORT} > /sys/module/rvmrpc/parameters/connect_allow; "
                          f"tcp-test 127.0.0.1 {PORT}")
    if stand.vsock:
        stand.vm.guest.check(f"tcp-test vsock {PORT}")
    found = {}
    for _ in range(rounds):
        for name, (run, connection) in ways(stand, vm).items():
            for up in (False, True):
                found.setdefault(f"{name}, {'to' if up else 'from'} the service", []).append(
                    timed(run, connection, size, up))
    if own:
        own.stop()
    return {name: {"median": round(statistics.median(rates), 1), "best": round(max(rates), 1)}
            for name, rates in found.items()}
