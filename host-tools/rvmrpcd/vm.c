/*
 * rvmrpcd: a VM's two sockets, and the QEMUs that are connected
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "rvmrpc_fdsource.h"
#include "rvmrpc_list.h"
#include "rvmrpc_listener.h"
#include "rvmrpc_sockserver.h"
#include "rvmrpcd.h"

/* QEMUs of a VM at a time: the two of a migration, and one that is going. */
#define WORLDS_MAX  3
#define SEALS       (F_SEAL_SHRINK | F_SEAL_GROW)
/* Log lines that a guest causes: so many at once, then one in that time. */
#define LINES_MAX   20
#define LINE_NS     (10 * 1000000000ull)

typedef struct World {
    Vm *vm;
    unsigned id;
    int fds[NFDS];
    pid_t pid;                  /* of QEMU, as the kernel says */
    void *base;
    uint64_t size;
    RvmrpcChannel *channel;
    RvmrpcList *list;
    GSource *watch;
} World;

struct Vm {
    VmConfig *config;
    KernelUse kernel;
    VmIdle *idle;
    void *opaque;
    RvmrpcListener *listener;   /* NULL: QEMUs come another way */
    RvmrpcSockServer *server;
    GQueue worlds;
    World *current;             /* whose guest said hello last, if any did */
    unsigned lines;             /* of the log, until they count no more */
    uint64_t lines_at;
};

/* A guest shall not fill the host's log. */
G_GNUC_PRINTF(2, 3)
static void say(Vm *vm, const char *format, ...)
{
    uint64_t now = rvmrpc_clock(), gone = (now - vm->lines_at) / LINE_NS;
    g_autofree char *text = NULL;
    va_list args;

    vm->lines_at += gone * LINE_NS;
    vm->lines -= MIN(vm->lines, gone);
    if (vm->lines >= LINES_MAX) {
        return;
    }
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_message("%s: %s%s", vm->config->name, text, ++vm->lines < LINES_MAX ?
              "" : " (and more, which is not said for a while)");
}

/* ---- What the channel tells ---- */

static void set_current(Vm *vm, World *world)
{
    vm->current = world;
    rvmrpc_sockserver_set_channel(vm->server, world ? world->channel : NULL);
}

static void tell(Vm *vm, char *json)
{
    rvmrpc_sockserver_event(vm->server, json);
    g_free(json);
}

static void opened(void *opaque)
{
    World *world = opaque;
    Vm *vm = world->vm;
    g_autofree char *release = NULL;
    RvmrpcChannelInfo info;

    if (vm->current != world && vm->current &&
        rvmrpc_channel_epoch(vm->current->channel)) {
        say(vm, "the guest of QEMU %d takes over from that of QEMU %d",
            world->pid, vm->current->pid);
    }
    set_current(vm, world);
    rvmrpc_channel_get_info(world->channel, &info);
    release = g_strescape(info.release, NULL);
    say(vm, "connected, kernel %s, QEMU %d", release, world->pid);
    tell(vm, info_connected(&info));
    rvmrpc_list_refresh(world->list);
}

static void disconnected(World *world, const char *why)
{
    Vm *vm = world->vm;

    /* Of a QEMU that another one has replaced nobody needs to know. */
    if (vm->current == world) {
        say(vm, "disconnected, %s", why);
        tell(vm, info_disconnected(why));
    }
}

static void closed(void *opaque, RvmrpcClosed why)
{
    static const char *const reasons[] = {
        [RVMRPC_CLOSED_GUEST_EXIT] = "guest-exit",
        [RVMRPC_CLOSED_REPLACED] = "replaced",
        [RVMRPC_CLOSED_OVERWRITTEN] = "state-loaded",
    };

    disconnected(opaque, reasons[why]);
}

static void stuck(void *opaque)
{
    World *world = opaque;

    say(world->vm, "the guest answers in none of its slots");
}

static void event(void *opaque, const struct rvmrpc_told *told)
{
    World *world = opaque;

    if (world->vm->current == world) {
        tell(world->vm, info_event(told));
    }
}

static const RvmrpcChannelOps channel_ops = {
    .opened = opened,
    .closed = closed,
    .stuck = stuck,
    .event = event,
};

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

static World *world_alloc(Vm *vm, unsigned id)
{
    World *world = g_new0(World, 1);

    world->vm = vm;
    world->id = id;
    memset(world->fds, 0xff, sizeof(world->fds));
    return world;
}

/* Another one with a guest, else any. */
static World *best_world(const Vm *vm)
{
    GList *last = vm->worlds.tail;

    for (GList *l = last; l; l = l->prev) {
        World *world = l->data;

        if (rvmrpc_channel_epoch(world->channel)) {
            return world;
        }
    }
    return last ? last->data : NULL;
}

