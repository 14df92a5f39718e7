// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * hammer NAME DEPTH STOP: keeps DEPTH echo calls to the VM of that name going until a file STOP exists.
 *
 * Each call carries bytes of its own. Prints JSON: how many answers came of each status, how many were lost, came twice or
 * were another's, and how long they took. A VM that leaves is looked for again, so that it may move to another VMM.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_abi.h"

#define DEPTH_MAX	16
#define VMS_MAX		8
#define SIZE		512
#define TIMEOUT_MS	30000
#define PAUSE_US	5000		/* after an answer that is none of the guest's */
#define LOST_MS		(TIMEOUT_MS + 5000)
#define TIMES_MAX	(1 << 18)

static int dev;
static uint64_t vm, next_cookie;
static uint64_t in_flight[DEPTH_MAX];	/* cookies, 0: free */
static uint64_t statuses[RVMRPC_STATUS_MAX + 1];
static uint64_t wrong, unexpected, longest_us;
static uint64_t times_us[TIMES_MAX];	/* of the first that were answered */
static unsigned int ntimes;

/* The last that has this name and a driver; none: as before, its calls are refused. */
static void find_vm(const char *name)
{
	struct rvmrpc_vm_info vms[VMS_MAX];
	struct rvmrpc_vm_list list = { .size = VMS_MAX, .vms = (uintptr_t)vms };
	unsigned int i;

	if (ioctl(dev, RVMRPC_LIST_VMS, &list))
		err(1, "list");
	for (i = 0; i < list.size && i < VMS_MAX; i++) {
		if (vms[i].connected && !strcmp(vms[i].name, name))
			vm = vms[i].id;
	}
}

static void fill(unsigned char *payload, uint64_t cookie)
{
	unsigned int i;

	for (i = 0; i < SIZE; i++)
		payload[i] = cookie >> i % 8 * 8 ^ i;
}

static void submit_into(uint64_t *slot)
{
	struct rvmrpc_submit s = {
		.cookie = ++next_cookie,
		.vm = vm,
		.module = RVMRPC_MOD_ECHO,
		.procedure = RVMRPC_ECHO_ECHO,
		.arglen = SIZE,
		.res_max = SIZE,
		.timeout_ms = TIMEOUT_MS,
	};
	unsigned char payload[SIZE];
	struct iovec iov[] = { { &s, sizeof(s) }, { payload, SIZE } };

	fill(payload, s.cookie);
	if (writev(dev, iov, 2) != sizeof(s) + SIZE)
		err(1, "submit");
	*slot = s.cookie;
}

static uint64_t *find_cookie(uint64_t cookie)
{
	int i;

	for (i = 0; i < DEPTH_MAX; i++) {
		if (in_flight[i] == cookie)
			return &in_flight[i];
	}
	return NULL;
}

/* True: the guest answered. */
static bool take_one(void)
{
	unsigned char payload[SIZE], expected[SIZE];
	struct rvmrpc_record rec;
	struct iovec iov[] = { { &rec, sizeof(rec) }, { payload, SIZE } };
	uint64_t *slot;

	if (readv(dev, iov, 2) < (ssize_t)sizeof(rec))
		err(1, "read");
	slot = rec.cookie ? find_cookie(rec.cookie) : NULL;
	if (!slot || rec.status > RVMRPC_STATUS_MAX) {
		unexpected++;
		return false;
	}
	*slot = 0;
	statuses[rec.status]++;
	if (rec.status != RVMRPC_STATUS_OK)
		return false;
	fill(expected, rec.cookie);
	if (rec.reslen != SIZE || memcmp(payload, expected, SIZE))
		wrong++;
	if (ntimes < TIMES_MAX)
		times_us[ntimes++] = rec.elapsed_ns / 1000;
	if (rec.elapsed_ns / 1000 > longest_us)
		longest_us = rec.elapsed_ns / 1000;
	return true;
}

static bool answer_waits(int timeout_ms)
{
	struct pollfd p = { .fd = dev, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void drain(void)
{
	while (answer_waits(0))
		take_one();
}

static int count_in_flight(void)
{
	int i, n = 0;

	for (i = 0; i < DEPTH_MAX; i++)
		n += in_flight[i] != 0;
	return n;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t percentile(unsigned int percent)
{
	return ntimes ? times_us[(uint64_t)ntimes * percent / 100] : 0;
}

static void print_counts(void)
{
	int i;

	qsort(times_us, ntimes, sizeof(times_us[0]), compare);
	printf("{\"submitted\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"unexpected\": %" PRIu64 ", \"lost\": %d"
	       ", \"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"longest_ms\": %" PRIu64 ", \"status\": [",
	       next_cookie, wrong, unexpected, count_in_flight(), percentile(50), percentile(99), longest_us / 1000);
	for (i = 0; i <= RVMRPC_STATUS_MAX; i++)
		printf("%s%" PRIu64, i ? ", " : "", statuses[i]);
	printf("]}\n");
}

int main(int argc, char **argv)
{
	int depth, pause_us, i;

	if (argc != 5)
		errx(2, "hammer NAME DEPTH STOP PAUSE_US");
	depth = atoi(argv[2]);
	pause_us = atoi(argv[4]);
	if (depth < 1 || depth > DEPTH_MAX)
		errx(2, "depth");
	dev = open("/dev/rvmrpc", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		err(1, "/dev/rvmrpc");
	find_vm(argv[1]);
	while (access(argv[3], F_OK)) {
		for (i = 0; i < depth; i++) {
			if (!in_flight[i])
				submit_into(&in_flight[i]);
		}
		if (answer_waits(100) && !take_one()) {
			usleep(PAUSE_US);
			find_vm(argv[1]);
		}
		if (pause_us)
			usleep(pause_us);
	}
	while (count_in_flight() && answer_waits(LOST_MS))
		take_one();
	/* What comes now was answered twice. */
	usleep(PAUSE_US);
	drain();
	print_counts();
	return 0;
}
