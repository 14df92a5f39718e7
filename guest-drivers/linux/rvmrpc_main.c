// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reverse VMRPC: the host calls procedures of this guest's kernel.
 *
 * The PCI device brings discovery, the window, perhaps a gate, and an interrupt; see docs/guest-linux.md.  It is either ours, or
 * a stock QEMU's ivshmem-doorbell with an rvmrpcd at its other end.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

struct workqueue_struct *rvmrpc_workers;
atomic64_t rvmrpc_counters[RVMRPC_CNT_MAX];

static DEFINE_SPINLOCK(rvmrpc_device_lock);
static struct rvmrpc_dev *rvmrpc_device;	/* the one there may be; rvmrpc_device_lock */

/* ---- The one device ---- */

static bool rvmrpc_device_claim(struct rvmrpc_dev *rdev)
{
	bool claimed = false;

	spin_lock(&rvmrpc_device_lock);
	if (!rvmrpc_device) {
		rvmrpc_device = rdev;
		claimed = true;
	}
	spin_unlock(&rvmrpc_device_lock);
	return claimed;
}

static void rvmrpc_device_release(void)
{
	spin_lock(&rvmrpc_device_lock);
	rvmrpc_device = NULL;
	spin_unlock(&rvmrpc_device_lock);
}

void rvmrpc_server_kick_all(void)
{
	spin_lock(&rvmrpc_device_lock);
	if (rvmrpc_device)
		rvmrpc_server_kick(rvmrpc_device);
	spin_unlock(&rvmrpc_device_lock);
}

/* ---- PCI ---- */

static irqreturn_t rvmrpc_interrupt(int irq, void *data)
{
	rvmrpc_count(RVMRPC_CNT_INTERRUPTS);
	rvmrpc_server_kick(data);
	return IRQ_HANDLED;
}

static void rvmrpc_probe_irq(struct rvmrpc_dev *rdev)
{
	struct pci_dev *pdev = rdev->pdev;
	int err;

	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (err > 0)
		err = devm_request_irq(&pdev->dev, pci_irq_vector(pdev, 0), rvmrpc_interrupt, 0,
				       KBUILD_MODNAME, rdev);
	rdev->has_irq = !err;
	if (err)
		dev_warn(&pdev->dev, "no MSI-X (%pe): polling every 10 ms instead\n", ERR_PTR(err));
}

static int rvmrpc_probe_start(struct rvmrpc_dev *rdev)
{
	int err;

	if (!rvmrpc_device_claim(rdev)) {
		dev_err(&rdev->pdev->dev, "there is another such device\n");
		return -EBUSY;
	}
	err = dma_set_mask_and_coherent(&rdev->pdev->dev, DMA_BIT_MASK(64));
	if (err) {
		rvmrpc_device_release();
		return err;
	}
	pci_set_master(rdev->pdev);
	rvmrpc_probe_irq(rdev);
	if (rdev->gate.regs)
		rvmrpc_gate_publish(&rdev->gate);
	rvmrpc_events_attach(rdev);
	err = rvmrpc_server_start(rdev);
	if (err) {
		rvmrpc_events_detach();
		rvmrpc_gate_withdraw();
		rvmrpc_device_release();
	}
	return err;
}

static int rvmrpc_probe_device(struct pci_dev *pdev)
{
	struct rvmrpc_dev *rdev;
	int err;

	rdev = devm_kzalloc(&pdev->dev, sizeof(*rdev), GFP_KERNEL);
	if (!rdev)
		return -ENOMEM;
	rdev->pdev = pdev;
	init_waitqueue_head(&rdev->wake);
	init_completion(&rdev->stopped);
	pci_set_drvdata(pdev, rdev);

	err = rvmrpc_window_map(rdev);
	if (!err)
		err = rvmrpc_probe_start(rdev);
	if (err)
		rvmrpc_window_unmap(rdev);
	return err;
}

static int rvmrpc_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	u16 command;
	int err;

	if (!rvmrpc_is_ivshmem(pdev))
		return rvmrpc_probe_device(pdev);
	rvmrpc_window_show(pdev, &command);
	err = rvmrpc_window_wanted(pdev) ? rvmrpc_probe_device(pdev) : -ENODEV;
	if (err)
		rvmrpc_window_hide(pdev, command);
	return err;
}

static void rvmrpc_remove(struct pci_dev *pdev)
{
	struct rvmrpc_dev *rdev = pci_get_drvdata(pdev);

	rvmrpc_server_stop(rdev, 0);
	rvmrpc_events_detach();
	rvmrpc_gate_withdraw();
	rvmrpc_device_release();
	rvmrpc_jobs_free(rdev);
	rvmrpc_window_unmap(rdev);
}

