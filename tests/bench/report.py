# SPDX-License-Identifier: GPL-2.0-or-later
"""The report: tables in Markdown, plots, and the raw numbers."""
import json
import os
import platform
import re

import plot
import rows as calls

KEPT_SAMPLES = 2000
CURVES = re.compile(r"E:|F:|kernel client: (null, (VMLP|adaptive)|meminfo, adaptive)|/dev/rvmrpc: meminfo|"
                    r"socket: meminfo, (hypercall, adaptive|doorbell)|QMP: (empty|guest-m)|QGA: open|"
                    r"SSH: (new|kept)|vsock server: meminfo, kept")
HOW = {"tcg": "guests under TCG on the machine itself",
       "nested": "guests (L2) of our KVM in a host (L1) with emulated SVM",
       "kvm": "guests of the machine's own KVM"}


def machine(about):
    """What it ran on, and what that means."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    lines = [f"{about['date']}, accelerator `{about['accel']}`: {HOW[about['accel']]}. Machine class: "
             f"{os.cpu_count()} CPUs ({model.group(1) if model else platform.machine()}), "
             f"load average {about['load_before']:.2f} before; it took {about['seconds']} s, in which other work "
             f"had {about['other_percent']} % of the machine's CPU time, and {about['stolen_percent']} % was stolen."]
    if about["accel"] != "kvm":
        lines.append("**Emulated CPU**: no time here is a hardware time; compare only times of one table.")
    if about["quick"]:
        lines.append("**Quick run**: too few calls for conclusions.")
    if about["complaints"]:
        lines.append("**The guests' kernels complained**: " + "; ".join(about["complaints"][:3]))
    return "\n".join(lines)


def number(value, digits=2):
    """For a cell."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def table(heads, lines):
    """A table; the first column is text."""
    out = ["| " + " | ".join(heads) + " |",
           "|---|" + "---:|" * (len(heads) - 1)]
    out += ["| " + " | ".join(cell if isinstance(cell, str) else number(cell) for cell in line) + " |"
            for line in lines]
    return "\n".join(out) + "\n"


def calls_table(rows):
    """All rows, with what they cost."""
    lines = []
    for row in rows:
        if row.error and not row.samples:
            lines.append([row.name, f"no answer: {row.error[:60]}"] + [None] * 9)
            continue
        s = row.summary()
        lines.append([s["name"], s["n"], s["min_us"], s["p50_us"], s["p99_us"], s["mean_us"],
                      row.per_call("hypercalls"), s["irqs"], s["exits"], s["wakes"],
                      row.per_call("other_sleeps")])
    return table(["call", "n", "min us", "p50 us", "p99 us", "mean us", "hypercalls", "interrupts",
                  "exits", "vCPU wakes", "other wakes"], lines)


def judged(name, value, limit, above=False):
    """A line of the targets."""
    if value is None:
        return None
    met = value >= limit if above else value <= limit
    return [name, value, f"{'>=' if above else '<='} {limit}", "met" if met else "**missed**"]


def ratio_lines(about, ratios):
    """Those that are to show on this accelerator."""
    if about["accel"] == "tcg":
        return [judged("QMP guest-meminfo against (empty command + the same call)",
                       ratios["qmp_vs_empty"], 1.5),
                judged("QMP guest-meminfo against QGA open, read, close",
                       ratios["qmp_vs_qga_read"], 5, True)]
    return [judged("R, null call, window 0", ratios["null_R"], 1.6),
            judged("R, null call, default window", ratios["null_R_window"], 1.1),
            judged("meminfo against SSH, new connection", ratios["meminfo_vs_ssh_new"], 500, True),
            judged("meminfo against QGA open, read, close", ratios["meminfo_vs_qga_read"], 10, True),
            judged("meminfo against the vsock server", ratios["meminfo_vs_vsock"], 1, True)]


def window_lines(about, found):
    """Targets of the client that maps the window; of its ratio to S on hardware, emulated or not, only."""
    burst = found["burst"]
    lines = [judged("stock_meminfo_vs_qga: QGA open, read, close / meminfo by rvmrpcd's socket",
                    found["daemon"]["stock_meminfo_vs_qga"], 10, True),
             judged("burst_events: exits to user space, interrupts, hypercalls per call in a burst",
                    burst["burst_events"], 0.02)]
    if about["accel"] != "tcg":
        lines += [judged("burst_S: null call in a burst / two threads that spin", burst["burst_S"], 2.0),
                  judged("inplace_1MiB: memcpy in the guest / answer of 1 MiB used in place",
                         found["in_place"][-1]["ratio"], 0.8, True)]
    return lines


