/*
 * librvmrpc: answers of the module sysinfo
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They are a guest's words: every length and offset is checked, unknown keys
 * and types are skipped, and what an answer makes us allocate is bounded.
 */
#include <string.h>
#include "private.h"

/* More CPUs than a guest can have, and longer names than theirs. */
#define CPUS_MAX    4096
#define STRING_MAX  1024

typedef struct Reader {
    const guint8 *items;        /* not aligned */
    guint32 count;
    const char *text;
    guint32 text_length, raw_length;
} Reader;

static gboolean reader_open(Reader *r, GBytes *answer, GError **error)
{
    struct rvmrpc_info info;
    gsize size;
    const guint8 *data = g_bytes_get_data(answer, &size);
    guint64 need;

    if (size >= sizeof(info)) {
        memcpy(&info, data, sizeof(info));
        need = sizeof(info) + info.text_length +
               (guint64)info.count * sizeof(struct rvmrpc_item);
        if (need <= size && info.raw_length <= info.text_length) {
            r->items = data + sizeof(info);
            r->count = info.count;
            r->text = (const char *)r->items +
                      (gsize)info.count * sizeof(struct rvmrpc_item);
            r->text_length = info.text_length;
            r->raw_length = info.raw_length;
            return TRUE;
        }
    }
    g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                        "the guest's answer is malformed");
    return FALSE;
}

static struct rvmrpc_item reader_item(const Reader *r, guint32 i)
{
    struct rvmrpc_item item;

    memcpy(&item, r->items + (gsize)i * sizeof(item), sizeof(item));
    return item;
}

/*
 * Sets *to when the item is a string within the text.  Any number of items may
 * name the same bytes of it.
 */
static void take_string(const Reader *r, const struct rvmrpc_item *item,
                        char **to)
{
    guint32 offset = item->value, length = item->value >> 32;

    if (item->type == RVMRPC_ITEM_STRING && offset <= r->text_length &&
        length <= r->text_length - offset) {
        g_free(*to);
        *to = g_utf8_make_valid(r->text + offset, MIN(length, STRING_MAX));
    }
}

static void take_u64(const struct rvmrpc_item *item, guint64 *to)
{
    if (item->type == RVMRPC_ITEM_U64) {
        *to = item->value;
    }
}

/* ---- meminfo ---- */

static const char *const mem_names[RVMRPC_MEM_KEYS] = {
    [RVMRPC_MEM_TOTAL] = "total",
    [RVMRPC_MEM_FREE] = "free",
    [RVMRPC_MEM_AVAILABLE] = "available",
    [RVMRPC_MEM_BUFFERS] = "buffers",
    [RVMRPC_MEM_CACHED] = "cached",
    [RVMRPC_MEM_SWAP_CACHED] = "swap-cached",
    [RVMRPC_MEM_ACTIVE] = "active",
    [RVMRPC_MEM_INACTIVE] = "inactive",
    [RVMRPC_MEM_UNEVICTABLE] = "unevictable",
    [RVMRPC_MEM_DIRTY] = "dirty",
    [RVMRPC_MEM_WRITEBACK] = "writeback",
    [RVMRPC_MEM_ANON] = "anonymous",
    [RVMRPC_MEM_MAPPED] = "mapped",
    [RVMRPC_MEM_SHARED] = "shared",
    [RVMRPC_MEM_SLAB] = "slab",
    [RVMRPC_MEM_SLAB_RECLAIMABLE] = "slab-reclaimable",
    [RVMRPC_MEM_SLAB_UNRECLAIMABLE] = "slab-unreclaimable",
    [RVMRPC_MEM_KERNEL_STACK] = "kernel-stack",
    [RVMRPC_MEM_PAGE_TABLES] = "page-tables",
    [RVMRPC_MEM_COMMIT_LIMIT] = "commit-limit",
    [RVMRPC_MEM_COMMITTED_AS] = "committed-as",
    [RVMRPC_MEM_SWAP_TOTAL] = "swap-total",
    [RVMRPC_MEM_SWAP_FREE] = "swap-free",
    [RVMRPC_MEM_WIRED] = "wired",
    [RVMRPC_MEM_LAUNDRY] = "laundry",
    [RVMRPC_MEM_HUGETLB] = "hugetlb",
    [RVMRPC_MEM_HUGE_TOTAL] = "huge-total",
    [RVMRPC_MEM_HUGE_FREE] = "huge-free",
    [RVMRPC_MEM_HUGE_SIZE] = "huge-size",
    [RVMRPC_MEM_PERCPU] = "percpu",
    [RVMRPC_MEM_CMA_TOTAL] = "cma-total",
    [RVMRPC_MEM_CMA_FREE] = "cma-free",
    [RVMRPC_MEM_ZSWAP] = "zswap",
    [RVMRPC_MEM_ZSWAPPED] = "zswapped",
};

