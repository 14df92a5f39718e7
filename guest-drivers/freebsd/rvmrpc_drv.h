/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Inside of rvmrpc.ko.
 *
 * One server thread takes the host's requests from the window, RAM of the host
 * that both sides map, and runs what never sleeps; workers run the rest.
 */
#ifndef RVMRPC_DRV_H
#define	RVMRPC_DRV_H

#include "rvmrpc_os.h"
#include <sys/bus.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/module.h>
#include <sys/mutex.h>
#include <sys/queue.h>
#include <sys/rman.h>
#include <sys/sysctl.h>
#include <sys/taskqueue.h>
#include <sys/time.h>
#include <machine/atomic.h>
#include <machine/bus.h>
#include <machine/resource.h>
#include "rvmrpc.h"
#include "rvmrpc_builtin.h"
#include "rvmrpc_care.h"
#include "rvmrpc_guest.h"
#include "rvmrpc_lists.h"
#include "rvmrpc_records.h"
#include "rvmrpc_tell.h"
#include "rvmrpc_compat.h"

MALLOC_DECLARE(M_RVMRPC);

struct rvmrpc_softc;

/* ---- rvmrpc_gate.c ---- */

enum rvmrpc_gate_kind {
	RVMRPC_GATE_KIND_NONE,
	RVMRPC_GATE_KIND_HYPERCALL,
	RVMRPC_GATE_KIND_DOORBELL,
};

/* Not on the wire: no gate answers. */
#define	RVMRPC_GATE_NONE	0xffffffffu

struct rvmrpc_gate {
	struct resource	*regs;		/* NULL: there is none */
	bool		hypercall;	/* may be used; fixed */
	struct mtx	choose_mtx;	/* one thread tries gates */
	/* Written with choose_mtx, read by anyone. */
	volatile u_int	number;		/* for EAX */
	volatile u_int	features;
	volatile u_int	kind;		/* enum rvmrpc_gate_kind */
};

void	rvmrpc_gate_init(struct rvmrpc_gate *gate, bool hypercall);
void	rvmrpc_gate_destroy(struct rvmrpc_gate *gate);
enum rvmrpc_gate_kind rvmrpc_gate_choose(struct rvmrpc_gate *gate);
uint32_t rvmrpc_gate_call(struct rvmrpc_gate *gate, uint64_t op, uint64_t a0,
	    uint64_t a1, uint64_t a2);
bool	rvmrpc_gate_waits(const struct rvmrpc_gate *gate);

/* ---- rvmrpc.c, rvmrpc_thread.c ---- */

enum rvmrpc_state {
	RVMRPC_STATE_STOPPED,	/* no server thread */
	RVMRPC_STATE_DISCONNECTED,
	RVMRPC_STATE_CONNECTED,
	RVMRPC_STATE_LEFT,	/* the host asked the server to leave */
};

enum rvmrpc_counter {
	RVMRPC_CNT_CALLS,
	RVMRPC_CNT_REFUSED,
	RVMRPC_CNT_WORKERS,
	RVMRPC_CNT_WAITS,
	RVMRPC_CNT_SLEEPS,
	RVMRPC_CNT_INTERRUPTS,
	RVMRPC_CNT_CONNECTS,
	RVMRPC_CNT_RESETS,
	RVMRPC_CNT_LATE,
	RVMRPC_CNT_MALFORMED,
	RVMRPC_CNT_RINGS,
	RVMRPC_CNT_SPINS,
	RVMRPC_CNT_WATCHDOG,
	RVMRPC_CNT_EVENTS,
	RVMRPC_CNT_ERRORS,
	RVMRPC_CNT_MAX
};

/* All but the last two may change at any time; fetched once, before any device. */
extern struct rvmrpc_tunables {
	int		spin_us;
	int		vmlp_idle_us;
	int		cpu;
	int		watchdog_ms;
	int		events;
	int		hypercall;
	int		user;
} rvmrpc_tun;

struct rvmrpc_job;
LIST_HEAD(rvmrpc_jobs, rvmrpc_job);

struct rvmrpc_softc {
	device_t	dev;
	struct rvmrpc_gate gate;
	struct resource	*regs;
	struct resource	*window;
	struct resource_map map;	/* of the window */
	bus_size_t	ring;		/* register that rings the host, */
	uint32_t	ring_value;	/* and what it wants there */
	struct resource	*msix;
	struct resource	*irq;		/* NULL: polls by time */
	void		*irq_cookie;
	struct sysctl_ctx_list sysctls;
	u_long		counters[RVMRPC_CNT_MAX];	/* atomic */

