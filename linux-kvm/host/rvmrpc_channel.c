// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC in the host's kernel: the owner of a window
 *
 * Who does what.  A client's thread posts its own request and takes its own answer, so that nobody else ever touches its
 * memory: it can be killed, and ends at its deadline, whatever the others do.  The doorbell's callback, in whatever context
 * the guest rings, wakes threads whose answers came.  The work does all else: answers of calls without a thread, hellos,
 * deadlines of those calls, what was lost.
 *
 * Who frees a slot passes it on: to the thread whose call is the next in the queue, or to the work.
 *
 * The interrupt's eventfd is signalled with no lock held: its wait queue's lock may be that of the doorbell, inside of which
 * the callback takes vm->lock; and the callback signals none.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <linux/rvmrpc_glue.h>
#include "rvmrpc_host.h"
#include "rvmrpc_host_trace.h"

/* The core is one text for all hosts; here it is one piece with what calls it most, which halves the cost of a call. */
#include "../../core/rvmrpc_proxy.c"
#include "../../core/rvmrpc_owner.c"
#include "../../core/rvmrpc_ring.c"

/*
 * A guest that spins answers a short call sooner than this thread could sleep and be woken.  It is no one else's time:
 * may_spin().
 */
static unsigned int call_spin_ns = 200000;
module_param(call_spin_ns, uint, 0644);
MODULE_PARM_DESC(call_spin_ns, "how long a call spins for its answer before it sleeps, 0 = not at all");

#define NEVER		U64_MAX
#define LOOK_NS		NSEC_PER_SEC		/* at the window's pages without a ring; of all VMs at a time */
#define LOOK_LATER_NS	(100 * NSEC_PER_MSEC)	/* at hellos that are too many, */
#define LOOK_VAIN_NS	NSEC_PER_MSEC		/* and after one that was none */
#define AGAIN_MIN_NS	(2 * NSEC_PER_MSEC)	/* for guests that a lost interrupt hides */
#define AGAIN_MAX_NS	(64 * NSEC_PER_MSEC)
#define SPIN_MIN_US	20			/* a shorter one meets nobody */
#define SPIN_BATCH	256			/* looks at the answer before a look at the clock, */
#define SPIN_LOOKS	16			/* and at all else */
#define BEAT_NS		(15 * NSEC_PER_SEC)	/* without a sign of life for so long: ask.  The driver's beat takes 5 s */
#define PROBE_MS	1000
#define TURN_BYTES	(256 * 1024)		/* that the work copies before others have their turn */
#define INLINE_BYTES	512			/* of payload that is copied with the lock held */

static struct workqueue_struct *channel_wq;

static u64 random63(void)
{
	return get_random_u64() >> 1;
}

/* ---- Turns: what happens under the lock, and what follows from it after; in process context ---- */

struct turn {
	u64 now;
	struct rvmrpc_done done;	/* ended */
	struct rvmrpc_done untold;	/* of these, those without a thread */
	bool kick;			/* the guest is to be interrupted */
	bool coarse;			/* now may be as old as a tick */
};

static void turn_begin_at(struct rvmrpc_vm *vm, struct turn *t, u64 now)
{
	t->now = now;
	t->done.head = NULL;
	t->done.tail = NULL;
	t->untold.head = NULL;
	t->untold.tail = NULL;
	t->kick = false;
	t->coarse = false;
	spin_lock(&vm->lock);
}

static void turn_begin(struct rvmrpc_vm *vm, struct turn *t)
{
	turn_begin_at(vm, t, 0);
	t->now = ktime_get_ns();
}

static struct rvmrpc_kcall *kcall_of(struct rvmrpc_call *core)
{
	return container_of(core, struct rvmrpc_kcall, core);
}

static void add_untold(struct turn *t, struct rvmrpc_call *core)
{
	core->next = NULL;
	if (t->untold.tail)
		t->untold.tail->next = core;
	else
		t->untold.head = core;
	t->untold.tail = core;
}

/* vCPUs that wait in RVMRPC_MAIN, and need not any more. */
static noinline void rouse(struct rvmrpc_vm *vm)
{
	struct rvmrpc_waiter *w, *next;

	list_for_each_entry_safe(w, next, &vm->waiters, node) {
		if (rvmrpc_owner_main(&vm->owner, w->epoch, w->seen) == RVMRPC_MAIN_TURN_WAIT)
			continue;
		list_del_init(&w->node);
		WRITE_ONCE(w->woken, true);
		w->wake(w);
	}
}

/* Tells threads whose calls have ended; they go as soon as they see it. */
static void settle(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_call *core, *next;

	if (!list_empty(&vm->waiters))
		rouse(vm);
	for (core = t->done.head; core; core = next) {
		struct rvmrpc_kcall *call = kcall_of(core);

		next = core->next;
		trace_rvmrpc_host_call_end(vm->id, core->module, core->procedure, core->status, core->submitted);
		if (!call->task) {
			add_untold(t, core);
			continue;
		}
		if (call->task != current)
			wake_up_process(call->task);
		/* Pairs with the acquire of who waits. */
		smp_store_release(&call->ended, true);
	}
	t->done.head = NULL;
	t->done.tail = NULL;
}

