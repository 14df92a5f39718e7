/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inside of rvmrpc.ko.
 *
 * Threads: one server thread per device polls the host and runs what never sleeps; workers run the
 * rest.  A session is one registration with the host (one epoch); it lives until its last worker ends.
 */
#ifndef RVMRPC_DRV_H
#define RVMRPC_DRV_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "rvmrpc.h"
#include "rvmrpc_builtin.h"

/* ---- rvmrpc_gate.c ---- */

enum rvmrpc_gate_kind {
	RVMRPC_GATE_KIND_NONE,
	RVMRPC_GATE_KIND_HYPERCALL,
	RVMRPC_GATE_KIND_DOORBELL,
};

/* Not on the wire: no gate answers. */
#define RVMRPC_GATE_NONE	0xffffffffu

struct rvmrpc_gate {
	void __iomem *regs;
	struct mutex choose_lock;	/* one thread tries gates */
	struct rvmrpc_frame *frame;	/* for trying; choose_lock */
	u32 number;			/* for EAX; choose_lock to write, any to read */
	u32 features;			/* likewise */
	enum rvmrpc_gate_kind kind;	/* likewise */
};

int rvmrpc_gate_init(struct rvmrpc_gate *gate, struct pci_dev *pdev, void __iomem *regs);
enum rvmrpc_gate_kind rvmrpc_gate_choose(struct rvmrpc_gate *gate);
u32 rvmrpc_gate_call(struct rvmrpc_gate *gate, struct rvmrpc_frame *frame, u64 op, u64 a0, u64 a1,
		     u64 a2);
int rvmrpc_gate_errno(u32 answer);
bool rvmrpc_gate_waits(const struct rvmrpc_gate *gate);

/* For threads that do not own the device. */
void rvmrpc_gate_publish(struct rvmrpc_gate *gate);
void rvmrpc_gate_withdraw(void);
u32 rvmrpc_gate_call_published(struct rvmrpc_frame *frame, u64 op, u64 a0, u64 a1, u64 a2);

/* ---- rvmrpc_session.c ---- */

struct rvmrpc_session;

struct rvmrpc_slot {
	struct rvmrpc_session *session;
	void *request;			/* vmalloc'ed, shared with the host */
	void *response;
	struct rvmrpc_frame *frame;	/* the worker's */
	struct work_struct work;
	struct rvmrpc_accepted call;	/* server thread, then the worker once it is queued */
	struct module *owner;		/* held while the call runs; as call */
	unsigned long deadline;		/* of the call, in jiffies; server thread */
	bool busy;			/* with a worker; set by the server thread, cleared by the worker */
	bool cancelled;			/* set by the server thread, read by the worker */
};

struct rvmrpc_session {
	refcount_t refs;		/* the device's and one per busy slot */
	bool dead;			/* set by the server thread: the epoch is over, replies are not sent */
	bool abandoned;			/* server thread, before its last reference */
	u64 epoch;			/* fixed while a slot is busy, as all below */
	u64 op;				/* RVMRPC_OP_PERFORM with the space of the proxy */
	u32 handle;
	u16 abi;
	u32 nslots;			/* in use; at most nalloc */
	u32 nalloc;
	u32 req_pages;
	u32 res_pages;
	struct rvmrpc_frame *frames;	/* a page: one per slot */
	struct rvmrpc_slot slots[];
};

/* Sessions left behind with stuck procedures; beyond it the driver waits for one of them to end. */
#define RVMRPC_ABANDONED_MAX	4

struct rvmrpc_dev;

int rvmrpc_session_connect(struct rvmrpc_dev *rdev);
void rvmrpc_session_retire(struct rvmrpc_dev *rdev);
void rvmrpc_session_leave(struct rvmrpc_dev *rdev);
void rvmrpc_session_drop(struct rvmrpc_dev *rdev);
void rvmrpc_session_get(struct rvmrpc_session *session);
void rvmrpc_session_put(struct rvmrpc_session *session);
bool rvmrpc_session_stuck(const struct rvmrpc_session *session);
bool rvmrpc_session_busy(const struct rvmrpc_session *session);

/* ---- rvmrpc_main.c, rvmrpc_thread.c ---- */

enum rvmrpc_state {
	RVMRPC_STATE_STOPPED,		/* no server thread: suspended, or going away */
	RVMRPC_STATE_DISCONNECTED,
	RVMRPC_STATE_CONNECTED,
	RVMRPC_STATE_LEFT,		/* the host asked the server to leave */
};