	struct thread	*thread;	/* newbus calls, one at a time */

	struct mtx	mtx;
	/* Written with mtx; the server thread looks without it, too. */
	volatile bool	kicked;		/* interrupt, changed tunable */
	volatile bool	stop;
	bool		ended;		/* mtx; nothing but kthread_exit() is left */

	struct mtx	jobs_mtx;	/* publishing against an epoch's end */
	struct rvmrpc_jobs orphans;	/* jobs_mtx */
	volatile u_int	abandoned;	/* how many; jobs_mtx to write */

	/* The server thread's own; others while there is none. */
	struct rvmrpc_guest guest;
	struct rvmrpc_taken taken;	/* the request at hand */
	struct rvmrpc_accepted call;
	void		*arg;		/* the copy of its argument */
	uint32_t	arg_bytes;
	struct rvmrpc_job *jobs[RVMRPC_SLOTS_MAX];
	bool		leave;		/* core.exit was called: until detach */
	struct rvmrpc_retry retry;
	u_int		spin_us;	/* how long it spins at present */
	sbintime_t	waits_since;	/* 0: not since the last request */
	sbintime_t	check;		/* of the next look at our words */
	sbintime_t	last_call;
	uint32_t	last_posted;
	u_int		quick;		/* waits in a row that ended at once */
	u_int		hello_ms;	/* for the next answer to the hello */
	int		bound_cpu;

	/* Of the proxy, a server of the host; as above. */
	bool		bound;
	uint64_t	space;		/* RVMRPC_OP_KERNEL, or 0: the VMM */
	uint32_t	handle;

	struct rvmrpc_teller teller;	/* its fields say who writes them */
	volatile uint64_t told;		/* events of this epoch; atomic */

	/* Written by the server thread, shown by sysctl. */
	volatile u_int	state;
	volatile uint64_t epoch;
	volatile u_int	nslots;
};

/* What a procedure may hold up reboot and suspend. */
#define	RVMRPC_STOP_MS	2000

int	rvmrpc_server_start(struct rvmrpc_softc *sc);
int	rvmrpc_server_stop(struct rvmrpc_softc *sc, u_int ms);
void	rvmrpc_server_kick(struct rvmrpc_softc *sc);
const char *rvmrpc_wait_mode(const struct rvmrpc_softc *sc);
struct rvmrpc_softc *rvmrpc_server_self(void);

/* ---- rvmrpc_window.c ---- */

bool	rvmrpc_ivshmem_wanted(device_t dev);
int	rvmrpc_window_attach(struct rvmrpc_softc *sc);
void	rvmrpc_window_detach(struct rvmrpc_softc *sc);
void	rvmrpc_window_ring(struct rvmrpc_softc *sc);
void	rvmrpc_window_rebind_irq(struct rvmrpc_softc *sc);

/* ---- rvmrpc_events.c ---- */

void	rvmrpc_events_attach(struct rvmrpc_softc *sc);
void	rvmrpc_events_detach(void);
void	rvmrpc_events_open(struct rvmrpc_softc *sc);
void	rvmrpc_events_close(struct rvmrpc_softc *sc);
void	rvmrpc_event_new(struct rvmrpc_event_writer *e, uint32_t module,
	    uint16_t kind);
bool	rvmrpc_event_send(struct rvmrpc_event_writer *e);
void	rvmrpc_event_core(uint16_t kind, const char *text);
int	rvmrpc_event_sources_init(void);
void	rvmrpc_event_sources_exit(void);

/* ---- rvmrpc_jobs.c ---- */

void	rvmrpc_jobs_prepare(struct rvmrpc_softc *sc);
void	rvmrpc_jobs_retire(struct rvmrpc_softc *sc);
void	rvmrpc_jobs_reap(struct rvmrpc_softc *sc);
bool	rvmrpc_jobs_give(struct rvmrpc_softc *sc,
	    const struct rvmrpc_taken *taken,
	    const struct rvmrpc_accepted *call);
bool	rvmrpc_jobs_busy(struct rvmrpc_softc *sc);
bool	rvmrpc_jobs_stuck(struct rvmrpc_softc *sc, sbintime_t grace);
void	rvmrpc_jobs_cancel(struct rvmrpc_softc *sc, uint64_t xid);
void	rvmrpc_jobs_forget(struct rvmrpc_softc *sc);
bool	rvmrpc_jobs_hang(struct rvmrpc_softc *sc);
int	rvmrpc_jobs_drain(struct rvmrpc_softc *sc);
void	rvmrpc_jobs_free(struct rvmrpc_softc *sc);

