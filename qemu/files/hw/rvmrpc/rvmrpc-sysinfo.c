/*
 * Reverse VMRPC: answers of the module sysinfo as QAPI types
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The answers are a guest's words: every length and offset is checked against
 * the private copy, and text is escaped.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/lockable.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "rvmrpc-ask.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-sysinfo.h"

/*
 * More CPUs than a guest can have, and longer names than theirs: a bound on
 * what an answer allocates.
 */
#define CPUS_MAX    4096
#define STRING_MAX  1024

typedef struct InfoReader {
    const struct rvmrpc_item *items;
    uint32_t nitems;
    const char *text;
    uint32_t text_length;
    uint32_t raw_length;
} InfoReader;

static bool info_open(InfoReader *r, const RvmrpcCall *call, Error **errp)
{
    struct rvmrpc_info info;
    uint64_t need;

    if (call->core.reslen >= sizeof(info)) {
        memcpy(&info, call->res, sizeof(info));
        need = sizeof(info) + (uint64_t)info.count * sizeof(*r->items) +
               info.text_length;
        if (need <= call->core.reslen && info.raw_length <= info.text_length) {
            r->items = call->res + sizeof(info);
            r->nitems = info.count;
            r->text = (const char *)(r->items + info.count);
            r->text_length = info.text_length;
            r->raw_length = info.raw_length;
            return true;
        }
    }
    rvmrpc_malformed_error(errp);
    return false;
}

static RvmrpcOs connected_os(void)
{
    RvmrpcHost *h = rvmrpc_host_find();
    RvmrpcChannelInfo info = { };

    if (h) {
        rvmrpc_channel_get_info(rvmrpc_host_channel(h), &info);
    }
    return rvmrpc_os(info.os);
}

static bool is_u64(const struct rvmrpc_item *item)
{
    return item->type == RVMRPC_ITEM_U64;
}

/*
 * NULL unless the item is a string within the text.  Any number of items may
 * name the same bytes of it.
 */
static char *info_string(const InfoReader *r, const struct rvmrpc_item *item)
{
    uint32_t offset = item->value, length = item->value >> 32;

    if (item->type != RVMRPC_ITEM_STRING || offset > r->text_length ||
        length > r->text_length - offset) {
        return NULL;
    }
    return rvmrpc_text(r->text + offset, MIN(length, STRING_MAX));
}

static void set_string(char **member, const InfoReader *r,
                       const struct rvmrpc_item *item)
{
    g_free(*member);
    *member = info_string(r, item);
}

/* ---- meminfo ---- */

typedef struct MeminfoKey {
    size_t has, value;
} MeminfoKey;

#define MEM(key, member) \
    [RVMRPC_MEM_##key] = { offsetof(GuestMeminfo, has_##member), \
                           offsetof(GuestMeminfo, member) }

static const MeminfoKey meminfo_keys[] = {
    MEM(TOTAL, total), MEM(FREE, free), MEM(AVAILABLE, available),
    MEM(BUFFERS, buffers), MEM(CACHED, cached),
    MEM(SWAP_CACHED, swap_cached), MEM(ACTIVE, active),
    MEM(INACTIVE, inactive), MEM(UNEVICTABLE, unevictable),
    MEM(DIRTY, dirty), MEM(WRITEBACK, writeback), MEM(ANON, anonymous),
    MEM(MAPPED, mapped), MEM(SHARED, shared), MEM(SLAB, slab),
    MEM(SLAB_RECLAIMABLE, slab_reclaimable),
    MEM(SLAB_UNRECLAIMABLE, slab_unreclaimable),
    MEM(KERNEL_STACK, kernel_stack), MEM(PAGE_TABLES, page_tables),
    MEM(COMMIT_LIMIT, commit_limit), MEM(COMMITTED_AS, committed_as),
    MEM(SWAP_TOTAL, swap_total), MEM(SWAP_FREE, swap_free),
    MEM(WIRED, wired), MEM(LAUNDRY, laundry), MEM(HUGETLB, hugetlb),
    MEM(HUGE_TOTAL, huge_total), MEM(HUGE_FREE, huge_free),
    MEM(HUGE_SIZE, huge_size), MEM(PERCPU, percpu),
    MEM(CMA_TOTAL, cma_total), MEM(CMA_FREE, cma_free),
    MEM(ZSWAP, zswap), MEM(ZSWAPPED, zswapped),
};

