/*
 * The rvmrpc command: dmesg
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include "monitor.h"
#include "../common/stdio.h"

#define LOG_TIMEOUT_MS  5000
#define INTERVAL_S      1.0

/* What follows a log. */
typedef struct Follower {
    RvmrpcVm *vm;
    RvmrpcConn *conn;           /* NULL: to be made */
    RvmrpcListing what;
    guint64 last;               /* number of the last message, when has_last */
    gboolean has_last;
    char *complaint;            /* the last one, said once */
} Follower;

char *message_text(const RvmrpcRecord *r)
{
    g_autofree char *raw = rvmrpc_record_get_string(r, RVMRPC_LOG_TEXT);
    g_autofree char *text = rvmrpc_escape(raw ?: "", TRUE);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *time = NULL;
    GString *s = g_string_new(NULL);
    guint64 ns;

    if (rvmrpc_record_get_u64(r, RVMRPC_LOG_TIME_NS, &ns)) {
        time = g_strdup_printf("[%5" G_GUINT64_FORMAT ".%06u] ",
                               ns / 1000000000, (guint)(ns / 1000 % 1000000));
    }
    for (char **line = lines; *line; line++) {
        g_string_append_printf(s, "%s%s\n", time ?: "", *line);
    }
    return g_string_free(s, FALSE);
}

static void print_messages(Follower *f, const RvmrpcRecords *records)
{
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        g_autofree char *text = NULL;
        guint64 seq;

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_LOG) {
            continue;
        }
        if (rvmrpc_record_get_u64(r, RVMRPC_LOG_SEQ, &seq)) {
            if (f->has_last && seq > f->last + 1) {
                fprintf(stderr, "rvmrpc: %" G_GUINT64_FORMAT
                        " messages were lost\n", seq - f->last - 1);
            }
            f->last = seq;
            f->has_last = TRUE;
        }
        if (options.json) {
            JsonBuilder *b = begin_json();

            json_record(b, r);
            json_builder_end_object(b);
            print_json(b, FALSE);
            continue;
        }
        text = message_text(r);
        fputs(text, stdout);
    }
}

/* ---- Following ---- */

static void complain(Follower *f, const char *message)
{
    g_autofree char *text = message ? rvmrpc_escape(message, FALSE) : NULL;

    if (text && g_strcmp0(text, f->complaint) != 0) {
        fprintf(stderr, "rvmrpc: %s\n", text);
    }
    g_free(f->complaint);
    f->complaint = g_steal_pointer(&text);
}

/* Whether it is worth to try again. */
static gboolean may_pass(const GError *error)
{
    if (error->domain != RVMRPC_ERROR) {
        return FALSE;
    }
    switch (error->code) {
    case RVMRPC_ERROR_BUSY:
    case RVMRPC_ERROR_NOT_CONNECTED:
    case RVMRPC_ERROR_STOPPED:
    case RVMRPC_ERROR_TIMED_OUT:
    case RVMRPC_ERROR_CANCELLED:
    case RVMRPC_ERROR_RESET:
    case RVMRPC_ERROR_SILENT:
        return TRUE;
    default:
        return FALSE;
    }
}

/* A guest that has booted anew counts from the beginning. */
static void go_on(Follower *f, const RvmrpcRecords *records)
{
    const guint64 next = rvmrpc_records_get_next(records);

    if (next < f->what.cursor) {
        fputs("rvmrpc: the guest has booted anew\n", stderr);
        f->what.cursor = 0;
        f->has_last = FALSE;
        return;
    }
    f->what.cursor = next;
    f->what.select = RVMRPC_KLOG_FROM;
    f->what.max = 0;
}

static RvmrpcRecords *next_messages(Follower *f, GError **error)
{
    const guint timeout = timeout_or(LOG_TIMEOUT_MS);

    if (!f->conn) {
        f->conn = rvmrpc_connect(f->vm, timeout, options.cancellable, error);
    }
    return f->conn ? rvmrpc_get_records(f->conn, &f->what, timeout,
                                        options.cancellable, error) : NULL;
}

static int follow(Follower *f)
{
    do {
        g_autoptr(GError) error = NULL;
        g_autoptr(RvmrpcRecords) records = next_messages(f, &error);

        if (records) {
            const GError *cut = rvmrpc_records_get_cut(records);

            print_messages(f, records);
            go_on(f, records);
            complain(f, cut ? cut->message : NULL);
        } else if (may_pass(error)) {
            complain(f, error->message);
            g_clear_pointer(&f->conn, rvmrpc_conn_free);
        } else if (!g_error_matches(error, G_IO_ERROR,
                                    G_IO_ERROR_CANCELLED)) {
            return fail(g_steal_pointer(&error));
        }
    } while (stdio_flush() &&
             monitor_sleep(options.cancellable,
                           options.interval ?: INTERVAL_S));
    return EXIT_OK;
}

int cmd_dmesg(int argc, char **argv)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    g_autoptr(RvmrpcVm) vm = NULL;
    Follower f = {
        .what = {
            .module = RVMRPC_MOD_KLOG,
            .procedure = RVMRPC_KLOG_READ,
            .select = options.count ? RVMRPC_KLOG_LAST : RVMRPC_KLOG_FROM,
            .max = options.count,
        },
    };
    GError *error = NULL;
    int code;

    (void)argc;
    if (options.follow) {
        vm = rvmrpc_find_vm(argv[0], options.cancellable, &error);
        if (!vm) {
            return fail(error);
        }
        stdio_may_stop();
        f.vm = vm;
        code = follow(&f);
        g_clear_pointer(&f.conn, rvmrpc_conn_free);
        g_free(f.complaint);
        return code;
    }
    records = ask_records(argv[0], &f.what, timeout_or(LOG_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    print_messages(&f, records);
    return end_records(records);
}
