# SPDX-License-Identifier: GPL-2.0-or-later
"""A service of the guest's loopback, reached from the host: rvmrpc nc beside SSH's, and the guest's own loopback."""
import statistics
import time

from stand import NoAnswer

PORT = 7000
MIB = 1 << 20


def ways(stand):
    """{name: (command of the host or None for the guest's, words of a command line that is a connection)}"""
    service = f"127.0.0.1:{PORT}"
    return {
        "rvmrpc nc": (True, f"{stand.tools}/rvmrpc nc {stand.folder}/rpc.sock {service}"),
        "ssh -W (dropbear)": (True, stand.ssh(options=f"-B {service}")),
        "loopback in the guest": (False, f"nc 127.0.0.1 {PORT}"),
    }


def timed(stand, on_host, connection, size, up):
    """MiB/s of so many bytes one way, the start of the programs included."""
    if up:
        text = f"(echo count; head -c {size} /dev/zero) | {connection} | grep -q '^{size} '"
    else:
        text = f"echo give {size} | {connection} | wc -c | grep -q '^{size}$'"
    start = time.monotonic()
    if on_host:
        stand.sh(text, 300)
    else:
        stand.vm.guest.check(text, 300)
    return size / MIB / (time.monotonic() - start)


def forward(stand, size, rounds):
    """Interleaved; the median and the best of the rounds, MiB/s."""
    if "sock" not in stand.target:
        raise NoAnswer("no socket of the VM here")
    stand.vm.guest.check(f"echo 127.0.0.1:{PORT} > /sys/module/rvmrpc/parameters/connect_allow; tcp-test 127.0.0.1 {PORT}")
    found = {}
    for _ in range(rounds):
        for name, (on_host, connection) in ways(stand).items():
            for up in (False, True):
                found.setdefault(f"{name}, {'to' if up else 'from'} the service", []).append(
                    timed(stand, on_host, connection, size, up))
    return {name: {"median": round(statistics.median(rates), 1), "best": round(max(rates), 1)}
            for name, rates in found.items()}
