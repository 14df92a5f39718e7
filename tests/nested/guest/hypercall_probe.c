// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest module of the nested tests: prints what KVM answers to some hypercalls, known and unknown.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/kvm_para.h>
#include <linux/module.h>
#include "rvmrpc_abi.h"

static const unsigned int numbers[] = {
	0, KVM_HC_VAPIC_POLL_IRQ, KVM_HC_MMU_OP, KVM_HC_FEATURES, KVM_HC_SEND_IPI, KVM_HC_MAP_GPA_RANGE, 99, 0x4000,
	RVMRPC_HYPERCALL_NR - 1, RVMRPC_HYPERCALL_NR, RVMRPC_HYPERCALL_NR + 1, 0x7fffffff, 0x80000000, 0xffffffff,
};

static int __init probe_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		pr_info("0x%x: %ld\n", numbers[i], kvm_hypercall4(numbers[i], RVMRPC_OP_NULL, 0, 0, 0));
	return 0;
}

static void __exit probe_exit(void)
{
}

module_init(probe_init);
module_exit(probe_exit);

MODULE_DESCRIPTION("VMRPC tests: hypercalls, known and unknown");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
