// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module 0x101 "test": procedures that misbehave on demand, for the VM tests.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/string.h>
#include "rvmrpc.h"

#define MOD_TEST	0x101

static char *name = "test";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "what the module is called; its number stays");

enum {
	TEST_SLEEP_INLINE,	/* u32 ms; in the server thread, which it holds up */
	TEST_SLEEP,		/* u32 ms; in a worker */
	TEST_BIG,		/* u32 n -> bytes 0, 1, ..., n - 1 modulo 251 */
	TEST_FAIL,		/* u32 status, which is returned as it is */
	TEST_OVERRUN,		/* claims one byte more than fits */
	TEST_XID,		/* -> the xid of the call, u64 */
	TEST_COUNT,		/* -> how often it ran, u32; in the server thread */
	TEST_COUNT_SLEEP,	/* the same, in a worker */
};

static u32 test_u32(const struct rvmrpc_request *req)
{
	u32 value;

	memcpy(&value, req->arg, sizeof(value));
	return value;
}

static int test_sleep(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	msleep(test_u32(req));
	return RVMRPC_STATUS_OK;
}

static int test_big(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	u32 n = test_u32(req), i;
	u8 *out = res->res;

	if (n > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	for (i = 0; i < n; i++)
		out[i] = i % 251;
	res->reslen = n;
	return RVMRPC_STATUS_OK;
}

static int test_fail(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return test_u32(req);
}

static int test_overrun(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	res->reslen = res->resmax + 1;
	return RVMRPC_STATUS_OK;
}

static int test_xid(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	memcpy(res->res, &req->xid, sizeof(req->xid));
	res->reslen = sizeof(req->xid);
	return RVMRPC_STATUS_OK;
}

static int test_count(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	static atomic_t runs;
	u32 n = atomic_inc_return(&runs);

	memcpy(res->res, &n, sizeof(n));
	res->reslen = sizeof(n);
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure test_procs[] = {
	{ TEST_SLEEP_INLINE, 0, 4, 4, "sleep-inline", test_sleep },
	{ TEST_SLEEP, RVMRPC_PROC_MAY_SLEEP, 4, 4, "sleep", test_sleep },
	{ TEST_BIG, RVMRPC_PROC_READ_ONLY, 4, 4, "big", test_big },
	{ TEST_FAIL, RVMRPC_PROC_READ_ONLY, 4, 4, "fail", test_fail },
	{ TEST_OVERRUN, RVMRPC_PROC_READ_ONLY, 0, 0, "overrun", test_overrun },
	{ TEST_XID, RVMRPC_PROC_READ_ONLY, 0, 0, "xid", test_xid },
	{ TEST_COUNT, 0, 0, 0, "count", test_count },
	{ TEST_COUNT_SLEEP, RVMRPC_PROC_MAY_SLEEP, 0, 0, "count-sleep", test_count },
};

static struct rvmrpc_module test_module = {
	.number = MOD_TEST,
	.version = 3,
	.name = "test",
	.procs = test_procs,
	.nprocs = ARRAY_SIZE(test_procs),
};

static uint fail_ms;
module_param(fail_ms, uint, 0444);
MODULE_PARM_DESC(fail_ms, "init fails so long after it has registered");

static uint steal;
module_param(steal, uint, 0444);
MODULE_PARM_DESC(steal, "unregister another module's number instead");

static int test_leave(const char *text, const struct kernel_param *kp)
{
	return unregister_server_module(MOD_TEST);
}

static const struct kernel_param_ops test_leave_ops = { .set = test_leave };
module_param_cb(leave, &test_leave_ops, NULL, 0200);
MODULE_PARM_DESC(leave, "unregisters, while the module stays");

/* ---- Events ---- */

#define TEST_EVENT	7
#define TEST_FLOOD	8

static int test_event(const char *text, const struct kernel_param *kp)
{
	char line[256];

	strscpy(line, text, sizeof(line));
	return rvmrpc_event(MOD_TEST, TEST_EVENT, strim(line), "\1\2\3", 3);
}

static const struct kernel_param_ops test_event_ops = { .set = test_event };
module_param_cb(event, &test_event_ops, NULL, 0200);
MODULE_PARM_DESC(event, "tells the host that text");

/* As a hostile guest would. */
static int test_flood(const char *text, const struct kernel_param *kp)
{
	unsigned int n, i;
	int err;

	err = kstrtouint(text, 0, &n);
	for (i = 0; !err && i < n; i++) {
		err = rvmrpc_event(MOD_TEST, TEST_FLOOD, "flood", NULL, 0);
		cond_resched();
	}
	return err;
}

static const struct kernel_param_ops test_flood_ops = { .set = test_flood };
module_param_cb(flood, &test_flood_ops, NULL, 0200);
MODULE_PARM_DESC(flood, "tells the host so many events");

static int test_oops(void *unused)
{
	WRITE_ONCE(*(int *)8, 0);
	return 0;
}

/* Whoever does it ends with what it holds. */
static int test_start_oops(const char *text, const struct kernel_param *kp)
{
	return PTR_ERR_OR_ZERO(kthread_run(test_oops, NULL, "rvmrpc_oops"));
}

static const struct kernel_param_ops test_oops_ops = { .set = test_start_oops };
module_param_cb(oops, &test_oops_ops, NULL, 0200);
MODULE_PARM_DESC(oops, "a thread writes where nothing is");

static int __init test_init(void)
{
	int err;

	test_module.name = name;
	if (steal)
		return unregister_server_module(steal);
	err = rvmrpc_register_module(&test_module);
	if (err || !fail_ms)
		return err;
	pr_warn("registered\n");
	msleep(fail_ms);
	unregister_server_module(MOD_TEST);
	return -EIO;
}

static void __exit test_exit(void)
{
	unregister_server_module(MOD_TEST);
}

module_init(test_init);
module_exit(test_exit);

MODULE_DESCRIPTION("Reverse VMRPC: procedures for the VM tests");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
