// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module sysinfo: numbers that are the same on every OS, taken from this kernel's own texts.
 *
 * Runs in the server thread and allocates nothing, so that it answers when the guest has no memory:
 * the files are kept open and the buffers are there from the start.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/nospec.h>
#include <linux/string.h>
#include <linux/topology.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>
#include "rvmrpc_arch.h"
#include "rvmrpc_drv.h"
#include "sysinfo_text.h"

#define SYSINFO_TEXT_MAX	RVMRPC_RES_BYTES_DEFAULT
#define SYSINFO_TICK_NS		(NSEC_PER_SEC / USER_HZ)

static DEFINE_MUTEX(sysinfo_lock);	/* the files and both buffers */
static char *sysinfo_raw;		/* what a file said, NUL-terminated */
static char *sysinfo_text;		/* scratch of the info writer */

static struct rvmrpc_procfile sysinfo_meminfo_file = { .path = "meminfo" };
static struct rvmrpc_procfile sysinfo_loadavg_file = { .path = "loadavg" };
static struct rvmrpc_procfile sysinfo_cpuinfo_file = { .path = "cpuinfo" };
static struct rvmrpc_procfile sysinfo_stat_file = { .path = "stat" };

static struct rvmrpc_procfile * const sysinfo_files[] = {
	&sysinfo_meminfo_file, &sysinfo_loadavg_file, &sysinfo_cpuinfo_file, &sysinfo_stat_file,
};

/* ---- Text ---- */

static ssize_t sysinfo_read(struct rvmrpc_procfile *pf)
{
	ssize_t got = rvmrpc_proc_read(pf->file, pf->path, sysinfo_raw, SYSINFO_TEXT_MAX - 1, 0);

	if (got == SYSINFO_TEXT_MAX - 1)
		got = sysinfo_whole(sysinfo_raw, got);
	if (got >= 0)
		sysinfo_raw[got] = '\0';
	return got;
}

/* ---- One answer ---- */

struct sysinfo_answer {
	struct rvmrpc_info_writer writer;
	struct rvmrpc_response *res;
	u32 first;			/* CPUs below it are not wanted */
};

/*
 * Begins an answer that leaves room for items and text; pf: the file whose text is wanted as raw text,
 * cut to what fits beside them; numbers: it is read in any case, for what it says.
 */
static int sysinfo_begin(struct sysinfo_answer *a, const struct rvmrpc_request *req, struct rvmrpc_response *res,
			 struct rvmrpc_procfile *pf, bool numbers, size_t reserve)
{
	struct rvmrpc_info_req wanted;
	ssize_t length = 0;
	int status;

	status = rvmrpc_info_wanted(req, &wanted);
	if (status)
		return status;
	a->res = res;
	a->first = wanted.first;
	rvmrpc_info_begin(&a->writer, res, sysinfo_text, SYSINFO_TEXT_MAX);
	if (pf && (numbers || (wanted.flags & RVMRPC_INFO_TEXT)))
		length = sysinfo_read(pf);
	if (length < 0)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	if (!(wanted.flags & RVMRPC_INFO_TEXT))
		return RVMRPC_STATUS_OK;
	reserve += sizeof(struct rvmrpc_info);
	length = min_t(size_t, length, res->resmax > reserve ? res->resmax - reserve : 0);
	memcpy(sysinfo_text, sysinfo_raw, length);
	rvmrpc_info_raw(&a->writer, length);
	return RVMRPC_STATUS_OK;
}

static int sysinfo_end(struct sysinfo_answer *a)
{
	return rvmrpc_info_end(&a->writer, a->res);
}

static void sysinfo_u64(struct sysinfo_answer *a, u16 key, u32 index, u64 value)
{
	rvmrpc_info_u64(&a->writer, key, index, value);
}

static void sysinfo_string(struct sysinfo_answer *a, u16 key, u32 index, const char *s)
{
	rvmrpc_info_string(&a->writer, key, index, s, strlen(s));
}

/* ---- meminfo ---- */

