/*
 * librvmrpc: calls into the kernels of this host's guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Find a VM, connect, call:
 *
 *     g_autoptr(RvmrpcVm) vm = rvmrpc_find_vm("web1", NULL, &error);
 *     g_autoptr(RvmrpcConn) conn = rvmrpc_connect(vm, 1000, NULL, &error);
 *     g_autoptr(RvmrpcMeminfo) mem = rvmrpc_get_meminfo(conn, FALSE, 1000,
 *                                                       NULL, &error);
 *
 * Every call takes a timeout and a #GCancellable and costs no more time than
 * that, whatever the VM does.  A connection serves one call at a time and may
 * be used by several threads; to call at the same time, connect several times.
 * What a guest answers is checked before it is used; text of a guest is UTF-8
 * and otherwise as the guest sent it: see rvmrpc_escape().
 */
#ifndef RVMRPC_H
#define RVMRPC_H

#include <gio/gio.h>

G_BEGIN_DECLS

/* ---- Errors ---- */

#define RVMRPC_ERROR (rvmrpc_error_quark())
GQuark rvmrpc_error_quark(void);

/**
 * RvmrpcError:
 *
 * Codes of #RVMRPC_ERROR. Those below 100 are the status that the guest, or
 * the host on its behalf, gave to a call. A cancelled #GCancellable is
 * %G_IO_ERROR_CANCELLED of #G_IO_ERROR.
 */
typedef enum {
    RVMRPC_ERROR_MODULE_UNAVAILABLE = 1,
    RVMRPC_ERROR_VERSION_MISMATCH,
    RVMRPC_ERROR_PROCEDURE_UNAVAILABLE,
    RVMRPC_ERROR_GARBAGE_ARGS,
    RVMRPC_ERROR_TOO_BIG,
    RVMRPC_ERROR_NOT_ALLOWED,
    RVMRPC_ERROR_BUSY,
    RVMRPC_ERROR_NOT_CONNECTED,
    RVMRPC_ERROR_STOPPED,
    RVMRPC_ERROR_TIMED_OUT,
    RVMRPC_ERROR_CANCELLED,
    RVMRPC_ERROR_RESET,
    RVMRPC_ERROR_SYSTEM_ERROR,
    RVMRPC_ERROR_NO_VM = 100,   /* no such VM, or several */
    RVMRPC_ERROR_NO_WAY,        /* the VM cannot be reached from here */
    RVMRPC_ERROR_PERMISSION,    /* not by this user */
    RVMRPC_ERROR_SILENT,        /* the VM's host side does not answer */
    RVMRPC_ERROR_MALFORMED,     /* what came is no answer */
    RVMRPC_ERROR_UNSUPPORTED,   /* not by this way */
} RvmrpcError;

/* ---- Virtual machines ---- */

typedef struct RvmrpcVm RvmrpcVm;

/**
 * rvmrpc_list_vms:
 *
 * Finds the VMs of this host that have the device: by QEMU's processes
 * (libvirt's domains among them), by the sockets in /run/rvmrpcd,
 * /run/rvmrpc and $XDG_RUNTIME_DIR/rvmrpc, and by /dev/rvmrpc. With $RVMRPC_PATH, folders
 * with colons between them: by the sockets there, and by nothing else.
 * Never touches a monitor; sockets are asked whose they are, all at a time and
 * for 0.3 s at most. VMs are those of root, of this user, and of the users in
 * $RVMRPC_USERS, names or numbers with colons between them (libvirt-qemu and
 * qemu without it): what other users' processes and sockets say is not heard.
 *
 * Returns: (element-type RvmrpcVm): the VMs, by name
 */
GPtrArray *rvmrpc_list_vms(void);

/**
 * rvmrpc_find_vm:
 * @what: name, UUID, process id, or path of a socket (ours or QMP's); what
 * begins with a slash or a dot and a slash is a path
 *
 * Names that no process shows are asked of libvirt.
 */
RvmrpcVm *rvmrpc_find_vm(const char *what, GCancellable *cancellable,
                         GError **error);

RvmrpcVm *rvmrpc_vm_ref(RvmrpcVm *vm);
void rvmrpc_vm_unref(RvmrpcVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcVm, rvmrpc_vm_unref)

/* A name to show: the VM's, else its socket's or its process'. */
const char *rvmrpc_vm_get_name(const RvmrpcVm *vm);
/* NULL: not known. */
const char *rvmrpc_vm_get_uuid(const RvmrpcVm *vm);
/* 0: not known. */
gint64 rvmrpc_vm_get_pid(const RvmrpcVm *vm);
/* Path of the socket, NULL without one. */
const char *rvmrpc_vm_get_socket(const RvmrpcVm *vm);

