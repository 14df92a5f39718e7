// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * halves: both halves of the core in two threads of this machine, and no guest.
 *
 * usage: halves CPU CPU ROUNDS CALLS
 * What a null call in a burst costs on real CPUs, where nothing is emulated, beside two threads that spin on two cache
 * lines. What it leaves out is what a guest adds: its second level of page tables.
 * One JSON object: ns of a round trip and of a call, the ratio, medians of the rounds.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "rally.h"
#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"
#include "rvmrpc_server.h"

#define SIZE		(1 << 20)
#define SLOT_BYTES	0x4000
#define LOOKS		256
#define ROUNDS_MAX	100
#define FOREVER_NS	1000000000000ull

static struct rvmrpc_owner owner;
static struct rvmrpc_guest guest;
static struct rvmrpc_lookup lookup;
static bool stop;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "halves: %s\n", what);
	exit(1);
}

static int null_handler(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	return RVMRPC_STATUS_OK;
}

static void connect_halves(void)
{
	struct rvmrpc_owner_config config = { .random = random64 };
	struct rvmrpc_done done = { NULL, NULL };
	uint32_t status;
	void *base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	need(base != MAP_FAILED && rvmrpc_layout_make(SIZE, 4, SLOT_BYTES, SLOT_BYTES, &config.layout), "no window");
	rvmrpc_owner_init(&owner, base, SIZE, &config, 1);
	rvmrpc_guest_init(&guest, base, SIZE);
	rvmrpc_guest_hello(&guest, random64() | 1, RVMRPC_OS_LINUX, "halves");
	rvmrpc_owner_look(&owner, now_ns(), &done);
	need(rvmrpc_guest_answered(&guest, &status) == RVMRPC_ANSWER_OPEN, "the halves do not connect");
}

static void serve(const struct rvmrpc_taken *t)
{
	struct rvmrpc_accepted call;
	struct rvmrpc_hdr reply;

	need(rvmrpc_server_judge(&lookup, &t->hdr, guest.epoch, guest.abi, SLOT_BYTES, &call), "a bad request");
	rvmrpc_server_run(&call, NULL, rvmrpc_guest_res(&guest, t->slot), SLOT_BYTES, &reply);
	rvmrpc_guest_publish(&guest, t->slot, t->seq, &reply);
	rvmrpc_guest_beat(&guest);
}

static void *guest_thread(void *cpu)
{
	struct rvmrpc_taken t;

	pin((int)(intptr_t)cpu);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (rvmrpc_guest_alive(&guest) && rvmrpc_guest_take(&guest, &t))
			serve(&t);
		if (!rvmrpc_guest_posted(&guest))
			rvmrpc_guest_await(&guest, LOOKS);
	}
	return NULL;
}

static double time_rally(void)
{
	uint64_t start = now_ns();

	for (uint32_t i = 1; i <= rally.n; i++)
		rally_trip(i);
	return (double)(now_ns() - start) / rally.n;
}

static double time_calls(void)
{
	struct rvmrpc_call call = { .module = RVMRPC_MOD_CORE, .procedure = RVMRPC_CORE_NULL };
	struct rvmrpc_done done = { NULL, NULL };
	uint64_t start = now_ns();

	call.deadline = start + FOREVER_NS;
	need(rvmrpc_proxy_hold(&owner.proxy, &call, start) == RVMRPC_STATUS_OK, "no slot");
	for (uint32_t i = 0; i < rally.n; i++) {
		need(rvmrpc_owner_run(&owner, &call, start) == RVMRPC_STATUS_OK, "a call that cannot begin");
		rvmrpc_owner_kick(&owner);
		while (!rvmrpc_owner_await(&owner, call.slot, LOOKS))
			;
		rvmrpc_owner_reap_begin(&owner, call.slot, NULL, start, &done);
		need(call.status == RVMRPC_STATUS_OK, "a call that failed");
	}
	rvmrpc_proxy_release(&owner.proxy, &call);
	return (double)(now_ns() - start) / rally.n;
}

static double with_thread(void *(*thread)(void *), int cpu, double (*time)(void))
{
	pthread_t other;
	double ns;

	rally.ball = rally.back = 0;
	stop = false;
	other = start_thread(thread, cpu);
	ns = time();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(other, NULL);
	return ns;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(*values), by_size);
	return values[n / 2];
}

int main(int argc, char **argv)
{
	static const struct rvmrpc_procedure null = { .name = "null", .arg_max = RVMRPC_ARG_ANY, .handler = null_handler };
	static struct rvmrpc_module module = { .name = "core", .nprocs = 1, .procs = &null };
	double spin[ROUNDS_MAX], calls[ROUNDS_MAX], ratio[ROUNDS_MAX];
	int rounds = argc == 5 ? atoi(argv[3]) : 0;

	need(rounds > 0 && rounds <= ROUNDS_MAX && atoi(argv[4]) > 0, "usage: halves CPU CPU ROUNDS CALLS");
	lookup.module = &module;
	lookup.proc = &null;
	rally.n = (uint32_t)atoi(argv[4]);
	connect_halves();
	pin(atoi(argv[1]));
	for (int i = 0; i < rounds; i++) {
		spin[i] = with_thread(rally_thread, atoi(argv[2]), time_rally);
		calls[i] = with_thread(guest_thread, atoi(argv[2]), time_calls);
		ratio[i] = calls[i] / spin[i];
	}
	printf("{\"spin_ns\": %.0f, \"null_ns\": %.0f, \"core_S\": %.2f}\n", median(spin, rounds), median(calls, rounds),
	       median(ratio, rounds));
	return 0;
}
