// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module pressure: what a guest waits for, and what its memory management and disks do.
 *
 * psi and vmstat run in the server thread and allocate nothing, as sysinfo does.  The kernel allocates to go through
 * its disks, so that is a worker's.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include "pressure_text.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define PRESSURE_PSI_MAX	512
#define PRESSURE_DISKS_MAX	RVMRPC_RES_BYTES_DEFAULT
#define PRESSURE_SECTOR		512

/* ---- psi ---- */

static const char * const pressure_resources[] = { "cpu", "memory", "io", "irq" };

/* The server thread's own, as pressure_psi_text. */
static struct rvmrpc_procfile pressure_files[] = {
	{ .path = "pressure/cpu", .optional = true },
	{ .path = "pressure/memory", .optional = true },
	{ .path = "pressure/io", .optional = true },
	{ .path = "pressure/irq", .optional = true },
};
static char pressure_psi_text[PRESSURE_PSI_MAX];

static void pressure_psi_fields(struct rvmrpc_record_writer *w, u16 first, const struct pressure_psi *psi)
{
	int i;

	for (i = 0; i < PRESSURE_AVERAGES; i++)
		rvmrpc_record_u64(w, first + i, psi->average[i]);
	rvmrpc_record_u64(w, first + PRESSURE_AVERAGES, psi->total * NSEC_PER_USEC);
}

static void pressure_psi_record(struct rvmrpc_record_writer *w, const char *resource)
{
	struct pressure_psi psi;
	const char *line;

	rvmrpc_record_begin(w, RVMRPC_RECORD_PSI);
	rvmrpc_record_string(w, RVMRPC_PSI_RESOURCE, resource, strlen(resource));
	for (line = pressure_psi_text; *line; line = sysinfo_next_line(line)) {
		if (!pressure_psi_read(line, &psi))
			continue;
		pressure_psi_fields(w, *line == 's' ? RVMRPC_PSI_SOME_AVG10 : RVMRPC_PSI_FULL_AVG10, &psi);
	}
}

int rvmrpc_os_psi(struct rvmrpc_record_writer *w, u32 ms)
{
	ssize_t got;
	u64 i;

	for (i = w->wanted.cursor; i < ARRAY_SIZE(pressure_files); i++) {
		const struct rvmrpc_procfile *pf = &pressure_files[i];

		if (!pf->file)
			continue;
		got = rvmrpc_proc_read(pf->file, pf->path, pressure_psi_text, PRESSURE_PSI_MAX - 1, 0);
		if (got <= 0)
			continue;
		pressure_psi_text[got] = '\0';
		pressure_psi_record(w, pressure_resources[i]);
		if (!rvmrpc_record_end(w, i))
			break;
	}
	return RVMRPC_STATUS_OK;
}

/* ---- vmstat ---- */

#define PRESSURE_STALLS(zone)	rvmrpc_vm_event(ALLOCSTALL_##zone)

static u64 pressure_stalls(void)
{
	u64 sum = PRESSURE_STALLS(NORMAL) + PRESSURE_STALLS(MOVABLE);

#ifdef CONFIG_ZONE_DMA
	sum += PRESSURE_STALLS(DMA);
#endif
#ifdef CONFIG_ZONE_DMA32
	sum += PRESSURE_STALLS(DMA32);
#endif
	return sum;
}

void rvmrpc_os_vmstat(struct rvmrpc_record_writer *w)
{
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_PAGE_SIZE, PAGE_SIZE);
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_FAULTS, rvmrpc_vm_event(PGFAULT));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_MAJOR_FAULTS, rvmrpc_vm_event(PGMAJFAULT));
	/* Counted in sectors. */
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_IN, rvmrpc_vm_event(PGPGIN) / 2);
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_OUT, rvmrpc_vm_event(PGPGOUT) / 2);
#ifdef CONFIG_SWAP
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SWAP_IN, rvmrpc_vm_event(PSWPIN));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SWAP_OUT, rvmrpc_vm_event(PSWPOUT));
#endif
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SCAN_BACKGROUND, rvmrpc_vm_reclaim(PGSCAN_KSWAPD));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_SCAN_DIRECT, rvmrpc_vm_reclaim(PGSCAN_DIRECT));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_STEAL_BACKGROUND, rvmrpc_vm_reclaim(PGSTEAL_KSWAPD));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_STEAL_DIRECT, rvmrpc_vm_reclaim(PGSTEAL_DIRECT));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_REFAULT_ANON, global_node_page_state(WORKINGSET_REFAULT_ANON));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_REFAULT_FILE, global_node_page_state(WORKINGSET_REFAULT_FILE));
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_STALLS, pressure_stalls());
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_OOM_KILLS, rvmrpc_vm_event(OOM_KILL));
}

/* ---- disks ---- */

