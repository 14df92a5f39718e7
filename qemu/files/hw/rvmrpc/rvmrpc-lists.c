/*
 * Reverse VMRPC: QMP commands that answer with lists
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"
#include "qemu/coroutine.h"
#include "hw/rvmrpc/core/rvmrpc_text.h"
#include "rvmrpc-records.h"

/* Functions of one stack. */
#define STACK_MAX           64
/* There are four. */
#define RESOURCES_MAX       16
#define MESSAGES_DEFAULT    64

QEMU_BUILD_BUG_ON(GUEST_FILESYSTEM_SKIPPED__MAX != RVMRPC_FS_SKIPPED_FAILED);
QEMU_BUILD_BUG_ON(GUEST_KERNEL_LOG_LEVEL__MAX != 8);

static bool check_max(bool has_max, uint32_t max, Error **errp)
{
    if (has_max && (max < 1 || max > RVMRPC_RECORDS_MAX)) {
        error_setg(errp, "max must be between 1 and %d", RVMRPC_RECORDS_MAX);
        return false;
    }
    return true;
}

/* ---- guest-filesystems ---- */

#define FS(k, member)       { RVMRPC_OPTIONAL(k, GuestFilesystem, , member) }
#define FS_TEXT(member)     { RVMRPC_PLAIN(TEXT, GuestFilesystem, member) }

static const RvmrpcMember filesystem_members[] = {
    [RVMRPC_FS_TARGET] = FS_TEXT(mountpoint),
    [RVMRPC_FS_SOURCE] = FS_TEXT(source),
    [RVMRPC_FS_TYPE] = FS_TEXT(type),
    [RVMRPC_FS_ROOT] = FS_TEXT(root),
    [RVMRPC_FS_DEVICE] = {
        RVMRPC_OPTIONAL(DEVICE, GuestFilesystem, , device_major),
        .has2 = offsetof(GuestFilesystem, has_device_minor),
        .value2 = offsetof(GuestFilesystem, device_minor),
    },
    [RVMRPC_FS_READ_ONLY] = FS(BOOL, read_only),
    [RVMRPC_FS_SKIPPED] = {
        RVMRPC_OPTIONAL(ENUM, GuestFilesystem, , skipped),
        .base = RVMRPC_FS_SKIPPED_REMOTE,
        .names = &GuestFilesystemSkipped_lookup,
    },
    [RVMRPC_FS_SIZE] = FS(NUMBER, size),
    [RVMRPC_FS_FREE] = FS(NUMBER, free),
    [RVMRPC_FS_AVAILABLE] = FS(NUMBER, available),
    [RVMRPC_FS_FILES] = FS(NUMBER, inodes),
    [RVMRPC_FS_FILES_FREE] = FS(NUMBER, inodes_free),
    [RVMRPC_FS_CACHED] = FS(BOOL, cached),
};

static bool add_filesystem(void *to, struct rvmrpc_reader *r)
{
    GuestFilesystemList ***tail = to;
    GuestFilesystem *fs;

    if (r->kind != RVMRPC_RECORD_FILESYSTEM) {
        return true;
    }
    fs = g_new0(GuestFilesystem, 1);
    QAPI_LIST_APPEND(*tail, fs);
    return rvmrpc_members_set(fs, filesystem_members,
                              ARRAY_SIZE(filesystem_members), r) &
           BIT(RVMRPC_FS_TARGET);
}

GuestFilesystems *coroutine_fn
qmp_guest_filesystems(bool has_timeout, uint32_t timeout, Error **errp)
{
    g_autoptr(GuestFilesystems) info = g_new0(GuestFilesystems, 1);
    GuestFilesystemList **tail = &info->filesystems;
    RvmrpcListing l = {
        .module = RVMRPC_MOD_FS,
        .procedure = RVMRPC_FS_LIST,
        .max = RVMRPC_RECORDS_MAX,
        .add = add_filesystem,
        .to = &tail,
    };
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !rvmrpc_records_get(&l, &d, qapi_GuestFilesystems_base(info), errp)) {
        return NULL;
    }
    return g_steal_pointer(&info);
}

/* ---- guest-interfaces ---- */

#define NET(k, member)      { RVMRPC_OPTIONAL(k, GuestInterface, , member) }

