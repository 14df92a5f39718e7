// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Counters: KVM's of QEMU's process, rvmrpc_host.ko's of the VM of a name, how often the vCPU threads and the other threads of QEMU
 * slept, how long all of them ran, and how long vCPU threads stood in the host's queue for a CPU.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/rvmrpc.h>
#include "client.h"

#define VMS_MAX	8

/* 0: there is no such file. */
static uint64_t number_of(const char *path, const char *format)
{
	FILE *f = fopen(path, "r");
	uint64_t value = 0;
	char text[256];

	if (!f)
		return 0;
	while (fgets(text, sizeof(text), f)) {
		if (sscanf(text, format, &value) == 1)
			break;
	}
	fclose(f);
	return value;
}

/* Those of the process with that PID: folders are named PID-FD. */
static void print_kvm(const char *pid)
{
	static const char *const names[] = {
		"exits", "hypercalls", "mmio_exits", "io_exits", "signal_exits",
	};
	char path[512];
	glob_t found;
	uint64_t sum;
	size_t i, j;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s-*", pid);
	if (glob(path, 0, NULL, &found))
		return;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (j = sum = 0; j < found.gl_pathc; j++) {
			snprintf(path, sizeof(path), "%s/%s", found.gl_pathv[j], names[i]);
			sum += number_of(path, "%" SCNu64);
		}
		printf("\"%s\": %" PRIu64 ", ", names[i], sum);
	}
	globfree(&found);
}

static void print_vm(const char *name)
{
	struct rvmrpc_vm_info vms[VMS_MAX];
	struct rvmrpc_vm_list list = { .size = VMS_MAX, .vms = (uintptr_t)vms };
	struct rvmrpc_kvm_status s = { 0 };
	int dev = open("/dev/rvmrpc", O_RDWR | O_CLOEXEC);
	unsigned int i;

	if (dev < 0 || ioctl(dev, RVMRPC_LIST_VMS, &list))
		return;
	for (i = 0; i < list.size && i < VMS_MAX; i++) {
		if (!strcmp(vms[i].name, name))
			s.epoch = vms[i].id;
	}
	if (!s.epoch || ioctl(dev, RVMRPC_VM_STATUS, &s))
		return;
	printf("\"irqs\": %" PRIu64 ", \"rings\": %" PRIu64 ", ", (uint64_t)s.interrupts, (uint64_t)s.rings);
}

/* ns that it ran and that it stood in the queue, by the scheduler; ticks would be too coarse. */
static void thread_times(const char *pid, const char *tid, uint64_t *ran, uint64_t *queued)
{
	char path[512];
	FILE *f;

	*ran = *queued = 0;
	snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid, tid);
	f = fopen(path, "r");
	if (!f)
		return;
	if (fscanf(f, "%" SCNu64 " %" SCNu64, ran, queued) != 2)
		*ran = *queued = 0;
	fclose(f);
}

struct threads {
	uint64_t vcpu_sleeps, other_sleeps, ran, vcpu_queued;
};

static void add_thread(struct threads *t, const char *pid, const char *tid)
{
	uint64_t sleeps, ran, queued;
	char path[512], name[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/status", pid, tid);
	sleeps = number_of(path, "voluntary_ctxt_switches: %" SCNu64);
	thread_times(pid, tid, &ran, &queued);
	t->ran += ran;
	snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", pid, tid);
	f = fopen(path, "r");
	if (f && fgets(name, sizeof(name), f) && !strncmp(name, "CPU ", 4)) {
		t->vcpu_sleeps += sleeps;
		t->vcpu_queued += queued;
	} else {
		t->other_sleeps += sleeps;
	}
	if (f)
		fclose(f);
}

static void print_threads(const char *pid)
{
	struct threads t = { 0 };
	struct dirent *d;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while ((d = readdir(dir))) {
		if (d->d_name[0] != '.')
			add_thread(&t, pid, d->d_name);
	}
	closedir(dir);
	printf("\"vcpu_sleeps\": %" PRIu64 ", \"other_sleeps\": %" PRIu64 ", \"ran_ns\": %" PRIu64
	       ", \"vcpu_queued_ns\": %" PRIu64, t.vcpu_sleeps, t.other_sleeps, t.ran, t.vcpu_queued);
}

/* One line of JSON. */
void counters_print(const char *pid, const char *vm)
{
	printf("{");
	print_kvm(pid);
	if (vm)
		print_vm(vm);
	print_threads(pid);
	printf("}\n");
}
