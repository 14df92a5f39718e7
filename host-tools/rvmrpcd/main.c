/*
 * rvmrpcd: calls into the kernels of guests under a stock QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "rvmrpc_listener.h"
#include "rvmrpcd.h"
#include "../common/stdio.h"

/* Of those that nobody configured. */
#define UNVERIFIED_MAX  256

typedef struct Daemon {
    char *file;
    char **options;             /* of --vm */
    Config *config;
    GHashTable *vms;            /* Vm by name */
    GHashTable *leaving;        /* names of those that go when idle */
    RvmrpcListener *any;
    GMainLoop *loop;
} Daemon;

/* ---- VMs ---- */

static void make_folder(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    /* What cannot be made shows when it is listened on. */
    g_mkdir_with_parents(folder, 0755);
}

static void idle(Vm *vm, void *opaque)
{
    Daemon *d = opaque;
    const char *name = vm_config(vm)->name;

    if (g_hash_table_contains(d->leaving, name)) {
        g_hash_table_remove(d->leaving, name);
        g_hash_table_remove(d->vms, name);
        vm_free(vm, false);
    }
}

/* Takes over @config. */
static Vm *add_vm(Daemon *d, VmConfig *config, GError **error)
{
    Vm *vm;

    make_folder(config->ivshmem);
    make_folder(config->socket);
    vm = vm_new(d->config, config, idle, d, error);
    if (vm) {
        g_hash_table_insert(d->vms, vm_config(vm)->name, vm);
    }
    return vm;
}

static bool update_vm(Daemon *d, Vm *vm, const VmConfig *config,
                      GError **error)
{
    make_folder(config->ivshmem);
    return vm_update(vm, d->config, config, error);
}

static void leave(Daemon *d, Vm *vm)
{
    g_hash_table_add(d->leaving, g_strdup(vm_config(vm)->name));
    if (vm_is_idle(vm)) {
        idle(vm, d);
    }
}

/* One that nobody configured; it goes with its QEMU. */
static Vm *add_unverified(Daemon *d, const char *name, GError **error)
{
    VmConfig *config = config_new_vm(d->config, name);
    Vm *vm;

    config->unverified = TRUE;
    vm = add_vm(d, config, error);
    if (vm) {
        g_hash_table_add(d->leaving, g_strdup(name));
    }
    return vm;
}

static void accepted_any(int fd, void *opaque)
{
    Daemon *d = opaque;
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;
    uid_t uid;
    pid_t pid;
    Vm *vm = NULL;

    if (rvmrpc_peer(fd, &uid, &pid) &&
        g_hash_table_size(d->leaving) < UNVERIFIED_MAX) {
        name = g_strdup_printf("pid-%d", pid);
        vm = g_hash_table_lookup(d->vms, name) ?:
             add_unverified(d, name, &error);
    }
    if (vm) {
        vm_greet(vm, fd);
        if (vm_is_idle(vm)) {
            idle(vm, d);
        }
        return;
    }
    g_warning("a VM that is not configured is not served: %s",
              error ? error->message : "there are too many");
    ivshmem_refuse(fd);
    close(fd);
}

static bool listen_any(Daemon *d, GError **error)
{
    g_autofree char *path = g_strconcat(d->config->ivshmem_dir,
                                        "/any.ivshmem", NULL);
    int fd;

    if (!d->config->any) {
        return true;
    }
    make_folder(path);
    fd = fdstore_listening(path);
    d->any = fd >= 0 ?
        rvmrpc_listener_new_for_fd(fd, NULL, accepted_any, d) :
        rvmrpc_listener_new(path, d->config->ivshmem_mode,
                            d->config->ivshmem_gid, NULL, accepted_any, d,
                            error);
    return d->any;
}

/* ---- Configuration ---- */

static const VmConfig *find_config(const Config *config, const char *name)
{
    for (guint i = 0; i < config->vms->len; i++) {
        const VmConfig *vm = config->vms->pdata[i];

        if (g_str_equal(vm->name, name)) {
            return vm;
        }
    }
    return NULL;
}

/* Those that are not in the configuration any more. */
static void drop_gone(Daemon *d, const Config *config)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    GHashTableIter iter;
    void *vm;

    g_hash_table_iter_init(&iter, d->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm)) {
        if (!find_config(config, vm_config(vm)->name)) {
            g_ptr_array_add(gone, vm);
        }
    }
    for (guint i = 0; i < gone->len; i++) {
        leave(d, gone->pdata[i]);
    }
}

/* What cannot be added is said; the others are served. */
static guint add_new(Daemon *d, const Config *config)
{
    guint failed = 0;

    for (guint i = 0; i < config->vms->len; i++) {
        const VmConfig *vm = config->vms->pdata[i];
        Vm *known = g_hash_table_lookup(d->vms, vm->name);
        g_autoptr(GError) error = NULL;

        g_hash_table_remove(d->leaving, vm->name);
        if (known ? !update_vm(d, known, vm, &error) :
            !add_vm(d, config_dup_vm(vm), &error)) {
            g_warning("%s: %s", vm->name, error->message);
            failed++;
        }
    }
    return failed;
}

