#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain on our emulator, and one on Debian's, under a real libvirtd."""
import base64
import json
import pathlib
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ET

from domains import (BUILD, COMPLAINT, COMPLAINTS, UUID, Libvirt, case, comment, main,  # noqa: E402
                     stock_xml, wait_for)

DAEMON = {}


def libvirt():
    """The one that the cases share."""
    if "it" not in DAEMON:
        DAEMON["it"] = None
        DAEMON["it"] = Libvirt()
    assert DAEMON["it"], "libvirtd did not start, see the first case"
    return DAEMON["it"]


@case("a domain on our emulator starts, as docs/libvirt.xml says", timeout=400)
def start():
    """And libvirt takes it for what it is: tainted by a custom argument."""
    lv = libvirt()
    assert "running" in lv.virsh("domstate", "web1")
    assert lv.virsh("domuuid", "web1").strip() == UUID
    comment(lv.run("virsh", "--version").strip())


@case("virsh qemu-monitor-command: guest-meminfo gives the guest's values")
def meminfo():
    """Total is what the guest's own text says."""
    mem = libvirt().monitor("guest-meminfo", raw=True)
    total = int(re.search(r"MemTotal: +(\d+) kB", mem["raw"]).group(1)) * 1024
    assert mem["total"] == total and 100 << 20 < total < 192 << 20, mem
    assert 0 < mem["available"] < total


@case("virsh qemu-monitor-command: guest-kernel-call and the other commands")
def commands():
    """Each answers through libvirt."""
    lv = libvirt()
    data = base64.b64encode(b"through libvirt").decode()
    assert lv.monitor("guest-kernel-call", module="echo", procedure="echo",
                      data=data)["data"] == data
    assert set(lv.monitor("guest-loadavg")) >= {"load1m", "load5m", "load15m"}
    assert lv.monitor("guest-cpuinfo")["online"] == 2
    assert lv.monitor("guest-osinfo")["release"].startswith("6.12")
    assert "freed" in lv.monitor("guest-drop-caches", mode="all")


@case("virsh qemu-monitor-command --hmp 'info rvmrpc'")
def hmp():
    """The readable form."""
    text = libvirt().virsh("qemu-monitor-command", "web1", "--hmp", "info rvmrpc")
    assert text.startswith("state: connected"), text
    assert "guest: linux 6.12" in text and "sysinfo(5)" in text, text


@case("rvmrpc list finds the domain by its name, by the socket")
def listing():
    """With libvirt's name and UUID."""
    vms = json.loads(libvirt().rvmrpc("list", "--json"))
    mine = [vm for vm in vms if vm.get("uuid") == UUID]
    assert len(mine) == 1, vms
    assert mine[0]["name"] == "web1" and mine[0]["way"] == "socket", mine
    assert mine[0]["socket"] == "/run/rvmrpc/web1.sock" and mine[0]["state"] == "connected", mine


@case("rvmrpc meminfo by libvirt's name and UUID: what libvirt's monitor says")
def by_name():
    """To the byte."""
    lv = libvirt()
    total = lv.monitor("guest-meminfo")["total"]
    for what in ("web1", UUID):
        assert json.loads(lv.rvmrpc("meminfo", what, "--json"))["total"] == total


@case("rvmrpc does not touch the domain's monitor")
def no_monitor():
    """libvirt numbers its commands, and a stopped libvirtd answers nobody."""
    lv = libvirt()

    def number():
        reply = lv.virsh("qemu-monitor-command", "web1", '{"execute": "query-name"}')
        return int(re.search(r'"id":"libvirt-(\d+)"', reply).group(1))

    calls = lv.monitor("query-rvmrpc")["stats"]["calls"]
    before = number()
    lv.daemon.send_signal(signal.SIGSTOP)
    try:
        start_time = time.monotonic()
        assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0
        assert any(vm["name"] == "web1" for vm in json.loads(lv.rvmrpc("list", "--json")))
        took = time.monotonic() - start_time
        assert took < 8, took
    finally:
        lv.daemon.send_signal(signal.SIGCONT)
    assert number() == before + 1, "a command went through the monitor"
    assert lv.monitor("query-rvmrpc")["stats"]["calls"] == calls + 1


@case("virsh suspend: STOPPED both ways; resume: answers again")
def suspend():
    """With the reason."""
    lv = libvirt()
    lv.virsh("suspend", "web1")
    result = lv.rvmrpc("meminfo", "web1", check=False)
    assert result.returncode == 7 and "web1: the VM is paused" in result.stderr, result
    reply = lv.monitor("guest-kernel-call", module="echo", procedure="echo")
    assert reply["status"] == "stopped", reply
    states = {vm["name"]: vm["state"] for vm in json.loads(lv.rvmrpc("list", "--json"))}
    assert states["web1"] == "paused", states
    lv.virsh("resume", "web1")
    assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0


@case("permissions of the socket: what the domain's XML says")
def permissions():
    """0660, in the namespace's /run/rvmrpc."""
    assert libvirt().run("stat", "-c", "%a %F", "/run/rvmrpc/web1.sock").strip() == "660 socket"


