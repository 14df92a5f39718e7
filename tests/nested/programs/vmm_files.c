// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmm_files CASE: a VMM without a VM, at /dev/rvmrpc-vm: what it may and what it may not.  Prints nothing when all is well.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_abi.h"
#include "window.h"

#define PARAMETERS	"/sys/module/rvmrpc_host/parameters/"

/* An errno, or 0, is wanted. */
#define wants(wanted, call)									\
	do {											\
		int got_ = (call) < 0 ? errno : 0;						\
		if (got_ != (wanted))								\
			errx(1, "line %d: %s: %s", __LINE__, #call, strerror(got_));		\
	} while (0)

static int open_dev(void)
{
	int fd = open("/dev/rvmrpc-vm", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		err(1, "/dev/rvmrpc-vm");
	return fd;
}

static int attach(int fd, const struct window *w)
{
	return ioctl(fd, RVMRPC_VM_ATTACH, &w->a);
}

static void set_parameter(const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		err(1, "%s", path);
	close(fd);
}

static void case_refused(void)
{
	struct window good = make_window("none", 1), w;
	int fd = open_dev();

#define bad(field, value, wanted)			\
	do {						\
		w = good;				\
		w.a.field = (value);			\
		wants(wanted, attach(fd, &w));		\
	} while (0)
	wants(ENOTTY, ioctl(fd, _IO(RVMRPC_IOC_MAGIC, 0x7f)));
	bad(version, 2, EINVAL);
	bad(flags, 2, EINVAL);
	bad(reserved, 1, EINVAL);
	bad(reserved2[3], 1, EINVAL);
	bad(window, good.a.window + 64, EINVAL);
	bad(window, UINT64_MAX - 4095, EINVAL);
	bad(window, 0, EFAULT);
	bad(window_bytes, SIZE - 4096, EINVAL);
	bad(window_bytes, 0, EINVAL);
	bad(window_bytes, SIZE * 2, EFAULT);
	bad(nslots, 0, EINVAL);
	bad(nslots, 65, EINVAL);
	bad(res_bytes, 1u << 31, EINVAL);
	bad(spin_us, 2000000, EINVAL);
	bad(doorbell_fd, -1, EBADF);
	bad(interrupt_fd, w.memory, EINVAL);
	bad(pid, 0x3fffff, ESRCH);
	w = good;
	memset(w.a.name, 'x', sizeof(w.a.name));
	wants(EINVAL, attach(fd, &w));
	wants(ENOTCONN, ioctl(fd, RVMRPC_VM_DETACH));
	wants(ENOTCONN, ioctl(fd, RVMRPC_NOTICE, RVMRPC_KVM_RUN));
	/* None of it left anything behind. */
	wants(0, attach(fd, &good));
}

static void case_owners(void)
{
	struct window w = make_window("none", 1), same_uuid = make_window("none", 1), same_window = w;
	int fd = open_dev(), other = open_dev();
	struct rvmrpc_kvm_status s;

	wants(0, attach(fd, &w));
	wants(EBUSY, attach(fd, &same_uuid));
	wants(EEXIST, attach(other, &same_uuid));
	same_window.a.uuid[15] = 2;
	wants(EBUSY, attach(other, &same_window));
	wants(0, ioctl(fd, RVMRPC_STATUS, &s));
	if (s.epoch || s.stopped)
		errx(1, "epoch %llu, stopped %u", (unsigned long long)s.epoch, s.stopped);
	wants(0, ioctl(fd, RVMRPC_NOTICE, RVMRPC_KVM_STOP));
	wants(0, ioctl(fd, RVMRPC_NOTICE, RVMRPC_KVM_RESET));
	wants(EINVAL, ioctl(fd, RVMRPC_NOTICE, 9));
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	wants(0, attach(other, &same_window));
	wants(0, attach(fd, &same_uuid));
	close(other);
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	wants(0, attach(fd, &w));
}

static void case_calls(void)
{
	struct rvmrpc_submit req = { .cookie = 7, .res_max = 4096, .timeout_ms = 1000 };
	struct window w = make_window("none", 1);
	struct rvmrpc_record rec;
	int fd = open_dev();

	for (int round = 0; round < 2; round++) {
		wants(0, write(fd, &req, sizeof(req)));
		if (read(fd, &rec, sizeof(rec)) != sizeof(rec) || rec.cookie != 7 ||
		    rec.status != RVMRPC_STATUS_NOT_CONNECTED)
			errx(1, "round %d: status %u", round, rec.status);
		wants(EAGAIN, read(fd, &rec, sizeof(rec)));
		if (!round)
			wants(0, attach(fd, &w));
	}
}

/* What the guest may do to its words, to a window that is gone for its VMM, and to eventfds that are one. */
static void case_hostile(void)
{
	static const uint64_t one = 1;
	struct window w = make_window("none", 1);
	int fd = open_dev();

	w.a.interrupt_fd = w.a.doorbell_fd;
	wants(0, attach(fd, &w));
	for (int i = 0; i < 20000; i++) {
		((uint64_t *)w.base)[rand() % (SIZE / 8)] = i % 3 ? (uint64_t)rand() * rand() : 0;
		if (i % 16 == 0 && write(w.a.doorbell_fd, &one, 8) < 0 && errno != EAGAIN)
			err(1, "ring");
	}
	munmap(w.base, SIZE);
	close(w.memory);
	close(w.a.doorbell_fd);
	usleep(100000);
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
}

static void case_child(void)
{
	struct window w = make_window("none", 1);
	int fd = open_dev(), other, alive[2];
	char byte;

	if (pipe(alive))
		err(1, "pipe");
	if (!fork()) {
		wants(0, attach(fd, &w));
		if (!fork()) {
			/* It has the file, and stays. */
			close(alive[1]);
			if (read(alive[0], &byte, 1))
				_exit(1);
			_exit(0);
		}
		_exit(0);
	}
	close(fd);
	if (wait(NULL) < 0)
		err(1, "wait");
	other = open_dev();
	wants(0, attach(other, &w));
	close(alive[1]);
}

static void case_limits(void)
{
	const struct rlimit small = { SIZE / 2, SIZE / 2 };
	struct window w = make_window("none", 1), next = make_window("none", 2);
	int fd = open_dev(), other = open_dev();

	wants(0, attach(fd, &w));
	set_parameter("max_windows", "1");
	wants(EDQUOT, attach(other, &next));
	set_parameter("max_windows", "1024");
	set_parameter("max_mib", "0");
	wants(EDQUOT, attach(other, &next));
	set_parameter("max_mib", "4096");
	if (setrlimit(RLIMIT_MEMLOCK, &small) || setgroups(0, NULL) || setgid(65534) || setuid(65534))
		err(1, "nobody");
	next.a.pid = 1;
	wants(EPERM, attach(other, &next));
	next.a.pid = 0;
	wants(ENOMEM, attach(other, &next));
	/* Nobody may open it. */
	if (open("/dev/rvmrpc-vm", O_RDWR) >= 0 || errno != EACCES)
		err(1, "nobody has opened it");
}

static void case_detach(void)
{
	struct window w = make_window("none", 1);
	struct rvmrpc_record rec;
	int fd = open_dev(), other = open_dev();
	struct pollfd p = { .fd = fd, .events = POLLIN };

	wants(0, attach(fd, &w));
	set_parameter("detach", "1");
	if (poll(&p, 1, 10000) != 1 || read(fd, &rec, sizeof(rec)) != sizeof(rec) || rec.type != RVMRPC_REC_DETACH)
		errx(1, "record %u", rec.type);
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	wants(ESHUTDOWN, attach(other, &w));
	wants(ESHUTDOWN, open("/dev/rvmrpc-vm", O_RDWR));
	set_parameter("detach", "0");
	wants(0, attach(other, &w));
}

/* The next record's type; -1: none comes. */
static int next_record(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct rvmrpc_record rec;

	if (poll(&p, 1, timeout_ms) != 1)
		return -1;
	if (read(fd, &rec, sizeof(rec)) != sizeof(rec))
		err(1, "read");
	return rec.type;
}

/* A hole anywhere in it, as a balloon makes: its pages are no more those that the VMM and its guest see. */
static void case_torn(void)
{
	static const off_t pages[] = { 0, SIZE / 4096 / 2, SIZE / 4096 - 1 };
	struct window w = make_window("none", 1);
	int fd = open_dev();

	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		wants(0, attach(fd, &w));
		if (next_record(fd, 2500) != -1)
			errx(1, "a record of a window that is whole");
		if (fallocate(w.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pages[i] * 4096, 4096))
			err(1, "fallocate");
		/* It is looked for each second, when the host has the time. */
		if (next_record(fd, 10000) != RVMRPC_REC_DETACH)
			errx(1, "no word of page %ld", (long)pages[i]);
		if (next_record(fd, 2500) != -1)
			errx(1, "it is told twice");
		wants(ENOTCONN, ioctl(fd, RVMRPC_NOTICE, RVMRPC_KVM_RUN));
		wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	}
}

/* Seconds of six steps that are told. */
static double come_and_go(const struct window *w, const struct window *w2)
{
	int fd = open_dev(), other = open_dev();
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	wants(0, attach(fd, w));
	wants(0, attach(other, w2));
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	wants(0, attach(fd, w));
	wants(0, ioctl(fd, RVMRPC_VM_DETACH));
	close(other);
	clock_gettime(CLOCK_MONOTONIC, &end);
	close(fd);
	return end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
}

/* Some client's notifier takes 3 s for each: no VMM waits for it.  A busy host may be late once. */
static void case_notices(void)
{
	struct window w = make_window("none", 1), w2 = make_window("none", 2);
	double seconds = 3;

	for (int i = 0; i < 3 && seconds > 2; i++)
		seconds = come_and_go(&w, &w2);
	if (seconds > 2)
		errx(1, "%.1f s", seconds);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{ "refused", case_refused }, { "owners", case_owners }, { "calls", case_calls },
		{ "hostile", case_hostile }, { "child", case_child }, { "limits", case_limits },
		{ "detach", case_detach }, { "torn", case_torn }, { "notices", case_notices },
	};

	alarm(60);
	for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(*cases); i++) {
		if (!strcmp(argv[1], cases[i].name)) {
			cases[i].run();
			return 0;
		}
	}
	errx(2, "usage: vmm_files refused|owners|calls|hostile|child|limits|detach|torn|notices");
}