static const struct {
	const char *name;
	u16 key;
} sysinfo_mem_keys[] = {
	{ "MemTotal:", RVMRPC_MEM_TOTAL },
	{ "MemFree:", RVMRPC_MEM_FREE },
	{ "MemAvailable:", RVMRPC_MEM_AVAILABLE },
	{ "Buffers:", RVMRPC_MEM_BUFFERS },
	{ "Cached:", RVMRPC_MEM_CACHED },
	{ "SwapCached:", RVMRPC_MEM_SWAP_CACHED },
	{ "Active:", RVMRPC_MEM_ACTIVE },
	{ "Inactive:", RVMRPC_MEM_INACTIVE },
	{ "Unevictable:", RVMRPC_MEM_UNEVICTABLE },
	{ "Dirty:", RVMRPC_MEM_DIRTY },
	{ "Writeback:", RVMRPC_MEM_WRITEBACK },
	{ "AnonPages:", RVMRPC_MEM_ANON },
	{ "Mapped:", RVMRPC_MEM_MAPPED },
	{ "Shmem:", RVMRPC_MEM_SHARED },
	{ "Slab:", RVMRPC_MEM_SLAB },
	{ "SReclaimable:", RVMRPC_MEM_SLAB_RECLAIMABLE },
	{ "SUnreclaim:", RVMRPC_MEM_SLAB_UNRECLAIMABLE },
	{ "KernelStack:", RVMRPC_MEM_KERNEL_STACK },
	{ "PageTables:", RVMRPC_MEM_PAGE_TABLES },
	{ "CommitLimit:", RVMRPC_MEM_COMMIT_LIMIT },
	{ "Committed_AS:", RVMRPC_MEM_COMMITTED_AS },
	{ "SwapTotal:", RVMRPC_MEM_SWAP_TOTAL },
	{ "SwapFree:", RVMRPC_MEM_SWAP_FREE },
	{ "Hugetlb:", RVMRPC_MEM_HUGETLB },
	{ "Hugepagesize:", RVMRPC_MEM_HUGE_SIZE },
	{ "Percpu:", RVMRPC_MEM_PERCPU },
	{ "CmaTotal:", RVMRPC_MEM_CMA_TOTAL },
	{ "CmaFree:", RVMRPC_MEM_CMA_FREE },
	{ "Zswap:", RVMRPC_MEM_ZSWAP },
	{ "Zswapped:", RVMRPC_MEM_ZSWAPPED },
};

/* Counts of pages, of the size that the file names. */
static const struct {
	const char *name;
	u16 key;
} sysinfo_huge_keys[] = {
	{ "HugePages_Total:", RVMRPC_MEM_HUGE_TOTAL },
	{ "HugePages_Free:", RVMRPC_MEM_HUGE_FREE },
};

/* The number in the line that begins so. */
static bool sysinfo_mem_value(const char *name, u64 *value)
{
	const char *line;
	size_t length = strlen(name);

	for (line = sysinfo_raw; *line; line = sysinfo_next_line(line)) {
		if (!strncmp(line, name, length)) {
			sysinfo_number(line + length, value);
			return true;
		}
	}
	return false;
}

static void sysinfo_huge(struct sysinfo_answer *a)
{
	u64 kib, pages;
	size_t i;

	if (!sysinfo_mem_value("Hugepagesize:", &kib))
		return;
	for (i = 0; i < ARRAY_SIZE(sysinfo_huge_keys); i++) {
		if (sysinfo_mem_value(sysinfo_huge_keys[i].name, &pages))
			sysinfo_u64(a, sysinfo_huge_keys[i].key, RVMRPC_INDEX_ALL, pages * kib * SZ_1K);
	}
}

static void sysinfo_mem_line(struct sysinfo_answer *a, const char *line)
{
	size_t i, length;
	u64 kib;

	for (i = 0; i < ARRAY_SIZE(sysinfo_mem_keys); i++) {
		length = strlen(sysinfo_mem_keys[i].name);
		if (strncmp(line, sysinfo_mem_keys[i].name, length))
			continue;
		sysinfo_number(line + length, &kib);
		sysinfo_u64(a, sysinfo_mem_keys[i].key, RVMRPC_INDEX_ALL, kib * SZ_1K);
		return;
	}
}

