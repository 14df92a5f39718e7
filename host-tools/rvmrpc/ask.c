/*
 * The rvmrpc command: asking one VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include "rvmrpc-cmd.h"

RvmrpcConn *open_vm(const char *what, int *code)
{
    GError *error = NULL;
    g_autoptr(RvmrpcVm) vm = rvmrpc_find_vm(what, options.cancellable, &error);
    RvmrpcConn *conn = NULL;

    if (vm) {
        conn = rvmrpc_connect(vm, timeout_or(TIMEOUT_MS), options.cancellable,
                              &error);
    }
    if (!conn) {
        *code = fail(error);
    }
    return conn;
}

RvmrpcRecords *ask_records(const char *vm, const RvmrpcListing *what,
                           guint timeout_ms, int *code)
{
    g_autoptr(RvmrpcConn) conn = open_vm(vm, code);
    RvmrpcRecords *records;
    GError *error = NULL;

    if (!conn) {
        return NULL;
    }
    records = rvmrpc_get_records(conn, what, timeout_ms, options.cancellable,
                                 &error);
    if (!records) {
        *code = fail(error);
    }
    return records;
}

int end_records(const RvmrpcRecords *records)
{
    const GError *cut = rvmrpc_records_get_cut(records);

    if (rvmrpc_records_is_partial(records)) {
        fputs("rvmrpc: the list is not whole: the guest could not look at all "
              "of it in time\n", stderr);
    }
    if (cut) {
        fputs("rvmrpc: the list is not whole\n", stderr);
        return fail(g_error_copy(cut));
    }
    return EXIT_OK;
}

void json_records_state(JsonBuilder *b, const RvmrpcRecords *records)
{
    const GError *cut = rvmrpc_records_get_cut(records);

    json_bool(b, "whole", !cut && !rvmrpc_records_is_partial(records));
    json_string(b, "error", cut ? cut->message : NULL);
}
