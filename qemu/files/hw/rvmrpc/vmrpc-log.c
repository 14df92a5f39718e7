/*
 * VMRPC server "log": a line of a guest kernel goes to QEMU's log
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-internal.h"
#include "trace.h"

#define LOG_WRITE           0       /* arg = GVA of text, bytes = its length */
#define LOG_LINE_MAX        1024    /* bytes */
#define LOG_LINES_PER_SEC   50

#define DAY_NS              (86400ll * NANOSECONDS_PER_SECOND)
#define LOG_LINE_OVERHEAD   64      /* what the host's log adds to a line */

static QemuMutex lock;
static uint64_t budget;             /* bytes a day, 0: there is no server; lock */
static int64_t day_start;           /* ns; lock, as all below */
static uint64_t day_bytes;
static bool day_over;               /* it was told that the budget is spent */
static int64_t window_start;        /* ns */
static uint64_t window_lines;
static uint64_t dropped;            /* in the window */

/* Lock held.  False: no more today. */
static bool may_log_today(int64_t now, size_t bytes)
{
    if (!day_start || now - day_start >= DAY_NS) {
        day_start = now;
        day_bytes = 0;
        day_over = false;
    }
    if (day_bytes + bytes > budget) {
        if (!day_over) {
            warn_report("rvmrpc: the guest has logged %" PRIu64 " bytes; "
                        "the rest of the day is dropped", day_bytes);
        }
        day_over = true;
        return false;
    }
    return true;
}

/* A guest must not fill the host's disk: not at once, and not in a week. */
static bool may_log(size_t bytes)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    QEMU_LOCK_GUARD(&lock);
    if (!may_log_today(now, bytes)) {
        return false;
    }
    if (!window_start || now - window_start >= NANOSECONDS_PER_SECOND) {
        if (dropped) {
            trace_vmrpc_log_dropped(dropped);
            warn_report("rvmrpc: dropped %" PRIu64 " lines of the guest",
                        dropped);
            day_bytes += LOG_LINE_OVERHEAD;
        }
        window_start = now;
        window_lines = dropped = 0;
    }
    if (window_lines >= LOG_LINES_PER_SEC) {
        dropped++;
        return false;
    }
    window_lines++;
    day_bytes += bytes;
    return true;
}

static bool serves(void)
{
    QEMU_LOCK_GUARD(&lock);
    return budget;
}

static uint32_t log_write(VmrpcCall *call, uint64_t arg, uint64_t bytes)
{
    char line[LOG_LINE_MAX + 1];
    g_autofree char *escaped = NULL;

    if (bytes > LOG_LINE_MAX) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    if (!vmrpc_copy_from_guest(call, line, arg, bytes)) {
        return RVMRPC_GATE_FAULT;
    }
    line[bytes] = 0;
    escaped = g_strescape(g_strchomp(line), "\"");
    if (may_log(strlen(escaped) + LOG_LINE_OVERHEAD)) {
        trace_vmrpc_log_line(escaped);
        info_report("rvmrpc: guest: %s", escaped);
    }
    return 0;
}

static uint32_t log_dispatch(VmrpcCall *call, uint32_t func, uint64_t arg,
                             uint64_t bytes)
{
    if (!serves()) {
        return RVMRPC_GATE_NO_MODULE;
    }
    switch (func) {
    case LOG_WRITE:
        return log_write(call, arg, bytes);
    default:
        return RVMRPC_GATE_NO_PROCEDURE;
    }
}

static const VmrpcModule log_module = {
    .name = "log",
    .version = "1",
    .dispatch = log_dispatch,
};

void vmrpc_log_serve(uint64_t bytes_per_day)
{
    static bool registered;         /* BQL */

    /* It is there for the life of the process, and a guest's from now on. */
    if (!registered && bytes_per_day) {
        registered = true;
        qemu_mutex_init(&lock);
        vmrpc_register_module(&log_module);
    }
    if (registered) {
        QEMU_LOCK_GUARD(&lock);
        budget = bytes_per_day;
    }
}
