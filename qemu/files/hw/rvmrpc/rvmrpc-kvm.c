/*
 * Reverse VMRPC: the proxy in the host's kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The VM is attached by an ioctl on its own file; what comes back is a channel
 * on which QEMU tells the VM's state and calls into its own guest.  Answers
 * come by that file, so nothing blocks.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/rvmrpc.h>
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-kvm.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/system.h"

/* The largest answer of a slot, and its record. */
#define RECORD_MAX  (sizeof(struct rvmrpc_record) + \
                     RVMRPC_SLOT_PAGES_MAX * RVMRPC_PAGE_SIZE)
#define RES_MAX     (RVMRPC_SLOT_PAGES_MAX * RVMRPC_PAGE_SIZE)

static int channel = -1;            /* BQL to change */
static EventNotifier kick;          /* the kernel interrupts the driver */
static int virq = -1;               /* route of the vector; BQL */
static QemuMutex lock;              /* leaf */
static GHashTable *in_flight;       /* cookie -> RvmrpcCall; lock */
static uint64_t next_cookie;        /* lock */
static RvmrpcDisconnectReason reason_told;      /* BQL */
static void *record_buf;            /* RECORD_MAX bytes; main loop */

bool rvmrpc_kvm_attached(void)
{
    return channel >= 0;
}

/* ---- Calls ---- */

static RvmrpcCall *take_call(uint64_t cookie)
{
    gpointer call = NULL;

    QEMU_LOCK_GUARD(&lock);
    g_hash_table_steal_extended(in_flight, &cookie, NULL, &call);
    return call;
}

static uint64_t add_call(RvmrpcCall *call)
{
    QEMU_LOCK_GUARD(&lock);
    call->cookie = ++next_cookie;
    g_hash_table_insert(in_flight, &call->cookie, call);
    rvmrpc_call_ref(call);          /* until rvmrpc_call_finish() */
    return call->cookie;
}

uint32_t rvmrpc_kvm_submit(RvmrpcCall *call)
{
    struct rvmrpc_submit req = {
        .module = call->core.module,
        .procedure = call->core.procedure,
        .arglen = call->core.arglen,
        .res_max = RES_MAX,
    };
    int64_t left = call->core.deadline - rvmrpc_now();
    g_autofree char *buf = NULL;
    uint32_t status;
    ssize_t ret;

    if (left <= 0) {
        return RVMRPC_STATUS_TIMED_OUT;
    }
    if (call->core.arglen > RES_MAX) {
        return RVMRPC_STATUS_TOO_BIG;
    }
    req.timeout_ms = MAX(left / SCALE_MS, 1);
    req.cookie = add_call(call);
    buf = g_malloc(sizeof(req) + req.arglen);
    memcpy(buf, &req, sizeof(req));
    if (req.arglen) {
        memcpy(buf + sizeof(req), call->core.arg, req.arglen);
    }
    ret = RETRY_ON_EINTR(write(channel, buf, sizeof(req) + req.arglen));
    if (ret >= 0) {
        return RVMRPC_STATUS_OK;
    }
    status = errno == EBUSY ? RVMRPC_STATUS_BUSY : RVMRPC_STATUS_SYSTEM_ERROR;
    if (!take_call(req.cookie)) {
        return RVMRPC_STATUS_OK;    /* detached meanwhile: it was ended */
    }
    rvmrpc_call_unref(call);
    return status;
}

void rvmrpc_kvm_cancel(RvmrpcCall *call)
{
    uint64_t cookie = call->cookie;

    if (cookie) {
        ioctl(channel, RVMRPC_CANCEL, &cookie);
    }
}

static void end_call(RvmrpcCall *call, uint32_t status)
{
    call->core.status = status;
    rvmrpc_call_finish(call);
}

/* ---- Records ---- */

static void answer(const struct rvmrpc_record *rec, const void *payload)
{
    RvmrpcCall *call = take_call(rec->cookie);

    if (!call) {
        return;
    }
    call->core.reslen = rec->reslen;
    call->core.elapsed = rec->elapsed_ns;
    call->res = rec->reslen ? g_memdup2(payload, rec->reslen) : NULL;
    end_call(call, rec->status);
}

static void connected(void)
{
    struct rvmrpc_kvm_status st;

    if (ioctl(channel, RVMRPC_STATUS, &st) || !st.epoch) {
        return;
    }
    reason_told = RVMRPC_DISCONNECT_REASON_GUEST_EXIT;
    rvmrpc_tell_connected(st.os, st.release, sizeof(st.release), st.epoch);
    rvmrpc_list_refresh();
}