GuestMeminfo *rvmrpc_decode_meminfo(const RvmrpcCall *call, bool raw,
                                    Error **errp)
{
    GuestMeminfo *info;
    InfoReader r;

    if (!info_open(&r, call, errp)) {
        return NULL;
    }
    info = g_new0(GuestMeminfo, 1);
    info->os = connected_os();
    for (uint32_t i = 0; i < r.nitems; i++) {
        const struct rvmrpc_item *item = &r.items[i];
        const MeminfoKey *key;

        if (item->key >= ARRAY_SIZE(meminfo_keys) || !is_u64(item)) {
            continue;
        }
        key = &meminfo_keys[item->key];
        if (key->value) {
            *(bool *)((char *)info + key->has) = true;
            *(uint64_t *)((char *)info + key->value) = item->value;
        }
    }
    if (raw) {
        info->raw = g_utf8_make_valid(r.text, r.raw_length);
    }
    return info;
}

/* ---- loadavg ---- */

GuestLoadavg *rvmrpc_decode_loadavg(const RvmrpcCall *call, Error **errp)
{
    GuestLoadavg *info;
    InfoReader r;

    if (!info_open(&r, call, errp)) {
        return NULL;
    }
    info = g_new0(GuestLoadavg, 1);
    info->os = connected_os();
    for (uint32_t i = 0; i < r.nitems; i++) {
        const struct rvmrpc_item *item = &r.items[i];

        if (!is_u64(item)) {
            continue;
        }
        switch (item->key) {
        case RVMRPC_LOAD_1M:
            info->load1m = item->value / 1e6;
            break;
        case RVMRPC_LOAD_5M:
            info->load5m = item->value / 1e6;
            break;
        case RVMRPC_LOAD_15M:
            info->load15m = item->value / 1e6;
            break;
        case RVMRPC_LOAD_RUNNABLE:
            info->has_runnable = true;
            info->runnable = item->value;
            break;
        case RVMRPC_LOAD_THREADS:
            info->has_threads = true;
            info->threads = item->value;
            break;
        }
    }
    return info;
}

/* ---- cpuinfo ---- */

static void cpu_item(GuestCpu *cpu, const InfoReader *r,
                     const struct rvmrpc_item *item)
{
    switch (item->key) {
    case RVMRPC_CPU_VENDOR:
        set_string(&cpu->vendor, r, item);
        break;
    case RVMRPC_CPU_MODEL_NAME:
        set_string(&cpu->model_name, r, item);
        break;
    case RVMRPC_CPU_FAMILY:
        cpu->has_family = is_u64(item);
        cpu->family = item->value;
        break;
    case RVMRPC_CPU_MODEL:
        cpu->has_model = is_u64(item);
        cpu->model = item->value;
        break;
    case RVMRPC_CPU_STEPPING:
        cpu->has_stepping = is_u64(item);
        cpu->stepping = item->value;
        break;
    case RVMRPC_CPU_HZ:
        cpu->has_hz = is_u64(item);
        cpu->hz = item->value;
        break;
    case RVMRPC_CPU_PACKAGE:
        cpu->has_package = is_u64(item);
        cpu->package = item->value;
        break;
    case RVMRPC_CPU_CORE:
        cpu->has_core = is_u64(item);
        cpu->core = item->value;
        break;
    }
}

static void cpuinfo_whole(GuestCpuinfo *info, const struct rvmrpc_item *item,
                          uint32_t *next)
{
    if (!is_u64(item)) {
        return;
    }
    switch (item->key) {
    case RVMRPC_CPU_ONLINE:
        info->online = item->value;
        break;
    case RVMRPC_CPU_PRESENT:
        info->has_present = true;
        info->present = item->value;
        break;
    case RVMRPC_CPU_NEXT:
        *next = MIN(item->value, CPUS_MAX);
        break;
    }
}

/* Items come CPU by CPU; a new index begins a new element. */
bool rvmrpc_add_cpuinfo(void *to, const RvmrpcCall *call, uint32_t *next,
                        Error **errp)
{
    GuestCpuinfo *info = to;
    GuestCpuList **tail;
    GuestCpu *cpu = NULL;
    InfoReader r;
    int ncpus = 0;

    if (!info_open(&r, call, errp)) {
        return false;
    }
    info->os = connected_os();
    for (tail = &info->cpus; *tail; tail = &(*tail)->next) {
        ncpus++;
    }
    for (uint32_t i = 0; i < r.nitems; i++) {
        const struct rvmrpc_item *item = &r.items[i];

        if (item->index == RVMRPC_INDEX_ALL) {
            cpuinfo_whole(info, item, next);
            continue;
        }
        if (!cpu || cpu->index != item->index) {
            if (ncpus++ == CPUS_MAX) {
                break;
            }
            cpu = g_new0(GuestCpu, 1);
            cpu->index = item->index;
            QAPI_LIST_APPEND(tail, cpu);
        }
        cpu_item(cpu, &r, item);
    }
    return true;
}

