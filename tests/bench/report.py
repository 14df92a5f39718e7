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
                    r"socket: meminfo, adaptive|rvmrpcd: meminfo|QMP: (empty|guest-m)|QGA: open|"
                    r"SSH: (new|kept)|vsock server: meminfo, kept")
COUNTS = {"hypercalls": "hypercalls", "rings": "rings", "irqs": "interrupts", "user_exits": "to user space",
          "exits": "exits", "vcpu_sleeps": "vCPU wakes", "other_sleeps": "other wakes"}
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
            lines.append([row.name, f"no answer: {row.error[:60]}"] + [None] * (4 + len(COUNTS)))
            continue
        s = row.summary()
        lines.append([s["name"], s["n"], s["min_us"], s["p50_us"], s["p99_us"], s["mean_us"],
                      *(row.per_call(key) for key in COUNTS)])
    return table(["call", "n", "min us", "p50 us", "p99 us", "mean us", *COUNTS.values()], lines)


def judged(name, value, limit, above=False):
    """A line of the targets."""
    if value is None:
        return None
    met = value >= limit if above else value <= limit
    return [name, value, f"{'>=' if above else '<='} {limit}", "met" if met else "**missed**"]


def burst_lines(ratios, prefix, who):
    """Targets of a client that works in the window itself."""
    return [judged(f"{prefix}burst_S: {who}: null call in a burst / two threads that spin", ratios[f"{prefix}burst_S"], 2.0),
            judged(f"{prefix}burst_events: hypercalls, rings, interrupts, exits to user space per call in it",
                   ratios[f"{prefix}burst_events"], 0.02),
            judged(f"{prefix}inplace_1MiB: memcpy in the guest / answer of 1 MiB used in place",
                   ratios[f"{prefix}inplace_1024KiB"], 0.8, True)]


def ratio_lines(about, ratios):
    """Those that are to show on this accelerator."""
    stock = judged("stock_meminfo_vs_qga: QGA open, read, close / meminfo by rvmrpcd's socket",
                   ratios["stock_meminfo_vs_qga"], 10, True)
    if about["accel"] == "tcg":
        return [judged("QMP guest-meminfo against an empty command", ratios["qmp_vs_empty"], 2.0),
                judged("QMP guest-meminfo against QGA open, read, close",
                       ratios["qmp_vs_qga_read"], 5, True),
                stock, judged("burst_events", ratios["burst_events"], 0.02)]
    return [judged("R, null call, window 0", ratios["null_R"], 1.5),
            judged("R, null call, default window", ratios["null_R_window"], 1.1),
            *burst_lines(ratios, "kernel_", "client in the host's kernel"),
            *burst_lines(ratios, "", "client that maps the window"), stock,
            judged("meminfo against SSH, new connection", ratios["meminfo_vs_ssh_new"], 500, True),
            judged("meminfo against QGA open, read, close", ratios["meminfo_vs_qga_read"], 10, True),
            judged("meminfo against the vsock server", ratios["meminfo_vs_vsock"], 1, True)]


def target_lines(about, ratios, parts):
    """What there is to show, and whether it does."""
    lines = ratio_lines(about, ratios)
    if parts.get("core"):
        lines.append(judged("core_S: both halves of the core on this machine's CPUs, no guest: null call in a burst / two "
                            "threads that spin", parts["core"]["core_S"], 2.0))
    if parts.get("clients"):
        speeds = [row["per_s"] for row in parts["clients"]]
        peak = speeds.index(max(speeds))
        lines.append(judged("throughput after its maximum, lowest point / maximum",
                            round(min(speeds[peak:]) / max(speeds), 3), 0.8, True))
    if parts.get("payload"):
        last = parts["payload"][-1]
        lines.append(judged("1 MiB payload: bandwidth / memcpy's in the guest",
                            round(last["memcpy_us"] / last["p50_us"], 3), 0.25, True))
    for what, name in (("idle", "idle"), ("CPU-bound job", "jobs")):
        for row in parts.get(name, ()):
            if row["mode"] == "adaptive":
                where = f"default mode, {row['vcpus']} vCPU, {what}"
                lines += [judged(f"{where}: server thread, % of time", row["server_percent"], 1),
                          # Of an idle guest the call that asks for its load is in there.
                          judged(f"{where}: its sleeps, waits, rings and interrupts per second",
                                 row["events"], 0.25 if name == "idle" else 5)]
                if name == "idle":
                    lines.append(judged(f"{where}: load average", row["load"], 0))
    return [line for line in lines if line]