@case("without a socket rvmrpc goes through libvirt", timeout=180)
def through_libvirt():
    """A second domain whose device has none."""
    lv = libvirt()
    text = lv.domain_xml().replace("<name>web1<", "<name>plain<").replace(
        UUID, UUID.replace("c0ffee00", "c0ffee01")).replace(
        "rvmrpc,socket=/run/rvmrpc/web1.sock,socket-mode=0660", "rvmrpc").replace(
        "console.log", "console2.log")
    path = pathlib.Path(lv.dir.name, "plain.xml")
    path.write_text(text, encoding="utf-8")
    lv.virsh("create", path, timeout=120)
    try:
        wait_for(lambda: lv.rvmrpc("meminfo", "plain", "-t", 5000, check=False).returncode == 0,
                 90, "the second guest", interval=1)
        info = json.loads(lv.rvmrpc("info", "plain", "--json", "-t", 5000))
        assert info["way"] == "libvirt" and info["state"] == "connected", info
        assert lv.rvmrpc("call", "plain", "echo", "echo", "hello", "-t", 5000) == "hello"
        result = lv.rvmrpc("call", "plain", "core", "exit", "-t", 5000, check=False)
        assert result.returncode == 8, result
    finally:
        lv.virsh("destroy", "plain")
    result = lv.rvmrpc("meminfo", "plain", check=False)
    assert result.returncode == 3 and "no VM plain" in result.stderr, result


def shmem_xml(lv):
    """The same with libvirt's own element."""
    root = ET.fromstring(stock_xml(lv))
    shmem = ET.SubElement(root.find("devices"), "shmem", name="rvmrpc")
    ET.SubElement(shmem, "model", type="ivshmem-doorbell")
    ET.SubElement(shmem, "server", path=f"{lv.dir.name}/stock.ivshmem")
    ET.SubElement(shmem, "msi", vectors="1", ioeventfd="on")
    return ET.tostring(root, encoding="unicode")


@case("libvirt's own <shmem> element, Debian's QEMU and rvmrpcd: not tainted", timeout=180)
def own_element():
    """The command finds it by libvirt's name."""
    lv = libvirt()
    folder = pathlib.Path(lv.dir.name)
    (folder / "rvmrpcd.conf").write_text(
        f"[daemon]\nivshmem-dir={folder}\nsocket-dir=/run/rvmrpc\nvm-dir={folder}/vms\n", encoding="ascii")
    (folder / "stock.xml").write_text(shmem_xml(lv), encoding="utf-8")
    with subprocess.Popen(lv.inside(BUILD / "host-tools" / "rvmrpcd-asan", "--config", folder / "rvmrpcd.conf",
                                    "--vm", "name=stock"), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as daemon:
        try:
            wait_for(lambda: (folder / "stock.ivshmem").exists(), 20, "rvmrpcd's socket")
            lv.virsh("create", folder / "stock.xml", timeout=120)
            wait_for(lambda: lv.rvmrpc("meminfo", "stock", check=False).returncode == 0, 90, "the guest",
                     interval=0.5)
            assert json.loads(lv.rvmrpc("meminfo", "stock", "--json"))["total"] > 100 << 20
            taints = {name: re.findall(r"tainted: (.*)", lv.virsh("dominfo", name)) for name in ("stock", "web1")}
            comment(json.dumps(taints))
            # Both run as root here, which is the test's doing.
            assert taints["stock"] == [text for text in taints["web1"] if "custom" not in text], taints
            assert len(taints["stock"]) < len(taints["web1"]), taints
            lv.virsh("destroy", "stock")
        finally:
            daemon.send_signal(signal.SIGTERM)
            text = daemon.communicate(timeout=20)[1]
    assert not any(word in text for word in COMPLAINTS[:4]), text


@case("virsh reset and virsh destroy: the socket lives and dies with the VM", timeout=120)
def life():
    """Connected anew after a reset; no socket left at the end."""
    lv = libvirt()
    epoch = lv.monitor("query-rvmrpc")["epoch"]
    lv.virsh("reset", "web1")

    def again():
        info = lv.monitor("query-rvmrpc")
        return info["state"] == "connected" and info["epoch"] != epoch

    wait_for(again, 60, "another registration", interval=0.5)
    assert json.loads(lv.rvmrpc("meminfo", "web1", "--json"))["total"] > 0
    lv.virsh("destroy", "web1")
    result = lv.rvmrpc("meminfo", "web1", check=False)
    # libvirt knows the name, and that it does not run.
    assert result.returncode in (3, 4) and "web1" in result.stderr, result
    text = lv.console.read_text(errors="replace")
    assert not COMPLAINT.search(text), text[-3000:]


def cleanup():
    """The daemon ends with the tests."""
    if DAEMON.get("it"):
        DAEMON["it"].close()


if __name__ == "__main__":
    assert BUILD.exists()
    try:
        main(guests=False)
    finally:
        cleanup()
