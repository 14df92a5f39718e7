# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows: what is called, how the guest waits meanwhile, and how often."""
import random
import statistics
import sys

from stand import ADAPTIVE_US, NoAnswer

# What R is made of is measured in shorter and more blocks than the rest, and so are bursts.
LIMIT_CALLS = 100
BLOCKS = 4
# Calls of a burst are timed so many at once.
BURST = 32
BURSTS = 640
# Answers that are used where they lie.
IN_PLACE = (4096, 65536, 1 << 20)
# For the longest of them, as the client that maps the window does.
IN_PLACE_SPIN_NS = 5000000
LONE_MS = 20
EVENTS = ("hypercalls", "rings", "irqs", "user_exits")
COUNTED = (*EVENTS, "exits", "vcpu_sleeps", "other_sleeps")


class Row:
    """One line of the table.

    take(n) makes n calls and returns the ns of each and what the counters gained;
    idle_us and spin_ns are set before; a spin_ns of None is the default. A sample is
    the mean of burst calls.
    """

    def __init__(self, name, take, calls, idle_us=ADAPTIVE_US, spin_ns=None,
                 counted=COUNTED, blocks=1, burst=1):
        self.name = name
        self.take = take
        self.calls = calls          # per round
        self.idle_us = idle_us
        self.spin_ns = spin_ns
        self.count = counted        # what is this row's own, and not the making of it
        self.blocks = blocks        # per round
        self.burst = burst
        self.samples = []
        self.medians = []           # of each block
        self.counted = dict.fromkeys(COUNTED)
        self.error = None

    def round(self, calls):
        """One block of calls."""
        if self.error:
            return
        try:
            samples, gained = self.take(calls)
        except NoAnswer as error:
            self.error = str(error)
            return
        self.samples += samples
        self.medians.append(statistics.median(samples))
        for key in self.count:
            if gained.get(key) is not None:
                self.counted[key] = (self.counted[key] or 0) + gained[key]

    def per_call(self, key):
        """A counter per call, None when it does not exist here."""
        value = self.counted[key]
        return None if value is None or not self.samples else round(value / len(self.samples) / self.burst, 4)

    def summary(self):
        """As the JSON has it."""
        us = [ns / 1000 for ns in self.samples]
        return {"name": self.name, "n": len(us) * self.burst,
                **{f"{key}_us": round(value, 3) for key, value in spread(us).items()},
                "exits": self.per_call("exits"), "irqs": self.per_call("irqs"),
                "wakes": self.per_call("vcpu_sleeps")}


def spread(values):
    """min, p50, p99 and mean."""
    ordered = sorted(values)
    if not ordered:
        return dict.fromkeys(("min", "p50", "p99", "mean"), 0.0)
    return {"min": ordered[0], "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
            "mean": statistics.fmean(ordered)}


def client_row(stand, name, row, target, calls, warm=3, vm=None, **how):
    """A row that the client program makes; vm: whose counters, None: the stand's."""
    def take(n):
        return stand.counted_client(row, stand.target.get(target, target), n, warm, vm, timeout=100)
    return Row(name, take, calls, **how)


def kernel_row(stand, name, what, calls, warm=5, **how):
    """A row of the host's LKM, on the first CPU."""
    return client_row(stand, name, "kernel", what, calls, warm, **how)


def memcpy_rows(stand):
    """The limit of an answer that is used in place."""
    return [Row(f"memcpy in the guest, {size} bytes", lambda n, s=size: (stand.guest_samples(f"memcpy {{n}} {s}", n), {}),
                40, counted=()) for size in IN_PLACE]


