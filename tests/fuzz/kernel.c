/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rvmrpc_channel.c of the host's kernel, with clients, VMM, vCPU and works that run step by step in the order that the input
 * says, while time goes on when it says so.  The guest is a good one, by the core's own half, or writes what the input says.
 * Whatever happens every call ends once, in time, and nothing stays behind; and a good guest answers each, at once.
 */
#define HOST_KERNEL_TASKS
#include "../unit/host-kernel.h"
#include "kernel-tasks.h"
#include "host-channel.h"	/* rvmrpc_channel.c, rvmrpc_events.c and their headers (harnesses.sh) */
#include "rvmrpc_guest.h"
#include "rvmrpc_tell.h"

#define NCALLS		80	/* more than a VM may have */
#define NVMS		4
#define MODULE		0x77

enum { CLIENTS, VMM = 3, VCPU, GUEST, WORKERS };

/* A VM's window and what belongs to it, while anybody knows it. */
struct machine {
	struct rvmrpc_vm vm;
	struct eventfd_ctx doorbell, interrupt;
	struct file doorbell_file;
	wait_queue_entry_t interrupted;
	unsigned char *window;
	u64 bytes, since;
	u64 runs, most_runs;	/* of the work; without those that time allows */
	bool gone;		/* the VMM has it back, */
	u32 left;		/* and this was what the host had written */
};

struct call {
	struct rvmrpc_kcall k;
	struct machine *machine;
	u32 serial, refs, timeout_ms, excuses, resets;
	u64 jumped;
	bool over, cancelled;
};

struct job {
	u32 what, arglen, res_max, timeout_ms, n;
};

static struct {
	struct machine *machine;	/* that is attached */
	struct machine *all[NVMS];
	struct call *calls[NCALLS];
	struct job jobs[VMM];
	u32 vmm_does, serial;
	u32 size_class, nslots;
	bool good;			/* the guest is */
	bool frozen;			/* its vCPUs do not run */
	bool torn;			/* it sees other pages */
	bool lazy;			/* it answers later, */
	bool answers;			/* now */
	u32 excuses, resets;		/* calls may last, or end so; these count what begins and what ends */
	bool resetting;
	struct rvmrpc_guest guest;
	struct rvmrpc_taken deferred[RVMRPC_SLOTS_MAX];
	u32 ndeferred;
	struct rvmrpc_teller teller;
	u64 told, nonce;
	u64 kept_bytes;			/* of the window, as it was left */
} h;

#define WINDOW_BYTES	0x100000	/* or less */

/* Not from the heap, or most of the time would go into its pages. */
static unsigned char windows[NVMS][WINDOW_BYTES] __attribute__((aligned(64))), kept[WINDOW_BYTES];

/* ---- What the module's other files have ---- */

void rvmrpc_file_told(struct rvmrpc_file *file, const struct rvmrpc_told *told)
{
	(void)file;
	CHECK(!current->locks && told->event.record.length <= RVMRPC_EVENT_RECORD_MAX);
	step();
}

void rvmrpc_file_event(struct rvmrpc_file *file, u32 type, u32 why)
{
	(void)file;
	(void)why;
	CHECK(!current->locks && (!h.good || type != RVMRPC_REC_STUCK || h.excuses));
	step();
}

void rvmrpc_vm_event(struct rvmrpc_vm *vm, const struct rvmrpc_told *told)
{
	(void)told;
	CHECK(!current->locks && vm->kref.n > 0);
	step();
}

bool rvmrpc_pin_torn(const struct rvmrpc_pin *pin)
{
	CHECK(!current->locks && pin->base);
	step();
	return h.torn;
}

static u32 host_words(const struct machine *m)
{
	const struct rvmrpc_layout *l = &m->vm.owner.config.layout;
	u32 sum = 0, i;

	for (i = 0; i < sizeof(struct rvmrpc_host_page); i++)
		sum = sum * 31 + m->window[i];
	for (i = 0; i < l->nslots * sizeof(struct rvmrpc_host_slot); i++)
		sum = sum * 31 + m->window[l->host_slots + i];
	return sum;
}

struct rvmrpc_vm *rvmrpc_vm_get(struct rvmrpc_vm *vm)
{
	CHECK(vm->kref.n > 0);
	vm->kref.n++;
	return vm;
}

void rvmrpc_vm_put(struct rvmrpc_vm *vm)
{
	struct machine *m = container_of(vm, struct machine, vm);
	u32 i;

	step();
	CHECK(vm->kref.n > 0);
	if (--vm->kref.n)
		return;
	CHECK(!vm->lock.owner && !vm->mapped.n && list_empty(&vm->waiters));
	CHECK(!vm->work.work.queued && !vm->work.work.running && !vm->ring_work.queued && !vm->ring_work.running);
	for (i = 0; i < NVMS; i++) {
		if (h.all[i] == m)
			h.all[i] = NULL;
	}
	free(m);
}

