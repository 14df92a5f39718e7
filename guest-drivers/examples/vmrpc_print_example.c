// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's figure 1: this kernel has its host print a line.
 *
 * space=kernel	server MOD_PRINT, version 1, in the host's kernel; its procedure 0 prints
 * space=vmm	server log, version 1, in the VMM; its procedure 0 writes a line to the VMM's log
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include "rvmrpc.h"

#define FUNC_PRINT	0

static char *space = "kernel";
module_param(space, charp, 0444);
MODULE_PARM_DESC(space, "where the server is: kernel (default) or vmm");

static char *message = "Hello from the guest's kernel";
module_param(message, charp, 0444);
MODULE_PARM_DESC(message, "what to print");

static int print_in_kernel(char *text, size_t bytes)
{
	int handle, ret;

	handle = vmrpc_bind_module_kernel("MOD_PRINT", "1");
	if (handle < 0)
		return handle;
	ret = vmrpc_perform_kernel(handle, FUNC_PRINT, text, bytes);
	vmrpc_unbind_module_kernel(handle);
	return ret;
}

static int print_in_vmm(char *text, size_t bytes)
{
	int handle, ret;

	handle = vmrpc_bind_module("log", "1");
	if (handle < 0)
		return handle;
	ret = vmrpc_perform(handle, FUNC_PRINT, text, bytes);
	vmrpc_unbind_module(handle);
	return ret;
}

static int __init print_init(void)
{
	bool vmm = !strcmp(space, "vmm");
	int ret;

	if (!vmm && strcmp(space, "kernel"))
		return -EINVAL;
	ret = vmm ? print_in_vmm(message, strlen(message)) :
		    print_in_kernel(message, strlen(message));
	if (ret < 0) {
		pr_err("the host does not print: %pe\n", ERR_PTR(ret));
		return ret;
	}
	pr_info("the host answered %d\n", ret);
	return 0;
}

static void __exit print_exit(void)
{
}

module_init(print_init);
module_exit(print_exit);

MODULE_DESCRIPTION("VMRPC example: a print client");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
