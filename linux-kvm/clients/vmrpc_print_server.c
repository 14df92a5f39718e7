// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's figure 2: guests print lines into this kernel's log.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/vmrpc.h>

#define FUNC_PRINT	0	/* arg = GVA of text, bytes = its length */
#define BUFSIZE		256

/* The text is a stranger's: escaped, bounded, and no more lines than printk's rate limit lets through. */
static int print_server_print(struct vmrpc_data *rpcdata, u64 arg, size_t bytes)
{
	char buf[BUFSIZE];
	int ret;

	if (bytes > sizeof(buf))
		return -EINVAL;
	ret = vmrpc_copy_from_guest(rpcdata, buf, arg, bytes);
	if (ret)
		return ret;
	pr_info_ratelimited("print: %*pE\n", (int)strnlen(buf, bytes), buf);
	return 0;
}

static int print_server(struct vmrpc_data *rpcdata, u32 func, u64 arg, size_t bytes)
{
	switch (func) {
	case FUNC_PRINT:
		return print_server_print(rpcdata, arg, bytes);
	default:
		return -EOPNOTSUPP;
	}
}

static struct vmrpc_module print_module = {
	.name = "MOD_PRINT",
	.version = "1",
	.owner = THIS_MODULE,
	.dispatch = print_server,
};

static int __init print_server_init(void)
{
	return vmrpc_register_module(&print_module);
}

static void __exit print_server_exit(void)
{
	vmrpc_unregister_module(&print_module);
}

module_init(print_server_init);
module_exit(print_server_exit);

MODULE_DESCRIPTION("VMRPC example: a print server");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
