/*
 * Reverse VMRPC: events, for QMP and for the subscribers of the socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/qapi-events-rvmrpc.h"
#include "qapi/qapi-visit-rvmrpc.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "hw/rvmrpc/core/rvmrpc_event.h"
#include "rvmrpc-internal.h"

/* Takes over @event. */
static char *to_json(QDict *event)
{
    GString *json = qobject_to_json(QOBJECT(event));

    qobject_unref(event);
    return g_string_free(json, false);
}

char *rvmrpc_tell_connected(const RvmrpcChannelInfo *info)
{
    g_autofree char *release = rvmrpc_text(info->release,
                                           sizeof(info->release));

    qapi_event_send_rvmrpc_connected(rvmrpc_os(info->os), release,
                                     info->epoch);
    return to_json(qdict_from_jsonf_nofail(
        "{'event': 'RVMRPC_CONNECTED',"
        " 'data': {'os': %s, 'release': %s, 'epoch': %" PRIu64 "}}",
        RvmrpcOs_str(rvmrpc_os(info->os)), release, info->epoch));
}

char *rvmrpc_tell_disconnected(RvmrpcDisconnectReason reason)
{
    qapi_event_send_rvmrpc_disconnected(reason);
    return to_json(qdict_from_jsonf_nofail(
        "{'event': 'RVMRPC_DISCONNECTED', 'data': {'reason': %s}}",
        RvmrpcDisconnectReason_str(reason)));
}

static GuestKernelEventType event_type(RvmrpcEventType type)
{
    static const GuestKernelEventType types[] = {
        [RVMRPC_EVENT_OOM_KILL] = GUEST_KERNEL_EVENT_TYPE_OOM_KILL,
        [RVMRPC_EVENT_STALL] = GUEST_KERNEL_EVENT_TYPE_STALL,
        [RVMRPC_EVENT_PANIC] = GUEST_KERNEL_EVENT_TYPE_PANIC,
        [RVMRPC_EVENT_OOPS] = GUEST_KERNEL_EVENT_TYPE_OOPS,
        [RVMRPC_EVENT_NO_MEMORY] = GUEST_KERNEL_EVENT_TYPE_NO_MEMORY,
        [RVMRPC_EVENT_LOW_MEMORY] = GUEST_KERNEL_EVENT_TYPE_LOW_MEMORY,
        [RVMRPC_EVENT_OTHER] = GUEST_KERNEL_EVENT_TYPE_OTHER,
    };

    return types[type];
}

static QObject *event_object(GuestKernelEvent *e)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_GuestKernelEvent(v, NULL, &e, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return obj;
}

char *rvmrpc_tell_event(const struct rvmrpc_told *told)
{
    QDict *event = qdict_new();
    RvmrpcEvent from;
    GuestKernelEvent e;

    rvmrpc_event_read(&from, told);
    e = (GuestKernelEvent) {
        .type = event_type(from.type),
        .module = from.module,
        .kind = from.kind,
        .number = from.number,
        .time_ns = from.time_ns,
        .missed = from.missed,
        .text = from.text,
        .has_pid = from.has_pid,
        .pid = from.pid,
        .process = from.process,
        .has_rss = from.has_rss,
        .rss = from.rss,
        .has_percent = from.has_share,
        .percent = from.share / 100.0,
        .has_ended = from.has_ended,
        .ended = from.ended,
        .data = from.data,
    };
    qapi_event_send_guest_kernel_event(&e);
    qdict_put_str(event, "event", "GUEST_KERNEL_EVENT");
    qdict_put_obj(event, "data", event_object(&e));
    rvmrpc_event_clear(&from);
    return to_json(event);
}
