#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rvmrpc attach and detach on domains of a real libvirtd: shut off, running, changed meanwhile."""
import json
import pathlib
import re
import signal
import subprocess

from domains import BUILD, COMPLAINTS, RVMRPC, STOCK_QEMU, UUID, Libvirt, case, comment, main, stock_xml, wait_for

STOCK_UUID = UUID.replace("c0ffee00", "c0ffee02")
CONF = f"# Made by rvmrpc attach; rvmrpc detach removes it.\n[vm]\nname=stock\nuuid={STOCK_UUID}\n"
# What systemd would do; the test has none.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{log}
kill -HUP $(cat {pid})
"""
SHARED = {}


class Host(Libvirt):
    """libvirtd, rvmrpcd, and a systemctl that tells it."""

    def __init__(self):
        super().__init__(domain=False)
        self.folder = pathlib.Path(self.dir.name)
        self.calls = self.folder / "systemctl.log"
        (self.folder / "bin").mkdir()
        script = self.folder / "bin" / "systemctl"
        script.write_text(SYSTEMCTL.format(log=self.calls, pid=self.folder / "rvmrpcd.pid"), encoding="ascii")
        script.chmod(0o755)
        (self.folder / "etc-rvmrpcd" / "vms.d").mkdir()
        modern = stock_xml(self).replace("<name>stock<", "<name>modern<").replace("c0ffee02", "c0ffee04")
        for name, text in (("stock", stock_xml(self)), ("ours", self.ours_xml()),
                           ("modern", modern.replace('machine="pc"', 'machine="q35"'))):
            path = self.folder / f"{name}.xml"
            path.write_text(text, encoding="utf-8")
            self.virsh("define", path)
        self.rvmrpcd = None
        self.start_daemon()

    def ours_xml(self):
        """A domain of our QEMU without the device."""
        text = re.sub(r"<qemu:commandline>.*</qemu:commandline>", "", self.domain_xml(), flags=re.S)
        return text.replace("<name>web1<", "<name>ours<")

    def start_daemon(self):
        """rvmrpcd, with ASan."""
        self.rvmrpcd = subprocess.Popen(  # pylint: disable=consider-using-with
            self.inside(BUILD / "host-tools" / "rvmrpcd-asan"), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        (self.folder / "rvmrpcd.pid").write_text(str(self.rvmrpcd.pid), encoding="ascii")

    def stop_daemon(self):
        """Ends it; it must not have complained."""
        self.rvmrpcd.send_signal(signal.SIGTERM)
        text = self.rvmrpcd.communicate(timeout=20)[1]
        assert not any(word in text for word in COMPLAINTS[:4]), text

    def tool(self, *args, status=0, stdin=""):
        """Runs the command; its standard output, or with another status its complaints."""
        path = f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        result = subprocess.run(
            self.inside("env", f"PATH={path}", "LIBVIRT_DEFAULT_URI=qemu:///system", "ASAN_OPTIONS=detect_leaks=1",
                        RVMRPC, *args),
            input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        for word in COMPLAINTS[:4]:
            assert word not in result.stderr, result
        assert result.returncode == status, (args, result)
        return result.stdout if status == 0 else result.stderr

    def xml(self, name="stock", *more):
        """What libvirt has."""
        return self.virsh("dumpxml", "--security-info", *(more or ["--inactive"]), name)

    def conf(self):
        """rvmrpcd's file of the domain, or None."""
        path = self.folder / "etc-rvmrpcd" / "vms.d" / "stock.conf"
        return path.read_text(encoding="ascii").replace("ivshmem-group=libvirt-qemu\n", "") if path.exists() else None

    def kept(self):
        """What attach keeps until detach."""
        return sorted(path.name for path in (self.folder / "var-lib-rvmrpc").glob("attach/*"))

    def close(self):
        """Ends all."""
        if self.rvmrpcd and self.rvmrpcd.poll() is None:
            self.run("virsh", "-q", "destroy", "stock", check=False)
            self.stop_daemon()
        super().close()


def host():
    """The one that the cases share."""
    if "it" not in SHARED:
        SHARED["it"] = None
        SHARED["it"] = Host()
    assert SHARED["it"], "libvirtd did not start, see the first case"
    return SHARED["it"]


@case("--dry-run, and no answer: shows the difference and changes nothing", timeout=120)
def dry_run():
    """Five lines more."""
    lv = host()
    before = lv.xml()
    shown = lv.tool("attach", "stock", "--dry-run")
    added = [line[1:].strip() for line in shown.splitlines() if line.startswith("+")]
    assert added == ['<shmem name="rvmrpc" role="master">', '<model type="ivshmem-doorbell"/>',
                     '<server path="/run/rvmrpcd/stock.ivshmem"/>', '<msi vectors="1" ioeventfd="on"/>',
                     "</shmem>"], shown
    assert not [line for line in shown.splitlines() if line.startswith("-")], shown
    assert "--yes" in lv.tool("attach", "stock", status=2)
    assert lv.xml() == before and lv.conf() is None and not lv.kept()


