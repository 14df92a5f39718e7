/*
 * Reverse VMRPC: calls of QMP commands, and the time that these have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "hw/rvmrpc/detach.h"
#include "system/runstate.h"
#include "rvmrpc-ask.h"

QEMU_BUILD_BUG_ON(RVMRPC_CALL_STATUS__MAX != RVMRPC_STATUS_MAX + 1);
QEMU_BUILD_BUG_ON(RVMRPC_CALL_STATUS_SYSTEM_ERROR !=
                  RVMRPC_STATUS_SYSTEM_ERROR);

static struct rvmrpc_client qmp_client;     /* channel's lock */

/* ---- The time of a command ---- */

static void no_device_error(Error **errp)
{
    error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE,
              "there is no rvmrpc device: add -device rvmrpc");
}

bool rvmrpc_deadline_begin(RvmrpcDeadline *d, bool has_timeout,
                           uint32_t timeout, uint32_t usual, Error **errp)
{
    RvmrpcHost *h = rvmrpc_host_find();

    if (!h) {
        no_device_error(errp);
        return false;
    }
    if (has_timeout && (timeout < 1 || timeout > RVMRPC_TIMEOUT_MS_MAX)) {
        error_setg(errp, "timeout must be between 1 and %d milliseconds",
                   RVMRPC_TIMEOUT_MS_MAX);
        return false;
    }
    d->start = rvmrpc_clock();
    d->timeout = has_timeout ? timeout : usual ?: rvmrpc_host_timeout(h);
    return true;
}

uint32_t rvmrpc_deadline_left(const RvmrpcDeadline *d)
{
    int64_t spent = (rvmrpc_clock() - d->start) / SCALE_MS;

    return spent < d->timeout ? d->timeout - spent : 0;
}

/* ---- Waiting for a call ---- */

typedef struct CallWait {
    Coroutine *co;
    bool met;           /* it ended in the coroutine, which goes on */
    bool ended;         /* set in the thread that ends the call */
} CallWait;

/* Any thread, the coroutine too; it is entered later, from the main loop. */
static void call_done(RvmrpcCall *call, void *opaque)
{
    CallWait *wait = opaque;
    Coroutine *co = wait->co;

    if (qemu_in_coroutine() && qemu_coroutine_self() == co) {
        wait->met = true;
        return;
    }
    qatomic_store_release(&wait->ended, true);
    aio_co_schedule(qemu_coroutine_get_aio_context(co), co);
}

static void cancel_call(void *opaque)
{
    rvmrpc_channel_cancel(opaque);
}

uint32_t coroutine_fn rvmrpc_ask(const RvmrpcTarget *target, const void *arg,
                                 uint32_t arglen, const RvmrpcDeadline *d,
                                 RvmrpcCall **call)
{
    CallWait wait = { .co = qemu_coroutine_self() };
    RvmrpcHost *h = rvmrpc_host_find();
    uint32_t status;

    *call = NULL;
    if (!h) {
        return RVMRPC_STATUS_NOT_CONNECTED;
    }
    *call = rvmrpc_call_new(&qmp_client, target->module, target->procedure,
                            g_memdup2(arg, arglen), arglen,
                            MAX(rvmrpc_deadline_left(d), 1), call_done, &wait);
    (*call)->core.version = target->version;
    (*call)->core.list = target->list;
    /* The main loop has its turn between the calls of a long list. */
    status = rvmrpc_clock() - d->start < SCALE_MS ?
             rvmrpc_host_submit(h, *call) :
             rvmrpc_channel_submit(rvmrpc_host_channel(h), *call);
    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    if (wait.met) {
        return (*call)->core.status;
    }
    rvmrpc_detach_set_cancel(cancel_call, *call);
    do {
        qemu_coroutine_yield();
    } while (!qatomic_load_acquire(&wait.ended));
    rvmrpc_detach_set_cancel(NULL, NULL);
    return (*call)->core.status;
}

/* ---- What became of it ---- */

static const char *stopped_hint(void)
{
    if (runstate_check(RUN_STATE_SUSPENDED)) {
        return "the VM is suspended; 'system_wakeup' wakes it";
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        return "the VM waits for the state that a migration brings";
    }
    return runstate_needs_reset() ?
           "the VM has ended; 'system_reset' starts it anew" :
           "the VM does not run; 'cont' resumes it";
}

const char *rvmrpc_status_hint(uint32_t status)
{
    switch (status) {
    case RVMRPC_STATUS_NOT_CONNECTED:
        return "load the rvmrpc driver in the guest";
    case RVMRPC_STATUS_STOPPED:
        return stopped_hint();
    case RVMRPC_STATUS_TIMED_OUT:
        return "the guest did not answer before the deadline";
    case RVMRPC_STATUS_NOT_ALLOWED:
        return "the guest's allow-list does not have the procedure";
    case RVMRPC_STATUS_MODULE_UNAVAILABLE:
        return "query-rvmrpc lists the guest's modules";
    case RVMRPC_STATUS_PROCEDURE_UNAVAILABLE:
        return "query-rvmrpc lists the module's procedures";
    case RVMRPC_STATUS_TOO_BIG:
        return "arguments or answer do not fit into a slot";
    case RVMRPC_STATUS_BUSY:
        return "too many calls are in flight";
    case RVMRPC_STATUS_CANCELLED:
        return "the caller has gone, or QEMU ends";
    case RVMRPC_STATUS_RESET:
        return "the guest was reset, migrated or registered again";
    case RVMRPC_STATUS_GARBAGE_ARGS:
        return "the procedure did not understand its arguments";
    default:
        return "the call failed in the guest";
    }
}

void rvmrpc_status_error(uint32_t status, Error **errp)
{
    error_setg(errp, "%s: %s", RvmrpcStatus_str(status),
               rvmrpc_status_hint(status));
}

void rvmrpc_malformed_error(Error **errp)
{
    error_setg(errp, "system-error: the guest's answer is malformed");
}

bool rvmrpc_check_ok(uint32_t status, const RvmrpcCall *call, Error **errp)
{
    if (!call) {
        no_device_error(errp);
    } else if (status != RVMRPC_STATUS_OK) {
        rvmrpc_status_error(status, errp);
    }
    return call && status == RVMRPC_STATUS_OK;
}

RvmrpcCall *coroutine_fn rvmrpc_ask_ok(uint32_t module, uint32_t procedure,
                                       const void *arg, uint32_t arglen,
                                       const RvmrpcDeadline *d, Error **errp)
{
    const RvmrpcTarget target = { .module = module, .procedure = procedure };
    g_autoptr(RvmrpcCall) call = NULL;
    uint32_t status = rvmrpc_ask(&target, arg, arglen, d, &call);

    return rvmrpc_check_ok(status, call, errp) ? g_steal_pointer(&call) : NULL;
}