void rvmrpc_vm_unmap(struct rvmrpc_vm *vm)
{
	struct machine *m = container_of(vm, struct machine, vm);

	step();
	CHECK(vm->mapped.n > 0);
	if (--vm->mapped.n)
		return;
	/* What the VMM has back is written no more. */
	CHECK(m->gone && m->left == host_words(m));
	ASAN_POISON_MEMORY_REGION(m->window, m->bytes);
	m->window = NULL;
}

static struct machine *machine_get(void)
{
	if (h.machine)
		rvmrpc_vm_get(&h.machine->vm);
	return h.machine;
}

/* ---- Payloads that say whose they are ---- */

static void stamp(void *to, u32 bytes, u32 serial)
{
	memset(to, (int)(serial * 5 + 1), bytes);
	if (bytes >= sizeof(serial))
		memcpy(to, &serial, sizeof(serial));
}

static bool stamped(const void *data, u32 bytes, u32 serial)
{
	const unsigned char *b = data;
	u32 rest = sizeof(serial);

	if (bytes < sizeof(serial))
		return !bytes || b[0] == (unsigned char)(serial * 5 + 1);
	if (memcmp(b, &serial, sizeof(serial)))
		return false;
	return bytes == rest || (b[rest] == (unsigned char)(serial * 5 + 1) && !memcmp(b + rest, b + rest + 1, bytes - rest - 1));
}

/* Of a good guest's answer to that call. */
static u32 answer_bytes(u32 serial, u32 most)
{
	static const u32 bytes[] = { 0, 1, 8, 64, 512, 513, 1500, 2048 };

	return serial % 16 < 8 ? min(bytes[serial % 8], most) : serial % 16 == 15 ? most : 16;
}

/* ---- Calls ---- */

static struct call *call_new(struct machine *m, const struct job *job)
{
	struct call *c;
	u32 i = 0;

	while (i < NCALLS && h.calls[i])
		i++;
	if (i == NCALLS)
		return NULL;
	c = calloc(1, sizeof(*c));
	CHECK(c);
	h.calls[i] = c;
	rvmrpc_vm_get(&m->vm);
	c->machine = m;
	c->refs = 1;
	c->serial = ++h.serial;
	c->timeout_ms = job->timeout_ms;
	c->excuses = h.excuses;
	c->resets = h.resets;
	c->jumped = cpu.jumped;
	c->k.core.module = MODULE;
	c->k.core.procedure = c->serial;
	c->k.core.arglen = job->arglen;
	c->k.core.res_max = min(job->res_max, rvmrpc_channel_res_bytes(&m->vm));
	m->most_runs += 12;
	return c;
}

static void call_buffers(struct call *c)
{
	void *arg = malloc(c->k.core.arglen);

	c->k.res = malloc(c->k.core.res_max);
	CHECK(arg && c->k.res);
	stamp(arg, c->k.core.arglen, c->serial);
	c->k.core.arg = arg;
}

static void call_put(struct call *c)
{
	struct machine *m = c->machine;
	u32 i;

	if (--c->refs)
		return;
	for (i = 0; i < NCALLS; i++) {
		if (h.calls[i] == c)
			h.calls[i] = NULL;
	}
	free((void *)(uintptr_t)c->k.core.arg);
	free(c->k.res);
	free(c);
	rvmrpc_vm_put(&m->vm);
}

static bool excused(const struct call *c)
{
	return h.frozen || c->excuses != h.excuses || h.ndeferred || c->timeout_ms < 500 ||
	       cpu.jumped - c->jumped > 100 * NSEC_PER_MSEC;
}

/* What a good guest's call may have come to. */
static void check_good(const struct call *c, u32 status, const void *res)
{
	u32 most = c->machine->vm.owner.config.layout.res_bytes, bytes = answer_bytes(c->serial, most);

	switch (status) {
	case RVMRPC_STATUS_OK:
		CHECK(c->k.core.reslen == bytes && stamped(res, bytes, c->serial));
		break;
	case RVMRPC_STATUS_TOO_BIG:
		CHECK(c->k.core.arglen > c->machine->vm.owner.config.layout.req_bytes || bytes > c->k.core.res_max);
		break;
	case RVMRPC_STATUS_CANCELLED:
		CHECK(c->cancelled || current->killed);
		break;
	case RVMRPC_STATUS_TIMED_OUT:
		CHECK(excused(c));
		break;
	case RVMRPC_STATUS_RESET:
		CHECK(h.torn || h.resetting || h.guest.state == RVMRPC_GUEST_GREETED || c->resets != h.resets);
		break;
	default:
		CHECK(status == RVMRPC_STATUS_BUSY || status == RVMRPC_STATUS_NOT_CONNECTED || status == RVMRPC_STATUS_STOPPED);
		break;
	}
}

