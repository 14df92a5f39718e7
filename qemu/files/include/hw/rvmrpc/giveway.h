/*
 * Reverse VMRPC: no command that controls the VM waits for a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_RVMRPC_GIVEWAY_H
#define HW_RVMRPC_GIVEWAY_H

#include "qobject/qobject.h"

/*
 * Monitor: @req was put on a queue.  Any monitor's thread, with the queue's
 * lock held, so that the dispatcher cannot have taken it yet.
 */
void rvmrpc_giveway_queued(QObject *req);

/* Monitor: a queued @req (or NULL) was executed or dropped. */
void rvmrpc_giveway_freed(QObject *req);

/*
 * A guest-* command begins to wait; there is one at a time.  @cb is called at
 * most once, at once or from any monitor's thread, when it must end; it must
 * not block, enter the command's coroutine, or call back into this file.
 */
void rvmrpc_giveway_begin(void (*cb)(void *opaque), void *opaque);

/* It ends.  Returns the name of the command that it gave way to, or NULL. */
const char *rvmrpc_giveway_end(void);

#endif
