#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What packaging/ has for others' tools, by their own checkers: YAML, cloud-init's schema, Ansible, libvirt's hook.

The checkers are installed in a copy of a Debian system, from its mirror.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

from roots import Root

from harness import TOP, case, comment, main  # noqa: E402

SHARED = {}
CHECKERS = ("yamllint", "cloud-init", "ansible-core", "ansible-lint")
HOOK = TOP / "packaging" / "libvirt" / "rvmrpcd-hook"
DOMAIN = """<domain type='kvm'>
  <name>web1</name>
  <uuid>6f0b0ec1-5f0d-4f6a-9c0a-2f4a4dbd6f01</uuid>
  <devices>
{shmem}  </devices>
</domain>
"""
SHMEM = """    <shmem name='rvmrpc' role='master'>
      <model type='ivshmem-doorbell'/>
      <server path='/run/rvmrpcd/web1.ivshmem'/>
    </shmem>
"""


def root():
    """With the checkers."""
    if "it" not in SHARED:
        SHARED["it"] = Root()
        shutil.copytree(TOP / "packaging", SHARED["it"].upper / "packaging")
        SHARED["it"].run("apt-get", "update", timeout=300)
        SHARED["it"].run("apt-get", "install", "-y", "--no-install-recommends", *CHECKERS, timeout=900)
    return SHARED["it"]


@case("every YAML file passes yamllint", timeout=1300)
def yaml():
    """With its default rules, but for long lines and truth in another's format."""
    rules = "{extends: default, rules: {line-length: {max: 150}, comments: disable, document-start: disable}}"
    comment(root().run("yamllint", "-s", "-d", rules, "/packaging"))


@case("cloud-init takes the user data", timeout=1300)
def cloud_init():
    """By its schema."""
    text = root().run("cloud-init", "schema", "--config-file", "/packaging/cloud-init/rvmrpc.yaml")
    assert "Valid" in text, text
    root().run("sh", "-c", "sed 's/^packages:/packages: 3/;/^  - /d' /packaging/cloud-init/rvmrpc.yaml >/bad.yaml")
    assert root().run("cloud-init", "schema", "--config-file", "/bad.yaml", check=False).returncode


@case("Ansible takes the role and the playbook", timeout=1300)
def ansible():
    """Syntax, and ansible-lint without the network."""
    root().run("sh", "-c", "printf '[hypervisors]\\nh\\n[guests]\\ng\\n' >/hosts")
    comment(root().run("ansible-playbook", "--syntax-check", "-i", "/hosts", "/packaging/ansible/site.yml"))
    comment(root().run("sh", "-c", "cd /packaging/ansible && ansible-lint --offline -p site.yml"))


def run_hook(folder, operation, stage, xml):
    """In a place of its own instead of /etc and /run."""
    text = HOOK.read_text(encoding="utf-8").replace("/etc/rvmrpcd", f"{folder}/etc")
    text = text.replace('"/run/rvmrpcd/$place', f'"{folder}/run/$place')
    return subprocess.run(["sh", "-c", text, "hook", "web1", operation, stage, "-"], input=xml, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False,
                          env={"PATH": f"{folder}/bin:/usr/bin:/bin"})


@case("libvirt's hook: the daemon knows the domain and listens before it starts; no other domain is touched")
def hook():
    """systemctl is the test's; it says so where nobody listens."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for part in ("bin", "etc/vms.d", "run"):
            (folder / part).mkdir(parents=True)
        script = folder / "bin" / "systemctl"
        listen = "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
        script.write_text(f"#!/bin/sh\necho \"$*\" >>{folder}/calls\n", encoding="ascii")
        script.chmod(0o755)
        done = run_hook(folder, "prepare", "begin", DOMAIN.format(shmem=""))
        assert done.returncode == 0 and not list((folder / "etc" / "vms.d").iterdir()), done
        done = run_hook(folder, "started", "begin", DOMAIN.format(shmem=SHMEM))
        assert done.returncode == 0 and not (folder / "calls").exists(), done
        for bad in ("_web1", "w" * 65, "../web1"):
            done = run_hook(folder, "prepare", "begin", DOMAIN.format(shmem=SHMEM.replace("web1", bad)))
            assert done.returncode == 0 and not list((folder / "etc" / "vms.d").iterdir()), (bad, done)
        done = run_hook(folder, "prepare", "begin", DOMAIN.format(shmem=SHMEM))
        assert done.returncode == 1 and "systemctl status rvmrpcd" in done.stderr, done
        script.write_text(f"#!/bin/sh\n{sys.executable} -c '{listen}' {folder}/run/web1.ivshmem\n", encoding="ascii")
        done = run_hook(folder, "migrate", "begin", DOMAIN.format(shmem=SHMEM))
        assert done.returncode == 0 and not done.stdout, done
        conf = (folder / "etc" / "vms.d" / "web1.conf").read_text(encoding="ascii")
        assert "name=web1\nuuid=6f0b0ec1-5f0d-4f6a-9c0a-2f4a4dbd6f01\n" in conf, conf


@case("KubeVirt's program adds the element once")
def kubevirt():
    """And prints XML."""
    program = TOP / "packaging" / "kubevirt" / "onDefineDomain"
    xml = DOMAIN.format(shmem="")
    for _ in range(2):
        xml = subprocess.run([program, "--vmi", json.dumps({}), "--domain", xml], check=True, text=True, timeout=30,
                             stdout=subprocess.PIPE).stdout
        assert len(ET.fromstring(xml).findall("devices/shmem")) == 1, xml


if __name__ == "__main__":
    try:
        main(guests=False)
    finally:
        if "it" in SHARED:
            SHARED["it"].close()
