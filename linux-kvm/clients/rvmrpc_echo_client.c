// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's figure 4: this host's kernel has a guest's kernel send back a message.
 *
 *	insmod rvmrpc_echo_client.ko			to the one guest there is
 *	insmod rvmrpc_echo_client.ko uuid=...		to that one
 *	insmod rvmrpc_echo_client.ko mod=0x100		to figure 5's server in the guest
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/rvmrpc.h>
#include <linux/string.h>
#include "rvmrpc_abi.h"

#define BUFSIZE		128

static char *uuid;
module_param(uuid, charp, 0444);
MODULE_PARM_DESC(uuid, "of the VM; default: the only one");

static char *message = "Hello from Host";
module_param(message, charp, 0444);
MODULE_PARM_DESC(message, "what to send");

static unsigned int mod = RVMRPC_MOD_ECHO;
module_param(mod, uint, 0444);
MODULE_PARM_DESC(mod, "number of the server module");

static ssize_t echo(char *back)
{
	struct rvmrpc_vm *vm;
	uuid_t wanted;
	ssize_t ret;

	if (!uuid)
		return rvmrpc_call(mod, RVMRPC_ECHO_ECHO, message, strlen(message), back, BUFSIZE);

	ret = uuid_parse(uuid, &wanted);
	if (ret)
		return ret;
	vm = rvmrpc_vm_by_uuid(&wanted);
	if (!vm)
		return -ENODEV;
	ret = rvmrpc_call_vm(vm, mod, RVMRPC_ECHO_ECHO, message, strlen(message), back, BUFSIZE, 0);
	rvmrpc_vm_put(vm);
	return ret;
}

static int __init echo_init(void)
{
	char back[BUFSIZE];
	ssize_t got = echo(back);

	if (got < 0) {
		pr_err("the guest does not answer: %pe\n", ERR_PTR(got));
		return got;
	}
	pr_info("echo back: %*pE\n", (int)got, back);
	return 0;
}

static void __exit echo_exit(void)
{
}

module_init(echo_init);
module_exit(echo_exit);

MODULE_DESCRIPTION("Reverse VMRPC example: an echo client");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
