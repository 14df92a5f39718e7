# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are: the project, its build, and sockets below long paths."""
import contextlib
import os
import pathlib
import socket

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("RVMRPC_BUILD", TOP / "build")).resolve()
QEMU = pathlib.Path(os.environ.get("QEMU", BUILD / "qemu" / "qemu-system-x86_64"))
QEMU_IMG = QEMU.with_name("qemu-img")


def kernel_files(kernel):
    """(vmlinuz, initramfs) of a series such as "6.12", or of a path."""
    series = BUILD / "kernels" / kernel
    if (series / "vmlinuz").exists():
        return series / "vmlinuz", BUILD / "initramfs" / f"{kernel}.cpio"
    path = pathlib.Path(kernel).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no kernel {kernel}: neither a series in "
                                f"{BUILD / 'kernels'} nor a file")
    return path, BUILD / "initramfs" / "6.12.cpio"


@contextlib.contextmanager
def short_path(path):
    """The same file by a path that fits in a socket's address (108 bytes)."""
    path = pathlib.Path(path)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect_unix(path, timeout=5.0):
    """A socket connected to the UNIX socket at path, however long that is. A
    socket that is connected already is returned.
    """
    if isinstance(path, socket.socket):
        return path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with short_path(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock
