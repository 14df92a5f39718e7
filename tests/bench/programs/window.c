// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * window: a client that is itself the host's end of a window, for one VM.
 *
 * usage: window SOCKET CLIENT-CPU VCPU-CPU [SLOTS BYTES SIZE]
 * It is the ivshmem server of a stock QEMU (-device ivshmem-doorbell,vectors=1) and the owner of its window, by the same
 * core as rvmrpcd's, and spins for its answers.  One command a line on standard input, one JSON object a line as answer:
 *
 *	wait MS			until a guest said hello
 *	spin N			N blocks of 32 round trips of two threads on the two CPUs, over two cache lines
 *	null N			N blocks of 32 null calls in a burst
 *	echo BYTES N		N calls whose argument and answer stay in the window
 *	sleepy N MS		N null calls, each after the guest slept for MS
 *	quit
 *
 * Answers: ns of each, of a block's for spin and null the mean, and what was counted meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ivshmem.h"
#include "rally.h"
#include "rvmrpc_owner.h"

#define BLOCK		32		/* calls between two looks at the clock */
#define SAMPLES_MAX	100000
#define NS_PER_MS	1000000ull
#define CALL_NS		(1000 * NS_PER_MS)
#define CHECK_ON	1024		/* spins between two looks at the clock */

static struct rvmrpc_owner owner;
static struct rvmrpc_done done;
static int doorbell = -1, interrupt = -1;
static uint64_t rings, samples[SAMPLES_MAX];

/* ---- QEMU ---- */

static int accept_vm(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), sock;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, 1))
		die(path);
	printf("{\"listening\": true}\n");
	fflush(stdout);
	sock = accept(listener, NULL, NULL);
	if (sock < 0)
		die("accept");
	unlink(path);
	return sock;
}

/* ---- The owner ---- */

static void kick(void)
{
	uint64_t one = 1;

	if (write(interrupt, &one, sizeof(one)) != sizeof(one))
		die("eventfd");
}

static void drain(void)
{
	uint64_t n;

	if (read(doorbell, &n, sizeof(n)) == sizeof(n))
		rings += n;
}

/* Waits for the doorbell, at most so long. */
static void wait_ring(int ms)
{
	struct pollfd p = { .fd = doorbell, .events = POLLIN };

	poll(&p, 1, ms);
	drain();
	if (rvmrpc_owner_look(&owner, now_ns(), &done) & RVMRPC_LOOK_KICK)
		kick();
	done.head = done.tail = NULL;
}

/* Not answered after so many spins: what a daemon's timer would look at. */
static void look_again(const struct rvmrpc_call *call, uint64_t *again)
{
	uint64_t now = now_ns();

	if (now - call->submitted > *again) {
		*again *= 2;
		if (rvmrpc_owner_rekick(&owner))
			kick();
	}
	if (now >= call->deadline)
		rvmrpc_proxy_expire(&owner.proxy, now, &done);
}

/* Posts what the call's slot holds, and spins for the answer.  Its status. */
static uint32_t run(struct rvmrpc_call *call, uint64_t now)
{
	uint64_t again = 2 * NS_PER_MS;
	uint32_t status = rvmrpc_owner_run(&owner, call, now);

	if (status != RVMRPC_STATUS_OK)
		return status;
	if (rvmrpc_owner_kick(&owner))
		kick();
	while (!rvmrpc_owner_await(&owner, call->slot, CHECK_ON) && !done.head)
		look_again(call, &again);
	if (!done.head)
		rvmrpc_owner_reap_begin(&owner, call->slot, NULL, now, &done);
	done.head = done.tail = NULL;
	return call->status;
}

static struct rvmrpc_call null = {
	.module = RVMRPC_MOD_CORE,
	.procedure = RVMRPC_CORE_NULL,
};

/* In a slot that is held. */
static uint32_t null_call(uint64_t now)
{
	null.deadline = now + CALL_NS;
	return run(&null, now);
}

static uint32_t hold(struct rvmrpc_call *call)
{
	uint64_t now = now_ns();

	call->deadline = now + CALL_NS;
	return rvmrpc_proxy_hold(&owner.proxy, call, now);
}

/* One echo whose argument is in the slot already. */
static uint32_t echo_call(struct rvmrpc_call *call, uint32_t bytes, uint64_t *ns)
{
	uint64_t now = now_ns();
	uint32_t status;

	call->arglen = bytes;
	call->deadline = now + CALL_NS;
	status = run(call, now);
	*ns = now_ns() - now;
	if (status == RVMRPC_STATUS_OK &&
	    (call->reslen != bytes || ((const unsigned char *)rvmrpc_owner_res(&owner, call))[bytes - 1] != 0x5a))
		status = RVMRPC_STATUS_SYSTEM_ERROR;
	return status;
}

/* ---- Two threads that spin, the limit ---- */

static uint32_t spin_block(uint32_t *at)
{
	for (int i = 0; i < BLOCK; i++)
		rally_trip(++*at);
	return RVMRPC_STATUS_OK;
}

/* In one piece, as the host's kernel has it: an emulator pays for each jump from one page to another. */
__attribute__((__flatten__))
static uint32_t null_block(uint32_t *at)
{
	uint64_t now = now_ns();
	uint32_t status = RVMRPC_STATUS_OK;

	*at += BLOCK;
	for (int i = 0; i < BLOCK && status == RVMRPC_STATUS_OK; i++)
		status = null_call(now);
	return status;
}

/* ---- Commands ---- */

static void print_samples(uint32_t n, uint32_t status, uint64_t kicks, uint64_t rung)
{
	printf("{\"status\": %u, \"kicks\": %llu, \"rings\": %llu, \"ns\": [", status,
	       (unsigned long long)(owner.proxy.stats.kicks - kicks), (unsigned long long)(rings - rung));
	for (uint32_t i = 0; i < n; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)samples[i]);
	printf("]}\n");
}

static void run_blocks(uint32_t blocks, uint32_t (*block)(uint32_t *at))
{
	uint64_t kicks = owner.proxy.stats.kicks, rung = rings;
	uint32_t at = 0, status = hold(&null), i;

	for (i = 0; i < blocks && status == RVMRPC_STATUS_OK; i++) {
		uint64_t start = now_ns();

		status = block(&at);
		samples[i] = (now_ns() - start) / BLOCK;
	}
	rvmrpc_proxy_release(&owner.proxy, &null);
	drain();
	print_samples(i, status, kicks, rung);
}

static void do_spin(uint32_t n, int cpu)
{
	pthread_t thread;

	rally.ball = rally.back = 0;
	rally.n = n * BLOCK;
	thread = start_thread(rally_thread, cpu);
	run_blocks(n, spin_block);
	pthread_join(thread, NULL);
}

static void do_echo(uint32_t bytes, uint32_t n)
{
	struct rvmrpc_call call = {
		.module = RVMRPC_MOD_ECHO,
		.procedure = RVMRPC_ECHO_ECHO,
		.res_max = owner.config.layout.res_bytes,
	};
	uint64_t kicks = owner.proxy.stats.kicks, rung = rings;
	uint32_t status = hold(&call), i = 0;

	if (status == RVMRPC_STATUS_OK) {
		memset(rvmrpc_owner_req(&owner, &call), 0x5a, bytes);
		for (i = 0; i < n && status == RVMRPC_STATUS_OK; i++)
			status = echo_call(&call, bytes, &samples[i]);
		rvmrpc_proxy_release(&owner.proxy, &call);
	}
	drain();
	print_samples(i, status, kicks, rung);
}

static void do_sleepy(uint32_t n, uint32_t ms)
{
	uint64_t kicks = owner.proxy.stats.kicks, rung = rings;
	uint32_t status = hold(&null), i;

	for (i = 0; i < n && status == RVMRPC_STATUS_OK; i++) {
		uint64_t start;

		usleep(ms * 1000);
		start = now_ns();
		status = null_call(start);
		samples[i] = now_ns() - start;
	}
	rvmrpc_proxy_release(&owner.proxy, &null);
	drain();
	print_samples(i, status, kicks, rung);
}

static void do_wait(uint32_t ms)
{
	uint64_t end = now_ns() + ms * NS_PER_MS;

	while (!owner.proxy.epoch && now_ns() < end)
		wait_ring(10);
	printf("{\"connected\": %s}\n", owner.proxy.epoch ? "true" : "false");
}

static bool command(const char *line, int vcpu)
{
	uint32_t a = 0, b = 0;

	/* Between commands the guest may have come, or gone. */
	wait_ring(0);
	if (sscanf(line, "wait %u", &a) == 1)
		do_wait(a);
	else if (sscanf(line, "spin %u", &a) == 1 && a <= SAMPLES_MAX)
		do_spin(a, vcpu);
	else if (sscanf(line, "null %u", &a) == 1 && a <= SAMPLES_MAX)
		run_blocks(a, null_block);
	else if (sscanf(line, "echo %u %u", &a, &b) == 2 && a && a <= owner.config.layout.req_bytes && b <= SAMPLES_MAX)
		do_echo(a, b);
	else if (sscanf(line, "sleepy %u %u", &a, &b) == 2 && a <= SAMPLES_MAX)
		do_sleepy(a, b);
	else if (!strncmp(line, "quit", 4))
		return false;
	else
		printf("{\"error\": \"not understood\"}\n");
	fflush(stdout);
	return true;
}

static int make_window(uint64_t size, uint32_t nslots, uint32_t bytes)
{
	struct rvmrpc_owner_config config = {
		.doorbell = RVMRPC_IVSHMEM_ID_HOST << 16,
		.random = random64,
	};
	int fd = memfd_create("window", MFD_ALLOW_SEALING);
	void *base;

	if (!rvmrpc_layout_make(size, nslots, bytes, bytes, &config.layout)) {
		fprintf(stderr, "window: that does not fit\n");
		exit(2);
	}
	if (fd < 0 || ftruncate(fd, (off_t)size))
		die("memfd");
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (base == MAP_FAILED)
		die("mmap");
	rvmrpc_owner_init(&owner, base, size, &config, 1);
	rvmrpc_owner_set_spin(&owner, 1000);
	return fd;
}

int main(int argc, char **argv)
{
	char line[128];
	int memory, vcpu;

	if (argc < 4) {
		fprintf(stderr, "usage: window SOCKET CLIENT-CPU VCPU-CPU [SLOTS BYTES SIZE]\n");
		return 2;
	}
	vcpu = atoi(argv[3]);
	memory = make_window(argc > 6 ? strtoull(argv[6], NULL, 0) : RVMRPC_WINDOW_SIZE_DEFAULT,
			     argc > 4 ? (uint32_t)atoi(argv[4]) : 4, argc > 5 ? (uint32_t)atoi(argv[5]) : 0x4000);
	doorbell = eventfd(0, EFD_NONBLOCK);
	interrupt = eventfd(0, EFD_NONBLOCK);
	if (doorbell < 0 || interrupt < 0)
		die("eventfd");
	if (!ivshmem_greet(accept_vm(argv[1]), memory, doorbell, interrupt))
		die("QEMU does not take its window");
	pin(atoi(argv[2]));
	while (fgets(line, sizeof(line), stdin) && command(line, vcpu))
		;
	return 0;
}
