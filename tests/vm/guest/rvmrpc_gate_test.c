// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes any gate call that a test writes to a file, right or wrong.
 *
 * /sys/kernel/debug/rvmrpc_gate/
 *	call		write "GATE OP A0 A1 A2 [noirq|again]"; read the answer, or #UD, or none; again: until it is killed
 *			GATE: vmcall, vmmcall, doorbell (by a frame of its own), ring (A0 is the frame's address)
 *	buffer		memory for arguments; a guard page follows it
 *	addresses	where things are
 *	posted		the window's count of requests
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/asm.h>
#include "rvmrpc_abi.h"

#define BUFFER_PAGES	4
#define BUFFER_BYTES	(BUFFER_PAGES * PAGE_SIZE)

static DEFINE_MUTEX(lock);
static char *buffer;
static struct rvmrpc_frame *frame;
static void __iomem *regs;	/* NULL: no device */
static u64 regs_gpa;
static struct rvmrpc_host_page *page;	/* of the window; NULL: no device */
static char answer[32];		/* lock */
static struct dentry *dir;

static u64 hypercall(bool amd, u64 op, u64 a0, u64 a1, u64 a2)
{
	u64 rax = RVMRPC_HYPERCALL_NR;

	if (amd)
		asm volatile("1: vmmcall\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+a" (rax) : "b" (op), "c" (a0), "d" (a1), "S" (a2) : "memory", "cc");
	else
		asm volatile("1: vmcall\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+a" (rax) : "b" (op), "c" (a0), "d" (a1), "S" (a2) : "memory", "cc");
	return rax;
}

static u64 ring(u64 gpa)
{
	frame->answer = 0;
	writeq(gpa, regs + RVMRPC_REG_DOORBELL);
	return READ_ONCE(frame->answer);
}

static u64 doorbell(u64 op, u64 a0, u64 a1, u64 a2)
{
	*frame = (struct rvmrpc_frame) { .op = op, .a0 = a0, .a1 = a1, .a2 = a2 };
	return ring(virt_to_phys(frame));
}

static int gate_call(const char *gate, u64 op, u64 a0, u64 a1, u64 a2, u64 *result)
{
	bool amd = !strcmp(gate, "vmmcall");

	if (amd || !strcmp(gate, "vmcall"))
		*result = hypercall(amd, op, a0, a1, a2);
	else if (!regs)
		return -ENODEV;
	else if (!strcmp(gate, "doorbell"))
		*result = doorbell(op, a0, a1, a2);
	else if (!strcmp(gate, "ring"))
		*result = ring(a0);
	else
		return -EINVAL;
	return 0;
}

static ssize_t call_write(struct file *file, const char __user *user, size_t bytes, loff_t *pos)
{
	char text[160], gate[16], how[8] = "";
	u64 op, a0, a1, a2, result;
	unsigned long flags = 0;
	bool noirq, again;
	int err;

	if (bytes >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, bytes))
		return -EFAULT;
	text[bytes] = 0;
	if (sscanf(text, "%15s %llx %llx %llx %llx %7s", gate, &op, &a0, &a1, &a2, how) < 5)
		return -EINVAL;
	noirq = !strcmp(how, "noirq");
	again = !strcmp(how, "again");
	mutex_lock(&lock);
	do {
		cond_resched();
		if (noirq)
			local_irq_save(flags);
		err = gate_call(gate, op, a0, a1, a2, &result);
		if (noirq)
			local_irq_restore(flags);
	} while (again && !err && !fatal_signal_pending(current));
	if (!err && result == RVMRPC_HYPERCALL_NR)
		strscpy(answer, "#UD\n", sizeof(answer));
	else if (!err)
		snprintf(answer, sizeof(answer), "0x%llx\n", result);
	mutex_unlock(&lock);
	return err ?: bytes;
}

static ssize_t call_read(struct file *file, char __user *user, size_t bytes, loff_t *pos)
{
	ssize_t done;

	mutex_lock(&lock);
	done = simple_read_from_buffer(user, bytes, pos, answer, strlen(answer));
	mutex_unlock(&lock);
	return done;
}

static const struct file_operations call_fops = {
	.owner = THIS_MODULE,
	.read = call_read,
	.write = call_write,
};

static ssize_t buffer_read(struct file *file, char __user *user, size_t bytes, loff_t *pos)
{
	return simple_read_from_buffer(user, bytes, pos, buffer, BUFFER_BYTES);
}

static ssize_t buffer_write(struct file *file, const char __user *user, size_t bytes, loff_t *pos)
{
	return simple_write_to_buffer(buffer, BUFFER_BYTES, pos, user, bytes);
}

static const struct file_operations buffer_fops = {
	.owner = THIS_MODULE,
	.read = buffer_read,
	.write = buffer_write,
	.llseek = default_llseek,
};

static ssize_t addresses_read(struct file *file, char __user *user, size_t bytes, loff_t *pos)
{
	char text[256];
	int length;

	length = scnprintf(text, sizeof(text),
			   "buffer 0x%lx\nbuffer_gpa 0x%llx\nbuffer_end 0x%lx\nregs 0x%lx\nregs_gpa 0x%llx\nframe_gpa 0x%llx\n",
			   (unsigned long)buffer, (u64)page_to_phys(vmalloc_to_page(buffer)),
			   (unsigned long)buffer + BUFFER_BYTES, (unsigned long)regs, regs_gpa,
			   (u64)virt_to_phys(frame));
	return simple_read_from_buffer(user, bytes, pos, text, length);
}

static int posted_get(void *data, u64 *value)
{
	*value = page ? READ_ONCE(page->posted) : 0;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(posted_fops, posted_get, NULL, "%llx\n");

static const struct file_operations addresses_fops = {
	.owner = THIS_MODULE,
	.read = addresses_read,
};

static void find_device(void)
{
	struct pci_dev *pdev = pci_get_device(RVMRPC_PCI_VENDOR, RVMRPC_PCI_DEVICE, NULL);

	if (!pdev)
		return;
	regs_gpa = pci_resource_start(pdev, RVMRPC_BAR_REGS);
	regs = ioremap(regs_gpa, RVMRPC_REG_SIZE);
	page = memremap(pci_resource_start(pdev, RVMRPC_BAR_WINDOW) + RVMRPC_HOST_PAGE, sizeof(*page), MEMREMAP_WB);
	pci_dev_put(pdev);
}

static int __init gate_test_init(void)
{
	buffer = vzalloc(BUFFER_BYTES);
	frame = (void *)get_zeroed_page(GFP_KERNEL);
	if (!buffer || !frame) {
		vfree(buffer);
		free_page((unsigned long)frame);
		return -ENOMEM;
	}
	find_device();
	dir = debugfs_create_dir("rvmrpc_gate", NULL);
	debugfs_create_file("call", 0600, dir, NULL, &call_fops);
	debugfs_create_file("buffer", 0600, dir, NULL, &buffer_fops);
	debugfs_create_file("addresses", 0400, dir, NULL, &addresses_fops);
	debugfs_create_file("posted", 0400, dir, NULL, &posted_fops);
	return 0;
}

static void __exit gate_test_exit(void)
{
	debugfs_remove(dir);
	if (page)
		memunmap(page);
	if (regs)
		iounmap(regs);
	free_page((unsigned long)frame);
	vfree(buffer);
}

module_init(gate_test_init);
module_exit(gate_test_exit);

MODULE_DESCRIPTION("Reverse VMRPC: gate calls of any kind, for the VM tests");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