/* Before kexec, reboot and power-off. */
static void rvmrpc_shutdown(struct pci_dev *pdev)
{
	struct rvmrpc_dev *rdev = pci_get_drvdata(pdev);

	/* A thread that is held leaves when it can, if there is still a kernel then. */
	if (rvmrpc_server_stop(rdev, RVMRPC_STOP_MS))
		WRITE_ONCE(rdev->stop, RVMRPC_STOP_ASKED);
}

static int rvmrpc_suspend(struct device *dev)
{
	return rvmrpc_server_stop(dev_get_drvdata(dev), RVMRPC_STOP_MS);
}

static int rvmrpc_resume(struct device *dev)
{
	return rvmrpc_server_start(dev_get_drvdata(dev));
}

static DEFINE_SIMPLE_DEV_PM_OPS(rvmrpc_pm_ops, rvmrpc_suspend, rvmrpc_resume);

static const struct pci_device_id rvmrpc_ids[] = {
	{ PCI_DEVICE(RVMRPC_PCI_VENDOR, RVMRPC_PCI_DEVICE) },
	{ PCI_DEVICE(RVMRPC_PCI_VENDOR, RVMRPC_IVSHMEM_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, rvmrpc_ids);

static struct pci_driver rvmrpc_driver = {
	.name = KBUILD_MODNAME,
	.id_table = rvmrpc_ids,
	.probe = rvmrpc_probe,
	.remove = rvmrpc_remove,
	.shutdown = rvmrpc_shutdown,
	.driver.pm = pm_sleep_ptr(&rvmrpc_pm_ops),
	RVMRPC_DEV_GROUPS(rvmrpc_dev_groups),
};

/* ---- Module ---- */

struct rvmrpc_part {
	int (*init)(void);
	void (*exit)(void);
};

static int rvmrpc_workers_init(void)
{
	/* Nothing is allocated per call. */
	rvmrpc_workers = alloc_workqueue(KBUILD_MODNAME,
					 WQ_UNBOUND | WQ_MEM_RECLAIM | WQ_FREEZABLE,
					 RVMRPC_JOBS_MAX);
	return rvmrpc_workers ? 0 : -ENOMEM;
}

/* Waits for the calls that run. */
static void rvmrpc_workers_exit(void)
{
	destroy_workqueue(rvmrpc_workers);
}

static int rvmrpc_pci_init(void)
{
	return pci_register_driver(&rvmrpc_driver);
}

static void rvmrpc_pci_exit(void)
{
	pci_unregister_driver(&rvmrpc_driver);
}

/* Workers use all before them, the device uses all. */
static const struct rvmrpc_part rvmrpc_parts[] = {
	{ rvmrpc_proc_init, rvmrpc_proc_exit },
	{ rvmrpc_mod_core_init, rvmrpc_mod_core_exit },
	{ rvmrpc_mod_sysinfo_init, rvmrpc_mod_sysinfo_exit },
	{ rvmrpc_mod_reclaim_init, rvmrpc_mod_reclaim_exit },
	{ rvmrpc_mod_procfs_init, rvmrpc_mod_procfs_exit },
	{ rvmrpc_mod_pressure_init, rvmrpc_mod_pressure_exit },
	{ rvmrpc_mod_tasks_init, rvmrpc_mod_tasks_exit },
	{ rvmrpc_mod_klog_init, rvmrpc_mod_klog_exit },
	{ rvmrpc_mod_fs_init, rvmrpc_mod_fs_exit },
	{ rvmrpc_mod_net_init, rvmrpc_mod_net_exit },
	{ rvmrpc_mod_clock_init, rvmrpc_mod_clock_exit },
	{ rvmrpc_mod_control_init, rvmrpc_mod_control_exit },
	{ rvmrpc_mod_freeze_init, rvmrpc_mod_freeze_exit },
	{ rvmrpc_mod_files_init, rvmrpc_mod_files_exit },
	{ rvmrpc_mod_connect_init, rvmrpc_mod_connect_exit },
	{ rvmrpc_mod_vmcoreinfo_init, rvmrpc_mod_vmcoreinfo_exit },
	{ rvmrpc_event_sources_init, rvmrpc_event_sources_exit },
	{ rvmrpc_workers_init, rvmrpc_workers_exit },
	{ rvmrpc_user_init, rvmrpc_user_exit },
	{ rvmrpc_pci_init, rvmrpc_pci_exit },
};

static void rvmrpc_parts_exit(size_t n)
{
	while (n--)
		rvmrpc_parts[n].exit();
}

static int __init rvmrpc_init(void)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(rvmrpc_parts); i++) {
		err = rvmrpc_parts[i].init();
		if (err) {
			rvmrpc_parts_exit(i);
			return err;
		}
	}
	return 0;
}

static void __exit rvmrpc_exit(void)
{
	rvmrpc_parts_exit(ARRAY_SIZE(rvmrpc_parts));
}

module_init(rvmrpc_init);
module_exit(rvmrpc_exit);

MODULE_DESCRIPTION("Reverse VMRPC: the host calls procedures of this kernel");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_VERSION("0.2.0");
MODULE_LICENSE("GPL");
