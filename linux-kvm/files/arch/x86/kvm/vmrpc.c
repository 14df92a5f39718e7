// SPDX-License-Identifier: GPL-2.0
/*
 * VMRPC: guests call procedures of the host's kernel, and of their VMM
 *
 * A gate call is a hypercall with a private number.  It runs in the vCPU's thread; guest memory is touched only there.
 * The instruction is skipped first and the answer preset, so that a procedure may sleep and nothing else need be known
 * of the call.  kvm->srcu is dropped around each procedure and taken again by the copy helpers.
 */
#define pr_fmt(fmt) "vmrpc: " fmt

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/rwsem.h>
#include <linux/wait_bit.h>

#include "kvm_cache_regs.h"
#include "mmu.h"
#include "vmrpc.h"
#include "vmrpc_vm.h"
#include "x86.h"

#define CREATE_TRACE_POINTS
#include "vmrpc_trace.h"

DEFINE_STATIC_KEY_FALSE(vmrpc_enabled);

/* ---- VMs ---- */

static DEFINE_MUTEX(vms_lock);
static DEFINE_HASHTABLE(vms_by_kvm, 6);	/* vms_lock to write, RCU to read */

struct vmrpc_vm *vmrpc_vm_find(struct kvm *kvm)
{
	struct vmrpc_vm *vm;

	hash_for_each_possible_rcu(vms_by_kvm, vm, node, (unsigned long)kvm) {
		if (vm->kvm == kvm)
			return vm;
	}
	return NULL;
}

static void vm_free(struct kref *kref)
{
	struct vmrpc_vm *vm = container_of(kref, struct vmrpc_vm, kref);

	kvfree_rcu(vm, rcu);
}

void vmrpc_vm_put(struct vmrpc_vm *vm)
{
	kref_put(&vm->kref, vm_free);
}
EXPORT_SYMBOL_GPL(vmrpc_vm_put);

const struct vmrpc_vm *vmrpc_vm(const struct vmrpc_data *rpcdata)
{
	return rpcdata->vm;
}
EXPORT_SYMBOL_GPL(vmrpc_vm);

/* ---- Server modules ---- */

#define VMRPC_HANDLE_MASK	0x7fffffff

static LIST_HEAD(modules);		/* modules_lock */
static DECLARE_RWSEM(modules_lock);	/* held for reading while a module is looked up, not while it runs */
static u32 next_handle;			/* modules_lock; random start, so that a handle of another host is refused */

static struct vmrpc_module *find_name(const char *name)
{
	struct vmrpc_module *m;

	lockdep_assert_held(&modules_lock);
	list_for_each_entry(m, &modules, node) {
		if (!strcmp(m->name, name))
			return m;
	}
	return NULL;
}

static bool name_ok(const char *name)
{
	return name && *name && strnlen(name, RVMRPC_NAME_MAX + 1) <= RVMRPC_NAME_MAX;
}