enum rvmrpc_counter {
	RVMRPC_CNT_CALLS,		/* accepted or refused */
	RVMRPC_CNT_REFUSED,
	RVMRPC_CNT_WORKERS,		/* calls that went to a worker */
	RVMRPC_CNT_POLLS,
	RVMRPC_CNT_WAITS,		/* polls that waited in the host */
	RVMRPC_CNT_SLEEPS,
	RVMRPC_CNT_INTERRUPTS,
	RVMRPC_CNT_CONNECTS,
	RVMRPC_CNT_RESETS,		/* ends of an epoch that the host said */
	RVMRPC_CNT_LATE,		/* replies whose epoch was over */
	RVMRPC_CNT_MALFORMED,		/* requests that got no answer */
	RVMRPC_CNT_WATCHDOG,
	RVMRPC_CNT_ERRORS,		/* other gate codes */
	RVMRPC_CNT_MAX
};

#define RVMRPC_KICKED		0	/* bit of rvmrpc_dev.kicked */

struct rvmrpc_dev {
	struct pci_dev *pdev;
	struct rvmrpc_gate gate;
	bool has_irq;			/* fixed by probe */
	wait_queue_head_t wake;
	unsigned long kicked;		/* atomic bits: the interrupt, a changed parameter */
	bool stop;			/* set by whoever stops the server thread, read by it */
	struct completion stopped;	/* the server thread has left its loop */
	struct task_struct *thread;	/* probe, remove, suspend, resume, shutdown: never at once */

	/* The server thread's own; others while it does not run. */
	struct rvmrpc_frame *frame;
	struct rvmrpc_session *session;
	u32 reply_slot;			/* whose response the next poll brings, or RVMRPC_SLOT_NONE */
	bool leave;			/* core.exit was called */
	ktime_t last_call;
	unsigned int quick;		/* waits in a row that ended at once */
	unsigned int backoff_ms;
	int bound_cpu;

	/* Written by the server thread, read by sysfs. */
	enum rvmrpc_state state;
	u64 epoch;
	u32 nslots;
};

int rvmrpc_server_start(struct rvmrpc_dev *rdev);
void rvmrpc_server_stop(struct rvmrpc_dev *rdev);
void rvmrpc_server_kick(struct rvmrpc_dev *rdev);
void rvmrpc_server_kick_all(void);
const char *rvmrpc_wait_mode(const struct rvmrpc_dev *rdev);
void rvmrpc_worker(struct work_struct *work);
struct rvmrpc_dev *rvmrpc_server_self(void);

extern struct workqueue_struct *rvmrpc_workers;
extern atomic_t rvmrpc_abandoned;	/* sessions */
extern atomic64_t rvmrpc_counters[RVMRPC_CNT_MAX];

static inline void rvmrpc_count(enum rvmrpc_counter counter)
{
	atomic64_inc(&rvmrpc_counters[counter]);
}

/* ---- rvmrpc_registry.c ---- */

extern struct rvmrpc_server rvmrpc_registry;	/* rvmrpc_registry_lock */
extern struct mutex rvmrpc_registry_lock;

int rvmrpc_builtin_add(struct rvmrpc_module *module);
void rvmrpc_builtin_remove(struct rvmrpc_module *module);
bool rvmrpc_registry_accept(const struct rvmrpc_session *session, const struct rvmrpc_hdr *hdr,
			    struct rvmrpc_slot *slot);
void rvmrpc_registry_done(struct rvmrpc_slot *slot);

/* ---- procfile.c: files of an own mount of proc ---- */

/* Opened once, read many times; for one thread at a time (lock). */
struct rvmrpc_procfile {
	const char *path;		/* below /proc */
	struct file *file;
};

int rvmrpc_proc_init(void);
void rvmrpc_proc_exit(void);
struct file *rvmrpc_proc_open(const char *path, int flags);
ssize_t rvmrpc_proc_read(struct file *file, const char *path, char *buf, size_t size);
int rvmrpc_procfile_open(struct rvmrpc_procfile *pf, char *buf, size_t size);
void rvmrpc_procfile_close(struct rvmrpc_procfile *pf);

/* ---- Built-in modules ---- */

int rvmrpc_mod_core_init(void);
void rvmrpc_mod_core_exit(void);
int rvmrpc_mod_sysinfo_init(void);
void rvmrpc_mod_sysinfo_exit(void);
int rvmrpc_mod_reclaim_init(void);
void rvmrpc_mod_reclaim_exit(void);
int rvmrpc_mod_procfs_init(void);
void rvmrpc_mod_procfs_exit(void);

/* ---- rvmrpc_sysfs.c ---- */

extern const struct attribute_group *rvmrpc_dev_groups[];

#endif /* RVMRPC_DRV_H */
