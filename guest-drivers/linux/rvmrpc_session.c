// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions: buffers shared with the host, their registration, and what becomes of them when the epoch
 * ends while workers are still inside.
 *
 * The host touches the buffers only inside a gate call of this guest that names the session's epoch, so
 * they may be freed at any time when no such call is made.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>
#include "rvmrpc_drv.h"

static unsigned int slots = RVMRPC_SLOTS_DEFAULT;
module_param(slots, uint, 0444);
MODULE_PARM_DESC(slots, "calls at a time (default 4, at most 64 and what the device takes)");

static unsigned int req_pages = RVMRPC_REQ_PAGES_DEFAULT;
module_param(req_pages, uint, 0444);
MODULE_PARM_DESC(req_pages, "pages of a request (default 1)");

static unsigned int res_pages = RVMRPC_RES_PAGES_DEFAULT;
module_param(res_pages, uint, 0444);
MODULE_PARM_DESC(res_pages, "pages of a response (default 16)");

atomic_t rvmrpc_abandoned = ATOMIC_INIT(0);

struct rvmrpc_geometry {
	u32 nslots;
	u32 req_pages;
	u32 res_pages;
};

/* What the parameters ask for, within what the device takes. */
static struct rvmrpc_geometry rvmrpc_geometry(const struct rvmrpc_dev *rdev)
{
	u32 max_slots = readl(rdev->gate.regs + RVMRPC_REG_SLOTS);
	u32 max_pages = readl(rdev->gate.regs + RVMRPC_REG_PAGES);
	struct rvmrpc_geometry g;

	max_slots = clamp_t(u32, max_slots, 1, RVMRPC_SLOTS_MAX);
	g.nslots = clamp_t(u32, slots, 1, max_slots);
	g.req_pages = clamp_t(u32, req_pages, 1,
			      clamp_t(u32, max_pages & 0xffff, 1, RVMRPC_SLOT_PAGES_MAX));
	g.res_pages = clamp_t(u32, res_pages, 1,
			      clamp_t(u32, max_pages >> 16, 1, RVMRPC_SLOT_PAGES_MAX));
	return g;
}

/* ---- Memory ---- */

static void rvmrpc_session_free(struct rvmrpc_session *session)
{
	u32 i;

	for (i = 0; i < session->nalloc; i++) {
		vfree(session->slots[i].request);
		vfree(session->slots[i].response);
	}
	free_page((unsigned long)session->frames);
	kfree(session);
}

static int rvmrpc_slot_init(struct rvmrpc_session *session, u32 i)
{
	struct rvmrpc_slot *slot = &session->slots[i];

	slot->session = session;
	slot->frame = &session->frames[i];
	INIT_WORK(&slot->work, rvmrpc_worker);
	slot->request = vzalloc(session->req_pages * RVMRPC_PAGE_SIZE);
	slot->response = vzalloc(session->res_pages * RVMRPC_PAGE_SIZE);
	return slot->request && slot->response ? 0 : -ENOMEM;
}

static struct rvmrpc_session *rvmrpc_session_alloc(const struct rvmrpc_geometry *g)
{
	struct rvmrpc_session *session;
	u32 i;

	BUILD_BUG_ON(PAGE_SIZE != RVMRPC_PAGE_SIZE);
	BUILD_BUG_ON(RVMRPC_SLOTS_MAX * sizeof(struct rvmrpc_frame) > PAGE_SIZE);

	session = kzalloc(struct_size(session, slots, g->nslots), GFP_KERNEL);
	if (!session)
		return NULL;
	refcount_set(&session->refs, 1);
	session->nalloc = g->nslots;
	session->req_pages = g->req_pages;
	session->res_pages = g->res_pages;
	session->frames = (void *)get_zeroed_page(GFP_KERNEL);
	if (!session->frames)
		goto fail;
	for (i = 0; i < session->nalloc; i++)
		if (rvmrpc_slot_init(session, i))
			goto fail;
	return session;

fail:
	rvmrpc_session_free(session);
	return NULL;
}

void rvmrpc_session_get(struct rvmrpc_session *session)
{
	refcount_inc(&session->refs);
}

void rvmrpc_session_put(struct rvmrpc_session *session)
{
	if (!refcount_dec_and_test(&session->refs))
		return;
	if (session->abandoned)
		atomic_dec(&rvmrpc_abandoned);
	rvmrpc_session_free(session);
}

bool rvmrpc_session_busy(const struct rvmrpc_session *session)
{
	return refcount_read(&session->refs) > 1;
}

/* The host has given up on every slot: each is with a worker and past its call's deadline. */
bool rvmrpc_session_stuck(const struct rvmrpc_session *session)
{
	u32 i;

	for (i = 0; i < session->nslots; i++)
		if (!READ_ONCE(session->slots[i].busy) ||
		    time_before(jiffies, session->slots[i].deadline))
			return false;
	return true;
}

/* ---- Registration ---- */

static void rvmrpc_gpas(u64 *list, const void *buffer, u32 pages)
{
	u32 i;

	for (i = 0; i < pages; i++)
		list[i] = page_to_phys(vmalloc_to_page(buffer + i * PAGE_SIZE));
}

static struct rvmrpc_init *rvmrpc_init_build(const struct rvmrpc_session *session)
{
	u32 per_slot = session->req_pages + session->res_pages;
	size_t size = sizeof(struct rvmrpc_init) + session->nalloc * per_slot * sizeof(u64);
	struct rvmrpc_init *init = kvzalloc(size, GFP_KERNEL);
	u64 *list;
	u32 i;

