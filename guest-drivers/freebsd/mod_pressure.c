/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module pressure: what the guest's memory management and disks do.
 *
 * psi and vmstat run in the server thread and allocate nothing.  The kernel
 * gives its disks out as one variable, into memory of ours: a worker's.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/devicestat.h>
#include <sys/pcpu.h>
#include <sys/proc.h>
#include <sys/vmmeter.h>
#include <vm/vm.h>
#include <vm/vm_param.h>

#define	PRESSURE_DISKS_MAX	256

/* ---- psi: FreeBSD does not measure what threads wait for ---- */

int
rvmrpc_os_psi(struct rvmrpc_record_writer *w, uint32_t ms)
{
	return (RVMRPC_STATUS_OK);
}

/* ---- vmstat ---- */

static uint64_t
pressure_kib(uint64_t pages)
{
	return (pages * (PAGE_SIZE / 1024));
}

/* Nobody but the page daemon looks at pages and takes them. */
void
rvmrpc_os_vmstat(struct rvmrpc_record_writer *w)
{
	uint64_t in = VM_CNT_FETCH(v_swappgsin);
	uint64_t out = VM_CNT_FETCH(v_swappgsout);

	rvmrpc_record_u64(w, RVMRPC_VMSTAT_PAGE_SIZE, PAGE_SIZE);
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_FAULTS, VM_CNT_FETCH(v_vm_faults));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_MAJOR_FAULTS,
	    VM_CNT_FETCH(v_io_faults));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_IN,
	    pressure_kib(in + VM_CNT_FETCH(v_vnodepgsin)));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_OUT,
	    pressure_kib(out + VM_CNT_FETCH(v_vnodepgsout)));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SWAP_IN, in);
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SWAP_OUT, out);
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SCAN_BACKGROUND,
	    VM_CNT_FETCH(v_pdpages));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_STEAL_BACKGROUND,
	    VM_CNT_FETCH(v_dfree));
}

/* ---- disks ---- */

/* What kern.devstat.all holds. */
struct pressure_disks {
	long		generation;
	struct devstat	disk[PRESSURE_DISKS_MAX];
};

static uint64_t
pressure_ns(const struct bintime *bt)
{
	return (rvmrpc_bintime_ns(bt->sec, bt->frac));
}

static void
pressure_disk_fields(struct rvmrpc_record_writer *w, const struct devstat *d)
{
	/* It counts those that it gave out and those that came back. */
	u_int in_flight = d->start_count - d->end_count;

	rvmrpc_record_u64(w, RVMRPC_DISK_READS, d->operations[DEVSTAT_READ]);
	rvmrpc_record_u64(w, RVMRPC_DISK_READ_BYTES, d->bytes[DEVSTAT_READ]);
	rvmrpc_record_u64(w, RVMRPC_DISK_READ_NS,
	    pressure_ns(&d->duration[DEVSTAT_READ]));
	rvmrpc_record_u64(w, RVMRPC_DISK_WRITES, d->operations[DEVSTAT_WRITE]);
	rvmrpc_record_u64(w, RVMRPC_DISK_WRITE_BYTES, d->bytes[DEVSTAT_WRITE]);
	rvmrpc_record_u64(w, RVMRPC_DISK_WRITE_NS,
	    pressure_ns(&d->duration[DEVSTAT_WRITE]));
	rvmrpc_record_u64(w, RVMRPC_DISK_IN_FLIGHT, in_flight);
	rvmrpc_record_u64(w, RVMRPC_DISK_BUSY_NS, pressure_ns(&d->busy_time));
	rvmrpc_record_u64(w, RVMRPC_DISK_DISCARDS,
	    d->operations[DEVSTAT_FREE]);
	rvmrpc_record_u64(w, RVMRPC_DISK_DISCARD_BYTES,
	    d->bytes[DEVSTAT_FREE]);
	rvmrpc_record_u64(w, RVMRPC_DISK_DISCARD_NS,
	    pressure_ns(&d->duration[DEVSTAT_FREE]));
	rvmrpc_record_u64(w, RVMRPC_DISK_FLUSHES,
	    d->operations[DEVSTAT_NO_DATA]);
	rvmrpc_record_u64(w, RVMRPC_DISK_FLUSH_NS,
	    pressure_ns(&d->duration[DEVSTAT_NO_DATA]));
}

/* Was ever used, and is no pass(4). */
static bool
pressure_disk_is(const struct devstat *d)
{
	return ((d->device_type & DEVSTAT_TYPE_PASS) == 0 &&
	    d->device_name[0] != '\0' && (d->start_count != 0 ||
	    d->operations[DEVSTAT_READ] + d->operations[DEVSTAT_WRITE] != 0));
}

static void
pressure_disk_records(struct rvmrpc_record_writer *w,
    const struct pressure_disks *disks, u_int n)
{
	char name[DEVSTAT_NAME_LEN + 12];
	const struct devstat *d;
	uint64_t i;

	for (i = w->wanted.cursor; i < n; i++) {
		d = &disks->disk[i];
		if (!pressure_disk_is(d))
			continue;
		snprintf(name, sizeof(name), "%.*s%d", DEVSTAT_NAME_LEN,
		    d->device_name, d->unit_number);
		rvmrpc_record_begin(w, RVMRPC_RECORD_DISK);
		rvmrpc_record_string(w, RVMRPC_DISK_NAME, name, strlen(name));
		pressure_disk_fields(w, d);
		if (!rvmrpc_record_end(w, i))
			return;
	}
}

static int
pressure_disks_read(struct pressure_disks *disks, size_t *got)
{
	size_t size = sizeof(*disks);
	int error;

	error = kernel_sysctlbyname(curthread,
	    __DECONST(char *, "kern.devstat.all"), disks, &size, NULL, 0, got,
	    0);
	/* A disk came or went. */
	if (error == EBUSY)
		error = kernel_sysctlbyname(curthread,
		    __DECONST(char *, "kern.devstat.all"), disks, &size, NULL,
		    0, got, 0);
	return (error);
}

int
rvmrpc_os_disks(struct rvmrpc_record_writer *w, uint32_t ms)
{
	struct pressure_disks *disks;
	size_t got = 0;
	int error;

	disks = malloc(sizeof(*disks), M_RVMRPC, M_WAITOK | M_ZERO);
	error = pressure_disks_read(disks, &got);
	/* More of them than there is room for. */
	if (error == ENOMEM)
		rvmrpc_records_partial(w);
	if (error == 0 || error == ENOMEM)
		pressure_disk_records(w, disks, got < sizeof(long) ? 0 :
		    (got - sizeof(long)) / sizeof(struct devstat));
	free(disks, M_RVMRPC);
	if (error != 0 && error != ENOMEM)
		return (RVMRPC_STATUS_SYSTEM_ERROR);
	return (RVMRPC_STATUS_OK);
}

/* ---- Module ---- */

int
rvmrpc_mod_pressure_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_pressure_module));
}

void
rvmrpc_mod_pressure_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_pressure_module);
}
