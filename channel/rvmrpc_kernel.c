/*
 * Reverse VMRPC: a window that the host's kernel owns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_fdsource.h"
#include "rvmrpc_kernel.h"

#define DEVICE          "/dev/rvmrpc-vm"
/* Records that are read in a turn before others get theirs. */
#define TURN_RECORDS    16

struct RvmrpcKernel {
    const RvmrpcChannelConfig *config;
    RvmrpcKernelLost *lost;
    void *opaque;
    int fd;
    GSource *source;
    GMutex lock;                /* leaf */
    GHashTable *calls;          /* RvmrpcCall, by itself: in flight; lock */
    bool attached;              /* lock to write */
    bool ends;                  /* the VMM ended the epoch; lock */
    RvmrpcClosed why;           /* then; lock */
    bool open;                  /* as it was told */
    size_t record_bytes;
    char *record;
};

/* ---- Calls ---- */

/* False: it is not in flight.  Else the reference is the caller's. */
static bool take_call(RvmrpcKernel *k, RvmrpcCall *call)
{
    bool taken;

    g_mutex_lock(&k->lock);
    taken = g_hash_table_remove(k->calls, call);
    g_mutex_unlock(&k->lock);
    return taken;
}

static void end_call(RvmrpcCall *call, uint32_t status)
{
    call->core.status = status;
    g_atomic_pointer_set(&call->channel, NULL);
    call->done(call, call->opaque);
    rvmrpc_call_unref(call);
}

static void answer(RvmrpcKernel *k, const struct rvmrpc_record *rec)
{
    RvmrpcCall *call = (void *)(uintptr_t)rec->cookie;

    if (!take_call(k, call)) {
        return;
    }
    call->core.reslen = rec->reslen;
    call->core.elapsed = rec->elapsed_ns;
    if (rec->reslen) {
        call->res = g_malloc(rec->reslen);
        memcpy(call->res, k->record + sizeof(*rec), rec->reslen);
    }
    end_call(call, rec->status);
}

/* False: the kernel has given the window up. */
static bool add_call(RvmrpcKernel *k, RvmrpcChannel *ch, RvmrpcCall *call)
{
    bool attached;

    g_mutex_lock(&k->lock);
    attached = k->attached;
    if (attached) {
        g_atomic_pointer_set(&call->channel, ch);
        g_hash_table_add(k->calls, rvmrpc_call_ref(call));
    }
    g_mutex_unlock(&k->lock);
    return attached;
}

uint32_t rvmrpc_kernel_submit(RvmrpcKernel *k, RvmrpcChannel *ch,
                              RvmrpcCall *call)
{
    const uint32_t arglen = call->core.arglen;
    struct rvmrpc_submit req = {
        .cookie = (uintptr_t)call,
        .module = call->core.module,
        .procedure = call->core.procedure,
        .version = call->core.version,
        .list = call->core.list,
        .arglen = arglen,
        .res_max = k->config->layout.res_bytes,
        .timeout_ms = rvmrpc_ms_left(call->core.deadline, rvmrpc_clock()),
    };
    g_autofree char *buf = NULL;
    uint32_t status;
    ssize_t n;

    if (!req.timeout_ms) {
        return RVMRPC_STATUS_TIMED_OUT;
    }
    if (arglen > k->config->layout.req_bytes) {
        return RVMRPC_STATUS_TOO_BIG;
    }
    buf = g_malloc(sizeof(req) + arglen);
    memcpy(buf, &req, sizeof(req));
    if (arglen) {
        memcpy(buf + sizeof(req), call->core.arg, arglen);
    }
    /* First: its answer may be read before write() returns. */
    if (!add_call(k, ch, call)) {
        return RVMRPC_STATUS_NOT_CONNECTED;
    }
    do {
        n = write(k->fd, buf, sizeof(req) + arglen);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        return RVMRPC_STATUS_OK;
    }
    status = errno == EBUSY ? RVMRPC_STATUS_BUSY : RVMRPC_STATUS_SYSTEM_ERROR;
    if (!take_call(k, call)) {
        return RVMRPC_STATUS_OK;    /* the window was taken back: it ended */
    }
    g_atomic_pointer_set(&call->channel, NULL);
    rvmrpc_call_unref(call);
    return status;
}

void rvmrpc_kernel_cancel(RvmrpcKernel *k, RvmrpcCall *call)
{
    uint64_t cookie = (uintptr_t)call;

    /* It has ended, else: its answer is on its way. */
    ioctl(k->fd, RVMRPC_CANCEL, &cookie);
}

static void end_calls(RvmrpcKernel *k, uint32_t status)
{
    GList *calls;

    g_mutex_lock(&k->lock);
    calls = g_hash_table_get_keys(k->calls);
    g_hash_table_remove_all(k->calls);
    g_mutex_unlock(&k->lock);
    for (GList *l = calls; l; l = l->next) {
        end_call(l->data, status);
    }
    g_list_free(calls);
}

/* ---- Records ---- */

