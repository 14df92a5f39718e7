/*
 * rvmrpcd: a VM's two sockets, and the QEMUs that are connected
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "rvmrpcd.h"

/* QEMUs on one VM's socket at a time: both ends of a migration, and one that is about to go. */
#define WORLDS_MAX  3
/* accept() fails for want of file descriptors. */
#define SPARE_MS    200

/* ---- What the channel tells ---- */

static void opened(void *opaque)
{
    World *world = opaque;
    Vm *vm = world->vm;
    g_autofree char *release = NULL, *data = NULL, *json = NULL;
    RvChannelInfo info;

    vm->current = world;
    rv_channel_get_info(world->channel, &info);
    release = escape(info.release, sizeof(info.release));
    data = g_strdup_printf("\"os\": \"%s\", \"release\": \"%s\", \"epoch\": %" G_GUINT64_FORMAT, os_name(info.os),
                           release, (guint64)info.epoch);
    json = event_json("RVMRPC_CONNECTED", data);
    g_message("%s: connected, %s %s, QEMU %d", vm->config->name, os_name(info.os), release, world->pid);
    rv_server_event(vm->server, json);
}

static void tell_disconnected(Vm *vm, const char *why)
{
    g_autofree char *data = g_strdup_printf("\"reason\": \"%s\"", why);
    g_autofree char *json = event_json("RVMRPC_DISCONNECTED", data);

    g_message("%s: disconnected, %s", vm->config->name, why);
    rv_server_event(vm->server, json);
}

static void closed(void *opaque, RvClosed why)
{
    static const char *const reasons[] = {
        [RV_CLOSED_GUEST_EXIT] = "guest-exit",
        [RV_CLOSED_REPLACED] = "replaced",
        [RV_CLOSED_OVERWRITTEN] = "state-loaded",
    };
    World *world = opaque;

    tell_disconnected(world->vm, reasons[why]);
}

static const RvChannelOps channel_ops = { opened, closed };

/* ---- Worlds ---- */

static void world_close(World *world)
{
    if (world->base) {
        munmap(world->base, world->size);
    }
    for (int i = 0; i < NFDS; i++) {
        if (world->fds[i] >= 0) {
            close(world->fds[i]);
        }
    }
    g_free(world);
}

/* @keep: QEMU goes on without us for a while. */
static void world_end(World *world, bool keep)
{
    Vm *vm = world->vm;
    RvChannelInfo info;

    rv_channel_get_info(world->channel, &info);
    g_queue_remove(&vm->worlds, world);
    if (vm->current == world) {
        vm->current = g_queue_peek_tail(&vm->worlds);
    }
    g_source_destroy(world->watch);
    g_source_unref(world->watch);
    rv_channel_free(world->channel, keep ? RVMRPC_STATUS_RESET : RVMRPC_STATUS_NOT_CONNECTED);
    if (!keep) {
        fdstore_forget(vm->config->name, world->id);
        if (info.open) {
            tell_disconnected(vm, "unplugged");
        }
    }
    world_close(world);
}

/* QEMU sends nothing after it was greeted: this is its end, or its device's. */
static gboolean hung_up(gint fd, GIOCondition condition, gpointer opaque)
{
    World *world = opaque;
    char bytes[64];
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    (void)condition;
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) {
        return G_SOURCE_CONTINUE;
    }
    g_message("%s: QEMU %d has gone", world->vm->config->name, world->pid);
    world_end(world, false);
    return G_SOURCE_REMOVE;
}

