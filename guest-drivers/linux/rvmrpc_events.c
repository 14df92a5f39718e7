// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events: what this guest tells its host without being asked.
 *
 * Who tells may be in any context, so all that it meets is stores to the window, a counter, and the doorbell.  What keeps
 * the window mapped meanwhile is RCU.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include "rvmrpc_drv.h"

static bool events = true;
module_param(events, bool, 0644);
MODULE_PARM_DESC(events, "tell the host of OOM kills, stalls, panics, and what modules tell (default Y)");

static struct rvmrpc_dev __rcu *rvmrpc_events_dev;	/* probe and remove write it */

/* Before the server thread runs. */
void rvmrpc_events_attach(struct rvmrpc_dev *rdev)
{
	rvmrpc_tell_init(&rdev->w.teller, rdev->w.base, pci_resource_len(rdev->pdev, RVMRPC_BAR_WINDOW));
	rcu_assign_pointer(rvmrpc_events_dev, rdev);
}

/* After it: nobody touches the window any more. */
void rvmrpc_events_detach(void)
{
	RCU_INIT_POINTER(rvmrpc_events_dev, NULL);
	synchronize_rcu();
}

/* An epoch begins.  Server thread, as the next. */
void rvmrpc_events_open(struct rvmrpc_dev *rdev)
{
	rvmrpc_tell_close(&rdev->w.teller);
	atomic64_set(&rdev->w.told, 0);
	rvmrpc_tell_open(&rdev->w.teller, &rdev->w.guest);
}

void rvmrpc_events_close(struct rvmrpc_dev *rdev)
{
	rvmrpc_tell_close(&rdev->w.teller);
}

void rvmrpc_event_new(struct rvmrpc_event_writer *e, u32 module, u16 kind)
{
	rvmrpc_event_begin(e, module, kind, ktime_get_boot_fast_ns());
}

/* Any context.  False: there is nobody to be told. */
bool rvmrpc_event_send(struct rvmrpc_event_writer *e)
{
	struct rvmrpc_dev *rdev;
	u64 epoch = 0;

	if (!READ_ONCE(events))
		return false;
	rvmrpc_event_end(e);
	rcu_read_lock();
	rdev = rcu_dereference(rvmrpc_events_dev);
	if (rdev)
		epoch = rvmrpc_tell_epoch(&rdev->w.teller);
	if (epoch) {
		rvmrpc_count(RVMRPC_CNT_EVENTS);
		/* A full barrier, so that the number is not older than the epoch. */
		if (rvmrpc_tell(&rdev->w.teller, epoch, atomic64_inc_return(&rdev->w.told), e))
			rvmrpc_window_ring(rdev);
	}
	rcu_read_unlock();
	return epoch;
}

int rvmrpc_event(u32 mod, u16 kind, const char *text, const void *data, size_t bytes)
{
	struct rvmrpc_event_writer e;

	if (mod < RVMRPC_MOD_USER)
		return -EINVAL;
	if (bytes > RVMRPC_EVENT_DATA_MAX)
		return -EMSGSIZE;
	rvmrpc_event_new(&e, mod, kind);
	if (bytes)
		rvmrpc_record_bytes(&e.fields, RVMRPC_EVENT_DATA, data, bytes);
	if (text)
		rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, strlen(text));
	return rvmrpc_event_send(&e) ? 0 : -ENOTCONN;
}
EXPORT_SYMBOL_GPL(rvmrpc_event);
