// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Prints what the host's kernel says of the VMs that are attached, and KVM's gate of them: a list in JSON.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/rvmrpc.h>
#include "gate_counters.h"

#define VMS_MAX	8

/* False: it has gone since it was listed. */
static bool print_vm(int dev, const struct rvmrpc_vm_info *vm, bool first)
{
	struct rvmrpc_kvm_status s = { .epoch = vm->id };
	struct rvmrpc_gate_status gate;

	if (ioctl(dev, RVMRPC_VM_STATUS, &s)) {
		if (errno == ENODEV)
			return false;
		err(1, "status of VM %" PRIu64, (uint64_t)vm->id);
	}
	printf("%s{\"id\": %" PRIu64 ", \"name\": \"%s\", \"pid\": %d, \"connected\": %u", first ? "" : ", ",
	       (uint64_t)vm->id, vm->name, vm->pid, vm->connected);
	gate_counters(vm->pid, &gate);
#define SHOW_OF(from, field) printf(", \"" #field "\": %" PRIu64, (uint64_t)(from).field)
#define SHOW(field) SHOW_OF(s, field)
	SHOW(epoch);
	SHOW(in_flight);
	SHOW(vmlp);
	SHOW(stopped);
	SHOW(calls);
	SHOW(completed);
	SHOW(failed);
	SHOW(refused);
	SHOW(timed_out);
	SHOW(cancelled);
	SHOW(reset);
	SHOW(late_replies);
	SHOW(bad_replies);
	SHOW(registrations);
	SHOW(kicks);
	SHOW(rings);
	SHOW(interrupts);
	SHOW(rekicks);
	SHOW(lost);
	SHOW(events);
	SHOW(silent);
	SHOW_OF(gate, hypercalls);
	SHOW_OF(gate, waits);
	SHOW_OF(gate, interrupted);
	SHOW_OF(gate, user_exits);
	SHOW_OF(gate, refused_calls);
	printf("}");
	return true;
}

int main(void)
{
	struct rvmrpc_vm_info vms[VMS_MAX];
	struct rvmrpc_vm_list list = { .size = VMS_MAX, .vms = (uintptr_t)vms };
	int dev = open("/dev/rvmrpc", O_RDWR | O_CLOEXEC);
	bool first = true;
	unsigned int i;

	if (dev < 0 || ioctl(dev, RVMRPC_LIST_VMS, &list))
		err(1, "/dev/rvmrpc");
	if (list.size > VMS_MAX)
		errx(1, "%u VMs", list.size);
	printf("[");
	for (i = 0; i < list.size; i++) {
		if (print_vm(dev, &vms[i], first))
			first = false;
	}
	printf("]\n");
	return 0;
}
