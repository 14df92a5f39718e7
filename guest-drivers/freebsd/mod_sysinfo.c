/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module sysinfo: numbers that are the same on every OS, straight from this
 * kernel's variables (paper, figure 12).
 *
 * Runs in the server thread, which alone uses the buffer, and allocates
 * nothing, so that it answers when the guest has no memory.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/jail.h>
#include <sys/pcpu.h>
#include <sys/proc.h>
#include <sys/resource.h>
#include <sys/sched.h>
#include <sys/smp.h>
#include <sys/vmmeter.h>
#include <vm/vm.h>
#include <vm/vm_extern.h>
#include <vm/vm_param.h>
#include <vm/swap_pager.h>
#include <machine/clock.h>
#include <machine/md_var.h>
#include <machine/specialreg.h>

#define	SYSINFO_TEXT_MAX	RVMRPC_RES_BYTES_DEFAULT
#define	SYSINFO_MODEL_MAX	128

static char *sysinfo_text;		/* scratch of the info writer */
static char sysinfo_model[SYSINFO_MODEL_MAX];	/* hw.model */

/* ---- One answer ---- */

struct sysinfo_answer {
	struct rvmrpc_info_writer writer;
	struct rvmrpc_response *res;
	uint32_t	first;		/* CPUs below it are not wanted */
	bool		raw;		/* the guest's own text is wanted */
};

static int
sysinfo_begin(struct sysinfo_answer *a, const struct rvmrpc_request *req,
    struct rvmrpc_response *res)
{
	struct rvmrpc_info_req wanted;
	int status;

	status = rvmrpc_info_wanted(req, &wanted);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	a->res = res;
	a->first = wanted.first;
	a->raw = (wanted.flags & RVMRPC_INFO_TEXT) != 0;
	rvmrpc_info_begin(&a->writer, res, sysinfo_text, SYSINFO_TEXT_MAX);
	return (RVMRPC_STATUS_OK);
}

static int
sysinfo_end(struct sysinfo_answer *a)
{
	return (rvmrpc_info_end(&a->writer, a->res));
}

static void
sysinfo_u64(struct sysinfo_answer *a, uint16_t key, uint32_t index,
    uint64_t value)
{
	rvmrpc_info_u64(&a->writer, key, index, value);
}

static void
sysinfo_string(struct sysinfo_answer *a, uint16_t key, uint32_t index,
    const char *s)
{
	rvmrpc_info_string(&a->writer, key, index, s, strlen(s));
}

/* ---- meminfo ---- */

/*
 * What only sysctl tells; some of it is not there without ZFS.  Names of less
 * than 32 bytes are looked up without an allocation.
 */
static uint64_t
sysinfo_sysctl(const char *name)
{
	uint64_t value = 0;
	size_t size = sizeof(value), got;

	if (kernel_sysctlbyname(curthread, __DECONST(char *, name), &value,
	    &size, NULL, 0, &got, 0) != 0 ||
	    (got != sizeof(value) && got != sizeof(uint32_t)))
		return (RVMRPC_ABSENT);
	return (value);
}

/* Names too long to look up without an allocation, so that is done once. */
static struct sysinfo_oid {
	const char	*name;
	int		oid[CTL_MAXNAME];
	size_t		length;		/* bytes; 0: not found yet */
} sysinfo_evictable[] = {
	{ .name = "kstat.zfs.misc.arcstats.mru_evictable_data" },
	{ .name = "kstat.zfs.misc.arcstats.mru_evictable_metadata" },
	{ .name = "kstat.zfs.misc.arcstats.mfu_evictable_data" },
	{ .name = "kstat.zfs.misc.arcstats.mfu_evictable_metadata" },
};

static uint64_t
sysinfo_oid(struct sysinfo_oid *o)
{
	int question[] = { CTL_SYSCTL, CTL_SYSCTL_NAME2OID };
	uint64_t value = 0;
	size_t size = sizeof(o->oid), got;

	if (o->length == 0 && kernel_sysctl(curthread, question, 2, o->oid,
	    &size, __DECONST(char *, o->name), strlen(o->name), &o->length,
	    0) != 0)
		o->length = 0;
	size = sizeof(value);
	if (o->length == 0 || kernel_sysctl(curthread, o->oid,
	    o->length / sizeof(int), &value, &size, NULL, 0, &got, 0) != 0 ||
	    got != sizeof(value))
		return (RVMRPC_ABSENT);
	return (value);
}

/* arc_size: absent without ZFS, and then so is this. */
static uint64_t
sysinfo_arc_evictable(uint64_t arc_size)
{
	uint64_t sum = 0, part;
	u_int i;

	for (i = 0; i < nitems(sysinfo_evictable); i++) {
		part = arc_size != RVMRPC_ABSENT ?
		    sysinfo_oid(&sysinfo_evictable[i]) : RVMRPC_ABSENT;
		if (part == RVMRPC_ABSENT)
			return (RVMRPC_ABSENT);
		sum += part;
	}
	return (sum);
}