def window_text(parts):
    """The tables of the client that maps the window."""
    if not parts.get("window"):
        return []
    found = parts["window"]
    burst = found["burst"]
    return ["## The window, mapped by its client", "A client that is itself the host's end; the guest's driver "
            "on QEMU's ivshmem. S: round trips of two threads on two cache lines, on the same two CPUs, in the "
            "same rounds.", "",
            table(["", "n", "S, ns", "null call, ns", "burst_S", "burst_events", "all exits per call"],
                  [["both sides spin", burst["n"], burst["spin_ns"], burst["null_ns"], burst["burst_S"],
                    number(burst["burst_events"], 4), number(burst["exits"], 4)]]),
            table(["answer in place, bytes", "call, us", "memcpy in the guest, us", "memcpy / call"],
                  [[str(r["bytes"]), r["p50_us"], r["memcpy_us"], r["ratio"]] for r in found["in_place"]]),
            table(["by rvmrpcd, p50 us", "null", "meminfo", "QGA: open, read, close", "QGA / meminfo"],
                  [["socket", *(found["daemon"][key] for key in
                                ("null_us", "meminfo_us", "qga_us", "stock_meminfo_vs_qga"))]]),
            "A job that computes, beside a driver that has a channel and is not called; as in the cost of waiting below.",
            "", table(["", "vCPUs", "server thread %", "interrupts/s", "turns", "speed", "95 % interval"],
                      [[r["mode"], r["vcpus"], r["server_percent"], r["irqs"], r["turns"], number(r["speed"], 3),
                        f"{number(r['low'], 3)} to {number(r['high'], 3)}"] for r in found["jobs"]]),
            f"A null call to a guest asleep, woken by the interrupt: {found['asleep_us']} us.", ""]


def target_lines(about, ratios, parts):
    """What there is to show, and whether it does."""
    lines = ratio_lines(about, ratios)
    if parts.get("clients"):
        speeds = [row["per_s"] for row in parts["clients"]]
        peak = speeds.index(max(speeds))
        lines.append(judged("throughput after its maximum, lowest point / maximum",
                            round(min(speeds[peak:]) / max(speeds), 3), 0.8, True))
    if parts.get("window"):
        lines += window_lines(about, parts["window"])
    if parts.get("payload"):
        last = parts["payload"][-1]
        lines.append(judged("1 MiB payload: bandwidth / memcpy's in the guest",
                            round(last["memcpy_us"] / last["p50_us"], 3), 0.25, True))
    for what, name in (("idle", "idle"), ("CPU-bound job", "jobs")):
        for row in parts.get(name, ()):
            if row["mode"] == "adaptive":
                where = f"default mode, {row['vcpus']} vCPU, {what}"
                lines += [judged(f"{where}: server thread, % of time", row["server_percent"], 1),
                          judged(f"{where}: gate calls + interrupts per second",
                                 round(row["gate_calls"] + row["irqs"], 2), 5)]
                if name == "idle":
                    lines.append(judged(f"{where}: load average", row["load"], 0))
    return [line for line in lines if line]


def growth_text(parts):
    """Tables of payload, clients, VMs and states."""
    out = []
    if parts.get("payload"):
        out += ["## Payload", "Echo: the bytes go there, are copied by the guest, and come back.", "",
                table(["bytes", "n", "p50 us", "memcpy in the guest, us"],
                      [[str(r["bytes"]), r["n"], r["p50_us"], r["memcpy_us"]] for r in parts["payload"]])]
    if parts.get("clients"):
        out += ["## Clients", "", table(["clients", "null calls per second"],
                                        [[str(r["clients"]), r["per_s"]] for r in parts["clients"]])]
    if parts.get("vms"):
        out += ["## VMs", "8 clients spread over the VMs; null call to the first while the others idle.", "",
                table(["VMs", "null calls per second", "null call p50 us, others idle"],
                      [[str(r["vms"]), r["per_s"], r["idle_us"]] for r in parts["vms"]])]
    if parts.get("states"):
        keys = [key for key in parts["states"][0] if key != "state"]
        out += ["## Who answers", "Median in us; – is no answer in time, or a stale value.", "",
                table(["the guest is", *keys],
                      [[r["state"], *(r[key] for key in keys)] for r in parts["states"]])]
    return out


