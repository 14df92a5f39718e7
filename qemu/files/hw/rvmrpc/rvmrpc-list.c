/*
 * Reverse VMRPC: what the guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit-rvmrpc.h"
#include "qapi/util.h"
#include "qemu/lockable.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "rvmrpc-internal.h"

static RvmrpcModuleList *list;          /* proxy lock */
static uint64_t list_epoch;             /* of the list; proxy lock */
static struct rvmrpc_client client;     /* proxy lock */

char *rvmrpc_escape(const char *text, size_t len)
{
    g_autofree char *copy = g_strndup(text, len);

    return g_strescape(copy, "\"");
}

RvmrpcOs rvmrpc_os(uint32_t os)
{
    switch (os) {
    case RVMRPC_OS_LINUX:
        return RVMRPC_GUEST_OS_LINUX;
    case RVMRPC_OS_FREEBSD:
        return RVMRPC_GUEST_OS_FREEBSD;
    default:
        return RVMRPC_GUEST_OS_OTHER;
    }
}

static RvmrpcModule *decode_module(const struct rvmrpc_list_entry *e)
{
    RvmrpcModule *m = g_new0(RvmrpcModule, 1);

    m->number = e->number;
    m->version = e->version;
    m->name = rvmrpc_escape(e->name, sizeof(e->name));
    return m;
}

static RvmrpcProcedure *decode_procedure(const struct rvmrpc_list_entry *e)
{
    RvmrpcProcedure *p = g_new0(RvmrpcProcedure, 1);

    p->number = e->number;
    p->name = rvmrpc_escape(e->name, sizeof(e->name));
    p->read_only = e->flags & RVMRPC_PROC_READ_ONLY;
    p->may_sleep = e->flags & RVMRPC_PROC_MAY_SLEEP;
    p->allowed = e->flags & RVMRPC_PROC_ALLOWED;
    return p;
}

/* Takes what makes sense of an answer to core.list, a guest's own words. */
static RvmrpcModuleList *list_decode(const void *data, size_t len)
{
    g_autoptr(RvmrpcModuleList) head = NULL;
    RvmrpcModuleList **modules = &head;
    RvmrpcProcedureList **procedures = NULL;
    struct rvmrpc_list_entry e;
    struct rvmrpc_list hdr;

    if (len < sizeof(hdr)) {
        return NULL;
    }
    memcpy(&hdr, data, sizeof(hdr));
    for (size_t at = sizeof(hdr); hdr.count && len - at >= sizeof(e);
         at += sizeof(e), hdr.count--) {
        memcpy(&e, data + at, sizeof(e));
        if (e.kind == RVMRPC_LIST_MODULE) {
            RvmrpcModule *m = decode_module(&e);

            QAPI_LIST_APPEND(modules, m);
            procedures = &m->procedures;
        } else if (e.kind == RVMRPC_LIST_PROCEDURE && procedures) {
            QAPI_LIST_APPEND(procedures, decode_procedure(&e));
        }
    }
    return g_steal_pointer(&head);
}

void rvmrpc_list_store(const RvmrpcCall *call)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    g_autoptr(RvmrpcModuleList) old = NULL;
    RvmrpcModuleList *fresh;

    if (call->core.status != RVMRPC_STATUS_OK) {
        return;
    }
    fresh = list_decode(call->res, call->core.reslen);
    QEMU_LOCK_GUARD(&p->lock);
    old = list;
    list = fresh;
    list_epoch = p->core.epoch;
}

static void list_done(RvmrpcCall *call, void *opaque)
{
    rvmrpc_list_store(call);
}

void rvmrpc_list_refresh(void)
{
    g_autoptr(RvmrpcCall) call = NULL;

    call = rvmrpc_call_new(&client, RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, NULL, 0,
                           RVMRPC_TIMEOUT_MS_MAX, list_done, NULL);
    rvmrpc_call_submit(call);
}

/* Proxy lock held. */
static RvmrpcModuleList *list_current(void)
{
    return list_epoch == rvmrpc_proxy.core.epoch ? list : NULL;
}

RvmrpcModuleList *rvmrpc_list_get(void)
{
    RvmrpcModuleList *current;

    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    current = list_current();
    return current ? QAPI_CLONE(RvmrpcModuleList, current) : NULL;
}

bool rvmrpc_find_module(const char *name, uint32_t *number)
{
    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    for (RvmrpcModuleList *m = list_current(); m; m = m->next) {
        if (!strcmp(m->value->name, name)) {
            *number = m->value->number;
            return true;
        }
    }
    return false;
}

bool rvmrpc_find_procedure(uint32_t module, const char *name, uint32_t *number)
{
    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    for (RvmrpcModuleList *m = list_current(); m; m = m->next) {
        RvmrpcProcedureList *p = m->value->procedures;

        for (; m->value->number == module && p; p = p->next) {
            if (!strcmp(p->value->name, name)) {
                *number = p->value->number;
                return true;
            }
        }
    }
    return false;
}
