/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * All that differs between FreeBSD 12 and 15.
 */
#ifndef RVMRPC_COMPAT_H
#define	RVMRPC_COMPAT_H

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/bus.h>
#include <sys/module.h>
#include <sys/proc.h>
#include <sys/sched.h>
#include <sys/sysctl.h>
#include <vm/uma.h>

#if __FreeBSD_version < 1200000
#error "FreeBSD 12.0 or later is needed"
#endif

/* 14.0 took the devclass out of DRIVER_MODULE(). */
#if __FreeBSD_version >= 1400058
#define	RVMRPC_DRIVER_MODULE(name, bus, driver, evh)			\
	DRIVER_MODULE(name, bus, driver, evh, NULL)
#else
#define	RVMRPC_DRIVER_MODULE(name, bus, driver, evh)			\
	static devclass_t name##_devclass;				\
	DRIVER_MODULE(name, bus, driver, name##_devclass, evh, NULL)
#endif

/* 13.0 let sched_add() drop the thread's lock. */
static inline void
rvmrpc_sched_add(struct thread *td)
{
	sched_add(td, SRQ_BORING);
#if __FreeBSD_version < 1300000
	thread_unlock(td);
#endif
}

/* uma_reclaim() got an argument in 13.0. */
static inline void
rvmrpc_uma_reclaim(void)
{
#ifdef UMA_RECLAIM_DRAIN
	uma_reclaim(UMA_RECLAIM_DRAIN);
#else
	uma_reclaim();
#endif
}

/* 13.0 gave names to the questions that sysctl answers. */
#ifndef CTL_SYSCTL
#define	CTL_SYSCTL		0
#define	CTL_SYSCTL_NAME2OID	3
#define	CTL_SYSCTL_OIDFMT	4
#endif

#endif /* RVMRPC_COMPAT_H */