/* @begun: it was not refused. */
static void call_over(struct call *c, u32 status, bool begun, const void *res)
{
	const u64 late = 2 * TICK_NS + NSEC_PER_MSEC + cpu.jumped - c->jumped;

	CHECK(!c->over && status <= RVMRPC_STATUS_MAX);
	CHECK(!begun || now_ns <= c->k.core.deadline + late);
	CHECK(status != RVMRPC_STATUS_OK || c->k.core.reslen <= c->k.core.res_max);
	if (h.good)
		check_good(c, status, res);
	c->over = true;
}

static void call_done(struct rvmrpc_kcall *k)
{
	struct call *c = container_of(k, struct call, k);

	CHECK(!current->locks);
	call_over(c, k->core.status, true, k->res);
	call_put(c);
}

/* ---- Clients ---- */

static void client_calls(struct machine *m, const struct job *job)
{
	struct call *c = call_new(m, job);

	if (!c)
		return;
	call_buffers(c);
	c->k.task = current;
	call_over(c, rvmrpc_channel_call(&m->vm, &c->k, job->timeout_ms), true, c->k.res);
	call_put(c);
}

static void client_submits(struct machine *m, const struct job *job)
{
	struct call *c = call_new(m, job);
	u32 status;

	if (!c)
		return;
	call_buffers(c);
	c->k.done = call_done;
	c->k.core.deadline = ktime_get_ns() + job->timeout_ms * NSEC_PER_MSEC;
	status = rvmrpc_channel_submit(&m->vm, &c->k);
	if (status == RVMRPC_STATUS_OK)
		return;
	call_over(c, status, false, NULL);
	call_put(c);
}

static void client_holds(struct machine *m, const struct job *job)
{
	struct call *c = call_new(m, job);
	u32 i, status;

	if (!c)
		return;
	c->k.core.deadline = U64_MAX / 2;
	if (rvmrpc_channel_hold(&m->vm, &c->k.core) == RVMRPC_STATUS_OK) {
		c->k.task = current;
		c->k.core.res_max = rvmrpc_channel_res_bytes(&m->vm);
		for (i = 0; i <= job->n % 4; i++) {
			c->serial = c->k.core.procedure = ++h.serial;
			c->k.ended = c->over = false;
			c->k.core.deadline = U64_MAX / 2;
			c->jumped = cpu.jumped;
			c->excuses = h.excuses;
			stamp(rvmrpc_owner_req(&m->vm.owner, &c->k.core),
			      min(job->arglen, m->vm.owner.config.layout.req_bytes), c->serial);
			step();
			status = rvmrpc_channel_run(&m->vm, &c->k, job->timeout_ms);
			call_over(c, status, true, rvmrpc_owner_res(&m->vm.owner, &c->k.core));
		}
		rvmrpc_channel_release(&m->vm, &c->k.core);
	}
	call_put(c);
}

static void client_cancels(const struct job *job)
{
	struct call *c = h.calls[job->n % NCALLS];

	/* Of a thread's call only a signal is the end. */
	if (!c || c->k.task || c->k.core.in_place || !c->k.done)
		return;
	c->refs++;
	c->cancelled = true;
	rvmrpc_channel_cancel(&c->machine->vm, &c->k);
	call_put(c);
}

static void client_job(struct task_struct *task)
{
	const struct job *job = &h.jobs[task - cpu.tasks - CLIENTS];
	struct machine *m = machine_get();
	u32 i;

	if (!m)
		return;
	switch (job->what) {
	case 0:
		client_calls(m, job);
		break;
	case 1:
		/* Seldom so many that a quota is full. */
		for (i = job->n < 240 ? job->n % 4 : NCALLS; i + 1; i--)
			client_submits(m, job);
		break;
	case 2:
		client_holds(m, job);
		break;
	default:
		client_cancels(job);
		break;
	}
	rvmrpc_vm_put(&m->vm);
}

/* ---- The VMM ---- */

static int guest_interrupted(wait_queue_entry_t *entry, unsigned int mode, int sync, void *key)
{
	(void)entry;
	(void)mode;
	(void)sync;
	(void)key;
	cpu.tasks[GUEST].waits = false;
	return 0;
}

static struct machine *machine_new(struct rvmrpc_owner_config *config)
{
	static const struct { u64 bytes; u32 req, res; } sizes[] = {
		{ 0x20000, 1024, 2048 }, { 0x20000, 64, 64 }, { WINDOW_BYTES, 128 * 1024, 144 * 1024 },
	};
	u32 class = h.size_class >= 4 ? 0 : h.size_class % 3, i = 0;
	struct machine *m = calloc(1, sizeof(*m));