def growth_text(parts):
    """Tables of payload, clients, VMs, states and connections."""
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
    if parts.get("forward"):
        out += ["## A service of the guest", "MiB/s through a connection, programs' start included.", "",
                table(["way", "median", "best"],
                      [[name, r["median"], r["best"]] for name, r in parts["forward"].items()])]
    return out


def waiting_text(parts):
    """The tables of section 4."""
    heads = ["wait mode", "vCPUs", "server thread %", "waits in the host/s", "all events/s", "exits/s", "host CPU s/s"]
    keys = ("mode", "vcpus", "server_percent", "waits", "events", "exits")
    out = []
    if parts.get("idle"):
        out += ["## The cost of waiting: an idle guest", "Several guests at the same time, left alone for "
                f"{parts['idle'][0]['seconds']:.0f} s. Events: waits in the host, sleeps, rings, interrupts of the driver.", "",
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


def span_line(what, spans):
    """A line of 95 % intervals."""
    return f"95 % intervals of {what} (medians of blocks, drawn again): " + ", ".join(
        f"{number(low)} to {number(high)} {where}" for where, (low, high) in spans.items()) + "."


def kernel_lines(rows):
    """Of runs that have a client in the kernel."""
    window, none = (calls.least_R(rows, f"kernel client: null, VMLP, {mode}")
                    for mode in ("default", "window 0"))
    if none is None:
        return []
    spans = {where: calls.interval(rows, prefix) for where, prefix in {
        "at window 0": "kernel client: null, VMLP, window 0", "at the default window": "kernel client: null, VMLP, default",
        "of a lone call, interrupt": f"{calls.LONE}, interrupt", "of a lone call, VMLP": f"{calls.LONE}, VMLP",
        "of a lone call, default mode": f"{calls.LONE}, adaptive"}.items()}
    return [f"R of the minima: {number(none)} at window 0, {number(window)} at the default window.",
            span_line("R", spans),
            "Meminfo of the kernel's client in the default wait mode: " + ", ".join(
                f"{number(value)} times faster than {peer}"
                for peer, value in calls.default_mode(rows).items()) + "."]


def burst_line(rows):
    """How sure burst_S is."""
    spans = {f"of the {who}": calls.bootstrap(lambda rng, found=found: calls.redrawn_median(rng, found))
             for who in ("window", "kernel client")
             if (found := calls.pairs(rows, f"{who}: null in a burst", f"{who}: S,"))}
    return [span_line("burst_S", spans)] if spans else []


def ratio_text(ratios):
    """All of them."""
    return table(["ratio", "measured"], [[name, number(value, 4 if "events" in name else 2)]
                                         for name, value in ratios.items() if value is not None])


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
                *kernel_lines(rows), *burst_line(rows),
                "Counts are per call; exits include the guest's own ticks.", "", ratio_text(ratios), calls_table(rows)]
    out += [f"**{name} broke**: {why}\n" for name, why in parts.get("broken", {}).items()]
    out += growth_text(parts) + waiting_text(parts)
    out += [f"![{name}]({name})" for name in plots(folder, rows, parts)]
    (folder / "report.md").write_text("\n".join(out) + "\n", encoding="utf-8")
    (folder / "details.json").write_text(json.dumps({
        "about": about, "limit": limit, "ratios": ratios, **parts,
        "samples_ns": {row.name: row.samples[:KEPT_SAMPLES] for row in rows},
        "errors": {row.name: row.error for row in rows if row.error}}) + "\n", encoding="utf-8")