def waiting_text(parts):
    """The tables of section 4."""
    heads = ["wait mode", "vCPUs", "server thread %", "gate calls/s", "interrupts/s", "exits/s", "host CPU s/s"]
    keys = ("mode", "vcpus", "server_percent", "gate_calls", "irqs", "exits")
    out = []
    if parts.get("idle"):
        out += ["## The cost of waiting: an idle guest", "Several guests at the same time, left alone for five minutes.", "",
                table([*heads, "load average"],
                      [[*(r[key] for key in keys), number(r["host_cpu"], 4), r["load"]] for r in parts["idle"]])]
    if parts.get("jobs"):
        out += ["## The cost of waiting: a job that computes",
                "Speed beside no driver of the same turn, median over the turns; its 95 % interval. "
                "The last line of each is the noise.", "",
                table([*heads, "turns", "speed", "interval"],
                      [[*(r[key] for key in keys), number(r["host_cpu"], 4), r["turns"], number(r["speed"], 3),
                        f"{number(r['low'], 3)} to {number(r['high'], 3)}"] for r in parts["jobs"]])]
    return out


def distribution(samples):
    """(us, fraction) for a plot."""
    ordered = sorted(samples)
    step = max(1, len(ordered) // 200)
    return [(ordered[i] / 1000, (i + 1) / len(ordered)) for i in range(0, len(ordered), step)]


def plots(folder, rows, parts):
    """Names of those that there is something for."""
    made = []
    curves = {row.name: distribution(row.samples) for row in rows
              if row.samples and CURVES.match(row.name)}
    if plot.plot(folder / "latency.svg", "Latency, cumulative", ("us", "fraction of calls"), curves,
                 (True, False)):
        made.append("latency.svg")
    sizes = parts.get("payload", ())
    if plot.plot(folder / "payload.svg", "Latency against payload", ("bytes", "us"),
                 {"echo": [(r["bytes"], r["p50_us"]) for r in sizes],
                  "memcpy in the guest": [(r["bytes"], r["memcpy_us"]) for r in sizes]}, (True, True)):
        made.append("payload.svg")
    if plot.plot(folder / "clients.svg", "Throughput", ("clients", "null calls per second"),
                 {"one VM": [(r["clients"], r["per_s"]) for r in parts.get("clients", ())]}):
        made.append("clients.svg")
    return made


def kernel_lines(rows):
    """Of runs that have a client in the kernel."""
    window, none = (calls.least_R(rows, f"kernel client: null, VMLP, {mode}")
                    for mode in ("default", "window 0"))
    if none is None:
        return []
    spans = [calls.interval(rows, f"kernel client: null, VMLP, {mode}") for mode in ("window 0", "default")]
    return [f"R of the minima: {number(none)} at window 0, {number(window)} at the default window.",
            "95 % intervals of R (medians of blocks, drawn again): " + ", ".join(
                f"{number(low)} to {number(high)} {mode}" for (low, high), mode in
                zip(spans, ("at window 0", "at the default window"))) + ".",
            "Meminfo of the kernel's client in the default wait mode: " + ", ".join(
                f"{number(value)} times faster than {peer}"
                for peer, value in calls.default_mode(rows).items()) + "."]


def write(folder, about, rows, limit, ratios, parts):
    """report.md, plots, details.json."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = target_lines(about, ratios, parts)
    out = ["# Reverse VMRPC: benchmark", "", machine(about), ""]
    if targets:
        out += ["## Targets", "", table(["ratio of medians", "measured", "target", ""], targets)]
    if rows:
        out += ["## Calls", f"E = {number(limit['E_us'])} us, F = {number(limit['F_us'])} us; R = T / (E + F). "
                f"A/A control: {number(calls.control_ratio(rows))}.",
                *kernel_lines(rows),
                "Counts are per call; exits include the guest's own ticks.", "", calls_table(rows)]
    out += [f"**{name} broke**: {why}\n" for name, why in parts.get("broken", {}).items()]
    out += growth_text(parts) + window_text(parts) + waiting_text(parts)
    out += [f"![{name}]({name})" for name in plots(folder, rows, parts)]
    (folder / "report.md").write_text("\n".join(out) + "\n", encoding="utf-8")
    (folder / "details.json").write_text(json.dumps({
        "about": about, "limit": limit, "ratios": ratios, **parts,
        "samples_ns": {row.name: row.samples[:KEPT_SAMPLES] for row in rows},
        "errors": {row.name: row.error for row in rows if row.error}}) + "\n", encoding="utf-8")