const char *rvmrpc_mem_key_name(guint key)
{
    return key < RVMRPC_MEM_KEYS ? mem_names[key] : NULL;
}

gboolean rvmrpc_meminfo_has(const RvmrpcMeminfo *mem, guint key)
{
    return key < RVMRPC_MEM_KEYS && (mem->present >> key & 1);
}

RvmrpcMeminfo *rvmrpc_parse_meminfo(GBytes *answer, GError **error)
{
    RvmrpcMeminfo *mem;
    Reader r;

    if (!reader_open(&r, answer, error)) {
        return NULL;
    }
    mem = g_new0(RvmrpcMeminfo, 1);
    for (guint32 i = 0; i < r.count; i++) {
        struct rvmrpc_item item = reader_item(&r, i);

        if (rvmrpc_mem_key_name(item.key) && item.type == RVMRPC_ITEM_U64) {
            mem->present |= G_GUINT64_CONSTANT(1) << item.key;
            mem->value[item.key] = item.value;
        }
    }
    if (r.raw_length) {
        mem->raw = g_utf8_make_valid(r.text, r.raw_length);
    }
    return mem;
}

void rvmrpc_meminfo_free(RvmrpcMeminfo *mem)
{
    g_free(mem->raw);
    g_free(mem);
}

/* ---- loadavg ---- */

RvmrpcLoadavg *rvmrpc_parse_loadavg(GBytes *answer, GError **error)
{
    RvmrpcLoadavg *load;
    Reader r;

    if (!reader_open(&r, answer, error)) {
        return NULL;
    }
    load = g_new0(RvmrpcLoadavg, 1);
    for (guint32 i = 0; i < r.count; i++) {
        struct rvmrpc_item item = reader_item(&r, i);

        if (item.type != RVMRPC_ITEM_U64) {
            continue;
        }
        if (item.key >= RVMRPC_LOAD_1M && item.key <= RVMRPC_LOAD_15M) {
            load->load[item.key - RVMRPC_LOAD_1M] = item.value / 1e6;
        } else if (item.key == RVMRPC_LOAD_RUNNABLE) {
            load->runnable = item.value;
        } else if (item.key == RVMRPC_LOAD_THREADS) {
            load->threads = item.value;
        }
    }
    return load;
}

void rvmrpc_loadavg_free(RvmrpcLoadavg *load)
{
    g_free(load);
}

/* ---- cpuinfo ---- */

static void cpu_free(void *data)
{
    RvmrpcCpu *cpu = data;

    g_free(cpu->vendor);
    g_free(cpu->model_name);
    g_free(cpu);
}

/* Guests list CPU after CPU: the last is nearly always the one. */
static RvmrpcCpu *get_cpu(GPtrArray *cpus, guint32 index)
{
    RvmrpcCpu *cpu;

    for (guint i = cpus->len; i > 0; i--) {
        cpu = cpus->pdata[i - 1];
        if (cpu->index == index) {
            return cpu;
        }
    }
    if (index >= CPUS_MAX) {
        return NULL;
    }
    cpu = g_new0(RvmrpcCpu, 1);
    cpu->index = index;
    g_ptr_array_add(cpus, cpu);
    return cpu;
}

