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
#include "rvmrpc-socket.h"

/* Takes over @event. */
static void tell_subscribers(QDict *event)
{
    g_autoptr(GString) json = qobject_to_json(QOBJECT(event));

    rvmrpc_socket_event(json->str);
    qobject_unref(event);
}

void rvmrpc_tell_connected(uint32_t os, const char *release, size_t len,
                           uint64_t epoch)
{
    g_autofree char *escaped = rvmrpc_escape(release, len);

    qapi_event_send_rvmrpc_connected(rvmrpc_os(os), escaped, epoch);
    tell_subscribers(qdict_from_jsonf_nofail(
        "{'event': 'RVMRPC_CONNECTED',"
        " 'data': {'os': %s, 'release': %s, 'epoch': %" PRIu64 "}}",
        RvmrpcOs_str(rvmrpc_os(os)), escaped, epoch));
}

void rvmrpc_tell_disconnected(RvmrpcDisconnectReason reason)
{
    qapi_event_send_rvmrpc_disconnected(reason);
    tell_subscribers(qdict_from_jsonf_nofail(
        "{'event': 'RVMRPC_DISCONNECTED', 'data': {'reason': %s}}",
        RvmrpcDisconnectReason_str(reason)));
}
