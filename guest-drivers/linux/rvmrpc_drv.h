/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inside of rvmrpc.ko.
 *
 * Threads: one server thread per device takes the host's requests and runs what never sleeps; workers run the rest.
 * Requests come by the window, RAM of the host that both sides map.  A gate, where there is one, is for VMRPC and to wait
 * in the host.
 */
#ifndef RVMRPC_DRV_H
#define RVMRPC_DRV_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/refcount.h>
#include <linux/suspend.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "rvmrpc.h"
#include "rvmrpc_builtin.h"
#include "rvmrpc_care.h"
#include "rvmrpc_guest.h"
#include "rvmrpc_lists.h"
#include "rvmrpc_records.h"
#include "rvmrpc_tell.h"

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
	struct device *dev;		/* which reads the frames; fixed, as regs */
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
	RVMRPC_CNT_RINGS,		/* doorbells of the window */
	RVMRPC_CNT_SPINS,		/* requests that came while the server spun */
	RVMRPC_CNT_WATCHDOG,
	RVMRPC_CNT_EVENTS,		/* told */
	RVMRPC_CNT_ERRORS,		/* other gate codes */
	RVMRPC_CNT_MAX
};

#define RVMRPC_KICKED		0	/* bit of rvmrpc_dev.kicked */

/* The server thread's end; who asks for it may take that back until the thread has agreed. */
enum rvmrpc_stop {
	RVMRPC_STOP_NOT,
	RVMRPC_STOP_ASKED,
	RVMRPC_STOP_AGREED,
};

struct rvmrpc_job;

/* Where a request came from, as far as its judgement needs it. */
struct rvmrpc_origin {
	u64 epoch;
	u32 req_bytes;
	u16 abi;
};

/* See rvmrpc_window.c for the mapping, rvmrpc_serve.c for the calls, rvmrpc_jobs.c for the workers. */
struct rvmrpc_window_dev {
	void __iomem *ring;		/* register of the doorbell; all four from probe to remove */
	void *base;
	bool write_back;		/* how base is mapped */
	bool vmapped;			/* by vmap_pfn(), else by memremap() */
	u32 doorbell;			/* what the host wants to be written to the register */

	/* The server thread's own; others while it does not run. */
	struct rvmrpc_guest guest;
	struct rvmrpc_origin origin;	/* of what comes in this epoch */
	struct rvmrpc_taken taken;	/* the request at hand; here, since the stack is zeroed at each entry */
	struct rvmrpc_accepted call;
	void *arg;			/* the copy of its argument, of what runs in this thread; NULL: no memory */
	u32 arg_bytes;
	struct rvmrpc_job *jobs[RVMRPC_SLOTS_MAX];	/* NULL: no memory, or left to a worker of an old epoch */
	u32 spin_us;			/* how long it spins at present */
	bool waits;			/* it has waited since the last request */
	ktime_t waits_since;		/* from when on, if it spins at all */
	u64 steal;			/* this CPU's stolen time in ns at the last look */
	ktime_t steal_at;		/* when that was */
	unsigned long check;		/* jiffies of the next look at our own words */
	struct rvmrpc_retry retry;
	unsigned int hello_ms;		/* how long the next answer to the hello is waited for */
	bool ring_due;			/* an answer was not rung for yet */

	struct rvmrpc_teller teller;	/* the server thread writes it */
	atomic64_t told;		/* number of the last event of this epoch */
};

/* The wait in the host, rvmrpc_vmlp.c; the server thread's own. */
struct rvmrpc_vmlp {
	struct rvmrpc_frame *frame;	/* fixed by probe */
	bool bound;			/* any thread may read it */
	u32 handle;
	u64 op;				/* RVMRPC_OP_PERFORM with the space of the server */
	unsigned int quick;		/* waits in a row that ended at once, no request */
	ktime_t again_at;		/* the last one that no request ended */
	ktime_t last_call;
};

struct rvmrpc_dev {
	struct pci_dev *pdev;
	struct rvmrpc_window_dev w;
	struct rvmrpc_gate gate;	/* regs NULL: ivshmem has none */
	struct rvmrpc_vmlp vmlp;
	bool has_irq;			/* fixed by probe */
	wait_queue_head_t wake;
	unsigned long kicked;		/* atomic bits: the interrupt, a changed parameter */
	int stop;			/* enum rvmrpc_stop, by cmpxchg() while the thread runs */
	struct completion stopped;	/* the server thread has left its loop */
	struct task_struct *thread;	/* probe, remove, suspend, resume, shutdown: never at once */

