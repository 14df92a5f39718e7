// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * fuzz_files SECONDS SEED: /dev/rvmrpc and /dev/rvmrpc-vm at random: several threads share a few files of both and a
 * few windows, and open, close, attach, detach, call, cancel, read, poll and map them, with good structures, spoilt
 * ones and bad pointers, while another is a guest that answers or scribbles.
 *
 * Prints how often each succeeded.  In the end every file is closed, no memory may be pinned any more, and a window can
 * be attached and called.  Whether the kernel is well is for its log to say.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_abi.h"
#include "window.h"

#define PAGE		4096u
#define FILES		6
#define WINDOWS		3
#define WORKERS		4
#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))

enum did {
	DID_OPEN, DID_ATTACH, DID_DETACH, DID_IOCTL, DID_SUBMIT, DID_ANSWER, DID_CANCEL, DID_HELLO, DID_REPLY,
	DID_STEP, DIDS
};

static const char *const did_names[DIDS] = {
	"opened", "attached", "detached", "other ioctls", "submitted", "answered", "cancelled", "hellos", "replies",
	"steps",
};

/* Shared by all threads on purpose without a lock: what one has closed is closed, or another's, under the next. */
static int files[FILES];
static struct window windows[WINDOWS];
static uint8_t *edge;			/* a page whose next one cannot be read nor written */
static void *read_only;			/* a page */
static uint64_t did[DIDS];		/* atomic */
static bool stopping;			/* atomic */

struct random {
	uint64_t state;			/* its thread's alone */
};

static uint64_t bits(struct random *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct random *r, uint32_t n)
{
	return (bits(r) >> 32) % n;
}

static void count(enum did what, bool so)
{
	if (so)
		__atomic_fetch_add(&did[what], 1, __ATOMIC_RELAXED);
}

static uint64_t edge_value(struct random *r)
{
	static const uint64_t values[] = {
		0, 1, 2, 63, 64, 65, PAGE - 1, PAGE, SIZE, 1 << 20, INT32_MAX, UINT32_MAX, 1ull << 32, INT64_MAX,
		UINT64_MAX, 0xffff888000000000ull, 0x7ffffffff000ull,
	};

	return below(r, 4) ? values[below(r, COUNT(values))] : bits(r) >> below(r, 64);
}

/* A few bytes of it become others, in one of four. */
static void spoil(struct random *r, void *thing, size_t bytes)
{
	const uint64_t v = edge_value(r);
	uint32_t n = 1 << below(r, 4);

	if (below(r, 4) || n > bytes)
		return;
	memcpy((uint8_t *)thing + below(r, bytes / n) * n, &v, n);
}

/* The thing as the kernel is given it: where it is, across the end of memory, or somewhere else. */
static void *pointer(struct random *r, void *thing, size_t bytes)
{
	static const uint64_t bad[] = { 0, 8, 0xffff888000000000ull, UINT64_MAX - 7, 0x7ffffffff000ull };

	switch (below(r, 16)) {
	case 0:
		return (void *)(uintptr_t)bad[below(r, COUNT(bad))];
	case 1:
		return read_only;
	case 2:
		return edge + PAGE - below(r, bytes < PAGE ? bytes + 1 : PAGE);
	default:
		return thing;
	}
}

/* ---- Steps ---- */

static void step_open(struct random *r, int i)
{
	const bool vmm = below(r, 3);
	int fd = open(vmm ? "/dev/rvmrpc-vm" : "/dev/rvmrpc", O_RDWR | O_CLOEXEC | (below(r, 8) ? O_NONBLOCK : 0));
	int old;

	count(DID_OPEN, fd >= 0);
	old = __atomic_exchange_n(&files[i], fd, __ATOMIC_SEQ_CST);
	if (old >= 0)
		close(old);
}

static void step_attach(struct random *r, int i)
{
	struct rvmrpc_vm_attach a = windows[below(r, WINDOWS)].a;
	const uint64_t window = a.window;
	const int own = below(r, 2) ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;

	if (!below(r, 16))
		a.token_fd = files[below(r, FILES)];
	a.flags = below(r, 2);
	spoil(r, &a, sizeof(a));
	/* Nobody else has it: it goes with its VM. */
	if (own >= 0)
		a.interrupt_fd = own;
	/* Never a part of another mapping: this program must live through what a VMM may do to itself. */
	a.window = (uintptr_t)pointer(r, (void *)(uintptr_t)window, SIZE);
	count(DID_ATTACH, !ioctl(files[i], RVMRPC_VM_ATTACH, pointer(r, &a, sizeof(a))));
	if (own >= 0)
		close(own);
}

static void step_detach(struct random *r, int i)
{
	(void)r;
	count(DID_DETACH, !ioctl(files[i], RVMRPC_VM_DETACH));
}