static void interrupt(struct rvmrpc_vm *vm)
{
	rvmrpc_eventfd_signal(vm->interrupt);
}

static void turn_end(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_call *core, *next;

	settle(vm, t);
	if (t->kick)
		vm->interrupts++;
	spin_unlock(&vm->lock);
	if (t->kick)
		interrupt(vm);
	for (core = t->untold.head; core; core = next) {
		next = core->next;
		kcall_of(core)->done(kcall_of(core));
	}
}

/* Around a copy that is too long for a lock.  The window stays mapped, and the VMM waits for it. */
static void turn_pause(struct rvmrpc_vm *vm, struct turn *t)
{
	vm->copying++;
	settle(vm, t);
	spin_unlock(&vm->lock);
}

static void turn_resume(struct rvmrpc_vm *vm, struct turn *t)
{
	spin_lock(&vm->lock);
	t->now = ktime_get_ns();
	if (!--vm->copying)
		wake_up(&vm->quiet);
}

/* The work runs at that time, or before; as a timer at the tick after it.  0: at once, even if such a timer is due. */
static void arm(struct rvmrpc_vm *vm, u64 when, u64 now)
{
	if (when >= vm->armed || !vm->attached)
		return;
	vm->armed = when;
	mod_delayed_work(channel_wq, &vm->work, when > now ? nsecs_to_jiffies(when - now) + 1 : 0);
}

/* ---- Requests ---- */

static struct rvmrpc_kcall *queue_head(const struct rvmrpc_vm *vm)
{
	return vm->owner.proxy.pending_head ? kcall_of(vm->owner.proxy.pending_head) : NULL;
}

/* A request may have become deliverable: whose it is shall do it. */
static void pass_on(struct rvmrpc_vm *vm, const struct turn *t)
{
	struct rvmrpc_kcall *head = queue_head(vm);

	if (!head || !rvmrpc_proxy_pending(&vm->owner.proxy))
		return;
	if (!head->task)
		arm(vm, 0, t->now);
	else if (head->task != current)
		wake_up_process(head->task);
}

/* The guest may spin while calls follow each other closely. */
static void adapt_guest(struct rvmrpc_vm *vm, u64 now)
{
	u64 gap = now - vm->last_answer;
	u32 us, limit = vm->spin_us;

	/* In a burst it is neither divided nor written. */
	if (vm->guest_spin_us == limit && gap < limit * NSEC_PER_USEC)
		return;
	us = rvmrpc_spin_next(vm->guest_spin_us, div_u64(gap, NSEC_PER_USEC), SPIN_MIN_US, limit);
	if (us == vm->guest_spin_us)
		return;
	vm->guest_spin_us = us;
	rvmrpc_owner_set_spin(&vm->owner, us);
}

static void begun(const struct rvmrpc_vm *vm, const struct rvmrpc_call *core)
{
	trace_rvmrpc_host_call_begin(vm->id, core->module, core->procedure, core->arglen);
}

static void posted(struct rvmrpc_vm *vm, struct turn *t)
{
	if (!t->coarse)
		adapt_guest(vm, t->now);
	if (rvmrpc_owner_kick(&vm->owner))
		t->kick = true;
	vm->again_ns = AGAIN_MIN_NS;
}

/* For a guest that was kicked and may have missed it. */
static void look_after(struct rvmrpc_vm *vm, const struct turn *t)
{
	vm->again_at = min(vm->again_at, t->now + vm->again_ns);
	arm(vm, vm->again_at, t->now);
}

static noinline bool look_closer(struct rvmrpc_vm *vm, struct turn *t)
{
	u32 looked = rvmrpc_owner_intact(&vm->owner, t->now, &t->done);

	if (!looked)
		return true;
	vm->looked |= looked;
	arm(vm, 0, t->now);
	return false;
}

static bool intact(struct rvmrpc_vm *vm, struct turn *t)
{
	return likely(rvmrpc_owner_unchanged(&vm->owner)) || look_closer(vm, t);
}

/* The queue's head, which is the caller's to deliver.  True: the guest has it. */
static bool deliver_head(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;
	struct rvmrpc_xfer x;
	bool big;

	if (!rvmrpc_proxy_pending(&o->proxy) || o->proxy.pending_head->deadline <= t->now || !intact(vm, t) ||
	    !rvmrpc_proxy_deliver_begin(&o->proxy, &x, t->now, &t->done))
		return false;
	big = x.length > INLINE_BYTES;
	if (big)
		turn_pause(vm, t);
	rvmrpc_owner_copy_in(o, &x);
	if (big)
		turn_resume(vm, t);
	if (!rvmrpc_owner_post(o, &x, t->now, &t->done))
		return false;
	posted(vm, t);
	return true;
}

