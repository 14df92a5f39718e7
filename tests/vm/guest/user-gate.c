// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a NULL call by VMCALL or VMMCALL from user space, where it must not be served.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "rvmrpc_abi.h"

int main(int argc, char **argv)
{
	uint64_t rax = RVMRPC_HYPERCALL_NR;

	if (argc == 2 && !strcmp(argv[1], "vmcall"))
		__asm__ volatile("vmcall" : "+a" (rax) : "b" (0UL), "c" (0UL), "d" (0UL), "S" (0UL) : "memory");
	else
		__asm__ volatile("vmmcall" : "+a" (rax) : "b" (0UL), "c" (0UL), "d" (0UL), "S" (0UL) : "memory");
	printf("0x%llx\n", (unsigned long long)rax);
	return 0;
}
