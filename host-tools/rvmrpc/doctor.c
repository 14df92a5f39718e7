/*
 * The rvmrpc command: doctor, asks a guest that seems dead
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each part has a time of its own.  A call that is not answered keeps its slot
 * until the guest answers it, so few are made at a time, and none any more when
 * its kernel does not even answer a null call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "doctor.h"
#include "monitor.h"
#include "../common/crowd.h"

#define PART_MS     2500
/*
 * Calls at a time: fewer than the usual slots, since others call this guest,
 * too.  A monitor serves one connection at a time.
 */
#define TURNS         3
#define TURNS_MONITOR 1
/* Between two looks at what changes. */
#define BETWEEN_S   0.5
#define TASKS_MAX   20000
#define LARGEST_MAX 10
#define LOG_MAX     60

const PartName part_names[PARTS] = {
    [PART_MEMORY] = { "memory", "what has its memory" },
    [PART_PRESSURE] = { "pressure", "what its tasks wait for" },
    [PART_VMSTAT] = { "vmstat", "whether processes were killed for want of "
                      "memory" },
    [PART_CPU] = { "cpu", "what its CPUs do" },
    [PART_LARGEST] = { "largest", "who has most memory" },
    [PART_TASKS] = { "tasks", "which processes run" },
    [PART_BLOCKED] = { "blocked", "which tasks hang" },
    [PART_FILESYSTEMS] = { "filesystems", "how full its file systems are" },
    [PART_DISKS] = { "disks", "what its disks do" },
    [PART_FREEZE] = { "freeze", "whether its file systems are frozen" },
    [PART_CLOCK] = { "clock", "what time it has" },
    [PART_LOG] = { "log", "what its kernel's log says" },
};

/* ---- One part ---- */

static guint left(gint64 end)
{
    gint64 us = end - g_get_monotonic_time();

    return us > 1000 ? us / 1000 : 1;
}

static const RvmrpcListing listings[PARTS] = {
    [PART_PRESSURE] = { RVMRPC_MOD_PRESSURE, RVMRPC_PRESSURE_PSI, 0, 0, 0 },
    [PART_VMSTAT] = { RVMRPC_MOD_PRESSURE, RVMRPC_PRESSURE_VMSTAT, 0, 0, 0 },
    [PART_LARGEST] = { RVMRPC_MOD_TASKS, RVMRPC_TASKS_LIST,
                       RVMRPC_TASKS_BY_MEMORY, 0, LARGEST_MAX },
    [PART_TASKS] = { RVMRPC_MOD_TASKS, RVMRPC_TASKS_LIST, 0, 0, TASKS_MAX },
    [PART_BLOCKED] = { RVMRPC_MOD_TASKS, RVMRPC_TASKS_BLOCKED, 0, 0,
                       TASKS_MAX },
    [PART_FILESYSTEMS] = { RVMRPC_MOD_FS, RVMRPC_FS_LIST, 0, 0, 0 },
    [PART_DISKS] = { RVMRPC_MOD_PRESSURE, RVMRPC_PRESSURE_DISKS, 0, 0, 0 },
    [PART_LOG] = { RVMRPC_MOD_KLOG, RVMRPC_KLOG_READ, RVMRPC_KLOG_LAST, 0,
                   LOG_MAX },
};

static gboolean is_twice(PartKind kind)
{
    return kind == PART_TASKS || kind == PART_BLOCKED || kind == PART_DISKS ||
           kind == PART_CPU;
}

/* Looks at it for the first or the second time. */
static gboolean look(PartKind kind, Part *p, guint time, RvmrpcConn *conn,
                     guint timeout_ms, GError **error)
{
    GCancellable *cancellable = options.cancellable;

    switch (kind) {
    case PART_MEMORY:
        p->mem = rvmrpc_get_meminfo(conn, FALSE, timeout_ms, cancellable,
                                    error);
        return p->mem != NULL;
    case PART_CPU:
        p->stat[time] = rvmrpc_get_cpustat(conn, timeout_ms, cancellable,
                                           error);
        return p->stat[time] != NULL;
    case PART_FREEZE:
        return rvmrpc_get_freeze(conn, timeout_ms, &p->frozen, cancellable,
                                 error);
    case PART_CLOCK:
        return rvmrpc_get_clock(conn, &p->clock, timeout_ms, cancellable,
                                error);
    default:
        p->records[time] = rvmrpc_get_records(conn, &listings[kind],
                                              timeout_ms, cancellable, error);
        return p->records[time] != NULL;
    }
}

/* A null call: whether its kernel answers anything. */
static gboolean ask_null(Doctor *d, guint64 *ns, GError **error)
{
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autoptr(GBytes) answer = NULL;

    conn = rvmrpc_connect(d->vm, d->timeout_ms, options.cancellable, error);
    if (!conn) {
        return FALSE;
    }
    answer = rvmrpc_call(conn, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL,
                         d->timeout_ms, ns, options.cancellable, error);
    return answer != NULL;
}

static gboolean is_late(const GError *error)
{
    return g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT) ||
           g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_SILENT);
}

/* It did not answer a call: does it answer any? That it is busy, or paused now, is no silence. */
static gboolean is_deaf(Doctor *d)
{
    g_autoptr(GError) error = NULL;
    guint64 ns;

    return !ask_null(d, &ns, &error) && is_late(error);
}

