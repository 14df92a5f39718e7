// SPDX-License-Identifier: GPL-2.0
/*
 * A VMM's memory, pinned and mapped: the window.
 *
 * As vhost and vfio do it: the pages count against the VMM's RLIMIT_MEMLOCK, and stay while anybody in this kernel uses
 * them, even when the VMM has gone.
 */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/vmalloc.h>
#include "rvmrpc_host.h"

static int pin_pages(struct rvmrpc_pin *pin, u64 address)
{
	unsigned long done = 0;
	int n;

	while (done < pin->npages) {
		n = pin_user_pages_fast(address + (done << PAGE_SHIFT), min(pin->npages - done, 1024ul),
					FOLL_WRITE | FOLL_LONGTERM, pin->pages + done);
		if (n <= 0) {
			unpin_user_pages(pin->pages, done);
			return n ? n : -EFAULT;
		}
		done += n;
		cond_resched();
	}
	return 0;
}

bool rvmrpc_pin_torn(const struct rvmrpc_pin *pin)
{
	unsigned long i;

	for (i = 0; i < pin->npages; i++) {
		if (!rvmrpc_page_in_file(pin->pages[i]))
			return true;
		if (i % 1024 == 0)
			cond_resched();
	}
	return false;
}

int rvmrpc_pin(struct rvmrpc_pin *pin, u64 address, u64 bytes)
{
	int ret;

	if (!PAGE_ALIGNED(address) || !PAGE_ALIGNED(bytes) || address + bytes < address)
		return -EINVAL;
	pin->npages = bytes >> PAGE_SHIFT;
	pin->mm = current->mm;
	pin->pages = kvmalloc_array(pin->npages, sizeof(*pin->pages), GFP_KERNEL_ACCOUNT);
	if (!pin->pages)
		return -ENOMEM;
	ret = account_locked_vm(pin->mm, pin->npages, true);
	if (ret)
		goto free;
	ret = pin_pages(pin, address);
	if (ret)
		goto account;
	/* As the VMM has it, and, with memory encryption, its guest: not encrypted. */
	pin->base = vmap(pin->pages, pin->npages, VM_MAP, pgprot_decrypted(PAGE_KERNEL));
	if (!pin->base) {
		ret = -ENOMEM;
		goto unpin;
	}
	mmgrab(pin->mm);
	return 0;

unpin:
	unpin_user_pages(pin->pages, pin->npages);
account:
	account_locked_vm(pin->mm, pin->npages, false);
free:
	kvfree(pin->pages);
	return ret;
}

void rvmrpc_unpin(struct rvmrpc_pin *pin)
{
	vunmap(pin->base);
	unpin_user_pages_dirty_lock(pin->pages, pin->npages, true);
	account_locked_vm(pin->mm, pin->npages, false);
	mmdrop(pin->mm);
	kvfree(pin->pages);
}