static const struct {
	u16 key;
	u32 unit;
} pressure_disk_keys[PRESSURE_DISK_NUMBERS] = {
	[PRESSURE_READS] = { RVMRPC_DISK_READS, 1 },
	[PRESSURE_READS_MERGED] = { RVMRPC_DISK_READS_MERGED, 1 },
	[PRESSURE_READ_SECTORS] = { RVMRPC_DISK_READ_BYTES, PRESSURE_SECTOR },
	[PRESSURE_READ_MS] = { RVMRPC_DISK_READ_NS, NSEC_PER_MSEC },
	[PRESSURE_WRITES] = { RVMRPC_DISK_WRITES, 1 },
	[PRESSURE_WRITES_MERGED] = { RVMRPC_DISK_WRITES_MERGED, 1 },
	[PRESSURE_WRITE_SECTORS] = { RVMRPC_DISK_WRITE_BYTES, PRESSURE_SECTOR },
	[PRESSURE_WRITE_MS] = { RVMRPC_DISK_WRITE_NS, NSEC_PER_MSEC },
	[PRESSURE_IN_FLIGHT] = { RVMRPC_DISK_IN_FLIGHT, 1 },
	[PRESSURE_BUSY_MS] = { RVMRPC_DISK_BUSY_NS, NSEC_PER_MSEC },
	[PRESSURE_QUEUE_MS] = { RVMRPC_DISK_QUEUE_NS, NSEC_PER_MSEC },
	[PRESSURE_DISCARDS] = { RVMRPC_DISK_DISCARDS, 1 },
	[PRESSURE_DISCARDS_MERGED] = { RVMRPC_DISK_DISCARDS_MERGED, 1 },
	[PRESSURE_DISCARD_SECTORS] = { RVMRPC_DISK_DISCARD_BYTES, PRESSURE_SECTOR },
	[PRESSURE_DISCARD_MS] = { RVMRPC_DISK_DISCARD_NS, NSEC_PER_MSEC },
	[PRESSURE_FLUSHES] = { RVMRPC_DISK_FLUSHES, 1 },
	[PRESSURE_FLUSH_MS] = { RVMRPC_DISK_FLUSH_NS, NSEC_PER_MSEC },
};

static DEFINE_MUTEX(pressure_disks_lock);
static char *pressure_disks_text;	/* pressure_disks_lock */

/* NUL-terminated; more than fits is cut to whole lines, *cut. */
static ssize_t pressure_disks_read(bool *cut)
{
	struct file *file = rvmrpc_proc_open("diskstats", O_RDONLY);
	ssize_t got;

	if (IS_ERR(file))
		return PTR_ERR(file);
	got = rvmrpc_proc_read(file, "diskstats", pressure_disks_text, PRESSURE_DISKS_MAX - 1, 0);
	fput(file);
	*cut = got == PRESSURE_DISKS_MAX - 1;
	if (*cut)
		got = sysinfo_whole(pressure_disks_text, got);
	if (got >= 0)
		pressure_disks_text[got] = '\0';
	return got;
}

static void pressure_disk_record(struct rvmrpc_record_writer *w, const struct pressure_disk_line *disk)
{
	int i;

	rvmrpc_record_begin(w, RVMRPC_RECORD_DISK);
	rvmrpc_record_string(w, RVMRPC_DISK_NAME, disk->name, disk->name_length);
	rvmrpc_record_u64(w, RVMRPC_DISK_DEVICE, disk->major << 32 | disk->minor);
	for (i = 0; i < disk->numbers; i++)
		rvmrpc_record_u64(w, pressure_disk_keys[i].key, disk->number[i] * pressure_disk_keys[i].unit);
}

static bool pressure_disk_used(const struct pressure_disk_line *disk)
{
	return disk->number[PRESSURE_READS] || disk->number[PRESSURE_WRITES] || disk->number[PRESSURE_IN_FLIGHT];
}

static void pressure_disk_records(struct rvmrpc_record_writer *w)
{
	struct pressure_disk_line disk;
	const char *line;
	u64 at = 0;

	for (line = pressure_disks_text; *line; line = sysinfo_next_line(line)) {
		if (!pressure_disk_read(line, &disk) || !pressure_disk_used(&disk))
			continue;
		if (at++ < w->wanted.cursor)
			continue;
		pressure_disk_record(w, &disk);
		if (!rvmrpc_record_end(w, at - 1))
			return;
	}
}

int rvmrpc_os_disks(struct rvmrpc_record_writer *w, u32 ms)
{
	bool cut = false;
	ssize_t got;

	mutex_lock(&pressure_disks_lock);
	got = pressure_disks_read(&cut);
	if (got >= 0)
		pressure_disk_records(w);
	mutex_unlock(&pressure_disks_lock);
	if (got < 0)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	if (cut)
		rvmrpc_records_partial(w);
	return RVMRPC_STATUS_OK;
}

/* ---- Module ---- */

static void pressure_release(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(pressure_files); i++)
		rvmrpc_procfile_close(&pressure_files[i]);
	vfree(pressure_disks_text);
}

static int pressure_prepare(void)
{
	size_t i;
	int err;

	pressure_disks_text = vmalloc(PRESSURE_DISKS_MAX);
	if (!pressure_disks_text)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(pressure_files); i++) {
		err = rvmrpc_procfile_open(&pressure_files[i], pressure_psi_text, PRESSURE_PSI_MAX);
		if (err)
			return err;
	}
	return 0;
}

int rvmrpc_mod_pressure_init(void)
{
	int err = pressure_prepare();

	if (!err)
		err = rvmrpc_builtin_add(&rvmrpc_pressure_module);
	if (err)
		pressure_release();
	return err;
}

void rvmrpc_mod_pressure_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_pressure_module);
	pressure_release();
}