/* Requests of calls without a thread, as far as they are the next. */
static void deliver_others(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_kcall *head;
	u32 bytes = 0;

	while ((head = queue_head(vm)) && !head->task) {
		bytes += head->core.arglen;
		if (!deliver_head(vm, t))
			break;
		/* Nobody spins for it. */
		if (!rvmrpc_owner_sleep_on(&vm->owner, head->core.slot))
			arm(vm, 0, t->now);
		look_after(vm, t);
		if (bytes > TURN_BYTES)
			break;
	}
	pass_on(vm, t);
}

/* ---- Answers ---- */

static void answered(struct rvmrpc_vm *vm, u32 slot, const struct turn *t)
{
	rvmrpc_owner_awake_on(&vm->owner, slot);
	vm->silent = false;
	vm->stuck = false;
	vm->last_answer = t->now;
	pass_on(vm, t);
}

/* Ends a call in place, whose answer is there. */
static void take_in_place(struct rvmrpc_vm *vm, u32 slot, struct turn *t)
{
	rvmrpc_owner_reap_begin(&vm->owner, slot, NULL, t->now, &t->done);
	answered(vm, slot, t);
}

/* Takes the answer in a slot, for the call's own thread, or for the work when it has none.  Bytes that were copied. */
static noinline u32 take_answer(struct rvmrpc_vm *vm, u32 slot, struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;
	struct rvmrpc_kcall *call;
	struct rvmrpc_xfer x;
	bool pause;

	if (!rvmrpc_owner_reap_begin(o, slot, &x, t->now, &t->done)) {
		answered(vm, slot, t);
		return 0;
	}
	call = kcall_of(x.call);
	pause = x.length > INLINE_BYTES;
	if (pause)
		turn_pause(vm, t);
	rvmrpc_owner_copy_out(o, &x, call->res);
	if (pause)
		turn_resume(vm, t);
	rvmrpc_owner_reap_commit(o, &x, true, t->now, &t->done);
	if (o->proxy.epoch == x.epoch)
		answered(vm, slot, t);
	return x.length;
}

/* Wakes threads whose answers are there.  True: there are others. */
static bool wake_answered(struct rvmrpc_vm *vm)
{
	struct rvmrpc_owner *o = &vm->owner;
	bool others = false;
	u32 i;

	for (i = 0; i < o->proxy.nslots; i++) {
		if (!rvmrpc_owner_answered(o, i))
			continue;
		if (o->proxy.slots[i].call && kcall_of(o->proxy.slots[i].call)->task)
			wake_up_process(kcall_of(o->proxy.slots[i].call)->task);
		else
			others = true;
	}
	return others;
}

/* Answers of calls without a thread, and of those that have ended.  False: there may be more. */
static bool reap(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;
	u32 bytes = 0, i;

	for (i = 0; i < o->proxy.nslots; i++) {
		if (!rvmrpc_owner_answered(o, i) ||
		    (o->proxy.slots[i].call && kcall_of(o->proxy.slots[i].call)->task))
			continue;
		bytes += take_answer(vm, i, t);
		if (bytes > TURN_BYTES)
			return false;
	}
	return true;
}

/*
 * Nobody is rung for the answer to a call that ended before its thread slept, as when that was killed: it may be what keeps
 * calls from being taken.
 */
static u32 submit(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, struct turn *t)
{
	if (unlikely(rvmrpc_proxy_stuck(&vm->owner.proxy)))
		reap(vm, t);
	return rvmrpc_proxy_submit(&vm->owner.proxy, &call->core, t->now);
}

/* Whoever waits for a slot whose call was given up is not forgotten: from now on the guest rings for its answer, too. */
static void want_back(struct rvmrpc_vm *vm, const struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;
	u32 i;

	for (i = 0; i < o->proxy.nslots; i++) {
		if (o->proxy.slots[i].state == RVMRPC_SLOT_BUSY && !o->proxy.slots[i].call && !rvmrpc_owner_sleep_on(o, i))
			arm(vm, 0, t->now);
	}
}

static u64 expire(struct rvmrpc_vm *vm, struct turn *t)
{
	u64 next = rvmrpc_owner_expire(&vm->owner, t->now, &t->done);

	want_back(vm, t);
	return next;
}

static void cancel(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, struct turn *t)
{
	rvmrpc_owner_cancel(&vm->owner, &call->core, t->now, &t->done);
	want_back(vm, t);
}

/* ---- The doorbell ---- */

/* When to look at what the guest has to say to look(). */
static u64 hail_due(const struct rvmrpc_vm *vm)
{
	return rvmrpc_owner_hailed(&vm->owner) ? vm->hail_at : NEVER;
}

/* What a guest rings for.  Any context, vm->lock. */
static void heard(struct rvmrpc_vm *vm, u64 now)
{
	if (wake_answered(vm) || rvmrpc_owner_events_due(&vm->owner, now))
		arm(vm, 0, now);
	arm(vm, hail_due(vm), now);
}