	if (!init)
		return NULL;
	init->magic = RVMRPC_INIT_MAGIC;
	init->abi_min = RVMRPC_ABI_MIN;
	init->abi_max = RVMRPC_ABI_MAX;
	init->size = size;
	init->os = RVMRPC_OS_LINUX;
	init->nslots = session->nalloc;
	init->req_pages = session->req_pages;
	init->res_pages = session->res_pages;
	strscpy(init->release, init_utsname()->release, sizeof(init->release));
	list = (u64 *)(init + 1);
	for (i = 0; i < session->nalloc; i++, list += per_slot) {
		rvmrpc_gpas(list, session->slots[i].request, session->req_pages);
		rvmrpc_gpas(list + session->req_pages, session->slots[i].response,
			    session->res_pages);
	}
	return init;
}

static int rvmrpc_session_bind(struct rvmrpc_dev *rdev, struct rvmrpc_session *session)
{
	static const struct vmrpc_bind name = {
		.name = RVMRPC_PROXY_NAME,
		.version = RVMRPC_PROXY_VERSION,
	};
	/* Behind the doorbell is the VMM, whatever the host's kernel has. */
	bool kernel = (READ_ONCE(rdev->gate.features) & RVMRPC_FEAT_PROXY_KERNEL) &&
		      READ_ONCE(rdev->gate.kind) == RVMRPC_GATE_KIND_HYPERCALL;
	u64 space = kernel ? RVMRPC_OP_KERNEL : 0;
	u32 answer;

	answer = rvmrpc_gate_call(&rdev->gate, rdev->frame, RVMRPC_OP_BIND | space,
				  (unsigned long)&name, 0, 0);
	if (RVMRPC_GATE_IS_CODE(answer))
		return rvmrpc_gate_errno(answer);
	session->handle = answer;
	session->op = RVMRPC_OP_PERFORM | space;
	return 0;
}

static int rvmrpc_session_register(struct rvmrpc_dev *rdev, struct rvmrpc_session *session)
{
	struct rvmrpc_init *init = rvmrpc_init_build(session);
	struct rvmrpc_init_answer host;
	u32 answer;

	if (!init)
		return -ENOMEM;
	answer = rvmrpc_gate_call(&rdev->gate, rdev->frame, session->op,
				  session->handle | (u64)RVMRPC_INIT_HOST << 32,
				  (unsigned long)init, init->size);
	host = init->answer;
	kvfree(init);
	if (RVMRPC_GATE_IS_CODE(answer))
		return rvmrpc_gate_errno(answer);
	if (!host.epoch || host.abi < RVMRPC_ABI_MIN || host.abi > RVMRPC_ABI_MAX ||
	    !host.nslots || host.nslots > session->nalloc)
		return -EPROTO;
	session->epoch = host.epoch;
	session->abi = host.abi;
	session->nslots = host.nslots;
	return 0;
}

/* Takes the session that is there when its shape still fits, else a new one. */
static int rvmrpc_session_prepare(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_geometry g = rvmrpc_geometry(rdev);
	struct rvmrpc_session *session = rdev->session;

	if (session && (session->nalloc != g.nslots || session->req_pages != g.req_pages ||
			session->res_pages != g.res_pages)) {
		rdev->session = NULL;
		rvmrpc_session_put(session);
	}
	if (rdev->session)
		return 0;
	if (atomic_read(&rvmrpc_abandoned) >= RVMRPC_ABANDONED_MAX)
		return -EBUSY;
	rdev->session = rvmrpc_session_alloc(&g);
	return rdev->session ? 0 : -ENOMEM;
}

/**
 * rvmrpc_session_connect() - bind the proxy and register with it
 * @rdev: device; no session is connected
 *
 * Context: server thread.
 * Return: 0 or -errno.
 */
int rvmrpc_session_connect(struct rvmrpc_dev *rdev)
{
	int err;

	if (rvmrpc_gate_choose(&rdev->gate) == RVMRPC_GATE_KIND_NONE)
		return -ENODEV;
	err = rvmrpc_session_prepare(rdev);
	if (!err)
		err = rvmrpc_session_bind(rdev, rdev->session);
	if (!err)
		err = rvmrpc_session_register(rdev, rdev->session);
	return err;
}

/*
 * The epoch is over.  With no worker inside, the session's memory serves the next epoch (the guest may
 * have none left to give); else it stays with its workers.
 */
void rvmrpc_session_retire(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_session *session = rdev->session;

	rdev->reply_slot = RVMRPC_SLOT_NONE;
	if (!rvmrpc_session_busy(session))
		return;
	session->abandoned = true;
	atomic_inc(&rvmrpc_abandoned);
	rvmrpc_session_drop(rdev);
}

void rvmrpc_session_drop(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_session *session = rdev->session;

	rdev->session = NULL;
	if (!session)
		return;
	WRITE_ONCE(session->dead, true);
	rvmrpc_session_put(session);
}

/* Tells the host; it answers for the calls that are still running. */
void rvmrpc_session_leave(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_session *session = rdev->session;
	u64 space = session->op & RVMRPC_OP_KERNEL;

	rvmrpc_gate_call(&rdev->gate, rdev->frame, session->op,
			 session->handle | (u64)RVMRPC_EXIT << 32, session->epoch, 0);
	rvmrpc_gate_call(&rdev->gate, rdev->frame, RVMRPC_OP_UNBIND | space, session->handle, 0, 0);
}
