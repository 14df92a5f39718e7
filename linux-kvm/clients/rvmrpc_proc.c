// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's section 6: files of this host that show, and do, things in its guests.
 *
 *	/proc/rvmrpc/<uuid>/meminfo, cpuinfo, loadavg	the guest's own text, or its numbers when it has none
 *	/proc/rvmrpc/<uuid>/info			which VM, and which system runs in it
 *	/proc/rvmrpc/<uuid>/drop_caches			takes 1, 2 or 3, as /proc/sys/vm/drop_caches of the guest
 *
 * A VM without a uuid, or with that of another, is found under the pid of its VMM.  A folder is there as long as its VM
 * is attached.  Each read from the start is one call.  For root only: the files also ask for CAP_SYS_ADMIN.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/ctype.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/notifier.h>
#include <linux/proc_fs.h>
#include <linux/rvmrpc.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "rvmrpc_abi.h"
#include "rvmrpc_compat.h"

#define ANSWER_USUAL	((u32)RVMRPC_RES_BYTES_DEFAULT)
#define ANSWER_MAX	((u32)RVMRPC_SLOT_BYTES_MAX)
#define DROP_TIMEOUT_MS	60000	/* it walks all of the guest's caches */

struct proc_vm;

struct proc_kind {
	const char *name;
	size_t size;		/* of what is usually read */
	int (*show)(struct seq_file *m, struct rvmrpc_vm *vm);
};

struct proc_node {
	struct proc_vm *owner;
	const struct proc_kind *kind;
};

#define PROC_KINDS	4

struct proc_vm {
	struct list_head node;		/* vms */
	struct rvmrpc_vm *vm;		/* referenced */
	struct proc_dir_entry *dir;
	char name[UUID_STRING_LEN + 1];
	struct proc_node nodes[PROC_KINDS];
};

static struct proc_dir_entry *root;
static LIST_HEAD(vms);			/* the notifier's, which runs once at a time */

/* ---- Answers ---- */

/* An answer of the guest's sysinfo; checked: all parts lie within the buffer. */
struct answer {
	struct rvmrpc_info *info;
	const struct rvmrpc_item *items;
	const char *text;
};

static int answer_check(struct answer *a, size_t bytes)
{
	if (bytes < sizeof(*a->info))
		return -EPROTO;
	bytes -= sizeof(*a->info);
	a->items = (const struct rvmrpc_item *)(a->info + 1);
	if (a->info->count > bytes / sizeof(*a->items))
		return -EPROTO;
	bytes -= a->info->count * sizeof(*a->items);
	a->text = (const char *)(a->items + a->info->count);
	if (a->info->text_length > bytes || a->info->raw_length > a->info->text_length)
		return -EPROTO;
	return 0;
}

static int ask_with(struct rvmrpc_vm *vm, u32 procedure, struct answer *a, u32 size)
{
	const struct rvmrpc_info_req req = { .flags = RVMRPC_INFO_TEXT };
	ssize_t ret;

	a->info = kvmalloc(size, GFP_KERNEL);
	if (!a->info)
		return -ENOMEM;
	ret = rvmrpc_call_vm(vm, RVMRPC_MOD_SYSINFO, procedure, &req, sizeof(req), a->info, size, 0);
	if (ret >= 0)
		ret = answer_check(a, ret);
	if (ret < 0)
		kvfree(a->info);
	return ret;
}

/* 0: a->info is the caller's to kvfree(). */
static int ask(struct rvmrpc_vm *vm, u32 procedure, struct answer *a)
{
	int ret = ask_with(vm, procedure, a, ANSWER_USUAL);

	return ret == -EMSGSIZE ? ask_with(vm, procedure, a, ANSWER_MAX) : ret;
}

/* A guest's text goes to a terminal of root's. */
static void print_text(struct seq_file *m, const char *text, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		char c = text[i];

		seq_putc(m, c == '\n' || c == '\t' || (isascii(c) && isprint(c)) ? c : '?');
	}
}

/* ---- Items ---- */

/* How the numbers of one procedure look. */
struct labels {
	const char * const *names;	/* by key, or NULL */
	u32 count;
	u32 unit;
	const char *suffix;
};