/* Maps its memory, of the size that it has. */
static bool world_map(World *world)
{
    struct ucred peer = { 0 };
    socklen_t length = sizeof(peer);
    struct stat st;

    if (fstat(world->fds[FD_MEMORY], &st) < 0) {
        return false;
    }
    world->size = st.st_size;
    world->base = mmap(NULL, world->size, PROT_READ | PROT_WRITE, MAP_SHARED, world->fds[FD_MEMORY], 0);
    if (world->base == MAP_FAILED) {
        world->base = NULL;
        return false;
    }
    if (getsockopt(world->fds[FD_CONNECTION], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
        world->pid = peer.pid;
    }
    return true;
}

static void world_begin(World *world)
{
    Vm *vm = world->vm;
    RvChannelConfig config = {
        .base = world->base,
        .size = world->size,
        .layout = vm->config->layout,
        .doorbell = RVMRPC_IVSHMEM_ID_HOST << 16,
        .doorbell_fd = world->fds[FD_DOORBELL],
        .interrupt_fd = world->fds[FD_INTERRUPT],
        .spin_us = vm->config->window.spin_us,
        .ops = &channel_ops,
        .opaque = world,
    };

    world->channel = rv_channel_new(&config);
    world->watch = g_unix_fd_source_new(world->fds[FD_CONNECTION], G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(world->watch, G_SOURCE_FUNC(hung_up), world, NULL);
    g_source_attach(world->watch, NULL);
    g_queue_push_tail(&vm->worlds, world);
    if (!vm->current) {
        vm->current = world;
    }
}

static World *world_alloc(Vm *vm, unsigned id)
{
    World *world = g_new0(World, 1);

    world->vm = vm;
    world->id = id;
    memset(world->fds, 0xff, sizeof(world->fds));
    return world;
}

static bool world_make(World *world, uint64_t size)
{
    int *fds = world->fds;

    fds[FD_MEMORY] = memfd_create("rvmrpc-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fds[FD_DOORBELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fds[FD_INTERRUPT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fds[FD_MEMORY] >= 0 && fds[FD_DOORBELL] >= 0 && fds[FD_INTERRUPT] >= 0 &&
           ftruncate(fds[FD_MEMORY], size) == 0 &&
           fcntl(fds[FD_MEMORY], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 && world_map(world);
}

static unsigned new_id(const Vm *vm)
{
    unsigned id = 1;

    for (GList *l = vm->worlds.head; l; l = l->next) {
        id = MAX(id, ((World *)l->data)->id + 1);
    }
    return id;
}

static void greet(Vm *vm, int sock)
{
    World *world = world_alloc(vm, new_id(vm));

    world->fds[FD_CONNECTION] = sock;
    if (!world_make(world, vm->config->window.size) ||
        !ivshmem_greet(sock, world->fds[FD_MEMORY], world->fds[FD_DOORBELL], world->fds[FD_INTERRUPT])) {
        g_warning("%s: cannot give QEMU its window: %s", vm->config->name, g_strerror(errno));
        world_close(world);
        return;
    }
    fdstore_keep(vm->config->name, world->id, world->fds);
    g_message("%s: QEMU %d has its window", vm->config->name, world->pid);
    world_begin(world);
}

void vm_adopt(Vm *vm, unsigned id, const int fds[NFDS])
{
    const WindowConfig *w = &vm->config->window;
    World *world = world_alloc(vm, id);

    memcpy(world->fds, fds, sizeof(world->fds));
    if (!world_map(world) ||
        !rvmrpc_layout_make(world->size, w->slots, w->request, w->response, &vm->config->layout)) {
        g_warning("%s: the window that was kept does not fit its configuration; start the VM anew", vm->config->name);
        fdstore_forget(vm->config->name, id);
        world_close(world);
        return;
    }
    g_message("%s: QEMU %d again", vm->config->name, world->pid);
    world_begin(world);
}

/* ---- QEMU's socket ---- */

static gboolean acceptable(gint fd, GIOCondition condition, gpointer opaque);

static void watch_listener(Vm *vm)
{
    vm->watch = g_unix_fd_source_new(vm->listener, G_IO_IN);
    g_source_set_callback(vm->watch, G_SOURCE_FUNC(acceptable), vm, NULL);
    g_source_attach(vm->watch, NULL);
}

static gboolean listen_again(gpointer opaque)
{
    Vm *vm = opaque;

    g_source_unref(vm->watch);
    watch_listener(vm);
    return G_SOURCE_REMOVE;
}

static gboolean acceptable(gint fd, GIOCondition condition, gpointer opaque)
{
    Vm *vm = opaque;
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    (void)condition;
    if (sock < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        g_warning("%s: accept: %s", vm->config->name, g_strerror(errno));
        g_source_unref(vm->watch);
        vm->watch = g_timeout_source_new(SPARE_MS);
        g_source_set_callback(vm->watch, listen_again, vm, NULL);
        g_source_attach(vm->watch, NULL);
        return G_SOURCE_REMOVE;
    }
    if (sock >= 0 && vm->worlds.length >= WORLDS_MAX) {
        g_warning("%s: %u QEMUs are connected already; is its socket in several domains?", vm->config->name,
                  vm->worlds.length);
        close(sock);
    } else if (sock >= 0) {
        greet(vm, sock);
    }
    return G_SOURCE_CONTINUE;
}

/* ---- Clients ---- */

static uint32_t submit(void *opaque, RvCall *call)
{
    Vm *vm = opaque;

    return vm->current ? rv_channel_submit(vm->current->channel, call) : RVMRPC_STATUS_NOT_CONNECTED;
}

static void cancel(void *opaque, RvCall *call)
{
    (void)opaque;
    rv_channel_cancel(call);
}

static uint32_t max_arg(void *opaque)
{
    const Vm *vm = opaque;

    return vm->config->layout.req_bytes;
}

static char *info(void *opaque)
{
    return info_json(opaque);
}

static const RvServerOps server_ops = { submit, cancel, max_arg, info };

/* ---- Life ---- */

Vm *vm_new(VmConfig *config, GError **error)
{
    Vm *vm = g_new0(Vm, 1);

    vm->config = config;
    vm->listener = rv_listen(config->ivshmem, config->ivshmem_mode, 8, &vm->made, error);
    if (vm->listener < 0) {
        vm_config_free(config);
        g_free(vm);
        return NULL;
    }
    vm->server = rv_server_new(config->socket, config->socket_mode, NULL, &server_ops, vm, error);
    watch_listener(vm);
    if (!vm->server) {
        vm_free(vm, true);
        return NULL;
    }
    return vm;
}

void vm_free(Vm *vm, bool keep)
{
    World *world;

    while ((world = g_queue_peek_head(&vm->worlds))) {
        world_end(world, keep);
    }
    g_source_destroy(vm->watch);
    g_source_unref(vm->watch);
    if (vm->server) {
        rv_server_free(vm->server);
    }
    rv_unlink_made(vm->config->ivshmem, &vm->made);
    close(vm->listener);
    vm_config_free(vm->config);
    g_free(vm);
}
