/*
 * Reverse VMRPC: what is known of the channel, for QMP and the socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/qapi-visit-rvmrpc.h"
#include "qapi/qobject-output-visitor.h"
#include "qapi/util.h"
#include "qemu/uuid.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "system/system.h"
#include "hw/rvmrpc/core/rvmrpc_socket.h"
#include "rvmrpc-internal.h"

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

/* ---- The guest's list ---- */

static RvmrpcModule *decode_module(const struct rvmrpc_list_entry *e)
{
    RvmrpcModule *m = g_new0(RvmrpcModule, 1);

    m->number = e->number;
    m->version = e->version;
    m->name = rvmrpc_text(e->name, sizeof(e->name));
    return m;
}

static RvmrpcProcedure *decode_procedure(const struct rvmrpc_list_entry *e)
{
    RvmrpcProcedure *p = g_new0(RvmrpcProcedure, 1);

    p->number = e->number;
    p->name = rvmrpc_text(e->name, sizeof(e->name));
    p->read_only = e->flags & RVMRPC_PROC_READ_ONLY;
    p->may_sleep = e->flags & RVMRPC_PROC_MAY_SLEEP;
    p->allowed = e->flags & RVMRPC_PROC_ALLOWED;
    return p;
}

static RvmrpcModuleList *decode_list(const GArray *entries)
{
    RvmrpcModuleList *head = NULL, **modules = &head;
    RvmrpcProcedureList **procedures = NULL;

    for (guint i = 0; i < entries->len; i++) {
        const struct rvmrpc_list_entry *e =
            &g_array_index(entries, struct rvmrpc_list_entry, i);

        if (e->kind == RVMRPC_LIST_MODULE) {
            RvmrpcModule *m = decode_module(e);

            QAPI_LIST_APPEND(modules, m);
            procedures = &m->procedures;
        } else {
            QAPI_LIST_APPEND(procedures, decode_procedure(e));
        }
    }
    return head;
}

static void query_list(RvmrpcInfo *info, RvmrpcHost *h)
{
    g_autoptr(GArray) entries = rvmrpc_list_get(h->list);

    info->list_generation = rvmrpc_list_generation(entries);
    info->has_list_generation = info->list_generation != 0;
    info->modules = decode_list(entries);
    info->has_modules = info->modules != NULL;
}

/* ---- query-rvmrpc ---- */

static RvmrpcStats *query_stats(const RvmrpcChannelInfo *from, int token)
{
    const struct rvmrpc_stats *st = &from->stats;
    RvmrpcStats *s = g_new0(RvmrpcStats, 1);
    int used = RVMRPC_HISTOGRAM_BUCKETS;

    s->calls = st->calls;
    s->completed = st->completed;
    s->failed = st->failed;
    s->refused = st->refused;
    s->timed_out = st->timed_out;
    s->cancelled = st->cancelled;
    s->reset = st->reset;
    s->late_replies = st->late_replies;
    s->bad_replies = st->bad_replies;
    s->registrations = st->registrations;
    s->in_flight = from->in_flight;
    s->hypercalls = qatomic_read(&vmrpc_hypercalls);
    s->doorbells = qatomic_read(&vmrpc_doorbells);
    s->waits = qatomic_read(&rvmrpc_main_waits);
    rvmrpc_kvm_gate_count(token, &s->hypercalls, &s->waits);
    s->rings = from->rings;
    s->interrupts = from->interrupts;
    s->rekicks = st->rekicks;
    s->lost = st->lost;
    s->events = st->events;
    s->events_lost = st->events_lost;
    s->events_dropped = st->events_dropped;
    s->has_latency_sum_us = !from->kernel;
    s->latency_sum_us = st->elapsed_ns / SCALE_US;
    while (used && !st->histogram[used - 1]) {
        used--;
    }
    while (used--) {
        QAPI_LIST_PREPEND(s->latency_us, st->histogram[used]);
    }
    return s;
}

static void query_open(RvmrpcInfo *info, const RvmrpcChannelInfo *from)
{
    info->state = from->silent ? RVMRPC_STATE_SILENT : RVMRPC_STATE_CONNECTED;
    info->has_os = true;
    info->os = rvmrpc_os(from->os);
    info->release = rvmrpc_text(from->release, sizeof(from->release));
    info->has_abi_version = true;
    info->abi_version = RVMRPC_ABI_VERSION;
    info->has_epoch = true;
    info->epoch = from->epoch;
    info->has_last_seen_ms = true;
    info->last_seen_ms = from->seen_ns / SCALE_MS;
    info->has_wait = true;
    info->wait = from->vmlp || rvmrpc_main_waited(from->epoch) ?
                 RVMRPC_WAIT_VMLP : RVMRPC_WAIT_INTERRUPT;
    info->has_slots = true;
    info->slots = from->nslots;
}

RvmrpcInfo *rvmrpc_query(RvmrpcHost *h)
{
    RvmrpcInfo *info = g_new0(RvmrpcInfo, 1);
    RvmrpcChannelInfo from;

    if (!h) {
        info->state = RVMRPC_STATE_ABSENT;
        return info;
    }
    rvmrpc_channel_get_info(h->channel, &from);
    info->state = RVMRPC_STATE_DISCONNECTED;
    info->has_proxy = true;
    info->proxy = from.kernel ? RVMRPC_PROXY_KIND_KERNEL :
                  RVMRPC_PROXY_KIND_VMM;
    info->has_gate = true;
    info->gate = h->gate;
    info->stats = query_stats(&from, h->device->token);
    if (from.open) {
        query_open(info, &from);
        query_list(info, h);
    }
    return info;
}

/* ---- INFO of the socket ---- */

static QObject *info_object(RvmrpcHost *h)
{
    g_autoptr(RvmrpcInfo) info = rvmrpc_query(h);
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_RvmrpcInfo(v, NULL, &info, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return obj;
}

char *rvmrpc_info_json(RvmrpcHost *h)
{
    QDict *dict = qdict_new(), *vm = qdict_new();
    g_autofree char *uuid = qemu_uuid_unparse_strdup(&qemu_uuid);
    const char *name = qemu_get_vm_name();
    GString *json;

    if (name) {
        qdict_put_str(vm, "name", name);
    }
    if (!qemu_uuid_is_null(&qemu_uuid)) {
        qdict_put_str(vm, "uuid", uuid);
    }
    qdict_put_int(vm, "pid", getpid());
    qdict_put_bool(vm, "running", runstate_is_running());
    qdict_put_int(dict, "protocol", RVMRPC_SOCK_VERSION);
    qdict_put(dict, "vm", vm);
    qdict_put_obj(dict, "rvmrpc", info_object(h));
    json = qobject_to_json(QOBJECT(dict));
    qobject_unref(dict);
    return g_string_free(json, false);
}
