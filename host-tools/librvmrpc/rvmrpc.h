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
 * Names that no process shows are asked of libvirt: %RVMRPC_ERROR_SILENT when it
 * does not answer within 3 s.
 */
RvmrpcVm *rvmrpc_find_vm(const char *what, GCancellable *cancellable,
                         GError **error);

/* Whether @what is its name, UUID, process id, or the path of its socket. */
gboolean rvmrpc_vm_is(const RvmrpcVm *vm, const char *what);

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
    guint64 events, events_lost, events_dropped;
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
 * Waits for a driver to register or to leave, and for what the guest's kernel
 * tells by itself (GUEST_KERNEL_EVENT). By the socket and by QMP only.
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

/* ---- Lists of records ---- */

/**
 * RvmrpcRecords:
 *
 * A list that a guest's kernel told, by one call or several. Numbers of
 * modules, procedures, kinds and keys are those of rvmrpc_abi.h; what they mean
 * is in docs/spec.md, section 6. What a list tells is not of one moment.
 */
typedef struct RvmrpcRecords RvmrpcRecords;
/* A part of its list, and gone with it. */
typedef struct RvmrpcRecord RvmrpcRecord;

typedef struct {
    guint32 module, procedure;
    guint32 select;             /* the procedure's own; 0: the usual */
    guint64 cursor;             /* 0: from the beginning */
    guint max;                  /* most records in all; 0: as many as there are */
    gsize enough;               /* bytes after which no more is asked for; 0: never */
    const char *path;           /* of files.*; else NULL */
} RvmrpcListing;

/**
 * rvmrpc_get_records:
 * @timeout_ms: for all of it, whatever number of answers that takes
 *
 * Asks until the list ends, or @max records or @enough bytes are there. A guest
 * that sends in circles, without end, or more than 32 MiB is malformed.
 *
 * When the time is over, or a call fails, after some answers, what came by then
 * is returned, and rvmrpc_records_get_cut() says why there is no more.
 *
 * Returns: NULL and @error when nothing came, when an answer was malformed, and
 * when @cancellable was cancelled
 */
RvmrpcRecords *rvmrpc_get_records(RvmrpcConn *conn, const RvmrpcListing *what,
                                  guint timeout_ms, GCancellable *cancellable,
                                  GError **error);
/* One answer; also for those who have it from elsewhere. */
RvmrpcRecords *rvmrpc_parse_records(GBytes *answer, GError **error);
void rvmrpc_records_free(RvmrpcRecords *records);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcRecords, rvmrpc_records_free)

guint rvmrpc_records_get_count(const RvmrpcRecords *records);
/* @i: below the count. */
const RvmrpcRecord *rvmrpc_records_get(const RvmrpcRecords *records, guint i);
/* The guest could not look at everything: what is not here may be there. */
gboolean rvmrpc_records_is_partial(const RvmrpcRecords *records);
/* There are more than the caller wanted, or came by the end of the time. */
gboolean rvmrpc_records_has_more(const RvmrpcRecords *records);
/* Why the list ends before its end; NULL: it does not. */
const GError *rvmrpc_records_get_cut(const RvmrpcRecords *records);
/* The cursor of the rest, or of what comes later; 0: the guest tells none. */
guint64 rvmrpc_records_get_next(const RvmrpcRecords *records);

guint rvmrpc_record_get_kind(const RvmrpcRecord *record);
/*
 * The first value of a key. FALSE or NULL: the guest does not tell it, or not
 * by that type, and @value is as it was. To be freed.
 */
gboolean rvmrpc_record_get_u64(const RvmrpcRecord *record, guint key,
                               guint64 *value);
char *rvmrpc_record_get_string(const RvmrpcRecord *record, guint key);
GBytes *rvmrpc_record_get_bytes(const RvmrpcRecord *record, guint key);
/* All strings of a key, NULL at the end; for g_strfreev(). */
char **rvmrpc_record_get_strings(const RvmrpcRecord *record, guint key);

