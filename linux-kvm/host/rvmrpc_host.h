/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reverse VMRPC in the host's kernel: what this module's files share.
 *
 * client (call, file) -> channel -> core; vm and pin are below the channel.
 */
#ifndef RVMRPC_HOST_H
#define RVMRPC_HOST_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/poll.h>
#include <linux/rvmrpc.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/rvmrpc.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_owner.h"

struct rvmrpc_file;

/* ---- rvmrpc_events.c ---- */

#define RVMRPC_EVENTS_KEPT	64

/* What a guest told and somebody has not taken yet; its owner's lock.  All zero: empty. */
struct rvmrpc_events {
	u32 first, count;
	u64 missed;			/* that had no room since the last that was taken */
	struct rvmrpc_told told[RVMRPC_EVENTS_KEPT];
};

/* The oldest goes when there is no room. */
void rvmrpc_events_put(struct rvmrpc_events *events, const struct rvmrpc_told *told);
/* False: there is none. */
bool rvmrpc_events_take(struct rvmrpc_events *events, struct rvmrpc_told *told);
/* It was taken, and could not be given to anybody: it is the oldest again. */
void rvmrpc_events_put_back(struct rvmrpc_events *events, const struct rvmrpc_told *told);

/* One call of a client in this kernel, or of one with a file. */
struct rvmrpc_kcall {
	struct rvmrpc_call core;
	/*
	 * The thread that made the call and waits for it, or NULL.  It alone touches the argument, the answer, and, but for
	 * what vm->lock guards, this structure; so it can go at any time.
	 */
	struct task_struct *task;
	bool ended;			/* with a task; vm->lock to set, which is the last that others do with the call */
	void *res;			/* core.res_max bytes; with a task its memory */
	void (*done)(struct rvmrpc_kcall *call);	/* without a task: it has ended.  Any thread, must not sleep */
};

/* Memory of a VMM that is pinned and mapped.  Constant. */
struct rvmrpc_pin {
	struct page **pages;
	unsigned long npages;
	struct mm_struct *mm;		/* whose limit they count against; only the structure is referenced */
	void *base;
};

struct rvmrpc_vm {
	struct kref kref;		/* while somebody knows it */
	struct kref mapped;		/* while somebody uses its window */

	/* constant from attach on */
	u64 id;
	uuid_t uuid;
	char name[RVMRPC_VM_NAME_SIZE];
	struct pid *pid;
	kuid_t uid;
	struct rvmrpc_file *file;	/* the VMM's; referenced */
	struct rvmrpc_pin pin;
	const struct rvmrpc_glue *glue;	/* NULL: it was attached without a token */
	void *binding;			/* the glue's */
	struct file *doorbell_file, *interrupt_file;	/* until it is detached, as the next */
	struct eventfd_ctx *doorbell;
	struct eventfd_ctx *interrupt;	/* as long as somebody knows it: signalled without the lock */
	u32 spin_us;			/* most that the guest may */

	struct list_head list;		/* vms_lock */
	struct list_head told;		/* notify_lock */
	struct work_struct tell_attached, tell_detached, tell_events;
	spinlock_t events_lock;		/* leaf */
	struct rvmrpc_events events;	/* for notifiers; events_lock */
	wait_queue_entry_t ring_wait;	/* on the doorbell */
	poll_table ring_table;		/* while that is being put there */
	struct work_struct ring_work;	/* a ring that found the lock taken */
	wait_queue_head_t quiet;	/* copying has become 0 */
	struct delayed_work work;	/* all that no thread of a client's does */

	/* Outside the scheduler's and the workqueue's; the doorbell's callback only tries it. */
	spinlock_t lock;
	/* all below: lock */
	bool attached;			/* the window is ours */
	struct list_head waiters;	/* struct rvmrpc_waiter */
	bool vmlp;			/* the last RVMRPC_MAIN would have waited */
	struct rvmrpc_owner owner;
	unsigned int copying;		/* threads that copy payloads without the lock */
	u64 armed;			/* ns, when the work runs; 0: it is queued */
	u64 next_look;			/* ns, as those below */
	u64 hail_at;			/* a guest that says hello too often, or in vain, is not listened to before */
	u64 again_at;
	u64 again_ns;
	u64 last_answer;
	bool soon;			/* it came while its caller looked for it */
	unsigned long tick;		/* jiffies, at */
	u64 tick_now;			/* ns */
	u64 next_probe;
	u32 guest_spin_us;
	u32 looked;			/* RVMRPC_LOOK_*, not told yet */
	bool stuck;			/* it was told */
	bool silent;
	bool probing;
	struct rvmrpc_kcall probe;
	u64 interrupts;
	struct rvmrpc_events heard;	/* taken from the window, not told on */