static int sysinfo_meminfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct sysinfo_answer a;
	const char *line;
	int status;

	status = sysinfo_begin(&a, req, res, &sysinfo_meminfo_file, true,
			       (ARRAY_SIZE(sysinfo_mem_keys) + ARRAY_SIZE(sysinfo_huge_keys)) *
			       sizeof(struct rvmrpc_item));
	if (status)
		return status;
	for (line = sysinfo_raw; *line; line = sysinfo_next_line(line))
		sysinfo_mem_line(&a, line);
	sysinfo_huge(&a);
	return sysinfo_end(&a);
}

/* ---- loadavg: "0.20 0.18 0.12 1/80 11206" ---- */

static int sysinfo_loadavg(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	static const u16 keys[] = { RVMRPC_LOAD_1M, RVMRPC_LOAD_5M, RVMRPC_LOAD_15M };
	struct sysinfo_answer a;
	u64 whole, hundredths;
	const char *at;
	int status, i;

	status = sysinfo_begin(&a, req, res, &sysinfo_loadavg_file, true,
			       5 * sizeof(struct rvmrpc_item));
	if (status)
		return status;
	at = sysinfo_raw;
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		at = sysinfo_number(at, &whole);
		if (*at++ != '.')
			return RVMRPC_STATUS_SYSTEM_ERROR;
		at = sysinfo_number(at, &hundredths);
		sysinfo_u64(&a, keys[i], RVMRPC_INDEX_ALL, (whole * 100 + hundredths) * 10000);
	}
	at = sysinfo_number(at, &whole);
	sysinfo_u64(&a, RVMRPC_LOAD_RUNNABLE, RVMRPC_INDEX_ALL, whole);
	if (*at++ != '/')
		return RVMRPC_STATUS_SYSTEM_ERROR;
	sysinfo_number(at, &whole);
	sysinfo_u64(&a, RVMRPC_LOAD_THREADS, RVMRPC_INDEX_ALL, whole);
	return sysinfo_end(&a);
}

/* ---- cpuinfo ---- */

#define SYSINFO_CPU_ITEMS	8

static void sysinfo_cpu(struct sysinfo_answer *a, u32 cpu)
{
	struct rvmrpc_arch_cpu c;

	if (rvmrpc_arch_cpu(cpu, &c)) {
		sysinfo_string(a, RVMRPC_CPU_VENDOR, cpu, c.vendor);
		sysinfo_string(a, RVMRPC_CPU_MODEL_NAME, cpu, c.model_name);
		sysinfo_u64(a, RVMRPC_CPU_FAMILY, cpu, c.family);
		sysinfo_u64(a, RVMRPC_CPU_MODEL, cpu, c.model);
		sysinfo_u64(a, RVMRPC_CPU_STEPPING, cpu, c.stepping);
		sysinfo_u64(a, RVMRPC_CPU_HZ, cpu, c.hz);
	}
	sysinfo_u64(a, RVMRPC_CPU_PACKAGE, cpu, topology_physical_package_id(cpu));
	sysinfo_u64(a, RVMRPC_CPU_CORE, cpu, topology_core_id(cpu));
}

