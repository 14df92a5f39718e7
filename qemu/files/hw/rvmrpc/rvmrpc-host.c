/*
 * Reverse VMRPC: the host's end of the device's window
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A thread of its own has the channel and the socket, so that a call by the
 * socket needs neither the main loop nor the BQL.  Commands post from the main
 * loop.  The VM's life is told to the channel from there.
 */
#include "qemu/osdep.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/uuid.h"
#include "system/system.h"
#include "rvmrpc-internal.h"
#include "trace.h"

#define LOOK_US         200

/* Changes of state that are told at once, and the time of one more. */
#define TELL_AT_ONCE    10
#define TELL_NS         NANOSECONDS_PER_SECOND

RvmrpcChannel *rvmrpc_host_channel(RvmrpcHost *h)
{
    return h->channel;
}

RvmrpcList *rvmrpc_host_list(RvmrpcHost *h)
{
    return h->list;
}

uint32_t rvmrpc_host_timeout(const RvmrpcHost *h)
{
    return h->device->default_timeout;
}

/* The only one; BQL.  To find it by its type takes longer than a call. */
static RvmrpcHost *host;

RvmrpcHost *rvmrpc_host_find(void)
{
    return host;
}

/* ---- What the channel tells, in its thread ---- */

static void tell(RvmrpcHost *h, char *json)
{
    if (h->server) {
        rvmrpc_sockserver_event(h->server, json);
    }
    g_free(json);
}

static void tell_connected(RvmrpcHost *h)
{
    RvmrpcChannelInfo info;

    rvmrpc_channel_get_info(h->channel, &info);
    /* It has ended meanwhile, which is told next. */
    if (info.open) {
        trace_rvmrpc_opened(info.epoch, info.os, info.nslots);
        tell(h, rvmrpc_tell_connected(&info));
        h->told.told_connected = true;
    }
}

static void tell_disconnected(RvmrpcHost *h)
{
    trace_rvmrpc_closed(RvmrpcDisconnectReason_str(h->told.reason));
    tell(h, rvmrpc_tell_disconnected(h->told.reason));
    h->told.told_connected = false;
}

/* Nobody is left in the belief that an earlier epoch goes on. */
static void tell_state(RvmrpcHost *h)
{
    if (!h->told.connected || h->told.told_connected) {
        tell_disconnected(h);
    }
    if (h->told.connected) {
        tell_connected(h);
    }
}

static bool may_tell(RvmrpcTold *told)
{
    int64_t now = rvmrpc_clock(), free = (now - told->since) / TELL_NS;

    if (free) {
        told->left = MIN(told->left + free, TELL_AT_ONCE);
        told->since = now;
    }
    if (!told->left) {
        return false;
    }
    told->left--;
    return true;
}

static gboolean tell_later(void *opaque)
{
    RvmrpcHost *h = opaque;

    g_clear_pointer(&h->told.later, g_source_unref);
    may_tell(&h->told);
    tell_state(h);
    return G_SOURCE_REMOVE;
}

/* The state has changed.  Of many changes in a row the last is told. */
static void changed(RvmrpcHost *h)
{
    if (h->told.later) {
        return;
    }
    if (may_tell(&h->told)) {
        tell_state(h);
        return;
    }
    h->told.later = g_timeout_source_new(TELL_NS / SCALE_MS);
    g_source_set_callback(h->told.later, tell_later, h, NULL);
    g_source_attach(h->told.later, h->context);
}

static void opened(void *opaque)
{
    RvmrpcHost *h = opaque;

    h->told.connected = true;
    changed(h);
    rvmrpc_list_refresh(h->list);
}

static void disconnected(RvmrpcHost *h, RvmrpcDisconnectReason reason)
{
    h->told.connected = false;
    h->told.reason = reason;
    changed(h);
}

static void closed(void *opaque, RvmrpcClosed why)
{
    static const RvmrpcDisconnectReason reasons[] = {
        [RVMRPC_CLOSED_GUEST_EXIT] = RVMRPC_DISCONNECT_REASON_GUEST_EXIT,
        [RVMRPC_CLOSED_REPLACED] = RVMRPC_DISCONNECT_REASON_REPLACED,
        [RVMRPC_CLOSED_OVERWRITTEN] = RVMRPC_DISCONNECT_REASON_OVERWRITTEN,
        [RVMRPC_CLOSED_GUEST_RESET] = RVMRPC_DISCONNECT_REASON_GUEST_RESET,
        [RVMRPC_CLOSED_STATE_LOADED] = RVMRPC_DISCONNECT_REASON_STATE_LOADED,
        [RVMRPC_CLOSED_MIGRATED] = RVMRPC_DISCONNECT_REASON_MIGRATED,
        [RVMRPC_CLOSED_VM_ENDS] = RVMRPC_DISCONNECT_REASON_GUEST_EXIT,
    };

    disconnected(opaque, reasons[why]);
}

static void stuck(void *opaque)
{
    disconnected(opaque, RVMRPC_DISCONNECT_REASON_STUCK);
}