/* Interrupts are off, and the lock of the eventfd's wait queue is held. */
static int rung(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct rvmrpc_vm *vm = container_of(wait, struct rvmrpc_vm, ring_wait);
	u64 count = 0;

	if (!(key_to_poll(key) & EPOLLIN))
		return 0;
	eventfd_ctx_do_read(vm->doorbell, &count);
	atomic64_add(count, &vm->rings);
	/*
	 * It may be this very CPU that has the lock: a VMM can have its eventfd signalled from an interrupt.  Rather than to
	 * keep interrupts off in each call, a ring that comes at such a moment is left to a work.  It is not vm->work, which
	 * who has the lock may be about to put off.
	 */
	if (!spin_trylock(&vm->lock)) {
		queue_work(channel_wq, &vm->ring_work);
		return 0;
	}
	if (vm->attached)
		heard(vm, ktime_get_ns());
	spin_unlock(&vm->lock);
	return 0;
}

static void ring_work(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(work, struct rvmrpc_vm, ring_work);

	spin_lock(&vm->lock);
	if (vm->attached)
		heard(vm, ktime_get_ns());
	spin_unlock(&vm->lock);
}

static void doorbell_polled(struct file *file, wait_queue_head_t *wqh, poll_table *table)
{
	struct rvmrpc_vm *vm = container_of(table, struct rvmrpc_vm, ring_table);

	add_wait_queue(wqh, &vm->ring_wait);
}

int rvmrpc_channel_listen(struct rvmrpc_vm *vm)
{
	init_waitqueue_func_entry(&vm->ring_wait, rung);
	init_poll_funcptr(&vm->ring_table, doorbell_polled);
	vfs_poll(vm->doorbell_file, &vm->ring_table);
	/* What was rung before: there is nobody else to hear it. */
	rvmrpc_eventfd_signal(vm->doorbell);
	return 0;
}

/* ---- The work ---- */

static void probed(struct rvmrpc_kcall *call)
{
	struct rvmrpc_vm *vm = container_of(call, struct rvmrpc_vm, probe);
	struct turn t;

	turn_begin(vm, &t);
	vm->probing = false;
	vm->silent = call->core.status == RVMRPC_STATUS_TIMED_OUT;
	turn_end(vm, &t);
	rvmrpc_vm_put(vm);
}

/* A missing beat or an unanswered call alone says little: ask. */
static void probe(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_proxy *p = &vm->owner.proxy;

	if (!p->epoch || p->stopped || vm->probing || vm->silent || t->now < vm->next_probe ||
	    (!p->unanswered && t->now - p->last_seen < BEAT_NS))
		return;
	vm->next_probe = t->now + NSEC_PER_SEC;
	vm->probe = (struct rvmrpc_kcall) {
		.core = {
			.module = RVMRPC_MOD_CORE,
			.procedure = RVMRPC_CORE_NULL,
			.deadline = t->now + PROBE_MS * NSEC_PER_MSEC,
		},
		.done = probed,
	};
	if (rvmrpc_proxy_submit(p, &vm->probe.core, t->now) == RVMRPC_STATUS_OK) {
		begun(vm, &vm->probe.core);
		vm->probing = true;
		rvmrpc_vm_get(vm);
	} else {
		vm->silent = rvmrpc_proxy_stuck(p);
	}
}

/* True: it was the one of this second. */
static bool look(struct rvmrpc_vm *vm, struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;
	bool due = t->now >= vm->next_look;
	u64 beat_at = o->beat_at;
	u32 looked;

	/* It may have been given up while the work copied an answer: nobody is there to greet a guest any more. */
	if (!vm->attached || (!due && t->now < hail_due(vm)))
		return false;
	looked = rvmrpc_owner_look(o, t->now, &t->done);
	vm->looked |= looked;
	if (o->beat_at != beat_at || looked & RVMRPC_LOOK_OPENED)
		vm->silent = false;
	if (looked & RVMRPC_LOOK_OPENED)
		vm->stuck = false;
	vm->next_look = (div_u64(t->now, LOOK_NS) + 1) * LOOK_NS;
	if (looked & RVMRPC_LOOK_LATER) {
		vm->hail_at = t->now + LOOK_LATER_NS;
		vm->next_look = vm->hail_at;
	} else if (!due && !(looked & (RVMRPC_LOOK_OPENED | RVMRPC_LOOK_CLOSED))) {
		/* It was another owner's, or was being written: its guest does not ring this kernel's CPUs away. */
		vm->hail_at = t->now + LOOK_VAIN_NS;
	}
	return due;
}

static bool waiting(const struct rvmrpc_vm *vm)
{
	const struct rvmrpc_proxy *p = &vm->owner.proxy;
	u32 i;

	for (i = 0; i < p->nslots; i++) {
		if (p->slots[i].state == RVMRPC_SLOT_BUSY)
			return true;
	}
	return false;
}

