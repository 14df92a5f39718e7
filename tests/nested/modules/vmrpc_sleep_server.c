// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host LKM of the nested tests: a VMRPC server that sleeps, and looks whether that holds up the VM.
 *
 * SLEEP	sleeps, while another thread waits for a grace period of kvm->srcu, as a change of memslots would
 * SRCU		waits for one itself, with the VM's other vCPUs doing what they do
 *
 * Both answer with the microseconds that the grace period took.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kvm_host.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/vmrpc.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

enum {
	FUNC_SLEEP,
	FUNC_SRCU,
};

static unsigned int sleep_ms = 500;
module_param(sleep_ms, uint, 0644);
MODULE_PARM_DESC(sleep_ms, "how long SLEEP sleeps");

struct timing {
	struct work_struct work;
	struct kvm *kvm;
	int us;
};

static int time_srcu(struct kvm *kvm)
{
	ktime_t start = ktime_get();

	synchronize_srcu(&kvm->srcu);
	return min_t(s64, ktime_us_delta(ktime_get(), start), INT_MAX);
}

static void timing_run(struct work_struct *work)
{
	struct timing *t = container_of(work, struct timing, work);

	t->us = time_srcu(t->kvm);
}

/* The VM lives as long as this call, and the work does not outlive it. */
static int serve_sleep(struct kvm_vcpu *vcpu)
{
	struct timing t = { .kvm = vcpu->kvm };

	INIT_WORK_ONSTACK(&t.work, timing_run);
	queue_work(system_unbound_wq, &t.work);
	msleep(sleep_ms);
	flush_work(&t.work);
	destroy_work_on_stack(&t.work);
	pr_info("slept %u ms, srcu %d us\n", sleep_ms, t.us);
	return t.us;
}

static int serve_srcu(struct kvm_vcpu *vcpu)
{
	int us = time_srcu(vcpu->kvm);

	pr_info("srcu %d us\n", us);
	return us;
}

static int sleep_dispatch(struct vmrpc_data *rpcdata, u32 func, u64 arg, size_t bytes)
{
	switch (func) {
	case FUNC_SLEEP:
		return serve_sleep(vmrpc_vcpu(rpcdata));
	case FUNC_SRCU:
		return serve_srcu(vmrpc_vcpu(rpcdata));
	default:
		return -EOPNOTSUPP;
	}
}

static struct vmrpc_module sleep_module = {
	.name = "MOD_SLEEP",
	.version = "1",
	.owner = THIS_MODULE,
	.dispatch = sleep_dispatch,
};

static int __init sleep_init(void)
{
	return vmrpc_register_module(&sleep_module);
}

static void __exit sleep_exit(void)
{
	vmrpc_unregister_module(&sleep_module);
}

module_init(sleep_init);
module_exit(sleep_exit);

MODULE_DESCRIPTION("VMRPC tests: a server that sleeps");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