static void event(void *opaque, const struct rvmrpc_told *told)
{
    tell(opaque, rvmrpc_tell_event(told));
}

static bool rouse(void *opaque)
{
    return rvmrpc_main_rouse();
}

static const RvmrpcChannelOps channel_ops = {
    .opened = opened,
    .closed = closed,
    .stuck = stuck,
    .event = event,
    .rouse = rouse,
};

static char *info(void *opaque)
{
    return rvmrpc_info_json(opaque);
}

/* ---- The VM's life, told in the main loop ---- */

void rvmrpc_host_end(RvmrpcHost *h, RvmrpcClosed why)
{
    if (!h->ended) {
        rvmrpc_channel_end(h->channel, why == RVMRPC_CLOSED_VM_ENDS ?
                           RVMRPC_STATUS_STOPPED : RVMRPC_STATUS_RESET, why);
        rvmrpc_main_wake_all();
    }
}

static RvmrpcKernelConfig kernel_config(const RvmrpcHost *h)
{
    const char *name = qemu_get_vm_name();
    RvmrpcKernelConfig kernel = {
        .name = name ? name : "",
        .token_fd = h->device->token,
        .stopped = !runstate_is_running(),
        .wanted = h->device->kernel == ON_OFF_AUTO_ON,
    };

    memcpy(kernel.uuid, &qemu_uuid, sizeof(kernel.uuid));
    return kernel;
}

/* The channel's thread. */
static gboolean offer(void *opaque)
{
    RvmrpcHost *h = opaque;
    const RvmrpcKernelConfig kernel = kernel_config(h);

    rvmrpc_channel_offer(h->channel, &kernel);
    return G_SOURCE_REMOVE;
}

static gboolean take_back(void *opaque)
{
    RvmrpcHost *h = opaque;

    rvmrpc_channel_offer(h->channel, NULL);
    return G_SOURCE_REMOVE;
}

static void in_thread(RvmrpcHost *h, GSourceFunc func)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, h, NULL);
    g_source_attach(source, h->context);
    g_source_unref(source);
}

