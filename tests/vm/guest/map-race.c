// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * map-race read|xadd RESOURCE SECONDS CONFIG...: reads our device's first register on CPU 0 while CPU 1 maps and unmaps others.
 *
 * xadd: by an atomic access, which TCG runs apart from all other vCPUs.
 * RESOURCE is the device's memory and CONFIG another's configuration space, both in sysfs. Prints how often it read, how
 * often that was not the device's magic, and how often the others were mapped.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include "rvmrpc_abi.h"

#define DEVICES_MAX	8
#define BETWEEN_LOOKS	1000	/* at the clock */

static int devices[DEVICES_MAX], ndevices;
static atomic_bool stop;
static unsigned long mapped;	/* the other thread's until it has ended */

static void use_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void set_command(uint16_t command)
{
	int i;

	for (i = 0; i < ndevices; i++) {
		if (pwrite(devices[i], &command, sizeof(command), PCI_COMMAND) != sizeof(command))
			err(1, "write");
	}
}

static void *map_and_unmap(void *unused)
{
	(void)unused;
	use_cpu(1);
	for (; !atomic_load(&stop); mapped++) {
		set_command(PCI_COMMAND_MEMORY);
		set_command(0);
	}
	return NULL;
}

static uint32_t read_register(volatile uint32_t *reg, bool atomic)
{
	uint32_t value = 0;

	if (atomic)
		__asm__ volatile("lock xaddl %0, %1" : "+r" (value), "+m" (*reg) : : "memory");
	else
		value = *reg;
	return value;
}

static volatile uint32_t *map_register(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *mem = fd < 0 ? MAP_FAILED : mmap(NULL, RVMRPC_REG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		err(1, "%s", path);
	return mem;
}

int main(int argc, char **argv)
{
	unsigned long reads = 0, wrong = 0;
	volatile uint32_t *reg;
	bool xadd;
	pthread_t thread;
	time_t end;

	if (argc < 5 || argc - 4 > DEVICES_MAX)
		errx(2, "map-race read|xadd RESOURCE SECONDS CONFIG...");
	for (; ndevices < argc - 4; ndevices++) {
		devices[ndevices] = open(argv[ndevices + 4], O_RDWR | O_CLOEXEC);
		if (devices[ndevices] < 0)
			err(1, "%s", argv[ndevices + 4]);
	}
	xadd = !strcmp(argv[1], "xadd");
	use_cpu(0);
	reg = map_register(argv[2]);
	end = time(NULL) + atoi(argv[3]);
	if (pthread_create(&thread, NULL, map_and_unmap, NULL))
		errx(1, "no thread");
	while (reads % BETWEEN_LOOKS || time(NULL) < end) {
		wrong += read_register(reg, xadd) != RVMRPC_DEV_MAGIC;
		reads++;
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	printf("%lu %lu %lu\n", reads, wrong, mapped);
	return 0;
}
