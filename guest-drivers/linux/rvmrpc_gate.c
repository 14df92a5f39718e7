// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two gates into the host, and which of them answers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/srcu.h>
#include "rvmrpc_arch.h"
#include "rvmrpc_drv.h"

DEFINE_STATIC_SRCU(rvmrpc_gate_srcu);
static struct rvmrpc_gate __rcu *rvmrpc_published;

/* The host has written the answer when the write returns. */
static u64 rvmrpc_doorbell(struct rvmrpc_gate *gate, struct rvmrpc_frame *frame, u64 op, u64 a0,
			   u64 a1, u64 a2)
{
	dma_addr_t addr;

	*frame = (struct rvmrpc_frame) { .op = op, .a0 = a0, .a1 = a1, .a2 = a2 };
	addr = dma_map_single(gate->dev, frame, sizeof(*frame), DMA_BIDIRECTIONAL);
	if (dma_mapping_error(gate->dev, addr))
		return 0;
	writeq(addr, gate->regs + RVMRPC_REG_DOORBELL);
	dma_unmap_single(gate->dev, addr, sizeof(*frame), DMA_BIDIRECTIONAL);
	return READ_ONCE(frame->answer);
}

static u64 rvmrpc_gate_try(struct rvmrpc_gate *gate, enum rvmrpc_gate_kind kind,
			   struct rvmrpc_frame *frame, u64 op, u64 a0, u64 a1, u64 a2)
{
	switch (kind) {
	case RVMRPC_GATE_KIND_HYPERCALL:
		return rvmrpc_hypercall(READ_ONCE(gate->number), op, a0, a1, a2);
	case RVMRPC_GATE_KIND_DOORBELL:
		return rvmrpc_doorbell(gate, frame, op, a0, a1, a2);
	default:
		return 0;
	}
}

static bool rvmrpc_gate_answers(struct rvmrpc_gate *gate, enum rvmrpc_gate_kind kind)
{
	return rvmrpc_gate_try(gate, kind, gate->frame, RVMRPC_OP_NULL, 0, 0, 0) ==
	       RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER);
}

/**
 * rvmrpc_gate_choose() - read the feature register and take the first gate that answers
 * @gate: gate
 *
 * The features change at reset and migration, so it is done again before each registration and
 * whenever an answer has a wrong tag.
 *
 * Return: the gate's kind.
 */
enum rvmrpc_gate_kind rvmrpc_gate_choose(struct rvmrpc_gate *gate)
{
	enum rvmrpc_gate_kind kind = RVMRPC_GATE_KIND_NONE;
	u32 features = 0;

	mutex_lock(&gate->choose_lock);
	if (readl(gate->regs + RVMRPC_REG_MAGIC) == RVMRPC_DEV_MAGIC) {
		features = readl(gate->regs + RVMRPC_REG_FEATURES);
		WRITE_ONCE(gate->number, readl(gate->regs + RVMRPC_REG_HYPERCALL));
	}
	if ((features & RVMRPC_FEAT_HYPERCALL) &&
	    rvmrpc_gate_answers(gate, RVMRPC_GATE_KIND_HYPERCALL))
		kind = RVMRPC_GATE_KIND_HYPERCALL;
	else if ((features & RVMRPC_FEAT_DOORBELL) &&
		 rvmrpc_gate_answers(gate, RVMRPC_GATE_KIND_DOORBELL))
		kind = RVMRPC_GATE_KIND_DOORBELL;
	WRITE_ONCE(gate->features, features);
	WRITE_ONCE(gate->kind, kind);
	mutex_unlock(&gate->choose_lock);
	return kind;
}

/**
 * rvmrpc_gate_call() - call the host by the gate that answers
 * @gate: gate
 * @frame: the caller's own, in memory that dma_map_single() knows, not across pages
 * @op: RVMRPC_OP_*
 * @a0: first argument
 * @a1: second argument
 * @a2: third argument
 *
 * Context: process context; sleeps in the host if the procedure does.
 * Return: the lower half of the answer, or RVMRPC_GATE_NONE.
 */
