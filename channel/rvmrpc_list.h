/*
 * Reverse VMRPC: what a guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_LIST_H
#define RVMRPC_LIST_H

#include "rvmrpc_channel.h"

/* More than that is left out; it is the guest's word. */
#define RVMRPC_LIST_MODULES     64
#define RVMRPC_LIST_PROCEDURES  64      /* of a module */

typedef struct RvmrpcList RvmrpcList;

RvmrpcList *rvmrpc_list_new(RvmrpcChannel *ch);
/* After the channel: no call of the list's is under way then. */
void rvmrpc_list_free(RvmrpcList *list);

/* Any thread, all from here on. */

/* Asks the guest, unless it was asked within the last second. */
void rvmrpc_list_refresh(RvmrpcList *list);

/* @status: the guest's, or why it could not be asked. */
typedef void RvmrpcListDone(uint32_t status, void *opaque);

/*
 * Asks it, and tells when it has answered, in the channel's thread; not at all
 * unless this returns OK.
 */
uint32_t rvmrpc_list_ask(RvmrpcList *list, RvmrpcListDone *done, void *opaque);

/*
 * Who was to be told with that @opaque is not told any more.  False: it was
 * told, or is being told now.
 */
bool rvmrpc_list_forget(RvmrpcList *list, const void *opaque);

/*
 * What it answered last in this epoch: struct rvmrpc_list_entry, a module and
 * its procedures, the next module, ...  The caller's reference; not to change.
 */
GArray *rvmrpc_list_get(RvmrpcList *list);

/*
 * Generation of such entries; 0: there are none, or the guest tells none.
 * Their numbers hold for as long as the guest's list has it.
 */
uint32_t rvmrpc_list_generation(const GArray *entries);

#endif
