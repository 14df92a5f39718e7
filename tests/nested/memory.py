#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU that is stuck in a page fault of its guest's memory harms its own VM's calls alone."""
import contextlib
import errno
import signal
import time

from ours import COMMAND, Hammer, L2, dmesg, host, named, shared_l2, vms, with_command

from harness import call, case, comment, main, wait_for

# Of calls that nothing answers, and what this slow host may add to each.
DEADLINE_S = 1
SLACK_S = 3
# The longest deadline there is: who waits for such a call's end is seen.
LONG_MS = 60000
OTHERS_S = 20


def vcpu_stack(vm):
    """Where L1's kernel has the vCPU's thread."""
    return vm.l1.guest.check(f"cd /proc/{vm.process.pid}/task; t=$(grep -l '^CPU 0/KVM' */comm); "
                             "cat ${t%/comm}/stack")


def exits(vm):
    """KVM's count of the VM's exits."""
    return int(vm.l1.guest.check(f"cat /sys/kernel/debug/kvm/{vm.process.pid}-*/exits"))


def frozen(vm):
    """The vCPU waits in userfaultfd, and has not been out of that for a second."""
    def check():
        first = exits(vm)
        if "handle_userfault" not in vcpu_stack(vm):
            return False
        time.sleep(1)
        return exits(vm) == first and "handle_userfault" in vcpu_stack(vm)
    return wait_for(check, 30, "a vCPU that is stuck in a page fault", interval=0.1)


@contextlib.contextmanager
def stuck(vm):
    """A background snapshot: QEMU has all of the guest's memory write-protected by userfaultfd, saves a page that a
    vCPU writes to, and lets it go on. Here it cannot save any, since nobody reads the stream, until the block ends.
    """
    go = f"/tmp/go-{vm.slot}"
    vm.l1.guest.check(f"rm -f {go}")
    vm.qmp.cmd("migrate-set-capabilities", capabilities=[{"capability": "background-snapshot", "state": True}])
    vm.qmp.cmd("migrate", uri=f"exec:until [ -e {go} ]; do usleep 100000; done; cat >/dev/null")
    try:
        frozen(vm)
        yield
    finally:
        vm.l1.guest.check(f"touch {go}")


def saved(vm):
    """The end of the snapshot."""
    wait_for(lambda: vm.qmp.cmd("query-migrate")["status"] == "completed", 30, "the snapshot", interval=0.1)


def timed(l1, command):
    """(exit status, output, seconds) of a command in L1."""
    start = time.monotonic()
    code, text = l1.guest.run(command, timeout=90)
    return code, text, time.monotonic() - start


def on_time(seconds):
    """At its deadline: not before, and not much after."""
    assert DEADLINE_S * 0.9 <= seconds < DEADLINE_S + SLACK_S, seconds


def socket_client(name, timeout_ms):
    """The command of one null call by the device's socket."""
    return f"{COMMAND} -t {timeout_ms} ping -c 1 {name}"


def kernel_client(name, how):
    """The command of a client in L1's kernel."""
    return f"insmod /clients/rvmrpc_test_client.ko name={name} threads=1 {how}"


def deadlines(vm, name, kernel):
    """Each kind of client gets a status."""
    l1 = vm.l1
    code, text, took = timed(l1, socket_client(name, DEADLINE_S * 1000))
    assert code and "did not answer in time" in text, (code, text)
    on_time(took)
    start = time.monotonic()
    assert call(vm.qmp, "core", 0, timeout=DEADLINE_S * 1000)[0] == "timed-out"
    on_time(time.monotonic() - start)
    if kernel:
        dmesg(l1)
        code, text, took = timed(l1, kernel_client(name, f"calls=1 timeout_ms={DEADLINE_S * 1000} keep=1"))
        log = dmesg(l1)
        assert code == 0 and f"failed 1 error {-errno.ETIMEDOUT}" in log, (text, log)
        l1.guest.check("rmmod rvmrpc_test_client")
        on_time(took)


@contextlib.contextmanager
def caller(l1, command):
    """A client whose call has nearly forever to go; it is killed at the end, at once."""
    pid = int(l1.guest.check(f"{command} >/dev/null 2>&1 & echo $!"))
    time.sleep(1)
    assert l1.guest.run(f"kill -0 {pid}")[0] == 0, "it waits for nothing"
    yield pid
    l1.guest.check(f"kill -9 {pid}")
    wait_for(lambda: l1.guest.run(f"kill -0 {pid}")[0], SLACK_S, "the end of a client that was killed", interval=0.1)


def others(l1, slot):
    """A VM comes, and goes: the seconds of each, QEMU's own start included."""
    third = L2(l1, slot=slot, **named("third", 3, memory="128M"))
    start = time.monotonic()
    try:
        third.start()
        wait_for(lambda: "third" in vms(l1), OTHERS_S, "the third VM's attachment", interval=0.1)
        came = time.monotonic()
        third.qmp.cmd("quit")
        wait_for(lambda: "third" not in vms(l1), OTHERS_S, "its end", interval=0.1)
        went = time.monotonic()
    finally:
        third.stop()
    assert came - start < OTHERS_S, came - start
    return came - start, went - came


def works(vm, name, kernel):
    """Each kind of call, once the fault is over."""
    wait_for(lambda: call(vm.qmp, "echo", 0, b"back", timeout=2000) == ("ok", b"back"), 60, "the channel")
    code, text, _ = timed(vm.l1, socket_client(name, 10000))
    assert code == 0 and "1 answered" in text, (code, text)
    if kernel:
        vm.l1.guest.check(kernel_client(name, "calls=10") + " && rmmod rvmrpc_test_client")


@case("a vCPU that is stuck in a page fault, with the window in QEMU", timeout=300, opts=",kernel=off", slots=(2, 0))
@case("a vCPU that is stuck in a page fault, with the window in the kernel", timeout=300, opts="", slots=(0, 2))
def fault(opts, slots):
    """Its VM's calls end at their deadlines, nobody else waits, who does can be killed. Then all goes on."""
    l1 = with_command(host())
    kernel = not opts
    name = "stuck"
    shared_l2(l1, slot=1, **named("neighbour", 2, memory="128M"))
    options = named(f"{name},debug-threads=on", 1, memory="128M",
                    device_opts=f"slots=16,socket=/tmp/{name}.sock{opts}")
    with L2(l1, slot=slots[0], **options) as vm:
        assert vm.query()["proxy"] == ("kernel" if kernel else "vmm")
        works(vm, name, kernel)
        with stuck(vm):
            with Hammer(l1, "neighbour", 1, pause_us=20000) as hammer:
                deadlines(vm, name, kernel)
                way = kernel_client(name, f"calls=0 nulls=1 timeout_ms={LONG_MS}") if kernel else \
                    socket_client(name, LONG_MS)
                with caller(l1, socket_client(name, LONG_MS)), caller(l1, way):
                    came, went = others(l1, slots[1])
            comment(f"neighbour: {hammer.counts}, longest {hammer.result['longest_ms']} ms; "
                    f"a third VM came in {came:.1f} s and went in {went:.1f} s")
            assert hammer.result["longest_ms"] < 1000 * SLACK_S, hammer.result
            frozen(vm)
        works(vm, name, kernel)
        saved(vm)
        with stuck(vm):
            vm.process.send_signal(signal.SIGKILL)
            wait_for(lambda: vm.process.poll() is not None and name not in vms(l1), OTHERS_S, "the end of a QEMU "
                     "whose vCPU is stuck", interval=0.1)


if __name__ == "__main__":
    main()
