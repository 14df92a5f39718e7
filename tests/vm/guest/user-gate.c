// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a call from user space, where none must be served: NULL by VMCALL or VMMCALL, or BIND to "log" by the doorbell of the
 * device whose BAR 0 is the file FILE, as a program has it that drives the device itself.  Prints the answer.
 *
 * user-gate vmcall|vmmcall|doorbell FILE
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "rvmrpc_abi.h"

/* What the doorbell's frame names, in one page. */
struct call {
	struct rvmrpc_frame frame;
	struct vmrpc_bind bind;
};

static uint64_t physical(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (uintptr_t)p / RVMRPC_PAGE_SIZE * sizeof(entry)) != sizeof(entry))
		err(1, "pagemap");
	return (entry & ((1ull << 55) - 1)) * RVMRPC_PAGE_SIZE;
}

static uint64_t ring(const char *file)
{
	static struct call call __attribute__((aligned(RVMRPC_PAGE_SIZE)));
	volatile uint64_t *doorbell;
	char *regs;
	int fd = open(file, O_RDWR);

	regs = fd < 0 ? MAP_FAILED : mmap(NULL, RVMRPC_REG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (regs == MAP_FAILED)
		err(1, "%s", file);
	strcpy(call.bind.name, "log");
	strcpy(call.bind.version, "1");
	call.frame.op = RVMRPC_OP_BIND;
	call.frame.a0 = (uintptr_t)&call.bind;
	if (mlock(&call, sizeof(call)))
		err(1, "mlock");
	doorbell = (volatile uint64_t *)(regs + RVMRPC_REG_DOORBELL);
	*doorbell = physical(&call.frame);
	return *(volatile uint64_t *)&call.frame.answer;
}

int main(int argc, char **argv)
{
	uint64_t rax = RVMRPC_HYPERCALL_NR;

	if (argc == 3 && !strcmp(argv[1], "doorbell"))
		rax = ring(argv[2]);
	else if (argc == 2 && !strcmp(argv[1], "vmcall"))
		__asm__ volatile("vmcall" : "+a" (rax) : "b" (0UL), "c" (0UL), "d" (0UL), "S" (0UL) : "memory");
	else
		__asm__ volatile("vmmcall" : "+a" (rax) : "b" (0UL), "c" (0UL), "d" (0UL), "S" (0UL) : "memory");
	printf("0x%llx\n", (unsigned long long)rax);
	return 0;
}