/* ---- The guest's files ---- */

/**
 * rvmrpc_get_files:
 * @procedure: RVMRPC_FILES_STAT, _LIST or _STATFS
 * @path: absolute, in the guest
 * @select: of stat, RVMRPC_FILES_*; else 0
 *
 * As rvmrpc_get_records(). What the guest says of the path itself is a
 * #GIOErrorEnum: NOT_FOUND, NOT_DIRECTORY, NOT_REGULAR_FILE, TOO_MANY_LINKS,
 * FILENAME_TOO_LONG, PERMISSION_DENIED or FAILED; of a change also EXISTS,
 * NOT_EMPTY, IS_DIRECTORY, NO_SPACE, READ_ONLY, MESSAGE_TOO_LARGE (a file for its
 * file system) or WOULD_RECURSE (from one mount to another). Names in records are
 * bytes.
 */
RvmrpcRecords *rvmrpc_get_files(RvmrpcConn *conn, guint32 procedure,
                                const char *path, guint32 select,
                                guint timeout_ms, GCancellable *cancellable,
                                GError **error);

/* A file's bytes are of one moment while this does not change. */
typedef struct {
    guint64 size;               /* bytes */
    guint64 inode;
    guint64 modified_ns;        /* since 1970 */
} RvmrpcFileVersion;

/**
 * rvmrpc_read_file:
 * @length: most bytes; fewer come if no more fit into one answer
 * @version: (out): of the file as it was opened for this
 *
 * Errors as of rvmrpc_get_files(). Returns: the bytes from @offset on, none
 * behind the file's end
 */
GBytes *rvmrpc_read_file(RvmrpcConn *conn, const char *path, guint64 offset,
                         guint32 length, RvmrpcFileVersion *version,
                         guint timeout_ms, GCancellable *cancellable,
                         GError **error);

/* ---- Several calls at a time ---- */

/**
 * RvmrpcCalls:
 *
 * Calls by one connection that do not wait for each other, from a main loop:
 * they begin in the order of their submission, and end in any. For one thread,
 * that of the loop.
 */
typedef struct RvmrpcCalls RvmrpcCalls;

/* @answer: NULL and @error unless the guest's status is OK; both are the caller's. */
typedef void RvmrpcCallDone(GBytes *answer, const GError *error, gpointer data);

/**
 * rvmrpc_calls_new:
 * @conn: (transfer full): by the socket, else %RVMRPC_ERROR_UNSUPPORTED; freed
 * with the calls, or here
 * @context: (nullable): NULL: the thread's own
 */
RvmrpcCalls *rvmrpc_calls_new(RvmrpcConn *conn, GMainContext *context,
                              GError **error);
/**
 * rvmrpc_calls_submit:
 * @done: called once, from the loop or by rvmrpc_calls_free()
 *
 * When the connection has ended all calls fail, also those that come later: with
 * %RVMRPC_ERROR_NO_WAY, _SILENT or _MALFORMED.
 */
void rvmrpc_calls_submit(RvmrpcCalls *calls, guint32 module, guint32 procedure,
                         GBytes *arg, guint timeout_ms, RvmrpcCallDone *done,
                         gpointer data);
/* Its connection has ended. */
gboolean rvmrpc_calls_is_broken(const RvmrpcCalls *calls);
/* Its calls end with %RVMRPC_ERROR_CANCELLED.  Also from within a callback. */
void rvmrpc_calls_free(RvmrpcCalls *calls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcCalls, rvmrpc_calls_free)

/* ---- What a guest can reach ---- */

/* An address and a port, as the guest sees them. */
typedef struct {
    guint8 address[16];         /* IPv6; or ::ffff:a.b.c.d for IPv4 */
    guint32 scope;              /* of a link-local one: the guest's interface's index */
    guint16 port;
} RvmrpcEndpoint;

