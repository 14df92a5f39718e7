/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Inside of rvmrpc.ko.
 *
 * One server thread polls the host and runs what never sleeps; the taskqueue
 * of a session runs the rest.  A session is one registration with the host
 * (one epoch) and the memory that was registered; it lives until its last
 * worker has ended.
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
	struct resource	*regs;
	bool		hypercall;	/* may be used; fixed */
	struct mtx	choose_mtx;	/* one thread tries gates */
	/* Written with choose_mtx, read by anyone. */
	volatile u_int	number;		/* for EAX */
	volatile u_int	features;
	volatile u_int	kind;		/* enum rvmrpc_gate_kind */
};

void	rvmrpc_gate_init(struct rvmrpc_gate *gate, struct resource *regs,
	    bool hypercall);
void	rvmrpc_gate_destroy(struct rvmrpc_gate *gate);
enum rvmrpc_gate_kind rvmrpc_gate_choose(struct rvmrpc_gate *gate);
uint32_t rvmrpc_gate_call(struct rvmrpc_gate *gate, uint64_t op, uint64_t a0,
	    uint64_t a1, uint64_t a2);
bool	rvmrpc_gate_waits(const struct rvmrpc_gate *gate);

/* ---- rvmrpc_session.c ---- */

struct rvmrpc_slot {
	struct rvmrpc_session *session;
	char		*request;	/* shared with the host */
	char		*response;
	struct task	task;
	struct rvmrpc_hdr hdr;		/* of the request; as call */
	struct rvmrpc_accepted call;	/* server's, then its worker's */
	sbintime_t	deadline;	/* of the call; softc's mtx */
	bool		busy;		/* with a worker; softc's mtx */
	bool		cancelled;	/* softc's mtx */
};

struct rvmrpc_session {
	LIST_ENTRY(rvmrpc_session) link;	/* softc's mtx */
	struct rvmrpc_softc *sc;
	struct taskqueue *workers;	/* a thread per slot */
	u_int		nrunning;	/* workers inside; softc's mtx */
	bool		dead;		/* the epoch is over; softc's mtx */
	void		*memory;
	struct rvmrpc_init *init;
	/* Fixed while a worker is inside. */
	uint64_t	epoch;
	uint64_t	op;		/* PERFORM with the space of the proxy */
	uint32_t	handle;
	uint16_t	abi;
	u_int		nslots;		/* in use; at most nalloc */
	u_int		nalloc;
	u_int		req_pages;
	u_int		res_pages;
	struct rvmrpc_slot slots[];
};
LIST_HEAD(rvmrpc_sessions, rvmrpc_session);

/* Sessions left behind with stuck procedures; then the driver waits. */
#define	RVMRPC_ABANDONED_MAX	4

int	rvmrpc_session_connect(struct rvmrpc_softc *sc);
void	rvmrpc_session_retire(struct rvmrpc_softc *sc);
void	rvmrpc_session_drop(struct rvmrpc_softc *sc);
void	rvmrpc_session_leave(struct rvmrpc_softc *sc);
void	rvmrpc_session_reap(struct rvmrpc_softc *sc);
bool	rvmrpc_session_busy(struct rvmrpc_session *session);
bool	rvmrpc_session_stuck(struct rvmrpc_session *session, sbintime_t grace);
bool	rvmrpc_sessions_overdue(struct rvmrpc_softc *sc);

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
	RVMRPC_CNT_POLLS,
	RVMRPC_CNT_WAITS,
	RVMRPC_CNT_SLEEPS,
	RVMRPC_CNT_INTERRUPTS,
	RVMRPC_CNT_CONNECTS,
	RVMRPC_CNT_RESETS,
	RVMRPC_CNT_LATE,
	RVMRPC_CNT_MALFORMED,
	RVMRPC_CNT_WATCHDOG,
	RVMRPC_CNT_ERRORS,
	RVMRPC_CNT_MAX
};

/* The first three may change at any time. */
struct rvmrpc_tunables {
	int		vmlp_idle_us;
	int		cpu;
	int		watchdog_ms;
	int		hypercall;
	int		slots;
	int		req_pages;
	int		res_pages;
};

struct rvmrpc_softc {
	device_t	dev;
	struct rvmrpc_gate gate;
	struct resource	*regs;
	struct resource	*msix;
	struct resource	*irq;		/* NULL: polls by time */
	void		*irq_cookie;
	struct sysctl_ctx_list sysctls;
	struct rvmrpc_tunables tun;
	u_long		counters[RVMRPC_CNT_MAX];	/* atomic */

	struct thread	*thread;	/* newbus calls, one at a time */
	struct timeval	notice_time;	/* server thread */
	int		notice_count;

	struct mtx	mtx;
	bool		kicked;		/* interrupt, changed tunable; mtx */
	bool		stop;		/* mtx */
	struct rvmrpc_sessions sessions;	/* all there are; mtx */

	/* The server thread's own; others while there is none. */
	struct rvmrpc_session *session;
	uint32_t	reply_slot;	/* whose reply the next poll brings */
	bool		leave;		/* core.exit was called */
	sbintime_t	last_call;
	u_int		quick;		/* waits in a row that ended at once */
	u_int		backoff_ms;
	int		bound_cpu;

	/* Written by the server thread, shown by sysctl. */
	volatile u_int	state;
	volatile uint64_t epoch;
	volatile u_int	nslots;
	volatile u_int	abandoned;
};

int	rvmrpc_server_start(struct rvmrpc_softc *sc);
void	rvmrpc_server_stop(struct rvmrpc_softc *sc);
void	rvmrpc_server_kick(struct rvmrpc_softc *sc);
const char *rvmrpc_wait_mode(const struct rvmrpc_softc *sc);
void	rvmrpc_worker(void *arg, int pending);
struct rvmrpc_softc *rvmrpc_server_self(void);

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
bool	rvmrpc_registry_accept(const struct rvmrpc_session *session,
	    const struct rvmrpc_hdr *hdr, struct rvmrpc_accepted *call);
void	rvmrpc_registry_done(struct rvmrpc_accepted *call);
int	rvmrpc_allow_set(const char *text);
void	rvmrpc_allow_get(char *text);		/* RVMRPC_ALLOW_MAX bytes */

/* ---- Built-in modules ---- */

int	rvmrpc_mod_core_init(void);
void	rvmrpc_mod_core_exit(void);
int	rvmrpc_mod_sysinfo_init(void);
void	rvmrpc_mod_sysinfo_exit(void);
int	rvmrpc_mod_reclaim_init(void);
void	rvmrpc_mod_reclaim_exit(void);
int	rvmrpc_mod_sysctl_init(void);
void	rvmrpc_mod_sysctl_exit(void);
int	rvmrpc_sysctl_allow_set(const char *text);
void	rvmrpc_sysctl_allow_get(char *text);	/* RVMRPC_ALLOW_MAX bytes */

/* ---- rvmrpc_sysctl.c ---- */

void	rvmrpc_tunables_fetch(struct rvmrpc_softc *sc);
void	rvmrpc_sysctls_add(struct rvmrpc_softc *sc);
void	rvmrpc_sysctls_remove(struct rvmrpc_softc *sc);

#endif /* RVMRPC_DRV_H */
