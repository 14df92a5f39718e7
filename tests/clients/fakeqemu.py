#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A process with a QEMU's command line, and a fake VM where it says; says "ready" once it listens.

Options are QEMU's: -name, -uuid, -device rvmrpc,socket=PATH, -qmp unix:PATH, -daemonize (it changes its folder, and no
more). For the test itself, in the environment: FAKE_MEMORY, bytes; FAKE_NAME, what it says of itself; FAKE_UUID.
"""
import os
import pathlib
import socket
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parents[1] / "vm")]

# pylint: disable=wrong-import-position
from fake import FakeVM  # noqa: E402


def greet(listener):
    """Notes that somebody came to the monitor, in a file beside it."""
    while True:
        connection, _ = listener.accept()
        pathlib.Path(listener.getsockname() + ".visited").touch()
        connection.close()


def main():
    """Until it is killed."""
    options = dict(zip(sys.argv[1:], sys.argv[2:]))
    path = options.get("-device", "").partition("socket=")[2].partition(",")[0]
    monitor = options.get("-qmp", "").removeprefix("unix:").partition(",")[0]
    if path:
        # As our QEMU does, whose folder may be another one later.
        folder, base = os.path.split(os.path.abspath(path))
        FakeVM(folder, base.removesuffix(".sock"), name=os.environ.get("FAKE_NAME"),
               uuid=os.environ.get("FAKE_UUID"), memory=int(os.environ.get("FAKE_MEMORY", "0")))
    if monitor:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(monitor)
        listener.listen()
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
    if "-daemonize" in sys.argv:
        os.chdir("/")
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
