// SPDX-License-Identifier: GPL-2.0-or-later
/* A window as a VMM attaches one at /dev/rvmrpc-vm, without a VM. */
#ifndef WINDOW_H
#define WINDOW_H

#include <err.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/rvmrpc.h>

#define SIZE		0x80000u

struct window {
	int memory;
	void *base;
	struct rvmrpc_vm_attach a;
};

/* Ends the program if there is no memory. */
static struct window make_window(const char *name, uint8_t uuid)
{
	struct window w = {
		.a = {
			.version = RVMRPC_HOST_VERSION,
			.uuid = { 0x52, [15] = uuid },
			.window_bytes = SIZE,
			.nslots = 4,
			.req_bytes = 4096,
			.res_bytes = 65536,
			.doorbell_fd = eventfd(0, EFD_NONBLOCK),
			.interrupt_fd = eventfd(0, EFD_NONBLOCK),
			.token_fd = -1,
			.spin_us = 100,
		},
	};

	memcpy(w.a.name, name, strnlen(name, sizeof(w.a.name) - 1));
	w.memory = memfd_create("window", MFD_ALLOW_SEALING);
	if (w.memory < 0 || ftruncate(w.memory, SIZE))
		err(1, "memory");
	/* Nothing lies behind it that a VMM could attach with it, whatever size it tells. */
	w.base = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w.base == MAP_FAILED ||
	    mmap(w.base, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, w.memory, 0) == MAP_FAILED)
		err(1, "mmap");
	w.a.window = (uintptr_t)w.base;
	return w;
}

#endif