/* ---- Connections ---- */

typedef struct RvmrpcConn RvmrpcConn;

/**
 * rvmrpc_connect:
 *
 * Connects by the first way that works: the VM's socket, /dev/rvmrpc, its QMP
 * socket, libvirt. Nobody but the VM that was found is called: at the sockets
 * of a process this process must listen, and who answers must be of its name
 * and UUID.
 */
RvmrpcConn *rvmrpc_connect(RvmrpcVm *vm, guint timeout_ms,
                           GCancellable *cancellable, GError **error);
void rvmrpc_conn_free(RvmrpcConn *conn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcConn, rvmrpc_conn_free)

/* The way: "socket", "kernel", "qmp" or "libvirt". */
const char *rvmrpc_conn_get_way(const RvmrpcConn *conn);

/* ---- Calls ---- */

/**
 * rvmrpc_call:
 * @arg: (nullable): the argument
 * @elapsed_ns: (out) (optional): time that the host took for it
 *
 * Returns: the answer; NULL and @error unless the guest's status is OK
 */
GBytes *rvmrpc_call(RvmrpcConn *conn, guint32 module, guint32 procedure,
                    GBytes *arg, guint timeout_ms, guint64 *elapsed_ns,
                    GCancellable *cancellable, GError **error);

/**
 * rvmrpc_call_by_name:
 * @module, @procedure: names, or numbers as text (decimal, or 0x and hexadecimal)
 *
 * As rvmrpc_call(). A name is found in the guest's list and holds for the call:
 * if a module came or went meanwhile the guest runs nothing, and it is found
 * anew, once and in the same time; %RVMRPC_ERROR_VERSION_MISMATCH when the list
 * has changed again by then. Numbers that a program takes from
 * rvmrpc_list_modules() and keeps may be another module's by the time that it
 * calls them: keep names.
 */
GBytes *rvmrpc_call_by_name(RvmrpcConn *conn, const char *module,
                            const char *procedure, GBytes *arg,
                            guint timeout_ms, guint64 *elapsed_ns,
                            GCancellable *cancellable, GError **error);

/* ---- What can be called ---- */

typedef struct {
    guint32 number;
    char *name;
    gboolean read_only;
    gboolean may_sleep;
    gboolean allowed;
} RvmrpcProcedure;

typedef struct {
    guint32 number;
    guint version;
    char *name;
    GPtrArray *procedures;      /* of RvmrpcProcedure */
    guint32 generation;         /* of the list it is of; 0: the guest tells none */
} RvmrpcModule;

/* Asks the guest.  Returns: (element-type RvmrpcModule) */
GPtrArray *rvmrpc_list_modules(RvmrpcConn *conn, guint timeout_ms,
                               GCancellable *cancellable, GError **error);

/* ---- The state of the channel ---- */

#define RVMRPC_LATENCY_BUCKETS 32

typedef enum {
    RVMRPC_STATE_ABSENT,
    RVMRPC_STATE_DISCONNECTED,
    RVMRPC_STATE_CONNECTED,
    RVMRPC_STATE_SILENT,
} RvmrpcState;

const char *rvmrpc_state_name(RvmrpcState state);

typedef struct {
    RvmrpcState state;
    gboolean running;           /* the VM */
    char *os, *release, *proxy, *gate, *wait;   /* NULL: not known */
    guint64 epoch;
    guint64 last_seen_ms;
    guint64 slots;
    guint64 calls, completed, failed, refused, timed_out, cancelled, reset;
    guint64 late_replies, bad_replies, registrations, in_flight;
    guint64 hypercalls, doorbells, waits, interrupts;
    /* Answered calls by time: [0] below 1 us, [n] from 2^(n-1) to 2^n us. */
    guint64 latency[RVMRPC_LATENCY_BUCKETS];
    gboolean has_latency_sum;   /* not by /dev/rvmrpc */
    guint64 latency_sum_us;     /* of all of them */
} RvmrpcChannel;

/* Does not ask the guest. */
RvmrpcChannel *rvmrpc_query(RvmrpcConn *conn, guint timeout_ms,
                            GCancellable *cancellable, GError **error);
void rvmrpc_channel_free(RvmrpcChannel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcChannel, rvmrpc_channel_free)

/**
 * rvmrpc_next_event:
 *
 * Waits for a driver to register or to leave. By the socket and by QMP only.
 * The first call begins; what happened before is not told.
 *
 * Returns: the event as JSON, as QMP has it; NULL and %G_IO_ERROR_TIMED_OUT
 * when there was none
 */
