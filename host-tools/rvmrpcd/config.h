/*
 * rvmrpcd: its configuration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPCD_CONFIG_H
#define RVMRPCD_CONFIG_H

#include <sys/types.h>
#include <glib.h>
#include "rvmrpc_abi.h"

typedef struct WindowConfig {
    guint64 size;               /* bytes; all checked against each other */
    guint slots, request, response;
    guint spin_us;
} WindowConfig;

typedef struct VmConfig {
    char *name;
    char *uuid;                 /* NULL: not known */
    char *ivshmem, *socket;     /* paths */
    gid_t ivshmem_gid, socket_gid;  /* of the files */
    gboolean unverified;        /* nobody configured it */
    WindowConfig window;
} VmConfig;

typedef enum KernelUse {
    KERNEL_AUTO,                /* rvmrpc_host.ko has the windows, if it can */
    KERNEL_ON,                  /* and it is said when it cannot */
    KERNEL_OFF,
} KernelUse;

typedef struct Config {
    char *ivshmem_dir, *socket_dir, *vm_dir;
    mode_t ivshmem_mode, socket_mode;
    /* Where a VM does not say otherwise; (gid_t)-1: as it comes. */
    gid_t ivshmem_gid, socket_gid;
    gboolean any;               /* serve VMs that are not configured, too */
    KernelUse kernel;
    WindowConfig window;        /* where a VM does not say otherwise */
    GPtrArray *vms;             /* VmConfig *, each name once */
} Config;

/*
 * From @file (NULL: the usual one, which need not be there), its folder of
 * VMs, and @options: of the command line's --vm.  NULL and *error, which names
 * file and key.
 */
Config *config_load(const char *file, const char *const *options,
                    GError **error);
void config_free(Config *config);

/* One that is not in the configuration, with default paths. */
VmConfig *config_new_vm(const Config *config, const char *name);
VmConfig *config_dup_vm(const VmConfig *vm);
void config_free_vm(VmConfig *vm);

/* How a window of that size, in bytes, is divided; FALSE: it cannot be so. */
gboolean config_layout(const WindowConfig *window, guint64 size,
                       struct rvmrpc_layout *layout);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmConfig, config_free_vm)

#endif