	CHECK(m);
	while (i < NVMS - 1 && h.all[i])
		i++;
	CHECK(!h.all[i]);
	h.all[i] = m;
	m->bytes = sizes[class].bytes;
	m->window = windows[i];
	ASAN_POISON_MEMORY_REGION(m->window, WINDOW_BYTES);
	ASAN_UNPOISON_MEMORY_REGION(m->window, m->bytes);
	if (h.kept_bytes == m->bytes)
		memcpy(m->window, kept, m->bytes);
	else
		memset(m->window, h.size_class & 8 && !h.good ? 0xff : 0, m->bytes);
	CHECK(rvmrpc_layout_make(m->bytes, class == 2 ? 3 : h.nslots, sizes[class].req, sizes[class].res, &config->layout));
	m->vm.kref.n = m->vm.mapped.n = 1;
	m->vm.pin.base = m->window;
	m->vm.pin.npages = m->bytes >> PAGE_SHIFT;
	m->vm.doorbell = m->doorbell_file.ctx = &m->doorbell;
	m->vm.doorbell_file = &m->doorbell_file;
	m->vm.interrupt = &m->interrupt;
	m->interrupted.func = guest_interrupted;
	m->interrupt.wqh.entry = &m->interrupted;
	m->vm.spin_us = h.size_class & 1 ? 100 : 0;
	m->since = now_ns;
	m->most_runs = 50 + RVMRPC_EVENTS_AT_ONCE;
	return m;
}

static void vmm_attach(void)
{
	struct rvmrpc_owner_config config = { .doorbell = 1 };
	struct machine *m;
	u32 i;

	for (i = 0; h.all[i]; i++) {
		if (i == NVMS - 2)
			return;
	}
	m = machine_new(&config);
	rvmrpc_channel_prepare(&m->vm);
	rvmrpc_channel_open(&m->vm, &config, h.frozen);
	rvmrpc_channel_listen(&m->vm);
	h.torn = false;
	h.excuses++;
	h.resets++;
	h.machine = m;
}

static void wait_for(u32 task)
{
	current->after = &cpu.tasks[task];
	task_stop();
	current->after = NULL;
}

static void vmm_detach(void)
{
	struct machine *m = h.machine;

	h.resets++;
	h.excuses++;
	h.resetting = true;
	rvmrpc_channel_close(&m->vm);
	m->left = host_words(m);
	m->gone = true;
	h.machine = NULL;
	/* A vCPU that waits was woken. */
	wait_for(VCPU);
	cpu.tasks[GUEST].waits = false;
	wait_for(GUEST);
	memcpy(kept, m->window, m->bytes);
	h.kept_bytes = m->bytes;
	h.resetting = false;
	h.resets++;
	rvmrpc_vm_unmap(&m->vm);
	rvmrpc_vm_put(&m->vm);
}

static void vmm_notice(u32 notice)
{
	if (notice == RVMRPC_KVM_STOP)
		h.frozen = true;
	h.excuses++;
	h.resetting = notice == RVMRPC_KVM_RESET;
	h.resets += h.resetting;
	rvmrpc_channel_notice(&h.machine->vm, notice);
	h.resets += h.resetting;
	h.resetting = false;
	if (notice == RVMRPC_KVM_RUN)
		h.frozen = false;
}

static void vmm_job(struct task_struct *task)
{
	struct rvmrpc_kvm_status status;

	(void)task;
	if (!h.machine) {
		vmm_attach();
		return;
	}
	switch (h.vmm_does) {
	case 0:
		vmm_detach();
		break;
	case RVMRPC_KVM_RUN:
	case RVMRPC_KVM_STOP:
	case RVMRPC_KVM_RESET:
		vmm_notice(h.vmm_does);
		break;
	default:
		rvmrpc_channel_status(&h.machine->vm, &status);
		CHECK(status.in_flight <= RVMRPC_CALLS_MAX && status.nslots <= 4 && (!h.good || !status.bad_replies));
		break;
	}
}

/* ---- A vCPU that waits ---- */

static void vcpu_woken(struct rvmrpc_waiter *waiter)
{
	CHECK(waiter->woken);
	cpu.tasks[VCPU].waits = false;
}

static void vcpu_job(struct task_struct *task)
{
	struct machine *m = machine_get();
	struct rvmrpc_waiter *w;
	int ret;

	(void)task;
	if (!m)
		return;
	w = calloc(1, sizeof(*w));
	CHECK(w);
	w->wake = vcpu_woken;
	ret = rvmrpc_glue_main(&m->vm, m->vm.owner.proxy.epoch, m->vm.owner.page.posted, w);
	if (ret == -EAGAIN) {
		current->waits = true;
		if (!w->woken)
			task_park(now_ns + NSEC_PER_SEC);
		current->waits = false;
		rvmrpc_glue_leave(&m->vm, w);
	}
	free(w);
	rvmrpc_vm_put(&m->vm);
}