/**
 * rvmrpc_parse_endpoint:
 * @text: "ADDRESS:PORT", IPv6 in brackets, with "%INDEX" when it is link-local;
 * "localhost" is 127.0.0.1. Other names are nobody's to resolve here.
 */
gboolean rvmrpc_parse_endpoint(const char *text, RvmrpcEndpoint *endpoint,
                               GError **error);
/* To be freed. */
char *rvmrpc_endpoint_text(const RvmrpcEndpoint *endpoint);

/**
 * RvmrpcTunnel:
 *
 * TCP connections from within a guest, joined with files of this process; from
 * a main loop, for its thread. They end with the guest's registration, and when
 * this process stands still for longer than the guest's connect_lease.
 */
typedef struct RvmrpcTunnel RvmrpcTunnel;

/* NULL: as of rvmrpc_calls_new().  @vm: as of rvmrpc_find_vm(). */
RvmrpcTunnel *rvmrpc_tunnel_new(const char *vm, GMainContext *context);

/* Whether the guest lets its host connect to there; waits. */
gboolean rvmrpc_tunnel_check(RvmrpcTunnel *tunnel, const RvmrpcEndpoint *to,
                             guint timeout_ms, GCancellable *cancellable,
                             GError **error);

/* @error: NULL when both directions have come to their ends. */
typedef void RvmrpcTunnelEnded(const GError *error, gpointer data);

/**
 * rvmrpc_tunnel_join:
 * @in: its bytes go to the guest; at its end the guest's end is told
 * @out: what comes from the guest; a socket is shut down at its end. May be @in
 * @ended: called once, from the loop; never when the tunnel is freed before
 *
 * The files are the tunnel's until then, which closes them: with a reset, if
 * it is a socket and the connection failed. What one side does not take holds up
 * the other: about 512 KiB are kept for each direction.
 */
void rvmrpc_tunnel_join(RvmrpcTunnel *tunnel, const RvmrpcEndpoint *to, int in,
                        int out, RvmrpcTunnelEnded *ended, gpointer data);

/* Ends all that it joined, in the guest as well.  Not from within a callback. */
void rvmrpc_tunnel_free(RvmrpcTunnel *tunnel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcTunnel, rvmrpc_tunnel_free)

typedef struct {
    guint32 procedure;          /* RVMRPC_FILES_WRITE and those that follow it */
    const char *path;           /* absolute, in the guest */
    const char *to;             /* rename: the new one */
    gboolean keep;              /* rename: not over what has that name */
    guint32 mode;               /* create, mkdir, set: permissions */
    guint64 offset;             /* write */
    const void *data;           /* write: @length bytes */
    gsize length;
    guint32 set;                /* set: RVMRPC_FILE_SET_*; of what follows */
    guint32 uid, gid;
    guint64 size;
    gint64 accessed_ns, modified_ns;    /* since 1970; RVMRPC_FILE_NOW */
} RvmrpcFileChange;

/**
 * rvmrpc_change_file:
 * @written: (out) (optional): of write, bytes: fewer than @change's when the
 * guest's file system took no more
 *
 * What else is set in @change but belongs to no such procedure is ignored. Errors
 * as of rvmrpc_get_files(); %RVMRPC_ERROR_TOO_BIG: so many bytes do not fit into
 * one request. After %RVMRPC_ERROR_TIMED_OUT it may yet be done.
 */
gboolean rvmrpc_change_file(RvmrpcConn *conn, const RvmrpcFileChange *change,
                            guint32 *written, guint timeout_ms,
                            GCancellable *cancellable, GError **error);

/* ---- What is done to a guest ---- */

typedef struct {
    guint64 realtime_ns;        /* the guest's, since 1970 */
    guint64 boottime_ns;        /* since its boot, of the same moment */
    guint64 monotonic_ns;       /* the same without sleep of the machine */
    gboolean has_monotonic;
    gint64 host_ns;             /* the host's time at that moment, since 1970 */
    gint64 skew_ns;             /* how much the guest is ahead */
    gint64 error_ns;            /* of the two above: half of the call's time */
} RvmrpcClock;

