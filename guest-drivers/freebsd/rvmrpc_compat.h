/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * All that differs from FreeBSD 12 on.
 */
#ifndef RVMRPC_COMPAT_H
#define	RVMRPC_COMPAT_H

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/bus.h>
#include <sys/module.h>
#include <sys/proc.h>
#include <sys/rman.h>
#include <sys/sched.h>
#include <sys/sysctl.h>
#include <machine/bus.h>
#include <machine/resource.h>
#include <vm/uma.h>

/* Before 14 its accessors set a variable for an assertion, used or not. */
#if defined(__clang__) && __clang_major__ >= 13
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-but-set-variable"
#endif
#include <dev/pci/pcivar.h>
#if defined(__clang__) && __clang_major__ >= 13
#pragma clang diagnostic pop
#endif

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

/* 16 takes the rid by value. */
static inline struct resource *
rvmrpc_alloc_resource(device_t dev, int type, int rid, u_int flags)
{
#if __FreeBSD_version >= 1600003
	return (bus_alloc_resource_any(dev, type, rid, flags));
#else
	return (bus_alloc_resource_any(dev, type, &rid, flags));
#endif
}

static inline void
rvmrpc_release_resource(device_t dev, int type, struct resource *r)
{
	if (r != NULL)
		bus_release_resource(dev, type, rman_get_rid(r), r);
}

/* 15 took the type of a resource from who has it. */
#if __FreeBSD_version >= 1500000
#define	rvmrpc_map_resource(dev, r, args, map)				\
	bus_map_resource(dev, r, args, map)
#define	rvmrpc_unmap_resource(dev, r, map)				\
	bus_unmap_resource(dev, r, map)
#else
#define	rvmrpc_map_resource(dev, r, args, map)				\
	bus_map_resource(dev, SYS_RES_MEMORY, r, args, map)
#define	rvmrpc_unmap_resource(dev, r, map)				\
	bus_unmap_resource(dev, SYS_RES_MEMORY, r, map)
#endif

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

/* 13.0 gave it another name. */
#if __FreeBSD_version >= 1300000
#define	rvmrpc_vfs_msync(mp, flags)	vfs_periodic(mp, flags)
#else
#define	rvmrpc_vfs_msync(mp, flags)	vfs_msync(mp, flags)
#endif

/* 13.0 took its flags away. */
#if __FreeBSD_version >= 1300000
#define	rvmrpc_vop_unlock(vp)		VOP_UNLOCK(vp)
#else
#define	rvmrpc_vop_unlock(vp)		VOP_UNLOCK(vp, 0)
#endif

/* Since 13.0 what was made in a folder is finished once both are let go. */
#if __FreeBSD_version >= 1300139
#define	rvmrpc_vput_folder(vp)		VOP_VPUT_PAIR(vp, NULL, true)
#else
#define	rvmrpc_vput_folder(vp)		vput(vp)
#endif

/* Of VOP_LOOKUP() and VOP_READDIR(). */
#if __FreeBSD_version >= 1400097
#define	RVMRPC_CN_SAVED			0
#define	rvmrpc_cn_thread(cnp)		(void)(cnp)
typedef uint64_t rvmrpc_cookie_t;
#else
#define	RVMRPC_CN_SAVED			(HASBUF | SAVENAME)
#define	rvmrpc_cn_thread(cnp)		((cnp)->cn_thread = curthread)
typedef u_long rvmrpc_cookie_t;
#endif

/* Before 14.0 one that was never full begins with NULs. */
#if __FreeBSD_version >= 1400097
#define	rvmrpc_msgbuf_wraps(mbp)	(((mbp)->msg_flags & MSGBUF_WRAP) != 0)
#else
#define	rvmrpc_msgbuf_wraps(mbp)	true
#endif

/* 14.0 hides what an interface is. */
#if __FreeBSD_version >= 1400097
#define	rvmrpc_if_index(ifp)		if_getindex(ifp)
#define	rvmrpc_if_addrlen(ifp)		if_getaddrlen(ifp)
#define	rvmrpc_if_ifaddr(ifp)		if_getifaddr(ifp)
#define	rvmrpc_if_linkstate(ifp)	if_getlinkstate(ifp)
#define	rvmrpc_if_counter(ifp, which)	if_getcounter(ifp, which)
#define	rvmrpc_if_iter			if_iter
#define	rvmrpc_ifa_iter			ifa_iter
#define	RVMRPC_IF_FOREACH(ifp, iter)					\
	for (ifp = if_iter_start(iter); ifp != NULL;			\
	    ifp = if_iter_next(iter))
#define	RVMRPC_IF_FINISH(iter)		if_iter_finish(iter)
#define	RVMRPC_IFA_FOREACH(ifa, ifp, iter)				\
	for (ifa = ifa_iter_start(ifp, iter); ifa != NULL;		\
	    ifa = ifa_iter_next(iter))
#define	RVMRPC_IFA_FINISH(iter)		ifa_iter_finish(iter)
#else
#define	rvmrpc_if_index(ifp)		((ifp)->if_index)
#define	rvmrpc_if_addrlen(ifp)		((ifp)->if_addrlen)
#define	rvmrpc_if_ifaddr(ifp)		((ifp)->if_addr)
#define	rvmrpc_if_linkstate(ifp)	((ifp)->if_link_state)
#define	rvmrpc_if_counter(ifp, which)	((ifp)->if_get_counter(ifp, which))
struct rvmrpc_if_iter {
	char		unused;
};
#define	rvmrpc_ifa_iter			rvmrpc_if_iter
#define	RVMRPC_IF_FOREACH(ifp, iter)					\
	CK_STAILQ_FOREACH(ifp, &V_ifnet, if_link)
#define	RVMRPC_IF_FINISH(iter)		(void)(iter)
#define	RVMRPC_IFA_FOREACH(ifa, ifp, iter)				\
	CK_STAILQ_FOREACH(ifa, &(ifp)->if_addrhead, ifa_link)
#define	RVMRPC_IFA_FINISH(iter)		(void)(iter)
#endif

#endif /* RVMRPC_COMPAT_H */