static void look_again(struct rvmrpc_vm *vm, struct turn *t)
{
	if (t->now < vm->again_at)
		return;
	vm->again_at = NEVER;
	/* Calls that are left to their slots can wait for the next look. */
	if (!vm->owner.proxy.ncalls || !waiting(vm))
		return;
	wake_answered(vm);
	if (rvmrpc_owner_rekick(&vm->owner))
		t->kick = true;
	vm->again_ns = min_t(u64, 2 * vm->again_ns, AGAIN_MAX_NS);
	vm->again_at = t->now + vm->again_ns;
}

/* Takes what the guest has told.  Before the end of the epoch that it is of. */
static void hear(struct rvmrpc_vm *vm, const struct turn *t)
{
	struct rvmrpc_told told;

	if (!rvmrpc_owner_events_due(&vm->owner, t->now))
		return;
	rvmrpc_owner_hear(&vm->owner, t->now);
	while (rvmrpc_owner_take_event(&vm->owner, t->now, &told))
		rvmrpc_events_put(&vm->heard, &told);
}

static bool next_heard(struct rvmrpc_vm *vm, struct rvmrpc_told *told)
{
	bool any;

	spin_lock(&vm->lock);
	any = rvmrpc_events_take(&vm->heard, told);
	spin_unlock(&vm->lock);
	return any;
}

/* No lock held, and nobody else tells, as the next. */
static void tell_events(struct rvmrpc_vm *vm)
{
	struct rvmrpc_told told;

	while (next_heard(vm, &told)) {
		rvmrpc_file_told(vm->file, &told);
		rvmrpc_vm_event(vm, &told);
	}
}

static void tell_looked(struct rvmrpc_vm *vm, u32 what, bool stuck)
{
	if (what & RVMRPC_LOOK_CLOSED)
		rvmrpc_file_event(vm->file, RVMRPC_REC_GONE,
				  what & RVMRPC_LOOK_OPENED ? RVMRPC_GONE_REPLACED :
				  what & RVMRPC_LOOK_KICK ? RVMRPC_GONE_OVERWRITTEN : RVMRPC_GONE_EXIT);
	if (what & RVMRPC_LOOK_OPENED)
		rvmrpc_file_event(vm->file, RVMRPC_REC_CONNECTED, 0);
	if (stuck)
		rvmrpc_file_event(vm->file, RVMRPC_REC_STUCK, 0);
}

/* The guest sees other pages than we do, and hears nothing: the VMM is to attach what it sees now. */
static void let_go(struct rvmrpc_vm *vm)
{
	bool attached, open;
	struct turn t;

	turn_begin(vm, &t);
	attached = vm->attached;
	open = vm->owner.proxy.epoch;
	if (attached)
		rvmrpc_owner_close(&vm->owner, RVMRPC_STATUS_RESET, t.now, &t.done);
	vm->attached = false;
	turn_end(vm, &t);
	if (open)
		rvmrpc_file_event(vm->file, RVMRPC_REC_GONE, RVMRPC_GONE_OVERWRITTEN);
	if (attached)
		rvmrpc_file_event(vm->file, RVMRPC_REC_DETACH, 0);
}

static void channel_work(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(to_delayed_work(work), struct rvmrpc_vm, work);
	bool stuck = false, due = false, all;
	struct turn t;
	u32 what = 0;
	u64 next;

	turn_begin(vm, &t);
	vm->armed = NEVER;
	if (vm->attached) {
		wake_answered(vm);
		all = reap(vm, &t);
		hear(vm, &t);
		due = look(vm, &t);
		look_again(vm, &t);
		next = expire(vm, &t);
		probe(vm, &t);
		deliver_others(vm, &t);
		stuck = !vm->stuck && rvmrpc_proxy_stuck(&vm->owner.proxy);
		vm->stuck |= stuck;
		what = vm->looked;
		vm->looked = 0;
		if (what & RVMRPC_LOOK_KICK)
			t.kick = true;
		next = min3(next, vm->next_look, vm->again_at);
		next = min3(next, rvmrpc_owner_events_at(&vm->owner), hail_due(vm));
		arm(vm, all ? next : 0, t.now);
	}
	turn_end(vm, &t);
	tell_events(vm);
	tell_looked(vm, what, stuck);
	/* The pages stay until this work was waited for. */
	if (due && rvmrpc_pin_torn(&vm->pin))
		let_go(vm);
}

/* ---- Calls without a thread ---- */

u32 rvmrpc_channel_submit(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED;
	struct turn t;

	turn_begin(vm, &t);
	if (vm->attached)
		status = submit(vm, call, &t);
	if (status == RVMRPC_STATUS_OK) {
		begun(vm, &call->core);
		arm(vm, call->core.deadline, t.now);
		deliver_others(vm, &t);
	}
	turn_end(vm, &t);
	return status;
}

void rvmrpc_channel_cancel(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call)
{
	struct turn t;

	turn_begin(vm, &t);
	cancel(vm, call, &t);
	pass_on(vm, &t);
	turn_end(vm, &t);
}

/* ---- Calls of a thread ---- */