static gboolean reload(void *opaque)
{
    Daemon *d = opaque;
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config =
        config_load(d->file, (const char *const *)d->options, &error);

    sd_notify(FALSE, "RELOADING=1");
    if (config) {
        drop_gone(d, config);
        add_new(d, config);
    } else {
        g_warning("%s; all stays as it was", error->message);
    }
    sd_notify(FALSE, "READY=1");
    return G_SOURCE_CONTINUE;
}

static void found(const char *name, unsigned world, const int fds[NFDS],
                  void *opaque)
{
    Daemon *d = opaque;
    g_autoptr(GError) error = NULL;
    Vm *vm = g_hash_table_lookup(d->vms, name) ?:
             add_unverified(d, name, &error);

    if (vm) {
        vm_adopt(vm, world, fds);
        if (vm_is_idle(vm)) {
            idle(vm, d);
        }
        return;
    }
    g_warning("%s: %s", name, error->message);
    fdstore_forget(name, world);
    for (int i = 0; i < NFDS; i++) {
        close(fds[i]);
    }
}

/* ---- Life ---- */

static gboolean quit(void *opaque)
{
    Daemon *d = opaque;

    g_main_loop_quit(d->loop);
    return G_SOURCE_CONTINUE;
}

static bool parse(Daemon *d, int argc, char **argv, GError **error)
{
    gboolean version = FALSE;
    const GOptionEntry entries[] = {
        { "config", 'c', 0, G_OPTION_ARG_FILENAME, &d->file,
          "Configuration (default: /etc/rvmrpcd/rvmrpcd.conf)", "FILE" },
        { "vm", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->options,
          "Serve this VM, too; may be repeated",
          "name=NAME[,uuid=UUID][,KEY=VALUE]..." },
        { "version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version",
          NULL },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_summary(context, "Calls into the kernels of guests "
        "whose QEMU has -device ivshmem-doorbell on a socket of this daemon.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error)) {
        return false;
    }
    if (version) {
        puts("rvmrpcd " RVMRPC_VERSION);
        exit(EXIT_SUCCESS);
    }
    if (argc > 1) {
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                            "no arguments are taken; see --help");
        return false;
    }
    return true;
}

/* Four descriptors for a VM, and one for a client. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool start(Daemon *d, GError **error)
{
    d->config = config_load(d->file, (const char *const *)d->options, error);
    if (!d->config) {
        return false;
    }
    raise_limit();
    fdstore_take();
    if (!listen_any(d, error)) {
        return false;
    }
    if (add_new(d, d->config) && !g_hash_table_size(d->vms)) {
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
                            "no VM can be served");
        return false;
    }
    fdstore_restore(found, d);
    return true;
}

static void end(Daemon *d)
{
    GHashTableIter iter;
    void *vm;

    g_hash_table_iter_init(&iter, d->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm)) {
        g_hash_table_iter_remove(&iter);
        vm_free(vm, true);
    }
    g_hash_table_unref(d->vms);
    g_hash_table_unref(d->leaving);
    g_clear_pointer(&d->any, rvmrpc_listener_free);
    g_clear_pointer(&d->config, config_free);
    g_main_loop_unref(d->loop);
    g_strfreev(d->options);
    g_free(d->file);
}

static void log_line(const char *domain, GLogLevelFlags level,
                     const char *text, void *opaque)
{
    (void)domain;
    (void)opaque;
    fprintf(stderr, "rvmrpcd: %s%s\n",
            level & G_LOG_LEVEL_WARNING ? "warning: " : "", text);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    Daemon d = { .file = NULL };
    int status = EXIT_SUCCESS;

    stdio_begin("rvmrpcd");
    d.vms = g_hash_table_new(g_str_hash, g_str_equal);
    d.leaving = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d.loop = g_main_loop_new(NULL, FALSE);
    signal(SIGPIPE, SIG_IGN);
    g_log_set_handler(G_LOG_DOMAIN, G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_WARNING,
                      log_line, NULL);
    g_unix_signal_add(SIGTERM, quit, &d);
    g_unix_signal_add(SIGINT, quit, &d);
    g_unix_signal_add(SIGHUP, reload, &d);
    if (!parse(&d, argc, argv, &error)) {
        status = 2;
    } else if (!start(&d, &error)) {
        status = EXIT_FAILURE;
    } else {
        g_message("%u VMs", g_hash_table_size(d.vms));
        sd_notify(FALSE, "READY=1");
        g_main_loop_run(d.loop);
        sd_notify(FALSE, "STOPPING=1");
    }
    if (error) {
        fprintf(stderr, "rvmrpcd: %s\n", error->message);
    }
    end(&d);
    return status;
}