@case("shut off: attach, attach again, detach: libvirt's XML is that of before, to the byte")
def offline():
    """With rvmrpcd's file, which it reads at once."""
    lv = host()
    before = lv.xml()
    lv.tool("attach", "stock", "--yes")
    after = lv.xml()
    assert "/run/rvmrpcd/stock.ivshmem" in after and lv.conf() == CONF, after
    wait_for((lv.folder / "run-rvmrpcd" / "stock.ivshmem").exists, 10, "rvmrpcd's socket", interval=0.1)
    assert lv.calls.read_text(encoding="ascii") == "reload-or-restart rvmrpcd.service\n"
    assert "has it already" in lv.tool("attach", "stock", "--yes") and lv.xml() == after
    assert lv.kept() == [f"{STOCK_UUID}.after", f"{STOCK_UUID}.before"]
    shown = lv.tool("detach", "stock", "--dry-run")
    assert '-    <shmem name="rvmrpc" role="master">' in shown and lv.xml() == after, shown
    lv.tool("detach", "stock", "-y")
    assert lv.xml() == before and lv.conf() is None and not lv.kept()
    assert "does not have it" in lv.tool("detach", "stock", "-y") and lv.xml() == before


@case("q35: the ports that libvirt adds for the device go with it")
def ports():
    """Which taking the device out of the XML would leave behind."""
    lv = host()
    before = lv.xml("modern")
    lv.tool("attach", "modern", "--yes")
    after = lv.xml("modern")
    assert after.count("pcie-root-port") > before.count("pcie-root-port"), after
    lv.tool("detach", "modern", "--yes")
    assert lv.xml("modern") == before


@case("changed between attach and detach: what was changed stays")
def changed():
    """A title."""
    lv = host()
    lv.tool("attach", "stock", "--yes")
    lv.virsh("desc", "stock", "--config", "--title", "changed meanwhile")
    lv.tool("detach", "stock", "--yes")
    xml = lv.xml()
    assert "<title>changed meanwhile</title>" in xml and "shmem" not in xml, xml
    lv.virsh("define", lv.folder / "stock.xml")


@case("a file of the administrator's own in vms.d stays, both ways")
def own_conf():
    """And says so."""
    lv = host()
    path = lv.folder / "etc-rvmrpcd" / "vms.d" / "stock.conf"
    path.write_text(f"[vm]\nname=stock\nuuid={STOCK_UUID}\nslots=8\n", encoding="ascii")
    lv.tool("attach", "stock", "--yes")
    lv.tool("detach", "stock", "--yes")
    assert "slots=8" in path.read_text(encoding="ascii")
    path.unlink()


@case("our emulator: its own device, which the emulator names; --device says otherwise")
def our_device():
    """By libvirt's name space for QEMU."""
    lv = host()
    before = lv.xml("ours")
    lv.tool("attach", "ours", "--yes")
    xml = lv.xml("ours")
    assert "rvmrpc,socket=/run/rvmrpc/ours.sock,socket-mode=0660" in xml and "<shmem" not in xml, xml
    assert "the other device" in lv.tool("attach", "ours", "--device", "ivshmem", "--yes", status=1)
    lv.tool("detach", "ours", "--yes")
    assert lv.xml("ours") == before
    lv.tool("attach", "ours", "--device", "ivshmem", "--yes")
    assert "<shmem" in lv.xml("ours")
    lv.tool("detach", "ours", "--yes")
    assert lv.xml("ours") == before


@case("errors name what to do: no domain, a transient one, a bad device")
def errors():
    """With the exit codes of rvmrpc(1)."""
    lv = host()
    assert "virsh list --all" in lv.tool("attach", "nobody", "--yes", status=3)
    assert "ivshmem or rvmrpc" in lv.tool("attach", "stock", "--device", "e1000", status=2)
    assert "usage: rvmrpc attach" in lv.tool("attach", status=2)
    path = lv.folder / "transient.xml"
    path.write_text(stock_xml(lv).replace("<name>stock<", "<name>passing<").replace("c0ffee02", "c0ffee03"),
                    encoding="utf-8")
    lv.virsh("create", "--paused", path)
    try:
        assert "transient" in lv.tool("attach", "passing", "--yes", status=1)
    finally:
        lv.virsh("destroy", "passing")


@case("started with it its driver answers, untainted; running: out, in again, and it answers", timeout=500)
def hotplug():
    """Without rvmrpcd one is told that it comes at the next start."""
    lv = host()
    before = lv.xml()

    def answers():
        return lv.run(RVMRPC, "meminfo", "stock", check=False).returncode == 0

    lv.tool("attach", "stock", "--yes")
    lv.virsh("start", "stock", timeout=120)
    wait_for(answers, 240, "the guest's driver", interval=0.5)
    assert "master" in (lv.folder / "var-log-libvirt" / "qemu" / "stock.log").read_text(errors="replace")
    assert "custom" not in lv.virsh("dominfo", "stock")
    lv.tool("detach", "stock", "--yes")
    wait_for(lambda: "ivshmem" not in lv.virsh("dumpxml", "stock"), 60, "the device to go", interval=0.3)
    assert lv.xml() == before and not answers()
    lv.tool("attach", "stock", "--yes")
    assert "ivshmem" in lv.virsh("dumpxml", "stock")
    wait_for(answers, 90, "the guest's driver, again", interval=0.5)
    lv.tool("detach", "stock", "--yes")
    wait_for(lambda: "ivshmem" not in lv.virsh("dumpxml", "stock"), 60, "the device to go again", interval=0.3)
    lv.stop_daemon()
    text = lv.tool("attach", "stock", "--yes", status=7)
    assert "next start" in text and "systemctl status rvmrpcd" in text, text
    lv.start_daemon()
    lv.virsh("destroy", "stock")
    lv.tool("detach", "stock", "--yes")
    assert lv.xml() == before
    comment(f"{STOCK_QEMU}, libvirt {lv.run('virsh', '--version').strip()}")


if __name__ == "__main__":
    try:
        main(guests=False)
    finally:
        if SHARED.get("it"):
            SHARED["it"].close()
