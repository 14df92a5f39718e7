/*
 * rvmrpcd: its configuration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <grp.h>
#include <string.h>
#include "../common/place.h"
#include "../common/size.h"
#include "config.h"
#include "rvmrpc_owner.h"
#include "rvmrpc_text.h"

#define USUAL_FILE      "/etc/rvmrpcd/rvmrpcd.conf"

/* ---- Values ---- */

static gboolean bad(GError **error, const char *where, const char *key,
                    const char *value, const char *wanted)
{
    g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                "%s: %s=%s: %s", where, key, value, wanted);
    return FALSE;
}

static gboolean parse_mode(const char *text, mode_t *mode)
{
    uint32_t value;

    if (!rvmrpc_parse_mode(text, &value) || !(value & 0600)) {
        return FALSE;
    }
    *mode = value;
    return TRUE;
}

static gboolean parse_group(const char *text, gid_t *gid)
{
    struct group *group = getgrnam(text);
    guint64 number;

    if (group) {
        *gid = group->gr_gid;
        return TRUE;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &number,
                                    NULL)) {
        return FALSE;
    }
    *gid = number;
    return TRUE;
}

static gboolean parse_bool(const char *text, gboolean *value)
{
    *value = strcmp(text, "on") == 0;
    return *value || strcmp(text, "off") == 0;
}

static gboolean parse_kernel(const char *text, KernelUse *use)
{
    gboolean on;

    if (strcmp(text, "auto") == 0) {
        *use = KERNEL_AUTO;
        return TRUE;
    }
    if (!parse_bool(text, &on)) {
        return FALSE;
    }
    *use = on ? KERNEL_ON : KERNEL_OFF;
    return TRUE;
}

/* ---- Windows ---- */

gboolean config_layout(const WindowConfig *window, guint64 size,
                       struct rvmrpc_layout *layout)
{
    return rvmrpc_layout_make(size, window->slots, window->request,
                              window->response, layout);
}

static gboolean set_window(WindowConfig *w, const char *where,
                           const char *key, const char *value, GError **error)
{
    guint64 number;
    gboolean ok = size_parse(value, &number);

    if (strcmp(key, "size") == 0) {
        w->size = number;
        return (ok && number >= RVMRPC_WINDOW_SIZE_MIN &&
                number <= RVMRPC_WINDOW_SIZE_MAX && !(number & (number - 1))) ||
               bad(error, where, key, value,
                   "a power of two from 64K to 1G is wanted, since QEMU takes "
                   "no other");
    }
    if (strcmp(key, "slots") == 0) {
        w->slots = number;
        return (ok && number >= 1 && number <= RVMRPC_SLOTS_MAX) ||
               bad(error, where, key, value, "1 to 64 are possible");
    }
    if (strcmp(key, "spin-us") == 0) {
        w->spin_us = number;
        return (ok && number <= 1000000) ||
               bad(error, where, key, value, "0 to 1000000 are possible");
    }
    *(strcmp(key, "request") == 0 ? &w->request : &w->response) = number;
    return (ok && number >= RVMRPC_LINE && number <= RVMRPC_SLOT_BYTES_MAX &&
            number % RVMRPC_LINE == 0) ||
           bad(error, where, key, value,
               "a multiple of 64 from 64 to 1M is wanted");
}

static gboolean is_window_key(const char *key)
{
    static const char *const keys[] = {
        "size", "slots", "request", "response", "spin-us", NULL
    };

    return g_strv_contains(keys, key);
}

static gboolean check_window(const WindowConfig *w, const char *where,
                             GError **error)
{
    struct rvmrpc_layout layout;

    if (config_layout(w, w->size, &layout)) {
        return TRUE;
    }
    g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                "%s: a window of %" G_GUINT64_FORMAT " bytes does not hold %u "
                "slots with requests of %u and responses of %u bytes", where,
                w->size, w->slots, w->request, w->response);
    return FALSE;
}

/* ---- VMs ---- */

void config_free_vm(VmConfig *vm)
{
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->ivshmem);
    g_free(vm->socket);
    g_free(vm);
}

VmConfig *config_dup_vm(const VmConfig *vm)
{
    VmConfig *copy = g_memdup2(vm, sizeof(*vm));

    copy->name = g_strdup(vm->name);
    copy->uuid = g_strdup(vm->uuid);
    copy->ivshmem = g_strdup(vm->ivshmem);
    copy->socket = g_strdup(vm->socket);
    return copy;
}

/* NAME.suffix in the folder, unless there is a path. */
static void complete_path(char **path, const char *folder, const char *name,
                          const char *suffix)
{
    char *whole;

    if (!*path) {
        *path = g_strconcat(folder, "/", name, suffix, NULL);
    } else if (!g_path_is_absolute(*path)) {
        whole = g_build_filename(folder, *path, NULL);
        g_free(*path);
        *path = whole;
    }
}

