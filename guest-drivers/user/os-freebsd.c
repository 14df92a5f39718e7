/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <sys/procctl.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "os.h"

const clockid_t os_clock = CLOCK_MONOTONIC;

int os_memory_file(void)
{
	return shm_open(SHM_ANON, O_RDWR, 0600);
}

void os_die_with_parent(void)
{
	int number = SIGKILL;

	procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &number);
}

int os_watch(pid_t child)
{
	struct kevent ends;
	int queue = kqueue();

	EV_SET(&ends, child, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT, 0, NULL);
	if (queue < 0)
		return -1;
	if (fcntl(queue, F_SETFD, FD_CLOEXEC) || kevent(queue, &ends, 1, NULL, 0, NULL)) {
		close(queue);
		return -1;
	}
	return queue;
}
