/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What modules core and echo ask of this driver.
 */
#include "rvmrpc_drv.h"

uint32_t
rvmrpc_os_list(uint32_t first, void *buf, uint32_t bytes)
{
	uint32_t length;

	mtx_lock(&rvmrpc_registry_mtx);
	length = rvmrpc_server_list(&rvmrpc_registry, first, buf, bytes);
	mtx_unlock(&rvmrpc_registry_mtx);
	return (length);
}

void
rvmrpc_os_cancel(uint64_t xid)
{
	rvmrpc_jobs_cancel(rvmrpc_server_self(), xid);
}

void
rvmrpc_os_exit(void)
{
	rvmrpc_server_self()->leave = true;
}

int
rvmrpc_mod_core_init(void)
{
	int error = rvmrpc_builtin_add(&rvmrpc_core_module);

	if (error != 0)
		return (error);
	error = rvmrpc_builtin_add(&rvmrpc_echo_module);
	if (error != 0)
		rvmrpc_builtin_remove(&rvmrpc_core_module);
	return (error);
}

void
rvmrpc_mod_core_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_echo_module);
	rvmrpc_builtin_remove(&rvmrpc_core_module);
}
