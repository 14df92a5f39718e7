// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module vmcoreinfo: what this kernel says of its own layout, for who reads a dump of the VM's memory.
 */
#include <linux/elf.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"
#include "rvmrpc_records.h"

/* The text of the note at that address, or NULL: it is none. */
static const char *vmcoreinfo_text(phys_addr_t at, size_t *length)
{
	const Elf64_Nhdr *head = phys_to_virt(at);
	const char *name = (const char *)(head + 1);

	if (head->n_namesz != sizeof(VMCOREINFO_NOTE_NAME) || memcmp(name, VMCOREINFO_NOTE_NAME, head->n_namesz) ||
	    !head->n_descsz || head->n_descsz > VMCOREINFO_BYTES)
		return NULL;
	*length = head->n_descsz;
	return name + ALIGN(head->n_namesz, 4);
}

static int vmcoreinfo_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	phys_addr_t at = paddr_vmcoreinfo_note();
	struct rvmrpc_record_writer w;
	const char *text;
	size_t length;
	int status = rvmrpc_records_begin(&w, req, res, 0);

	if (status)
		return status;
	text = vmcoreinfo_text(at, &length);
	if (!text)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	rvmrpc_record_begin(&w, RVMRPC_RECORD_VMCOREINFO);
	rvmrpc_record_u64(&w, RVMRPC_VMCOREINFO_ADDRESS, at);
	rvmrpc_record_u64(&w, RVMRPC_VMCOREINFO_SIZE, VMCOREINFO_NOTE_SIZE);
	rvmrpc_record_string(&w, RVMRPC_VMCOREINFO_TEXT, text, length);
	rvmrpc_record_end(&w, 0);
	return rvmrpc_records_end(&w);
}

static const struct rvmrpc_procedure vmcoreinfo_procs[] = {
	{
		/* It tells where the kernel lies, which it keeps for its root. */
		.number = RVMRPC_VMCOREINFO_READ,
		.name = "read",
		.flags = RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_SECRET,
		.arg_max = sizeof(struct rvmrpc_records_req),
		.handler = vmcoreinfo_read,
	},
};

static struct rvmrpc_module vmcoreinfo_module = {
	.number = RVMRPC_MOD_VMCOREINFO,
	.version = 1,
	.name = "vmcoreinfo",
	.procs = vmcoreinfo_procs,
	.nprocs = ARRAY_SIZE(vmcoreinfo_procs),
};

int rvmrpc_mod_vmcoreinfo_init(void)
{
	return rvmrpc_builtin_add(&vmcoreinfo_module);
}

void rvmrpc_mod_vmcoreinfo_exit(void)
{
	rvmrpc_builtin_remove(&vmcoreinfo_module);
}
