// SPDX-License-Identifier: GPL-2.0
/*
 * rvmrpc_host.ko: the host's kernel calls procedures of guests' kernels, beside a stock KVM
 *
 *	client -> rvmrpc_call.c, rvmrpc_file.c -> rvmrpc_channel.c -> core
 *	VMM -> rvmrpc_file.c -> rvmrpc_vm.c -> rvmrpc_pin.c, rvmrpc_channel.c
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include "rvmrpc_host.h"

#define CREATE_TRACE_POINTS
#include "rvmrpc_host_trace.h"

/* Files of VMMs hold this module.  DKMS asks them to take their windows back, and can replace it then. */
static int detach_set(const char *value, const struct kernel_param *kp)
{
	bool refuse;
	int ret = kstrtobool(value, &refuse);

	if (!ret)
		rvmrpc_vm_refuse(refuse);
	return ret;
}

static int detach_get(char *buffer, const struct kernel_param *kp)
{
	return sprintf(buffer, "%c\n", rvmrpc_vm_refused() ? 'Y' : 'N');
}

static const struct kernel_param_ops detach_ops = {
	.set = detach_set,
	.get = detach_get,
};
module_param_cb(detach, &detach_ops, NULL, 0644);
MODULE_PARM_DESC(detach, "write 1: VMMs are to take their windows back, and none is taken until 0 is written");

static int __init rvmrpc_host_init(void)
{
	int ret = rvmrpc_channel_init();

	if (ret)
		return ret;
	ret = rvmrpc_vm_init();
	if (ret)
		goto channel;
	ret = rvmrpc_file_init();
	if (ret)
		goto vm;
	return 0;

vm:
	rvmrpc_vm_exit();
channel:
	rvmrpc_channel_exit();
	return ret;
}

static void __exit rvmrpc_host_exit(void)
{
	rvmrpc_file_exit();
	rvmrpc_vm_exit();
	rvmrpc_channel_exit();
}

module_init(rvmrpc_host_init);
module_exit(rvmrpc_host_exit);

MODULE_DESCRIPTION("Reverse VMRPC: calls into guests' kernels");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.2.0");