static const RvmrpcMember interface_members[] = {
    [RVMRPC_NET_INDEX] = NET(NUMBER, index),
    [RVMRPC_NET_NAME] = { RVMRPC_PLAIN(TEXT, GuestInterface, name) },
    [RVMRPC_NET_MAC] = { RVMRPC_PLAIN(MAC, GuestInterface, mac) },
    [RVMRPC_NET_MTU] = NET(NUMBER, mtu),
    [RVMRPC_NET_UP] = NET(BOOL, up),
    [RVMRPC_NET_STATE] = {
        RVMRPC_OPTIONAL(NAMED, GuestInterface, , state),
        .names = &GuestInterfaceState_lookup,
    },
    [RVMRPC_NET_LOOPBACK] = { RVMRPC_PLAIN(BOOL, GuestInterface, loopback) },
    [RVMRPC_NET_RX_BYTES] = NET(NUMBER, rx_bytes),
    [RVMRPC_NET_RX_PACKETS] = NET(NUMBER, rx_packets),
    [RVMRPC_NET_RX_ERRORS] = NET(NUMBER, rx_errors),
    [RVMRPC_NET_RX_DROPPED] = NET(NUMBER, rx_dropped),
    [RVMRPC_NET_TX_BYTES] = NET(NUMBER, tx_bytes),
    [RVMRPC_NET_TX_PACKETS] = NET(NUMBER, tx_packets),
    [RVMRPC_NET_TX_ERRORS] = NET(NUMBER, tx_errors),
    [RVMRPC_NET_TX_DROPPED] = NET(NUMBER, tx_dropped),
};

typedef struct Address {
    uint64_t interface;
    GuestInterfaceAddress *address;
} Address;

#define ADDRESS(k, member)  { RVMRPC_OPTIONAL(k, GuestInterfaceAddress, , \
                                              member) }

static const RvmrpcMember address_members[] = {
    [RVMRPC_ADDRESS_BYTES] = {
        RVMRPC_PLAIN(ADDRESS, GuestInterfaceAddress, address),
    },
    [RVMRPC_ADDRESS_PREFIX] = ADDRESS(NUMBER, prefix),
    [RVMRPC_ADDRESS_SCOPE] = {
        RVMRPC_OPTIONAL(NAMED, GuestInterfaceAddress, , scope),
        .names = &GuestAddressScope_lookup,
    },
};

typedef struct Interfaces {
    GuestInterfaceList **tail;
    GuestInterface *last;       /* NULL: none came yet */
    GuestInterfaceAddressList **addresses;
} Interfaces;

/* One of a family that we do not know, or of no interface, is left out. */
static void add_address(Interfaces *all, struct rvmrpc_reader *r)
{
    g_autoptr(GuestInterfaceAddress) a = g_new0(GuestInterfaceAddress, 1);
    bool ours = false;

    while (rvmrpc_reader_field(r)) {
        if (r->key == RVMRPC_ADDRESS_INTERFACE) {
            ours = r->type == RVMRPC_FIELD_U64 && all->last &&
                   all->last->has_index && all->last->index == r->u64;
        } else {
            rvmrpc_member_set(a, address_members, ARRAY_SIZE(address_members),
                              r);
        }
    }
    if (ours && a->address) {
        QAPI_LIST_APPEND(all->addresses, g_steal_pointer(&a));
    }
}

/* An interface is followed by its addresses. */
static bool add_interface(void *to, struct rvmrpc_reader *r)
{
    Interfaces *all = to;

    if (r->kind == RVMRPC_RECORD_ADDRESS) {
        add_address(all, r);
    }
    if (r->kind != RVMRPC_RECORD_INTERFACE) {
        return true;
    }
    all->last = g_new0(GuestInterface, 1);
    all->addresses = &all->last->addresses;
    QAPI_LIST_APPEND(all->tail, all->last);
    return rvmrpc_members_set(all->last, interface_members,
                              ARRAY_SIZE(interface_members), r) &
           BIT(RVMRPC_NET_NAME);
}