def limit_rows(stand):
    """E and F, named so."""
    if stand.kernel:
        rally = kernel_row(stand, "F: wake ping-pong (completion, two kernel threads)",
                           "pingpong {0} {1}".format(*stand.cpus), LIMIT_CALLS, idle_us=0, blocks=BLOCKS)
    else:
        rally = client_row(stand, "F: wake ping-pong (eventfd, two threads)", "pingpong",
                           "{0} {1}".format(*stand.cpus), LIMIT_CALLS, idle_us=0, blocks=BLOCKS)
    null = Row("E: null hypercall on the server's vCPU",
               lambda n: stand.counted(None, lambda: stand.guest_samples("null {n}", n)),
               LIMIT_CALLS, idle_us=0, counted=("hypercalls",), blocks=BLOCKS)
    return [null, rally]


LONE = "kernel client: null, both asleep"


def burst_rows(stand):
    """The kernel's client in a slot that it holds: no copies, and for a call in a burst no clock."""
    cpu, other = stand.cpus
    often = {"blocks": BLOCKS, "burst": BURST}
    parts = (("to read the clock", "clock"), ("a call that is refused", "refused"))
    return [kernel_row(stand, "kernel client: S, two threads that spin", f"spin {cpu} {other}", BURSTS, **often),
            # The driver learns to spin in the first ones.
            kernel_row(stand, "kernel client: null in a burst", f"burst {cpu}", BURSTS, 20, **often),
            *[kernel_row(stand, f"kernel client: of it {what}", f"{word} {cpu}", 200, burst=BURST)
              for what, word in parts],
            *[kernel_row(stand, f"kernel client: answer in place, {size} bytes", f"held {cpu} {size}", 40, 20,
                         spin_ns=IN_PLACE_SPIN_NS)
              for size in IN_PLACE]]


def kernel_rows(stand, _others):
    """The host kernel's client."""
    if not stand.kernel:
        return []
    cpu = stand.cpus[0]
    modes = (("VMLP, window 0", -1, 0), ("VMLP, default window", -1, None),
             ("interrupt", 0, None), ("adaptive", ADAPTIVE_US, None))
    rows = [kernel_row(stand, f"kernel client: {what}, {mode}", f"{what} {cpu}", LIMIT_CALLS,
                       idle_us=idle, spin_ns=spin, blocks=BLOCKS if what == "null" else 1)
            for mode, idle, spin in modes for what in ("null", "meminfo")]
    rows += [kernel_row(stand, f"{LONE}, {mode}", f"lone {cpu} {LONE_MS}", LIMIT_CALLS // 2,
                        idle_us=idle, spin_ns=spin, blocks=BLOCKS)
             for mode, idle, spin in (*modes[1:], ("interrupt, window 0", 0, 0))]
    rows += [kernel_row(stand, "kernel client: /proc/meminfo opened, read and closed, adaptive",
                        f"procfs {cpu}", 50),
             client_row(stand, "/dev/rvmrpc: null", "dev-null", "vm", 50),
             client_row(stand, "/dev/rvmrpc: meminfo", "dev-meminfo", "vm", 50)]
    if "file" in stand.target:
        rows.append(client_row(stand, "/proc/rvmrpc/.../meminfo opened, read and closed",
                               "file-read", "file", 50))
    return rows + burst_rows(stand)


def socket_rows(stand, _others):
    """The socket of the device."""
    if "sock" not in stand.target:
        return []
    modes = (("VMLP", -1), ("interrupt", 0), ("adaptive", ADAPTIVE_US))
    rows = [client_row(stand, f"socket: {what}, {mode}", f"socket-{what}", "sock", 100,
                       idle_us=idle) for mode, idle in modes for what in ("null", "meminfo")]
    return [*rows, client_row(stand, "socket: /proc/meminfo opened, read and closed",
                              "socket-procfs", "sock", 50)]