/* ---- cpustat ---- */

static void stat_item(GuestCpuTimes *t, const struct rvmrpc_item *item)
{
    switch (item->key) {
    case RVMRPC_STAT_USER:
        t->has_user = is_u64(item);
        t->user = item->value;
        break;
    case RVMRPC_STAT_SYSTEM:
        t->has_system = is_u64(item);
        t->system = item->value;
        break;
    case RVMRPC_STAT_IDLE:
        t->has_idle = is_u64(item);
        t->idle = item->value;
        break;
    case RVMRPC_STAT_IOWAIT:
        t->has_iowait = is_u64(item);
        t->iowait = item->value;
        break;
    case RVMRPC_STAT_STEAL:
        t->has_steal = is_u64(item);
        t->steal = item->value;
        break;
    }
}

bool rvmrpc_add_cpustat(void *to, const RvmrpcCall *call, uint32_t *next,
                        Error **errp)
{
    GuestCpustat *info = to;
    GuestCpuStatList **tail;
    GuestCpuStat *cpu = NULL;
    InfoReader r;
    int ncpus = 0;

    if (!info_open(&r, call, errp)) {
        return false;
    }
    info->os = connected_os();
    for (tail = &info->cpus; *tail; tail = &(*tail)->next) {
        ncpus++;
    }
    for (uint32_t i = 0; i < r.nitems; i++) {
        const struct rvmrpc_item *item = &r.items[i];

        if (item->index == RVMRPC_INDEX_ALL) {
            if (item->key == RVMRPC_STAT_NEXT && is_u64(item)) {
                *next = MIN(item->value, CPUS_MAX);
            }
            stat_item(info->total, item);
            continue;
        }
        if (!cpu || cpu->index != item->index) {
            if (ncpus++ == CPUS_MAX) {
                break;
            }
            cpu = g_new0(GuestCpuStat, 1);
            cpu->index = item->index;
            QAPI_LIST_APPEND(tail, cpu);
        }
        stat_item(qapi_GuestCpuStat_base(cpu), item);
    }
    return true;
}

/* ---- osinfo ---- */

static void osinfo_u64(GuestKernelOsinfo *info, const struct rvmrpc_item *item)
{
    switch (item->key) {
    case RVMRPC_OSINFO_UPTIME_NS:
        info->has_uptime_ns = true;
        info->uptime_ns = item->value;
        break;
    case RVMRPC_OSINFO_BOOT_TIME:
        info->has_boot_time = true;
        info->boot_time = item->value;
        break;
    case RVMRPC_OSINFO_PAGE_SIZE:
        info->has_page_size = true;
        info->page_size = item->value;
        break;
    case RVMRPC_OSINFO_CPUS:
        info->has_cpus = true;
        info->cpus = item->value;
        break;
    }
}

static void osinfo_string(GuestKernelOsinfo *info, const InfoReader *r,
                          const struct rvmrpc_item *item)
{
    char **const members[] = {
        [RVMRPC_OSINFO_SYSNAME] = &info->sysname,
        [RVMRPC_OSINFO_RELEASE] = &info->release,
        [RVMRPC_OSINFO_VERSION] = &info->version,
        [RVMRPC_OSINFO_MACHINE] = &info->machine,
        [RVMRPC_OSINFO_HOSTNAME] = &info->hostname,
    };

    if (item->key < ARRAY_SIZE(members) && members[item->key]) {
        set_string(members[item->key], r, item);
    }
}

GuestKernelOsinfo *rvmrpc_decode_osinfo(const RvmrpcCall *call, Error **errp)
{
    GuestKernelOsinfo *info;
    InfoReader r;

    if (!info_open(&r, call, errp)) {
        return NULL;
    }
    info = g_new0(GuestKernelOsinfo, 1);
    info->os = connected_os();
    for (uint32_t i = 0; i < r.nitems; i++) {
        if (is_u64(&r.items[i])) {
            osinfo_u64(info, &r.items[i]);
        } else {
            osinfo_string(info, &r, &r.items[i]);
        }
    }
    return info;
}