GuestInterfaces *coroutine_fn
qmp_guest_interfaces(bool has_timeout, uint32_t timeout, Error **errp)
{
    g_autoptr(GuestInterfaces) info = g_new0(GuestInterfaces, 1);
    Interfaces all = { .tail = &info->interfaces };
    RvmrpcListing l = {
        .module = RVMRPC_MOD_NET,
        .procedure = RVMRPC_NET_LIST,
        .max = RVMRPC_RECORDS_MAX,
        .add = add_interface,
        .to = &all,
    };
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !rvmrpc_records_get(&l, &d, qapi_GuestInterfaces_base(info), errp)) {
        return NULL;
    }
    return g_steal_pointer(&info);
}

/* ---- guest-pressure ---- */

typedef struct Psi {
    char *resource;
    GuestPsiTimes some, full;
} Psi;

#define PSI(k, pre, member) { RVMRPC_OPTIONAL(k, Psi, pre, member) }

static const RvmrpcMember psi_members[] = {
    [RVMRPC_PSI_RESOURCE] = { RVMRPC_PLAIN(TEXT, Psi, resource) },
    [RVMRPC_PSI_SOME_AVG10] = PSI(PERCENT, some., avg10),
    [RVMRPC_PSI_SOME_AVG60] = PSI(PERCENT, some., avg60),
    [RVMRPC_PSI_SOME_AVG300] = PSI(PERCENT, some., avg300),
    [RVMRPC_PSI_SOME_TOTAL] = PSI(NUMBER, some., total_ns),
    [RVMRPC_PSI_FULL_AVG10] = PSI(PERCENT, full., avg10),
    [RVMRPC_PSI_FULL_AVG60] = PSI(PERCENT, full., avg60),
    [RVMRPC_PSI_FULL_AVG300] = PSI(PERCENT, full., avg300),
    [RVMRPC_PSI_FULL_TOTAL] = PSI(NUMBER, full., total_ns),
};

#define PSI_FULL_KEYS   (BIT(RVMRPC_PSI_FULL_AVG10) |   \
                         BIT(RVMRPC_PSI_FULL_AVG60) |   \
                         BIT(RVMRPC_PSI_FULL_AVG300) |  \
                         BIT(RVMRPC_PSI_FULL_TOTAL))

/* The member for a resource; NULL: we do not know it. */
static GuestPsi **resource_member(GuestPressure *info, const char *resource)
{
    const struct {
        const char *name;
        GuestPsi **member;
    } members[] = {
        { "cpu", &info->cpu }, { "memory", &info->memory },
        { "io", &info->io }, { "irq", &info->irq },
    };

    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        if (!g_strcmp0(resource, members[i].name)) {
            return members[i].member;
        }
    }
    return NULL;
}

static bool add_psi(void *to, struct rvmrpc_reader *r)
{
    g_autofree char *resource = NULL;
    GuestPsi **member;
    Psi psi = { };
    uint32_t seen;

    if (r->kind != RVMRPC_RECORD_PSI) {
        return true;
    }
    seen = rvmrpc_members_set(&psi, psi_members, ARRAY_SIZE(psi_members), r);
    resource = psi.resource;
    member = resource_member(to, resource);
    if (member) {
        qapi_free_GuestPsi(*member);
        *member = g_new0(GuestPsi, 1);
        (*member)->some = g_memdup2(&psi.some, sizeof(psi.some));
        if (seen & PSI_FULL_KEYS) {
            (*member)->full = g_memdup2(&psi.full, sizeof(psi.full));
        }
    }
    return resource;
}

#define VMSTAT(k, member)   { RVMRPC_OPTIONAL(k, GuestVmstat, , member) }