gboolean rvmrpc_get_clock(RvmrpcConn *conn, RvmrpcClock *clock,
                          guint timeout_ms, GCancellable *cancellable,
                          GError **error);
/**
 * rvmrpc_set_clock:
 * @clock: as rvmrpc_get_clock() told it less than 60 s ago
 * @before_ns, @after_ns: (out): the guest's time before and after the step
 *
 * Has the guest step its clock so that its time at the moment of @clock was
 * @clock's host_ns. How long the call takes makes no error.
 */
gboolean rvmrpc_set_clock(RvmrpcConn *conn, const RvmrpcClock *clock,
                          guint timeout_ms, guint64 *before_ns,
                          guint64 *after_ns, GCancellable *cancellable,
                          GError **error);

typedef struct {
    guint64 freed;              /* bytes by which free memory grew; 0: it shrank */
    guint64 reclaimed;          /* bytes, as the guest's kernel counts them */
    guint32 end;                /* RVMRPC_SHRINK_* of rvmrpc_abi.h */
} RvmrpcShrunk;

/* Has the guest take back so many @bytes, not 0, of what it can spare. */
gboolean rvmrpc_shrink(RvmrpcConn *conn, guint64 bytes, guint timeout_ms,
                       RvmrpcShrunk *shrunk, GCancellable *cancellable,
                       GError **error);

typedef struct {
    guint32 state;              /* RVMRPC_FREEZE_* of rvmrpc_abi.h */
    guint32 count;              /* frozen; of thaw: that were until now */
    guint32 skipped;            /* that cannot be frozen */
    guint32 lost;               /* that somebody else had thawed */
    guint32 left_ms;            /* until the guest thaws by itself */
} RvmrpcFrozen;

/**
 * rvmrpc_freeze:
 * @thaw_ms: that long after the call began the guest thaws by itself,
 * 1 to 600000
 *
 * Freezes all file systems that can be, or none. If it fails by %TIMED_OUT, the
 * guest may be freezing: call rvmrpc_thaw().
 */
gboolean rvmrpc_freeze(RvmrpcConn *conn, guint thaw_ms, guint timeout_ms,
                       RvmrpcFrozen *frozen, GCancellable *cancellable,
                       GError **error);
/*
 * A copy made meanwhile is good only if the state is RVMRPC_FREEZE_THAWED,
 * @lost 0, and @count the one of rvmrpc_freeze().
 */
gboolean rvmrpc_thaw(RvmrpcConn *conn, guint timeout_ms, RvmrpcFrozen *frozen,
                     GCancellable *cancellable, GError **error);
/* Waits for nothing. */
gboolean rvmrpc_get_freeze(RvmrpcConn *conn, guint timeout_ms,
                           RvmrpcFrozen *frozen, GCancellable *cancellable,
                           GError **error);

/**
 * rvmrpc_sysrq:
 * @key: printable ASCII
 * @enabled: (out): the guest's kernel.sysrq: 1 every key, else bits; a key that
 * it has not did nothing
 *
 * A key that ends the kernel (b, c, o) is not answered.
 */
gboolean rvmrpc_sysrq(RvmrpcConn *conn, char key, guint timeout_ms,
                      guint32 *enabled, GCancellable *cancellable,
                      GError **error);
/* TRUE: the guest was asked to.  @force: by its kernel, if need be. */
gboolean rvmrpc_poweroff(RvmrpcConn *conn, gboolean force, guint timeout_ms,
                         GCancellable *cancellable, GError **error);
gboolean rvmrpc_reboot(RvmrpcConn *conn, gboolean force, guint timeout_ms,
                       GCancellable *cancellable, GError **error);

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