static void print_value(struct seq_file *m, const struct answer *a, const struct rvmrpc_item *item,
			const struct labels *labels)
{
	u32 offset = item->value, length = item->value >> 32;

	if (item->type == RVMRPC_ITEM_U64)
		seq_printf(m, "%8llu%s", div_u64(item->value, labels->unit), labels->suffix);
	else if (item->type == RVMRPC_ITEM_STRING && (u64)offset + length <= a->info->text_length)
		print_text(m, a->text + array_index_nospec(offset, a->info->text_length + 1), length);
}

static void print_items(struct seq_file *m, const struct answer *a, const struct labels *labels)
{
	u32 cpu = RVMRPC_INDEX_ALL, i;

	for (i = 0; i < a->info->count; i++) {
		const struct rvmrpc_item *item = &a->items[i];
		const char *name;

		if (item->key >= labels->count)
			continue;
		name = labels->names[array_index_nospec(item->key, labels->count)];
		if (!name)
			continue;
		if (item->index != cpu && item->index != RVMRPC_INDEX_ALL)
			seq_printf(m, "\n%-15s %8u\n", "processor:", item->index);
		cpu = item->index;
		seq_printf(m, "%-15s ", name);
		print_value(m, a, item, labels);
		seq_putc(m, '\n');
	}
}

static const char * const mem_names[] = {
	[RVMRPC_MEM_TOTAL] = "MemTotal:",
	[RVMRPC_MEM_FREE] = "MemFree:",
	[RVMRPC_MEM_AVAILABLE] = "MemAvailable:",
	[RVMRPC_MEM_BUFFERS] = "Buffers:",
	[RVMRPC_MEM_CACHED] = "Cached:",
	[RVMRPC_MEM_SWAP_CACHED] = "SwapCached:",
	[RVMRPC_MEM_ACTIVE] = "Active:",
	[RVMRPC_MEM_INACTIVE] = "Inactive:",
	[RVMRPC_MEM_UNEVICTABLE] = "Unevictable:",
	[RVMRPC_MEM_DIRTY] = "Dirty:",
	[RVMRPC_MEM_WRITEBACK] = "Writeback:",
	[RVMRPC_MEM_ANON] = "AnonPages:",
	[RVMRPC_MEM_MAPPED] = "Mapped:",
	[RVMRPC_MEM_SHARED] = "Shmem:",
	[RVMRPC_MEM_SLAB] = "Slab:",
	[RVMRPC_MEM_SLAB_RECLAIMABLE] = "SReclaimable:",
	[RVMRPC_MEM_SLAB_UNRECLAIMABLE] = "SUnreclaim:",
	[RVMRPC_MEM_KERNEL_STACK] = "KernelStack:",
	[RVMRPC_MEM_PAGE_TABLES] = "PageTables:",
	[RVMRPC_MEM_COMMIT_LIMIT] = "CommitLimit:",
	[RVMRPC_MEM_COMMITTED_AS] = "Committed_AS:",
	[RVMRPC_MEM_SWAP_TOTAL] = "SwapTotal:",
	[RVMRPC_MEM_SWAP_FREE] = "SwapFree:",
	[RVMRPC_MEM_WIRED] = "Wired:",
	[RVMRPC_MEM_LAUNDRY] = "Laundry:",
};

static const char * const cpu_names[] = {
	[RVMRPC_CPU_ONLINE] = "online:",
	[RVMRPC_CPU_PRESENT] = "present:",
	[RVMRPC_CPU_VENDOR] = "vendor_id:",
	[RVMRPC_CPU_MODEL_NAME] = "model name:",
	[RVMRPC_CPU_FAMILY] = "cpu family:",
	[RVMRPC_CPU_MODEL] = "model:",
	[RVMRPC_CPU_STEPPING] = "stepping:",
	[RVMRPC_CPU_HZ] = "cpu Hz:",
	[RVMRPC_CPU_PACKAGE] = "physical id:",
	[RVMRPC_CPU_CORE] = "core id:",
};

static const char * const os_names[] = {
	[RVMRPC_OSINFO_SYSNAME] = "sysname:",
	[RVMRPC_OSINFO_RELEASE] = "release:",
	[RVMRPC_OSINFO_VERSION] = "version:",
	[RVMRPC_OSINFO_MACHINE] = "machine:",
	[RVMRPC_OSINFO_HOSTNAME] = "hostname:",
	[RVMRPC_OSINFO_UPTIME_NS] = "uptime ns:",
	[RVMRPC_OSINFO_BOOT_TIME] = "booted at:",
	[RVMRPC_OSINFO_PAGE_SIZE] = "page size:",
	[RVMRPC_OSINFO_CPUS] = "cpus:",
};