static void channel_readable(void *opaque)
{
    struct rvmrpc_record rec;
    ssize_t n = RETRY_ON_EINTR(read(channel, record_buf, RECORD_MAX));

    if (n < (ssize_t)sizeof(rec)) {
        return;
    }
    memcpy(&rec, record_buf, sizeof(rec));
    switch (rec.type) {
    case RVMRPC_REC_ANSWER:
        rec.reslen = MIN(rec.reslen, n - sizeof(rec));
        answer(&rec, record_buf + sizeof(rec));
        break;
    case RVMRPC_REC_CONNECTED:
        connected();
        break;
    case RVMRPC_REC_GONE:
        rvmrpc_tell_disconnected(reason_told);
        break;
    }
}

/* ---- The VM's state ---- */

void rvmrpc_kvm_running(bool running)
{
    if (rvmrpc_kvm_attached()) {
        ioctl(channel, RVMRPC_NOTICE,
              running ? RVMRPC_KVM_RUN : RVMRPC_KVM_STOP);
    }
}

void rvmrpc_kvm_reset(RvmrpcDisconnectReason reason)
{
    if (rvmrpc_kvm_attached()) {
        reason_told = reason;
        ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RESET);
    }
}

static void fill_stats(RvmrpcStats *s, const struct rvmrpc_kvm_status *st)
{
    int used = RVMRPC_KVM_HISTOGRAM;

    s->calls = st->calls;
    s->completed = st->completed;
    s->failed = st->failed;
    s->refused = st->refused;
    s->timed_out = st->timed_out;
    s->cancelled = st->cancelled;
    s->reset = st->reset;
    s->late_replies = st->late_replies;
    s->bad_replies = st->bad_replies;
    s->registrations = st->registrations;
    s->in_flight = st->in_flight;
    s->hypercalls = st->hypercalls;
    s->waits = st->waits;
    s->interrupts = st->kicks;
    while (used && !st->histogram[used - 1]) {
        used--;
    }
    while (used--) {
        QAPI_LIST_PREPEND(s->latency_us, st->histogram[used]);
    }
}

/* False: no driver is registered with KVM. */
static bool get_status(struct rvmrpc_kvm_status *st)
{
    return rvmrpc_kvm_attached() && !ioctl(channel, RVMRPC_STATUS, st) &&
           st->epoch;
}

bool rvmrpc_kvm_os(uint32_t *os)
{
    struct rvmrpc_kvm_status st;

    if (!get_status(&st)) {
        return false;
    }
    *os = st.os;
    return true;
}

bool rvmrpc_kvm_query(RvmrpcInfo *info)
{
    struct rvmrpc_kvm_status st;

    if (!get_status(&st)) {
        return false;
    }
    info->state = st.silent ? RVMRPC_STATE_SILENT : RVMRPC_STATE_CONNECTED;
    info->proxy = RVMRPC_PROXY_KIND_KERNEL;
    info->has_os = true;
    info->os = rvmrpc_os(st.os);
    info->release = rvmrpc_escape(st.release, sizeof(st.release));
    info->has_abi_version = true;
    info->abi_version = st.abi;
    info->has_epoch = true;
    info->epoch = st.epoch;
    info->has_last_seen_ms = true;
    info->last_seen_ms = st.last_seen_ns / SCALE_MS;
    info->has_gate = true;
    info->gate = RVMRPC_GATE_HYPERCALL;
    info->has_wait = true;
    info->wait = st.vmlp ? RVMRPC_WAIT_VMLP : RVMRPC_WAIT_INTERRUPT;
    info->has_slots = true;
    info->slots = st.nslots;
    fill_stats(info->stats, &st);
    return true;
}

/* ---- The interrupt: eventfd to irqfd, without QEMU's help ---- */

/* As long as the vector is masked, or has no route. */
static void kick_readable(EventNotifier *n)
{
    if (event_notifier_test_and_clear(n)) {
        rvmrpc_proxy.config.ops->kick(rvmrpc_proxy.config.opaque);
    }
}

