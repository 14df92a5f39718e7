#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What AppArmor lets a domain's QEMU do to the sockets' files of others, in a Debian kernel that enforces it.

The rules are libvirt's own, as its virt-aa-helper writes them for a domain, and those of docs/operators.md.
"""
import pathlib
import re
import subprocess
import tempfile

from harness import BUILD, TOP, VM, Skip, case, comment, main

HELPER = pathlib.Path("/usr/lib/libvirt/virt-aa-helper")
PARSER = BUILD / "apparmor" / "sbin" / "apparmor_parser"
FEATURES = BUILD / "apparmor" / "etc" / "apparmor.d" / "abi" / "3.0"
UUID = "c0ffee00-1234-4321-8888-0123456789{:02d}"
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<shmem name='rv'><model type='ivshmem-doorbell'/><server path='/run/rvmrpcd/{name}.ivshmem'/><msi vectors='1'/></shmem>
</devices></domain>"""


def libvirts_rules(number):
    """Of the domain's own profile."""
    name, uuid = f"web{number}", UUID.format(number)
    done = subprocess.run([HELPER, "--dryrun", "--create", "--uuid", f"libvirt-{uuid}"], text=True, check=True,
                          input=DOMAIN.format(name=name, uuid=uuid), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=30)
    rules = re.findall(r'^  "(\S+)" (\w+),$', done.stdout, re.M)
    assert (f"/run/rvmrpcd/{name}.ivshmem", "rw") in rules, done.stdout
    return [f"{path} {access}," for path, access in rules]


def documented_rules(number):
    """Of docs/operators.md, which names web1."""
    text = (TOP / "docs" / "operators.md").read_text(encoding="utf-8")
    rules = re.findall(r"^      (/run/rvmrpc/\S+ \w+,)$", text, re.M)
    assert len(rules) == 1, rules
    return [rule.replace("web1", f"web{number}") for rule in rules]


def policy(number):
    """Compiled, for the guest's kernel to load."""
    rules = ["/** mrix,", "unix,", *libvirts_rules(number), *documented_rules(number)]
    comment(f"web{number}: " + " ".join(rule for rule in rules if "rvmrpc" in rule))
    text = f"profile web{number} flags=(attach_disconnected) {{\n" + "\n".join("  " + rule for rule in rules) + "\n}\n"
    return subprocess.run([PARSER, "-Q", "-S", "-K", "-M", FEATURES], input=text.encode(), check=True, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


@case("a domain's QEMU makes and removes its own sockets, and never another's")
def own_places():
    """Those of our QEMU, which makes its file, and rvmrpcd's, to which a stock QEMU connects."""
    if not HELPER.exists() or not PARSER.exists():
        raise Skip("no virt-aa-helper, or no apparmor_parser")
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2):
            pathlib.Path(folder, f"web{number}").write_bytes(policy(number))
        with VM(share=folder, append="apparmor=1 security=apparmor") as vm:
            vm.guest.check("mount -t 9p -o trans=virtio,version=9p2000.L share /mnt; "
                           "mount -t securityfs none /sys/kernel/security; mkdir /run/rvmrpc /run/rvmrpcd; "
                           "cat /mnt/web1 /mnt/web2 >/sys/kernel/security/apparmor/.load")

            def act(number, action, path):
                return vm.guest.check(f"echo 'exec web{number}' >/proc/self/attr/exec; "
                                      f"exec unix-file {action} /run/{path}").strip()

            denied = "Permission denied"
            # Our QEMUs make their own, and nobody else's; rvmrpcd's are made by somebody unconfined.
            assert [act(n, "bind", f"rvmrpc/web{n}.sock") for n in (1, 2)] == ["ok", "ok"]
            for n in (1, 2):
                vm.guest.check(f"unix-file bind /run/rvmrpcd/web{n}.ivshmem; unix-file bind /run/rvmrpcd/web{n}.sock")
            for path in ("rvmrpc/web2.sock", "rvmrpcd/web2.ivshmem", "rvmrpcd/web1.sock", "rvmrpcd/web2.sock"):
                assert act(1, "unlink", path) == denied, path
            for path in ("rvmrpc/web3.sock", "rvmrpcd/web3.ivshmem", "rvmrpcd/web3.sock"):
                assert act(1, "bind", path) == denied, path
            # This kernel does not ask AppArmor who connects; operators.md says so.
            comment(f"connects to another's: {act(1, 'connect', 'rvmrpc/web2.sock')}")
            assert act(1, "unlink", "rvmrpc/web1.sock") == "ok"


if __name__ == "__main__":
    main()