int vmrpc_register_module(struct vmrpc_module *module)
{
	int ret = 0;

	if (!name_ok(module->name) || !name_ok(module->version) || !module->dispatch)
		return -EINVAL;
	down_write(&modules_lock);
	if (find_name(module->name)) {
		ret = -EEXIST;
	} else {
		if (list_empty(&modules))
			next_handle = get_random_u32();
		module->handle = next_handle++ & VMRPC_HANDLE_MASK;
		atomic_set(&module->running, 0);
		list_add_tail(&module->node, &modules);
	}
	up_write(&modules_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(vmrpc_register_module);

void vmrpc_unregister_module(struct vmrpc_module *module)
{
	down_write(&modules_lock);
	list_del(&module->node);
	up_write(&modules_lock);
	/* A call's reference keeps the owner's exit function away, but not who unregisters before that. */
	wait_var_event(&module->running, !atomic_read(&module->running));
}
EXPORT_SYMBOL_GPL(vmrpc_unregister_module);

/* A guest's binding pins nothing; the reference lasts for one call. */
static struct vmrpc_module *module_get(u32 handle)
{
	struct vmrpc_module *m, *found = NULL;

	down_read(&modules_lock);
	list_for_each_entry(m, &modules, node) {
		/* One whose init function has not ended may yet fail, and is then freed although it is held. */
		if (m->handle == handle && (!m->owner || m->owner->state == MODULE_STATE_LIVE) &&
		    try_module_get(m->owner)) {
			atomic_inc(&m->running);
			found = m;
			break;
		}
	}
	up_read(&modules_lock);
	return found;
}

static void vmrpc_module_put(struct vmrpc_module *m)
{
	struct module *owner = m->owner;

	if (atomic_dec_and_test(&m->running))
		wake_up_var(&m->running);
	module_put(owner);
}

/* ---- Guest memory ---- */

struct kvm_vcpu *vmrpc_vcpu(struct vmrpc_data *rpcdata)
{
	return rpcdata->vcpu;
}
EXPORT_SYMBOL_GPL(vmrpc_vcpu);

int vmrpc_copy_from_guest(struct vmrpc_data *rpcdata, void *buf, u64 gva, size_t bytes)
{
	struct x86_exception e;
	int ret;

	if (bytes > INT_MAX)
		return -EFAULT;
	kvm_vcpu_srcu_read_lock(rpcdata->vcpu);
	ret = kvm_read_guest_virt(rpcdata->vcpu, gva, buf, bytes, &e);
	kvm_vcpu_srcu_read_unlock(rpcdata->vcpu);
	return ret == X86EMUL_CONTINUE ? 0 : -EFAULT;
}
EXPORT_SYMBOL_GPL(vmrpc_copy_from_guest);

int vmrpc_copy_to_guest(struct vmrpc_data *rpcdata, u64 gva, const void *buf, size_t bytes)
{
	struct x86_exception e;
	int ret;

	if (bytes > INT_MAX)
		return -EFAULT;
	kvm_vcpu_srcu_read_lock(rpcdata->vcpu);
	ret = kvm_write_guest_virt_system(rpcdata->vcpu, gva, (void *)buf, bytes, &e);
	kvm_vcpu_srcu_read_unlock(rpcdata->vcpu);
	return ret == X86EMUL_CONTINUE ? 0 : -EFAULT;
}
EXPORT_SYMBOL_GPL(vmrpc_copy_to_guest);

void *vmrpc_get_hva(struct vmrpc_data *rpcdata, u64 gva, size_t bytes, bool write, size_t *got)
{
	struct kvm_vcpu *vcpu = rpcdata->vcpu;
	gpa_t gpa;
	int ret = -EFAULT;

	vmrpc_put_hva(rpcdata);
	kvm_vcpu_srcu_read_lock(vcpu);
	gpa = write ? kvm_mmu_gva_to_gpa_write(vcpu, gva, NULL) : kvm_mmu_gva_to_gpa_read(vcpu, gva, NULL);
	if (gpa != INVALID_GPA)
		ret = kvm_vcpu_map(vcpu, gpa_to_gfn(gpa), &rpcdata->map);
	kvm_vcpu_srcu_read_unlock(vcpu);
	if (ret)
		return NULL;
	rpcdata->mapped = true;
	rpcdata->map_dirty = write;
	*got = min_t(size_t, bytes, PAGE_SIZE - offset_in_page(gva));
	return rpcdata->map.hva + offset_in_page(gva);
}
EXPORT_SYMBOL_GPL(vmrpc_get_hva);

void vmrpc_put_hva(struct vmrpc_data *rpcdata)
{
	if (!rpcdata->mapped)
		return;
	kvm_vcpu_srcu_read_lock(rpcdata->vcpu);
	kvm_vcpu_unmap(rpcdata->vcpu, &rpcdata->map, rpcdata->map_dirty);
	kvm_vcpu_srcu_read_unlock(rpcdata->vcpu);
	rpcdata->mapped = false;
}
EXPORT_SYMBOL_GPL(vmrpc_put_hva);

/* ---- Gate calls ---- */

/* What the guest passed, read once. */
struct gate_args {
	u64 op, a0, a1, a2;
};

static u32 errno_to_gate(int err)
{
	switch (err) {
	case -EAGAIN:
		return RVMRPC_GATE_AGAIN;
	case -ECONNRESET:
		return RVMRPC_GATE_RESET;
	case -EFAULT:
		return RVMRPC_GATE_FAULT;
	case -EINVAL:
		return RVMRPC_GATE_BAD_ARGS;
	case -EPROTONOSUPPORT:
		return RVMRPC_GATE_BAD_VERSION;
	case -EOPNOTSUPP:
		return RVMRPC_GATE_NO_PROCEDURE;
	case -ENODEV:
		return RVMRPC_GATE_NO_MODULE;
	case -ENOMEM:
		return RVMRPC_GATE_NO_MEMORY;
	case -EPERM:
		return RVMRPC_GATE_DENIED;
	default:
		return RVMRPC_GATE_FAILED;
	}
}

static u32 gate_bind(struct vmrpc_data *rpcdata, const struct gate_args *args)
{
	struct vmrpc_bind bind;
	struct vmrpc_module *m;
	u32 answer;

	if (args->a1 || args->a2)
		return RVMRPC_GATE_BAD_ARGS;
	if (vmrpc_copy_from_guest(rpcdata, &bind, args->a0, sizeof(bind)))
		return RVMRPC_GATE_FAULT;
	if (!memchr(bind.name, 0, sizeof(bind.name)) || !memchr(bind.version, 0, sizeof(bind.version)))
		return RVMRPC_GATE_BAD_ARGS;

	down_read(&modules_lock);
	m = find_name(bind.name);
	if (!m)
		answer = RVMRPC_GATE_NO_MODULE;
	else if (strcmp(m->version, bind.version))
		answer = RVMRPC_GATE_BAD_VERSION;
	else
		answer = m->handle;
	up_read(&modules_lock);
	return answer;
}

static u32 gate_perform(struct vmrpc_data *rpcdata, const struct gate_args *args)
{
	struct vmrpc_module *m = module_get((u32)args->a0);
	int ret;

	if (!m)
		return RVMRPC_GATE_BAD_HANDLE;
	ret = m->dispatch(rpcdata, args->a0 >> 32, args->a1, args->a2);
	vmrpc_put_hva(rpcdata);
	vmrpc_module_put(m);
	return ret >= 0 ? ret : errno_to_gate(ret);
}

static u32 gate_unbind(const struct gate_args *args)
{
	struct vmrpc_module *m = module_get((u32)args->a0);

	if (!m)
		return RVMRPC_GATE_BAD_HANDLE;
	vmrpc_module_put(m);
	return 0;
}

static u32 gate_execute(struct vmrpc_data *rpcdata, const struct gate_args *args)
{
	switch (args->op) {
	case RVMRPC_OP_NULL:
		return RVMRPC_NULL_ANSWER;
	case RVMRPC_OP_BIND | RVMRPC_OP_KERNEL:
		return gate_bind(rpcdata, args);
	case RVMRPC_OP_PERFORM | RVMRPC_OP_KERNEL:
		return gate_perform(rpcdata, args);
	case RVMRPC_OP_UNBIND | RVMRPC_OP_KERNEL:
		return gate_unbind(args);
	default:
		return RVMRPC_GATE_BAD_OP;
	}
}

/* The VMM has left its answer in kvm_run. */
static int complete_vmm_call(struct kvm_vcpu *vcpu)
{
	trace_vmrpc_gate(vcpu->vcpu_id, vcpu->run->hypercall.nr, vcpu->run->hypercall.args[0],
			 vcpu->run->hypercall.ret);
	kvm_rax_write(vcpu, vcpu->run->hypercall.ret);
	++vcpu->stat.hypercalls;
	return kvm_skip_emulated_instruction(vcpu);
}

static int leave_to_vmm(struct kvm_vcpu *vcpu, struct vmrpc_vm *vm, const struct gate_args *args)
{
	struct kvm_run *run = vcpu->run;

	atomic64_inc(&vm->counters.user_exits);
	run->exit_reason = KVM_EXIT_VMRPC;
	memset(&run->hypercall, 0, sizeof(run->hypercall));
	run->hypercall.nr = args->op;
	run->hypercall.args[0] = args->a0;
	run->hypercall.args[1] = args->a1;
	run->hypercall.args[2] = args->a2;
	/* What the guest finds should the VMM never come back to it. */
	run->hypercall.ret = RVMRPC_GATE_ANSWER(RVMRPC_GATE_FAILED);
	vcpu->arch.complete_userspace_io = complete_vmm_call;
	return 0;
}

static bool is_for_vmm(u64 op)
{
	return op == RVMRPC_OP_BIND || op == RVMRPC_OP_PERFORM || op == RVMRPC_OP_UNBIND;
}

static int serve(struct kvm_vcpu *vcpu, struct vmrpc_vm *vm)
{
	const struct gate_args args = {
		.op = kvm_rbx_read(vcpu),
		.a0 = kvm_rcx_read(vcpu),
		.a1 = kvm_rdx_read(vcpu),
		.a2 = kvm_rsi_read(vcpu),
	};
	struct vmrpc_data rpcdata = { .vcpu = vcpu, .vm = vm };
	unsigned long rip = kvm_rip_read(vcpu);
	u32 answer;
	int r;

	atomic64_inc(&vm->counters.hypercalls);
	if (is_for_vmm(args.op))
		return leave_to_vmm(vcpu, vm, &args);

	r = kvm_skip_emulated_instruction(vcpu);
	/* It could not be skipped, and the VMM is told: nothing has been done, and it may be tried again. */
	if (!r && kvm_rip_read(vcpu) == rip)
		return 0;
	kvm_rax_write(vcpu, RVMRPC_GATE_ANSWER(RVMRPC_GATE_AGAIN));
	/* 0: single-step, to be reported now. */
	rpcdata.can_wait = r == 1;

	kvm_vcpu_srcu_read_unlock(vcpu);
	answer = gate_execute(&rpcdata, &args);
	kvm_vcpu_srcu_read_lock(vcpu);

	if (RVMRPC_GATE_IS_CODE(answer) && answer != RVMRPC_GATE_AGAIN)
		atomic64_inc(&vm->counters.refused_calls);
	trace_vmrpc_gate(vcpu->vcpu_id, args.op, args.a0, RVMRPC_GATE_ANSWER(answer));
	kvm_rax_write(vcpu, RVMRPC_GATE_ANSWER(answer));
	++vcpu->stat.hypercalls;
	return r;
}

/* Not ours: another number, another mode, CPL 3, or a VM that is not attached; KVM then does what it always did. */
bool __vmrpc_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	struct vmrpc_vm *vm;

	/* The registers of a protected guest cannot be read. */
	if (vcpu->arch.guest_state_protected || (u32)kvm_rax_read(vcpu) != RVMRPC_HYPERCALL_NR ||
	    is_guest_mode(vcpu) || !is_64_bit_hypercall(vcpu) || kvm_x86_call(get_cpl)(vcpu))
		return false;

	rcu_read_lock();
	vm = vmrpc_vm_find(vcpu->kvm);
	if (vm && !kref_get_unless_zero(&vm->kref))
		vm = NULL;
	rcu_read_unlock();
	if (!vm)
		return false;
	*r = serve(vcpu, vm);
	vmrpc_vm_put(vm);
	return true;
}

/* ---- Tokens ---- */

static int token_status(struct vmrpc_vm *vm, struct rvmrpc_gate_status __user *argp)
{
	const struct rvmrpc_gate_status status = {
		.hypercalls = atomic64_read(&vm->counters.hypercalls),
		.waits = atomic64_read(&vm->counters.waits),
		.interrupted = atomic64_read(&vm->counters.interrupted),
		.user_exits = atomic64_read(&vm->counters.user_exits),
		.refused_calls = atomic64_read(&vm->counters.refused_calls),
	};

	return copy_to_user(argp, &status, sizeof(status)) ? -EFAULT : 0;
}

static long token_ioctl(struct file *filp, unsigned int ioctl, unsigned long arg)
{
	switch (ioctl) {
	case RVMRPC_GATE_STATUS:
		return token_status(filp->private_data, (void __user *)arg);
	case KVM_GET_STATS_FD:
		return vmrpc_stats_fd(filp->private_data);
	default:
		return -ENOTTY;
	}
}

/* The gate is off, and the VM can be attached again. */
static int token_release(struct inode *inode, struct file *filp)
{
	struct vmrpc_vm *vm = filp->private_data;

	vmrpc_stats_hide(vm);
	mutex_lock(&vms_lock);
	hash_del_rcu(&vm->node);
	mutex_unlock(&vms_lock);
	kvm_put_kvm(vm->kvm);
	vmrpc_vm_put(vm);
	return 0;
}

static const struct file_operations token_fops = {
	.owner = THIS_MODULE,
	.release = token_release,
	.unlocked_ioctl = token_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

struct vmrpc_vm *vmrpc_token_vm(struct file *token)
{
	struct vmrpc_vm *vm = token->private_data;

	if (token->f_op != &token_fops)
		return NULL;
	kref_get(&vm->kref);
	return vm;
}
EXPORT_SYMBOL_GPL(vmrpc_token_vm);

/* -EBUSY: it has a token. */
static int vm_publish(struct vmrpc_vm *vm, struct kvm *kvm)
{
	bool taken;

	mutex_lock(&vms_lock);
	rcu_read_lock();
	taken = vmrpc_vm_find(kvm);
	rcu_read_unlock();
	if (!taken) {
		kvm_get_kvm(kvm);
		vm->kvm = kvm;
		hash_add_rcu(vms_by_kvm, &vm->node, (unsigned long)kvm);
	}
	mutex_unlock(&vms_lock);
	return taken ? -EBUSY : 0;
}

/* SEV of any kind: what the guest hands over by address is encrypted, if its registers can be read at all. */
static bool is_protected(const struct kvm *kvm)
{
	return kvm->arch.has_protected_state || kvm->arch.has_private_mem ||
	       kvm->arch.apicv_inhibit_reasons & BIT(APICV_INHIBIT_REASON_SEV);
}

static int vm_attach(struct kvm *kvm)
{
	struct vmrpc_vm *vm;
	int ret;

	if (is_protected(kvm))
		return -EOPNOTSUPP;
	vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return -ENOMEM;
	kref_init(&vm->kref);
	snprintf(vm->stats_id, sizeof(vm->stats_id), "%s/vmrpc", kvm->stats_id);
	ret = vm_publish(vm, kvm);
	if (ret) {
		vmrpc_vm_put(vm);
		return ret;
	}
	vmrpc_stats_show(vm);
	/* For good: to patch code interrupts all CPUs, and whoever may open /dev/kvm could do it without end. */
	static_branch_enable(&vmrpc_enabled);
	ret = anon_inode_getfd("vmrpc-token", &token_fops, vm, O_RDWR | O_CLOEXEC);
	if (ret < 0) {
		struct file none = { .private_data = vm };

		token_release(NULL, &none);
	}
	return ret;
}

/* ---- Entry points ---- */

/* KVM has seen that the caller has the VM's memory. */
int vmrpc_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	struct rvmrpc_kvm_attach attach;

	if (ioctl != RVMRPC_ATTACH)
		return -ENOTTY;
	if (copy_from_user(&attach, argp, sizeof(attach)))
		return -EFAULT;
	if (attach.version != RVMRPC_KVM_VERSION || attach.flags || memchr_inv(attach.reserved, 0, sizeof(attach.reserved)))
		return -EINVAL;
	return vm_attach(kvm);
}
