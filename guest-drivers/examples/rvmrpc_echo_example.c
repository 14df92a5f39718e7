// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's figure 5: a server module of one's own, out of tree.
 *
 * The host calls module 0x100; the guest prints the message and sends it back:
 *
 *	insmod rvmrpc.ko allow=default,0x100.*
 *	insmod rvmrpc_echo_example.ko
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/string.h>
#include "rvmrpc.h"

#define MOD_ECHO	RVMRPC_MOD_USER
#define FUNC_ECHO	0

static int echo_dispatch(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->func != FUNC_ECHO)
		return RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	/* Copied first: the host could change the argument between printing and sending it. */
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	pr_info("%*pE\n", (int)min_t(u32, req->arglen, 256), (const char *)res->res);
	return RVMRPC_STATUS_OK;
}

static int __init echo_init(void)
{
	return register_server_module(MOD_ECHO, echo_dispatch);
}

static void __exit echo_exit(void)
{
	unregister_server_module(MOD_ECHO);
}

module_init(echo_init);
module_exit(echo_exit);

MODULE_DESCRIPTION("Reverse VMRPC example: an echo server");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
