// SPDX-License-Identifier: GPL-2.0-only
/*
 * What modules core and echo ask of this driver.
 */
#include "rvmrpc_drv.h"

u32 rvmrpc_os_list(u32 first, void *buf, u32 bytes)
{
	u32 length;

	mutex_lock(&rvmrpc_registry_lock);
	length = rvmrpc_server_list(&rvmrpc_registry, first, buf, bytes);
	mutex_unlock(&rvmrpc_registry_lock);
	return length;
}

void rvmrpc_os_cancel(u64 xid)
{
	struct rvmrpc_dev *rdev = rvmrpc_server_self();

	rvmrpc_jobs_cancel(rdev, xid);
}

void rvmrpc_os_exit(void)
{
	rvmrpc_server_self()->leave = true;
}

int rvmrpc_mod_core_init(void)
{
	int err = rvmrpc_builtin_add(&rvmrpc_core_module);

	if (err)
		return err;
	err = rvmrpc_builtin_add(&rvmrpc_echo_module);
	if (err)
		rvmrpc_builtin_remove(&rvmrpc_core_module);
	return err;
}

void rvmrpc_mod_core_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_echo_module);
	rvmrpc_builtin_remove(&rvmrpc_core_module);
}
