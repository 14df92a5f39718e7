/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rvmrpc_host

#if !defined(RVMRPC_HOST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RVMRPC_HOST_TRACE_H

#include <linux/ktime.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <uapi/linux/rvmrpc.h>

/* All by value: the address of a caller's variable would keep it in memory, traced or not. */
TRACE_EVENT(rvmrpc_host_call_begin,
	TP_PROTO(u64 vm, u32 module, u32 procedure, u32 arglen),
	TP_ARGS(vm, module, procedure, arglen),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u32, module)
		__field(u32, procedure)
		__field(u32, arglen)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->module = module;
		__entry->procedure = procedure;
		__entry->arglen = arglen;
	),
	TP_printk("vm=%llu module=0x%x procedure=0x%x arglen=%u",
		  __entry->vm, __entry->module, __entry->procedure, __entry->arglen)
);

/* The time is looked at here, where it is wanted. */
TRACE_EVENT(rvmrpc_host_call_end,
	TP_PROTO(u64 vm, u32 module, u32 procedure, u32 status, u64 submitted),
	TP_ARGS(vm, module, procedure, status, submitted),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u32, module)
		__field(u32, procedure)
		__field(u32, status)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->module = module;
		__entry->procedure = procedure;
		__entry->status = status;
		__entry->ns = ktime_get_ns() - submitted;
	),
	TP_printk("vm=%llu module=0x%x procedure=0x%x status=%u ns=%llu",
		  __entry->vm, __entry->module, __entry->procedure, __entry->status, __entry->ns)
);

TRACE_EVENT(rvmrpc_host_attach,
	TP_PROTO(u64 vm, pid_t pid, const char *name, u64 bytes),
	TP_ARGS(vm, pid, name, bytes),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(pid_t, pid)
		__array(char, name, RVMRPC_VM_NAME_SIZE)
		__field(u64, bytes)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->pid = pid;
		memcpy(__entry->name, name, RVMRPC_VM_NAME_SIZE);
		__entry->bytes = bytes;
	),
	TP_printk("vm=%llu pid=%d name=%s window=%llu",
		  __entry->vm, __entry->pid, __entry->name, __entry->bytes)
);

TRACE_EVENT(rvmrpc_host_detach,
	TP_PROTO(u64 vm),
	TP_ARGS(vm),
	TP_STRUCT__entry(
		__field(u64, vm)
	),
	TP_fast_assign(
		__entry->vm = vm;
	),
	TP_printk("vm=%llu", __entry->vm)
);

#endif /* RVMRPC_HOST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE rvmrpc_host_trace
#include <trace/define_trace.h>