static void take_cpu(const Reader *r, const struct rvmrpc_item *item,
                     RvmrpcCpu *cpu)
{
    switch (item->key) {
    case RVMRPC_CPU_VENDOR:
        take_string(r, item, &cpu->vendor);
        break;
    case RVMRPC_CPU_MODEL_NAME:
        take_string(r, item, &cpu->model_name);
        break;
    case RVMRPC_CPU_FAMILY:
        take_u64(item, &cpu->family);
        break;
    case RVMRPC_CPU_MODEL:
        take_u64(item, &cpu->model);
        break;
    case RVMRPC_CPU_STEPPING:
        take_u64(item, &cpu->stepping);
        break;
    case RVMRPC_CPU_HZ:
        take_u64(item, &cpu->hz);
        break;
    case RVMRPC_CPU_PACKAGE:
        take_u64(item, &cpu->package);
        break;
    case RVMRPC_CPU_CORE:
        take_u64(item, &cpu->core);
        break;
    }
}

/* Adds what an answer says of some CPUs.  *next: where the next one begins. */
typedef gboolean AddPage(void *info, GBytes *answer, guint64 *next,
                         GError **error);

static gboolean add_cpuinfo(void *to, GBytes *answer, guint64 *next,
                            GError **error)
{
    RvmrpcCpuinfo *info = to;
    Reader r;

    if (!reader_open(&r, answer, error)) {
        return FALSE;
    }
    for (guint32 i = 0; i < r.count; i++) {
        struct rvmrpc_item item = reader_item(&r, i);
        RvmrpcCpu *cpu;

        if (item.key == RVMRPC_CPU_ONLINE) {
            take_u64(&item, &info->online);
        } else if (item.key == RVMRPC_CPU_PRESENT) {
            take_u64(&item, &info->present);
        } else if (item.key == RVMRPC_CPU_NEXT) {
            take_u64(&item, next);
        } else if (item.index != RVMRPC_INDEX_ALL) {
            cpu = get_cpu(info->cpus, item.index);
            if (cpu) {
                take_cpu(&r, &item, cpu);
            }
        }
    }
    return TRUE;
}

static RvmrpcCpuinfo *cpuinfo_new(void)
{
    RvmrpcCpuinfo *info = g_new0(RvmrpcCpuinfo, 1);

    info->cpus = g_ptr_array_new_with_free_func(cpu_free);
    return info;
}

RvmrpcCpuinfo *rvmrpc_parse_cpuinfo(GBytes *answer, GError **error)
{
    g_autoptr(RvmrpcCpuinfo) info = cpuinfo_new();
    guint64 next;

    return add_cpuinfo(info, answer, &next, error) ? g_steal_pointer(&info) :
           NULL;
}

void rvmrpc_cpuinfo_free(RvmrpcCpuinfo *info)
{
    g_ptr_array_unref(info->cpus);
    g_free(info);
}

/* ---- cpustat ---- */

static RvmrpcCpuTimes *get_times(RvmrpcCpustat *stat, guint32 index)
{
    RvmrpcCpuTimes added = { .index = index };

    if (index == RVMRPC_INDEX_ALL) {
        return &stat->total;
    }
    for (guint i = stat->cpus->len; i > 0; i--) {
        RvmrpcCpuTimes *times = &g_array_index(stat->cpus, RvmrpcCpuTimes,
                                               i - 1);
        if (times->index == index) {
            return times;
        }
    }
    if (index >= CPUS_MAX) {
        return NULL;
    }
    g_array_append_val(stat->cpus, added);
    return &g_array_index(stat->cpus, RvmrpcCpuTimes, stat->cpus->len - 1);
}

