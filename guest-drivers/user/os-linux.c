/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "os.h"

const clockid_t os_clock = CLOCK_BOOTTIME;

int os_memory_file(void)
{
	return memfd_create("argument", MFD_CLOEXEC);
}

void os_die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int os_watch(pid_t child)
{
	return syscall(SYS_pidfd_open, child, 0);
}