	/* The server thread's own; others while it does not run. */
	bool leave;			/* core.exit was called: until unbind */
	int bound_cpu;
	struct cpumask cpus;		/* what the kernel lets a thread of its own run on */

	/* Written by the server thread, read by sysfs. */
	enum rvmrpc_state state;
	u64 epoch;
	u32 nslots;
};

int rvmrpc_server_start(struct rvmrpc_dev *rdev);
int rvmrpc_server_stop(struct rvmrpc_dev *rdev, unsigned int ms);
void rvmrpc_server_kick(struct rvmrpc_dev *rdev);
void rvmrpc_server_kick_all(void);
void rvmrpc_set_state(struct rvmrpc_dev *rdev, enum rvmrpc_state state, u64 epoch, u32 nslots);
bool rvmrpc_sleep(struct rvmrpc_dev *rdev, unsigned int ms);
void rvmrpc_pause(struct rvmrpc_dev *rdev, unsigned int ms);
int rvmrpc_watchdog_ms(void);
extern const struct kernel_param_ops rvmrpc_kicking_int_ops;
struct rvmrpc_dev *rvmrpc_server_self(void);

#define RVMRPC_STOP_MS		2000	/* what a procedure may hold up reboot and suspend */
#define RVMRPC_SELF_CHECK_MS	5000	/* longest sleep, for an interrupt that was lost */
#define RVMRPC_NO_IRQ_POLL_MS	10
#define RVMRPC_CROWDED_MS	20	/* with vmlp_idle_us=-1, when others ran on the CPU */
#define RVMRPC_BUSY_CHECK_MS	500	/* longest sleep while the watchdog may be needed */

/* ---- rvmrpc_window.c ---- */

void rvmrpc_window_show(struct pci_dev *pdev, u16 *command);
void rvmrpc_window_hide(struct pci_dev *pdev, u16 command);
bool rvmrpc_window_wanted(struct pci_dev *pdev);
int rvmrpc_window_map(struct rvmrpc_dev *rdev);
void rvmrpc_window_unmap(struct rvmrpc_dev *rdev);
void rvmrpc_window_ring(struct rvmrpc_dev *rdev);

static inline bool rvmrpc_is_ivshmem(const struct pci_dev *pdev)
{
	return pdev->device == RVMRPC_IVSHMEM_DEVICE;
}

/* ---- rvmrpc_serve.c: the server thread calls all but the last ---- */

void rvmrpc_window_connect(struct rvmrpc_dev *rdev);	/* says hello; waits with back-off */
void rvmrpc_window_turn(struct rvmrpc_dev *rdev);	/* takes requests, or waits for one */
void rvmrpc_window_leave(struct rvmrpc_dev *rdev);	/* says farewell */
void rvmrpc_window_drop(struct rvmrpc_dev *rdev);	/* forgets the epoch; its workers go on without it */
const char *rvmrpc_wait_mode(const struct rvmrpc_dev *rdev);

/* ---- rvmrpc_events.c, event_sources.c ---- */

void rvmrpc_events_attach(struct rvmrpc_dev *rdev);
void rvmrpc_events_detach(void);
void rvmrpc_events_open(struct rvmrpc_dev *rdev);
void rvmrpc_events_close(struct rvmrpc_dev *rdev);
/* An event; then its fields, then send(). */
void rvmrpc_event_new(struct rvmrpc_event_writer *e, u32 module, u16 kind);
bool rvmrpc_event_send(struct rvmrpc_event_writer *e);

int rvmrpc_event_sources_init(void);
void rvmrpc_event_sources_exit(void);
void rvmrpc_event_sources_beat(void);	/* the server thread's, every 5 s */
/* Any context.  The name of the function with that address, or "?"; returns its length. */
size_t rvmrpc_function(unsigned long address, char *name, size_t size);

/* ---- rvmrpc_vmlp.c ---- */

void rvmrpc_vmlp_bind(struct rvmrpc_dev *rdev);
bool rvmrpc_vmlp_wait(struct rvmrpc_dev *rdev);
bool rvmrpc_vmlp_follows(const struct rvmrpc_dev *rdev);
void rvmrpc_vmlp_called(struct rvmrpc_dev *rdev);
void rvmrpc_vmlp_slept(struct rvmrpc_dev *rdev);
bool rvmrpc_vmlp_always(const struct rvmrpc_dev *rdev);
const char *rvmrpc_vmlp_mode(const struct rvmrpc_dev *rdev);

