/*
 * librvmrpc: by /dev/rvmrpc of rvmrpc_host.ko, for VMs whose windows the kernel has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "private.h"

#define DEVICE      "/dev/rvmrpc"
#define ANSWER_MAX  RVMRPC_SLOT_BYTES_MAX

G_STATIC_ASSERT(RVMRPC_KVM_HISTOGRAM == RVMRPC_LATENCY_BUCKETS);

static gboolean set_errno(GError **error, int code)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "%s",
                g_strerror(code));
    return FALSE;
}

static gboolean kernel_possible(const RvmrpcVm *vm)
{
    return vm->kernel_id != 0;
}

static gboolean kernel_open(RvmrpcConn *conn, const Until *until,
                            GError **error)
{
    (void)until;
    conn->fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return conn->fd >= 0 || set_errno(error, errno);
}

static void kernel_close(RvmrpcConn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
}

static gboolean submit(RvmrpcConn *conn, struct rvmrpc_submit *req,
                       GBytes *arg, const Until *until, GError **error)
{
    g_autoptr(GByteArray) buf = g_byte_array_new();
    gsize size = 0;
    const void *data = arg ? g_bytes_get_data(arg, &size) : NULL;

    req->arglen = size;
    g_byte_array_append(buf, (const guint8 *)req, sizeof(*req));
    if (size) {
        g_byte_array_append(buf, data, size);
    }
    while (write(conn->fd, buf->data, buf->len) < 0) {
        if (errno != EBUSY && errno != EINTR) {
            return set_errno(error, errno);
        }
        if (!until_ready(until, conn->fd, POLLOUT, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* Until the answer to the last cookie; those of calls given up are dropped. */
static gboolean receive(RvmrpcConn *conn, struct rvmrpc_record *rec,
                        GBytes **answer, const Until *until, GError **error)
{
    g_autofree guint8 *buf = g_malloc(sizeof(*rec) + ANSWER_MAX);
    ssize_t n;

    while (until_ready(until, conn->fd, POLLIN, error)) {
        n = read(conn->fd, buf, sizeof(*rec) + ANSWER_MAX);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return set_errno(error, errno);
        }
        if (n < (ssize_t)sizeof(*rec)) {
            continue;
        }
        memcpy(rec, buf, sizeof(*rec));
        if (rec->type == RVMRPC_REC_ANSWER && rec->cookie == conn->cookie) {
            *answer = g_bytes_new(buf + sizeof(*rec), n - sizeof(*rec));
            return TRUE;
        }
        if (until_over(until, error)) {
            return FALSE;
        }
    }
    return FALSE;
}

static gboolean kernel_call(RvmrpcConn *conn, const Target *target,
                            GBytes *arg, guint timeout_ms, const Until *until,
                            guint32 *status, GBytes **answer,
                            guint64 *elapsed_ns, GError **error)
{
    struct rvmrpc_submit req = {
        .cookie = ++conn->cookie,
        .vm = conn->vm->kernel_id,
        .module = target->module,
        .procedure = target->procedure,
        .res_max = ANSWER_MAX,
        .timeout_ms = timeout_ms,
        .list = target->list,
    };
    struct rvmrpc_record rec;

    if (arg && g_bytes_get_size(arg) > ANSWER_MAX) {
        *status = RVMRPC_STATUS_TOO_BIG;
        return TRUE;
    }
    if (!submit(conn, &req, arg, until, error)) {
        return FALSE;
    }
    if (!receive(conn, &rec, answer, until, error)) {
        ioctl(conn->fd, RVMRPC_CANCEL, &req.cookie);
        return FALSE;
    }
    *status = rec.status;
    *elapsed_ns = rec.elapsed_ns;
    return TRUE;
}

static const char *os_name(guint32 os)
{
    return os == RVMRPC_OS_LINUX ? "linux" :
           os == RVMRPC_OS_FREEBSD ? "freebsd" : "other";
}

