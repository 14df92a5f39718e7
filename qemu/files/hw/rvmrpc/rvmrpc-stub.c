/*
 * Reverse VMRPC: the commands of a QEMU that was built without it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"

static void *not_built_in(Error **errp)
{
    error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE,
              "this QEMU was built without the rvmrpc device");
    return NULL;
}

RvmrpcReply *qmp_guest_kernel_call(QObject *module, QObject *procedure,
                                   const char *data, bool has_timeout,
                                   uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestMeminfo *qmp_guest_meminfo(bool has_raw, bool raw, bool has_timeout,
                                uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestLoadavg *qmp_guest_loadavg(bool has_timeout, uint32_t timeout,
                                Error **errp)
{
    return not_built_in(errp);
}

GuestCpuinfo *qmp_guest_cpuinfo(bool has_timeout, uint32_t timeout,
                                Error **errp)
{
    return not_built_in(errp);
}

GuestCpustat *qmp_guest_cpustat(bool has_timeout, uint32_t timeout,
                                Error **errp)
{
    return not_built_in(errp);
}

GuestKernelOsinfo *qmp_guest_osinfo(bool has_timeout, uint32_t timeout,
                                    Error **errp)
{
    return not_built_in(errp);
}

GuestDropCaches *qmp_guest_drop_caches(GuestDropCachesMode mode, bool has_sync,
                                       bool sync, bool has_timeout,
                                       uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestFilesystems *qmp_guest_filesystems(bool has_timeout, uint32_t timeout,
                                        Error **errp)
{
    return not_built_in(errp);
}

GuestInterfaces *qmp_guest_interfaces(bool has_timeout, uint32_t timeout,
                                      Error **errp)
{
    return not_built_in(errp);
}

GuestPressure *qmp_guest_pressure(bool has_timeout, uint32_t timeout,
                                  Error **errp)
{
    return not_built_in(errp);
}

GuestTasks *qmp_guest_tasks(bool has_select, GuestTaskSelect select,
                            bool has_max, uint32_t max, bool has_timeout,
                            uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestKernelLog *qmp_guest_kernel_log(bool has_since, uint64_t since,
                                     bool has_max, uint32_t max,
                                     bool has_timeout, uint32_t timeout,
                                     Error **errp)
{
    return not_built_in(errp);
}

GuestClock *qmp_guest_clock(bool has_timeout, uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestClockStep *qmp_guest_set_clock(bool has_timeout, uint32_t timeout,
                                    Error **errp)
{
    return not_built_in(errp);
}

GuestFreezeInfo *qmp_guest_freeze(bool has_thaw_ms, uint32_t thaw_ms,
                                  bool has_timeout, uint32_t timeout,
                                  Error **errp)
{
    return not_built_in(errp);
}

GuestFreezeInfo *qmp_guest_thaw(bool has_timeout, uint32_t timeout,
                                Error **errp)
{
    return not_built_in(errp);
}

GuestFreezeInfo *qmp_guest_freeze_status(bool has_timeout, uint32_t timeout,
                                         Error **errp)
{
    return not_built_in(errp);
}

GuestReclaim *qmp_guest_reclaim(uint64_t bytes, bool has_timeout,
                                uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

GuestCompact *qmp_guest_compact(bool has_timeout, uint32_t timeout,
                                Error **errp)
{
    return not_built_in(errp);
}

GuestSysrq *qmp_guest_sysrq(const char *key, bool has_timeout,
                            uint32_t timeout, Error **errp)
{
    return not_built_in(errp);
}

void qmp_guest_sync(bool has_timeout, uint32_t timeout, Error **errp)
{
    not_built_in(errp);
}

void qmp_guest_poweroff(bool has_force, bool force, bool has_timeout,
                        uint32_t timeout, Error **errp)
{
    not_built_in(errp);
}

void qmp_guest_reboot(bool has_force, bool force, bool has_timeout,
                      uint32_t timeout, Error **errp)
{
    not_built_in(errp);
}

RvmrpcInfo *qmp_query_rvmrpc(Error **errp)
{
    RvmrpcInfo *info = g_new0(RvmrpcInfo, 1);

    info->state = RVMRPC_STATE_ABSENT;
    return info;
}

void hmp_info_rvmrpc(Monitor *mon, const QDict *qdict)
{
    monitor_printf(mon, "state: absent (built without the device)\n");
}
