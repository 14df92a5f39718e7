/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules tasks, klog, fs, net and pressure, which list what there is.
 *
 * As in rvmrpc_care.h: what is asked for is checked here, and the answer begun and ended; its records are the OS's.
 */
#ifndef RVMRPC_LISTS_H
#define RVMRPC_LISTS_H

#include "rvmrpc_records.h"

extern struct rvmrpc_module rvmrpc_tasks_module;
extern struct rvmrpc_module rvmrpc_klog_module;
extern struct rvmrpc_module rvmrpc_fs_module;
extern struct rvmrpc_module rvmrpc_net_module;
extern struct rvmrpc_module rvmrpc_pressure_module;

/*
 * Each writes records from the writer's cursor on, and returns RVMRPC_STATUS_*: with another than OK nothing of them is
 * answered.  ms: how long the caller waits at most, so take less.
 */

/* Server thread.  By w->wanted.select, RVMRPC_TASKS_BY_*. */
int rvmrpc_os_tasks_list(struct rvmrpc_record_writer *w, uint32_t ms);
int rvmrpc_os_tasks_blocked(struct rvmrpc_record_writer *w, uint32_t ms);

/* Server thread.  By w->wanted.select, RVMRPC_KLOG_*; the last ones have no cursor. */
int rvmrpc_os_klog_read(struct rvmrpc_record_writer *w, uint32_t ms);

/* Worker, may sleep. */
int rvmrpc_os_fs_list(struct rvmrpc_record_writer *w, uint32_t ms);

/* Server thread. */
int rvmrpc_os_net_list(struct rvmrpc_record_writer *w, uint32_t ms);

/* Server thread; worker, may sleep. */
int rvmrpc_os_psi(struct rvmrpc_record_writer *w, uint32_t ms);
int rvmrpc_os_disks(struct rvmrpc_record_writer *w, uint32_t ms);

/* Server thread: the fields of the one record. */
void rvmrpc_os_vmstat(struct rvmrpc_record_writer *w);

#endif /* RVMRPC_LISTS_H */