static const RvmrpcMember vmstat_members[] = {
    [RVMRPC_VMSTAT_PAGE_SIZE] = VMSTAT(NUMBER, page_size),
    [RVMRPC_VMSTAT_FAULTS] = VMSTAT(NUMBER, faults),
    [RVMRPC_VMSTAT_MAJOR_FAULTS] = VMSTAT(NUMBER, major_faults),
    [RVMRPC_VMSTAT_IN] = VMSTAT(KIB, in_bytes),
    [RVMRPC_VMSTAT_OUT] = VMSTAT(KIB, out_bytes),
    [RVMRPC_VMSTAT_SWAP_IN] = VMSTAT(NUMBER, swap_in),
    [RVMRPC_VMSTAT_SWAP_OUT] = VMSTAT(NUMBER, swap_out),
    [RVMRPC_VMSTAT_SCAN_BACKGROUND] = VMSTAT(NUMBER, scan_background),
    [RVMRPC_VMSTAT_SCAN_DIRECT] = VMSTAT(NUMBER, scan_direct),
    [RVMRPC_VMSTAT_STEAL_BACKGROUND] = VMSTAT(NUMBER, steal_background),
    [RVMRPC_VMSTAT_STEAL_DIRECT] = VMSTAT(NUMBER, steal_direct),
    [RVMRPC_VMSTAT_REFAULT_ANON] = VMSTAT(NUMBER, refault_anonymous),
    [RVMRPC_VMSTAT_REFAULT_FILE] = VMSTAT(NUMBER, refault_file),
    [RVMRPC_VMSTAT_STALLS] = VMSTAT(NUMBER, stalls),
    [RVMRPC_VMSTAT_OOM_KILLS] = VMSTAT(NUMBER, oom_kills),
};

static bool add_vmstat(void *to, struct rvmrpc_reader *r)
{
    GuestPressure *info = to;

    if (r->kind == RVMRPC_RECORD_VMSTAT && !info->vmstat) {
        info->vmstat = g_new0(GuestVmstat, 1);
        rvmrpc_members_set(info->vmstat, vmstat_members,
                           ARRAY_SIZE(vmstat_members), r);
    }
    return true;
}

#define DISK(k, member)     { RVMRPC_OPTIONAL(k, GuestDisk, , member) }

static const RvmrpcMember disk_members[] = {
    [RVMRPC_DISK_NAME] = { RVMRPC_PLAIN(TEXT, GuestDisk, name) },
    [RVMRPC_DISK_DEVICE] = {
        RVMRPC_OPTIONAL(DEVICE, GuestDisk, , device_major),
        .has2 = offsetof(GuestDisk, has_device_minor),
        .value2 = offsetof(GuestDisk, device_minor),
    },
    [RVMRPC_DISK_READS] = DISK(NUMBER, reads),
    [RVMRPC_DISK_READS_MERGED] = DISK(NUMBER, reads_merged),
    [RVMRPC_DISK_READ_BYTES] = DISK(NUMBER, read_bytes),
    [RVMRPC_DISK_READ_NS] = DISK(NUMBER, read_ns),
    [RVMRPC_DISK_WRITES] = DISK(NUMBER, writes),
    [RVMRPC_DISK_WRITES_MERGED] = DISK(NUMBER, writes_merged),
    [RVMRPC_DISK_WRITE_BYTES] = DISK(NUMBER, write_bytes),
    [RVMRPC_DISK_WRITE_NS] = DISK(NUMBER, write_ns),
    [RVMRPC_DISK_IN_FLIGHT] = DISK(NUMBER, in_flight),
    [RVMRPC_DISK_BUSY_NS] = DISK(NUMBER, busy_ns),
    [RVMRPC_DISK_QUEUE_NS] = DISK(NUMBER, queue_ns),
    [RVMRPC_DISK_DISCARDS] = DISK(NUMBER, discards),
    [RVMRPC_DISK_DISCARDS_MERGED] = DISK(NUMBER, discards_merged),
    [RVMRPC_DISK_DISCARD_BYTES] = DISK(NUMBER, discard_bytes),
    [RVMRPC_DISK_DISCARD_NS] = DISK(NUMBER, discard_ns),
    [RVMRPC_DISK_FLUSHES] = DISK(NUMBER, flushes),
    [RVMRPC_DISK_FLUSH_NS] = DISK(NUMBER, flush_ns),
};

static bool add_disk(void *to, struct rvmrpc_reader *r)
{
    GuestDiskList ***tail = to;
    GuestDisk *disk;

    if (r->kind != RVMRPC_RECORD_DISK) {
        return true;
    }
    disk = g_new0(GuestDisk, 1);
    QAPI_LIST_APPEND(*tail, disk);
    return rvmrpc_members_set(disk, disk_members, ARRAY_SIZE(disk_members),
                              r) & BIT(RVMRPC_DISK_NAME);
}