static int sysinfo_cpuinfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	const u32 per_cpu = SYSINFO_CPU_ITEMS * sizeof(struct rvmrpc_item) + RVMRPC_ARCH_CPU_TEXT;
	struct rvmrpc_info_page page = {
		.items = SYSINFO_CPU_ITEMS,
		.text = RVMRPC_ARCH_CPU_TEXT,
		.next_key = RVMRPC_CPU_NEXT,
	};
	struct sysinfo_answer a;
	int status;
	u32 cpu;

	status = sysinfo_begin(&a, req, res, &sysinfo_cpuinfo_file, false,
			       2 * sizeof(struct rvmrpc_item) + num_online_cpus() * per_cpu);
	if (status)
		return status;
	sysinfo_u64(&a, RVMRPC_CPU_ONLINE, RVMRPC_INDEX_ALL, num_online_cpus());
	sysinfo_u64(&a, RVMRPC_CPU_PRESENT, RVMRPC_INDEX_ALL, num_present_cpus());
	page.first = a.first;
	for_each_online_cpu(cpu) {
		if (cpu < page.first)
			continue;
		if (!rvmrpc_info_cpu(&a.writer, res, &page, cpu))
			break;
		sysinfo_cpu(&a, cpu);
	}
	return sysinfo_end(&a);
}

/* ---- cpustat: "cpu3 user nice system idle iowait irq softirq steal ..." in USER_HZ ticks ---- */

#define SYSINFO_STAT_ITEMS	5

static void sysinfo_cpu_times(struct sysinfo_answer *a, u32 index, u64 *t)
{
	int i;

	for (i = 0; i < SYSINFO_STATS; i++)
		t[i] *= SYSINFO_TICK_NS;
	sysinfo_u64(a, RVMRPC_STAT_USER, index, t[SYSINFO_USER] + t[SYSINFO_NICE]);
	sysinfo_u64(a, RVMRPC_STAT_SYSTEM, index, t[SYSINFO_SYSTEM] + t[SYSINFO_IRQ] + t[SYSINFO_SOFTIRQ]);
	sysinfo_u64(a, RVMRPC_STAT_IDLE, index, t[SYSINFO_IDLE]);
	sysinfo_u64(a, RVMRPC_STAT_IOWAIT, index, t[SYSINFO_IOWAIT]);
	sysinfo_u64(a, RVMRPC_STAT_STEAL, index, t[SYSINFO_STEAL]);
}

static int sysinfo_cpustat(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_info_page page = {
		.items = SYSINFO_STAT_ITEMS,
		.next_key = RVMRPC_STAT_NEXT,
	};
	struct sysinfo_answer a;
	u64 t[SYSINFO_STATS];
	const char *line;
	int status;
	u32 index;

	status = sysinfo_begin(&a, req, res, &sysinfo_stat_file, true, (num_online_cpus() + 1) *
			       SYSINFO_STAT_ITEMS * sizeof(struct rvmrpc_item));
	if (status)
		return status;
	page.first = a.first;
	for (line = sysinfo_raw; !strncmp(line, "cpu", 3); line = sysinfo_next_line(line)) {
		index = RVMRPC_INDEX_ALL;
		sysinfo_stat_read(line, &index, t);
		if (index == RVMRPC_INDEX_ALL ? page.first : index < page.first)
			continue;
		if (index != RVMRPC_INDEX_ALL && !rvmrpc_info_cpu(&a.writer, res, &page, index))
			break;
		sysinfo_cpu_times(&a, index, t);
	}
	return sysinfo_end(&a);
}

/* ---- osinfo ---- */