static void take_times(const struct rvmrpc_item *item, RvmrpcCpuTimes *times)
{
    switch (item->key) {
    case RVMRPC_STAT_USER:
        take_u64(item, &times->user);
        break;
    case RVMRPC_STAT_SYSTEM:
        take_u64(item, &times->system);
        break;
    case RVMRPC_STAT_IDLE:
        take_u64(item, &times->idle);
        break;
    case RVMRPC_STAT_IOWAIT:
        take_u64(item, &times->iowait);
        break;
    case RVMRPC_STAT_STEAL:
        take_u64(item, &times->steal);
        break;
    }
}

static gboolean add_cpustat(void *to, GBytes *answer, guint64 *next,
                            GError **error)
{
    RvmrpcCpustat *stat = to;
    Reader r;

    if (!reader_open(&r, answer, error)) {
        return FALSE;
    }
    for (guint32 i = 0; i < r.count; i++) {
        struct rvmrpc_item item = reader_item(&r, i);
        RvmrpcCpuTimes *times = get_times(stat, item.index);

        if (item.key == RVMRPC_STAT_NEXT) {
            take_u64(&item, next);
        } else if (times) {
            take_times(&item, times);
        }
    }
    return TRUE;
}

static RvmrpcCpustat *cpustat_new(void)
{
    RvmrpcCpustat *stat = g_new0(RvmrpcCpustat, 1);

    stat->total.index = RVMRPC_INDEX_ALL;
    stat->cpus = g_array_new(FALSE, TRUE, sizeof(RvmrpcCpuTimes));
    return stat;
}

RvmrpcCpustat *rvmrpc_parse_cpustat(GBytes *answer, GError **error)
{
    g_autoptr(RvmrpcCpustat) stat = cpustat_new();
    guint64 next;

    return add_cpustat(stat, answer, &next, error) ? g_steal_pointer(&stat) :
           NULL;
}

void rvmrpc_cpustat_free(RvmrpcCpustat *stat)
{
    g_array_unref(stat->cpus);
    g_free(stat);
}

/* ---- osinfo ---- */

static void take_os(const Reader *r, const struct rvmrpc_item *item,
                    RvmrpcOsinfo *os)
{
    switch (item->key) {
    case RVMRPC_OSINFO_SYSNAME:
        take_string(r, item, &os->sysname);
        break;
    case RVMRPC_OSINFO_RELEASE:
        take_string(r, item, &os->release);
        break;
    case RVMRPC_OSINFO_VERSION:
        take_string(r, item, &os->version);
        break;
    case RVMRPC_OSINFO_MACHINE:
        take_string(r, item, &os->machine);
        break;
    case RVMRPC_OSINFO_HOSTNAME:
        take_string(r, item, &os->hostname);
        break;
    case RVMRPC_OSINFO_UPTIME_NS:
        take_u64(item, &os->uptime_ns);
        break;
    case RVMRPC_OSINFO_BOOT_TIME:
        take_u64(item, &os->boot_time);
        break;
    case RVMRPC_OSINFO_PAGE_SIZE:
        take_u64(item, &os->page_size);
        break;
    case RVMRPC_OSINFO_CPUS:
        take_u64(item, &os->cpus);
        break;
    }
}

RvmrpcOsinfo *rvmrpc_parse_osinfo(GBytes *answer, GError **error)
{
    RvmrpcOsinfo *os;
    Reader r;

    if (!reader_open(&r, answer, error)) {
        return NULL;
    }
    os = g_new0(RvmrpcOsinfo, 1);
    for (guint32 i = 0; i < r.count; i++) {
        struct rvmrpc_item item = reader_item(&r, i);

        take_os(&r, &item, os);
    }
    return os;
}

void rvmrpc_osinfo_free(RvmrpcOsinfo *os)
{
    g_free(os->sysname);
    g_free(os->release);
    g_free(os->version);
    g_free(os->machine);
    g_free(os->hostname);
    g_free(os);
}

