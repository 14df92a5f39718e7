/*
 * librvmrpc: VMs by their processes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A command line is its user's word: only that of users who run VMs counts,
 * and a path in it is the process' own, which may see other files than we do.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "private.h"

/* Who may run VMs, beside root and ourselves. */
#define USERS_USUAL "libvirt-qemu:qemu"

/* ---- Users ---- */

static void add_user(GArray *uids, const char *name)
{
    struct passwd *pw = getpwnam(name);
    guint64 number;
    uid_t uid;

    if (!pw && !g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT32 - 1,
                                           &number, NULL)) {
        return;
    }
    uid = pw ? pw->pw_uid : (uid_t)number;
    g_array_append_val(uids, uid);
}

static GArray *users_new(void)
{
    const char *list = g_getenv("RVMRPC_USERS") ?: USERS_USUAL;
    g_auto(GStrv) names = g_strsplit(list, ":", 0);
    GArray *uids = g_array_new(FALSE, FALSE, sizeof(uid_t));
    const uid_t own[] = { 0, geteuid() };

    g_array_append_vals(uids, own, G_N_ELEMENTS(own));
    for (char **name = names; *name; name++) {
        if (**name) {
            add_user(uids, *name);
        }
    }
    return uids;
}

gboolean user_runs_vms(uid_t uid)
{
    static GArray *uids;        /* made once */

    if (g_once_init_enter(&uids)) {
        g_once_init_leave(&uids, users_new());
    }
    for (guint i = 0; i < uids->len; i++) {
        if (g_array_index(uids, uid_t, i) == uid) {
            return TRUE;
        }
    }
    return FALSE;
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

    return g_strdup(member_text(parse_object(parser, json), key, NULL));
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

/* "guest=NAME,..." or "NAME,...": a first word without '=' is the name. */
static char *vm_name(const char *option)
{
    g_autofree char *first = NULL;

    if (option[strcspn(option, "=,")] == '=') {
        return option_value(option, "guest");
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
                        char **device)
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
        g_free(*device);
        *device = g_strdup(value);
        g_free(vm->socket);
        vm->socket = device_value(value, "socket");
    }
}

/* ---- Processes ---- */

typedef struct Process {
    RvmrpcVm *vm;
    char *device;               /* option of its command line */
    gint64 parent;
} Process;

static void process_clear(void *data)
{
    Process *p = data;

    g_clear_pointer(&p->vm, rvmrpc_vm_unref);
    g_clear_pointer(&p->device, g_free);
}

static char *read_proc(gint64 pid, const char *name, gsize *length)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/%s",
                                            pid, name);
    char *text;

    return g_file_get_contents(path, &text, length, NULL) ? text : NULL;
}

/* 0: it has none, or it is gone. */
static gint64 read_parent(gint64 pid)
{
    g_autofree char *text = read_proc(pid, "status", NULL);
    const char *line = text ? strstr(text, "\nPPid:") : NULL;

    return line ? g_ascii_strtoll(line + strlen("\nPPid:"), NULL, 10) : 0;
}

/*
 * Not by the owner of its files, which is root when it may not be dumped.  All
 * four: who starts a program that changes its user writes its command line.
 */
static gboolean may_run_vms(gint64 pid, gboolean *is_own)
{
    g_autofree char *text = read_proc(pid, "status", NULL);
    const char *line = text ? strstr(text, "\nUid:") : NULL;
    guint uids[4];

    if (!line || sscanf(line, "\nUid: %u %u %u %u", &uids[0], &uids[1],
                        &uids[2], &uids[3]) != 4) {
        return FALSE;
    }
    *is_own = TRUE;
    for (gsize i = 0; i < G_N_ELEMENTS(uids); i++) {
        if (!user_runs_vms(uids[i])) {
            return FALSE;
        }
        *is_own &= uids[i] == geteuid();
    }
    return TRUE;
}

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

/* Where it listens at the path that its command line calls @relative. */
static char *bound_path(gint64 pid, const char *relative)
{
    g_autofree char *text = read_proc(pid, "net/unix", NULL);
    g_autofree char *end = g_strconcat("/", relative, NULL);
    g_auto(GStrv) lines = g_strsplit(text ?: "", "\n", 0);

    for (char **line = lines; *line; line++) {
        const char *path = strchr(*line, '/');
        Until now = until_ms(0, NULL);
        int fd;

        if (!path || !g_str_has_suffix(path, end)) {
            continue;
        }
        fd = process_connect(pid, path, &now, NULL);
        if (fd >= 0) {
            close(fd);
            return g_strdup(path);
        }
    }
    return NULL;
}