static bool has_ended(const struct rvmrpc_kcall *call)
{
	/* Pairs with the release in settle(). */
	return smp_load_acquire(&call->ended);
}

static bool may_spin(void)
{
	return single_task_running() && !need_resched();
}

/*
 * Until there is an answer, as long as nobody else wants this CPU.  No lock held; the window is.  True: it was there so soon
 * that the time is still what it was.
 */
static bool spin(const struct rvmrpc_vm *vm, const struct rvmrpc_kcall *call, u32 seq)
{
	const struct rvmrpc_owner *o = &vm->owner;
	const u64 at = rvmrpc_guest_slot_at(&o->config.layout, call->core.slot);
	u64 limit = READ_ONCE(call_spin_ns), end = 0;
	u32 i;

	while (limit && may_spin()) {
		for (i = 0; i < SPIN_BATCH; i += SPIN_LOOKS) {
			if (rvmrpc_win_await(&o->win, at, seq, SPIN_LOOKS) || has_ended(call))
				return !end;
		}
		cpu_relax();
		/* The first batch is free of the clock: in a burst the answer is there by then. */
		if (!end)
			end = ktime_get_ns() + limit;
		else if (ktime_get_ns() > end)
			break;
	}
	return false;
}

/* What a thread can do for its own call.  Else it is set to sleep, for so many jiffies. */
static long call_turn(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, struct turn *t)
{
	struct rvmrpc_owner *o = &vm->owner;

	if (call->core.state == RVMRPC_CALL_PENDING && queue_head(vm) == call) {
		deliver_head(vm, t);
		pass_on(vm, t);
	}
	if (call->core.state == RVMRPC_CALL_DELIVERED && rvmrpc_owner_answered(o, call->core.slot)) {
		if (call->core.in_place)
			take_in_place(vm, call->core.slot, t);
		else
			take_answer(vm, call->core.slot, t);
	}
	if (call->core.state != RVMRPC_CALL_IDLE && call->core.deadline <= t->now)
		expire(vm, t);
	if (call->core.state != RVMRPC_CALL_IDLE && fatal_signal_pending(current))
		cancel(vm, call, t);
	if (call->core.state == RVMRPC_CALL_IDLE) {
		pass_on(vm, t);
		return 0;
	}
	set_current_state(RVMRPC_TASK_WAITS);
	if (call->core.state == RVMRPC_CALL_DELIVERED && !rvmrpc_owner_sleep_on(o, call->core.slot)) {
		__set_current_state(TASK_RUNNING);
		return 0;
	}
	look_after(vm, t);
	return nsecs_to_jiffies(call->core.deadline - t->now) + 1;
}

/* @now: the time, or 0. */
static noinline void call_wait(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, u64 now)
{
	struct turn t;
	long left;

	for (; !has_ended(call); now = 0) {
		turn_begin_at(vm, &t, now ?: ktime_get_ns());
		left = call_turn(vm, call, &t);
		turn_end(vm, &t);
		if (left) {
			rvmrpc_schedule_timeout(left);
			__set_current_state(TASK_RUNNING);
		}
	}
}

/*
 * Whether the answer comes within less than a microsecond, as it does in a burst: then the lock, which nobody else wants
 * meanwhile, is taken once for the call.
 */
static bool answered_soon(struct rvmrpc_vm *vm, u32 slot)
{
	u32 i;

	for (i = 0; i < SPIN_BATCH; i += SPIN_LOOKS) {
		if (rvmrpc_owner_await(&vm->owner, slot, SPIN_LOOKS))
			return true;
		if (spin_is_contended(&vm->lock) || need_resched())
			break;
	}
	return false;
}

/* In a burst one look at the clock per tick will do, unless it is traced: it takes longer than all else that is done here. */
static void run_begin(struct rvmrpc_vm *vm, struct turn *t)
{
	unsigned long tick = READ_ONCE(jiffies);

	turn_begin_at(vm, t, 0);
	t->now = vm->tick_now;
	t->coarse = vm->soon && tick - vm->tick <= 1;
	if (t->coarse && tick == vm->tick && !trace_rvmrpc_host_call_end_enabled())
		return;
	t->now = ktime_get_ns();
	vm->tick = tick;
	vm->tick_now = t->now;
}

/* Begins a call whose argument lies in its slot, and most often ends it. */
static u32 begin_in_place(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, struct turn *t, u64 timeout)
{
	struct rvmrpc_owner *o = &vm->owner;
	u32 slot = call->core.slot, status;

	call->core.deadline = t->now + timeout;
	/* It may have ended by its deadline, with its answer here by now. */
	if (unlikely(rvmrpc_owner_answered(o, slot)))
		take_answer(vm, slot, t);
	if (likely(intact(vm, t)) && o->proxy.slots[slot].state == RVMRPC_SLOT_FREE)
		rvmrpc_owner_awake_on(o, slot);
	status = rvmrpc_owner_run(o, &call->core, t->now);
	if (status != RVMRPC_STATUS_OK)
		return status;
	begun(vm, &call->core);
	posted(vm, t);
	vm->soon = !t->kick && call_spin_ns && answered_soon(vm, slot);
	if (vm->soon) {
		take_in_place(vm, slot, t);
	} else if (t->coarse) {
		t->now = ktime_get_ns();
		call->core.submitted = t->now;
		call->core.deadline = t->now + timeout;
	}
	return status;
}