static void set_open(RvmrpcKernel *k, bool open, RvmrpcClosed why)
{
    const RvmrpcChannelOps *ops = k->config->ops;

    if (k->open) {
        ops->closed(k->config->opaque, why);
    }
    k->open = open;
    if (open) {
        g_mutex_lock(&k->lock);
        k->ends = false;
        g_mutex_unlock(&k->lock);
        ops->opened(k->config->opaque);
    }
}

static RvmrpcClosed reason(RvmrpcKernel *k, uint32_t why)
{
    RvmrpcClosed closed = why == RVMRPC_GONE_REPLACED ? RVMRPC_CLOSED_REPLACED :
        why == RVMRPC_GONE_OVERWRITTEN ? RVMRPC_CLOSED_OVERWRITTEN :
        RVMRPC_CLOSED_GUEST_EXIT;

    g_mutex_lock(&k->lock);
    if (k->ends) {
        closed = k->why;
    }
    k->ends = false;
    g_mutex_unlock(&k->lock);
    return closed;
}

static void told(RvmrpcKernel *k, const struct rvmrpc_record *rec)
{
    struct rvmrpc_told t = { .missed = rec->cookie };

    if (rec->reslen == sizeof(t.event)) {
        memcpy(&t.event, k->record + sizeof(*rec), sizeof(t.event));
        k->config->ops->event(k->config->opaque, &t);
    }
}

/* False: nothing was there. */
static bool read_record(RvmrpcKernel *k, struct rvmrpc_record *rec)
{
    ssize_t n;

    do {
        n = read(k->fd, k->record, k->record_bytes);
    } while (n < 0 && errno == EINTR);
    if (n < (ssize_t)sizeof(*rec)) {
        return false;
    }
    memcpy(rec, k->record, sizeof(*rec));
    return n == (ssize_t)(sizeof(*rec) + rec->reslen);
}

/* Its file stays, for the answers of calls that ended. */
static void detach(RvmrpcKernel *k, uint32_t status)
{
    struct rvmrpc_record rec;

    if (!k->attached) {
        return;
    }
    g_mutex_lock(&k->lock);
    k->attached = false;
    g_mutex_unlock(&k->lock);
    if (ioctl(k->fd, RVMRPC_VM_DETACH) < 0) {
        g_warning("cannot take a window back: %s", g_strerror(errno));
    }
    while (read_record(k, &rec)) {
        if (rec.type == RVMRPC_REC_ANSWER) {
            answer(k, &rec);
        }
    }
    end_calls(k, status);
}

void rvmrpc_kernel_give_up(RvmrpcKernel *k)
{
    detach(k, RVMRPC_STATUS_RESET);
    set_open(k, false, RVMRPC_CLOSED_REPLACED);
    k->lost(k->opaque);
}

static void readable(GIOCondition condition, void *opaque)
{
    RvmrpcKernel *k = opaque;
    struct rvmrpc_record rec;

    (void)condition;
    for (int i = 0; i < TURN_RECORDS && read_record(k, &rec); i++) {
        switch (rec.type) {
        case RVMRPC_REC_ANSWER:
            answer(k, &rec);
            break;
        case RVMRPC_REC_CONNECTED:
            set_open(k, true, RVMRPC_CLOSED_REPLACED);
            break;
        case RVMRPC_REC_GONE:
            set_open(k, false, reason(k, rec.status));
            break;
        case RVMRPC_REC_EVENT:
            told(k, &rec);
            break;
        case RVMRPC_REC_STUCK:
            k->config->ops->stuck(k->config->opaque);
            break;
        case RVMRPC_REC_DETACH:
            g_message("the kernel gives a window back");
            rvmrpc_kernel_give_up(k);
            return;
        }
    }
}

/* ---- State ---- */

static void copy_stats(struct rvmrpc_stats *to,
                       const struct rvmrpc_kvm_status *s)
{
    G_STATIC_ASSERT(sizeof(to->histogram) == sizeof(s->histogram));
    *to = (struct rvmrpc_stats) {
        .calls = s->calls,
        .completed = s->completed,
        .failed = s->failed,
        .refused = s->refused,
        .timed_out = s->timed_out,
        .cancelled = s->cancelled,
        .reset = s->reset,
        .late_replies = s->late_replies,
        .bad_replies = s->bad_replies,
        .registrations = s->registrations,
        .kicks = s->kicks,
        .rekicks = s->rekicks,
        .lost = s->lost,
        .events = s->events,
        .events_lost = s->events_lost,
        .events_dropped = s->events_dropped,
    };
    memcpy(to->histogram, s->histogram, sizeof(to->histogram));
}

void rvmrpc_kernel_get_info(const RvmrpcKernel *k, RvmrpcChannelInfo *info)
{
    struct rvmrpc_kvm_status s;

    memset(info, 0, sizeof(*info));
    info->kernel = true;
    if (ioctl(k->fd, RVMRPC_STATUS, &s) < 0) {
        return;
    }
    info->open = s.epoch;
    info->silent = s.silent;
    info->vmlp = s.vmlp;
    info->os = s.os;
    memcpy(info->release, s.release, sizeof(info->release) - 1);
    info->epoch = s.epoch;
    info->seen_ns = s.last_seen_ns;
    info->nslots = s.nslots;
    info->in_flight = s.in_flight;
    info->rings = s.rings;
    info->interrupts = s.interrupts;
    copy_stats(&info->stats, &s);
}