/* ---- A guest ---- */

static void ring(void)
{
	if (h.machine)
		rvmrpc_eventfd_signal(&h.machine->doorbell);
}

static void guest_answers(const struct rvmrpc_taken *t, u32 status)
{
	struct rvmrpc_guest *g = &h.guest;
	struct rvmrpc_hdr reply = t->hdr;

	reply.status = status;
	reply.timeout_ms = reply.list = 0;
	reply.length = status ? 0 : t->hdr.module == MODULE ? answer_bytes(t->hdr.procedure, g->layout.res_bytes) : 0;
	stamp(rvmrpc_guest_res(g, t->slot), reply.length, t->hdr.procedure);
	step();
	if (!rvmrpc_guest_alive(g))
		return;
	if (rvmrpc_guest_publish(g, t->slot, t->seq, &reply))
		ring();
}

static void guest_serves(const struct rvmrpc_taken *t)
{
	struct rvmrpc_guest *g = &h.guest;
	unsigned char *arg = malloc(t->hdr.length);
	bool unwanted;

	/* A slot's areas are its client's also when the epoch is over. */
	CHECK(arg && t->hdr.magic == RVMRPC_CALL_MAGIC && t->hdr.length <= g->layout.req_bytes);
	if (!rvmrpc_guest_copy_arg(g, t, arg)) {
		free(arg);
		return;
	}
	CHECK(t->hdr.epoch == g->epoch);
	/* Of a call that was given up the client may have written the next there. */
	unwanted = rvmrpc_guest_unwanted(g, t->slot);
	CHECK(unwanted || (t->hdr.module == MODULE ? stamped(arg, t->hdr.length, t->hdr.procedure) :
						      t->hdr.module == RVMRPC_MOD_CORE));
	free(arg);
	if (unwanted)
		guest_answers(t, RVMRPC_STATUS_CANCELLED);
	else if (h.lazy)
		h.deferred[h.ndeferred++] = *t;
	else
		guest_answers(t, RVMRPC_STATUS_OK);
}

/* False: there is nothing to do. */
static bool guest_turn(void)
{
	struct rvmrpc_guest *g = &h.guest;
	struct rvmrpc_taken t;
	u32 status;

	switch (g->state) {
	case RVMRPC_GUEST_IDLE:
		rvmrpc_tell_close(&h.teller);
		h.ndeferred = 0;
		h.told = 0;
		h.excuses++;
		h.resets++;
		rvmrpc_guest_hello(g, ++h.nonce, RVMRPC_OS_LINUX, "6.12");
		ring();
		return true;
	case RVMRPC_GUEST_GREETED:
		switch (rvmrpc_guest_answered(g, &status)) {
		case RVMRPC_ANSWER_NONE:
			return false;
		case RVMRPC_ANSWER_OPEN:
			h.resets++;
			rvmrpc_tell_open(&h.teller, g);
			return true;
		default:
			g->state = RVMRPC_GUEST_IDLE;
			return true;
		}
	case RVMRPC_GUEST_OPEN:
		break;
	}
	if (!rvmrpc_guest_alive(g)) {
		h.resets++;
		g->state = RVMRPC_GUEST_IDLE;
		return true;
	}
	h.excuses += h.ndeferred;
	while (h.answers && h.ndeferred)
		guest_answers(&h.deferred[--h.ndeferred], RVMRPC_STATUS_OK);
	h.answers = false;
	if (!rvmrpc_guest_take(g, &t))
		return false;
	guest_serves(&t);
	return true;
}

static void guest_job(struct task_struct *task)
{
	struct machine *m = machine_get();
	struct rvmrpc_guest *g = &h.guest;
	u64 asked;

	if (!m)
		return;
	kref_get(&m->vm.mapped);
	g->win.base = h.teller.win.base = m->window;
	g->win.size = h.teller.win.size = m->bytes;
	while (!m->gone) {
		task->waits = true;
		step();
		if (guest_turn() || m->gone || (g->state == RVMRPC_GUEST_OPEN && !rvmrpc_guest_sleep(g)))
			continue;
		asked = now_ns;
		task_park(now_ns + NSEC_PER_SEC);
		if (g->state == RVMRPC_GUEST_GREETED && now_ns - asked >= NSEC_PER_SEC)
			g->state = RVMRPC_GUEST_IDLE;
		rvmrpc_guest_awake(g);
		rvmrpc_guest_beat(g);
	}
	task->waits = false;
	g->win.base = NULL;
	rvmrpc_vm_unmap(&m->vm);
	rvmrpc_vm_put(&m->vm);
}

/* ---- A hostile guest ---- */

