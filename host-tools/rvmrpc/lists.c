/*
 * The rvmrpc command: df, ip, ps and psi
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "rvmrpc-cmd.h"

/* Prints the table, or says that there is nothing; frees it. */
static int end_table(Table *table, const RvmrpcRecords *records)
{
    g_autofree char *text = table_text(table, "");

    fputs(text, stdout);
    table_free(table);
    return end_records(records);
}

/* How a command shows what it asked for, as a table or as JSON. */
static int show(const RvmrpcRecords *records,
                Table *(*table)(const RvmrpcRecords *records),
                void (*json)(JsonBuilder *b, const RvmrpcRecords *records))
{
    JsonBuilder *b;

    if (!options.json) {
        return end_table(table(records), records);
    }
    b = begin_json();
    json(b, records);
    json_records_state(b, records);
    end_json(b);
    return end_records(records);
}

/* ---- df ---- */

/* "37%" of what there is for those who are not root, as df(1) rounds it. */
static char *share_text(gboolean known, guint64 used, guint64 left)
{
    guint64 all = used + left;

    if (!known || !all || all < used) {
        return g_strdup("-");
    }
    return g_strdup_printf("%.0f%%", ceil(100.0 * used / all));
}

static void add_filesystem(Table *t, const RvmrpcRecord *r)
{
    guint64 size = 0, free = 0, available = 0, files = 0, files_free = 0, skipped;
    g_autofree char *target = rvmrpc_record_get_string(r, RVMRPC_FS_TARGET);
    gboolean known, has_files, is_skipped;
    char *at;

    known = rvmrpc_record_get_u64(r, RVMRPC_FS_SIZE, &size) &&
            rvmrpc_record_get_u64(r, RVMRPC_FS_FREE, &free) &&
            rvmrpc_record_get_u64(r, RVMRPC_FS_AVAILABLE, &available) &&
            free <= size;
    has_files = rvmrpc_record_get_u64(r, RVMRPC_FS_FILES, &files) &&
                rvmrpc_record_get_u64(r, RVMRPC_FS_FILES_FREE, &files_free) &&
                files_free <= files;
    is_skipped = rvmrpc_record_get_u64(r, RVMRPC_FS_SKIPPED, &skipped);
    table_add_text(t, r, RVMRPC_FS_SOURCE);
    table_add_text(t, r, RVMRPC_FS_TYPE);
    table_add_size(t, r, RVMRPC_FS_SIZE);
    table_add(t, known ? human_size(size - free) : g_strdup("-"));
    table_add_size(t, r, RVMRPC_FS_AVAILABLE);
    table_add(t, share_text(known, size - free, available));
    table_add(t, share_text(has_files, files - files_free, files_free));
    at = clean(target);
    if (is_skipped) {
        table_add(t, g_strdup_printf("%s (%s)", at,
                                     skipped == RVMRPC_FS_SKIPPED_FAILED ?
                                     "asked and failed" : "remote, not asked"));
        g_free(at);
    } else {
        table_add(t, at);
    }
}

Table *filesystems_table(const RvmrpcRecords *records)
{
    static const char *const heads[] = {
        "SOURCE", "TYPE", ">SIZE", ">USED", ">AVAIL", ">USE%", ">INODES%",
        "MOUNTED ON", NULL
    };
    Table *t = table_new(heads);

    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_FILESYSTEM) {
            add_filesystem(t, r);
        }
    }
    return t;
}

static void filesystems_json(JsonBuilder *b, const RvmrpcRecords *records)
{
    json_records(b, "filesystems", records, RVMRPC_RECORD_FILESYSTEM);
}

