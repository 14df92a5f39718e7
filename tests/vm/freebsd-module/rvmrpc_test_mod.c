/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module 0x101 "test": procedures that misbehave on demand, for the VM tests.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/module.h>
#include <sys/proc.h>
#include <sys/sysctl.h>
#include <sys/time.h>
#include "rvmrpc.h"

#define	MOD_TEST	0x101

enum {
	TEST_SLEEP_INLINE,	/* u32 ms; holds up the server thread */
	TEST_SLEEP,		/* u32 ms; in a worker */
	TEST_FAIL,		/* u32 status, which is returned as it is */
	TEST_SPIN,		/* u32 ms; a worker that wants its CPU */
	TEST_COUNT,		/* -> how often it ran, u32; in the server thread */
	TEST_EVENT,		/* text; tells it, interrupts are off */
	TEST_SET,		/* u32, name; sets that variable, an integer */
	TEST_SET_TEXT,		/* u32, name, which has so many bytes, text */
};

static uint32_t
test_u32(const struct rvmrpc_request *req)
{
	uint32_t value;

	memcpy(&value, req->arg, sizeof(value));
	return (value);
}

static int
test_sleep(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	pause_sbt("rvmtst", test_u32(req) * SBT_1MS, 0, 0);
	return (RVMRPC_STATUS_OK);
}

static int
test_spin(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	sbintime_t end = sbinuptime() + test_u32(req) * SBT_1MS;

	while (sbinuptime() < end)
		maybe_yield();
	return (RVMRPC_STATUS_OK);
}

static int
test_fail(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	return (test_u32(req));
}

static int
test_count(struct rvmrpc_request *req __unused, struct rvmrpc_response *res)
{
	static uint32_t runs;

	runs++;
	memcpy(res->res, &runs, sizeof(runs));
	res->reslen = sizeof(runs);
	return (RVMRPC_STATUS_OK);
}

#define	TEXT_MAX	128
#define	EVENT_KIND	7

/* The argument from there on. */
static void
test_text(const struct rvmrpc_request *req, uint32_t from, char *text)
{
	memcpy(text, (const char *)req->arg + from, req->arglen - from);
	text[req->arglen - from] = '\0';
}

static int
test_event(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	char text[TEXT_MAX + 1];
	int error;

	test_text(req, 0, text);
	spinlock_enter();
	error = rvmrpc_event(MOD_TEST, EVENT_KIND, text, "\1\2\3", 3);
	spinlock_exit();
	return (error == 0 ? RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR);
}

static int
test_set(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	uint32_t value = test_u32(req);
	char name[TEXT_MAX + 1];
	int error;

	test_text(req, sizeof(value), name);
	error = kernel_sysctlbyname(curthread, name, NULL, NULL, &value,
	    sizeof(value), NULL, 0);
	return (error == 0 ? RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR);
}

static int
test_set_text(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	uint32_t length = test_u32(req), at = sizeof(length);
	char name[TEXT_MAX + 1];
	int error;

	if (length > TEXT_MAX || length > req->arglen - at)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	memcpy(name, (const char *)req->arg + at, length);
	name[length] = '\0';
	at += length;
	error = kernel_sysctlbyname(curthread, name, NULL, NULL,
	    __DECONST(char *, req->arg) + at, req->arglen - at, NULL, 0);
	return (error == 0 ? RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR);
}

static const struct rvmrpc_procedure test_procs[] = {
	{ TEST_SLEEP_INLINE, 0, 4, 4, "sleep-inline", test_sleep },
	{ TEST_SLEEP, RVMRPC_PROC_MAY_SLEEP, 4, 4, "sleep", test_sleep },
	{ TEST_FAIL, RVMRPC_PROC_READ_ONLY, 4, 4, "fail", test_fail },
	{ TEST_SPIN, RVMRPC_PROC_MAY_SLEEP, 4, 4, "spin", test_spin },
	{ TEST_COUNT, 0, 0, 0, "count", test_count },
	{ TEST_EVENT, 0, 0, TEXT_MAX, "event", test_event },
	{ TEST_SET, RVMRPC_PROC_MAY_SLEEP, 5, TEXT_MAX, "set", test_set },
	{ TEST_SET_TEXT, RVMRPC_PROC_MAY_SLEEP, 5, RVMRPC_ARG_ANY, "set-text",
	    test_set_text },
};

static struct rvmrpc_module test_module = {
	.number = MOD_TEST,
	.version = 3,
	.name = "test",
	.procs = test_procs,
	.nprocs = nitems(test_procs),
};

static int
test_modevent(module_t mod __unused, int what, void *arg __unused)
{
	switch (what) {
	case MOD_LOAD:
		return (rvmrpc_register_module(&test_module));
	case MOD_QUIESCE:
		return (rvmrpc_module_busy(MOD_TEST));
	case MOD_UNLOAD:
		return (unregister_server_module(MOD_TEST));
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t test_data = { "rvmrpc_test_mod", test_modevent, NULL };

DECLARE_MODULE(rvmrpc_test_mod, test_data, SI_SUB_DRIVERS, SI_ORDER_ANY);
MODULE_VERSION(rvmrpc_test_mod, 1);
MODULE_DEPEND(rvmrpc_test_mod, rvmrpc, 1, 1, 1);
