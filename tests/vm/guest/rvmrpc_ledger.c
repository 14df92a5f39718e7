// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module 0x1ed "ledger": notes each call that it runs, before all else, on QEMU's debug port, which is a file of the
 * host.  So the note outlives the guest, whatever becomes of it.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include "ledger.h"
#include "rvmrpc.h"

#define LINE_BYTES	48

/* Not the usual one: the firmware writes there, too. */
static ushort port = 0x5ed;
module_param(port, ushort, 0444);
MODULE_PARM_DESC(port, "of QEMU's isa-debugcon");

static DEFINE_SPINLOCK(ledger_lock);	/* the port: a line is in one piece */

/* The newline comes first, too: a machine that ends in the middle of a line does not spoil the next one. */
static void ledger_note(u64 id)
{
	unsigned long flags;
	char line[LINE_BYTES];
	int n;

	n = scnprintf(line, sizeof(line), "\nx %016llx %04x\n", id, (u32)(id ^ id >> 16 ^ id >> 32 ^ id >> 48) & 0xffff);
	spin_lock_irqsave(&ledger_lock, flags);
	outsb(port, line, n);
	spin_unlock_irqrestore(&ledger_lock, flags);
}

static int ledger_run(struct rvmrpc_request *req, struct rvmrpc_response *res, bool sleeps)
{
	struct ledger_arg arg;
	struct ledger_res answer;

	memcpy(&arg, req->arg, sizeof(arg));
	ledger_note(arg.id);
	answer.id = arg.id;
	answer.digest = ledger_digest(req->arg, req->arglen);
	if (sleeps)
		msleep(arg.ms);
	if (res->resmax < sizeof(answer) || arg.answer > res->resmax - sizeof(answer))
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, &answer, sizeof(answer));
	ledger_fill(res->res + sizeof(answer), arg.answer, arg.id ^ answer.digest);
	res->reslen = sizeof(answer) + arg.answer;
	return RVMRPC_STATUS_OK;
}

static int ledger_quick(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return ledger_run(req, res, false);
}

static int ledger_slow(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return ledger_run(req, res, true);
}

static const struct rvmrpc_procedure ledger_procs[] = {
	{ LEDGER_QUICK, 0, sizeof(struct ledger_arg), RVMRPC_SLOT_BYTES_MAX, "quick", ledger_quick },
	{ LEDGER_SLOW, RVMRPC_PROC_MAY_SLEEP, sizeof(struct ledger_arg), RVMRPC_SLOT_BYTES_MAX, "slow", ledger_slow },
};

static struct rvmrpc_module ledger_module = {
	.number = MOD_LEDGER,
	.version = 1,
	.name = "ledger",
	.procs = ledger_procs,
	.nprocs = ARRAY_SIZE(ledger_procs),
};

static int __init ledger_init(void)
{
	return rvmrpc_register_module(&ledger_module);
}

static void __exit ledger_exit(void)
{
	unregister_server_module(MOD_LEDGER);
}

module_init(ledger_init);
module_exit(ledger_exit);

MODULE_DESCRIPTION("Reverse VMRPC: procedures that are accounted for");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