int cmd_df(int argc, char **argv)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_FS,
        .procedure = RVMRPC_FS_LIST,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    int code;

    (void)argc;
    records = ask_records(argv[0], &what, timeout_or(LIST_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    return show(records, filesystems_table, filesystems_json);
}

/* ---- ip ---- */

/* Of the records that follow the interface's. */
static char *addresses_text(const RvmrpcRecords *records, guint interface)
{
    const RvmrpcRecord *of = rvmrpc_records_get(records, interface);
    GString *s = g_string_new(NULL);

    for (guint i = interface + 1; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        g_autofree char *address = NULL;
        guint64 prefix;

        if (!is_address_of(r, of)) {
            break;
        }
        address = address_text(r);
        g_string_append_printf(s, "%s%s", s->len ? " " : "", address ?: "?");
        if (rvmrpc_record_get_u64(r, RVMRPC_ADDRESS_PREFIX, &prefix)) {
            g_string_append_printf(s, "/%" G_GUINT64_FORMAT, prefix);
        }
    }
    return g_string_free(s, FALSE);
}

static Table *interfaces_table(const RvmrpcRecords *records)
{
    static const char *const heads[] = {
        "NAME", "STATE", "MAC", ">MTU", ">RECEIVED", ">ERRORS", ">SENT",
        ">ERRORS", "ADDRESSES", NULL
    };
    Table *t = table_new(heads);

    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        guint64 up = 1;
        char *mac;

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_INTERFACE) {
            continue;
        }
        table_add_text(t, r, RVMRPC_NET_NAME);
        rvmrpc_record_get_u64(r, RVMRPC_NET_UP, &up);
        if (up) {
            table_add_text(t, r, RVMRPC_NET_STATE);
        } else {
            table_add(t, g_strdup("off"));
        }
        mac = mac_text(r, RVMRPC_NET_MAC);
        table_add(t, mac ?: g_strdup("-"));
        table_add_u64(t, r, RVMRPC_NET_MTU);
        table_add_size(t, r, RVMRPC_NET_RX_BYTES);
        table_add_u64(t, r, RVMRPC_NET_RX_ERRORS);
        table_add_size(t, r, RVMRPC_NET_TX_BYTES);
        table_add_u64(t, r, RVMRPC_NET_TX_ERRORS);
        table_add(t, addresses_text(records, i));
    }
    return t;
}

static void interfaces_json(JsonBuilder *b, const RvmrpcRecords *records)
{
    json_interfaces(b, "interfaces", records);
}

int cmd_ip(int argc, char **argv)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_NET,
        .procedure = RVMRPC_NET_LIST,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    int code;

    (void)argc;
    records = ask_records(argv[0], &what, timeout_or(LIST_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    return show(records, interfaces_table, interfaces_json);
}

/* ---- ps ---- */

/* "1:02:03.45", or less of it */
static char *time_text(guint64 ns)
{
    guint64 s = ns / 1000000000;
    guint hundredths = ns / 10000000 % 100;

    return s < 3600 ?
           g_strdup_printf("%" G_GUINT64_FORMAT ":%02u.%02u", s / 60,
                           (guint)(s % 60), hundredths) :
           g_strdup_printf("%" G_GUINT64_FORMAT ":%02u:%02u", s / 3600,
                           (guint)(s / 60 % 60), (guint)(s % 60));
}

static char *stack_text(const RvmrpcRecord *r)
{
    g_auto(GStrv) stack = rvmrpc_record_get_strings(r, RVMRPC_TASK_STACK);
    g_autofree char *wait = rvmrpc_record_get_string(r, RVMRPC_TASK_WAIT);
    GString *s = g_string_new(NULL);

    if (wait) {
        g_autofree char *text = clean(wait);

        g_string_append_printf(s, "          waits: %s\n", text);
    }
    for (char **function = stack; *function; function++) {
        g_autofree char *text = clean(*function);

        g_string_append_printf(s, "          %s\n", text);
    }
    return g_string_free(s, FALSE);
}

Table *tasks_table(const RvmrpcRecords *records, gboolean stacks, guint max)
{
    static const char *const heads[] = {
        ">PID", ">UID", "S", ">THREADS", ">RSS", ">CPU TIME", "NAME", NULL
    };
    static const char *const thread_heads[] = {
        ">PID", ">THREAD", ">UID", "S", ">THREADS", ">RSS", ">CPU TIME", "NAME",
        NULL
    };
    Table *t = table_new(stacks ? thread_heads : heads);

    for (guint i = 0; i < MIN(rvmrpc_records_get_count(records), max); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        guint64 ns, kernel = 0;
        char *name;

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_TASK) {
            continue;
        }
        table_add_u64(t, r, RVMRPC_TASK_PID);
        if (stacks) {
            table_add_u64(t, r, RVMRPC_TASK_THREAD);
        }
        table_add_u64(t, r, RVMRPC_TASK_UID);
        table_add_text(t, r, RVMRPC_TASK_STATE);
        table_add_u64(t, r, RVMRPC_TASK_THREADS);
        table_add_size(t, r, RVMRPC_TASK_RSS);
        table_add(t, rvmrpc_record_get_u64(r, RVMRPC_TASK_CPU_NS, &ns) ?
                  time_text(ns) : g_strdup("-"));
        rvmrpc_record_get_u64(r, RVMRPC_TASK_KERNEL, &kernel);
        name = task_name(r);
        table_add(t, kernel ? g_strdup_printf("[%s]", name) : g_strdup(name));
        g_free(name);
        if (stacks) {
            table_below(t, stack_text(r));
        }
    }
    return t;
}

