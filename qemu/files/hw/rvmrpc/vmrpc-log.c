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

static QemuMutex lock;
static int64_t window_start;        /* ns; lock */
static uint64_t window_lines;       /* lock */
static uint64_t dropped;            /* in the window; lock */

/* A guest must not fill the host's disk. */
static bool may_log(void)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    QEMU_LOCK_GUARD(&lock);
    if (!window_start || now - window_start >= NANOSECONDS_PER_SECOND) {
        if (dropped) {
            trace_vmrpc_log_dropped(dropped);
            warn_report("rvmrpc: dropped %" PRIu64 " lines of the guest",
                        dropped);
        }
        window_start = now;
        window_lines = dropped = 0;
    }
    if (window_lines >= LOG_LINES_PER_SEC) {
        dropped++;
        return false;
    }
    window_lines++;
    return true;
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
    if (may_log()) {
        escaped = g_strescape(g_strchomp(line), "\"");
        trace_vmrpc_log_line(escaped);
        info_report("rvmrpc: guest: %s", escaped);
    }
    return 0;
}

static uint32_t log_dispatch(VmrpcCall *call, uint32_t func, uint64_t arg,
                             uint64_t bytes)
{
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

void vmrpc_log_register(void)
{
    qemu_mutex_init(&lock);
    vmrpc_register_module(&log_module);
}
