/*
 * Reverse VMRPC: events, for QMP and for the subscribers of the socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/qapi-events-rvmrpc.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
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
