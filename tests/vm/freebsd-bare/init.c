/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first process, and all the user space, of a FreeBSD guest that has nothing but a kernel: loads the driver,
 * mounts what /srv wants, has a process write to the disk, one rename there and one take all memory when they are told to, one
 * serve procedures, and others do nothing, and obeys the signals by which the kernel asks for a shutdown.
 */
#include "rvmrpc_abi.h"
#include "rvmrpc_serve.h"

#define SYS_EXIT	1
#define SYS_FORK	2
#define SYS_READ	3
#define SYS_WRITE	4
#define SYS_OPEN	5
#define SYS_CLOSE	6
#define SYS_WAIT4	7
#define SYS_UNLINK	10
#define SYS_BREAK	17
#define SYS_KILL	37
#define SYS_IOCTL	54
#define SYS_REBOOT	55
#define SYS_SYMLINK	57
#define SYS_DUP2	90
#define SYS_FSYNC	95
#define SYS_RENAME	128
#define SYS_SYSCTL	202
#define SYS_POLL	209
#define SYS_NANOSLEEP	240
#define SYS_KLDLOAD	304
#define SYS_KLDUNLOAD	305
#define SYS_NMOUNT	378
#define SYS_SIGACTION	416

#define _IOWR(group, number, type) (0xc0000000ul | sizeof(type) << 16 | (group) << 8 | (number))

#define O_WRONLY	1
#define O_NONBLOCK	4
#define POLLIN		1
#define O_RDWR		2
#define O_CREAT		0x200
#define O_TRUNC		0x400
#define MNT_UPDATE	0x10000
#define RB_POWEROFF	0x4000
#define KERN_MAXPROCPERUID 28
#define KERN_LOGSIGEXIT	34
#define SIGINT		2
#define SIGKILL		9
#define SIGUSR2		31

#define SLEEPERS	100
#define LOADS		3
#define PAGE		4096
#define FILES		700
#define RENAME		12345
#define ROOM		(1l << 30)

/* errno as a negative number. */
static long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	unsigned char failed;
	long result;

	__asm__ volatile("syscall; setc %1" : "=a"(result), "=r"(failed), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9) :
			 "0"(number), "D"(a), "S"(b) : "rcx", "r11", "memory", "cc");
	return failed ? -result : result;
}

static long call(long number, long a, long b, long c)
{
	return call6(number, a, b, c, 0, 0, 0);
}

static long length(const char *s)
{
	long n = 0;

	while (s[n])
		n++;
	return n;
}

static void say(const char *what, long value)
{
	char line[64], digits[24];
	long n = 0, i = 0;

	for (; what[n]; n++)
		line[n] = what[n];
	line[n++] = ' ';
	if (value < 0) {
		line[n++] = '-';
		value = -value;
	}
	do {
		digits[i++] = '0' + value % 10;
		value /= 10;
	} while (value);
	while (i)
		line[n++] = digits[--i];
	line[n++] = '\n';
	call(SYS_WRITE, 1, (long)line, n);
}

static void nap(long ms)
{
	const long time[2] = { ms / 1000, ms % 1000 * 1000000 };

	call(SYS_NANOSLEEP, (long)time, 0, 0);
}

static volatile int wanted;

static void on_signal(int number)
{
	wanted = number;
}

static void obey(int number)
{
	const struct {
		void (*handler)(int);
		int flags;
		unsigned int mask[4];
	} action = { .handler = on_signal };

	call(SYS_SIGACTION, number, (long)&action, 0);
}

/* key: what the file system calls what is mounted; option: another one, without a value, or "". */
static long mount(const char *type, const char *path, const char *key, const char *from, const char *option, long flags)
{
	const char * const words[] = { "fstype", type, "fspath", path, key, from, option, 0 };
	const int count = option[0] ? 8 : 6;
	struct {
		const char *base;
		long bytes;
	} vector[8];
	int i;

	for (i = 0; i < count; i++) {
		vector[i].base = words[i];
		vector[i].bytes = words[i] ? length(words[i]) + 1 : 0;
	}
	return call(SYS_NMOUNT, (long)vector, count, flags);
}