/* @keep: QEMU goes on without us for a while. */
static void world_end(World *world, bool keep)
{
    Vm *vm = world->vm;
    bool open = rvmrpc_channel_epoch(world->channel);

    if (open && !keep) {
        disconnected(world, "unplugged");
    }
    g_queue_remove(&vm->worlds, world);
    if (vm->current == world) {
        set_current(vm, best_world(vm));
    }
    rvmrpc_fd_source_free(world->watch);
    rvmrpc_channel_free(world->channel, keep ? RVMRPC_STATUS_RESET :
                        RVMRPC_STATUS_NOT_CONNECTED);
    rvmrpc_list_free(world->list);
    if (!keep) {
        fdstore_forget(vm->config->name, world->id);
    }
    world_close(world);
}

/* QEMU sends nothing: what comes is its end, its device's, or no QEMU. */
static void hung_up(GIOCondition condition, void *opaque)
{
    World *world = opaque;
    Vm *vm = world->vm;
    char byte;

    if (!(condition & (G_IO_HUP | G_IO_ERR)) &&
        recv(world->fds[FD_CONNECTION], &byte, 1, MSG_DONTWAIT) < 0 &&
        (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    say(vm, "QEMU %d has gone", world->pid);
    world_end(world, false);
    if (g_queue_is_empty(&vm->worlds)) {
        vm->idle(vm, vm->opaque);
    }
}

/* Maps its memory, which cannot shrink under us, of the size that it has. */
static bool world_map(World *world)
{
    int seals = fcntl(world->fds[FD_MEMORY], F_GET_SEALS);
    struct stat st;
    uid_t uid;

    if (fstat(world->fds[FD_MEMORY], &st) < 0 || seals < 0 ||
        (seals & SEALS) != SEALS) {
        return false;
    }
    world->size = st.st_size;
    world->base = mmap(NULL, world->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                       world->fds[FD_MEMORY], 0);
    if (world->base == MAP_FAILED) {
        world->base = NULL;
        return false;
    }
    return rvmrpc_peer(world->fds[FD_CONNECTION], &uid, &world->pid);
}

static void parse_uuid(const char *text, uint8_t uuid[16])
{
    int n = 0;

    for (; text && *text && n < 16; text++) {
        if (*text != '-') {
            uuid[n++] = g_ascii_xdigit_value(text[0]) << 4 |
                        g_ascii_xdigit_value(text[1]);
            text++;
        }
    }
}

static void world_begin(World *world, const struct rvmrpc_layout *layout)
{
    Vm *vm = world->vm;
    RvmrpcKernelConfig kernel = {
        .name = vm->config->name,
        .pid = world->pid,
        .token_fd = -1,
        .wanted = vm->kernel == KERNEL_ON,
    };
    const RvmrpcChannelConfig config = {
        .base = world->base,
        .size = world->size,
        .layout = *layout,
        .doorbell = RVMRPC_IVSHMEM_ID_HOST << 16,
        .doorbell_fd = world->fds[FD_DOORBELL],
        .interrupt_fd = world->fds[FD_INTERRUPT],
        .spin_us = vm->config->window.spin_us,
        .kernel = vm->kernel == KERNEL_OFF ? NULL : &kernel,
        .ops = &channel_ops,
        .opaque = world,
    };

    parse_uuid(vm->config->uuid, kernel.uuid);
    world->channel = rvmrpc_channel_new(&config);
    world->list = rvmrpc_list_new(world->channel);
    world->watch = rvmrpc_fd_source_new(world->fds[FD_CONNECTION], G_IO_IN,
                                        NULL, hung_up, world);
    g_queue_push_tail(&vm->worlds, world);
    if (!vm->current || !rvmrpc_channel_epoch(vm->current->channel)) {
        set_current(vm, world);
    }
}

static bool world_make(World *world, uint64_t size)
{
    int *fds = world->fds;

    fds[FD_MEMORY] = memfd_create("rvmrpc-window",
                                  MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fds[FD_DOORBELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fds[FD_INTERRUPT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fds[FD_MEMORY] >= 0 && fds[FD_DOORBELL] >= 0 &&
           fds[FD_INTERRUPT] >= 0 && ftruncate(fds[FD_MEMORY], size) == 0 &&
           fcntl(fds[FD_MEMORY], F_ADD_SEALS, SEALS | F_SEAL_SEAL) == 0 &&
           world_map(world);
}

static unsigned new_id(const Vm *vm)
{
    unsigned id = 1;

    for (GList *l = vm->worlds.head; l; l = l->next) {
        id = MAX(id, ((World *)l->data)->id + 1);
    }
    return id;
}

/* What is configured; one slot in a window from before, which is too small. */
static bool find_layout(const World *world, struct rvmrpc_layout *layout)
{
    uint32_t bytes = MIN(world->size / 8, RVMRPC_SLOT_BYTES_MAX);

    if (config_layout(&world->vm->config->window, world->size, layout)) {
        return true;
    }
    g_message("%s: until it starts anew its window has one slot: what is "
              "configured does not fit into it", world->vm->config->name);
    return rvmrpc_layout_make(world->size, 1, bytes, bytes, layout);
}

void vm_greet(Vm *vm, int sock)
{
    World *world = world_alloc(vm, new_id(vm));
    struct rvmrpc_layout layout;

    world->fds[FD_CONNECTION] = sock;
    if (vm->worlds.length >= WORLDS_MAX) {
        say(vm, "%u QEMUs are connected; is its socket in several domains?",
            vm->worlds.length);
        ivshmem_refuse(sock);
        world_close(world);
        return;
    }
    if (!world_make(world, vm->config->window.size) ||
        !find_layout(world, &layout)) {
        say(vm, "cannot make a window: %s", g_strerror(errno));
        ivshmem_refuse(sock);
        world_close(world);
        return;
    }
    if (!ivshmem_greet(sock, world->fds[FD_MEMORY], world->fds[FD_DOORBELL],
                       world->fds[FD_INTERRUPT])) {
        say(vm, "cannot give QEMU %d its window: %s", world->pid,
            g_strerror(errno));
        world_close(world);
        return;
    }
    world_begin(world, &layout);
    fdstore_keep(vm->config->name, world->id, world->fds);
    say(vm, "QEMU %d has its window", world->pid);
}

void vm_adopt(Vm *vm, unsigned id, const int fds[NFDS])
{
    World *world = world_alloc(vm, id);
    struct rvmrpc_layout layout;

    memcpy(world->fds, fds, sizeof(world->fds));
    if (!world_map(world) || !find_layout(world, &layout)) {
        g_warning("%s: a window that was kept is of no use; start the VM anew",
                  vm->config->name);
        fdstore_forget(vm->config->name, id);
        world_close(world);
        return;
    }
    g_message("%s: QEMU %d goes on", vm->config->name, world->pid);
    world_begin(world, &layout);
}

/* ---- Life ---- */

static void accepted(int fd, void *opaque)
{
    vm_greet(opaque, fd);
}

static char *info(void *opaque)
{
    const Vm *vm = opaque;
    const World *world = vm->current;
    g_autoptr(GArray) entries = NULL;
    RvmrpcChannelInfo info;

    if (!world) {
        return info_json(vm->config, 0, NULL, NULL);
    }
    rvmrpc_list_refresh(world->list);
    rvmrpc_channel_get_info(world->channel, &info);
    entries = rvmrpc_list_get(world->list);
    return info_json(vm->config, world->pid, &info, entries);
}

static bool listen_for_qemu(Vm *vm, const Config *config, GError **error)
{
    int fd = fdstore_listening(vm->config->ivshmem);

    vm->listener = fd >= 0 ?
        rvmrpc_listener_new_for_fd(fd, NULL, accepted, vm) :
        rvmrpc_listener_new(vm->config->ivshmem, config->ivshmem_mode,
                            vm->config->ivshmem_gid, NULL, accepted, vm,
                            error);
    return vm->listener;
}

Vm *vm_new(const Config *config, VmConfig *vm_config, VmIdle *idle,
           void *opaque, GError **error)
{
    Vm *vm = g_new0(Vm, 1);
    const RvmrpcSockConfig sock = {
        .path = vm_config->socket,
        .mode = config->socket_mode,
        .gid = vm_config->socket_gid,
        .fd = fdstore_listening(vm_config->socket),
        .info = info,
        .opaque = vm,
    };

    vm->config = vm_config;
    vm->kernel = config->kernel;
    vm->idle = idle;
    vm->opaque = opaque;
    vm->lines_at = rvmrpc_clock();
    vm->server = rvmrpc_sockserver_new(&sock, error);
    if (!vm->server ||
        (!vm_config->unverified && !listen_for_qemu(vm, config, error))) {
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
    g_clear_pointer(&vm->listener, rvmrpc_listener_free);
    g_clear_pointer(&vm->server, rvmrpc_sockserver_free);
    config_free_vm(vm->config);
    g_free(vm);
}

/* One that was kept, and had no file until now. */
static bool verify(Vm *vm, const Config *config, const VmConfig *vm_config,
                   GError **error)
{
    g_free(vm->config->ivshmem);
    vm->config->ivshmem = g_strdup(vm_config->ivshmem);
    vm->config->ivshmem_gid = vm_config->ivshmem_gid;
    vm->config->unverified = !listen_for_qemu(vm, config, error);
    return !vm->config->unverified;
}

bool vm_update(Vm *vm, const Config *config, const VmConfig *vm_config,
               GError **error)
{
    g_free(vm->config->uuid);
    vm->config->uuid = g_strdup(vm_config->uuid);
    vm->config->window = vm_config->window;
    return !vm->config->unverified || verify(vm, config, vm_config, error);
}

bool vm_is_idle(const Vm *vm)
{
    return vm->worlds.length == 0;
}

const VmConfig *vm_config(const Vm *vm)
{
    return vm->config;
}
