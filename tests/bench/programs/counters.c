// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bench_counters PID [VM]: one line of JSON: KVM's counters over all its VMs, KVM's of the VM of that name, and how often
 * the vCPU threads and the other threads of QEMU slept.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/rvmrpc.h>

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

static void print_kvm(void)
{
	static const char * const names[] = { "exits", "irq_injections", "halt_exits", "halt_wakeup", "signal_exits" };
	char path[128];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", names[i]);
		printf("\"%s\": %" PRIu64 ", ", names[i], number_of(path, "%" SCNu64));
	}
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
	printf("\"hypercalls\": %" PRIu64 ", \"irqs\": %" PRIu64 ", \"waits\": %" PRIu64 ", \"interrupted\": %" PRIu64
	       ", \"user_exits\": %" PRIu64 ", ", (uint64_t)s.hypercalls, (uint64_t)s.kicks, (uint64_t)s.waits,
	       (uint64_t)s.interrupted, (uint64_t)s.user_exits);
}

static void print_threads(const char *pid)
{
	char path[512], name[64];
	uint64_t vcpus = 0, others = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while ((d = readdir(dir))) {
		uint64_t sleeps;
		FILE *f;

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task/%s/status", pid, d->d_name);
		sleeps = number_of(path, "voluntary_ctxt_switches: %" SCNu64);
		snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", pid, d->d_name);
		f = fopen(path, "r");
		if (f && fgets(name, sizeof(name), f) && !strncmp(name, "CPU ", 4))
			vcpus += sleeps;
		else
			others += sleeps;
		if (f)
			fclose(f);
	}
	closedir(dir);
	printf("\"vcpu_sleeps\": %" PRIu64 ", \"other_sleeps\": %" PRIu64, vcpus, others);
}

int main(int argc, char **argv)
{
	if (argc != 2 && argc != 3)
		errx(2, "bench_counters PID [VM]");
	printf("{");
	print_kvm();
	if (argc == 3)
		print_vm(argv[2]);
	print_threads(argv[1]);
	printf("}\n");
	return 0;
}
