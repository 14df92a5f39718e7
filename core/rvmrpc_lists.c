/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules tasks, klog, fs, net and pressure.
 */
#include "rvmrpc_builtin.h"
#include "rvmrpc_lists.h"

typedef int (*lists_fn)(struct rvmrpc_record_writer *w, uint32_t ms);

static int lists_answer(const struct rvmrpc_request *req, struct rvmrpc_response *res, uint32_t select_max, lists_fn fn)
{
	struct rvmrpc_record_writer w;
	int status;

	status = rvmrpc_records_begin(&w, req, res, select_max);
	if (status == RVMRPC_STATUS_OK)
		status = fn(&w, req->timeout_ms);
	return status == RVMRPC_STATUS_OK ? rvmrpc_records_end(&w) : status;
}

#define LISTS_PROC(n, s, more, fn) {				\
		.number = (n),					\
		.name = (s),					\
		.flags = RVMRPC_PROC_READ_ONLY | (more),	\
		.arg_max = sizeof(struct rvmrpc_records_req),	\
		.handler = (fn),				\
	}

#define LISTS_MODULE(n, s, table)				\
	struct rvmrpc_module rvmrpc_##table##_module = {	\
		.number = (n),					\
		.version = 1,					\
		.name = (s),					\
		.procs = table##_procs,				\
		.nprocs = RVMRPC_COUNT(table##_procs),		\
	}

/* ---- tasks ---- */

static int tasks_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, RVMRPC_TASKS_BY_CPU, rvmrpc_os_tasks_list);
}

static int tasks_blocked(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, rvmrpc_os_tasks_blocked);
}

static const struct rvmrpc_procedure tasks_procs[] = {
	LISTS_PROC(RVMRPC_TASKS_LIST, "list", 0, tasks_list),
	LISTS_PROC(RVMRPC_TASKS_BLOCKED, "blocked", 0, tasks_blocked),
};

LISTS_MODULE(RVMRPC_MOD_TASKS, "tasks", tasks);

/* ---- klog ---- */

static int klog_from(struct rvmrpc_record_writer *w, uint32_t ms)
{
	if (w->wanted.select == RVMRPC_KLOG_LAST && w->wanted.cursor)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	return rvmrpc_os_klog_read(w, ms);
}

static int klog_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, RVMRPC_KLOG_LAST, klog_from);
}

static const struct rvmrpc_procedure klog_procs[] = {
	LISTS_PROC(RVMRPC_KLOG_READ, "read", RVMRPC_PROC_SECRET, klog_read),
};

LISTS_MODULE(RVMRPC_MOD_KLOG, "klog", klog);

/* ---- fs ---- */

static int fs_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, rvmrpc_os_fs_list);
}

static const struct rvmrpc_procedure fs_procs[] = {
	LISTS_PROC(RVMRPC_FS_LIST, "list", RVMRPC_PROC_MAY_SLEEP, fs_list),
};

LISTS_MODULE(RVMRPC_MOD_FS, "fs", fs);

/* ---- net ---- */

static int net_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, rvmrpc_os_net_list);
}

static const struct rvmrpc_procedure net_procs[] = {
	LISTS_PROC(RVMRPC_NET_LIST, "list", 0, net_list),
};

LISTS_MODULE(RVMRPC_MOD_NET, "net", net);

/* ---- pressure ---- */

static int pressure_psi(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, rvmrpc_os_psi);
}

static int pressure_one_vmstat(struct rvmrpc_record_writer *w, uint32_t ms)
{
	(void)ms;
	if (!w->wanted.cursor) {
		rvmrpc_record_begin(w, RVMRPC_RECORD_VMSTAT);
		rvmrpc_os_vmstat(w);
		rvmrpc_record_end(w, 0);
	}
	return RVMRPC_STATUS_OK;
}

static int pressure_vmstat(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, pressure_one_vmstat);
}

static int pressure_disks(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return lists_answer(req, res, 0, rvmrpc_os_disks);
}

static const struct rvmrpc_procedure pressure_procs[] = {
	LISTS_PROC(RVMRPC_PRESSURE_PSI, "psi", 0, pressure_psi),
	LISTS_PROC(RVMRPC_PRESSURE_VMSTAT, "vmstat", 0, pressure_vmstat),
	LISTS_PROC(RVMRPC_PRESSURE_DISKS, "disks", RVMRPC_PROC_MAY_SLEEP, pressure_disks),
};

LISTS_MODULE(RVMRPC_MOD_PRESSURE, "pressure", pressure);