/* The id of one of our windows' VMs, or any. */
static uint64_t any_vm(struct random *r, int fd)
{
	struct rvmrpc_vm_info infos[8];
	struct rvmrpc_vm_list list = { .size = COUNT(infos), .vms = (uintptr_t)infos };
	uint64_t id = edge_value(r);

	if (!below(r, 8) || ioctl(fd, RVMRPC_LIST_VMS, &list))
		return id;
	for (uint32_t i = 0; i < list.size && i < COUNT(infos); i++) {
		/* A real guest next door is left alone. */
		if (!strcmp(infos[i].name, "fuzz") && below(r, 2))
			id = infos[i].id;
	}
	return id;
}

static void step_ioctl(struct random *r, int i)
{
	static const unsigned int numbers[] = {
		RVMRPC_LIST_VMS, RVMRPC_VM_STATUS, RVMRPC_STATUS, RVMRPC_NOTICE, RVMRPC_ATTACH, RVMRPC_GATE_STATUS,
	};
	unsigned int number = numbers[below(r, COUNT(numbers))];
	struct rvmrpc_vm_info infos[64];	/* more than there can be, whatever the list's size says */
	union {
		struct rvmrpc_vm_list list;
		struct rvmrpc_kvm_status status;
		struct rvmrpc_gate_status gate;
	} arg;

	memset(&arg, 0, sizeof(arg));
	if (number == RVMRPC_LIST_VMS)
		arg.list.size = below(r, 6);
	else
		arg.status.epoch = any_vm(r, files[i]);
	if (!below(r, 8))
		number = _IOC(below(r, 4), RVMRPC_IOC_MAGIC, below(r, 0x20), below(r, 1 << 14));
	spoil(r, &arg, sizeof(arg));
	if (number == RVMRPC_LIST_VMS)
		arg.list.vms = (uintptr_t)pointer(r, infos, sizeof(infos));
	if (number == RVMRPC_NOTICE)
		count(DID_IOCTL, !ioctl(files[i], number, below(r, 8) ? (unsigned long)below(r, 5) : edge_value(r)));
	else
		count(DID_IOCTL, !ioctl(files[i], number, pointer(r, &arg, sizeof(arg))));
}

static void step_submit(struct random *r, int i)
{
	static uint8_t payload[8192];
	struct rvmrpc_submit s = {
		.cookie = below(r, 8),
		.vm = below(r, 2) ? 0 : any_vm(r, files[i]),
		.module = below(r, 4),
		.procedure = below(r, 4),
		.arglen = below(r, 4) ? below(r, 256) : below(r, sizeof(payload)),
		.res_max = below(r, 8192),
		.timeout_ms = 1 + below(r, 50),
	};
	struct iovec parts[2] = { { &s, sizeof(s) }, { payload, s.arglen } };

	spoil(r, &s, sizeof(s));
	parts[0].iov_base = pointer(r, &s, sizeof(s));
	parts[1].iov_base = pointer(r, payload, s.arglen);
	if (!below(r, 8))
		parts[1].iov_len = below(r, sizeof(payload));
	count(DID_SUBMIT, writev(files[i], parts, 1 + !!below(r, 8)) > 0);
}

static void step_read(struct random *r, int i)
{
	uint8_t record[8192 + sizeof(struct rvmrpc_record)];
	size_t bytes = below(r, 4) ? sizeof(record) : below(r, sizeof(record));

	count(DID_ANSWER, read(files[i], pointer(r, record, bytes), bytes) > 0);
}

/* Half of them of a call that has just begun: others have ended, as a rule. */
static void step_cancel(struct random *r, int i)
{
	uint64_t cookie = below(r, 8);
	struct rvmrpc_submit s = { .cookie = cookie, .vm = any_vm(r, files[i]), .timeout_ms = 50 };

	if (below(r, 2))
		count(DID_SUBMIT, write(files[i], &s, sizeof(s)) > 0);
	count(DID_CANCEL, !ioctl(files[i], RVMRPC_CANCEL, pointer(r, &cookie, sizeof(cookie))));
}