/* ---- rvmrpc_pages.c ---- */

struct rvmrpc_pages *rvmrpc_pages_alloc(u32 bytes);
ssize_t rvmrpc_pages_read(struct rvmrpc_pages *pages, struct file *file, loff_t offset, u32 at, u32 length);
void rvmrpc_pages_copy(const struct rvmrpc_pages *pages, void *res, u32 length);
u32 rvmrpc_pages_begin(const struct rvmrpc_pages *pages, u32 length);
void rvmrpc_pages_put(struct rvmrpc_pages *pages);

/* ---- rvmrpc_jobs.c ---- */

void rvmrpc_jobs_prepare(struct rvmrpc_dev *rdev);
void rvmrpc_jobs_retire(struct rvmrpc_dev *rdev);
void rvmrpc_jobs_free(struct rvmrpc_dev *rdev);
bool rvmrpc_jobs_give(struct rvmrpc_dev *rdev, const struct rvmrpc_taken *taken,
		      const struct rvmrpc_accepted *call, struct module *owner);
bool rvmrpc_jobs_busy(const struct rvmrpc_dev *rdev);
bool rvmrpc_jobs_settled(const struct rvmrpc_dev *rdev);
bool rvmrpc_jobs_stuck(const struct rvmrpc_dev *rdev, int grace_ms);
void rvmrpc_jobs_forget(struct rvmrpc_dev *rdev);
void rvmrpc_jobs_cancel(struct rvmrpc_dev *rdev, u64 xid);
bool rvmrpc_jobs_hold(void);
void rvmrpc_jobs_let_go(void);

/* Those left to hanging procedures, too; beyond it slots go without a worker until one of them ends. */
#define RVMRPC_JOBS_MAX		RVMRPC_SLOTS_MAX

extern struct workqueue_struct *rvmrpc_workers;
extern atomic_t rvmrpc_abandoned;	/* jobs */
extern atomic64_t rvmrpc_counters[RVMRPC_CNT_MAX];

static inline void rvmrpc_count(enum rvmrpc_counter counter)
{
	atomic64_inc(&rvmrpc_counters[counter]);
}

/* For counters that the server thread alone writes: no locked instruction on the way of a call. */
static inline void rvmrpc_count_own(enum rvmrpc_counter counter)
{
	atomic64_set(&rvmrpc_counters[counter], atomic64_read(&rvmrpc_counters[counter]) + 1);
}

/* ---- rvmrpc_user.c: programs that serve ---- */

int rvmrpc_user_init(void);
void rvmrpc_user_exit(void);
void rvmrpc_user_epoch(u32 workers);
void rvmrpc_user_cancel(u64 xid);

/* ---- mod_connect.c: the guest's connections for its host ---- */

void rvmrpc_connect_epoch(u32 workers);
void rvmrpc_connect_cancel(u64 xid);

/* Of what a PM notifier is told: before what runs is frozen. */
static inline bool rvmrpc_pm_sleeps(unsigned long event)
{
	return event == PM_SUSPEND_PREPARE || event == PM_HIBERNATION_PREPARE || event == PM_RESTORE_PREPARE;
}

/* ---- rvmrpc_registry.c ---- */

extern struct rvmrpc_server rvmrpc_registry;	/* rvmrpc_registry_lock */
extern struct mutex rvmrpc_registry_lock;

int rvmrpc_builtin_add(struct rvmrpc_module *module);
void rvmrpc_builtin_remove(struct rvmrpc_module *module);
int rvmrpc_status_errno(int status);	/* of what the registry says */
void rvmrpc_registry_new_epoch(u64 epoch);
/*
 * What was found lately, so that the way of a call takes no lock: the server thread's own.  Only of our own modules,
 * which stay until no server thread runs.  A foreign one may go at any time: it is held and counted under the lock, and
 * its entry has no module.
 */
extern struct rvmrpc_lookup rvmrpc_lookups[16];

bool rvmrpc_registry_accept_slow(const struct rvmrpc_origin *origin, const struct rvmrpc_hdr *hdr,
				 struct rvmrpc_lookup *l, struct rvmrpc_accepted *call, struct module **owner);
void rvmrpc_registry_done(struct rvmrpc_accepted *call, struct module *owner);

/*
 * Judges a request.  On true *call is set, and if its status is OK the owner of the procedure is held until
 * rvmrpc_registry_done().  Server thread.
 */
