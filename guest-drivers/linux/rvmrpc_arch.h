/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All that differs between x86 and arm64.
 */
#ifndef RVMRPC_ARCH_H
#define RVMRPC_ARCH_H

#include <linux/types.h>

/* What a CPU is. */
struct rvmrpc_arch_cpu {
	const char *vendor, *model_name;
	u32 family, model, stepping;
	u64 hz;
};

#ifdef CONFIG_X86

#include <asm/asm.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>
#include <asm/tsc.h>
#include <asm/unwind.h>

/*
 * After a move to another VMM the instruction may be undefined; the exception table then leaves RAX as
 * it was, which has no tag.
 */
static inline u64 rvmrpc_hypercall(u32 number, u64 op, u64 a0, u64 a1, u64 a2)
{
	u64 rax = number;

	if (boot_cpu_has(X86_FEATURE_VMMCALL))
		asm volatile("1: vmmcall\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+a" (rax) : "b" (op), "c" (a0), "d" (a1), "S" (a2)
			     : "memory", "cc");
	else
		asm volatile("1: vmcall\n2:\n" _ASM_EXTABLE(1b, 2b)
			     : "+a" (rax) : "b" (op), "c" (a0), "d" (a1), "S" (a2)
			     : "memory", "cc");
	return rax;
}

/* memremap() asks the MTRRs, in which firmware has made the PCI hole uncached. */
#define RVMRPC_MEMREMAP_CACHED	false

/* Firmware has switched on the memory of all devices that are there at boot. */
#define RVMRPC_HAS_FIRMWARE	true

/* Modules can unwind another task's stack. */
#define RVMRPC_HAS_UNWIND	1

/* Room for both of a CPU's strings. */
#define RVMRPC_ARCH_CPU_TEXT	(sizeof_field(struct cpuinfo_x86, x86_vendor_id) + \
				 sizeof_field(struct cpuinfo_x86, x86_model_id))

static inline bool rvmrpc_arch_cpu(u32 cpu, struct rvmrpc_arch_cpu *out)
{
	const struct cpuinfo_x86 *c = &cpu_data(cpu);

	*out = (struct rvmrpc_arch_cpu) {
		.vendor = c->x86_vendor_id, .model_name = c->x86_model_id,
		.family = c->x86, .model = c->x86_model, .stepping = c->x86_stepping,
		.hz = (u64)cpu_khz * 1000,
	};
	return true;
}

#else

/* HVC belongs to PSCI and KVM: no host serves this gate, and none is asked. */
static inline u64 rvmrpc_hypercall(u32 number, u64 op, u64 a0, u64 a1, u64 a2)
{
	return 0;
}

#define RVMRPC_MEMREMAP_CACHED	true
#define RVMRPC_HAS_FIRMWARE	false	/* or not: boards may start the kernel by themselves */
#define RVMRPC_HAS_UNWIND	0
#define RVMRPC_ARCH_CPU_TEXT	0

/* It is in the text of /proc/cpuinfo only: modules do not see what a CPU has said at its boot. */
static inline bool rvmrpc_arch_cpu(u32 cpu, struct rvmrpc_arch_cpu *out)
{
	return false;
}

#endif

#endif /* RVMRPC_ARCH_H */
