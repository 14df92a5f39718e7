// SPDX-License-Identifier: GPL-2.0
/*
 * VMLP (VM Long Polling): a vCPU sleeps in a hypercall, as it does in HLT
 *
 * While it sleeps only vcpu->mutex is held: no memslot change waits for it.  Whatever would end a HLT ends the wait, and a
 * wait never survives KVM_RUN, so that migration, reset and debuggers need no new state.  See docs/architecture.md.
 */
#include <linux/hrtimer.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>

#include "lapic.h"
#include "smm.h"
#include "vmrpc.h"
#include "vmrpc_trace.h"
#include "vmrpc_vm.h"
#include "x86.h"

/* Apart from halt_poll_ns: calls must not tune the guest's idle loop, nor it them. */
static unsigned int vmlp_spin_ns = 50000;
module_param(vmlp_spin_ns, uint, 0644);
MODULE_PARM_DESC(vmlp_spin_ns, "how long a VMLP wait spins before it sleeps, 0 = not at all");

struct vmlp_timer {
	struct hrtimer timer;
	struct kvm_vcpu *vcpu;
};

/* Any thread. */
bool __vmlp_has_events(struct kvm_vcpu *vcpu)
{
	struct vmrpc_vm *vm;
	bool events = false;

	rcu_read_lock();
	vm = vmrpc_vm_find(vcpu->kvm);
	if (vm)
		events = test_bit(vcpu->vcpu_idx, vm->waiting) && test_bit(vcpu->vcpu_idx, vm->woken);
	rcu_read_unlock();
	return events;
}

static void vmlp_nudge(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
	kvm_vcpu_kick(vcpu);
}

void vmlp_wake(struct kvm_vcpu *vcpu)
{
	struct vmrpc_vm *vm;

	rcu_read_lock();
	vm = vmrpc_vm_find(vcpu->kvm);
	if (vm) {
		set_bit(vcpu->vcpu_idx, vm->woken);
		vmlp_nudge(vcpu);
	}
	rcu_read_unlock();
}
EXPORT_SYMBOL_GPL(vmlp_wake);

static enum hrtimer_restart vmlp_timed_out(struct hrtimer *timer)
{
	vmlp_nudge(container_of(timer, struct vmlp_timer, timer)->vcpu);
	return HRTIMER_NORESTART;
}

/* The vCPU is marked halted; srcu dropped.  As kvm_vcpu_check_block(). */
static bool vmlp_must_end(struct kvm_vcpu *vcpu)
{
	int idx = srcu_read_lock(&vcpu->kvm->srcu);
	bool end = kvm_arch_vcpu_runnable(vcpu) || kvm_cpu_has_pending_timer(vcpu) || signal_pending(current);

	srcu_read_unlock(&vcpu->kvm->srcu, idx);
	return end;
}

/* True: there is no need to sleep. */
static bool vmlp_spin(struct kvm_vcpu *vcpu, unsigned int timeout_us)
{
	u64 window = min_t(u64, READ_ONCE(vmlp_spin_ns), (u64)timeout_us * NSEC_PER_USEC);
	ktime_t stop = ktime_add_ns(ktime_get(), window);

	if (!window)
		return false;
	do {
		if (vmlp_must_end(vcpu))
			return true;
		cpu_relax();
	} while (vmrpc_may_spin(stop));
	return false;
}

static void vmlp_sleep(struct kvm_vcpu *vcpu, unsigned int timeout_us)
{
	struct vmlp_timer t = { .vcpu = vcpu };

	/* Hard, as the APIC timer's: it wakes what a real-time kernel's soft ones would wait for. */
	hrtimer_init_on_stack(&t.timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	t.timer.function = vmlp_timed_out;
	hrtimer_start(&t.timer, ns_to_ktime((u64)timeout_us * NSEC_PER_USEC), HRTIMER_MODE_REL_HARD);
	kvm_vcpu_block(vcpu);
	hrtimer_cancel(&t.timer);
	destroy_hrtimer_on_stack(&t.timer);
}

/* As vcpu_block() in x86.c does for HLT. */
static void vmlp_block(struct kvm_vcpu *vcpu, unsigned int timeout_us)
{
	bool hv_timer;

	/* srcu is for these switches only, and SVM has none to do. */
	hv_timer = kvm_lapic_hv_timer_in_use(vcpu);
	if (hv_timer) {
		kvm_vcpu_srcu_read_lock(vcpu);
		kvm_lapic_switch_to_sw_timer(vcpu);
		kvm_vcpu_srcu_read_unlock(vcpu);
	}

	vcpu->arch.mp_state = KVM_MP_STATE_HALTED;
	if (!vmlp_spin(vcpu, timeout_us))
		vmlp_sleep(vcpu, timeout_us);
	vcpu->arch.mp_state = KVM_MP_STATE_RUNNABLE;
	vcpu->arch.pv.pv_unhalted = false;

	if (hv_timer) {
		kvm_vcpu_srcu_read_lock(vcpu);
		kvm_lapic_switch_to_hv_timer(vcpu);
		kvm_vcpu_srcu_read_unlock(vcpu);
	}
}

/* Without these an interrupt could not end the wait. */
static bool vmlp_allowed(struct vmrpc_data *rpcdata)
{
	struct kvm_vcpu *vcpu = rpcdata->vcpu;
	bool allowed;

	if (!rpcdata->can_wait || !lapic_in_kernel(vcpu) || is_guest_mode(vcpu) || is_smm(vcpu))
		return false;
	kvm_vcpu_srcu_read_lock(vcpu);
	allowed = kvm_arch_interrupt_allowed(vcpu);
	kvm_vcpu_srcu_read_unlock(vcpu);
	return allowed;
}

/* Blocks, for whoever traces it too. */
static void vmlp_block_traced(struct kvm_vcpu *vcpu, unsigned int timeout_us, bool (*condition)(void *data), void *data)
{
	ktime_t start = ktime_get();
	u32 reason;
	u64 ns;

	trace_vmlp_wait_begin(vcpu->vcpu_id, timeout_us);
	vmlp_block(vcpu, timeout_us);
	if (!trace_vmlp_wait_end_enabled())
		return;
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	if (condition(data))
		reason = VMLP_END_WOKEN;
	else if (signal_pending(current))
		reason = VMLP_END_SIGNAL;
	else
		reason = ns >= (u64)timeout_us * NSEC_PER_USEC ? VMLP_END_TIMEOUT : VMLP_END_EVENT;
	trace_vmlp_wait_end(vcpu->vcpu_id, reason, ns);
}

int vmlp_wait(struct vmrpc_data *rpcdata, bool (*condition)(void *data), void *data, unsigned int timeout_us)
{
	struct vmrpc_vm *vm = rpcdata->vm;
	int idx = rpcdata->vcpu->vcpu_idx;

	if (!vmlp_allowed(rpcdata))
		return -EPERM;
	vmrpc_put_hva(rpcdata);
	timeout_us = clamp(timeout_us, 1u, RVMRPC_WAIT_MS_MAX * 1000u);

	clear_bit(idx, vm->woken);
	set_bit(idx, vm->waiting);
	/* Pairs with the waker, which makes the condition true before it sets the bit in vm->woken. */
	smp_mb__after_atomic();
	if (!condition(data)) {
		atomic64_inc(&vm->counters.waits);
		vmlp_block_traced(rpcdata->vcpu, timeout_us, condition, data);
	}
	clear_bit(idx, vm->waiting);
	if (condition(data))
		return 0;
	atomic64_inc(&vm->counters.interrupted);
	return -EAGAIN;
}
EXPORT_SYMBOL_GPL(vmlp_wait);
