// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMRPC: calls from this kernel to procedures of the host (paper, figures 1 and 2).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "rvmrpc_drv.h"

/* What one call hands to the host by address; a power of two, so that no field crosses a page. */
struct vmrpc_call {
	struct rvmrpc_frame frame;
	struct vmrpc_bind bind;
};

static int vmrpc_call(struct vmrpc_call *call, u64 op, u64 a0, u64 a1, u64 a2)
{
	BUILD_BUG_ON(!is_power_of_2(sizeof(*call)));

	might_sleep();
	return rvmrpc_gate_errno(rvmrpc_gate_call_published(&call->frame, op, a0, a1, a2));
}

static int vmrpc_bind_space(const char *name, const char *version, u64 space)
{
	struct vmrpc_call *call;
	int ret = -EINVAL;

	call = kzalloc(sizeof(*call), GFP_KERNEL);
	if (!call)
		return -ENOMEM;
	if (strscpy(call->bind.name, name, sizeof(call->bind.name)) > 0 &&
	    strscpy(call->bind.version, version, sizeof(call->bind.version)) > 0)
		ret = vmrpc_call(call, RVMRPC_OP_BIND | space, (unsigned long)&call->bind, 0, 0);
	kfree(call);
	return ret;
}

static int vmrpc_perform_space(int handle, u32 func, void *arg, size_t bytes, u64 space)
{
	struct vmrpc_call *call;
	int ret;

	if (handle < 0)
		return -EBADF;
	call = kzalloc(sizeof(*call), GFP_KERNEL);
	if (!call)
		return -ENOMEM;
	ret = vmrpc_call(call, RVMRPC_OP_PERFORM | space, (u32)handle | (u64)func << 32,
			 (unsigned long)arg, bytes);
	kfree(call);
	return ret;
}

static int vmrpc_unbind_space(int handle, u64 space)
{
	struct vmrpc_call *call;
	int ret;

	if (handle < 0)
		return -EBADF;
	call = kzalloc(sizeof(*call), GFP_KERNEL);
	if (!call)
		return -ENOMEM;
	ret = vmrpc_call(call, RVMRPC_OP_UNBIND | space, (u32)handle, 0, 0);
	kfree(call);
	return ret;
}

int vmrpc_bind_module(const char *name, const char *version)
{
	return vmrpc_bind_space(name, version, 0);
}
EXPORT_SYMBOL_GPL(vmrpc_bind_module);

int vmrpc_perform(int handle, u32 func, void *arg, size_t bytes)
{
	return vmrpc_perform_space(handle, func, arg, bytes, 0);
}
EXPORT_SYMBOL_GPL(vmrpc_perform);

int vmrpc_unbind_module(int handle)
{
	return vmrpc_unbind_space(handle, 0);
}
EXPORT_SYMBOL_GPL(vmrpc_unbind_module);

int vmrpc_bind_module_kernel(const char *name, const char *version)
{
	return vmrpc_bind_space(name, version, RVMRPC_OP_KERNEL);
}
EXPORT_SYMBOL_GPL(vmrpc_bind_module_kernel);

int vmrpc_perform_kernel(int handle, u32 func, void *arg, size_t bytes)
{
	return vmrpc_perform_space(handle, func, arg, bytes, RVMRPC_OP_KERNEL);
}
EXPORT_SYMBOL_GPL(vmrpc_perform_kernel);

int vmrpc_unbind_module_kernel(int handle)
{
	return vmrpc_unbind_space(handle, RVMRPC_OP_KERNEL);
}
EXPORT_SYMBOL_GPL(vmrpc_unbind_module_kernel);
