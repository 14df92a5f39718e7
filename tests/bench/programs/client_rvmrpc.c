// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Ours: the device's socket, /dev/rvmrpc, the files of rvmrpc_proc, the client in the kernel; and the wake ping-pong.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "client.h"
#include "rvmrpc_socket.h"

#define VMS_MAX		8
#define CLIENTS_MAX	64
#define ANSWER_MAX	(1 << 20)
#define TIMEOUT_MS	10000
#define KERNEL_DIR	"/sys/kernel/debug/rvmrpc_bench/"

static int fd;
static uint64_t vm, cookie;
static char answer[ANSWER_MAX];
static const char *path;

/* ---- The device's socket ---- */

void sock_open(const char *target)
{
	fd = connect_unix(target);
}

static void sock_submit(int s, uint32_t module, uint32_t procedure, const char *arg, uint32_t length)
{
	struct rvmrpc_sock_hdr h = {
		.magic = RVMRPC_SOCK_MAGIC,
		.version = RVMRPC_SOCK_VERSION,
		.type = RVMRPC_SOCK_SUBMIT,
		.length = length,
		.cookie = ++cookie,
		.module = module,
		.procedure = procedure,
		.timeout_ms = TIMEOUT_MS,
	};
	struct iovec iov[] = { { &h, sizeof(h) }, { (void *)arg, length } };
	size_t done;

	done = writev(s, iov, 2);
	if (done < sizeof(h))
		err(1, "socket");
	if (done < sizeof(h) + length)
		write_all(s, arg + done - sizeof(h), length + sizeof(h) - done);
}

static void sock_answer(int s)
{
	struct rvmrpc_sock_hdr h;

	read_all(s, &h, sizeof(h));
	if (h.type != RVMRPC_SOCK_ANSWER || h.status || h.length > ANSWER_MAX)
		errx(1, "socket: type %u status %u", h.type, h.status);
	read_all(s, answer, h.length);
}

void sock_null(void)
{
	sock_submit(fd, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0);
	sock_answer(fd);
}

void sock_meminfo(void)
{
	sock_submit(fd, RVMRPC_MOD_SYSINFO, RVMRPC_SYSINFO_MEMINFO, NULL, 0);
	sock_answer(fd);
}

void sock_procfs(void)
{
	static const char file[] = "/proc/meminfo";

	sock_submit(fd, RVMRPC_MOD_PROCFS, RVMRPC_PROCFS_READ, file, sizeof(file) - 1);
	sock_answer(fd);
}

/* "SOCKET BYTES" */
static void split(const char *target, char *socket, size_t size, unsigned int *a, unsigned int *b)
{
	const char *blank = strchr(target, ' ');

	if (!blank || (size_t)(blank - target) >= size || sscanf(blank, "%u %u", a, b) < 1)
		errx(2, "SOCKET NUMBER...");
	memcpy(socket, target, blank - target);
	socket[blank - target] = 0;
}

static unsigned int echo_bytes;

void sock_echo_open(const char *target)
{
	char socket[108];
	unsigned int unused;

	split(target, socket, sizeof(socket), &echo_bytes, &unused);
	if (echo_bytes > ANSWER_MAX)
		errx(2, "at most %d bytes", ANSWER_MAX);
	sock_open(socket);
}

void sock_echo(void)
{
	static const char zeros[ANSWER_MAX];

	sock_submit(fd, RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, zeros, echo_bytes);
	sock_answer(fd);
}

/* "SOCKET CLIENTS MS": null calls of so many connections at once; out: ns, calls. */
void sock_flood(const char *target, unsigned int n, uint64_t *out)
{
	struct pollfd polls[CLIENTS_MAX];
	unsigned int clients, ms, i;
	uint64_t start, calls = 0;
	char socket[108];

	split(target, socket, sizeof(socket), &clients, &ms);
	if (n != 2 || clients > CLIENTS_MAX)
		errx(2, "two samples, at most %d clients", CLIENTS_MAX);
	for (i = 0; i < clients; i++)
		polls[i] = (struct pollfd) { .fd = connect_unix(socket), .events = POLLIN };
	start = now_ns();
	for (i = 0; i < clients; i++)
		sock_submit(polls[i].fd, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0);
	while (now_ns() - start < ms * 1000000ull) {
		if (poll(polls, clients, 5000) <= 0)
			errx(1, "no answer to %u clients", clients);
		for (i = 0; i < clients; i++) {
			if (!polls[i].revents)
				continue;
			sock_answer(polls[i].fd);
			sock_submit(polls[i].fd, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0);
			calls++;
		}
	}
	out[0] = now_ns() - start;
	out[1] = calls;
}

/* ---- /dev/rvmrpc ---- */

