/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vmrpc

#if !defined(ARCH_X86_KVM_VMRPC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ARCH_X86_KVM_VMRPC_TRACE_H

#include <linux/ktime.h>
#include <linux/tracepoint.h>
#include "rvmrpc_abi.h"

#define VMRPC_SHOW_OP(op)				\
	__print_symbolic((op) & ~RVMRPC_OP_KERNEL,	\
		{ RVMRPC_OP_NULL, "null" },		\
		{ RVMRPC_OP_BIND, "bind" },		\
		{ RVMRPC_OP_PERFORM, "perform" },	\
		{ RVMRPC_OP_UNBIND, "unbind" })

/* A gate call has its answer, the VMM's (server=vmm) or the kernel's.  The function is of perform alone. */
TRACE_EVENT(vmrpc_gate,
	TP_PROTO(u32 vcpu, u64 op, u64 a0, u64 result),
	TP_ARGS(vcpu, op, a0, result),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u64, op)
		__field(u64, a0)
		__field(u64, result)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->op = op;
		__entry->a0 = a0;
		__entry->result = result;
	),
	TP_printk("vcpu=%u op=%s server=%s handle=0x%x function=%u result=0x%llx",
		  __entry->vcpu, VMRPC_SHOW_OP(__entry->op),
		  __entry->op & RVMRPC_OP_KERNEL ? "kernel" : "vmm",
		  (u32)__entry->a0, (u32)(__entry->a0 >> 32), __entry->result)
);

TRACE_EVENT(vmlp_wait_begin,
	TP_PROTO(u32 vcpu, u32 timeout_us),
	TP_ARGS(vcpu, timeout_us),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, timeout_us)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->timeout_us = timeout_us;
	),
	TP_printk("vcpu=%u timeout_us=%u", __entry->vcpu, __entry->timeout_us)
);

#define VMLP_END_WOKEN		0
#define VMLP_END_SIGNAL		1	/* of the VMM's thread */
#define VMLP_END_TIMEOUT	2
#define VMLP_END_EVENT		3	/* of the guest: an interrupt, mostly */

TRACE_EVENT(vmlp_wait_end,
	TP_PROTO(u32 vcpu, u32 reason, u64 ns),
	TP_ARGS(vcpu, reason, ns),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, reason)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->reason = reason;
		__entry->ns = ns;
	),
	TP_printk("vcpu=%u reason=%s ns=%llu", __entry->vcpu,
		  __print_symbolic(__entry->reason,
				   { VMLP_END_WOKEN, "woken" },
				   { VMLP_END_SIGNAL, "signal" },
				   { VMLP_END_TIMEOUT, "timeout" },
				   { VMLP_END_EVENT, "event" }),
		  __entry->ns)
);

#endif /* ARCH_X86_KVM_VMRPC_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vmrpc_trace
#include <trace/define_trace.h>
