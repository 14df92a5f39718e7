/*
 * rvmrpc-exporter: a guest's counters that never fall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef COUNTERS_H
#define COUNTERS_H

#include "../common/facts.h"

#define CPU_MODES 5             /* user, system, idle, iowait, steal */

typedef struct CpuCounters {
    guint32 index;
    guint64 ns[CPU_MODES];
} CpuCounters;

/*
 * CPU time of the VM with these labels, of each CPU that it has now: the
 * greatest that it ever told in this epoch.  Any thread.
 */
GArray *counters_raise(const char *labels, const Facts *f);

#endif
