// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For a guest that is a hypervisor itself: the gate call of a guest of its own, which is that hypervisor's to answer.
 */
#include "tiny_vm.h"

int main(void)
{
	create_vm();
	printf("0x%llx\n", (unsigned long long)gate(RVMRPC_OP_NULL, 0, 0, 0));
	return 0;
}