static void complete_vm(const Config *config, VmConfig *vm)
{
    complete_path(&vm->ivshmem, config->ivshmem_dir, vm->name, ".ivshmem");
    complete_path(&vm->socket, config->socket_dir, vm->name, ".sock");
}

/* With what holds where it does not say otherwise. */
static VmConfig *begin_vm(const Config *config)
{
    VmConfig *vm = g_new0(VmConfig, 1);

    vm->window = config->window;
    vm->ivshmem_gid = config->ivshmem_gid;
    vm->socket_gid = config->socket_gid;
    return vm;
}

VmConfig *config_new_vm(const Config *config, const char *name)
{
    VmConfig *vm = begin_vm(config);

    vm->name = g_strdup(name);
    complete_vm(config, vm);
    return vm;
}

static gboolean set_group(gid_t *gid, const char *where, const char *key,
                          const char *value, GError **error)
{
    return parse_group(value, gid) ||
           bad(error, where, key, value, "there is no such group");
}

static gboolean set_vm(VmConfig *vm, const char *where, const char *key,
                       const char *value, GError **error)
{
    char **to;

    if (strcmp(key, "name") == 0) {
        if (!place_name_ok(value)) {
            return bad(error, where, key, value,
                       "1 to 64 letters, digits and ._+@- are wanted, a "
                       "letter or a digit first");
        }
        to = &vm->name;
    } else if (strcmp(key, "uuid") == 0) {
        if (!g_uuid_string_is_valid(value)) {
            return bad(error, where, key, value, "this is no UUID");
        }
        g_free(vm->uuid);
        vm->uuid = g_ascii_strdown(value, -1);
        return TRUE;
    } else if (strcmp(key, "ivshmem") == 0) {
        to = &vm->ivshmem;
    } else if (strcmp(key, "socket") == 0) {
        to = &vm->socket;
    } else if (strcmp(key, "ivshmem-group") == 0) {
        return set_group(&vm->ivshmem_gid, where, key, value, error);
    } else if (strcmp(key, "socket-group") == 0) {
        return set_group(&vm->socket_gid, where, key, value, error);
    } else if (is_window_key(key)) {
        return set_window(&vm->window, where, key, value, error);
    } else {
        return bad(error, where, key, value, "there is no such key");
    }
    g_free(*to);
    *to = g_strdup(value);
    return TRUE;
}

/* Takes over @vm. */
static gboolean add_vm(Config *config, VmConfig *vm, const char *where,
                       GError **error)
{
    g_autoptr(VmConfig) own = vm;

    if (!vm->name) {
        g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND,
                    "%s: the VM has no name", where);
        return FALSE;
    }
    complete_vm(config, vm);
    if (!check_window(&vm->window, where, error)) {
        return FALSE;
    }
    for (guint i = 0; i < config->vms->len; i++) {
        const VmConfig *other = config->vms->pdata[i];

        if (strcmp(other->name, vm->name) == 0 ||
            strcmp(other->ivshmem, vm->ivshmem) == 0 ||
            strcmp(other->socket, vm->socket) == 0) {
            return bad(error, where, "name", vm->name,
                       "its name or a path of it is another VM's, too");
        }
    }
    g_ptr_array_add(config->vms, g_steal_pointer(&own));
    return TRUE;
}

/* ---- Files ---- */

typedef gboolean SetKey(void *to, const char *where, const char *group,
                        const char *key, const char *value, GError **error);

static gboolean read_file(const char *path, SetKey *set, void *to,
                          GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        g_auto(GStrv) keys = g_key_file_get_keys(file, *group, NULL, error);

        for (char **key = keys; key && *key; key++) {
            g_autofree char *value =
                g_key_file_get_string(file, *group, *key, error);

            if (!value) {
                g_prefix_error(error, "%s: ", path);
                return FALSE;
            }
            g_strstrip(value);
            if (!set(to, path, *group, *key, value, error)) {
                return FALSE;
            }
        }
    }
    return TRUE;
}

static gboolean set_vm_key(void *to, const char *where, const char *group,
                           const char *key, const char *value, GError **error)
{
    gboolean is_window = strcmp(group, "window") == 0 && is_window_key(key);

    if (!is_window && strcmp(group, "vm") != 0) {
        return bad(error, where, key, value,
                   "only [vm] and [window] have keys here");
    }
    return set_vm(to, where, key, value, error);
}