def peer_rows(stand, others):
    """QMP and the peers."""
    rows = [client_row(stand, "QMP: empty command (query-name)", "qmp-empty", "qmp", 50),
            client_row(stand, "QMP: guest-kernel-call null", "qmp-null", "qmp", 50),
            client_row(stand, "QMP: guest-meminfo", "qmp-meminfo", "qmp", 50),
            client_row(stand, "QGA: guest-ping", "qga-ping", "qga", 30),
            client_row(stand, "QGA: open, read, close /proc/meminfo", "qga-read", "qga", 30, 1),
            client_row(stand, "QGA: guest-exec cat /proc/meminfo", "qga-exec", "qga", 26, 1),
            client_row(stand, "virtio-balloon: read statistics", "balloon-read", "qmp", 30),
            client_row(stand, "virtio-balloon: age of the value", "balloon-age", "qmp", 8, 0),
            client_row(stand, "SSH: new connection, cat /proc/meminfo", "command", "ssh", 3, 0),
            client_row(stand, "SSH: kept connection, cat /proc/meminfo", "shell", "shell", 10, 1)]
    if stand.vsock:
        rows += [client_row(stand, "vsock server: meminfo, kept connection", "vsock-kept",
                            "vsock", 50),
                 client_row(stand, "vsock server: meminfo, new connection", "vsock-new",
                            "vsock", 30)]
    return rows + virsh_rows(stand, others)


def virsh_rows(stand, others):
    """From the command line of libvirt; the start of virsh is part of it."""
    domain = stand.start_virsh()
    if domain is None:
        return []
    others.callback(domain.close)
    return [client_row(stand, f"virsh: {what}, its own start included", "command", domain.command(name),
                       26, 1, vm=domain)
            for what, name in (("empty command (query-name)", "query-name"),
                               ("guest-meminfo", "guest-meminfo"))]


def default_mode(rows):
    """{peer: how many times faster meminfo is in the default wait mode}."""
    meminfo = p50(rows, "kernel client: meminfo, adaptive")
    peers = {"SSH, new connection": "SSH: new", "QGA open, read, close": "QGA: open",
             "the vsock server": "vsock server: meminfo, kept"}
    return {name: quotient(p50(rows, prefix), meminfo) for name, prefix in peers.items()}


CONTROL = "A/A control: "


def control_row(stand):
    """A row measured a second time: its ratio to the first is noise."""
    if stand.kernel:
        return kernel_row(stand, CONTROL + "kernel client: null, VMLP, window 0",
                          f"null {stand.cpus[0]}", LIMIT_CALLS, idle_us=-1, spin_ns=0, blocks=BLOCKS)
    return client_row(stand, CONTROL + "socket: null, adaptive", "socket-null", "sock", 100)


def control_ratio(rows):
    """Of the medians; 1 without noise."""
    for row in rows:
        if row.name.startswith(CONTROL):
            return quotient(p50([row], CONTROL), p50(rows, row.name.removeprefix(CONTROL)))
    return None


def least_R(rows, prefix):
    """R of the fastest calls, E and F, which the machine's other work disturbed least."""
    least = {row.name: min(row.samples) for row in rows if row.samples}

    def of(start):
        return next((value for name, value in least.items() if name.startswith(start)), None)
    parts = of(prefix), of("E:"), of("F:")
    return None if None in parts else round(parts[0] / (parts[1] + parts[2]), 3)


def one_round(rows, number):
    """(row, calls) in an order that goes to and fro: those of R again and again, then each of the others."""
    often = [row for row in rows if row.blocks > 1]
    once = [row for row in rows if row.blocks == 1]
    for block in range(BLOCKS if often else 0):
        for row in often if (number * BLOCKS + block) % 2 == 0 else reversed(often):
            yield row, row.calls // row.blocks
    for row in once if number % 2 == 0 else reversed(once):
        yield row, row.calls


def bootstrap(draw, draws=2000):
    """(low, high): 95 % of what draw(rng) returns, which draws its data again."""
    rng = random.Random(1)
    drawn = sorted(draw(rng) for _ in range(draws))
    return round(drawn[int(draws * 0.025)], 3), round(drawn[int(draws * 0.975)], 3)


def redrawn_median(rng, data):
    """The median of as many, drawn from them."""
    return statistics.median(rng.choices(data, k=len(data)))