	atomic64_t rings;
};

/* ---- rvmrpc_pin.c ---- */

/* Pins and maps memory of current->mm.  -errno.  Process context. */
int rvmrpc_pin(struct rvmrpc_pin *pin, u64 address, u64 bytes);
void rvmrpc_unpin(struct rvmrpc_pin *pin);
/* Some of it is not what the VMM and its guest have there any more: discarded, as by a balloon.  Process context. */
bool rvmrpc_pin_torn(const struct rvmrpc_pin *pin);

/* ---- rvmrpc_channel.c ---- */

int rvmrpc_channel_init(void);
void rvmrpc_channel_exit(void);

void rvmrpc_channel_prepare(struct rvmrpc_vm *vm);
/* Takes the window; @vm is filled in otherwise.  Process context, as all to rvmrpc_channel_status(). */
void rvmrpc_channel_open(struct rvmrpc_vm *vm, const struct rvmrpc_owner_config *config, bool stopped);
/* -errno: it cannot hear the doorbell. */
int rvmrpc_channel_listen(struct rvmrpc_vm *vm);
/* Gives the window up: what is under way ends, and no thread writes to it any more. */
void rvmrpc_channel_close(struct rvmrpc_vm *vm);
int rvmrpc_channel_notice(struct rvmrpc_vm *vm, unsigned long notice);
void rvmrpc_channel_status(struct rvmrpc_vm *vm, struct rvmrpc_kvm_status *status);

/* Without a task.  OK: done() will be called.  Else refused with RVMRPC_STATUS_*.  May sleep. */
u32 rvmrpc_channel_submit(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call);
void rvmrpc_channel_cancel(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call);

/* With a task, the caller's: waits for the end.  The status. */
u32 rvmrpc_channel_call(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, u32 timeout_ms);
/* The same with a call in place, in a slot that it holds. */
u32 rvmrpc_channel_run(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call, u32 timeout_ms);
/* Bytes beyond which no answer comes. */
u32 rvmrpc_channel_res_bytes(const struct rvmrpc_vm *vm);
/* Holds a slot, and the window, until release(). */
u32 rvmrpc_channel_hold(struct rvmrpc_vm *vm, struct rvmrpc_call *call);
void rvmrpc_channel_release(struct rvmrpc_vm *vm, struct rvmrpc_call *call);

/* ---- rvmrpc_vm.c ---- */

int rvmrpc_vm_init(void);
void rvmrpc_vm_exit(void);

/* -errno, or a VM that rvmrpc_vm_detach() ends.  Process context. */
struct rvmrpc_vm *rvmrpc_vm_attach(const struct rvmrpc_vm_attach *attach, struct rvmrpc_file *file);
void rvmrpc_vm_detach(struct rvmrpc_vm *vm);
/* Somebody uses its window, from a time on when it was known to be there. */
void rvmrpc_vm_unmap(struct rvmrpc_vm *vm);
/* Tells notifiers, in their own time.  Process context, in order of the VM's events. */
void rvmrpc_vm_event(struct rvmrpc_vm *vm, const struct rvmrpc_told *told);
/* Asks all VMMs to take their windows back, and refuses new ones while it is so. */
void rvmrpc_vm_refuse(bool refuse);
bool rvmrpc_vm_refused(void);

/* ---- rvmrpc_file.c ---- */

int rvmrpc_file_init(void);
void rvmrpc_file_exit(void);
void rvmrpc_file_get(struct rvmrpc_file *file);
void rvmrpc_file_put(struct rvmrpc_file *file);
/* Any thread that holds no lock. */
void rvmrpc_file_event(struct rvmrpc_file *file, u32 type, u32 why);
void rvmrpc_file_told(struct rvmrpc_file *file, const struct rvmrpc_told *told);

#endif /* RVMRPC_HOST_H */