static void
sysinfo_mem(struct rvmrpc_mem *mem)
{
	int swap_total, swap_used;

	swap_pager_status(&swap_total, &swap_used);
	*mem = (struct rvmrpc_mem){
		.page_size = PAGE_SIZE,
		.page_count = vm_cnt.v_page_count,
		.free_count = vm_free_count(),
		.free_reserved = vm_cnt.v_free_reserved,
		.active_count = vm_active_count(),
		.inactive_count = vm_inactive_count(),
		.laundry_count = vm_laundry_count(),
		.wire_count = vm_wire_count(),
		.swap_total = (uint64_t)swap_total * PAGE_SIZE,
		.swap_free = (uint64_t)(swap_total - swap_used) * PAGE_SIZE,
		.swap_reserved = sysinfo_sysctl("vm.swap_reserved"),
		.bufspace = sysinfo_sysctl("vfs.bufspace"),
		.arc_size = sysinfo_sysctl("kstat.zfs.misc.arcstats.size"),
		.arc_min = sysinfo_sysctl("kstat.zfs.misc.arcstats.c_min"),
	};
	mem->arc_evictable = sysinfo_arc_evictable(mem->arc_size);
}

static int
sysinfo_meminfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct sysinfo_answer a;
	struct rvmrpc_mem mem;
	int status;

	status = sysinfo_begin(&a, req, res);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	sysinfo_mem(&mem);
	if (a.raw)
		rvmrpc_info_raw(&a.writer, rvmrpc_mem_text(&mem, sysinfo_text,
		    SYSINFO_TEXT_MAX));
	rvmrpc_mem_items(&a.writer, &mem);
	return (sysinfo_end(&a));
}

/* ---- loadavg ---- */

static int
sysinfo_loadavg(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	static const uint16_t keys[] = {
		RVMRPC_LOAD_1M, RVMRPC_LOAD_5M, RVMRPC_LOAD_15M
	};
	struct sysinfo_answer a;
	int status;
	u_int i;

	status = sysinfo_begin(&a, req, res);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	for (i = 0; i < nitems(keys); i++)
		sysinfo_u64(&a, keys[i], RVMRPC_INDEX_ALL,
		    rvmrpc_load_millionths(averunnable.ldavg[i],
		    averunnable.fscale));
	sysinfo_u64(&a, RVMRPC_LOAD_RUNNABLE, RVMRPC_INDEX_ALL, sched_load());
	return (sysinfo_end(&a));
}

/* ---- cpuinfo ---- */

#define	SYSINFO_CPU_ITEMS	6

static int
sysinfo_cpuinfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_info_page page = {
		.items = SYSINFO_CPU_ITEMS,
		.text = strlen(cpu_vendor) + strlen(sysinfo_model),
		.next_key = RVMRPC_CPU_NEXT,
	};
	struct sysinfo_answer a;
	int status;
	u_int cpu;

	status = sysinfo_begin(&a, req, res);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	sysinfo_u64(&a, RVMRPC_CPU_ONLINE, RVMRPC_INDEX_ALL, mp_ncpus);
	sysinfo_u64(&a, RVMRPC_CPU_PRESENT, RVMRPC_INDEX_ALL, mp_ncpus);
	page.first = a.first;
	CPU_FOREACH(cpu) {
		if (cpu < page.first)
			continue;
		if (!rvmrpc_info_cpu(&a.writer, res, &page, cpu))
			break;
		sysinfo_string(&a, RVMRPC_CPU_VENDOR, cpu, cpu_vendor);
		sysinfo_string(&a, RVMRPC_CPU_MODEL_NAME, cpu, sysinfo_model);
		sysinfo_u64(&a, RVMRPC_CPU_FAMILY, cpu,
		    CPUID_TO_FAMILY(cpu_id));
		sysinfo_u64(&a, RVMRPC_CPU_MODEL, cpu, CPUID_TO_MODEL(cpu_id));
		sysinfo_u64(&a, RVMRPC_CPU_STEPPING, cpu,
		    cpu_id & CPUID_STEPPING);
		sysinfo_u64(&a, RVMRPC_CPU_HZ, cpu, tsc_freq);
	}
	return (sysinfo_end(&a));
}

/* ---- cpustat ---- */

#define	SYSINFO_STAT_ITEMS	3

static void
sysinfo_stat(struct sysinfo_answer *a, uint32_t index, const long *time)
{
	uint32_t frequency = stathz != 0 ? stathz : hz;

	sysinfo_u64(a, RVMRPC_STAT_USER, index,
	    rvmrpc_ticks_ns(time[CP_USER] + time[CP_NICE], frequency));
	sysinfo_u64(a, RVMRPC_STAT_SYSTEM, index,
	    rvmrpc_ticks_ns(time[CP_SYS] + time[CP_INTR], frequency));
	sysinfo_u64(a, RVMRPC_STAT_IDLE, index,
	    rvmrpc_ticks_ns(time[CP_IDLE], frequency));
}