static gboolean set_daemon(Config *config, const char *where, const char *key,
                           const char *value, GError **error)
{
    const struct {
        const char *key;
        char **to;
    } folders[] = {
        { "ivshmem-dir", &config->ivshmem_dir },
        { "socket-dir", &config->socket_dir },
        { "vm-dir", &config->vm_dir },
    };
    gboolean of_ivshmem = g_str_has_prefix(key, "ivshmem-");

    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
        if (strcmp(key, folders[i].key) == 0) {
            g_free(*folders[i].to);
            *folders[i].to = g_strdup(value);
            return g_path_is_absolute(value) ||
                   bad(error, where, key, value, "an absolute path is wanted");
        }
    }
    if (strcmp(key, "ivshmem-mode") == 0 || strcmp(key, "socket-mode") == 0) {
        return parse_mode(value, of_ivshmem ? &config->ivshmem_mode :
                          &config->socket_mode) ||
               bad(error, where, key, value, "an octal number such as 0660, "
                   "with rights of the owner, is wanted");
    }
    if (strcmp(key, "ivshmem-group") == 0 || strcmp(key, "socket-group") == 0) {
        return set_group(of_ivshmem ? &config->ivshmem_gid :
                         &config->socket_gid, where, key, value, error);
    }
    if (strcmp(key, "any") == 0) {
        return parse_bool(value, &config->any) ||
               bad(error, where, key, value, "on or off is wanted");
    }
    if (strcmp(key, "kernel") == 0) {
        return parse_kernel(value, &config->kernel) ||
               bad(error, where, key, value, "auto, on or off is wanted");
    }
    return bad(error, where, key, value, "there is no such key");
}

static gboolean set_key(void *to, const char *where, const char *group,
                        const char *key, const char *value, GError **error)
{
    Config *config = to;

    if (strcmp(group, "daemon") == 0) {
        return set_daemon(config, where, key, value, error);
    }
    if (strcmp(group, "window") == 0 && is_window_key(key)) {
        return set_window(&config->window, where, key, value, error);
    }
    return bad(error, where, key, value,
               "only [daemon] and [window] have keys here");
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static gboolean read_folder(Config *config, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(config->vm_dir, 0, &why);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    /* One that cannot be read is not one without VMs, which would go. */
    if (why && !g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ".conf") && name[0] != '.') {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    /* Of two that collide, the error names the same each time. */
    g_ptr_array_sort(names, by_text);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path =
            g_build_filename(config->vm_dir, names->pdata[i], NULL);
        VmConfig *vm = begin_vm(config);

        if (!read_file(path, set_vm_key, vm, error)) {
            config_free_vm(vm);
            return FALSE;
        }
        if (!add_vm(config, vm, path, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* "name=NAME,uuid=UUID" */
static gboolean read_option(Config *config, const char *option, GError **error)
{
    g_auto(GStrv) words = g_strsplit(option, ",", 0);
    g_autoptr(VmConfig) vm = begin_vm(config);

    for (char **word = words; *word; word++) {
        char *value = strchr(*word, '=');

        if (!value) {
            return bad(error, "--vm", *word, "", "KEY=VALUE is wanted");
        }
        *value++ = '\0';
        if (!set_vm(vm, "--vm", *word, value, error)) {
            return FALSE;
        }
    }
    return add_vm(config, g_steal_pointer(&vm), "--vm", error);
}

void config_free(Config *config)
{
    g_free(config->ivshmem_dir);
    g_free(config->socket_dir);
    g_free(config->vm_dir);
    g_ptr_array_unref(config->vms);
    g_free(config);
}

static Config *config_new(void)
{
    Config *config = g_new0(Config, 1);

    config->ivshmem_dir = g_strdup("/run/rvmrpcd");
    config->socket_dir = g_strdup("/run/rvmrpcd");
    config->vm_dir = g_strdup("/etc/rvmrpcd/vms.d");
    config->ivshmem_mode = config->socket_mode = 0660;
    config->ivshmem_gid = config->socket_gid = (gid_t)-1;
    config->window = (WindowConfig) {
        .size = RVMRPC_WINDOW_SIZE_DEFAULT,
        .slots = RVMRPC_SLOTS_DEFAULT,
        .request = RVMRPC_REQ_BYTES_DEFAULT,
        .response = RVMRPC_RES_BYTES_DEFAULT,
        .spin_us = 200,
    };
    config->vms = g_ptr_array_new_with_free_func(
        (GDestroyNotify)config_free_vm);
    return config;
}

Config *config_load(const char *file, const char *const *options,
                    GError **error)
{
    g_autoptr(Config) config = config_new();

    if (file || g_file_test(USUAL_FILE, G_FILE_TEST_EXISTS)) {
        if (!read_file(file ?: USUAL_FILE, set_key, config, error)) {
            return NULL;
        }
    }
    if (!check_window(&config->window, file ?: USUAL_FILE, error) ||
        !read_folder(config, error)) {
        return NULL;
    }
    for (; options && *options; options++) {
        if (!read_option(config, *options, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&config);
}