static u32 begin_copying(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, struct turn *t)
{
	u32 status = submit(vm, call, t);

	if (status != RVMRPC_STATUS_OK)
		return status;
	begun(vm, &call->core);
	kref_get(&vm->mapped);
	if (!rvmrpc_proxy_pending(&vm->owner.proxy))
		reap(vm, t);
	if (queue_head(vm) == call)
		deliver_head(vm, t);
	pass_on(vm, t);
	return status;
}

/* All in one piece: returns are what costs most of the way of a call in a burst. */
__attribute__((__flatten__))
u32 rvmrpc_channel_run(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, u32 timeout_ms)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED, seq = 0;
	struct turn t;

	run_begin(vm, &t);
	if (vm->attached)
		status = begin_in_place(vm, call, &t, (u64)timeout_ms * NSEC_PER_MSEC);
	seq = vm->owner.seq[call->core.slot];
	turn_end(vm, &t);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (!has_ended(call))
		call_wait(vm, call, spin(vm, call, seq) ? t.now : 0);
	return call->core.status;
}

u32 rvmrpc_channel_call(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, u32 timeout_ms)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED, seq = 0;
	bool delivered;
	struct turn t;

	turn_begin(vm, &t);
	call->core.deadline = t.now + (u64)timeout_ms * NSEC_PER_MSEC;
	if (vm->attached)
		status = begin_copying(vm, call, &t);
	delivered = call->core.state == RVMRPC_CALL_DELIVERED;
	if (delivered)
		seq = vm->owner.seq[call->core.slot];
	turn_end(vm, &t);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (!has_ended(call))
		call_wait(vm, call, delivered && spin(vm, call, seq) ? t.now : 0);
	rvmrpc_vm_unmap(vm);
	return call->core.status;
}

u32 rvmrpc_channel_hold(struct rvmrpc_vm *vm, struct rvmrpc_call *call)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED;
	struct turn t;

	turn_begin(vm, &t);
	if (vm->attached) {
		reap(vm, &t);
		status = rvmrpc_proxy_hold(&vm->owner.proxy, call, t.now);
		if (status == RVMRPC_STATUS_OK)
			kref_get(&vm->mapped);
	}
	turn_end(vm, &t);
	return status;
}

u32 rvmrpc_channel_res_bytes(const struct rvmrpc_vm *vm)
{
	return vm->owner.config.layout.res_bytes;
}

void rvmrpc_channel_release(struct rvmrpc_vm *vm, struct rvmrpc_call *call)
{
	struct turn t;

	turn_begin(vm, &t);
	rvmrpc_proxy_release(&vm->owner.proxy, call);
	pass_on(vm, &t);
	turn_end(vm, &t);
	rvmrpc_vm_unmap(vm);
}

/* ---- A vCPU that waits (linux/rvmrpc_glue.h) ---- */

/* Lock held.  As rvmrpc_glue_main(). */
static int main_turn(struct rvmrpc_vm *vm, u64 epoch, u32 seen, u64 now)
{
	int ret;

	if (!vm->attached)
		return -ECONNRESET;
	switch (rvmrpc_owner_main(&vm->owner, epoch, seen)) {
	case RVMRPC_MAIN_TURN_POSTED:
		ret = 0;
		break;
	case RVMRPC_MAIN_TURN_WAIT:
		ret = -EAGAIN;
		break;
	default:
		return -ECONNRESET;
	}
	vm->owner.proxy.last_seen = now;
	return ret;
}

int rvmrpc_glue_main(struct rvmrpc_vm *vm, u64 epoch, u32 seen, struct rvmrpc_waiter *waiter)
{
	struct turn t;
	int ret;

	turn_begin(vm, &t);
	if (vm->attached)
		heard(vm, t.now);
	vm->vmlp = waiter;
	ret = main_turn(vm, epoch, seen, t.now);
	if (ret == -EAGAIN && waiter) {
		waiter->epoch = epoch;
		waiter->seen = seen;
		list_add_tail(&waiter->node, &vm->waiters);
	}
	turn_end(vm, &t);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_glue_main);

int rvmrpc_glue_leave(struct rvmrpc_vm *vm, struct rvmrpc_waiter *waiter)
{
	int ret;

	spin_lock(&vm->lock);
	list_del_init(&waiter->node);
	ret = main_turn(vm, waiter->epoch, waiter->seen, ktime_get_ns());
	spin_unlock(&vm->lock);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_glue_leave);

/* ---- Life ---- */

