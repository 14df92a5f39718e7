#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""listen.py FD,FD NAME:NAME COMMAND...: becomes the command, with those descriptors as systemd gives them."""
import fcntl
import os
import sys

FIRST = 3


def main():
    """Moves the descriptors to 3, 4, ..."""
    fds = [int(word) for word in sys.argv[1].split(",") if word]
    last = FIRST + len(fds)
    # Out of the way first: one may lie where another belongs.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, last) for fd in fds]
    for number, fd in enumerate(high, FIRST):
        os.dup2(fd, number, inheritable=True)
    os.closerange(last, max([last, *fds, *high]) + 1)
    if fds:
        os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2],
                          LISTEN_PID=str(os.getpid()))
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
