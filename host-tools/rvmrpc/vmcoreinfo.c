/*
 * The rvmrpc command: vmcoreinfo
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include "rvmrpc-cmd.h"

/* The text as the kernel has it, for tools that read dumps. */
static int print_note(const RvmrpcRecord *r)
{
    g_autofree char *raw = rvmrpc_record_get_string(r, RVMRPC_VMCOREINFO_TEXT);
    g_autofree char *text = rvmrpc_escape(raw ?: "", TRUE);
    JsonBuilder *b;

    if (!options.json) {
        fputs(text, stdout);
        return EXIT_OK;
    }
    b = begin_json();
    json_record(b, r);
    json_builder_end_object(b);
    print_json(b, TRUE);
    return EXIT_OK;
}

int cmd_vmcoreinfo(int argc, char **argv)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_VMCOREINFO,
        .procedure = RVMRPC_VMCOREINFO_READ,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    int code;

    (void)argc;
    records = ask_records(argv[0], &what, timeout_or(LIST_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_VMCOREINFO) {
            return print_note(r);
        }
    }
    return end_records(records);
}
