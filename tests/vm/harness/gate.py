# SPDX-License-Identifier: GPL-2.0-or-later
"""Gate calls, right or wrong, by the guest's module rvmrpc_gate_test."""
import struct

from .rpc import insmod

TAG = 0x52564d41
CODES = {
    0x80000001: "AGAIN", 0x80000002: "RESET", 0x80000003: "BAD_OP", 0x80000004: "BAD_HANDLE",
    0x80000005: "NO_MODULE", 0x80000006: "BAD_VERSION", 0x80000007: "NO_PROCEDURE",
    0x80000008: "BAD_ARGS", 0x80000009: "FAULT", 0x8000000a: "NO_MEMORY",
    0x8000000b: "DENIED", 0x8000000c: "FAILED"}
NULL, BIND, PERFORM, UNBIND = range(4)
KERNEL = 1 << 16
NULL_ANSWER = 0x4e554c4c
MAIN = 2
WAIT = 1_000_000 << 32      # us


class Gate:
    """The guest's test module, which makes the calls."""

    FOLDER = "/sys/kernel/debug/rvmrpc_gate"

    def __init__(self, vm, kind):
        self.vm, self.kind = vm, kind
        if vm.guest.run(f"test -d {self.FOLDER}")[0]:
            insmod(vm, "rvmrpc_gate_test")
        text = vm.guest.check(f"cat {self.FOLDER}/addresses")
        self.at = {name: int(value, 16) for name, value in
                   (line.split() for line in text.splitlines())}

    def raw(self, op, a0=0, a1=0, a2=0, how="", kind=None):
        """The answer as the module prints it."""
        words = " ".join(f"{word:x}" for word in (op, a0, a1, a2))
        # The shell's own words only: a fork takes long in a guest's guest.
        return self.vm.guest.check(f"echo '{kind or self.kind} {words} {how}' > {self.FOLDER}/call && "
                                   f"read answer < {self.FOLDER}/call && echo $answer").strip()

    def __call__(self, op, a0=0, a1=0, a2=0, how=""):
        """A code's name, or the result."""
        text = self.raw(op, a0, a1, a2, how)
        answer = int(text, 16)
        assert answer >> 32 == TAG, text
        low = answer & 0xffffffff
        return CODES[low] if low >> 31 else low

    def put(self, data, at=0):
        """Writes the buffer; the guest virtual address of it."""
        text = "".join(f"\\{byte:03o}" for byte in data)
        if at:
            self.vm.guest.check(f"printf '{text}' | dd of={self.FOLDER}/buffer bs={at} seek=1 "
                                "conv=notrunc 2>/dev/null")
        else:
            self.vm.guest.check(f"printf '{text}' > {self.FOLDER}/buffer")
        return self.at["buffer"] + at

    def bind(self, name, version="1"):
        """BIND's answer."""
        return self(BIND, self.put(name.encode().ljust(32, b"\0") +
                                   version.encode().ljust(32, b"\0")))

    def perform(self, handle, function, arg=0, size=0, how=""):
        """PERFORM's answer."""
        return self(PERFORM, handle | function << 32, arg, size, how)

    def posted(self):
        """The window's count of requests, which nobody else may raise meanwhile."""
        return int(self.vm.guest.check(f"cat {self.FOLDER}/posted"), 16)