static inline void
rvmrpc_count(struct rvmrpc_softc *sc, enum rvmrpc_counter counter)
{
	atomic_add_long(&sc->counters[counter], 1);
}

/* ---- rvmrpc_registry.c ---- */

extern struct rvmrpc_server rvmrpc_registry;	/* rvmrpc_registry_mtx */
extern struct mtx rvmrpc_registry_mtx;

int	rvmrpc_builtin_add(struct rvmrpc_module *module);
void	rvmrpc_builtin_remove(struct rvmrpc_module *module);
bool	rvmrpc_registry_accept(const struct rvmrpc_guest *g,
	    const struct rvmrpc_hdr *hdr, struct rvmrpc_accepted *call);
void	rvmrpc_registry_done(struct rvmrpc_accepted *call);
void	rvmrpc_registry_new_epoch(uint64_t epoch);
int	rvmrpc_allow_set(const char *text);
void	rvmrpc_allow_get(char *text);		/* RVMRPC_ALLOW_MAX bytes */
/* What the core says, RVMRPC_STATUS_*, of a registration or a list. */
int	rvmrpc_status_errno(int status);

/* ---- Built-in modules ---- */

int	rvmrpc_mod_core_init(void);
void	rvmrpc_mod_core_exit(void);
int	rvmrpc_mod_sysinfo_init(void);
void	rvmrpc_mod_sysinfo_exit(void);
int	rvmrpc_mod_reclaim_init(void);
void	rvmrpc_mod_reclaim_exit(void);
/* Whether this thread raises vm_lowmem for the host. */
bool	rvmrpc_reclaim_is_mine(void);
int	rvmrpc_mod_sysctl_init(void);
void	rvmrpc_mod_sysctl_exit(void);
int	rvmrpc_sysctl_allow_set(const char *text);
void	rvmrpc_sysctl_allow_get(char *text);	/* RVMRPC_ALLOW_MAX bytes */
int	rvmrpc_mod_pressure_init(void);
void	rvmrpc_mod_pressure_exit(void);
int	rvmrpc_mod_tasks_init(void);
void	rvmrpc_mod_tasks_exit(void);
int	rvmrpc_mod_klog_init(void);
void	rvmrpc_mod_klog_exit(void);
int	rvmrpc_mod_fs_init(void);
void	rvmrpc_mod_fs_exit(void);
int	rvmrpc_mod_net_init(void);
void	rvmrpc_mod_net_exit(void);
int	rvmrpc_mod_clock_init(void);
void	rvmrpc_mod_clock_exit(void);
int	rvmrpc_mod_control_init(void);
void	rvmrpc_mod_control_exit(void);
int	rvmrpc_mod_freeze_init(void);
void	rvmrpc_mod_freeze_exit(void);
int	rvmrpc_mod_files_init(void);
void	rvmrpc_mod_files_exit(void);
int	rvmrpc_fs_allow_set(const char *text);
void	rvmrpc_fs_allow_get(char *text);	/* RVMRPC_ALLOW_MAX bytes */
int	rvmrpc_fs_write_set(const char *text);
void	rvmrpc_fs_write_get(char *text);	/* RVMRPC_ALLOW_MAX bytes */
/* A new epoch has so many workers; takes a mutex. */
void	rvmrpc_files_epoch(u_int workers);

/* Worker: writes back what is dirty, and waits for it. */
bool	rvmrpc_sync(void);

enum rvmrpc_mount_kind {
	RVMRPC_MOUNT_OTHER,	/* holds no data of its own: devfs, tmpfs */
	RVMRPC_MOUNT_DATA,
	RVMRPC_MOUNT_REMOTE,	/* a server or a process would have to answer */
};

/* mountlist_mtx held, or the mount busy. */
struct mount;
enum rvmrpc_mount_kind rvmrpc_mount_kind(const struct mount *mp);

/* ---- rvmrpc_user.c ---- */

/* An epoch begins, with so many workers, or ends, 0; takes a mutex. */
void	rvmrpc_user_epoch(u_int workers);
void	rvmrpc_user_cancel(uint64_t xid);
/* EBUSY while a program has the device open. */
int	rvmrpc_user_busy(void);
int	rvmrpc_user_init(void);
void	rvmrpc_user_exit(void);

/* ---- rvmrpc_sysctl.c ---- */

void	rvmrpc_tunables_fetch(void);
void	rvmrpc_sysctls_add(struct rvmrpc_softc *sc);
void	rvmrpc_sysctls_remove(struct rvmrpc_softc *sc);

#endif /* RVMRPC_DRV_H */