void dev_open(const char *name)
{
	struct rvmrpc_vm_info vms[VMS_MAX];
	struct rvmrpc_vm_list list = { .size = VMS_MAX, .vms = (uintptr_t)vms };
	unsigned int i;

	fd = open("/dev/rvmrpc", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, RVMRPC_LIST_VMS, &list))
		err(1, "/dev/rvmrpc");
	for (i = 0; i < list.size && i < VMS_MAX; i++) {
		if (!strcmp(vms[i].name, name))
			vm = vms[i].id;
	}
	if (!vm)
		errx(1, "no VM %s", name);
}

static void dev_call(uint32_t module, uint32_t procedure)
{
	struct rvmrpc_submit s = {
		.cookie = ++cookie,
		.vm = vm,
		.module = module,
		.procedure = procedure,
		.res_max = ANSWER_MAX - sizeof(struct rvmrpc_record),
		.timeout_ms = TIMEOUT_MS,
	};
	struct rvmrpc_record *rec = (void *)answer;

	write_all(fd, &s, sizeof(s));
	if (read(fd, answer, sizeof(answer)) < (ssize_t)sizeof(*rec))
		err(1, "/dev/rvmrpc: read");
	if (rec->cookie != cookie || rec->status)
		errx(1, "/dev/rvmrpc: status %u", rec->status);
}

void dev_null(void)
{
	dev_call(RVMRPC_MOD_CORE, RVMRPC_CORE_NULL);
}

void dev_meminfo(void)
{
	dev_call(RVMRPC_MOD_SYSINFO, RVMRPC_SYSINFO_MEMINFO);
}

/* ---- /proc/rvmrpc/<uuid>/meminfo: opened, read and closed ---- */

void file_open(const char *target)
{
	path = target;
}

void file_read(void)
{
	int file = open(path, O_RDONLY);

	if (file < 0 || read(file, answer, sizeof(answer)) <= 0)
		err(1, "%s", path);
	close(file);
}

/* ---- The client in the kernel ---- */

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void kernel_run(const char *text, unsigned int n, uint64_t *out)
{
	int file = open(KERNEL_DIR "run", O_WRONLY);

	if (file < 0)
		err(1, KERNEL_DIR);
	write_all(file, text, strlen(text));
	close(file);
	file = open(KERNEL_DIR "samples", O_RDONLY);
	if (file < 0 || read(file, out, n * sizeof(*out)) != (ssize_t)(n * sizeof(*out)))
		err(1, KERNEL_DIR "samples");
	close(file);
}

/* "WHAT CPU [ARG...]": WHAT runs on that CPU. */
void kernel_series(const char *command, unsigned int n, uint64_t *out)
{
	char what[32], args[32] = "", text[128];
	int cpu;

	if (sscanf(command, "%31s %d %31[^\n]", what, &cpu, args) < 2)
		errx(2, "WHAT CPU [ARG...]");
	pin(cpu);
	snprintf(text, sizeof(text), "%s %u %s", what, n, args);
	kernel_run(text, n, out);
}

/* "CPU MS THREADS VMS"; out: ns, calls. */
void kernel_flood(const char *command, unsigned int n, uint64_t *out)
{
	unsigned int cpu, ms, threads, vms;
	char text[128];

	if (n != 2 || sscanf(command, "%u %u %u %u", &cpu, &ms, &threads, &vms) != 4)
		errx(2, "two samples of CPU MS THREADS VMS");
	pin(cpu);
	snprintf(text, sizeof(text), "flood %u %u %u", ms, threads, vms);
	kernel_run(text, n, out);
}

/* ---- Two threads that wake each other by eventfds, as a client of user space is woken ---- */

static int ball, back;

static void *partner(void *data)
{
	uint64_t one;

	pin(*(int *)data);
	for (;;) {
		read_all(ball, &one, sizeof(one));
		write_all(back, &one, sizeof(one));
	}
	return NULL;
}

void pingpong(const char *cpus, unsigned int n, uint64_t *out)
{
	static pthread_t thread;
	static int here, there;
	uint64_t one = 1;
	unsigned int i;

	if (!thread) {
		if (sscanf(cpus, "%d %d", &here, &there) != 2)
			errx(2, "CPU CPU");
		ball = eventfd(0, 0);
		back = eventfd(0, 0);
		pin(here);
		if (ball < 0 || back < 0 || pthread_create(&thread, NULL, partner, &there))
			err(1, "ping-pong");
	}
	for (i = 0; i < n; i++) {
		uint64_t start = now_ns();

		write_all(ball, &one, sizeof(one));
		read_all(back, &one, sizeof(one));
		out[i] = now_ns() - start;
	}
}