uint64_t rvmrpc_kernel_epoch(const RvmrpcKernel *k)
{
    struct rvmrpc_kvm_status s;

    return ioctl(k->fd, RVMRPC_STATUS, &s) < 0 ? 0 : s.epoch;
}

static void notice(RvmrpcKernel *k, unsigned what)
{
    /* ENOTCONN: it gives the window up, and its record says so. */
    if (ioctl(k->fd, RVMRPC_NOTICE, what) < 0 && errno != ENOTCONN) {
        g_warning("the kernel takes no notice of a VM: %s",
                  g_strerror(errno));
    }
}

void rvmrpc_kernel_run(RvmrpcKernel *k, bool running)
{
    notice(k, running ? RVMRPC_KVM_RUN : RVMRPC_KVM_STOP);
}

void rvmrpc_kernel_reset(RvmrpcKernel *k, RvmrpcClosed why)
{
    g_mutex_lock(&k->lock);
    k->ends = true;
    k->why = why;
    g_mutex_unlock(&k->lock);
    notice(k, RVMRPC_KVM_RESET);
}

/* ---- Life ---- */

/* Whose VM it is may be said by an administrator only. */
static bool attach_as(int fd, struct rvmrpc_vm_attach *a, pid_t pid)
{
    a->pid = pid;
    if (ioctl(fd, RVMRPC_VM_ATTACH, a) == 0) {
        return true;
    }
    a->pid = 0;
    return errno == EPERM && ioctl(fd, RVMRPC_VM_ATTACH, a) == 0;
}

/* Without the module that waits with KVM there are calls all the same. */
static bool attach_with(int fd, struct rvmrpc_vm_attach *a, pid_t pid)
{
    if (attach_as(fd, a, pid)) {
        return true;
    }
    if (errno != EOPNOTSUPP) {
        return false;
    }
    a->token_fd = -1;
    return attach_as(fd, a, pid);
}

/* -1: it stays ours, errno says why. */
static int attach(const RvmrpcChannelConfig *c)
{
    struct rvmrpc_vm_attach a = {
        .version = RVMRPC_HOST_VERSION,
        .flags = c->kernel->stopped ? RVMRPC_VM_STOPPED : 0,
        .window = (uintptr_t)c->base,
        .window_bytes = c->size,
        .nslots = c->layout.nslots,
        .req_bytes = c->layout.req_bytes,
        .res_bytes = c->layout.res_bytes,
        .doorbell = c->doorbell,
        .doorbell_fd = c->doorbell_fd,
        .interrupt_fd = c->interrupt_fd,
        .token_fd = c->kernel->token_fd,
        .spin_us = c->spin_us,
    };
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK), err;

    if (fd < 0) {
        return -1;
    }
    memcpy(a.uuid, c->kernel->uuid, sizeof(a.uuid));
    g_strlcpy(a.name, c->kernel->name, sizeof(a.name));
    if (attach_with(fd, &a, c->kernel->pid)) {
        return fd;
    }
    err = errno;
    close(fd);
    errno = err;
    return -1;
}

/* A file without its module is another's, or of a module that was removed. */
static bool absent(int err)
{
    return err == ENOENT || err == ENXIO || err == ENODEV || err == ESHUTDOWN;
}

static void refused(const RvmrpcKernelConfig *kernel, int err, int *refusal)
{
    err = absent(err) ? RVMRPC_KERNEL_ABSENT : err;
    if (err != *refusal && (kernel->wanted || err != RVMRPC_KERNEL_ABSENT)) {
        g_warning("%s: the kernel does not take its window: %s%s",
                  kernel->name, g_strerror(err), err == ENOMEM ?
                  ": see RLIMIT_MEMLOCK" : "");
    }
    *refusal = err;
}

RvmrpcKernel *rvmrpc_kernel_new(const RvmrpcChannelConfig *config,
                                RvmrpcKernelLost *lost, void *opaque,
                                int *refusal)
{
    int fd = attach(config);
    RvmrpcKernel *k;

    if (fd < 0) {
        refused(config->kernel, errno, refusal);
        return NULL;
    }
    *refusal = 0;
    k = g_new0(RvmrpcKernel, 1);
    k->config = config;
    k->lost = lost;
    k->opaque = opaque;
    k->fd = fd;
    g_mutex_init(&k->lock);
    k->attached = true;
    k->record_bytes = sizeof(struct rvmrpc_record) +
                      MAX(config->layout.res_bytes,
                          sizeof(struct rvmrpc_event));
    k->record = g_malloc(k->record_bytes);
    k->calls = g_hash_table_new(NULL, NULL);
    k->source = rvmrpc_fd_source_new(fd, G_IO_IN, config->context, readable,
                                     k);
    return k;
}

void rvmrpc_kernel_free(RvmrpcKernel *k, uint32_t status)
{
    detach(k, status);
    rvmrpc_fd_source_free(k->source);
    close(k->fd);
    g_hash_table_unref(k->calls);
    g_mutex_clear(&k->lock);
    g_free(k->record);
    g_free(k);
}