/* QEMU's -daemonize changes its folder once it has bound its sockets. */
static void find_socket(RvmrpcVm *vm)
{
    g_autofree char *relative = NULL;
    char *bound;

    if (!vm->socket || g_path_is_absolute(vm->socket)) {
        return;
    }
    relative = g_strdup(vm->socket);
    bound = bound_path(vm->pid, relative);
    if (bound) {
        g_free(vm->socket);
        vm->socket = bound;
    } else {
        make_absolute(&vm->socket, vm->pid);
    }
}

/* FALSE: the process is no VM of ours. */
static gboolean read_process(Process *p)
{
    RvmrpcVm *vm = p->vm;
    g_autofree char *text = NULL;
    const char *arg, *name = NULL;
    gsize length = 0;
    gboolean is_own;

    text = read_proc(vm->pid, "cmdline", &length);
    for (arg = text; arg < text + length; arg += strlen(arg) + 1) {
        if (name) {
            take_option(vm, name, arg, &p->device);
        }
        name = arg[0] == '-' ? arg + 1 + (arg[1] == '-') : NULL;
    }
    if (!p->device || !may_run_vms(vm->pid, &is_own)) {
        return FALSE;
    }
    p->parent = read_parent(vm->pid);
    if (!is_own) {
        /* A monitor can be told anything: not by another user's word. */
        g_clear_pointer(&vm->qmp, g_free);
    }
    find_socket(vm);
    make_absolute(&vm->qmp, vm->pid);
    return TRUE;
}

/* sudo, timeout, a script: it has the command line of the VM that it began. */
static gboolean is_wrapper(const GArray *all, const Process *wrapper)
{
    for (guint i = 0; i < all->len; i++) {
        const Process *p = &g_array_index(all, Process, i);
        gint64 pid = p->parent;

        if (p == wrapper || strcmp(p->device, wrapper->device) != 0) {
            continue;
        }
        while (pid > 1 && pid != wrapper->vm->pid) {
            pid = read_parent(pid);
        }
        if (pid == wrapper->vm->pid) {
            return TRUE;
        }
    }
    return FALSE;
}

void process_list(GPtrArray *vms)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    g_autoptr(GArray) all = g_array_new(FALSE, TRUE, sizeof(Process));
    const char *name;

    g_array_set_clear_func(all, process_clear);
    while (dir && (name = g_dir_read_name(dir))) {
        Process p = { .vm = NULL };
        gint64 pid = g_ascii_strtoll(name, NULL, 10);

        if (pid <= 0) {
            continue;
        }
        p.vm = vm_new();
        p.vm->pid = pid;
        p.vm->of_process = TRUE;
        if (read_process(&p)) {
            g_array_append_val(all, p);
        } else {
            process_clear(&p);
        }
    }
    for (guint i = 0; i < all->len; i++) {
        const Process *p = &g_array_index(all, Process, i);

        if (!is_wrapper(all, p)) {
            g_ptr_array_add(vms, rvmrpc_vm_ref(p->vm));
        }
    }
}

/* ---- Its sockets ---- */

static gboolean check_pid(int fd, gint64 pid, const char *path,
                          GError **error)
{
    struct ucred peer;

    if (!unix_peer(fd, &peer, error)) {
        return FALSE;
    }
    if (peer.pid != pid) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                    "at %s answers process %d, not %" G_GINT64_FORMAT,
                    path, peer.pid, pid);
    }
    return peer.pid == pid;
}

/* By one path of ours; closed again when somebody else is there. */
static int connect_checked(gint64 pid, const char *path, const char *shown,
                           const Until *until, GError **error)
{
    int fd = unix_connect(path, until, error);

    if (fd >= 0 && !check_pid(fd, pid, shown, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The file that the process calls so: links lead to where it sees them. */
static int open_inside(gint64 pid, const char *path)
{
    g_autofree char *link = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/root",
                                            pid);
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT,
    };
    int root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;

    if (root >= 0) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
        close(root);
    }
    return fd;
}

int process_connect(gint64 pid, const char *path, const Until *until,
                    GError **error)
{
    int inside = open_inside(pid, path), fd = -1;

    if (inside >= 0) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", inside);

        fd = connect_checked(pid, link, path, until, NULL);
        close(inside);
    }
    /* We may not look there, or it changed its root after it listened. */
    return fd >= 0 ? fd : connect_checked(pid, path, path, until, error);
}