static const struct labels mem_labels = { mem_names, ARRAY_SIZE(mem_names), 1024, " kB" };
static const struct labels cpu_labels = { cpu_names, ARRAY_SIZE(cpu_names), 1, "" };
static const struct labels os_labels = { os_names, ARRAY_SIZE(os_names), 1, "" };

static u64 find_u64(const struct answer *a, u16 key)
{
	u32 i;

	for (i = 0; i < a->info->count; i++) {
		if (a->items[i].key == key && a->items[i].type == RVMRPC_ITEM_U64)
			return a->items[i].value;
	}
	return 0;
}

/* ---- What the files show ---- */

static int show_labelled(struct seq_file *m, struct rvmrpc_vm *vm, u32 procedure, const struct labels *labels)
{
	struct answer a;
	int ret = ask(vm, procedure, &a);

	if (ret)
		return ret;
	if (a.info->raw_length)
		print_text(m, a.text, a.info->raw_length);
	else
		print_items(m, &a, labels);
	kvfree(a.info);
	return 0;
}

static int show_meminfo(struct seq_file *m, struct rvmrpc_vm *vm)
{
	return show_labelled(m, vm, RVMRPC_SYSINFO_MEMINFO, &mem_labels);
}

static int show_cpuinfo(struct seq_file *m, struct rvmrpc_vm *vm)
{
	return show_labelled(m, vm, RVMRPC_SYSINFO_CPUINFO, &cpu_labels);
}

static void print_load(struct seq_file *m, u64 millionths)
{
	u32 below;
	u64 whole = div_u64_rem(millionths, 1000000, &below);

	seq_printf(m, "%llu.%02u ", whole, below / 10000);
}

static int show_loadavg(struct seq_file *m, struct rvmrpc_vm *vm)
{
	struct answer a;
	int ret = ask(vm, RVMRPC_SYSINFO_LOADAVG, &a);

	if (ret)
		return ret;
	if (a.info->raw_length) {
		print_text(m, a.text, a.info->raw_length);
	} else {
		print_load(m, find_u64(&a, RVMRPC_LOAD_1M));
		print_load(m, find_u64(&a, RVMRPC_LOAD_5M));
		print_load(m, find_u64(&a, RVMRPC_LOAD_15M));
		seq_printf(m, "%llu/%llu\n", find_u64(&a, RVMRPC_LOAD_RUNNABLE),
			   find_u64(&a, RVMRPC_LOAD_THREADS));
	}
	kvfree(a.info);
	return 0;
}

/* What the host knows is shown even when the guest is silent. */
static int show_info(struct seq_file *m, struct rvmrpc_vm *vm)
{
	const char *name = rvmrpc_vm_name(vm);
	bool connected = rvmrpc_vm_connected(vm);
	struct answer a;

	seq_printf(m, "%-15s %llu\n", "id:", rvmrpc_vm_id(vm));
	seq_printf(m, "%-15s %pUb\n", "uuid:", rvmrpc_vm_uuid(vm));
	seq_printf(m, "%-15s ", "name:");
	print_text(m, name, strlen(name));
	seq_printf(m, "\n%-15s %d\n", "pid:", rvmrpc_vm_pid(vm));
	seq_printf(m, "%-15s %s\n", "connected:", connected ? "yes" : "no");
	if (connected && !ask(vm, RVMRPC_SYSINFO_OSINFO, &a)) {
		print_items(m, &a, &os_labels);
		kvfree(a.info);
	}
	return 0;
}

static const struct proc_kind kinds[PROC_KINDS] = {
	{ "meminfo", PAGE_SIZE, show_meminfo },
	{ "cpuinfo", SZ_64K, show_cpuinfo },
	{ "loadavg", PAGE_SIZE, show_loadavg },
	{ "info", PAGE_SIZE, show_info },
};

/* ---- Files ---- */

static int node_show(struct seq_file *m, void *v)
{
	const struct proc_node *node = m->private;

	return node->kind->show(m, node->owner->vm);
}

static int node_open(struct inode *inode, struct file *file)
{
	struct proc_node *node = pde_data(inode);

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	return single_open_size(file, node_show, node, node->kind->size);
}

