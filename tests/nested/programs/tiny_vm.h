/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM of one vCPU and 2 MiB, mapped one to one, whose code makes one gate call and halts: VMM and guest without QEMU
 * and a kernel.  Included by one program each.
 */
#ifndef TINY_VM_H
#define TINY_VM_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_abi.h"

#define MEM_SIZE	(2u << 20)
#define CODE		0x1000
#define TABLES		0x2000
#define VMM_ANSWER	77	/* of this VMM to any call of the guest's */

static int vm_fd, vcpu_fd;
static unsigned char *mem;
static struct kvm_run *run;
static uint64_t gates;		/* gate calls that KVM has served */
static bool irqchip;		/* set before create_vm(): KVM has the interrupt controllers, and its vCPU can wait */

static void must(bool ok, const char *what)
{
	if (!ok) {
		printf("Bail out! %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void fill_memory(void)
{
	/* vmcall or vmmcall, whichever this processor has; hlt, or, where that would wait in KVM, out %al, $0x80 */
	unsigned char code[] = { 0x0f, 0x01, __builtin_cpu_is("intel") ? 0xc1 : 0xd9, irqchip ? 0xe6 : 0xf4, 0x80 };
	uint64_t *pml4 = (uint64_t *)(mem + TABLES), *pdpt = pml4 + 512, *pd = pdpt + 512;

	memcpy(mem + CODE, code, sizeof(code));
	pml4[0] = (TABLES + 0x1000) | 3;
	pdpt[0] = (TABLES + 0x2000) | 3;
	pd[0] = 0x83;
}

static void set_cpuid(int kvm)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	must(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) && !ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid), "cpuid");
	free(cpuid);
}

static void set_long_mode(void)
{
	struct kvm_segment code = { .selector = 8, .limit = ~0u, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
	struct kvm_segment data = { .selector = 16, .limit = ~0u, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	struct kvm_sregs sregs;

	must(!ioctl(vcpu_fd, KVM_GET_SREGS, &sregs), "get sregs");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	sregs.cr3 = TABLES;
	sregs.cr4 = 1 << 5;			/* PAE */
	sregs.cr0 = 1u << 31 | 1 << 4 | 1;	/* PG, ET, PE */
	sregs.efer = 1 << 10 | 1 << 8;		/* LMA, LME */
	must(!ioctl(vcpu_fd, KVM_SET_SREGS, &sregs), "set sregs");
}

static void create_vm(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	must(kvm >= 0, "/dev/kvm");
	vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	must(vm_fd >= 0, "create a VM");
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.userspace_addr = (uintptr_t)mem;
	must(!ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region), "memory");
	must(!irqchip || !ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0), "interrupt controllers");
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	must(vcpu_fd >= 0, "create a vCPU");
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	must(run != MAP_FAILED, "kvm_run");
	set_cpuid(kvm);
	fill_memory();
	set_long_mode();
	close(kvm);
}

/* One gate call of the guest: what comes back in RAX. */
static uint64_t gate(uint64_t op, uint64_t a0, uint64_t a1, uint64_t a2)
{
	struct kvm_regs regs = {
		.rip = CODE, .rflags = irqchip ? 0x202 : 2, .rax = RVMRPC_HYPERCALL_NR, .rbx = op, .rcx = a0, .rdx = a1, .rsi = a2,
	};

	must(!ioctl(vcpu_fd, KVM_SET_REGS, &regs), "set registers");
	must(!ioctl(vcpu_fd, KVM_RUN, 0), "run the guest");
	if (run->exit_reason == KVM_EXIT_VMRPC) {
		run->hypercall.ret = RVMRPC_GATE_ANSWER(VMM_ANSWER);
		must(!ioctl(vcpu_fd, KVM_RUN, 0), "run the guest again");
	}
	must(run->exit_reason == (irqchip ? KVM_EXIT_IO : KVM_EXIT_HLT),
	     "run the guest to its end");
	must(!ioctl(vcpu_fd, KVM_GET_REGS, &regs), "get registers");
	gates += regs.rax >> 32 == RVMRPC_GATE_TAG;
	return regs.rax;
}

#endif