static int sysinfo_osinfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	/* Not utsname(): no process' namespace, and a copy, since the host name may change. */
	const struct new_utsname *uts = &init_uts_ns.name;
	char hostname[__NEW_UTS_LEN + 1];
	struct sysinfo_answer a;
	u64 now, up;
	int status;

	status = sysinfo_begin(&a, req, res, NULL, false, 0);
	if (status)
		return status;
	strscpy(hostname, uts->nodename, sizeof(hostname));
	sysinfo_u64(&a, RVMRPC_OSINFO_KIND, RVMRPC_INDEX_ALL, RVMRPC_OS_LINUX);
	sysinfo_string(&a, RVMRPC_OSINFO_SYSNAME, RVMRPC_INDEX_ALL, uts->sysname);
	sysinfo_string(&a, RVMRPC_OSINFO_RELEASE, RVMRPC_INDEX_ALL, uts->release);
	sysinfo_string(&a, RVMRPC_OSINFO_VERSION, RVMRPC_INDEX_ALL, uts->version);
	sysinfo_string(&a, RVMRPC_OSINFO_MACHINE, RVMRPC_INDEX_ALL, uts->machine);
	sysinfo_string(&a, RVMRPC_OSINFO_HOSTNAME, RVMRPC_INDEX_ALL, hostname);
	now = ktime_get_real_ns();
	up = ktime_get_boottime_ns();
	sysinfo_u64(&a, RVMRPC_OSINFO_UPTIME_NS, RVMRPC_INDEX_ALL, up);
	/* Whose clock is set before its uptime booted before 1970. */
	if (now >= up)
		sysinfo_u64(&a, RVMRPC_OSINFO_BOOT_TIME, RVMRPC_INDEX_ALL, div_u64(now - up, NSEC_PER_SEC));
	sysinfo_u64(&a, RVMRPC_OSINFO_PAGE_SIZE, RVMRPC_INDEX_ALL, PAGE_SIZE);
	sysinfo_u64(&a, RVMRPC_OSINFO_CPUS, RVMRPC_INDEX_ALL, num_online_cpus());
	return sysinfo_end(&a);
}

/* ---- Module ---- */

/* The handler of every procedure here. */
static int sysinfo_handle(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	static const rvmrpc_dispatch_fn handlers[] = {
		[RVMRPC_SYSINFO_MEMINFO] = sysinfo_meminfo,
		[RVMRPC_SYSINFO_LOADAVG] = sysinfo_loadavg,
		[RVMRPC_SYSINFO_CPUINFO] = sysinfo_cpuinfo,
		[RVMRPC_SYSINFO_CPUSTAT] = sysinfo_cpustat,
		[RVMRPC_SYSINFO_OSINFO] = sysinfo_osinfo,
	};
	int status;

	mutex_lock(&sysinfo_lock);
	status = handlers[array_index_nospec(req->func, ARRAY_SIZE(handlers))](req, res);
	mutex_unlock(&sysinfo_lock);
	return status;
}

#define SYSINFO_PROCEDURE(_number, _name) {			\
		.number = _number,				\
		.name = _name,					\
		.flags = RVMRPC_PROC_READ_ONLY,			\
		.arg_max = sizeof(struct rvmrpc_info_req),	\
		.handler = sysinfo_handle,			\
	}

static const struct rvmrpc_procedure sysinfo_procs[] = {
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_MEMINFO, "meminfo"),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_LOADAVG, "loadavg"),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_CPUINFO, "cpuinfo"),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_CPUSTAT, "cpustat"),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_OSINFO, "osinfo"),
};

static struct rvmrpc_module sysinfo_module = {
	.number = RVMRPC_MOD_SYSINFO,
	.version = 1,
	.name = "sysinfo",
	.procs = sysinfo_procs,
	.nprocs = ARRAY_SIZE(sysinfo_procs),
};

static void sysinfo_release(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sysinfo_files); i++)
		rvmrpc_procfile_close(sysinfo_files[i]);
	vfree(sysinfo_text);
	vfree(sysinfo_raw);
}

static int sysinfo_prepare(void)
{
	size_t i;
	int err;

	sysinfo_raw = vmalloc(SYSINFO_TEXT_MAX);
	sysinfo_text = vmalloc(SYSINFO_TEXT_MAX);
	if (!sysinfo_raw || !sysinfo_text)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(sysinfo_files); i++) {
		err = rvmrpc_procfile_open(sysinfo_files[i], sysinfo_raw, SYSINFO_TEXT_MAX);
		if (err)
			return err;
	}
	return 0;
}

int rvmrpc_mod_sysinfo_init(void)
{
	int err = sysinfo_prepare();

	if (!err)
		err = rvmrpc_builtin_add(&sysinfo_module);
	if (err)
		sysinfo_release();
	return err;
}

void rvmrpc_mod_sysinfo_exit(void)
{
	rvmrpc_builtin_remove(&sysinfo_module);
	sysinfo_release();
}