def interval(rows, prefix):
    """(low, high): 95 % of R, by drawing blocks again; None without blocks."""
    found = [next((row.medians for row in rows if row.name.startswith(start)), None)
             for start in (prefix, "E:", "F:")]
    if not all(found):
        return None
    return bootstrap(lambda rng: redrawn_median(rng, found[0]) /
                     (redrawn_median(rng, found[1]) + redrawn_median(rng, found[2])))


def measure(stand, rows, rounds, divide):
    """Interleaved: each round in the other direction than the one before."""
    idle_us, spin_ns = None, "unknown"
    for number in range(rounds):
        for row, calls in one_round(rows, number):
            if idle_us != row.idle_us:
                idle_us = row.idle_us
                stand.set_wait(idle_us)
            if spin_ns != row.spin_ns:
                spin_ns = row.spin_ns
                stand.set_spin(spin_ns)
            row.round(max(1, calls // divide))
        print(f"    round {number + 1} of {rounds}", file=sys.stderr, flush=True)


def p50(rows, prefix):
    """Median in us of the first row whose name begins so, or None."""
    for row in rows:
        if row.name.startswith(prefix) and row.samples:
            return statistics.median(row.samples) / 1000
    return None


def quotient(above, below):
    """above / below, None when either is missing."""
    return None if above is None or not below else round(above / below, 3)


def pairs(rows, above, below):
    """The quotients of two rows' medians, block by block."""
    found = [next((row.medians for row in rows if row.name.startswith(name)), ()) for name in (above, below)]
    return [high / low for high, low in zip(*found)]


def events(rows, prefix):
    """What costs a switch, per call: hypercalls, rings, interrupts, exits to user space; None without the row."""
    for row in rows:
        if row.name.startswith(prefix) and row.samples:
            return round(sum(row.per_call(key) or 0 for key in EVENTS), 4)
    return None


def window_ratios(rows, who, prefix=""):
    """Of a client that works in the window itself."""
    bursts = pairs(rows, f"{who}: null in a burst", f"{who}: S,")
    return {f"{prefix}burst_S": round(statistics.median(bursts), 3) if bursts else None,
            f"{prefix}burst_events": events(rows, f"{who}: null in a burst"),
            **{f"{prefix}inplace_{size >> 10}KiB": quotient(p50(rows, f"memcpy in the guest, {size} "),
                                                            p50(rows, f"{who}: answer in place, {size} "))
               for size in IN_PLACE}}


def judge(rows):
    """(limit, ratios) from the medians of one run."""
    e, f = p50(rows, "E:"), p50(rows, "F:")
    limit = None if e is None or f is None else e + f
    ssh, qga = p50(rows, "SSH: new"), p50(rows, "QGA: open")
    meminfo = p50(rows, "kernel client: meminfo, VMLP, default")
    if meminfo is None:
        meminfo = p50(rows, "socket: meminfo, adaptive")
    qmp = p50(rows, "QMP: guest-meminfo")
    return ({"E_us": e, "F_us": f},
            {"null_R": quotient(p50(rows, "kernel client: null, VMLP, window 0"), limit),
             "null_R_window": quotient(p50(rows, "kernel client: null, VMLP, default"), limit),
             "isolated_R": quotient(p50(rows, f"{LONE}, interrupt"), limit),
             "isolated_R_vmlp": quotient(p50(rows, f"{LONE}, VMLP"), limit),
             "isolated_R_default": quotient(p50(rows, f"{LONE}, adaptive"), limit),
             **window_ratios(rows, "window"), **window_ratios(rows, "kernel client", "kernel_"),
             "stock_meminfo_vs_qga": quotient(p50(rows, "rvmrpcd's guest: QGA open"), p50(rows, "rvmrpcd: meminfo")),
             "meminfo_vs_ssh_new": quotient(ssh, meminfo),
             "meminfo_vs_qga_read": quotient(qga, meminfo),
             "meminfo_vs_vsock": quotient(p50(rows, "vsock server: meminfo, kept"), meminfo),
             "qmp_vs_empty": quotient(qmp, p50(rows, "QMP: empty")),
             "qmp_vs_qga_read": quotient(qga, qmp)})
