// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread of the kernel that keeps a CPU with preemption off, for the VM tests.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/preempt.h>

static uint cpu = 1;
module_param(cpu, uint, 0444);

static uint ms = 5000;
module_param(ms, uint, 0444);
MODULE_PARM_DESC(ms, "how long; the module cannot go before");

static struct task_struct *thread;

static int spin(void *data)
{
	ktime_t end = ktime_add_ms(ktime_get(), ms);

	preempt_disable();
	while (ktime_before(ktime_get(), end))
		cpu_relax();
	preempt_enable();
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static int __init spin_init(void)
{
	thread = kthread_create(spin, NULL, "rvmrpc-spin");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	kthread_bind(thread, cpu);
	wake_up_process(thread);
	return 0;
}

static void __exit spin_exit(void)
{
	kthread_stop(thread);
}

module_init(spin_init);
module_exit(spin_exit);

MODULE_DESCRIPTION("Reverse VMRPC: a thread that spins, for the VM tests");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