/* A guest that hangs, or refuses one of them, may well tell the others. */
static bool coroutine_fn get_pressure(GuestPressure *info,
                                      const RvmrpcDeadline *d, Error **errp)
{
    GuestDiskList **tail = &info->disks;
    RvmrpcListing lists[] = {
        { .procedure = RVMRPC_PRESSURE_PSI, .max = RESOURCES_MAX,
          .add = add_psi, .to = info },
        { .procedure = RVMRPC_PRESSURE_VMSTAT, .max = 1, .add = add_vmstat,
          .to = info },
        { .procedure = RVMRPC_PRESSURE_DISKS, .max = RVMRPC_RECORDS_MAX,
          .add = add_disk, .to = &tail },
    };
    GuestListInfo *told = qapi_GuestPressure_base(info);
    uint32_t pages = 0;

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        RvmrpcListing *l = &lists[i];
        uint32_t status;

        l->module = RVMRPC_MOD_PRESSURE;
        status = rvmrpc_records_fetch(l, d);
        if (l->malformed) {
            rvmrpc_malformed_error(errp);
            return false;
        }
        rvmrpc_records_tell(l, status, told);
        pages += l->pages;
        if (status == RVMRPC_STATUS_CANCELLED) {
            break;              /* nobody waits any more */
        }
    }
    if (!pages) {
        rvmrpc_status_error(told->cut, errp);
        return false;
    }
    return true;
}

GuestPressure *coroutine_fn qmp_guest_pressure(bool has_timeout,
                                               uint32_t timeout, Error **errp)
{
    g_autoptr(GuestPressure) info = g_new0(GuestPressure, 1);
    RvmrpcDeadline d;

    return rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) &&
           get_pressure(info, &d, errp) ? g_steal_pointer(&info) : NULL;
}

/* ---- guest-tasks ---- */

#define TASK(k, member)     { RVMRPC_OPTIONAL(k, GuestTask, , member) }
#define TASK_PLAIN(k, member) { RVMRPC_PLAIN(k, GuestTask, member) }

static const RvmrpcMember task_members[] = {
    [RVMRPC_TASK_PID] = TASK_PLAIN(NUMBER, pid),
    [RVMRPC_TASK_THREAD] = TASK(NUMBER, thread),
    [RVMRPC_TASK_NAME] = TASK_PLAIN(TEXT, name),
    [RVMRPC_TASK_STATE] = TASK_PLAIN(TEXT, state),
    [RVMRPC_TASK_PARENT] = TASK(NUMBER, parent),
    [RVMRPC_TASK_UID] = TASK(NUMBER, uid),
    [RVMRPC_TASK_KERNEL] = TASK_PLAIN(BOOL, kernel),
    [RVMRPC_TASK_THREADS] = TASK(NUMBER, threads),
    [RVMRPC_TASK_RSS] = TASK(NUMBER, rss),
    [RVMRPC_TASK_CPU_NS] = TASK(NUMBER, cpu_ns),
    [RVMRPC_TASK_STARTED_NS] = TASK(NUMBER, started_ns),
    [RVMRPC_TASK_WAIT] = TASK_PLAIN(TEXT, wait),
    [RVMRPC_TASK_FROZEN] = TASK_PLAIN(BOOL, frozen),
};

static bool add_task(void *to, struct rvmrpc_reader *r)
{
    GuestTaskList ***tail = to;
    GuestTask *task;
    strList **function;
    bool has_pid = false;
    int depth = 0;

    if (r->kind != RVMRPC_RECORD_TASK) {
        return true;
    }
    task = g_new0(GuestTask, 1);
    QAPI_LIST_APPEND(*tail, task);
    function = &task->stack;
    while (rvmrpc_reader_field(r)) {
        if (r->key != RVMRPC_TASK_STACK) {
            has_pid |= rvmrpc_member_set(task, task_members,
                                         ARRAY_SIZE(task_members), r) &&
                       r->key == RVMRPC_TASK_PID;
        } else if (r->type == RVMRPC_FIELD_STRING && depth++ < STACK_MAX) {
            task->has_stack = true;
            QAPI_LIST_APPEND(function, rvmrpc_text((const char *)r->value,
                                                   r->length));
        }
    }
    return has_pid;
}