static void make_file(const char *path, const char *text)
{
	long file = call(SYS_OPEN, (long)path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	call(SYS_WRITE, file, (long)text, length(text));
	call(SYS_CLOSE, file, 0, 0);
}

/* For module files: the rest of /srv is in the image. */
static void make_mounts(void)
{
	char name[] = "/srv/tmp/a-rather-long-name-of-number-000";
	char *digits = name + sizeof(name) - 4;
	int i;

	say("tmpfs", mount("tmpfs", "/srv/tmp", "from", "tmpfs", "", 0));
	say("tmpfs", mount("tmpfs", "/srv/tree/tmp", "from", "tmpfs", "", 0));
	say("devfs", mount("devfs", "/srv/tree/dev", "from", "devfs", "", 0));
	if (call(SYS_KLDLOAD, (long)"/nullfs.ko", 0, 0) > 0)
		say("nullfs", mount("nullfs", "/srv/tree/bind", "target", "/outside", "", 0));
	make_file("/srv/tree/tmp/file", "in\n");
	for (i = 0; i < FILES; i++) {
		digits[0] = '0' + i / 100;
		digits[1] = '0' + i / 10 % 10;
		digits[2] = '0' + i % 10;
		make_file(name, digits);
	}
}

/* Who has the device open holds the driver. */
static void try_unload(long id)
{
	long file = call(SYS_OPEN, (long)RVMRPC_SERVE_DEVICE, O_RDWR, 0);

	say("open", file);
	say("held", call(SYS_KLDUNLOAD, id, 0, 0));
	call(SYS_CLOSE, file, 0, 0);
}

static void load(void)
{
	long id;
	int i;

	for (i = 1; i <= LOADS; i++) {
		id = call(SYS_KLDLOAD, (long)"/rvmrpc.ko", 0, 0);
		say("kldload", id);
		nap(200);
		if (i == 1)
			try_unload(id);
		if (i < LOADS)
			say("kldunload", call(SYS_KLDUNLOAD, id, 0, 0));
	}
	say("kldload", call(SYS_KLDLOAD, (long)"/rvmrpc_test_mod.ko", 0, 0));
}

static void write_for_ever(void)
{
	long n, file;

	for (n = 1;; n++) {
		file = call(SYS_OPEN, (long)"/written", O_WRONLY | O_CREAT | O_TRUNC, 0644);
		call(SYS_WRITE, file, (long)"x", 1);
		call(SYS_FSYNC, file, 0, 0);
		call(SYS_CLOSE, file, 0, 0);
		say("written", n);
		nap(200);
	}
}

/* ---- A program that serves ---- */

enum { PROC_ECHO, PROC_DIE, PROC_NEVER, PROC_BIG, PROC_WRONG, PROC_NOTED };
#define PROCS		6

static const struct rvmrpc_serve_proc procs[] = {
	{ PROC_ECHO, RVMRPC_PROC_READ_ONLY, "echo" },
	{ PROC_DIE, 0, "die" },
	{ PROC_NEVER, 0, "never" },
	{ PROC_BIG, 0, "big" },
	{ PROC_WRONG, 0, "wrong" },
	{ PROC_NOTED, 0, "noted" },
};

/* 0, or errno; *file: open. */
static long serve_open(const char *name, long count, long *file)
{
	struct rvmrpc_serve_register description = { .version = 3, .nprocs = count, .procs = (unsigned long)procs };
	int i;

	for (i = 0; name[i]; i++)
		description.name[i] = name[i];
	*file = call(SYS_OPEN, (long)RVMRPC_SERVE_DEVICE, O_RDWR | O_NONBLOCK, 0);
	if (*file < 0)
		return *file;
	return call(SYS_IOCTL, *file, RVMRPC_SERVE_REGISTER, (long)&description);
}

/* What its calls of the kernel said, until it is asked: the console mixes lines. */
static int noted[16];
static unsigned notes;

static void note(long result)
{
	if (notes < sizeof(noted) / sizeof(noted[0]))
		noted[notes++] = (int)result;
}

static unsigned long request[(sizeof(struct rvmrpc_serve_request) + RVMRPC_SLOT_BYTES_MAX) / 8 + 1];

static long answer(long file, unsigned status, unsigned bytes, long written)
{
	const struct rvmrpc_serve_request *wanted = (const void *)request;
	struct rvmrpc_serve_answer *head;

	/* Right before what was asked for, which goes back; the request's own words are gone then. */
	head = (void *)((char *)(wanted + 1) - sizeof(*head));
	*head = (struct rvmrpc_serve_answer){ wanted->id, status, bytes };
	return call(SYS_WRITE, file, (long)head, written);
}

static void serve_one(long file)
{
	static const struct rvmrpc_serve_answer none;
	struct rvmrpc_serve_request *wanted = (void *)request;
	const long head = sizeof(struct rvmrpc_serve_answer);
	const unsigned procedure = wanted->procedure;
	unsigned bytes = wanted->length;

	switch (procedure) {
	case PROC_DIE:
		call(SYS_EXIT, 0, 0, 0);
	case PROC_NEVER:
		return;
	case PROC_BIG:
		note(answer(file, RVMRPC_STATUS_OK, RVMRPC_SLOT_BYTES_MAX, head + RVMRPC_SLOT_BYTES_MAX));
		return;
	case PROC_WRONG:
		note(answer(file, RVMRPC_STATUS_OK, bytes + 1, head + bytes));
		note(answer(file, 12345, 0, head));
		note(call(SYS_WRITE, file, (long)request, head - 1));
		note(call(SYS_WRITE, file, (long)&none, head));
		break;
	case PROC_NOTED:
		bytes = notes * sizeof(noted[0]);
		for (notes = 0; notes < bytes / sizeof(noted[0]); notes++)
			((int *)(wanted + 1))[notes] = noted[notes];
		notes = 0;
		break;
	}
	if (answer(file, RVMRPC_STATUS_OK, bytes, head + bytes) != head + (long)bytes)
		note(-1);
	if (procedure == PROC_WRONG)
		note(answer(file, RVMRPC_STATUS_OK, 0, head));
}

static void serve(void)
{
	struct {
		int fd;
		short events, revents;
	} wait = { .events = POLLIN };
	long file, got;

	note(serve_open("b.d", PROCS, &file));
	note(serve_open("none", 0, &file));
	note(call(SYS_READ, file, (long)request, sizeof(request)));
	note(serve_open("bsd", PROCS, &file));
	note(serve_open("bsd", PROCS, &got));
	note(call(SYS_READ, file, (long)request, sizeof(request)));
	wait.fd = file;
	for (;;) {
		call(SYS_POLL, (long)&wait, 1, -1);
		got = call(SYS_READ, file, (long)request, 8);
		/* EMSGSIZE; EAGAIN: its caller is gone. */
		if (got != -40 && got != -35)
			note(got);
		got = call(SYS_READ, file, (long)request, sizeof(request));
		if (got > 0)
			serve_one(file);
	}
}

static void serve_for_ever(void)
{
	long child;

	for (;;) {
		child = call(SYS_FORK, 0, 0, 0);
		if (child == 0)
			serve();
		call6(SYS_WAIT4, child, 0, 0, 0, 0, 0);
		nap(1000);
	}
}

/* One of the kernel's integers, by its number below kern. */
static int variable(int number)
{
	const int name[] = { 1, number };
	int value = -1;
	long bytes = sizeof(value);

	call6(SYS_SYSCTL, (long)name, 2, (long)&value, (long)&bytes, 0, 0);
	return value;
}

/* While the guest's kern.maxprocperuid is RENAME. */
static void rename_for_ever(void)
{
	for (;;) {
		while (variable(KERN_MAXPROCPERUID) != RENAME)
			nap(100);
		call(SYS_RENAME, (long)"/srv/tree/swap", (long)"/srv/tree/swap.real", 0);
		call(SYS_SYMLINK, (long)"/outside", (long)"/srv/tree/swap", 0);
		call(SYS_UNLINK, (long)"/srv/tree/swap", 0, 0);
		call(SYS_RENAME, (long)"/srv/tree/swap.real", (long)"/srv/tree/swap", 0);
		call(SYS_RENAME, (long)"/srv/tree/swap/a", (long)"/outside/moved", 0);
		call(SYS_RENAME, (long)"/outside/moved", (long)"/srv/tree/swap/a", 0);
	}
}

/* Once the guest's kern.logsigexit is 0. */
static void take_all_memory(void)
{
	extern char end[];
	volatile char *room = (volatile char *)(((long)end + PAGE - 1) / PAGE * PAGE);
	long at;

	do
		nap(100);
	while (variable(KERN_LOGSIGEXIT));
	say("break", call(SYS_BREAK, (long)room + ROOM, 0, 0));
	for (at = 0; at < ROOM; at += PAGE)
		room[at] = 1;
	for (;;)
		nap(100000);
}

void _start(void)
{
	long writer;
	int i;

	call(SYS_OPEN, (long)"/dev/console", O_RDWR, 0);
	call(SYS_DUP2, 0, 1, 0);
	obey(SIGINT);
	obey(SIGUSR2);
	/* The root comes up read-only. */
	say("writable", mount("ufs", "/", "from", "/dev/vtbd0", "noro", MNT_UPDATE));
	make_mounts();
	load();
	if (call(SYS_FORK, 0, 0, 0) == 0)
		take_all_memory();
	if (call(SYS_FORK, 0, 0, 0) == 0)
		rename_for_ever();
	if (call(SYS_FORK, 0, 0, 0) == 0)
		serve_for_ever();
	for (i = 0; i < SLEEPERS; i++) {
		if (call(SYS_FORK, 0, 0, 0) == 0) {
			for (;;)
				nap(100000);
		}
	}
	writer = call(SYS_FORK, 0, 0, 0);
	if (writer == 0)
		write_for_ever();
	while (!wanted)
		nap(100);
	say("signal", wanted);
	call(SYS_KILL, writer, SIGKILL, 0);
	call(SYS_REBOOT, wanted == SIGUSR2 ? RB_POWEROFF : 0, 0, 0);
}
