/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Events: what this guest tells its host without being asked.
 *
 * Who tells may be in any context, with the scheduler stopped too, so all that
 * it meets is stores to the window, counters, and the doorbell.  What keeps the
 * window mapped meanwhile is that the device waits for who tells.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/eventhandler.h>
#include <sys/limits.h>
#include <sys/proc.h>
#include <sys/resource.h>
#include <vm/vm.h>
#include <vm/pmap.h>
#include <vm/vm_map.h>
#include <vm/vm_pageout.h>

static struct rvmrpc_softc * volatile events_device;	/* newbus writes it */
static volatile u_int events_telling;	/* how many may use it; atomic */

/* ---- The device ---- */

/* Before the server thread runs. */
void
rvmrpc_events_attach(struct rvmrpc_softc *sc)
{
	rvmrpc_tell_init(&sc->teller, sc->map.r_vaddr,
	    rman_get_size(sc->window));
	rvmrpc_os_store_release(&events_device, sc);
}

/* After it: nobody touches the window any more. */
void
rvmrpc_events_detach(void)
{
	rvmrpc_os_store(&events_device, NULL);
	/* Whoever counts from here on finds no device. */
	rvmrpc_os_mb();
	while (atomic_load_acq_int(&events_telling) != 0)
		pause("rvmevt", 1);
}

/* An epoch begins.  Server thread, as the next. */
void
rvmrpc_events_open(struct rvmrpc_softc *sc)
{
	rvmrpc_tell_close(&sc->teller);
	rvmrpc_os_store_release(&sc->told, 0);
	rvmrpc_tell_open(&sc->teller, &sc->guest);
}

void
rvmrpc_events_close(struct rvmrpc_softc *sc)
{
	rvmrpc_tell_close(&sc->teller);
}

/* ---- Telling: any context ---- */

void
rvmrpc_event_new(struct rvmrpc_event_writer *e, uint32_t module, uint16_t kind)
{
	struct bintime up;

	binuptime(&up);
	rvmrpc_event_begin(e, module, kind, rvmrpc_bintime_ns(up.sec, up.frac));
}

/* False: there is nobody to be told. */
bool
rvmrpc_event_send(struct rvmrpc_event_writer *e)
{
	struct rvmrpc_softc *sc;
	uint64_t epoch = 0;

	if (rvmrpc_tun.events == 0)
		return (false);
	rvmrpc_event_end(e);
	/* Of CPUs that are more than one a full barrier, as the next. */
	atomic_add_int(&events_telling, 1);
	sc = rvmrpc_os_load_acquire(&events_device);
	if (sc != NULL)
		epoch = rvmrpc_tell_epoch(&sc->teller);
	if (epoch != 0) {
		rvmrpc_count(sc, RVMRPC_CNT_EVENTS);
		/* So the number is not older than the epoch. */
		if (rvmrpc_tell(&sc->teller, epoch,
		    atomic_fetchadd_64(&sc->told, 1) + 1, e))
			rvmrpc_window_ring(sc);
	}
	atomic_subtract_rel_int(&events_telling, 1);
	return (epoch != 0);
}

int
rvmrpc_event(uint32_t mod, uint16_t kind, const char *text, const void *data,
    size_t bytes)
{
	struct rvmrpc_event_writer e;

	if (mod < RVMRPC_MOD_USER)
		return (EINVAL);
	if (bytes > RVMRPC_EVENT_DATA_MAX)
		return (EMSGSIZE);
	rvmrpc_event_new(&e, mod, kind);
	if (bytes != 0)
		rvmrpc_record_bytes(&e.fields, RVMRPC_EVENT_DATA, data, bytes);
	if (text != NULL)
		rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, strlen(text));
	return (rvmrpc_event_send(&e) ? 0 : ENOTCONN);
}

/* An event of ours that has a text only. */
void
rvmrpc_event_core(uint16_t kind, const char *text)
{
	struct rvmrpc_event_writer e;

	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, kind);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, strlen(text));
	rvmrpc_event_send(&e);
}

/* ---- What the kernel tells us ---- */

/*
 * vm_lowmem: the page daemon's, every 10 s at most (vm.lowmem_period), or
 * UMA's, every second at most.  Nobody says when it is over.
 */
static void
event_lowmem(void *arg __unused, int flags)
{
	/* The host asked for that one. */
	if (rvmrpc_reclaim_is_mine())
		return;
	rvmrpc_event_core(RVMRPC_RECORD_LOW_MEMORY,
	    (flags & VM_LOW_PAGES) != 0 ? "too few free pages" :
	    "too little kernel memory");
}

static void
event_process(struct rvmrpc_event_writer *e, const struct proc *p)
{
	rvmrpc_record_u64(&e->fields, RVMRPC_EVENT_PID, p->p_pid);
	rvmrpc_event_string(e, RVMRPC_EVENT_PROCESS, p->p_comm,
	    strnlen(p->p_comm, sizeof(p->p_comm)));
}

/*
 * Nobody tells a module of a kill, but of each exit, while the process still
 * has its memory.  Whom killproc() meets has P_WKILLED, which kill(2) does not
 * set; and of its callers only vm_pageout_oom() gives it that nice value,
 * before it lets go of the process' lock.  docs/freebsd.md says what else could.
 */
static void
event_exit(void *arg __unused, struct proc *p)
{
	struct rvmrpc_event_writer e;
	bool oom;

	PROC_LOCK(p);
	oom = P_KILLED(p) && p->p_nice == PRIO_MIN;
	PROC_UNLOCK(p);
	if (!oom)
		return;
	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_OOM_KILL);
	event_process(&e, p);
	rvmrpc_record_u64(&e.fields, RVMRPC_EVENT_RSS,
	    ptoa((uint64_t)vmspace_resident_count(p->p_vmspace)));
	rvmrpc_event_send(&e);
}

/* A reboot's event, too. */
static void
event_panic(void *arg __unused, int howto __unused)
{
	struct rvmrpc_event_writer e;

	if (panicstr == NULL)
		return;
	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_PANIC);
	event_process(&e, curthread->td_proc);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, panicstr, strlen(panicstr));
	rvmrpc_event_send(&e);
}

static eventhandler_tag event_lowmem_tag, event_exit_tag, event_panic_tag;

int
rvmrpc_event_sources_init(void)
{
	event_lowmem_tag = EVENTHANDLER_REGISTER(vm_lowmem, event_lowmem, NULL,
	    LOWMEM_PRI_DEFAULT);
	event_exit_tag = EVENTHANDLER_REGISTER(process_exit, event_exit, NULL,
	    EVENTHANDLER_PRI_ANY);
	/* Before all others, which may hang. */
	event_panic_tag = EVENTHANDLER_REGISTER(shutdown_pre_sync, event_panic,
	    NULL, INT_MIN);
	return (0);
}

/* Waits for who is in them. */
void
rvmrpc_event_sources_exit(void)
{
	EVENTHANDLER_DEREGISTER(shutdown_pre_sync, event_panic_tag);
	EVENTHANDLER_DEREGISTER(process_exit, event_exit_tag);
	EVENTHANDLER_DEREGISTER(vm_lowmem, event_lowmem_tag);
}
