/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rvmrpc

#if !defined(RVMRPC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RVMRPC_TRACE_H

#include <linux/tracepoint.h>
#include "rvmrpc_server.h"

TRACE_EVENT(rvmrpc_call_begin,
	TP_PROTO(const struct rvmrpc_hdr *hdr, u32 slot),
	TP_ARGS(hdr, slot),
	TP_STRUCT__entry(
		__field(u64, xid)
		__field(u32, module)
		__field(u32, procedure)
		__field(u32, length)
		__field(u32, slot)
	),
	TP_fast_assign(
		__entry->xid = hdr->xid;
		__entry->module = hdr->module;
		__entry->procedure = hdr->procedure;
		__entry->length = hdr->length;
		__entry->slot = slot;
	),
	TP_printk("xid=0x%llx module=0x%x procedure=0x%x length=%u slot=%u",
		  __entry->xid, __entry->module, __entry->procedure, __entry->length,
		  __entry->slot)
);

TRACE_EVENT(rvmrpc_call_end,
	TP_PROTO(u64 xid, u32 status, u32 length, u32 slot),
	TP_ARGS(xid, status, length, slot),
	TP_STRUCT__entry(
		__field(u64, xid)
		__field(u32, status)
		__field(u32, length)
		__field(u32, slot)
	),
	TP_fast_assign(
		__entry->xid = xid;
		__entry->status = status;
		__entry->length = length;
		__entry->slot = slot;
	),
	TP_printk("xid=0x%llx status=%u length=%u slot=%u",
		  __entry->xid, __entry->status, __entry->length, __entry->slot)
);

#endif /* RVMRPC_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE rvmrpc_trace
#include <trace/define_trace.h>
