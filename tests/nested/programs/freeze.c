// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * freeze PID COMMAND...: runs a command while all of a QEMU but its vCPU threads stands still.
 *
 * SIGSTOP stops a whole process; a tracer stops one thread at a time. Those that wait for an event in ppoll() hold no lock
 * that a vCPU may need. QEMU must run with debug-threads=on, so that threads have names.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX	64
#define TRIES		200

/* False: the thread has ended, as QEMU's idle workers do. */
static bool read_line(int pid, int tid, const char *name, char *line, size_t size)
{
	char path[64];
	bool ok;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	errno = 0;
	f = fopen(path, "r");
	ok = f && fgets(line, size, f);
	if (!ok && errno != ENOENT && errno != ESRCH)
		err(1, "%s", path);
	if (f)
		fclose(f);
	return ok;
}

/* The main loop takes locks between its polls; it is stopped inside one.  False: the thread has ended. */
static bool freeze_thread(int pid, int tid)
{
	char line[128];
	int tries, status;

	for (tries = 0; tries < TRIES; tries++) {
		if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
			if (errno == ESRCH)
				return false;
			err(1, "stop of thread %d", tid);
		}
		if (waitpid(tid, &status, __WALL) != tid)
			err(1, "stop of thread %d", tid);
		if (!WIFSTOPPED(status) || !read_line(pid, tid, "syscall", line, sizeof(line)))
			return false;
		if (tid != pid || atoi(line) == SYS_ppoll)
			return true;
		ptrace(PTRACE_DETACH, tid, 0, 0);
		usleep(5000);
	}
	errx(1, "the main loop is never idle");
}

/* How many threads, and whether there are vCPUs among those that go on. */
static int freeze(int pid, int *vcpus)
{
	int tids[THREADS_MAX], n = 0, i, frozen = 0;
	char path[64], comm[32];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while ((d = readdir(dir)) && n < THREADS_MAX) {
		if (*d->d_name != '.')
			tids[n++] = atoi(d->d_name);
	}
	closedir(dir);
	for (i = 0; i < n; i++) {
		if (!read_line(pid, tids[i], "comm", comm, sizeof(comm)))
			continue;
		if (!strncmp(comm, "CPU ", 4))
			++*vcpus;
		else
			frozen += freeze_thread(pid, tids[i]);
	}
	return frozen;
}

/* What it traced goes on when it exits. */
int main(int argc, char **argv)
{
	int vcpus = 0, frozen, status;
	pid_t child;

	if (argc < 3)
		errx(2, "freeze PID COMMAND...");
	frozen = freeze(atoi(argv[1]), &vcpus);
	printf("%d threads frozen, %d vCPUs go on\n", frozen, vcpus);
	fflush(stdout);
	if (!vcpus)
		errx(1, "no vCPU by name");
	child = fork();
	if (!child) {
		execvp(argv[2], argv + 2);
		err(127, "%s", argv[2]);
	}
	if (waitpid(child, &status, 0) != child)
		err(1, "wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