static void poke(struct input *in)
{
	u32 at = input_u32(in), value = input_u32(in);

	/* Mostly words, not payloads. */
	at = at & 7 ? at / 8 % 5 * RVMRPC_PAGE_SIZE + at / 64 % 128 * 4 : at / 8 % (u32)(h.machine->bytes / 4) * 4;
	memcpy(h.machine->window + at, &value, sizeof(value));
}

static void bad_hello(struct input *in)
{
	struct rvmrpc_hello hello = {
		.nonce = ++h.nonce, .seen = h.machine->vm.owner.page.epoch, .abi_min = 1, .abi_max = 2, .os = RVMRPC_OS_OTHER,
	};

	input_corrupt(in, &hello, sizeof(hello));
	memcpy(h.machine->window + RVMRPC_GUEST_WORD(hello), &hello, sizeof(hello));
}

static void bad_answer(struct input *in)
{
	const struct rvmrpc_layout *l = &h.machine->vm.owner.config.layout;
	u32 slot = input_u8(in) % l->nslots, seq, length = input_u8(in);
	unsigned char *to = h.machine->window + rvmrpc_guest_slot_at(l, slot);
	struct rvmrpc_hdr hdr;

	memcpy(&hdr, h.machine->window + rvmrpc_host_slot_at(l, slot), sizeof(hdr));
	memcpy(&seq, (char *)&hdr + RVMRPC_SLOT_SEQ, sizeof(seq));
	hdr.timeout_ms = hdr.list = 0;
	hdr.length = length < 250 ? length * l->res_bytes / 249 : length * l->res_bytes;
	input_corrupt(in, &hdr, sizeof(hdr));
	memcpy((char *)&hdr + RVMRPC_SLOT_SEQ, &seq, sizeof(seq));
	memcpy(to, &hdr, sizeof(hdr));
}

static void bad_event(struct input *in)
{
	struct rvmrpc_ring *r = &h.machine->vm.owner.ring;
	u64 seq = r->next + input_u8(in) % 80;
	struct rvmrpc_event e = {
		.seq = seq, .epoch = h.machine->vm.owner.proxy.epoch, .record = { .length = sizeof(e.record), .kind = 1 },
	};
	u32 word = (u32)seq;

	if (!r->events)
		return;
	input_corrupt(in, &e, sizeof(e));
	memcpy(h.machine->window + rvmrpc_event_at(r->at, r->events, seq), &e, sizeof(e));
	memcpy(h.machine->window + RVMRPC_GUEST_WORD(events), &word, sizeof(word));
}

/* The words by which it says that there is something, or that it sleeps. */
static void bad_word(struct input *in)
{
	static const u32 at[] = {
		RVMRPC_GUEST_WORD(bye), RVMRPC_GUEST_WORD(beat), RVMRPC_GUEST_WORD(wait), RVMRPC_GUEST_WORD(seen),
		RVMRPC_GUEST_WORD(events), RVMRPC_GUEST_WORD(hello.nonce),
	};
	u32 which = input_u8(in), word;

	if (which % 6 == 0) {
		memcpy(h.machine->window + at[0], &h.machine->vm.owner.proxy.epoch, sizeof(u64));
		return;
	}
	memcpy(&word, h.machine->window + at[which % 6], sizeof(word));
	word += 1 + which / 6 % 3;
	memcpy(h.machine->window + at[which % 6], &word, sizeof(word));
}

/* ---- Who runs, and time ---- */

static bool task_can_run(u32 i)
{
	/* Without a window it is about to go. */
	return can_run(&cpu.tasks[i]) && !(i == GUEST && h.frozen && h.machine);
}

static void work_begin(struct work_struct *work, struct machine *m)
{
	u32 i = WORKERS;

	if (!work_due(work))
		return;
	while (i < NTASKS && cpu.tasks[i].job)
		i++;
	if (i == NTASKS)
		return;
	if (work == &m->vm.work.work)
		m->runs++;
	work_start(work, &cpu.tasks[i]);
}

static void works_begin(void)
{
	u32 i;

	for (i = 0; i < NVMS; i++) {
		if (!h.all[i])
			continue;
		work_begin(&h.all[i]->vm.work.work, h.all[i]);
		work_begin(&h.all[i]->vm.ring_work, h.all[i]);
	}
}

static void guest_begin(void)
{
	if (h.good && h.machine && !cpu.tasks[GUEST].job && !cpu.tasks[VMM].job)
		cpu.tasks[GUEST].job = guest_job;
}