static int vector_use(PCIDevice *dev, unsigned vector, MSIMessage msg)
{
    int ret;

    if (virq < 0) {
        KVMRouteChange c = kvm_irqchip_begin_route_changes(kvm_state);

        virq = kvm_irqchip_add_msi_route(&c, vector, dev);
        if (virq < 0) {
            return 0;               /* kick_readable() does it */
        }
        kvm_irqchip_commit_route_changes(&c);
    }
    ret = kvm_irqchip_update_msi_route(kvm_state, virq, msg, dev);
    if (ret < 0) {
        return ret;
    }
    kvm_irqchip_commit_routes(kvm_state);
    ret = kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &kick, NULL, virq);
    if (ret == 0) {
        event_notifier_set_handler(&kick, NULL);
    }
    return ret;
}

static void vector_release(PCIDevice *dev, unsigned vector)
{
    if (virq >= 0) {
        kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &kick, virq);
        kvm_irqchip_release_virq(kvm_state, virq);
        virq = -1;
        event_notifier_set_handler(&kick, kick_readable);
    }
}

/* ---- VMRPC of the guest for QEMU: it leaves the kernel ---- */

int rvmrpc_kvm_handle_exit(CPUState *cpu, struct kvm_run *run)
{
    VmrpcCall call = {
        .cpu = cpu,
        .gate = VMRPC_GATE_HYPERCALL,
        .op = run->hypercall.nr,
        .a0 = run->hypercall.args[0],
        .a1 = run->hypercall.args[1],
        .a2 = run->hypercall.args[2],
    };

    qatomic_inc(&rvmrpc_proxy.hypercalls);
    run->hypercall.ret = vmrpc_call(&call);
    return 0;
}

/* ---- Attaching ---- */

static void fill_attach(struct rvmrpc_attach *a,
                        const struct rvmrpc_limits *limits)
{
    const char *name = qemu_get_vm_name();

    a->version = RVMRPC_KVM_VERSION;
    memcpy(a->uuid, &qemu_uuid, sizeof(a->uuid));
    pstrcpy(a->name, sizeof(a->name), name ? name : "");
    a->kick_fd = event_notifier_get_fd(&kick);
    a->slots = limits->slots;
    a->req_pages = limits->req_pages;
    a->res_pages = limits->res_pages;
}

bool rvmrpc_kvm_attach(PCIDevice *dev, const struct rvmrpc_limits *limits)
{
    struct rvmrpc_attach attach = { };
    int fd;

    if (!kvm_enabled() || !kvm_irqchip_in_kernel() ||
        event_notifier_init(&kick, 0)) {
        return false;
    }
    fill_attach(&attach, limits);
    fd = kvm_vm_ioctl(kvm_state, RVMRPC_ATTACH, &attach);
    if (fd < 0) {
        /* ENOTTY: a stock KVM. */
        if (fd != -ENOTTY) {
            warn_report("rvmrpc: cannot attach to KVM: %s; using the doorbell",
                        strerror(-fd));
        }
        event_notifier_cleanup(&kick);
        return false;
    }
    if (!in_flight) {
        qemu_mutex_init(&lock);
        in_flight = g_hash_table_new(g_int64_hash, g_int64_equal);
        record_buf = g_malloc(RECORD_MAX);
    }
    g_unix_set_fd_nonblocking(fd, true, NULL);
    channel = fd;
    reason_told = RVMRPC_DISCONNECT_REASON_GUEST_EXIT;
    event_notifier_set_handler(&kick, kick_readable);
    qemu_set_fd_handler(channel, channel_readable, NULL, NULL);
    msix_set_vector_notifiers(dev, vector_use, vector_release, NULL);
    rvmrpc_kvm_running(runstate_is_running());
    return true;
}

static void end_all_calls(void)
{
    g_autoptr(GList) calls = NULL;

    WITH_QEMU_LOCK_GUARD(&lock) {
        calls = g_hash_table_get_values(in_flight);
        g_hash_table_remove_all(in_flight);
    }
    for (GList *c = calls; c; c = c->next) {
        end_call(c->data, RVMRPC_STATUS_RESET);
    }
}

void rvmrpc_kvm_detach(PCIDevice *dev)
{
    if (!rvmrpc_kvm_attached()) {
        return;
    }
    msix_unset_vector_notifiers(dev);
    vector_release(dev, 0);
    qemu_set_fd_handler(channel, NULL, NULL, NULL);
    close(channel);
    channel = -1;
    end_all_calls();
    event_notifier_set_handler(&kick, NULL);
    event_notifier_cleanup(&kick);
}
