/*
 * librvmrpc: which VMs are there
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's command line says where to ask, libvirt's domains included.  Sockets
 * in the usual folders are found beside that: rvmrpcd's, those of devices that
 * were plugged in later, or of processes that another PID namespace hides.
 * Who is reached says which VM it is.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "private.h"
#include "../common/crowd.h"

/* rvmrpcd's, where root alone can write, and that of our QEMUs. */
#define SOCKET_FOLDERS  "/run/rvmrpcd:/run/rvmrpc"
/* For a socket to say which VM it is of. */
#define IDENTIFY_MS     300
/* For libvirt to say whether it knows a name; it may have to start first. */
#define VIRSH_MS        3000

/* ---- struct RvmrpcVm ---- */

RvmrpcVm *vm_new(void)
{
    RvmrpcVm *vm = g_new0(RvmrpcVm, 1);

    g_atomic_ref_count_init(&vm->refs);
    return vm;
}

RvmrpcVm *rvmrpc_vm_ref(RvmrpcVm *vm)
{
    g_atomic_ref_count_inc(&vm->refs);
    return vm;
}

void rvmrpc_vm_unref(RvmrpcVm *vm)
{
    if (g_atomic_ref_count_dec(&vm->refs)) {
        g_free(vm->name);
        g_free(vm->uuid);
        g_free(vm->socket);
        g_free(vm->qmp);
        g_free(vm->label);
        g_free(vm);
    }
}

const char *rvmrpc_vm_get_name(const RvmrpcVm *vm)
{
    return vm->label;
}

const char *rvmrpc_vm_get_uuid(const RvmrpcVm *vm)
{
    return vm->uuid;
}

gint64 rvmrpc_vm_get_pid(const RvmrpcVm *vm)
{
    return vm->pid;
}

const char *rvmrpc_vm_get_socket(const RvmrpcVm *vm)
{
    return vm->socket;
}

static void set_label(RvmrpcVm *vm)
{
    const char *path = vm->socket ?: vm->qmp;

    g_free(vm->label);
    if (vm->name) {
        vm->label = rvmrpc_escape(vm->name, FALSE);
    } else if (path) {
        g_autofree char *base = g_path_get_basename(path);

        if (g_str_has_suffix(base, ".sock")) {
            base[strlen(base) - strlen(".sock")] = '\0';
        }
        vm->label = rvmrpc_escape(base, FALSE);
    } else {
        vm->label = g_strdup_printf("pid-%" G_GINT64_FORMAT, vm->pid);
    }
}

/* ---- Sockets ---- */

static gboolean same_file(const char *a, const char *b)
{
    g_autofree char *x = realpath(a, NULL), *y = realpath(b, NULL);

    return x && y && strcmp(x, y) == 0;
}

/* Of who may run VMs.  No link: it would lead us to any socket of the host. */
static gboolean is_socket(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
           user_runs_vms(st.st_uid);
}

static void list_folder(GPtrArray *vms, const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        RvmrpcVm *vm;

        if (!g_str_has_suffix(name, ".sock") || !is_socket(path)) {
            continue;
        }
        vm = vm_new();
        vm->of_folder = TRUE;
        vm->socket = g_steal_pointer(&path);
        g_ptr_array_add(vms, vm);
    }
}

static void identify(void *data, void *user_data)
{
    const Until *until = user_data;
    gboolean is_qmp;

    socket_identify(data, until, &is_qmp, NULL);
}

/* Asks all who they are, at the same time. */
static void identify_all(GPtrArray *vms)
{
    Until until = until_ms(IDENTIFY_MS, NULL);
    g_autoptr(GPtrArray) with_socket = g_ptr_array_new();

    for (guint i = 0; i < vms->len; i++) {
        if (((RvmrpcVm *)vms->pdata[i])->socket) {
            g_ptr_array_add(with_socket, vms->pdata[i]);
        }
    }
    crowd_run(identify, with_socket->pdata, with_socket->len, &until);
}

static void list_folders(GPtrArray *vms)
{
    const char *path = g_getenv("RVMRPC_PATH");
    g_autofree char *usual = NULL;
    g_auto(GStrv) folders = NULL;

    usual = g_strdup_printf(SOCKET_FOLDERS ":%s/rvmrpc",
                            g_get_user_runtime_dir());
    folders = g_strsplit(path ?: usual, ":", 0);
    for (char **f = folders; *f; f++) {
        if (**f) {
            list_folder(vms, *f);
        }
    }
}

/*
 * The process that listens tells, not the path, which may be another file to
 * that process; the path when we could not get so far as to ask.
 */
static RvmrpcVm *process_of(const GPtrArray *vms, const RvmrpcVm *found)
{
    for (guint i = 0; i < vms->len; i++) {
        RvmrpcVm *vm = vms->pdata[i];

        if (vm->of_process && (found->peer ? vm->pid == found->peer :
                               vm->socket && !vm->peer &&
                               same_file(vm->socket, found->socket))) {
            return vm;
        }
    }
    return NULL;
}

/* Those of folders that are no process' in the list, and tell no lies. */
static GPtrArray *merge(const GPtrArray *all)
{
    GPtrArray *vms =
        g_ptr_array_new_with_free_func((GDestroyNotify)rvmrpc_vm_unref);

    for (guint i = 0; i < all->len; i++) {
        RvmrpcVm *vm = all->pdata[i], *process = NULL;

        if (vm->stranger) {
            continue;
        }
        if (vm->of_folder) {
            process = process_of(all, vm);
        }
        if (!process) {
            g_ptr_array_add(vms, rvmrpc_vm_ref(vm));
        } else if (!process->socket) {
            process->socket = g_strdup(vm->socket);
        }
    }
    return vms;
}

