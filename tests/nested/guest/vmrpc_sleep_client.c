// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest module of the nested tests: calls the host's vmrpc_sleep_server and prints the answer.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include "rvmrpc.h"

static unsigned int func;
module_param(func, uint, 0444);
MODULE_PARM_DESC(func, "0: SLEEP, 1: SRCU");

static int __init sleep_init(void)
{
	ktime_t start = ktime_get();
	int handle, ret;

	handle = vmrpc_bind_module_kernel("MOD_SLEEP", "1");
	if (handle < 0)
		return handle;
	ret = vmrpc_perform_kernel(handle, func, NULL, 0);
	vmrpc_unbind_module_kernel(handle);
	if (ret < 0) {
		pr_err("the host answers %pe\n", ERR_PTR(ret));
		return ret;
	}
	pr_info("func %u took %lld us, srcu %d us\n", func, ktime_us_delta(ktime_get(), start), ret);
	return 0;
}

static void __exit sleep_exit(void)
{
}

module_init(sleep_init);
module_exit(sleep_exit);

MODULE_DESCRIPTION("VMRPC tests: calls a server that sleeps");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