char *rvmrpc_next_event(RvmrpcConn *conn, guint timeout_ms,
                        GCancellable *cancellable, GError **error);

/* ---- Facts of the guest's kernel ---- */

#define RVMRPC_MEM_KEYS 35

typedef struct {
    guint64 present;            /* bit k: value[k] is there */
    guint64 value[RVMRPC_MEM_KEYS];     /* bytes, by RVMRPC_MEM_* */
    char *raw;                  /* the guest's own text, or NULL */
} RvmrpcMeminfo;

/* Name of a key, as QMP has it; NULL for none. */
const char *rvmrpc_mem_key_name(guint key);
gboolean rvmrpc_meminfo_has(const RvmrpcMeminfo *mem, guint key);

typedef struct {
    double load[3];             /* of 1, 5 and 15 minutes */
    guint64 runnable, threads;
} RvmrpcLoadavg;

typedef struct {
    guint32 index;
    char *vendor, *model_name;  /* NULL: not known */
    guint64 family, model, stepping, hz, package, core;
} RvmrpcCpu;

typedef struct {
    guint64 online, present;
    GPtrArray *cpus;            /* of RvmrpcCpu */
} RvmrpcCpuinfo;

typedef struct {
    guint32 index;
    guint64 user, system, idle, iowait, steal;  /* ns since boot */
} RvmrpcCpuTimes;

typedef struct {
    RvmrpcCpuTimes total;
    GArray *cpus;               /* of RvmrpcCpuTimes */
} RvmrpcCpustat;

typedef struct {
    char *sysname, *release, *version, *machine, *hostname;
    guint64 uptime_ns, boot_time, page_size, cpus;
} RvmrpcOsinfo;

RvmrpcMeminfo *rvmrpc_get_meminfo(RvmrpcConn *conn, gboolean raw,
                                  guint timeout_ms, GCancellable *cancellable,
                                  GError **error);
RvmrpcLoadavg *rvmrpc_get_loadavg(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error);
RvmrpcCpuinfo *rvmrpc_get_cpuinfo(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error);
RvmrpcCpustat *rvmrpc_get_cpustat(RvmrpcConn *conn, guint timeout_ms,
                                  GCancellable *cancellable, GError **error);
RvmrpcOsinfo *rvmrpc_get_osinfo(RvmrpcConn *conn, guint timeout_ms,
                                GCancellable *cancellable, GError **error);

typedef enum {
    RVMRPC_DROP_MODE_PAGECACHE = 1,
    RVMRPC_DROP_MODE_SLAB,
    RVMRPC_DROP_MODE_ALL,
} RvmrpcDropMode;

/* @freed: bytes by which the guest's free memory grew. */
gboolean rvmrpc_drop_caches(RvmrpcConn *conn, RvmrpcDropMode mode,
                            gboolean sync, guint timeout_ms, guint64 *freed,
                            GCancellable *cancellable, GError **error);

/* Parsers of the answers; also for those who have them from elsewhere. */
RvmrpcMeminfo *rvmrpc_parse_meminfo(GBytes *answer, GError **error);
RvmrpcLoadavg *rvmrpc_parse_loadavg(GBytes *answer, GError **error);
RvmrpcCpuinfo *rvmrpc_parse_cpuinfo(GBytes *answer, GError **error);
RvmrpcCpustat *rvmrpc_parse_cpustat(GBytes *answer, GError **error);
RvmrpcOsinfo *rvmrpc_parse_osinfo(GBytes *answer, GError **error);

void rvmrpc_meminfo_free(RvmrpcMeminfo *info);
void rvmrpc_loadavg_free(RvmrpcLoadavg *info);
void rvmrpc_cpuinfo_free(RvmrpcCpuinfo *info);
void rvmrpc_cpustat_free(RvmrpcCpustat *info);
void rvmrpc_osinfo_free(RvmrpcOsinfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcMeminfo, rvmrpc_meminfo_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcLoadavg, rvmrpc_loadavg_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcCpuinfo, rvmrpc_cpuinfo_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcCpustat, rvmrpc_cpustat_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcOsinfo, rvmrpc_osinfo_free)

/**
 * rvmrpc_escape:
 * @multiline: newlines and tabs are kept
 *
 * Text of a guest, fit for a terminal: control characters and those that
 * reorder a line are written as \xNN or \u{NNNN}.
 */
char *rvmrpc_escape(const char *text, gboolean multiline);

G_END_DECLS

#endif