static const struct proc_ops node_ops = {
	.proc_open = node_open,
	.proc_read_iter = seq_read_iter,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int drop_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static ssize_t drop_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct proc_vm *pv = pde_data(file_inode(file));
	struct rvmrpc_drop_req req = {};
	struct rvmrpc_drop_res res;
	ssize_t ret;
	u8 mode;

	ret = kstrtou8_from_user(buf, count, 10, &mode);
	if (ret)
		return ret;
	if (mode < RVMRPC_DROP_PAGECACHE || mode > RVMRPC_DROP_ALL)
		return -EINVAL;
	req.mode = mode;
	ret = rvmrpc_call_vm(pv->vm, RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &req, sizeof(req), &res,
			     sizeof(res), DROP_TIMEOUT_MS);
	return ret < 0 ? ret : count;
}

static const struct proc_ops drop_ops = {
	.proc_open = drop_open,
	.proc_write = drop_write,
	.proc_lseek = noop_llseek,
};

/* ---- Folders ---- */

static bool name_taken(const char *name)
{
	struct proc_vm *pv;

	list_for_each_entry(pv, &vms, node) {
		if (!strcmp(pv->name, name))
			return true;
	}
	return false;
}

/* proc warns of a name that is there already, and these are a VMM's to choose. */
static void choose_name(struct proc_vm *pv)
{
	pid_t pid = rvmrpc_vm_pid(pv->vm);

	snprintf(pv->name, sizeof(pv->name), "%pUb", rvmrpc_vm_uuid(pv->vm));
	if (uuid_is_null(rvmrpc_vm_uuid(pv->vm)) || name_taken(pv->name))
		snprintf(pv->name, sizeof(pv->name), "%d", pid);
	if (name_taken(pv->name))
		snprintf(pv->name, sizeof(pv->name), "%d-%llu", pid, rvmrpc_vm_id(pv->vm));
}

static bool create_files(struct proc_vm *pv)
{
	int i;

	pv->dir = proc_mkdir_mode(pv->name, 0500, root);
	if (!pv->dir)
		return false;
	for (i = 0; i < PROC_KINDS; i++) {
		struct proc_node *node = &pv->nodes[i];

		node->owner = pv;
		node->kind = &kinds[i];
		if (!proc_create_data(node->kind->name, 0400, pv->dir, &node_ops, node))
			return false;
	}
	return proc_create_data("drop_caches", 0200, pv->dir, &drop_ops, pv);
}

/* Waits for those who are inside one of the files. */
static void proc_vm_free(struct proc_vm *pv)
{
	proc_remove(pv->dir);
	rvmrpc_vm_put(pv->vm);
	kfree(pv);
}

static void vm_attached(struct rvmrpc_vm *vm)
{
	struct proc_vm *pv = kzalloc(sizeof(*pv), GFP_KERNEL);

	if (!pv)
		return;
	pv->vm = rvmrpc_vm_get(vm);
	choose_name(pv);
	if (create_files(pv))
		list_add_tail(&pv->node, &vms);
	else
		proc_vm_free(pv);
}

static void vm_detached(struct rvmrpc_vm *vm)
{
	struct proc_vm *pv, *next;

	list_for_each_entry_safe(pv, next, &vms, node) {
		if (pv->vm == vm) {
			list_del(&pv->node);
			proc_vm_free(pv);
		}
	}
}

static int vm_notified(struct notifier_block *nb, unsigned long action, void *data)
{
	switch (action) {
	case RVMRPC_VM_ATTACHED:
		vm_attached(data);
		return NOTIFY_OK;
	case RVMRPC_VM_DETACHED:
		vm_detached(data);
		return NOTIFY_OK;
	default:
		return NOTIFY_DONE;
	}
}

static struct notifier_block vm_notifier = {
	.notifier_call = vm_notified,
};

static int __init rvmrpc_proc_init(void)
{
	int ret;

	root = proc_mkdir_mode("rvmrpc", 0500, NULL);
	if (!root)
		return -ENOMEM;
	ret = rvmrpc_register_notifier(&vm_notifier);
	if (ret)
		proc_remove(root);
	return ret;
}

static void __exit rvmrpc_proc_exit(void)
{
	struct proc_vm *pv, *next;

	rvmrpc_unregister_notifier(&vm_notifier);
	list_for_each_entry_safe(pv, next, &vms, node)
		proc_vm_free(pv);
	proc_remove(root);
}

module_init(rvmrpc_proc_init);
module_exit(rvmrpc_proc_exit);

MODULE_DESCRIPTION("Reverse VMRPC: guests' /proc files in the host");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