void rvmrpc_channel_prepare(struct rvmrpc_vm *vm)
{
	spin_lock_init(&vm->lock);
	INIT_LIST_HEAD(&vm->waiters);
	init_waitqueue_head(&vm->quiet);
	INIT_WORK(&vm->ring_work, ring_work);
	INIT_DELAYED_WORK(&vm->work, channel_work);
	vm->armed = NEVER;
	vm->again_at = NEVER;
}

void rvmrpc_channel_open(struct rvmrpc_vm *vm, const struct rvmrpc_owner_config *config, bool stopped)
{
	struct rvmrpc_owner_config full = *config;

	full.random = random63;
	spin_lock(&vm->lock);
	rvmrpc_owner_init(&vm->owner, vm->pin.base, (u64)vm->pin.npages << PAGE_SHIFT, &full, get_random_u32());
	vm->owner.proxy.stopped = stopped;
	vm->attached = true;
	/* The guest may sleep, and has to say hello. */
	vm->looked = RVMRPC_LOOK_KICK;
	arm(vm, 0, 0);
	spin_unlock(&vm->lock);
}

void rvmrpc_channel_close(struct rvmrpc_vm *vm)
{
	struct turn t;
	u64 count;

	/* From here on nobody is in rung(). */
	eventfd_ctx_remove_wait_queue(vm->doorbell, &vm->ring_wait, &count);
	turn_begin(vm, &t);
	hear(vm, &t);
	rvmrpc_owner_close(&vm->owner, RVMRPC_STATUS_NOT_CONNECTED, t.now, &t.done);
	vm->attached = false;
	t.kick = true;
	turn_end(vm, &t);
	spin_lock(&vm->lock);
	wait_event_cmd(vm->quiet, !vm->copying, spin_unlock(&vm->lock), spin_lock(&vm->lock));
	spin_unlock(&vm->lock);
	cancel_work_sync(&vm->ring_work);
	cancel_delayed_work_sync(&vm->work);
	tell_events(vm);
}

int rvmrpc_channel_notice(struct rvmrpc_vm *vm, unsigned long notice)
{
	struct rvmrpc_owner *o = &vm->owner;
	struct turn t;
	int ret = 0;

	turn_begin(vm, &t);
	switch (vm->attached ? notice : 0) {
	case RVMRPC_KVM_RUN:
	case RVMRPC_KVM_STOP:
		o->proxy.stopped = notice == RVMRPC_KVM_STOP;
		pass_on(vm, &t);
		break;
	case RVMRPC_KVM_RESET:
		if (o->proxy.epoch) {
			hear(vm, &t);
			rvmrpc_owner_close(o, RVMRPC_STATUS_RESET, t.now, &t.done);
			vm->looked |= RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK;
			arm(vm, 0, t.now);
		}
		break;
	default:
		ret = vm->attached ? -EINVAL : -ENOTCONN;
	}
	turn_end(vm, &t);
	return ret;
}

static void fill_stats(struct rvmrpc_kvm_status *s, const struct rvmrpc_stats *stats)
{
	BUILD_BUG_ON(sizeof(s->histogram) != sizeof(stats->histogram));
	s->calls = stats->calls;
	s->completed = stats->completed;
	s->failed = stats->failed;
	s->refused = stats->refused;
	s->timed_out = stats->timed_out;
	s->cancelled = stats->cancelled;
	s->reset = stats->reset;
	s->late_replies = stats->late_replies;
	s->bad_replies = stats->bad_replies;
	s->registrations = stats->registrations;
	s->kicks = stats->kicks;
	s->rekicks = stats->rekicks;
	s->lost = stats->lost;
	s->events = stats->events;
	s->events_lost = stats->events_lost;
	s->events_dropped = stats->events_dropped;
	memcpy(s->histogram, stats->histogram, sizeof(s->histogram));
}

void rvmrpc_channel_status(struct rvmrpc_vm *vm, struct rvmrpc_kvm_status *s)
{
	const struct rvmrpc_proxy *p = &vm->owner.proxy;
	struct turn t;

	memset(s, 0, sizeof(*s));
	turn_begin(vm, &t);
	s->epoch = p->epoch;
	s->last_seen_ns = p->last_seen ? t.now - p->last_seen : 0;
	s->os = p->os;
	s->abi = p->abi;
	s->nslots = p->nslots;
	s->in_flight = p->ncalls;
	s->silent = vm->silent;
	s->vmlp = vm->vmlp;
	s->stopped = p->stopped;
	memcpy(s->release, p->release, sizeof(s->release));
	s->rings = atomic64_read(&vm->rings);
	s->interrupts = vm->interrupts;
	fill_stats(s, &p->stats);
	turn_end(vm, &t);
}

int rvmrpc_channel_init(void)
{
	/* It allocates nothing, and who frees memory may wait for a call that it ends. */
	channel_wq = alloc_workqueue("rvmrpc_host", WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 0);
	return channel_wq ? 0 : -ENOMEM;
}

void rvmrpc_channel_exit(void)
{
	destroy_workqueue(channel_wq);
}