static RvmrpcChannel *kernel_query(RvmrpcConn *conn, const Until *until,
                                   GError **error)
{
    struct rvmrpc_kvm_status st = { .epoch = conn->vm->kernel_id };
    RvmrpcChannel *ch;

    (void)until;
    if (ioctl(conn->fd, RVMRPC_VM_STATUS, &st)) {
        set_errno(error, errno);
        return NULL;
    }
    ch = g_new0(RvmrpcChannel, 1);
    ch->state = !st.epoch ? RVMRPC_STATE_DISCONNECTED :
                st.silent ? RVMRPC_STATE_SILENT : RVMRPC_STATE_CONNECTED;
    ch->running = !st.stopped;
    if (st.epoch) {
        ch->os = g_strdup(os_name(st.os));
        ch->release = g_utf8_make_valid(st.release, strnlen(st.release,
                                                    sizeof(st.release)));
    }
    ch->proxy = g_strdup("kernel");
    ch->gate = g_strdup("hypercall");
    ch->wait = g_strdup(st.vmlp ? "vmlp" : "interrupt");
    ch->epoch = st.epoch;
    ch->last_seen_ms = st.last_seen_ns / 1000000;
    ch->slots = st.nslots;
    ch->calls = st.calls;
    ch->completed = st.completed;
    ch->failed = st.failed;
    ch->refused = st.refused;
    ch->timed_out = st.timed_out;
    ch->cancelled = st.cancelled;
    ch->reset = st.reset;
    ch->late_replies = st.late_replies;
    ch->bad_replies = st.bad_replies;
    ch->registrations = st.registrations;
    ch->in_flight = st.in_flight;
    ch->interrupts = st.interrupts;
    ch->events = st.events;
    ch->events_lost = st.events_lost;
    ch->events_dropped = st.events_dropped;
    for (int i = 0; i < RVMRPC_LATENCY_BUCKETS; i++) {
        ch->latency[i] = st.histogram[i];
    }
    return ch;
}

const Way way_kernel = {
    .name = "kernel",
    .possible = kernel_possible,
    .open = kernel_open,
    .close = kernel_close,
    .call = kernel_call,
    .query = kernel_query,
};

/* ---- Discovery ---- */

static char *uuid_text(const guint8 *u)
{
    static const guint8 none[16];

    if (memcmp(u, none, sizeof(none)) == 0) {
        return NULL;
    }
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                           "%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
                           u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11],
                           u[12], u[13], u[14], u[15]);
}

static void add_vm(GPtrArray *vms, const struct rvmrpc_vm_info *info)
{
    g_autofree char *uuid = uuid_text(info->uuid);
    RvmrpcVm *vm;

    /* Name and uuid are the word of who attached it. */
    if (!user_runs_vms(info->uid)) {
        return;
    }
    for (guint i = 0; i < vms->len; i++) {
        vm = vms->pdata[i];
        if (vm->pid == info->pid && (!vm->uuid || !uuid ||
                                     g_ascii_strcasecmp(vm->uuid, uuid) == 0)) {
            vm->kernel_id = info->id;
            return;
        }
    }
    vm = vm_new();
    vm->pid = info->pid;
    vm->kernel_id = info->id;
    vm->uuid = g_steal_pointer(&uuid);
    if (info->name[0]) {
        vm->name = g_strndup(info->name, sizeof(info->name));
    }
    g_ptr_array_add(vms, vm);
}

/* Nothing is added where the device is not there, or not for this user. */
void kernel_list(GPtrArray *vms)
{
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    struct rvmrpc_vm_list list = { .size = 1024 };
    g_autofree struct rvmrpc_vm_info *info = NULL;

    if (fd < 0) {
        return;
    }
    info = g_new0(struct rvmrpc_vm_info, list.size);
    list.vms = (guintptr)info;
    if (ioctl(fd, RVMRPC_LIST_VMS, &list) == 0) {
        for (guint32 i = 0; i < MIN(list.size, 1024); i++) {
            add_vm(vms, &info[i]);
        }
    }
    close(fd);
}