/* ---- Calls ---- */

static GBytes *sysinfo(RvmrpcConn *conn, guint32 procedure, guint32 flags,
                       guint32 first, guint timeout_ms,
                       GCancellable *cancellable, GError **error)
{
    struct rvmrpc_info_req req = { .flags = flags, .first = first };
    g_autoptr(GBytes) arg = g_bytes_new(&req, sizeof(req));

    return rvmrpc_call(conn, RVMRPC_MOD_SYSINFO, procedure, arg, timeout_ms,
                       NULL, cancellable, error);
}

/* A parser does not know the VM. */
static void *named(const RvmrpcConn *conn, void *parsed, GError **error)
{
    if (!parsed) {
        g_prefix_error(error, "%s: ", conn->vm->label);
    }
    return parsed;
}

/* As many answers as all CPUs need, in one time. */
static gboolean sysinfo_pages(RvmrpcConn *conn, guint32 procedure,
                              AddPage *add, void *info, guint timeout_ms,
                              GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    guint64 first = 0, next;

    do {
        g_autoptr(GBytes) answer = NULL;

        if (first && !until_more(&until, conn->vm, error)) {
            return FALSE;
        }
        answer = sysinfo(conn, procedure, 0, first,
                         MAX(until_left(&until), 1), cancellable, error);
        next = 0;
        if (!answer) {
            return FALSE;
        }
        if (!add(info, answer, &next, error)) {
            g_prefix_error(error, "%s: ", conn->vm->label);
            return FALSE;
        }
        if (next && (next <= first || next >= CPUS_MAX)) {
            g_propagate_error(error, malformed_error(conn->vm));
            return FALSE;
        }
        first = next;
    } while (first);
    return TRUE;
}

RvmrpcMeminfo *rvmrpc_get_meminfo(RvmrpcConn *conn, gboolean raw,
                                  guint timeout_ms, GCancellable *cancellable,
                                  GError **error)
{
    g_autoptr(GBytes) answer = sysinfo(conn, RVMRPC_SYSINFO_MEMINFO,
                                       raw ? RVMRPC_INFO_TEXT : 0, 0,
                                       timeout_ms, cancellable, error);

    return answer ? named(conn, rvmrpc_parse_meminfo(answer, error), error) :
           NULL;
}

RvmrpcLoadavg *rvmrpc_get_loadavg(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error)
{
    g_autoptr(GBytes) answer = sysinfo(conn, RVMRPC_SYSINFO_LOADAVG, 0, 0,
                                       timeout_ms, cancellable, error);

    return answer ? named(conn, rvmrpc_parse_loadavg(answer, error), error) :
           NULL;
}

RvmrpcCpuinfo *rvmrpc_get_cpuinfo(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error)
{
    g_autoptr(RvmrpcCpuinfo) info = cpuinfo_new();

    return sysinfo_pages(conn, RVMRPC_SYSINFO_CPUINFO, add_cpuinfo, info,
                         timeout_ms, cancellable, error) ?
           g_steal_pointer(&info) : NULL;
}

RvmrpcCpustat *rvmrpc_get_cpustat(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error)
{
    g_autoptr(RvmrpcCpustat) stat = cpustat_new();

    return sysinfo_pages(conn, RVMRPC_SYSINFO_CPUSTAT, add_cpustat, stat,
                         timeout_ms, cancellable, error) ?
           g_steal_pointer(&stat) : NULL;
}

RvmrpcOsinfo *rvmrpc_get_osinfo(RvmrpcConn *conn, guint timeout_ms,
                                GCancellable *cancellable, GError **error)
{
    g_autoptr(GBytes) answer = sysinfo(conn, RVMRPC_SYSINFO_OSINFO, 0, 0,
                                       timeout_ms, cancellable, error);

    return answer ? named(conn, rvmrpc_parse_osinfo(answer, error), error) :
           NULL;
}
