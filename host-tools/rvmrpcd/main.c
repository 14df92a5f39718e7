/*
 * rvmrpcd: calls into the kernels of guests under a stock QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "rvmrpcd.h"

typedef struct Daemon {
    char *config;
    char **names;
    GHashTable *vms;            /* Vm by name */
    GMainLoop *loop;
} Daemon;

static void make_folder(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    /* What cannot be made shows when it is listened on. */
    g_mkdir_with_parents(folder, 0750);
}

/* Takes over @config. */
static bool add_vm(Daemon *d, VmConfig *config, GError **error)
{
    Vm *vm;

    make_folder(config->ivshmem);
    make_folder(config->socket);
    vm = vm_new(config, error);
    if (vm) {
        g_hash_table_insert(d->vms, vm->config->name, vm);
    }
    return vm;
}

/* Adds what is new; what is gone goes once no QEMU uses it. */
static bool load(Daemon *d, GError **error)
{
    g_autoptr(GHashTable) configs = config_load(d->config, d->names, error);
    GHashTableIter iter;
    gpointer name, value;

    if (!configs) {
        return false;
    }
    g_hash_table_iter_init(&iter, d->vms);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        Vm *vm = value;

        if (!g_hash_table_contains(configs, name) && g_queue_is_empty(&vm->worlds)) {
            g_hash_table_iter_remove(&iter);
            vm_free(vm, false);
        }
    }
    g_hash_table_iter_init(&iter, configs);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        if (g_hash_table_contains(d->vms, name)) {
            continue;
        }
        g_hash_table_iter_steal(&iter);
        if (!add_vm(d, value, error)) {
            return false;
        }
    }
    return true;
}

static void found(const char *name, unsigned world, const int fds[NFDS], void *opaque)
{
    Daemon *d = opaque;
    Vm *vm = g_hash_table_lookup(d->vms, name);

    if (vm) {
        vm_adopt(vm, world, fds);
        return;
    }
    g_warning("%s: a QEMU of it runs, but it is configured no more", name);
    fdstore_forget(name, world);
    for (int i = 0; i < NFDS; i++) {
        close(fds[i]);
    }
}

static gboolean quit(gpointer opaque)
{
    g_main_loop_quit(((Daemon *)opaque)->loop);
    return G_SOURCE_CONTINUE;
}

static gboolean reload(gpointer opaque)
{
    g_autoptr(GError) error = NULL;

    if (!load(opaque, &error)) {
        g_warning("%s; going on with what was read so far", error->message);
    }
    return G_SOURCE_CONTINUE;
}

static bool parse(Daemon *d, int argc, char **argv, GError **error)
{
    gboolean version = FALSE;
    const GOptionEntry entries[] = {
        { "config", 'c', 0, G_OPTION_ARG_FILENAME, &d->config, "its configuration (default: /etc/rvmrpcd.conf)",
          "FILE" },
        { "vm", 0, 0, G_OPTION_ARG_STRING_ARRAY, &d->names, "serve a VM of that name, without a file for it", "NAME" },
        { "version", 0, 0, G_OPTION_ARG_NONE, &version, "print the version", NULL },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_summary(context, "Calls into the kernels of guests whose QEMU has -device ivshmem-doorbell "
                                 "on one of the sockets of this daemon.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error)) {
        return false;
    }
    if (version) {
        puts("rvmrpcd " RVMRPC_VERSION);
        exit(0);
    }
    if (argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "what is '%s'? See --help", argv[1]);
        return false;
    }
    return true;
}

static void end(Daemon *d)
{
    GHashTableIter iter;
    gpointer vm;

    g_hash_table_iter_init(&iter, d->vms);
    while (g_hash_table_iter_next(&iter, NULL, &vm)) {
        g_hash_table_iter_remove(&iter);
        vm_free(vm, true);
    }
    g_hash_table_unref(d->vms);
    g_main_loop_unref(d->loop);
    g_strfreev(d->names);
    g_free(d->config);
    /* What was to be told to clients that have gone. */
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    Daemon d = { .vms = g_hash_table_new(g_str_hash, g_str_equal) };
    int status = EXIT_SUCCESS;

    signal(SIGPIPE, SIG_IGN);
    d.loop = g_main_loop_new(NULL, FALSE);
    if (!parse(&d, argc, argv, &error) || !load(&d, &error)) {
        fprintf(stderr, "rvmrpcd: %s\n", error->message);
        status = EXIT_FAILURE;
    } else {
        fdstore_restore(found, &d);
        g_unix_signal_add(SIGTERM, quit, &d);
        g_unix_signal_add(SIGINT, quit, &d);
        g_unix_signal_add(SIGHUP, reload, &d);
        g_message("%u VMs", g_hash_table_size(d.vms));
        sd_notify(FALSE, "READY=1");
        g_main_loop_run(d.loop);
    }
    end(&d);
    return status;
}
