/*
 * rvmrpcd: the host's end of the windows of stock QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One thread, one main loop.  A *VM* is what the configuration names: a socket
 * for QEMU, a socket for clients.  A *world* is one QEMU's connection: its
 * window and eventfds.
 */
#ifndef RVMRPCD_H
#define RVMRPCD_H

#include <stdbool.h>
#include "config.h"
#include "ivshmem.h"
#include "rvmrpc_channel.h"

/* ---- fdstore.c ---- */

enum { FD_CONNECTION, FD_MEMORY, FD_DOORBELL, FD_INTERRUPT, NFDS };

/*
 * systemd keeps them over our end, whatever it is.  Without systemd nothing
 * happens.
 */
void fdstore_keep(const char *vm, unsigned world, const int fds[NFDS]);
void fdstore_forget(const char *vm, unsigned world);

/* Takes what systemd has for us.  Once, at the start. */
void fdstore_take(void);

/* A socket of the systemd's that listens at @path, the caller's; else -1. */
int fdstore_listening(const char *path);

/* What an earlier rvmrpcd left; @found owns the descriptors. */
typedef void FdstoreFound(const char *vm, unsigned world, const int fds[NFDS],
                          void *opaque);
void fdstore_restore(FdstoreFound *found, void *opaque);

/* ---- vm.c ---- */

typedef struct Vm Vm;

/* The last QEMU of a VM has gone; it may be freed. */
typedef void VmIdle(Vm *vm, void *opaque);

/* Takes over @vm_config, in any case.  NULL: it cannot listen. */
Vm *vm_new(const Config *config, VmConfig *vm_config, VmIdle *idle,
           void *opaque, GError **error);
/* @keep: its QEMUs are to be found again by the next rvmrpcd. */
void vm_free(Vm *vm, bool keep);
/* Gives a QEMU that connected a world; takes over @sock. */
void vm_greet(Vm *vm, int sock);
/* Takes over a world that was kept. */
void vm_adopt(Vm *vm, unsigned id, const int fds[NFDS]);
/*
 * Of what was read again: who it is at once, its window from QEMU's next start.
 * False: it cannot listen for that.
 */
bool vm_update(Vm *vm, const Config *config, const VmConfig *vm_config,
               GError **error);
bool vm_is_idle(const Vm *vm);
const VmConfig *vm_config(const Vm *vm);

/* ---- info.c ---- */

/* INFO of a VM; @info and @modules NULL: no QEMU is connected. */
char *info_json(const VmConfig *vm, pid_t pid, const RvmrpcChannelInfo *info,
                const GArray *modules);
/* Events as QMP has them. */
char *info_connected(const RvmrpcChannelInfo *info);
char *info_disconnected(const char *reason);
char *info_event(const struct rvmrpc_told *told);

#endif
