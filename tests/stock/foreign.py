# SPDX-License-Identifier: GPL-2.0-or-later
"""ivshmem devices that are none of ours: shared memory alone, and a server of peers with interrupts."""
import os
import pathlib
import random
import socket
import struct
import threading

SIZE = 1 << 20


def noise(seed):
    """A first page, the same for a seed."""
    return random.Random(seed).randbytes(4096)


class Plain:
    """-device ivshmem-plain, on a file in a folder."""

    def __init__(self, folder, seed=1, master=False):
        self.path = pathlib.Path(folder) / f"plain-{seed}"
        self.page = noise(seed)
        self.path.write_bytes(self.page + bytes(SIZE - len(self.page)))
        self.args = ["-object", f"memory-backend-file,id=plain{seed},share=on,size={SIZE},mem-path={self.path}",
                     "-device", f"ivshmem-plain,memdev=plain{seed},master={'on' if master else 'off'}"]

    def changed(self):
        """Whether a byte is not what it was."""
        return self.path.read_bytes() != self.page + bytes(SIZE - len(self.page))


class Doorbell:
    """-device ivshmem-doorbell, whose server gives the VM an id, memory and a vector, as QEMU's example does."""

    def __init__(self, folder, seed=2, ident=0, vectors=1):
        self.path = pathlib.Path(folder) / f"server-{seed}"
        self.page = noise(seed)
        self.ident, self.vectors = ident, vectors
        self.memory = os.memfd_create("foreign")
        os.write(self.memory, self.page)
        os.ftruncate(self.memory, SIZE)
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2 * vectors)]
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(self.path))
        self.sock.listen(1)
        self.peer = None
        threading.Thread(target=self._serve, daemon=True).start()
        self.args = ["-chardev", f"socket,id=server{seed},path={self.path}",
                     "-device", f"ivshmem-doorbell,vectors={vectors},chardev=server{seed}"]

    def _serve(self):
        try:
            self.peer, _ = self.sock.accept()
        except OSError:
            return
        other = self.ident + 1
        self._tell(0)
        self._tell(self.ident)
        self._tell(-1, self.memory)
        for number, fd in enumerate(self.events):
            self._tell(self.ident if number < self.vectors else other, fd)

    def _tell(self, word, *fds):
        socket.send_fds(self.peer, [struct.pack("<q", word)], fds)

    def changed(self):
        """Whether a byte is not what it was, or a doorbell was rung."""
        rung = False
        for fd in self.events:
            try:
                rung = os.eventfd_read(fd) > 0 or rung
            except BlockingIOError:
                pass
        return rung or os.pread(self.memory, SIZE, 0) != self.page + bytes(SIZE - len(self.page))

    def close(self):
        """Ends it."""
        for sock in (self.peer, self.sock):
            if sock is not None:
                sock.close()
        for fd in (self.memory, *self.events):
            os.close(fd)
