/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What KVM's gate has counted for a VMM: asked of the VMM's own token, of which only the VMM knows.
 */
#ifndef GATE_COUNTERS_H
#define GATE_COUNTERS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/rvmrpc.h>

static inline bool gate_counters_of_fd(int pidfd, int number, struct rvmrpc_gate_status *s)
{
	int fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
	bool ok;

	if (fd < 0)
		return false;
	ok = !ioctl(fd, RVMRPC_GATE_STATUS, s);
	close(fd);
	return ok;
}

/* False, and all zero: it has none. */
static inline bool gate_counters(int pid, struct rvmrpc_gate_status *s)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	char path[512], target[64];
	struct dirent *d;
	bool found = false;
	ssize_t length;
	DIR *dir;

	memset(s, 0, sizeof(*s));
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = pidfd < 0 ? NULL : opendir(path);
	while (dir && !found && (d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, d->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0)
			target[length] = 0;
		if (length > 0 && strstr(target, "vmrpc-token"))
			found = gate_counters_of_fd(pidfd, atoi(d->d_name), s);
	}
	if (dir)
		closedir(dir);
	if (pidfd >= 0)
		close(pidfd);
	return found;
}

#endif /* GATE_COUNTERS_H */