GuestTasks *coroutine_fn
qmp_guest_tasks(bool has_select, GuestTaskSelect select, bool has_max,
                uint32_t max, bool has_timeout, uint32_t timeout, Error **errp)
{
    static const struct {
        uint32_t procedure, select;
    } how[] = {
        [GUEST_TASK_SELECT_ALL] = { RVMRPC_TASKS_LIST, RVMRPC_TASKS_BY_PID },
        [GUEST_TASK_SELECT_MEMORY] = { RVMRPC_TASKS_LIST,
                                       RVMRPC_TASKS_BY_MEMORY },
        [GUEST_TASK_SELECT_CPU] = { RVMRPC_TASKS_LIST, RVMRPC_TASKS_BY_CPU },
        [GUEST_TASK_SELECT_BLOCKED] = { RVMRPC_TASKS_BLOCKED, 0 },
    };
    g_autoptr(GuestTasks) info = g_new0(GuestTasks, 1);
    GuestTaskList **tail = &info->tasks;
    RvmrpcListing l = {
        .module = RVMRPC_MOD_TASKS,
        .procedure = how[has_select ? select : 0].procedure,
        .select = how[has_select ? select : 0].select,
        .max = has_max ? max : RVMRPC_RECORDS_MAX,
        .add = add_task,
        .to = &tail,
    };
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !check_max(has_max, max, errp) ||
        !rvmrpc_records_get(&l, &d, qapi_GuestTasks_base(info), errp)) {
        return NULL;
    }
    return g_steal_pointer(&info);
}

/* ---- guest-kernel-log ---- */

#define LOG(k, member)      { RVMRPC_OPTIONAL(k, GuestKernelMessage, , member) }
#define LOG_PLAIN(k, member) { RVMRPC_PLAIN(k, GuestKernelMessage, member) }

static const RvmrpcMember message_members[] = {
    [RVMRPC_LOG_SEQ] = LOG_PLAIN(NUMBER, seq),
    [RVMRPC_LOG_LEVEL] = {
        RVMRPC_OPTIONAL(ENUM, GuestKernelMessage, , level),
        .names = &GuestKernelLogLevel_lookup,
    },
    [RVMRPC_LOG_FACILITY] = LOG(NUMBER, facility),
    [RVMRPC_LOG_TIME_NS] = LOG(NUMBER, time_ns),
    [RVMRPC_LOG_TEXT] = LOG_PLAIN(TEXT, text),
};

static bool add_message(void *to, struct rvmrpc_reader *r)
{
    const uint32_t needed = BIT(RVMRPC_LOG_SEQ) | BIT(RVMRPC_LOG_TEXT);
    GuestKernelMessageList ***tail = to;
    GuestKernelMessage *message;

    if (r->kind != RVMRPC_RECORD_LOG) {
        return true;
    }
    message = g_new0(GuestKernelMessage, 1);
    QAPI_LIST_APPEND(*tail, message);
    return (rvmrpc_members_set(message, message_members,
                               ARRAY_SIZE(message_members), r) & needed) ==
           needed;
}

GuestKernelLog *coroutine_fn
qmp_guest_kernel_log(bool has_since, uint64_t since, bool has_max,
                     uint32_t max, bool has_timeout, uint32_t timeout,
                     Error **errp)
{
    g_autoptr(GuestKernelLog) info = g_new0(GuestKernelLog, 1);
    GuestKernelMessageList **tail = &info->messages;
    RvmrpcListing l = {
        .module = RVMRPC_MOD_KLOG,
        .procedure = RVMRPC_KLOG_READ,
        .select = has_since ? RVMRPC_KLOG_FROM : RVMRPC_KLOG_LAST,
        .cursor = has_since ? since : 0,
        .max = has_max ? max :
               has_since ? RVMRPC_RECORDS_MAX : MESSAGES_DEFAULT,
        .add = add_message,
        .to = &tail,
    };
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !check_max(has_max, max, errp) ||
        !rvmrpc_records_get(&l, &d, qapi_GuestKernelLog_base(info), errp)) {
        return NULL;
    }
    info->next = l.next;
    return g_steal_pointer(&info);
}