/* ---- All ---- */

static gint by_label(gconstpointer a, gconstpointer b)
{
    const RvmrpcVm *x = *(RvmrpcVm *const *)a, *y = *(RvmrpcVm *const *)b;
    int order = strcmp(x->label, y->label);

    return order ?: (x->pid > y->pid) - (x->pid < y->pid);
}

GPtrArray *rvmrpc_list_vms(void)
{
    g_autoptr(GPtrArray) all =
        g_ptr_array_new_with_free_func((GDestroyNotify)rvmrpc_vm_unref);
    gboolean folders_only = g_getenv("RVMRPC_PATH") != NULL;
    GPtrArray *vms;

    if (!folders_only) {
        process_list(all);
    }
    list_folders(all);
    identify_all(all);
    vms = merge(all);
    if (!folders_only) {
        kernel_list(vms);
    }
    for (guint i = 0; i < vms->len; i++) {
        set_label(vms->pdata[i]);
    }
    g_ptr_array_sort(vms, by_label);
    return vms;
}

/* ---- One ---- */

static RvmrpcVm *vm_of_path(const char *path, GCancellable *cancellable,
                            GError **error)
{
    Until until = until_ms(IDENTIFY_MS, cancellable);
    g_autoptr(RvmrpcVm) vm = vm_new();
    g_autoptr(GError) err = NULL;
    gboolean is_qmp;

    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                    "no socket %s; 'rvmrpc list' shows the VMs there are",
                    path);
        return NULL;
    }
    vm->socket = g_strdup(path);
    /* What is wrong with it shows when it is used. */
    socket_identify(vm, &until, &is_qmp, &err);
    if (is_qmp) {
        vm->qmp = g_steal_pointer(&vm->socket);
    }
    set_label(vm);
    return g_steal_pointer(&vm);
}

gboolean rvmrpc_vm_is(const RvmrpcVm *vm, const char *what)
{
    return g_strcmp0(vm->name, what) == 0 || strcmp(vm->label, what) == 0 ||
           g_strcmp0(vm->socket, what) == 0 ||
           (vm->uuid && g_ascii_strcasecmp(vm->uuid, what) == 0) ||
           (vm->pid && g_ascii_strtoll(what, NULL, 10) == vm->pid &&
            strspn(what, "0123456789") == strlen(what));
}

static char *ask_virsh(const char *command, const char *what,
                       const Until *until)
{
    const char *argv[] = { "virsh", "-q", command, "--", what, NULL };
    g_autofree char *out = NULL, *complaint = NULL;

    out = virsh_output(argv, until, &complaint, NULL);
    return out && !complaint ? g_strdup(g_strstrip(out)) : NULL;
}

/* virsh takes a number for its own id of a domain first, of any other one. */
static gboolean is_virsh_id(const char *what, const Until *until)
{
    g_autofree char *name = NULL;

    if (strspn(what, "0123456789") != strlen(what)) {
        return FALSE;
    }
    name = ask_virsh("domname", what, until);
    return g_strcmp0(name, what) != 0;
}

/* A domain without our device on its command line, or of another user; NULL without *error: there is none. */
static RvmrpcVm *vm_of_libvirt(const char *what, GCancellable *cancellable,
                               GError **error)
{
    Until until = until_ms(VIRSH_MS, cancellable);
    g_autofree char *virsh = g_find_program_in_path("virsh");
    char *uuid = NULL;
    RvmrpcVm *vm;

    if (virsh && !is_virsh_id(what, &until)) {
        uuid = ask_virsh("domuuid", what, &until);
    }
    if (!uuid) {
        if (virsh &&
            !g_cancellable_set_error_if_cancelled(cancellable, error) &&
            !until_left(&until)) {
            g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_SILENT,
                        "%s: no process shows this name, and virsh does not "
                        "answer; is libvirt stuck?", what);
        }
        return NULL;
    }
    vm = vm_new();
    vm->name = g_strdup(what);
    vm->uuid = uuid;
    vm->libvirt = TRUE;
    set_label(vm);
    return vm;
}

RvmrpcVm *rvmrpc_find_vm(const char *what, GCancellable *cancellable,
                         GError **error)
{
    g_autoptr(GPtrArray) vms = NULL;
    RvmrpcVm *found = NULL;
    GError *err = NULL;

    if (what[0] == '/' || g_str_has_prefix(what, "./") ||
        g_str_has_prefix(what, "../")) {
        return vm_of_path(what, cancellable, error);
    }
    vms = rvmrpc_list_vms();
    for (guint i = 0; i < vms->len; i++) {
        RvmrpcVm *vm = vms->pdata[i];

        if (!rvmrpc_vm_is(vm, what)) {
            continue;
        }
        if (found) {
            g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                        "several VMs are called %s; name one by its UUID, "
                        "process id (%" G_GINT64_FORMAT ", %" G_GINT64_FORMAT
                        ") or socket", what, found->pid, vm->pid);
            return NULL;
        }
        found = vm;
    }
    if (found) {
        return rvmrpc_vm_ref(found);
    }
    /* Names may have slashes; what is none is a path. */
    if (strchr(what, '/') && g_file_test(what, G_FILE_TEST_EXISTS)) {
        return vm_of_path(what, cancellable, error);
    }
    found = vm_of_libvirt(what, cancellable, &err);
    if (err) {
        g_propagate_error(error, err);
    } else if (!found) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                    "no VM %s; 'rvmrpc list' shows those there are", what);
    }
    return found;
}
