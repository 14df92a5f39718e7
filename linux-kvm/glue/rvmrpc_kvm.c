// SPDX-License-Identifier: GPL-2.0
/*
 * rvmrpc_kvm.ko: Reverse VMRPC as a client of VMRPC and VMLP (the paper's layering)
 *
 * MOD_RVMRPC is a VMRPC server like any other, whose procedure RVMRPC_MAIN sleeps by vmlp_wait() until rvmrpc_host.ko has
 * posted a request.  It knows which window is which VM's by the token that the VMM has of KVM, and never by what a guest
 * says.
 */
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/rvmrpc.h>
#include <linux/rvmrpc_glue.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmrpc.h>
#include "rvmrpc_abi.h"

struct binding {
	struct hlist_node node;		/* bindings_lock, read under RCU */
	struct vmrpc_vm *gate;		/* referenced, as is the next */
	struct rvmrpc_vm *vm;
};

static DEFINE_SPINLOCK(bindings_lock);
static DEFINE_HASHTABLE(bindings, 6);	/* by gate; bindings_lock to write, RCU to read */

/* Under RCU, or bindings_lock. */
static struct binding *find(const struct vmrpc_vm *gate)
{
	struct binding *b;

	hash_for_each_possible_rcu(bindings, b, node, (unsigned long)gate, lockdep_is_held(&bindings_lock)) {
		if (b->gate == gate)
			return b;
	}
	return NULL;
}

/* ---- Attach ---- */

static void *glue_bind(struct rvmrpc_vm *vm, struct file *token)
{
	struct binding *b = kzalloc(sizeof(*b), GFP_KERNEL_ACCOUNT);
	int ret = 0;

	if (!b)
		return ERR_PTR(-ENOMEM);
	b->gate = vmrpc_token_vm(token);
	if (!b->gate) {
		kfree(b);
		return ERR_PTR(-EINVAL);
	}
	b->vm = vm;
	spin_lock(&bindings_lock);
	if (find(b->gate))
		ret = -EBUSY;
	else
		hash_add_rcu(bindings, &b->node, (unsigned long)b->gate);
	spin_unlock(&bindings_lock);
	if (ret) {
		vmrpc_vm_put(b->gate);
		kfree(b);
		return ERR_PTR(ret);
	}
	rvmrpc_vm_get(vm);
	return b;
}

static void glue_unbind(void *binding)
{
	struct binding *b = binding;

	spin_lock(&bindings_lock);
	hash_del_rcu(&b->node);
	spin_unlock(&bindings_lock);
	synchronize_rcu();
	rvmrpc_vm_put(b->vm);
	vmrpc_vm_put(b->gate);
	kfree(b);
}

static const struct rvmrpc_glue glue = {
	.owner = THIS_MODULE,
	.bind = glue_bind,
	.unbind = glue_unbind,
};

/* ---- RVMRPC_MAIN ---- */

struct main_wait {
	struct rvmrpc_waiter waiter;
	struct kvm_vcpu *vcpu;
};

static void main_wake(struct rvmrpc_waiter *waiter)
{
	vmlp_wake(container_of(waiter, struct main_wait, waiter)->vcpu);
}

static bool main_woken(void *data)
{
	return READ_ONCE(((struct rvmrpc_waiter *)data)->woken);
}

/* Referenced: it is there as long as the wait is. */
static struct rvmrpc_vm *channel_of(struct vmrpc_data *rpcdata)
{
	struct rvmrpc_vm *vm = NULL;
	struct binding *b;

	rcu_read_lock();
	b = find(vmrpc_vm(rpcdata));
	if (b)
		vm = rvmrpc_vm_get(b->vm);
	rcu_read_unlock();
	return vm;
}

static int main_wait(struct vmrpc_data *rpcdata, struct rvmrpc_vm *vm, u64 epoch, u32 seen, u32 wait_us)
{
	struct main_wait w = {
		.waiter.wake = main_wake,
		.vcpu = vmrpc_vcpu(rpcdata),
	};
	int ret;

	INIT_LIST_HEAD(&w.waiter.node);
	ret = rvmrpc_glue_main(vm, epoch, seen, &w.waiter);
	if (ret != -EAGAIN)
		return ret;
	vmlp_wait(rpcdata, main_woken, &w.waiter, wait_us);
	return rvmrpc_glue_leave(vm, &w.waiter);
}

static int glue_main(struct vmrpc_data *rpcdata, u64 epoch, u64 arg)
{
	u32 seen = arg, wait_us = min_t(u32, arg >> 32, RVMRPC_WAIT_MS_MAX * 1000u);
	struct rvmrpc_vm *vm = channel_of(rpcdata);
	int ret;

	if (!vm)
		return -ENODEV;
	ret = wait_us ? main_wait(rpcdata, vm, epoch, seen, wait_us) : rvmrpc_glue_main(vm, epoch, seen, NULL);
	rvmrpc_vm_put(vm);
	return ret ?: RVMRPC_MAIN_POSTED;
}

static int glue_dispatch(struct vmrpc_data *rpcdata, u32 func, u64 arg, size_t bytes)
{
	return func == RVMRPC_MAIN ? glue_main(rpcdata, arg, bytes) : -EOPNOTSUPP;
}

static struct vmrpc_module server = {
	.name = RVMRPC_PROXY_NAME,
	.version = RVMRPC_PROXY_VERSION_WINDOW,
	.owner = THIS_MODULE,
	.dispatch = glue_dispatch,
};

static int __init glue_init(void)
{
	int ret = vmrpc_register_module(&server);

	if (ret)
		return ret;
	ret = rvmrpc_glue_register(&glue);
	if (ret)
		vmrpc_unregister_module(&server);
	return ret;
}

static void __exit glue_exit(void)
{
	rvmrpc_glue_unregister(&glue);
	vmrpc_unregister_module(&server);
}

module_init(glue_init);
module_exit(glue_exit);

MODULE_DESCRIPTION("Reverse VMRPC: a vCPU waits for calls in the host");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