static int
sysinfo_cpustat(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_info_page page = {
		.items = SYSINFO_STAT_ITEMS,
		.next_key = RVMRPC_STAT_NEXT,
	};
	struct sysinfo_answer a;
	long total[CPUSTATES];
	int status;
	u_int cpu;

	status = sysinfo_begin(&a, req, res);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	page.first = a.first;
	if (page.first == 0) {
		read_cpu_time(total);
		sysinfo_stat(&a, RVMRPC_INDEX_ALL, total);
	}
	CPU_FOREACH(cpu) {
		if (cpu < page.first)
			continue;
		if (!rvmrpc_info_cpu(&a.writer, res, &page, cpu))
			break;
		sysinfo_stat(&a, cpu, pcpu_find(cpu)->pc_cp_time);
	}
	return (sysinfo_end(&a));
}

/* ---- osinfo ---- */

static int
sysinfo_osinfo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	char hostname[MAXHOSTNAMELEN];
	struct sysinfo_answer a;
	struct timespec up;
	struct timeval boot;
	int status;

	status = sysinfo_begin(&a, req, res);
	if (status != RVMRPC_STATUS_OK)
		return (status);
	getcredhostname(curthread->td_ucred, hostname, sizeof(hostname));
	getboottime(&boot);
	nanouptime(&up);
	sysinfo_u64(&a, RVMRPC_OSINFO_KIND, RVMRPC_INDEX_ALL,
	    RVMRPC_OS_FREEBSD);
	sysinfo_string(&a, RVMRPC_OSINFO_SYSNAME, RVMRPC_INDEX_ALL, ostype);
	sysinfo_string(&a, RVMRPC_OSINFO_RELEASE, RVMRPC_INDEX_ALL,
	    osrelease);
	/* One line, as uname(3) has it. */
	rvmrpc_info_string(&a.writer, RVMRPC_OSINFO_VERSION, RVMRPC_INDEX_ALL,
	    version, strcspn(version, "\n"));
	sysinfo_string(&a, RVMRPC_OSINFO_MACHINE, RVMRPC_INDEX_ALL, machine);
	sysinfo_string(&a, RVMRPC_OSINFO_HOSTNAME, RVMRPC_INDEX_ALL, hostname);
	sysinfo_u64(&a, RVMRPC_OSINFO_UPTIME_NS, RVMRPC_INDEX_ALL,
	    (uint64_t)up.tv_sec * 1000000000 + up.tv_nsec);
	/* Whose clock is set before its uptime booted before 1970. */
	if (boot.tv_sec >= 0)
		sysinfo_u64(&a, RVMRPC_OSINFO_BOOT_TIME, RVMRPC_INDEX_ALL,
		    boot.tv_sec);
	sysinfo_u64(&a, RVMRPC_OSINFO_PAGE_SIZE, RVMRPC_INDEX_ALL, PAGE_SIZE);
	sysinfo_u64(&a, RVMRPC_OSINFO_CPUS, RVMRPC_INDEX_ALL, mp_ncpus);
	return (sysinfo_end(&a));
}

/* ---- Module ---- */

#define	SYSINFO_PROCEDURE(_number, _name, _handler) {		\
		.number = _number,				\
		.name = _name,					\
		.flags = RVMRPC_PROC_READ_ONLY,			\
		.arg_max = sizeof(struct rvmrpc_info_req),	\
		.handler = _handler,				\
	}

static const struct rvmrpc_procedure sysinfo_procs[] = {
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_MEMINFO, "meminfo", sysinfo_meminfo),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_LOADAVG, "loadavg", sysinfo_loadavg),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_CPUINFO, "cpuinfo", sysinfo_cpuinfo),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_CPUSTAT, "cpustat", sysinfo_cpustat),
	SYSINFO_PROCEDURE(RVMRPC_SYSINFO_OSINFO, "osinfo", sysinfo_osinfo),
};

static struct rvmrpc_module sysinfo_module = {
	.number = RVMRPC_MOD_SYSINFO,
	.version = 1,
	.name = "sysinfo",
	.procs = sysinfo_procs,
	.nprocs = nitems(sysinfo_procs),
};

int
rvmrpc_mod_sysinfo_init(void)
{
	size_t size = sizeof(sysinfo_model) - 1, got;
	int error;

	if (kernel_sysctlbyname(curthread, __DECONST(char *, "hw.model"),
	    sysinfo_model, &size, NULL, 0, &got, 0) != 0)
		sysinfo_model[0] = '\0';
	sysinfo_text = malloc(SYSINFO_TEXT_MAX, M_RVMRPC, M_WAITOK);
	error = rvmrpc_builtin_add(&sysinfo_module);
	if (error != 0)
		free(sysinfo_text, M_RVMRPC);
	return (error);
}

void
rvmrpc_mod_sysinfo_exit(void)
{
	rvmrpc_builtin_remove(&sysinfo_module);
	free(sysinfo_text, M_RVMRPC);
}
