# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd does for a service with FileDescriptorStoreMax: it keeps descriptors over a restart.

The service sends them to NOTIFY_SOCKET (sd_notify(3)) and is started with them from descriptor 3 on
(sd_listen_fds(3)).
"""
import array
import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import threading

from harness.paths import short_path

LISTEN = pathlib.Path(__file__).with_name("listen.py")
KCMP = 312      # the system call, on x86-64


def same_file(one, other):
    """Whether two descriptors are of one open file; eventfds share an inode, which tells nothing."""
    pid = os.getpid()
    return ctypes.CDLL(None, use_errno=True).syscall(KCMP, pid, pid, 0, one, other) == 0


class FDStore:
    """Takes messages on a socket in a folder and keeps their descriptors by name."""

    def __init__(self, folder, limit=1024):
        self.path = pathlib.Path(folder) / "notify.sock"
        self.limit = limit
        self.kept = []          # (name, descriptor), in the order of their coming
        self.seen = []          # all assignments of all messages, such as READY=1
        self.lock = threading.Condition()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with short_path(self.path) as name:
            self.sock.bind(name)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self):
        """Ends, with all that it keeps."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(5)
        self.sock.close()
        self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self):
        """Closes all, as systemd does when a service is stopped for good."""
        with self.lock:
            for _, fd in self.kept:
                os.close(fd)
            self.kept = []

    def names(self):
        """Of what it keeps."""
        with self.lock:
            return [name for name, _ in self.kept]

    def wait(self, word, timeout=10.0):
        """Waits for an assignment such as READY=1 since the last clear()."""
        with self.lock:
            return self.lock.wait_for(lambda: word in self.seen, timeout)

    def clear(self):
        """Forgets what messages said."""
        with self.lock:
            self.seen = []

    def _serve(self):
        size = array.array("i").itemsize
        while True:
            try:
                data, control, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(253 * size))
            except OSError:
                return
            if not data and not control:
                return
            fds = array.array("i")
            for level, kind, part in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(part[:len(part) - len(part) % size])
            self._take(data.decode(errors="replace").splitlines(), list(fds))

    def _take(self, words, fds):
        given = dict(word.split("=", 1) for word in words if "=" in word)
        name = given.get("FDNAME", "stored")
        with self.lock:
            self.seen += words
            if given.get("FDSTOREREMOVE") == "1":
                for stored, fd in self.kept:
                    if stored == name:
                        os.close(fd)
                self.kept = [pair for pair in self.kept if pair[0] != name]
            elif given.get("FDSTORE") == "1":
                for fd in fds:
                    if len(self.kept) < self.limit and \
                            not any(same_file(fd, old) for _, old in self.kept):
                        self.kept.append((name, fd))
                    else:
                        os.close(fd)
                fds = []
            # That of BARRIER=1 among them: its end is the answer.
            for fd in fds:
                os.close(fd)
            self.lock.notify_all()

    def popen(self, command, env, **options):
        """subprocess.Popen() of the service, with what is kept."""
        with self.lock:
            kept = list(self.kept)
            env = dict(env, NOTIFY_SOCKET=str(self.path))
            for name in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"):
                env.pop(name, None)
            fds = [fd for _, fd in kept]
            # Only once it runs is its process id known, which is said to it.
            starter = [sys.executable, LISTEN, ",".join(map(str, fds)),
                       ":".join(name for name, _ in kept)]
            return subprocess.Popen([*starter, *map(str, command)], env=env, pass_fds=fds, **options)