/* A look in its turn, unless the guest is known to be deaf. */
static gboolean look_in_turn(Doctor *d, PartKind kind, guint time,
                             GError **error)
{
    void *turn = g_async_queue_pop(d->turns);
    gint64 end = g_get_monotonic_time() + d->timeout_ms * (gint64)1000;
    g_autoptr(RvmrpcConn) conn = NULL;
    gboolean seen = FALSE;

    if (g_atomic_int_get(&d->deaf)) {
        g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT,
                            "not asked, since its kernel has ceased to "
                            "answer");
    } else {
        conn = rvmrpc_connect(d->vm, d->timeout_ms, options.cancellable,
                              error);
        seen = conn && look(kind, &d->parts[kind], time, conn, left(end),
                            error);
        g_clear_pointer(&conn, rvmrpc_conn_free);
        if (is_late(*error) && is_deaf(d)) {
            g_atomic_int_set(&d->deaf, TRUE);
        }
    }
    g_async_queue_push(d->turns, turn);
    return seen;
}

static void part_job(void *data, void *user_data)
{
    const PartKind kind = GPOINTER_TO_UINT(data) - 1;
    Doctor *d = user_data;
    Part *p = &d->parts[kind];
    g_autoptr(GError) error = NULL;
    gint64 start;

    if (!look_in_turn(d, kind, 0, &p->error) || !is_twice(kind)) {
        return;
    }
    start = g_get_monotonic_time();
    /* The first look is good without the second. */
    if (monitor_sleep(options.cancellable, BETWEEN_S) &&
        look_in_turn(d, kind, 1, &error)) {
        p->between_s = (g_get_monotonic_time() - start) / 1e6;
    }
}

/* ---- All ---- */

static void ask_parts(Doctor *d)
{
    const char *way = d->facts->way;
    const guint turns = strcmp(way, "socket") == 0 ||
                        strcmp(way, "kernel") == 0 ? TURNS : TURNS_MONITOR;
    gpointer kinds[PARTS];

    d->turns = g_async_queue_new();
    for (guint i = 0; i < turns; i++) {
        g_async_queue_push(d->turns, d);
    }
    for (guint kind = 0; kind < PARTS; kind++) {
        kinds[kind] = GUINT_TO_POINTER(kind + 1);
    }
    crowd_run(part_job, kinds, PARTS, d);
    g_async_queue_unref(d->turns);
}

/* What a null call said, for all that was not asked. */
static void ask_nothing(Doctor *d)
{
    for (guint kind = 0; kind < PARTS; kind++) {
        d->parts[kind].error = g_error_copy(d->null_error);
    }
}

static void finding_free(void *data)
{
    Finding *finding = data;

    g_free(finding->text);
    g_free(finding);
}

static void part_clear(Part *p)
{
    g_clear_error(&p->error);
    g_clear_pointer(&p->mem, rvmrpc_meminfo_free);
    for (guint i = 0; i < 2; i++) {
        g_clear_pointer(&p->stat[i], rvmrpc_cpustat_free);
        g_clear_pointer(&p->records[i], rvmrpc_records_free);
    }
}

static void doctor_clear(Doctor *d)
{
    for (guint kind = 0; kind < PARTS; kind++) {
        part_clear(&d->parts[kind]);
    }
    g_clear_error(&d->null_error);
    g_clear_pointer(&d->facts, facts_free);
    g_clear_pointer(&d->findings, g_ptr_array_unref);
    g_clear_pointer(&d->vm, rvmrpc_vm_unref);
}

/* FALSE and *error: not even the VM's host side could be asked. */
static gboolean doctor_ask(Doctor *d, GError **error)
{
    g_autoptr(RvmrpcConn) conn = NULL;

    d->facts = facts_gather(d->vm, FACTS_CHANNEL, &conn, d->timeout_ms,
                            options.cancellable);
    if (!d->facts->channel) {
        *error = g_steal_pointer(&d->facts->error);
        return FALSE;
    }
    g_clear_pointer(&conn, rvmrpc_conn_free);
    if (ask_null(d, &d->null_ns, &d->null_error)) {
        ask_parts(d);
    } else {
        ask_nothing(d);
    }
    if (g_cancellable_set_error_if_cancelled(options.cancellable, error)) {
        return FALSE;
    }
    doctor_diagnose(d);
    return TRUE;
}

/* ---- Output ---- */

char *reason_text(const Doctor *d, const GError *error)
{
    g_autofree char *prefix = g_strdup_printf("%s: ",
                                              rvmrpc_vm_get_name(d->vm));
    const char *text = error->message;

    return clean(g_str_has_prefix(text, prefix) ? text + strlen(prefix) : text);
}

/* A new file is for its owner only: the log is the guest's root's. */
static int write_report(const char *path, const char *report)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

    /* What is buffered arrives, or does not, when it is closed. */
    if (file && fputs(report, file) >= 0 && fclose(file) == 0) {
        return EXIT_OK;
    }
    fprintf(stderr, "rvmrpc: cannot write '%s': %s\n", path,
            g_strerror(errno));
    return EXIT_OTHER;
}

static int print_report(const Doctor *d)
{
    g_autofree char *report = options.json ? doctor_json(d) : doctor_text(d);
    g_autofree char *findings = NULL;

    if (!options.output) {
        fputs(report, stdout);
        return EXIT_OK;
    }
    if (!options.json) {
        findings = doctor_findings_text(d);
        fputs(findings, stdout);
    }
    return write_report(options.output, report);
}

int cmd_doctor(int argc, char **argv)
{
    Doctor d = { .timeout_ms = timeout_or(PART_MS) };
    GError *error = NULL;
    int code;

    (void)argc;
    d.vm = rvmrpc_find_vm(argv[0], options.cancellable, &error);
    if (!d.vm) {
        return fail(error);
    }
    d.findings = g_ptr_array_new_with_free_func(finding_free);
    code = doctor_ask(&d, &error) ? print_report(&d) : fail(error);
    doctor_clear(&d);
    return code;
}
