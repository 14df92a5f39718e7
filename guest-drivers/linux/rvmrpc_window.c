// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window: BAR 2 of our device, or of a stock QEMU's ivshmem-doorbell.
 *
 * Other users of ivshmem have the same PCI ID, so nothing is written to a device and nothing of it is changed before
 * one page of its memory was read and has our magic.  That page is written by whoever is at the other end: the magic
 * authenticates nobody, which is why "auto" takes only what can be an rvmrpcd's, and ivshmem= can name the device.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

static char *ivshmem = "auto";
module_param(ivshmem, charp, 0444);
MODULE_PARM_DESC(ivshmem, "ivshmem devices to use as a window: off, auto, or one PCI address (default auto)");

/* ---- Mapping ---- */

#ifdef CONFIG_VMAP_PFN
/* For where memremap() does not do it: this is RAM of the host, and on AMD the type of our mapping is what counts. */
static void *rvmrpc_map_write_back(phys_addr_t start, size_t size)
{
	size_t i, count = size >> PAGE_SHIFT;
	unsigned long *pfns;
	void *base;

	pfns = kvmalloc_array(count, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return NULL;
	for (i = 0; i < count; i++)
		pfns[i] = PHYS_PFN(start) + i;
	base = vmap_pfn(pfns, count, pgprot_decrypted(PAGE_KERNEL));
	kvfree(pfns);
	return base;
}

static void rvmrpc_unmap_write_back(void *base)
{
	vunmap(base);
}
#else
static void *rvmrpc_map_write_back(phys_addr_t start, size_t size)
{
	return NULL;
}

static void rvmrpc_unmap_write_back(void *base)
{
}
#endif

static int rvmrpc_map(struct rvmrpc_dev *rdev)
{
	struct pci_dev *pdev = rdev->pdev;
	phys_addr_t start = pci_resource_start(pdev, RVMRPC_BAR_WINDOW);
	size_t size = pci_resource_len(pdev, RVMRPC_BAR_WINDOW);

	rdev->w.base = RVMRPC_MEMREMAP_CACHED ? NULL : rvmrpc_map_write_back(start, size);
	rdev->w.vmapped = rdev->w.base;
	rdev->w.write_back = rdev->w.vmapped || RVMRPC_MEMREMAP_CACHED;
	if (!rdev->w.write_back)
		dev_notice(&pdev->dev, "this kernel cannot map the window write-back: calls will be slower\n");
	if (!rdev->w.vmapped)
		rdev->w.base = memremap(start, size, MEMREMAP_WB);
	return rdev->w.base ? 0 : -ENOMEM;
}

/* ---- Whose device is it? ---- */

/* Reads one page, without a change to the device. */
static u32 rvmrpc_probe_page(struct pci_dev *pdev, struct rvmrpc_window_id *id)
{
	struct rvmrpc_window win = {
		.size = pci_resource_len(pdev, RVMRPC_BAR_WINDOW),
	};
	u32 status;

	if (win.size < RVMRPC_WINDOW_SIZE_MIN || win.size > RVMRPC_WINDOW_SIZE_MAX)
		return RVMRPC_HELLO_BAD_ARGS;
	win.base = memremap(pci_resource_start(pdev, RVMRPC_BAR_WINDOW), PAGE_SIZE, MEMREMAP_WB);
	if (!win.base)
		return RVMRPC_HELLO_BAD_ARGS;
	status = rvmrpc_guest_probe(&win, id);
	memunmap(win.base);
	return status;
}

static u32 rvmrpc_ivshmem_position(struct pci_dev *pdev)
{
	void __iomem *regs = pci_iomap(pdev, RVMRPC_IVSHMEM_BAR_REGS, 0);
	u32 position = ~0u;

	if (!regs)
		return position;
	position = readl(regs + RVMRPC_IVSHMEM_REG_POSITION);
	pci_iounmap(pdev, regs);
	return position;
}

static bool rvmrpc_has_own_device(void)
{
	struct pci_dev *own = pci_get_device(RVMRPC_PCI_VENDOR, RVMRPC_PCI_DEVICE, NULL);

	pci_dev_put(own);
	return own;
}

static bool rvmrpc_window_assigned(struct pci_dev *pdev)
{
	return pdev->resource[RVMRPC_IVSHMEM_BAR_REGS].parent && pdev->resource[RVMRPC_BAR_WINDOW].parent;
}

/**
 * rvmrpc_window_show() - switch on an ivshmem device's memory for a look at it, where that is not firmware's business
 * @pdev: device, not enabled by this driver
 * @command: what was in its command register, for rvmrpc_window_hide()
 *
 * Context: probe.
 */
void rvmrpc_window_show(struct pci_dev *pdev, u16 *command)
{
	pci_read_config_word(pdev, PCI_COMMAND, command);
	if (!RVMRPC_HAS_FIRMWARE && strcmp(ivshmem, "off") && rvmrpc_window_assigned(pdev))
		pci_write_config_word(pdev, PCI_COMMAND, *command | PCI_COMMAND_MEMORY);
}

/* It is not ours: as it was. */
void rvmrpc_window_hide(struct pci_dev *pdev, u16 command)
{
	if (!RVMRPC_HAS_FIRMWARE)
		pci_write_config_word(pdev, PCI_COMMAND, command);
}

/* Whether the parameter lets this driver look into an ivshmem device; nothing of it is touched. */
bool rvmrpc_window_wanted(struct pci_dev *pdev)
{
	u16 command;

	if (!strcmp(ivshmem, "off"))
		return false;
	if (strcmp(ivshmem, "auto"))
		return !strcmp(ivshmem, pci_name(pdev));
	/* Firmware has switched it on, or nobody can have written to its memory. */
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	return pdev->msix_cap && !rvmrpc_has_own_device() && (command & PCI_COMMAND_MEMORY) &&
	       rvmrpc_ivshmem_position(pdev) == RVMRPC_IVSHMEM_ID_GUEST;
}

/* Ours: registers of the right kind, and a gate, perhaps. */
static int rvmrpc_window_regs(struct rvmrpc_dev *rdev, void __iomem *regs)
{
	struct pci_dev *pdev = rdev->pdev;
	u32 version;
	int err;

	if (pci_resource_len(pdev, RVMRPC_BAR_REGS) < RVMRPC_REG_SIZE ||
	    readl(regs + RVMRPC_REG_MAGIC) != RVMRPC_DEV_MAGIC)
		return -ENODEV;
	version = readl(regs + RVMRPC_REG_VERSION);
	if (version != RVMRPC_DEV_VERSION) {
		dev_err(&pdev->dev, "registers %u: not for this driver, which wants %u; %s is too old\n", version,
			RVMRPC_DEV_VERSION, version < RVMRPC_DEV_VERSION ? "the QEMU" : "the driver");
		return -ENODEV;
	}
	rdev->w.ring = regs + RVMRPC_REG_RING;
	err = rvmrpc_gate_init(&rdev->gate, pdev, regs);
	rdev->vmlp.frame = rdev->gate.frame + 1;
	return err;
}

static int rvmrpc_window_take(struct rvmrpc_dev *rdev)
{
	struct pci_dev *pdev = rdev->pdev;
	void __iomem *regs;
	int err;

	err = rvmrpc_request_region(pdev, RVMRPC_BAR_WINDOW, KBUILD_MODNAME);
	if (!err)
		err = pcim_iomap_regions(pdev, BIT(RVMRPC_BAR_REGS), KBUILD_MODNAME);
	if (err)
		return err;
	regs = pcim_iomap_table(pdev)[RVMRPC_BAR_REGS];
	if (!rvmrpc_is_ivshmem(pdev))
		return rvmrpc_window_regs(rdev, regs);
	rdev->w.ring = regs + RVMRPC_IVSHMEM_REG_DOORBELL;
	return 0;
}

/**
 * rvmrpc_window_map() - take a device, if it has a window of ours
 * @rdev: device
 *
 * Context: probe.
 * Return: 0; -ENODEV for other users' devices; -errno.
 */
int rvmrpc_window_map(struct rvmrpc_dev *rdev)
{
	struct pci_dev *pdev = rdev->pdev;
	struct rvmrpc_window_id id;
	u32 status;
	int err;

	/* Ours is ours without a look at its memory, which firmware need not have switched on. */
	err = rvmrpc_is_ivshmem(pdev) ? 0 : pcim_enable_device(pdev);
	if (err)
		return err;
	status = rvmrpc_probe_page(pdev, &id);
	if (status == RVMRPC_HELLO_BAD_VERSION)
		dev_err(&pdev->dev, "window of layout %u, ABI %u to %u: not for this driver\n", id.layout, id.abi_min,
			id.abi_max);
	if (status != RVMRPC_HELLO_OK)
		return -ENODEV;
	rdev->w.doorbell = id.doorbell;
	err = rvmrpc_is_ivshmem(pdev) ? pcim_enable_device(pdev) : 0;
	if (!err)
		err = rvmrpc_window_take(rdev);
	return err ?: rvmrpc_map(rdev);
}

/* No thread uses it any more. */
void rvmrpc_window_unmap(struct rvmrpc_dev *rdev)
{
	if (!rdev->w.base)
		return;
	if (rdev->w.vmapped)
		rvmrpc_unmap_write_back(rdev->w.base);
	else
		memunmap(rdev->w.base);
	rdev->w.base = NULL;
}

/* Any thread. */
void rvmrpc_window_ring(struct rvmrpc_dev *rdev)
{
	rvmrpc_count(RVMRPC_CNT_RINGS);
	writel(rdev->w.doorbell, rdev->w.ring);
}
