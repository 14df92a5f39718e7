// SPDX-License-Identifier: GPL-2.0-only
/*
 * Says of what memory type the page table entry of a kernel address is: "pte: ... write-back" in the log.
 *
 * Emulators ignore memory types, so a slow mapping would show on hardware only; the entry shows it everywhere.
 */
#include <linux/module.h>
#include <linux/pgtable.h>
#include <asm/pgtable.h>

static unsigned long address;
module_param(address, ulong, 0);
MODULE_PARM_DESC(address, "mapped kernel address");

static int __init pte_test_init(void)
{
	unsigned int level;
	pte_t *pte = lookup_address(address, &level);

	if (!pte || !pte_present(*pte))
		return -EFAULT;
	/* Entry 0 of the PAT is write-back; the other bits' types are all slower. */
	pr_info("pte: 0x%lx level %u %s\n", address, level,
		pte_flags(*pte) & (_PAGE_PWT | _PAGE_PCD | (level == PG_LEVEL_4K ? _PAGE_PAT : _PAGE_PAT_LARGE)) ?
		"not write-back" : "write-back");
	return -ECANCELED;	/* Done; there is nothing to unload. */
}
module_init(pte_test_init);

MODULE_DESCRIPTION("Reverse VMRPC test: memory type of a mapping");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
