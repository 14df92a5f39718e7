/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs share that have the core in them: clock, CPUs, and two threads that spin on two cache lines, which is
 * the limit of a call in a burst.  For one file of a program.
 */
#ifndef BENCH_RALLY_H
#define BENCH_RALLY_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "rvmrpc_os.h"

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t random64(void)
{
	uint64_t value;

	if (getrandom(&value, sizeof(value), 0) != sizeof(value))
		die("getrandom");
	return value;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	errno = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (errno)
		die("cannot bind a thread to its CPU");
}

static pthread_t start_thread(void *(*run)(void *cpu), int cpu)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, (void *)(intptr_t)cpu);
	if (errno)
		die("pthread_create");
	return thread;
}

/* The parts that two CPUs write lie on lines of their own. */
static struct {
	_Alignas(128) uint32_t ball;
	_Alignas(128) uint32_t back;
	_Alignas(128) uint32_t n;	/* round trips, before the thread starts */
} rally;

/* Returns what comes, n times. */
static void *rally_thread(void *cpu)
{
	pin((int)(intptr_t)cpu);
	for (uint32_t i = 1; i <= rally.n; i++) {
		while (rvmrpc_os_load_acquire(&rally.ball) != i)
			;
		rvmrpc_os_store_release(&rally.back, i);
	}
	return NULL;
}

/* The i-th round trip, from 1 on. */
static inline void rally_trip(uint32_t i)
{
	rvmrpc_os_store_release(&rally.ball, i);
	while (rvmrpc_os_load_acquire(&rally.back) != i)
		;
}

#endif /* BENCH_RALLY_H */