u32 rvmrpc_gate_call(struct rvmrpc_gate *gate, struct rvmrpc_frame *frame, u64 op, u64 a0, u64 a1,
		     u64 a2)
{
	int tries;

	for (tries = 0; tries < 2; tries++) {
		u64 answer = rvmrpc_gate_try(gate, READ_ONCE(gate->kind), frame, op, a0, a1, a2);

		if (likely(RVMRPC_GATE_IS_ANSWER(answer)))
			return lower_32_bits(answer);
		if (rvmrpc_gate_choose(gate) == RVMRPC_GATE_KIND_NONE)
			break;
	}
	return RVMRPC_GATE_NONE;
}

/* Whether a poll may wait in the host. */
bool rvmrpc_gate_waits(const struct rvmrpc_gate *gate)
{
	return READ_ONCE(gate->kind) == RVMRPC_GATE_KIND_HYPERCALL &&
	       (READ_ONCE(gate->features) & RVMRPC_FEAT_VMLP);
}

/* The only place where a gate's code becomes an errno. */
int rvmrpc_gate_errno(u32 answer)
{
	if (!RVMRPC_GATE_IS_CODE(answer))
		return answer;
	switch (answer) {
	case RVMRPC_GATE_AGAIN:
		return -EAGAIN;
	case RVMRPC_GATE_RESET:
		return -ECONNRESET;
	case RVMRPC_GATE_BAD_HANDLE:
		return -EBADF;
	case RVMRPC_GATE_NO_MODULE:
		return -ENOENT;
	case RVMRPC_GATE_BAD_VERSION:
		return -EPROTONOSUPPORT;
	case RVMRPC_GATE_BAD_OP:
	case RVMRPC_GATE_NO_PROCEDURE:
		return -EOPNOTSUPP;
	case RVMRPC_GATE_BAD_ARGS:
		return -EINVAL;
	case RVMRPC_GATE_FAULT:
		return -EFAULT;
	case RVMRPC_GATE_NO_MEMORY:
		return -ENOMEM;
	case RVMRPC_GATE_DENIED:
		return -EPERM;
	case RVMRPC_GATE_NONE:
		return -ENODEV;
	default:
		return -EIO;
	}
}

int rvmrpc_gate_init(struct rvmrpc_gate *gate, struct pci_dev *pdev, void __iomem *regs)
{
	mutex_init(&gate->choose_lock);
	gate->regs = regs;
	gate->dev = &pdev->dev;
	/* A page: aligned, known to dma_map_single(); the second frame is the server thread's. */
	gate->frame = (void *)devm_get_free_pages(&pdev->dev, GFP_KERNEL | __GFP_ZERO, 0);
	return gate->frame ? 0 : -ENOMEM;
}

void rvmrpc_gate_publish(struct rvmrpc_gate *gate)
{
	rcu_assign_pointer(rvmrpc_published, gate);
}

/* Returns when no other thread is inside a call. */
void rvmrpc_gate_withdraw(void)
{
	rcu_assign_pointer(rvmrpc_published, NULL);
	synchronize_srcu(&rvmrpc_gate_srcu);
}

/**
 * rvmrpc_gate_call_published() - rvmrpc_gate_call() for threads that do not own the device
 * @frame: as there
 * @op: as there
 * @a0: as there
 * @a1: as there
 * @a2: as there
 *
 * Return: as there; RVMRPC_GATE_NONE without a device, too.
 */
u32 rvmrpc_gate_call_published(struct rvmrpc_frame *frame, u64 op, u64 a0, u64 a1, u64 a2)
{
	u32 answer = RVMRPC_GATE_NONE;
	struct rvmrpc_gate *gate;
	int idx;

	idx = srcu_read_lock(&rvmrpc_gate_srcu);
	gate = srcu_dereference(rvmrpc_published, &rvmrpc_gate_srcu);
	if (gate)
		answer = rvmrpc_gate_call(gate, frame, op, a0, a1, a2);
	srcu_read_unlock(&rvmrpc_gate_srcu, idx);
	return answer;
}