static inline bool rvmrpc_registry_accept(const struct rvmrpc_origin *origin, const struct rvmrpc_hdr *hdr,
					  struct rvmrpc_accepted *call, struct module **owner)
{
	struct rvmrpc_lookup *l = &rvmrpc_lookups[(4 * hdr->module + hdr->procedure) % ARRAY_SIZE(rvmrpc_lookups)];

	if (l->generation != READ_ONCE(rvmrpc_registry.generation) || l->number != hdr->module ||
	    l->procedure != hdr->procedure || !l->module)
		return rvmrpc_registry_accept_slow(origin, hdr, l, call, owner);
	*owner = NULL;
	return rvmrpc_server_judge(l, hdr, origin->epoch, origin->abi, origin->req_bytes, call);
}

/* ---- procfile.c: files of an own mount of proc ---- */

/* Opened once, read many times; for one thread at a time (lock). */
struct rvmrpc_procfile {
	const char *path;		/* below /proc */
	bool optional;			/* not every kernel has it */
	struct file *file;		/* NULL: this kernel does not */
};

int rvmrpc_proc_init(void);
void rvmrpc_proc_exit(void);
struct file *rvmrpc_proc_open(const char *path, int flags);
ssize_t rvmrpc_proc_read(struct file *file, const char *path, char *buf, size_t size, loff_t pos);
int rvmrpc_procfile_open(struct rvmrpc_procfile *pf, char *buf, size_t size);
void rvmrpc_procfile_close(struct rvmrpc_procfile *pf);

/* ---- mounts.c: what the first process has mounted; workers ---- */

struct rvmrpc_mount;	/* mounts_text.h */

/* A mount, and what it leads to; false ends the walk. */
typedef bool (*rvmrpc_mount_fn)(const struct rvmrpc_mount *mount, void *data);

/* IDs of remote mounts, and of those below them; zero before a walk. */
struct rvmrpc_mount_remotes {
	u64 id[64];
	u32 n;
};

enum rvmrpc_mount_kind {
	RVMRPC_MOUNT_OTHER,		/* holds no data: proc, tmpfs */
	RVMRPC_MOUNT_DATA,
	RVMRPC_MOUNT_REMOTE,		/* a server or a process would have to answer */
	RVMRPC_MOUNT_BELOW,		/* holds data, on a remote one */
};

enum rvmrpc_mount_kind rvmrpc_mount_kind(struct rvmrpc_mount_remotes *remotes, const struct rvmrpc_mount *mount);
int rvmrpc_mounts_walk(rvmrpc_mount_fn fn, void *data);
int rvmrpc_mount_path(const struct rvmrpc_mount *mount, struct path *path);
int rvmrpc_mounts_root(struct path *root);

/* ---- Built-in modules ---- */

int rvmrpc_mod_core_init(void);
void rvmrpc_mod_core_exit(void);
int rvmrpc_mod_sysinfo_init(void);
void rvmrpc_mod_sysinfo_exit(void);
int rvmrpc_mod_reclaim_init(void);
void rvmrpc_mod_reclaim_exit(void);
int rvmrpc_mod_procfs_init(void);
void rvmrpc_mod_procfs_exit(void);
int rvmrpc_mod_pressure_init(void);
void rvmrpc_mod_pressure_exit(void);
int rvmrpc_mod_tasks_init(void);
void rvmrpc_mod_tasks_exit(void);
int rvmrpc_mod_klog_init(void);
void rvmrpc_mod_klog_exit(void);
int rvmrpc_mod_fs_init(void);
void rvmrpc_mod_fs_exit(void);
int rvmrpc_mod_net_init(void);
void rvmrpc_mod_net_exit(void);
int rvmrpc_mod_clock_init(void);
void rvmrpc_mod_clock_exit(void);
int rvmrpc_mod_control_init(void);
void rvmrpc_mod_control_exit(void);
int rvmrpc_mod_freeze_init(void);
void rvmrpc_mod_freeze_exit(void);
int rvmrpc_mod_files_init(void);
void rvmrpc_files_epoch(u32 workers);
void rvmrpc_mod_files_exit(void);
int rvmrpc_mod_connect_init(void);
void rvmrpc_mod_connect_exit(void);
int rvmrpc_mod_vmcoreinfo_init(void);
void rvmrpc_mod_vmcoreinfo_exit(void);

/* ---- rvmrpc_sysfs.c ---- */

extern const struct attribute_group *rvmrpc_dev_groups[];

#endif /* RVMRPC_DRV_H */