char *task_name(const RvmrpcRecord *r)
{
    g_autofree char *name = rvmrpc_record_get_string(r, RVMRPC_TASK_NAME);

    return clean(name);
}

static Table *processes_table(const RvmrpcRecords *records)
{
    return tasks_table(records, FALSE, G_MAXUINT);
}

static Table *blocked_table(const RvmrpcRecords *records)
{
    return tasks_table(records, TRUE, G_MAXUINT);
}

static void tasks_json(JsonBuilder *b, const RvmrpcRecords *records)
{
    json_records(b, "tasks", records, RVMRPC_RECORD_TASK);
}

int cmd_ps(int argc, char **argv)
{
    RvmrpcListing what = {
        .module = RVMRPC_MOD_TASKS,
        .procedure = RVMRPC_TASKS_LIST,
        .max = options.count,
    };
    const char *by = options.by ?: "pid";
    g_autoptr(RvmrpcRecords) records = NULL;
    int code;

    (void)argc;
    if (strcmp(by, "blocked") == 0) {
        what.procedure = RVMRPC_TASKS_BLOCKED;
    } else if (strcmp(by, "memory") == 0) {
        what.select = RVMRPC_TASKS_BY_MEMORY;
    } else if (strcmp(by, "cpu") == 0) {
        what.select = RVMRPC_TASKS_BY_CPU;
    } else if (strcmp(by, "pid") != 0) {
        return usage_error("--by must be pid, memory, cpu or blocked, not '%s'",
                           by);
    }
    records = ask_records(argv[0], &what, timeout_or(LIST_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    return show(records, what.procedure == RVMRPC_TASKS_BLOCKED ?
                blocked_table : processes_table, tasks_json);
}

/* ---- psi ---- */

static void add_percent(Table *t, const RvmrpcRecord *r, guint key)
{
    guint64 value;

    table_add(t, rvmrpc_record_get_u64(r, key, &value) ?
              g_strdup_printf("%.2f%%", value / 100.0) : g_strdup("-"));
}

static void add_seconds(Table *t, const RvmrpcRecord *r, guint key)
{
    guint64 value;

    table_add(t, rvmrpc_record_get_u64(r, key, &value) ?
              g_strdup_printf("%.2f s", value / 1e9) : g_strdup("-"));
}

Table *pressure_table(const RvmrpcRecords *records)
{
    static const char *const heads[] = {
        "WAITED FOR", ">SOME 10 s", ">60 s", ">300 s", ">IN ALL", ">ALL 10 s",
        ">60 s", ">300 s", ">IN ALL", NULL
    };
    Table *t = table_new(heads);

    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_PSI) {
            continue;
        }
        table_add_text(t, r, RVMRPC_PSI_RESOURCE);
        add_percent(t, r, RVMRPC_PSI_SOME_AVG10);
        add_percent(t, r, RVMRPC_PSI_SOME_AVG60);
        add_percent(t, r, RVMRPC_PSI_SOME_AVG300);
        add_seconds(t, r, RVMRPC_PSI_SOME_TOTAL);
        add_percent(t, r, RVMRPC_PSI_FULL_AVG10);
        add_percent(t, r, RVMRPC_PSI_FULL_AVG60);
        add_percent(t, r, RVMRPC_PSI_FULL_AVG300);
        add_seconds(t, r, RVMRPC_PSI_FULL_TOTAL);
    }
    return t;
}

static void pressure_json(JsonBuilder *b, const RvmrpcRecords *records)
{
    json_records(b, "resources", records, RVMRPC_RECORD_PSI);
}

int cmd_psi(int argc, char **argv)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_PRESSURE,
        .procedure = RVMRPC_PRESSURE_PSI,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    int code;

    (void)argc;
    records = ask_records(argv[0], &what, timeout_or(LIST_TIMEOUT_MS), &code);
    if (!records) {
        return code;
    }
    /* No pressure that is known is not no pressure. */
    if (!rvmrpc_records_get_count(records)) {
        return fail(g_error_new(RVMRPC_ERROR,
                                RVMRPC_ERROR_PROCEDURE_UNAVAILABLE, "%s: "
                                NO_PSI_TEXT, argv[0]));
    }
    return show(records, pressure_table, pressure_json);
}
