// SPDX-License-Identifier: GPL-2.0-only
/*
 * What module clock asks of this kernel.
 */
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/timekeeping.h>
#include "rvmrpc_drv.h"

void rvmrpc_os_clocks(struct rvmrpc_clocks *now)
{
	unsigned long flags;

	/* An interrupt between them would be a skew that there is not. */
	local_irq_save(flags);
	now->realtime_ns = ktime_get_real_ns();
	now->monotonic_ns = ktime_get_ns();
	now->boottime_ns = ktime_get_boottime_ns();
	local_irq_restore(flags);
}

bool rvmrpc_os_clock_set(u64 realtime_ns)
{
	const struct timespec64 ts = ns_to_timespec64(realtime_ns);

	return !do_settimeofday64(&ts);
}

int rvmrpc_mod_clock_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_clock_module);
}

void rvmrpc_mod_clock_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_clock_module);
}
