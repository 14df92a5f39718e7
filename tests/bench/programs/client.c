// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bench_client ROW TARGET N WARM [PID [VM]]: calls a peer WARM times, then N times; prints the ns of each of the latter.
 * With QEMU's PID, and the VM's name where KVM has counters of it, two more lines before: the counters around the N calls,
 * so that what the guest does while this program starts is not among them. ROW "counters" calls no one and prints them once.
 *
 * The same program for every peer: the client's language, start and clock do not differ between rows.
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "client.h"

#define CALLS_MAX	20000
#define ALARM_S		60	/* no peer that is silent stops the benchmark */

static uint64_t samples[CALLS_MAX];
static const char *qemu_pid, *vm_name;

const struct row client_rows[] = {
	{ "qmp-empty", qmp_open, qmp_empty },
	{ "qmp-null", qmp_open, qmp_null },
	{ "qmp-meminfo", qmp_open, qmp_meminfo },
	{ "balloon-read", qmp_open, qmp_balloon },
	{ "qga-ping", qga_open, qga_ping },
	{ "qga-read", qga_open, qga_read },
	{ "qga-exec", qga_open, qga_exec },
	{ "socket-null", sock_open, sock_null },
	{ "socket-meminfo", sock_open, sock_meminfo },
	{ "socket-procfs", sock_open, sock_procfs },
	{ "socket-echo", sock_echo_open, sock_echo },
	{ "dev-null", dev_open, dev_null },
	{ "dev-meminfo", dev_open, dev_meminfo },
	{ "file-read", file_open, file_read },
	{ "vsock-kept", vsock_open, vsock_kept },
	{ "vsock-new", vsock_open, vsock_new },
	{ "command", command_open, command_new },
	{ "shell", command_shell_open, command_kept },
	{ NULL, NULL, NULL },
};

const struct series client_series[] = {
	{ "kernel", kernel_series },
	{ "kernel-flood", kernel_flood },
	{ "pingpong", pingpong },
	{ "socket-flood", sock_flood },
	{ "balloon-age", balloon_age },
	{ NULL, NULL },
};

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int connect_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		errx(1, "%s: too long", path);
	memcpy(addr.sun_path, path, strlen(path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		err(1, "%s", path);
	return fd;
}

void write_all(int fd, const void *data, size_t bytes)
{
	if (write(fd, data, bytes) != (ssize_t)bytes)
		err(1, "write");
}

void read_all(int fd, void *data, size_t bytes)
{
	char *at = data;

	while (bytes) {
		ssize_t got = read(fd, at, bytes);

		if (got <= 0)
			err(1, "read");
		at += got;
		bytes -= got;
	}
}

static void count(void)
{
	if (qemu_pid)
		counters_print(qemu_pid, vm_name);
}

static void run_row(const struct row *row, const char *target, unsigned int n, unsigned int warm)
{
	unsigned int i;
	uint64_t start;

	row->open(target);
	for (i = 0; i < warm; i++)
		row->call();
	count();
	for (i = 0; i < n; i++) {
		start = now_ns();
		row->call();
		samples[i] = now_ns() - start;
	}
	count();
}

static void run_named(const char *name, const char *target, unsigned int n, unsigned int warm)
{
	const struct series *series;
	const struct row *row;

	for (row = client_rows; row->name; row++) {
		if (!strcmp(row->name, name)) {
			run_row(row, target, n, warm);
			return;
		}
	}
	for (series = client_series; series->name; series++) {
		if (!strcmp(series->name, name)) {
			if (warm)
				series->run(target, warm, samples);
			count();
			series->run(target, n, samples);
			count();
			return;
		}
	}
	errx(2, "no row %s", name);
}

int main(int argc, char **argv)
{
	unsigned int i, n, warm;

	if (argc < 5 || argc > 7)
		errx(2, "bench_client ROW TARGET N WARM [PID [VM]]");
	qemu_pid = argc > 5 ? argv[5] : NULL;
	vm_name = argc > 6 ? argv[6] : NULL;
	if (!strcmp(argv[1], "counters")) {
		count();
		return 0;
	}
	n = atoi(argv[3]);
	warm = atoi(argv[4]);
	if (n > CALLS_MAX || warm > CALLS_MAX)
		errx(2, "at most %d calls", CALLS_MAX);
	alarm(ALARM_S);
	run_named(argv[1], argv[2], n, warm);
	for (i = 0; i < n; i++)
		printf("%" PRIu64 "%c", samples[i], i + 1 == n ? '\n' : ' ');
	return 0;
}
