// SPDX-License-Identifier: GPL-2.0
/*
 * VMRPC: a gate's counters, as KVM has its own: binary statistics, and files in the VM's folder of debugfs
 *
 * They are no fields of KVM's statistics, which are in structures that other modules know.
 */
#include <linux/anon_inodes.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>

#include "vmrpc_vm.h"

#define COUNTER(counter) {									\
	STATS_DESC_COMMON(KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_UNIT_NONE, KVM_STATS_BASE_POW10, 0, 1, 0),	\
	.offset = offsetof(struct vmrpc_counters, counter),					\
	.name = #counter,									\
}

static const struct kvm_stats_desc descs[] = {
	COUNTER(hypercalls),
	COUNTER(waits),
	COUNTER(interrupted),
	COUNTER(user_exits),
	COUNTER(refused_calls),
};

static const struct kvm_stats_header header = {
	.name_size = KVM_STATS_NAME_SIZE,
	.num_desc = ARRAY_SIZE(descs),
	.id_offset = sizeof(struct kvm_stats_header),
	.desc_offset = sizeof(struct kvm_stats_header) + KVM_STATS_NAME_SIZE,
	.data_offset = sizeof(struct kvm_stats_header) + KVM_STATS_NAME_SIZE + sizeof(descs),
};

/* ---- debugfs ---- */

static int counter_get(void *data, u64 *value)
{
	*value = atomic64_read(data);
	return 0;
}

DEFINE_SIMPLE_ATTRIBUTE(counter_fops, counter_get, NULL, "%llu\n");

void vmrpc_stats_show(struct vmrpc_vm *vm)
{
	unsigned int i;

	vm->debugfs = debugfs_create_dir("vmrpc", vm->kvm->debugfs_dentry);
	for (i = 0; i < ARRAY_SIZE(descs); i++)
		debugfs_create_file(descs[i].name, 0444, vm->debugfs, (void *)&vm->counters + descs[i].offset,
				    &counter_fops);
}

/* None of them is read any more. */
void vmrpc_stats_hide(struct vmrpc_vm *vm)
{
	debugfs_remove(vm->debugfs);
}

/* ---- Binary statistics ---- */

static ssize_t stats_read(struct file *filp, char __user *buf, size_t size, loff_t *offset)
{
	struct vmrpc_vm *vm = filp->private_data;

	return kvm_stats_read(vm->stats_id, &header, descs, &vm->counters, sizeof(vm->counters), buf, size, offset);
}

static int stats_release(struct inode *inode, struct file *filp)
{
	vmrpc_vm_put(filp->private_data);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.release = stats_release,
	.llseek = noop_llseek,
};

int vmrpc_stats_fd(struct vmrpc_vm *vm)
{
	int fd = get_unused_fd_flags(O_CLOEXEC);
	struct file *filp;

	if (fd < 0)
		return fd;
	filp = anon_inode_getfile("vmrpc-stats", &stats_fops, vm, O_RDONLY);
	if (IS_ERR(filp)) {
		put_unused_fd(fd);
		return PTR_ERR(filp);
	}
	kref_get(&vm->kref);
	filp->f_mode |= FMODE_PREAD;
	fd_install(fd, filp);
	return fd;
}