/* Nobody can run: what must hold then. */
static void check_rest(struct machine *m)
{
	struct rvmrpc_vm *vm = &m->vm;
	struct rvmrpc_proxy *p = &vm->owner.proxy;
	struct rvmrpc_waiter *w, *next;
	u32 i;

	CHECK(!vm->lock.owner && !vm->copying);
	CHECK(m->runs <= m->most_runs + (now_ns - m->since) / (800 * NSEC_PER_USEC));
	list_for_each_entry_safe(w, next, &vm->waiters, node)
		CHECK(rvmrpc_owner_main(&vm->owner, w->epoch, w->seen) == RVMRPC_MAIN_TURN_WAIT);
	if (!vm->attached) {
		CHECK(!p->ncalls);
		return;
	}
	CHECK(p->ncalls <= RVMRPC_CALLS_MAX && vm->work.work.queued);
	/* A timer is late by as long as who set it was held up. */
	CHECK(vm->work.work.at <= max(vm->next_look, now_ns) + TICK_NS + cpu.jumped);
	CHECK(!rvmrpc_proxy_pending(p) || p->pending_head->deadline <= now_ns + TICK_NS);
	for (i = 0; i < NCALLS; i++) {
		const struct call *c = h.calls[i];

		if (c && c->machine == m && c->k.core.state != RVMRPC_CALL_IDLE)
			CHECK(c->k.task ||
			      vm->work.work.at <= max(c->k.core.deadline, now_ns) + TICK_NS + cpu.jumped);
	}
	if (h.good && m == h.machine) {
		CHECK(!p->stats.lost && !p->stats.bad_replies);
		if (!h.frozen && !h.ndeferred && h.guest.state == RVMRPC_GUEST_OPEN && h.guest.epoch == p->epoch)
			CHECK(!p->ncalls);
	}
}

/* All run until they wait. */
static void come_to_rest(void)
{
	u32 i, turns = 0;
	bool ran;

	do {
		ran = false;
		works_begin();
		guest_begin();
		for (i = 0; i < NTASKS; i++) {
			if (!task_can_run(i))
				continue;
			task_run(&cpu.tasks[i], 0);
			ran = true;
		}
		CHECK(++turns < 20000);
	} while (ran);
	for (i = 0; i < NVMS; i++) {
		if (h.all[i] && !h.all[i]->gone && h.all[i] == h.machine)
			check_rest(h.all[i]);
	}
}

/* When somebody has something to do by himself. */
static u64 next_time(void)
{
	u64 next = U64_MAX;
	u32 i;

	for (i = 0; i < NTASKS; i++) {
		if (cpu.tasks[i].job && cpu.tasks[i].parked && !(i == GUEST && h.frozen))
			next = min(next, cpu.tasks[i].until);
	}
	for (i = 0; i < NVMS; i++) {
		if (h.all[i] && h.all[i]->vm.work.work.queued)
			next = min(next, h.all[i]->vm.work.work.at);
	}
	return next;
}

static void pass(u64 ns)
{
	u64 until = now_ns + ns;

	for (come_to_rest(); next_time() <= until; come_to_rest())
		now_ns = max(now_ns, next_time());
	now_ns = max(now_ns, until);
	come_to_rest();
}

/* ---- Operations ---- */

static const u32 steps_of[] = { 1, 2, 3, 5, 8, 13, 30, 0 };

static void run(u32 task, struct input *in)
{
	works_begin();
	guest_begin();
	if (task_can_run(task))
		task_run(&cpu.tasks[task], steps_of[input_u8(in) & 7]);
}

static void op_client(struct input *in)
{
	static const u32 lengths[] = { 0, 1, 3, 64, 65, 512, 513, 1024, 1025, 2048, 1500, 600, 8, 16, 100, 3000 };
	static const u32 timeouts[] = { 0, 1, 2, 4, 5, 10, 50, 100, 500, 500, 1000, 1000, 1000, 1000, 1000, 1000 };
	u32 who = input_u8(in), what = input_u8(in), i = who % VMM;
	struct job *job = &h.jobs[i];

	if (!cpu.tasks[i].job) {
		job->what = what & 3;
		job->n = input_u8(in);
		job->timeout_ms = timeouts[what >> 4];
		what = input_u8(in);
		job->arglen = lengths[what & 15];
		job->res_max = lengths[what >> 4];
		if (h.size_class == 2) {
			job->arglen *= 100;
			job->res_max *= 100;
		}
		cpu.tasks[i].job = client_job;
	}
	run(i, in);
}

static void op_vmm(struct input *in)
{
	if (!cpu.tasks[VMM].job) {
		h.vmm_does = input_u8(in) & 7;
		cpu.tasks[VMM].job = vmm_job;
	}
	run(VMM, in);
}

static void op_vcpu(struct input *in)
{
	if (!cpu.tasks[VCPU].job)
		cpu.tasks[VCPU].job = vcpu_job;
	/* Something of its own wakes it. */
	else if (input_u8(in) & 1)
		cpu.tasks[VCPU].waits = false;
	run(VCPU, in);
}

static void op_run(struct input *in)
{
	run(input_u8(in) % NTASKS, in);
}

