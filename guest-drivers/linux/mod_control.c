// SPDX-License-Identifier: GPL-2.0-only
/*
 * What module control asks of this kernel.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>
#include <linux/reboot.h>
#include <linux/suspend.h>
#include <linux/sysrq.h>
#include "rvmrpc_drv.h"

int rvmrpc_os_sysrq(u32 key, u32 *enabled)
{
	if (!IS_ENABLED(CONFIG_MAGIC_SYSRQ))
		return RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	*enabled = sysrq_mask();
	if (!*enabled)
		return RVMRPC_STATUS_NOT_ALLOWED;
	pr_notice("the host asks for sysrq '%c'\n", key);
	handle_sysrq(key);
	return RVMRPC_STATUS_OK;
}

/* One at a time: on a disk that hangs, each would take a worker for as long as the disk does. */
static DEFINE_MUTEX(control_sync_lock);

int rvmrpc_os_sync(void)
{
	if (!rvmrpc_os_can_sync())
		return RVMRPC_STATUS_SYSTEM_ERROR;
	if (!mutex_trylock(&control_sync_lock))
		return RVMRPC_STATUS_BUSY;
	ksys_sync_helper();
	mutex_unlock(&control_sync_lock);
	return RVMRPC_STATUS_OK;
}

void rvmrpc_os_power(bool reboot, bool force)
{
	pr_notice("the host asks for %s\n", reboot ? "a reboot" : "power-off");
	if (reboot)
		orderly_reboot();
	else
		orderly_poweroff(force);
}

int rvmrpc_mod_control_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_control_module);
}

void rvmrpc_mod_control_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_control_module);
}
