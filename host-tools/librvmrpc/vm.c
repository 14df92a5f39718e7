/*
 * librvmrpc: which VMs are there
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's command line says all that is needed, libvirt's domains included,
 * and reading it disturbs nobody.  Sockets in the usual folders are found
 * beside that: of devices that were plugged in later, or of processes that
 * another PID namespace hides.
 */
#include <string.h>
#include <unistd.h>
#include "private.h"

#define SOCKET_FOLDER   "/run/rvmrpc"
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

/* ---- QEMU's options ---- */

/* Value of @key in "first,key=value,..."; ",," stands for a comma. */
static char *option_value(const char *option, const char *key)
{
    gsize length = strlen(key);
    const char *p = option;

    while (*p) {
        gboolean match = strncmp(p, key, length) == 0 && p[length] == '=';
        GString *part = g_string_new(NULL);

        for (; *p && (*p != ',' || p[1] == ','); p++) {
            p += *p == ',';
            g_string_append_c(part, *p);
        }
        if (match) {
            g_string_erase(part, 0, length + 1);
            return g_string_free(part, FALSE);
        }
        g_string_free(part, TRUE);
        p += *p == ',';
    }
    return NULL;
}

static char *json_value(const char *json, const char *key)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root = NULL;

    if (json_parser_load_from_data(parser, json, -1, NULL)) {
        root = json_parser_get_root(parser);
    }
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        return NULL;
    }
    return g_strdup(json_object_get_string_member_with_default(
                        json_node_get_object(root), key, NULL));
}

/* Of a -device in either form. */
static char *device_value(const char *option, const char *key)
{
    return option[0] == '{' ? json_value(option, key) :
           option_value(option, key);
}

static gboolean is_our_device(const char *option)
{
    g_autofree char *driver = device_value(option, "driver");
    gsize length = strcspn(option, ",");

    return g_strcmp0(driver, "rvmrpc") == 0 ||
           (length == strlen("rvmrpc") && g_str_has_prefix(option, "rvmrpc"));
}

/* "guest=NAME,..." or "NAME,..." */
static char *vm_name(const char *option)
{
    char *name = option_value(option, "guest");
    g_autofree char *first = NULL;

    if (name || strchr(option, '=')) {
        return name;
    }
    first = g_strdup_printf("guest=%s", option);
    return option_value(first, "guest");
}

/* "unix:PATH,..." */
static char *qmp_path(const char *option)
{
    g_autofree char *path = NULL;

    if (!g_str_has_prefix(option, "unix:")) {
        return NULL;
    }
    path = g_strdup_printf("path=%s", option + strlen("unix:"));
    return option_value(path, "path");
}

static void take_option(RvmrpcVm *vm, const char *name, const char *value,
                        gboolean *ours)
{
    if (strcmp(name, "name") == 0 && !vm->name) {
        vm->name = vm_name(value);
    } else if (strcmp(name, "uuid") == 0 && !vm->uuid) {
        vm->uuid = g_ascii_strdown(value, -1);
    } else if (strcmp(name, "qmp") == 0 && !vm->qmp) {
        vm->qmp = qmp_path(value);
    } else if (strcmp(name, "chardev") == 0) {
        /* What libvirt calls its monitor. */
        vm->libvirt |= strstr(value, "id=charmonitor") != NULL;
    } else if (strcmp(name, "device") == 0 && is_our_device(value)) {
        *ours = TRUE;
        g_free(vm->socket);
        vm->socket = device_value(value, "socket");
    }
}

/* ---- Processes ---- */

/* A relative path is the process'. */
static void make_absolute(char **path, gint64 pid)
{
    g_autofree char *cwd_link = NULL, *cwd = NULL;
    char *joined;

    if (!*path || g_path_is_absolute(*path)) {
        return;
    }
    cwd_link = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/cwd", pid);
    cwd = g_file_read_link(cwd_link, NULL);
    joined = g_build_filename(cwd ?: "/", *path, NULL);
    g_free(*path);
    *path = joined;
}

/* NULL: the process is no VM of ours. */
static RvmrpcVm *vm_of_process(gint64 pid)
{
    g_autofree char *path = NULL, *text = NULL;
    g_autoptr(RvmrpcVm) vm = NULL;
    gboolean ours = FALSE;
    const char *arg, *name = NULL;
    gsize length;

    path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/cmdline", pid);
    if (!g_file_get_contents(path, &text, &length, NULL) ||
        !g_strstr_len(text, length, "qemu")) {
        return NULL;
    }
    vm = vm_new();
    vm->pid = pid;
    for (arg = text; arg < text + length; arg += strlen(arg) + 1) {
        if (name) {
            take_option(vm, name, arg, &ours);
        }
        name = arg[0] == '-' ? arg + 1 + (arg[1] == '-') : NULL;
    }
    if (!ours) {
        return NULL;
    }
    make_absolute(&vm->socket, pid);
    make_absolute(&vm->qmp, pid);
    return g_steal_pointer(&vm);
}

