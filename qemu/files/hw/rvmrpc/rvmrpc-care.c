/*
 * Reverse VMRPC: QMP commands that do something to a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"
#include "qemu/coroutine.h"
#include "rvmrpc-ask.h"

#define DISKS_TIMEOUT_MS    10000

/* Of an answer that is @size bytes, or begins with them. */
static bool copy_answer(const RvmrpcCall *call, void *res, size_t size,
                        Error **errp)
{
    if (call->core.reslen < size) {
        error_setg(errp, "system-error: the guest's answer is too short");
        return false;
    }
    if (size) {
        memcpy(res, call->res, size);
    }
    return true;
}

static bool coroutine_fn
ask_for(uint32_t module, uint32_t procedure, const void *arg, uint32_t arglen,
        void *res, size_t size, const RvmrpcDeadline *d, Error **errp)
{
    g_autoptr(RvmrpcCall) call = rvmrpc_ask_ok(module, procedure, arg, arglen,
                                               d, errp);

    return call && copy_answer(call, res, size, errp);
}

/* ---- Memory ---- */

GuestDropCaches *coroutine_fn
qmp_guest_drop_caches(GuestDropCachesMode mode, bool has_sync, bool sync,
                      bool has_timeout, uint32_t timeout, Error **errp)
{
    static const uint32_t modes[] = {
        [GUEST_DROP_CACHES_MODE_PAGECACHE] = RVMRPC_DROP_PAGECACHE,
        [GUEST_DROP_CACHES_MODE_SLAB] = RVMRPC_DROP_SLAB,
        [GUEST_DROP_CACHES_MODE_ALL] = RVMRPC_DROP_ALL,
    };
    const struct rvmrpc_drop_req req = {
        .mode = modes[mode],
        .flags = has_sync && sync ? RVMRPC_DROP_SYNC : 0,
    };
    struct rvmrpc_drop_res res;
    GuestDropCaches *ret;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, DISKS_TIMEOUT_MS,
                               errp) ||
        !ask_for(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &req,
                 sizeof(req), &res, sizeof(res), &d, errp)) {
        return NULL;
    }
    ret = g_new0(GuestDropCaches, 1);
    ret->freed = res.freed;
    return ret;
}