/* A file that is closed while the answers to all that it may have in flight come. */
static void step_burst(struct random *r, int i)
{
	int fd = open("/dev/rvmrpc", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct rvmrpc_submit s = { .vm = any_vm(r, fd), .res_max = 4096, .timeout_ms = 50 };

	(void)i;
	for (; s.cookie < RVMRPC_CLIENT_CALLS_MAX; s.cookie++)
		count(DID_SUBMIT, write(fd, &s, sizeof(s)) > 0);
	usleep(below(r, 1000));
	close(fd);
}

static void step_poll(struct random *r, int i)
{
	struct pollfd p[2] = { { files[i], POLLIN, 0 }, { files[below(r, FILES)], POLLIN | POLLOUT, 0 } };

	poll(p, 2, below(r, 3));
}

/* What the files are not made for. */
static void step_other(struct random *r, int i)
{
	void *at = mmap(NULL, edge_value(r), below(r, 8), below(r, 2) ? MAP_SHARED : MAP_PRIVATE, files[i],
			edge_value(r) & ~(uint64_t)(PAGE - 1));
	uint64_t one = 1;
	char byte;

	if (at != MAP_FAILED) {
		/* Unless it is no file of ours: nothing of them can be mapped. */
		errx(1, "a mapping of file %d at %p", i, at);
	}
	switch (below(r, 8)) {
	case 0:
		lseek(files[i], edge_value(r), below(r, 3));
		break;
	case 1:
		if (pread(files[i], &byte, 1, edge_value(r)) > 0)
			errx(1, "a read at an offset");
		break;
	case 2:
		fcntl(files[i], F_SETFL, below(r, 8) ? O_NONBLOCK : 0);
		break;
	case 3:
		if (write(windows[below(r, WINDOWS)].a.interrupt_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
			err(1, "interrupt");
		break;
	}
}

/* A child keeps all files open for a moment, and ends before or after its parent has closed some. */
static void step_fork(struct random *r)
{
	const uint32_t us = below(r, 5000);
	pid_t child;

	if (below(r, 64))
		return;
	child = fork();
	if (!child) {
		usleep(us);
		_exit(0);
	}
	if (child > 0 && waitpid(child, NULL, 0) < 0 && errno != EINTR)
		err(1, "waitpid");
}

/* ---- The guest ---- */

static void ring(const struct window *w)
{
	const uint64_t one = 1;

	if (write(w->a.doorbell_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		err(1, "ring");
}

static void say_hello(struct random *r, struct window *w)
{
	const struct rvmrpc_host_page *host = (void *)(w->base + RVMRPC_HOST_PAGE);
	struct rvmrpc_guest_page *guest = (void *)(w->base + RVMRPC_GUEST_PAGE);
	struct rvmrpc_hello hello = {
		.seen = __atomic_load_n(&host->epoch, __ATOMIC_ACQUIRE),
		.abi_min = RVMRPC_ABI_VERSION,
		.abi_max = RVMRPC_ABI_VERSION,
		.os = RVMRPC_OS_OTHER,
		.release = "fuzz",
	};

	memcpy((void *)&guest->hello, &hello, sizeof(hello));
	__atomic_store_n(&guest->hello.nonce, bits(r) | 1, __ATOMIC_RELEASE);
	ring(w);
	count(DID_HELLO, true);
}

/* Every request that is there, with an answer of some status and length. */
static void answer(struct random *r, struct window *w)
{
	const struct rvmrpc_host_page *host = (void *)(w->base + RVMRPC_HOST_PAGE);
	struct rvmrpc_guest_page *guest = (void *)(w->base + RVMRPC_GUEST_PAGE);
	struct rvmrpc_layout l = host->answer.layout;
	struct rvmrpc_hdr hdr;
	uint32_t seq;

	/* Asleep, and for the first time so: the next request comes with an interrupt. */
	__atomic_store_n(&guest->wait, (uint32_t)bits(r) | 1, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < l.nslots && i < RVMRPC_SLOTS_MAX; i++) {
		const uint64_t from = l.host_slots + i * sizeof(struct rvmrpc_host_slot);
		const uint64_t to = l.guest_slots + i * sizeof(struct rvmrpc_guest_slot);

		if (from > SIZE - sizeof(hdr) || to > SIZE - sizeof(hdr))
			continue;
		memcpy(&hdr, w->base + from, sizeof(hdr));
		seq = __atomic_load_n((uint32_t *)(w->base + (from & ~7ull) + RVMRPC_SLOT_SEQ), __ATOMIC_ACQUIRE);
		hdr.version = 1;
		hdr.status = below(r, 2) ? RVMRPC_STATUS_OK : below(r, RVMRPC_STATUS_MAX + 2);
		hdr.length = below(r, 4) ? below(r, 4096) : edge_value(r);
		hdr.timeout_ms = 0;
		hdr.list = 0;
		spoil(r, &hdr, sizeof(hdr));
		memcpy(w->base + to, &hdr, RVMRPC_SLOT_SEQ);
		__atomic_store_n((uint32_t *)(w->base + (to & ~7ull) + RVMRPC_SLOT_SEQ), seq, __ATOMIC_RELEASE);
		count(DID_REPLY, true);
	}
	ring(w);
}

static void scribble(struct random *r, struct window *w)
{
	const uint32_t most = below(r, 2) ? 2 * PAGE : SIZE;

	for (uint32_t n = below(r, 64); n; n--)
		((uint64_t *)w->base)[below(r, most / 8)] = edge_value(r);
	if (!below(r, 64) &&
	    fallocate(w->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, below(r, SIZE / PAGE) * PAGE, PAGE))
		err(1, "fallocate");
	ring(w);
}

static void *guest(void *seed)
{
	struct random r = { (uintptr_t)seed };

	while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
		struct window *w = &windows[below(&r, WINDOWS)];

		switch (below(&r, 16)) {
		case 0:
			say_hello(&r, w);
			break;
		case 1:
			scribble(&r, w);
			break;
		default:
			answer(&r, w);
			usleep(below(&r, 500));
		}
	}
	return NULL;
}

/* ---- All together ---- */

static void *worker(void *seed)
{
	static void (*const steps[])(struct random *r, int i) = {
		step_open, step_attach, step_attach, step_detach, step_ioctl, step_submit, step_submit, step_submit,
		step_read, step_read, step_read, step_cancel, step_burst, step_poll, step_other,
	};
	struct random r = { (uintptr_t)seed };

	while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
		steps[below(&r, COUNT(steps))](&r, below(&r, FILES));
		step_fork(&r);
		count(DID_STEP, true);
	}
	return NULL;
}

static void prepare(void)
{
	edge = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (edge == MAP_FAILED || read_only == MAP_FAILED || mprotect(edge, PAGE, PROT_READ | PROT_WRITE))
		err(1, "memory");
	for (int i = 0; i < FILES; i++)
		files[i] = -1;
	for (int i = 0; i < WINDOWS; i++)
		windows[i] = make_window("fuzz", i + 1);
}

static void nothing(int signal)
{
	(void)signal;
}

/* Until the end. Signals wake who waits in a read for ever, and disturb the others. */
static void run(pthread_t threads[WORKERS], time_t end)
{
	while (time(NULL) < end) {
		usleep(5000);
		for (int i = 0; i < WORKERS; i++)
			pthread_kill(threads[i], SIGUSR1);
	}
	__atomic_store_n(&stopping, true, __ATOMIC_RELAXED);
	for (int i = 0; i < WORKERS; i++) {
		while (pthread_tryjoin_np(threads[i], NULL)) {
			pthread_kill(threads[i], SIGUSR1);
			usleep(5000);
		}
	}
}

static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

/* All is closed: nothing is left, and what a VMM does that is well works. */
static void check_rest(void)
{
	struct rvmrpc_submit s = { .cookie = 7, .res_max = 4096, .timeout_ms = 1000 };
	struct rvmrpc_record rec;
	struct window w;
	int fd;

	/* What the last close left behind is let go by a work queue. */
	for (int i = 0; locked_kib() && i < 100; i++)
		usleep(50000);
	if (locked_kib())
		errx(1, "%ld KiB are still pinned", locked_kib());
	w = make_window("fuzz", 99);
	fd = open("/dev/rvmrpc-vm", O_RDWR);
	if (fd < 0 || ioctl(fd, RVMRPC_VM_ATTACH, &w.a) || write(fd, &s, sizeof(s)) != sizeof(s) ||
	    read(fd, &rec, sizeof(rec)) != sizeof(rec))
		err(1, "afterwards");
	if (rec.cookie != 7 || rec.status != RVMRPC_STATUS_NOT_CONNECTED)
		errx(1, "afterwards: cookie %llu, status %u", (unsigned long long)rec.cookie, rec.status);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct sigaction on_signal = { .sa_handler = nothing };
	pthread_t threads[WORKERS], peer;
	const unsigned int seconds = argc == 3 ? atoi(argv[1]) : 0;
	const uint64_t seed = seconds ? strtoull(argv[2], NULL, 0) : 0;

	if (!seconds || !seed)
		errx(2, "usage: fuzz_files SECONDS SEED, neither of them 0");
	alarm(seconds + 60);
	sigaction(SIGUSR1, &on_signal, NULL);
	prepare();
	for (uintptr_t i = 0; i < WORKERS; i++) {
		if (pthread_create(&threads[i], NULL, worker, (void *)(seed + i)))
			errx(1, "no thread");
	}
	if (pthread_create(&peer, NULL, guest, (void *)(seed + WORKERS)))
		errx(1, "no thread");
	run(threads, time(NULL) + seconds);
	pthread_join(peer, NULL);
	for (int i = 0; i < FILES; i++)
		close(files[i]);
	check_rest();
	for (int i = 0; i < DIDS; i++)
		printf("%s%llu %s", i ? ", " : "", (unsigned long long)did[i], did_names[i]);
	printf("\n");
	return 0;
}
