/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What module clock asks of this kernel.
 *
 * FreeBSD's uptime goes on through a sleep of the machine, so it is both the
 * monotonic and the boottime clock.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/proc.h>
#include <sys/syscallsubr.h>

/* Realtime is the sum, so that both are of the same moment. */
void
rvmrpc_os_clocks(struct rvmrpc_clocks *now)
{
	struct bintime boot, real, up;

	binuptime(&up);
	getboottimebin(&boot);
	real = up;
	bintime_add(&real, &boot);
	now->monotonic_ns = rvmrpc_bintime_ns(up.sec, up.frac);
	now->boottime_ns = now->monotonic_ns;
	/* A clock may stand before 1970. */
	now->realtime_ns = real.sec < 0 ? 0 :
	    rvmrpc_bintime_ns(real.sec, real.frac);
}

bool
rvmrpc_os_clock_set(uint64_t realtime_ns)
{
	struct timespec ts = {
		.tv_sec = realtime_ns / 1000000000,
		.tv_nsec = realtime_ns % 1000000000,
	};

	/* Then the kernel steps by a second at most, and does not say so. */
	if (securelevel_gt(curthread->td_ucred, 1) != 0)
		return (false);
	return (kern_clock_settime(curthread, CLOCK_REALTIME, &ts) == 0);
}

int
rvmrpc_mod_clock_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_clock_module));
}

void
rvmrpc_mod_clock_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_clock_module);
}