static void op_kill(struct input *in)
{
	struct task_struct *task = &cpu.tasks[input_u8(in) % VMM];

	if (task->job)
		task_kill(task);
}

static void op_pass(struct input *in)
{
	static const u64 us[] = { 1, 100, 1000, 2000, 4000, 4000, 8000, 10000, 20000, 64000, 64000, 100000, 500000, 1000000,
				  3000000, 16000000 };

	pass(us[input_u8(in) & 15] * NSEC_PER_USEC);
}

/* Nobody gets on meanwhile. */
static void op_jump(struct input *in)
{
	u64 ns = (u64)input_u8(in) * 100 * NSEC_PER_USEC;

	now_ns += ns;
	cpu.jumped += ns;
}

static void op_mood(struct input *in)
{
	u32 what = input_u8(in);

	cpu.alone = what & 1;
	cpu.hurried = what & 2;
	call_spin_ns = what & 4 ? 200000 : 0;
	h.lazy = (what & 24) == 24;
	h.answers = !h.lazy;
	if (what & 32 && h.good && cpu.tasks[GUEST].job)
		cpu.tasks[GUEST].waits = false;
	if (what >= 252)
		h.torn = true;
	if (h.lazy || h.torn) {
		h.excuses++;
		h.resets += h.torn;
	}
}

static void good_event(struct input *in)
{
	struct rvmrpc_event_writer e;

	if (!h.guest.win.base || h.guest.state != RVMRPC_GUEST_OPEN || h.frozen || !h.teller.epoch)
		return;
	rvmrpc_event_begin(&e, MODULE, 1, now_ns);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, "an event", input_u8(in) % 9);
	rvmrpc_event_end(&e);
	if (rvmrpc_tell(&h.teller, h.teller.epoch, ++h.told, &e))
		ring();
}

static void (*const bad[])(struct input *in) = {
	bad_answer, bad_answer, bad_answer, bad_hello, bad_word, bad_event, poke, NULL,
};

/* Once, or as often as it can for a while, with a ring each time. */
static void op_guest(struct input *in)
{
	u32 what = input_u8(in), n = what >= 250 ? 200 : 1;
	struct input again;

	if (!h.machine || h.frozen)
		return;
	if (h.good) {
		good_event(in);
		return;
	}
	for (again = *in; n; n--) {
		*in = again;
		if (bad[what & 7])
			bad[what & 7](in);
		if (what & 24)
			ring();
		if (n > 1)
			pass(40 * NSEC_PER_USEC);
		if (!h.machine)
			break;
	}
}

static void (*const ops[])(struct input *in) = {
	op_client, op_client, op_client, op_client, op_run, op_run, op_run, op_run, op_guest, op_guest, op_guest, op_guest,
	op_pass, op_pass, op_vmm, op_vcpu, op_kill, op_jump, op_mood,
};

static void begin(struct input *in)
{
	u32 flags = input_u8(in);

	memset(&h, 0, sizeof(h));
	now_ns = 1000 * NSEC_PER_SEC;
	cpu.jumped = cpu.randoms = 0;
	cpu.alone = flags & 1;
	cpu.hurried = false;
	call_spin_ns = flags & 1 ? 200000 : 0;
	h.good = flags & 2;
	h.nslots = 1 + (flags >> 2 & 3);
	h.size_class = flags >> 4;
	h.guest.state = RVMRPC_GUEST_IDLE;
	cpu.tasks[VMM].job = vmm_job;
	come_to_rest();
	if (!h.good)
		bad_hello(&(struct input){ NULL, 0 });
	ring();
	pass(TICK_NS);
}

static bool any_call(void)
{
	u32 i;

	for (i = 0; i < NCALLS; i++) {
		if (h.calls[i])
			return true;
	}
	return cpu.tasks[CLIENTS].job || cpu.tasks[CLIENTS + 1].job || cpu.tasks[CLIENTS + 2].job;
}

/* Whatever happened, each call comes to its end, and then nobody has anything of the VM. */
static void end(void)
{
	u32 i;

	/* Four calls in place are the longest that a client has to do. */
	for (i = 0; !i || (i < 17 && (any_call() || cpu.tasks[VMM].job)); i++)
		pass(NSEC_PER_SEC / 4);
	CHECK(!any_call() && !cpu.tasks[VMM].job);
	if (h.machine) {
		h.vmm_does = 0;
		h.frozen = false;
		cpu.tasks[VMM].job = vmm_job;
		come_to_rest();
	}
	for (i = 0; i < NTASKS; i++)
		CHECK(!cpu.tasks[i].job);
	for (i = 0; i < NVMS; i++)
		CHECK(!h.all[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	begin(&in);
	while (in.left)
		ops[input_u8(&in) % (sizeof(ops) / sizeof(ops[0]))](&in);
	end();
	return 0;
}
