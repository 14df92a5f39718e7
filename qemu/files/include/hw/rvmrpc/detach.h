/*
 * Reverse VMRPC: commands that wait for a guest run beside QMP's dispatcher
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_RVMRPC_DETACH_H
#define HW_RVMRPC_DETACH_H

#include "qemu/coroutine.h"
#include "qobject/qobject.h"

/* Of each QMP monitor. */
typedef struct RvmrpcDetach {
    struct RvmrpcDetached *command;     /* it runs, or NULL; main thread */
    unsigned session;                   /* its clients so far; queue's lock */
} RvmrpcDetach;

/* Monitor: whether its next request has to wait.  Main thread. */
bool rvmrpc_is_detached(Monitor *mon);

/*
 * Dispatcher: starts @req, which came in @session of @mon, if it waits for a
 * guest.  Then the monitor's resumption, if not @oob_enabled, comes with its
 * end, too.
 */
bool coroutine_fn rvmrpc_detach_command(Monitor *mon, QObject *req,
                                        unsigned session, bool oob_enabled);

/* Monitor: its client has gone.  Its thread; queue's lock held. */
void rvmrpc_detach_closed(Monitor *mon);

/* Ends all of them.  The dispatcher has ended. */
void rvmrpc_detach_cleanup(void);

/*
 * The command that runs in this coroutine waits from now on, or no more (NULL).
 * @cancel is called in the main thread when it must end, perhaps at once and
 * perhaps after the wait's end; it must not enter the coroutine.
 */
void coroutine_fn rvmrpc_detach_set_cancel(void (*cancel)(void *opaque),
                                           void *opaque);

#endif