static void list_processes(GPtrArray *vms)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        gint64 pid = g_ascii_strtoll(name, NULL, 10);
        RvmrpcVm *vm = pid > 0 ? vm_of_process(pid) : NULL;

        if (vm) {
            g_ptr_array_add(vms, vm);
        }
    }
}

/* ---- Sockets ---- */

static gboolean same_file(const char *a, const char *b)
{
    g_autofree char *x = realpath(a, NULL), *y = realpath(b, NULL);

    return x && y && strcmp(x, y) == 0;
}

static gboolean have_socket(GPtrArray *vms, const char *path)
{
    for (guint i = 0; i < vms->len; i++) {
        const RvmrpcVm *vm = vms->pdata[i];

        if (vm->socket && (strcmp(vm->socket, path) == 0 ||
                           same_file(vm->socket, path))) {
            return TRUE;
        }
    }
    return FALSE;
}

static void list_folder(GPtrArray *vms, const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        RvmrpcVm *vm;

        if (!g_str_has_suffix(name, ".sock") || have_socket(vms, path)) {
            continue;
        }
        vm = vm_new();
        vm->socket = g_steal_pointer(&path);
        g_ptr_array_add(vms, vm);
    }
}

static void identify(void *data, void *user_data)
{
    RvmrpcVm *vm = data;
    Until until = until_ms(IDENTIFY_MS, NULL);
    gboolean is_qmp;

    (void)user_data;
    socket_identify(vm, &until, &is_qmp, NULL);
}

/* Asks those of which only the socket is known, all at a time. */
static void identify_sockets(GPtrArray *vms)
{
    GThreadPool *pool = g_thread_pool_new(identify, NULL, 64, FALSE, NULL);

    for (guint i = 0; i < vms->len; i++) {
        RvmrpcVm *vm = vms->pdata[i];

        if (!vm->pid && vm->socket) {
            g_thread_pool_push(pool, vm, NULL);
        }
    }
    g_thread_pool_free(pool, FALSE, TRUE);
}

static void list_sockets(GPtrArray *vms)
{
    const char *path = g_getenv("RVMRPC_PATH");
    g_autofree char *usual = NULL;
    g_auto(GStrv) folders = NULL;

    usual = g_strdup_printf(SOCKET_FOLDER ":%s/rvmrpc",
                            g_get_user_runtime_dir());
    folders = g_strsplit(path ?: usual, ":", 0);
    for (char **f = folders; *f; f++) {
        if (**f) {
            list_folder(vms, *f);
        }
    }
    identify_sockets(vms);
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
    GPtrArray *vms =
        g_ptr_array_new_with_free_func((GDestroyNotify)rvmrpc_vm_unref);

    if (!g_getenv("RVMRPC_PATH")) {
        list_processes(vms);
    }
    list_sockets(vms);
    if (!g_getenv("RVMRPC_PATH")) {
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

static gboolean matches(const RvmrpcVm *vm, const char *what)
{
    return g_strcmp0(vm->name, what) == 0 || strcmp(vm->label, what) == 0 ||
           (vm->uuid && g_ascii_strcasecmp(vm->uuid, what) == 0) ||
           (vm->pid && g_ascii_strtoll(what, NULL, 10) == vm->pid &&
            strspn(what, "0123456789") == strlen(what));
}

/* A domain without our device on its command line, or of another user. */
static RvmrpcVm *vm_of_libvirt(const char *what, GCancellable *cancellable)
{
    const char *argv[] = { "virsh", "-q", "domuuid", "--", what, NULL };
    Until until = until_ms(VIRSH_MS, cancellable);
    g_autofree char *virsh = g_find_program_in_path("virsh");
    g_autofree char *out = NULL;
    gboolean success;
    RvmrpcVm *vm;

    out = virsh ? virsh_output(argv, &until, &success, NULL) : NULL;
    if (!out || !success) {
        return NULL;
    }
    vm = vm_new();
    vm->name = g_strdup(what);
    vm->uuid = g_strdup(g_strstrip(out));
    vm->libvirt = TRUE;
    set_label(vm);
    return vm;
}

RvmrpcVm *rvmrpc_find_vm(const char *what, GCancellable *cancellable,
                         GError **error)
{
    g_autoptr(GPtrArray) vms = NULL;
    RvmrpcVm *found = NULL;

    if (strchr(what, '/')) {
        return vm_of_path(what, cancellable, error);
    }
    vms = rvmrpc_list_vms();
    for (guint i = 0; i < vms->len; i++) {
        RvmrpcVm *vm = vms->pdata[i];

        if (!matches(vm, what)) {
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
    found = vm_of_libvirt(what, cancellable);
    if (!found) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                    "no VM %s; 'rvmrpc list' shows those there are", what);
    }
    return found;
}