static void set_stopped(RvmrpcHost *h, bool stopped)
{
    if (!h->ended) {
        rvmrpc_channel_set_stopped(h->channel, stopped);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    RvmrpcHost *h = opaque;

    /* One that sleeps (S3) "runs" when it is resumed. */
    set_stopped(h, !running || state == RUN_STATE_SUSPENDED);
    if (!h->ended && running && h->offer_due) {
        h->offer_due = false;
        in_thread(h, offer);
    }
    if (!running) {
        rvmrpc_main_abort();
    }
}

static int migration_changed(NotifierWithReturn *n, MigrationEvent *e,
                             Error **errp)
{
    RvmrpcHost *h = container_of(n, RvmrpcHost, migration_notifier);

    /* One that runs has not moved: a snapshot was taken behind its back. */
    if (e->type == MIG_EVENT_PRECOPY_DONE && !h->ended &&
        !runstate_is_running()) {
        rvmrpc_host_end(h, RVMRPC_CLOSED_MIGRATED);
        /* The kernel has one VM of a uuid, and that is another QEMU's now. */
        h->offer_due = h->device->kernel != ON_OFF_AUTO_OFF;
        in_thread(h, take_back);
    }
    return 0;
}

/* No change of state is told of these two. */
static void suspended(Notifier *n, void *data)
{
    set_stopped(container_of(n, RvmrpcHost, suspend_notifier), true);
}

static void woken_up(Notifier *n, void *data)
{
    /* Whoever stopped it between the request and now was told of first. */
    set_stopped(container_of(n, RvmrpcHost, wakeup_notifier),
                !runstate_is_running());
}

/* A client must not keep QEMU from ending. */
static void shutting_down(Notifier *n, void *data)
{
    rvmrpc_host_end(container_of(n, RvmrpcHost, shutdown_notifier),
                    RVMRPC_CLOSED_VM_ENDS);
}

/* ---- Life ---- */

static void *host_thread(void *opaque)
{
    RvmrpcHost *h = opaque;

    g_main_context_push_thread_default(h->context);
    g_main_loop_run(h->loop);
    g_main_context_pop_thread_default(h->context);
    return NULL;
}

static gboolean quit(void *opaque)
{
    RvmrpcHost *h = opaque;

    g_main_loop_quit(h->loop);
    return G_SOURCE_REMOVE;
}

/* The thread has ended, or never began. */
static void release(RvmrpcHost *h)
{
    rvmrpc_channel_free(h->channel, RVMRPC_STATUS_NOT_CONNECTED);
    rvmrpc_list_free(h->list);
    g_clear_pointer(&h->server, rvmrpc_sockserver_free);
    g_main_loop_unref(h->loop);
    g_main_context_unref(h->context);
}

/* What was not told yet is of no interest any more, but for the end. */
static void end_telling(RvmrpcHost *h)
{
    if (h->told.later) {
        g_source_destroy(h->told.later);
        g_clear_pointer(&h->told.later, g_source_unref);
    }
    if (rvmrpc_channel_epoch(h->channel)) {
        h->told.reason = RVMRPC_DISCONNECT_REASON_UNPLUGGED;
        h->told.told_connected = true;
    }
    if (h->told.told_connected) {
        tell_disconnected(h);
    }
}

uint32_t rvmrpc_host_submit(RvmrpcHost *h, RvmrpcCall *call)
{
    uint32_t status;

    qatomic_set(&h->looking, true);
    bql_unlock();
    status = rvmrpc_channel_submit_and_look(h->channel, call, LOOK_US);
    qatomic_store_release(&h->looking, false);
    bql_lock();
    return status;
}

static void end(RvmrpcHost *h)
{
    if (h->ended) {
        return;
    }
    /* A vCPU's thread unplugs it.  That look needs no lock to end. */
    while (qatomic_load_acquire(&h->looking)) {
        g_usleep(LOOK_US / 10);
    }
    in_thread(h, quit);
    /* What it had belongs to this one from now on. */
    qemu_thread_join(&h->thread);
    h->ended = true;
    host = NULL;
    rvmrpc_main_serve(NULL, false);
    end_telling(h);
    if (h->server) {
        rvmrpc_sockserver_set_channel(h->server, NULL);
    }
    release(h);
}

/* QEMU ends without removing its devices. */
static void exiting(Notifier *n, void *data)
{
    end(container_of(n, RvmrpcHost, exit_notifier));
}

static void make_channel(RvmrpcHost *h, const RvmrpcHostConfig *config)
{
    const RvmrpcKernelConfig kernel = kernel_config(h);
    bool may = h->device->kernel != ON_OFF_AUTO_OFF;
    bool later = runstate_check(RUN_STATE_INMIGRATE);
    const RvmrpcChannelConfig channel = {
        .base = config->window,
        .size = h->device->window_size,
        .layout = config->layout,
        .doorbell_fd = config->ring_fd,
        .interrupt_fd = config->interrupt_fd,
        .spin_us = h->device->spin_us,
        .context = h->context,
        .kernel = may && !later ? &kernel : NULL,
        .ops = &channel_ops,
        .opaque = h,
    };

    h->offer_due = may && later;
    h->channel = rvmrpc_channel_new(&channel);
    rvmrpc_channel_set_stopped(h->channel, !runstate_is_running());
    h->list = rvmrpc_list_new(h->channel);
}

static bool make_server(RvmrpcHost *h, Error **errp)
{
    RvmrpcSockConfig config = {
        .path = h->device->socket,
        .mode = 0600,
        .gid = (gid_t)-1,
        .fd = -1,
        .context = h->context,
        .info = info,
        .opaque = h,
    };
    g_autoptr(GError) error = NULL;

    if (!config.path) {
        return true;
    }
    if (h->device->socket_mode) {
        rvmrpc_parse_mode(h->device->socket_mode, &config.mode);
    }
    h->server = rvmrpc_sockserver_new(&config, &error);
    if (!h->server) {
        error_setg(errp, "property 'socket': %s", error->message);
        return false;
    }
    rvmrpc_sockserver_set_channel(h->server, h->channel);
    return true;
}

static void listen_to_the_vm(RvmrpcHost *h)
{
    h->state_entry = qemu_add_vm_change_state_handler(vm_state_changed, h);
    migration_add_notifier(&h->migration_notifier, migration_changed);
    h->suspend_notifier.notify = suspended;
    qemu_register_suspend_notifier(&h->suspend_notifier);
    h->wakeup_notifier.notify = woken_up;
    qemu_register_wakeup_notifier(&h->wakeup_notifier);
    h->shutdown_notifier.notify = shutting_down;
    qemu_register_shutdown_notifier(&h->shutdown_notifier);
    h->exit_notifier.notify = exiting;
    qemu_add_exit_notifier(&h->exit_notifier);
}

RvmrpcHost *rvmrpc_host_new(const RvmrpcHostConfig *config, Error **errp)
{
    RvmrpcHost *h = g_new0(RvmrpcHost, 1);

    h->device = config->device;
    h->gate = config->gate;
    h->context = g_main_context_new();
    h->loop = g_main_loop_new(h->context, false);
    make_channel(h, config);
    if (!make_server(h, errp)) {
        release(h);
        g_free(h);
        return NULL;
    }
    listen_to_the_vm(h);
    qemu_thread_create(&h->thread, "rvmrpc", host_thread, h,
                       QEMU_THREAD_JOINABLE);
    host = h;
    return h;
}

void rvmrpc_host_free(RvmrpcHost *h)
{
    end(h);
    qemu_del_vm_change_state_handler(h->state_entry);
    migration_remove_notifier(&h->migration_notifier);
    notifier_remove(&h->suspend_notifier);
    notifier_remove(&h->wakeup_notifier);
    notifier_remove(&h->shutdown_notifier);
    qemu_remove_exit_notifier(&h->exit_notifier);
    g_free(h);
}
