/*
 * rvmrpcd: its configuration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <gio/gio.h>
#include <string.h>
#include "rvmrpcd.h"

#define USUAL_FILE  "/etc/rvmrpcd.conf"
#define NAME_MAX_   64

typedef struct Defaults {
    char *ivshmem_dir, *socket_dir, *vm_dir;
    mode_t ivshmem_mode, socket_mode;
    WindowConfig window;
} Defaults;

G_GNUC_PRINTF(2, 3)
static bool bad(GError **error, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, text);
    return false;
}

/* ---- Values ---- */

/* A number with K, M or G; leaves *to as it is when there is none. */
static bool get_size(GKeyFile *file, const char *group, const char *key, uint64_t max, uint64_t *to, GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);
    static const char units[] = "KMG";
    const char *unit;
    char *end;
    guint64 value;

    if (!text) {
        return true;
    }
    g_strstrip(text);
    value = g_ascii_strtoull(text, &end, 10);
    unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
    if (!g_ascii_isdigit(*text) || (*end && (!unit || end[1])) || value > max) {
        return bad(error, "[%s] %s=%s: not a number, with K, M or G, of at most %" G_GUINT64_FORMAT, group, key, text,
                   (guint64)max);
    }
    if (unit) {
        value <<= 10 * (unit - units + 1);
    }
    if (value > max) {
        return bad(error, "[%s] %s=%s: more than %" G_GUINT64_FORMAT, group, key, text, (guint64)max);
    }
    *to = value;
    return true;
}

static bool get_u32(GKeyFile *file, const char *group, const char *key, uint32_t max, uint32_t *to, GError **error)
{
    uint64_t value = *to;

    if (!get_size(file, group, key, max, &value, error)) {
        return false;
    }
    *to = value;
    return true;
}

/* In octal, and permissions only. */
static bool get_mode(GKeyFile *file, const char *key, mode_t *to, GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, "daemon", key, NULL);

    if (!text) {
        return true;
    }
    g_strstrip(text);
    if (!*text || strspn(text, "01234567") != strlen(text) || strlen(text) > 4 || strtoul(text, NULL, 8) > 0777) {
        return bad(error, "[daemon] %s=%s: not an octal number up to 0777", key, text);
    }
    *to = strtoul(text, NULL, 8);
    return true;
}

static void get_text(GKeyFile *file, const char *group, const char *key, char **to)
{
    char *text = g_key_file_get_string(file, group, key, NULL);

    if (text) {
        g_free(*to);
        *to = g_strstrip(text);
    }
}

static bool get_window(GKeyFile *file, const char *group, WindowConfig *w, GError **error)
{
    return get_size(file, group, "size", RVMRPC_WINDOW_SIZE_MAX, &w->size, error) &&
           get_u32(file, group, "slots", RVMRPC_SLOTS_MAX, &w->slots, error) &&
           get_u32(file, group, "request", RVMRPC_SLOT_BYTES_MAX, &w->request, error) &&
           get_u32(file, group, "response", RVMRPC_SLOT_BYTES_MAX, &w->response, error) &&
           get_u32(file, group, "spin-us", 1000000, &w->spin_us, error);
}

/* ---- VMs ---- */

void vm_config_free(void *opaque)
{
    VmConfig *c = opaque;

    g_free(c->name);
    g_free(c->uuid);
    g_free(c->ivshmem);
    g_free(c->socket);
    g_free(c);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmConfig, vm_config_free)

static VmConfig *vm_config_new(const Defaults *d, const char *name)
{
    VmConfig *c = g_new0(VmConfig, 1);

    c->name = g_strdup(name);
    c->window = d->window;
    c->ivshmem_mode = d->ivshmem_mode;
    c->socket_mode = d->socket_mode;
    return c;
}

/* Names become file names, and names in systemd's store. */
static bool name_ok(const char *name)
{
    return *name && *name != '.' && *name != '-' && strlen(name) <= NAME_MAX_ &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(name);
}

static bool add(GHashTable *vms, const Defaults *d, VmConfig *taken, const char *where, GError **error)
{
    g_autoptr(VmConfig) c = taken;
    const WindowConfig *w = &c->window;

    if (!name_ok(c->name)) {
        return bad(error, "%s: name '%s': use letters, digits, '.', '_' and '-'", where, c->name);
    }
    if (c->uuid && !g_uuid_string_is_valid(c->uuid)) {
        return bad(error, "%s: uuid=%s is none", where, c->uuid);
    }
    if (g_hash_table_contains(vms, c->name)) {
        return bad(error, "%s: there is another VM called %s", where, c->name);
    }
    if (!rvmrpc_layout_make(w->size, w->slots, w->request, w->response, &c->layout)) {
        return bad(error, "%s: a window of size=%" G_GUINT64_FORMAT " does not hold slots=%u of request=%u and "
                   "response=%u bytes; its size must be a power of two from %u on, those of a slot multiples of %u",
                   where, (guint64)w->size, w->slots, w->request, w->response, RVMRPC_WINDOW_SIZE_MIN, RVMRPC_LINE);
    }
    if (!c->ivshmem) {
        c->ivshmem = g_strdup_printf("%s/%s.ivshmem", d->ivshmem_dir, c->name);
    }
    if (!c->socket) {
        c->socket = g_strdup_printf("%s/%s.sock", d->socket_dir, c->name);
    }
    g_hash_table_insert(vms, c->name, c);
    c = NULL;
    return true;
}

static bool load_vm(GHashTable *vms, const Defaults *d, const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *base = g_path_get_basename(path);
    VmConfig *c;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    base[strlen(base) - strlen(".conf")] = '\0';
    c = vm_config_new(d, base);
    get_text(file, "vm", "name", &c->name);
    get_text(file, "vm", "uuid", &c->uuid);
    get_text(file, "vm", "ivshmem", &c->ivshmem);
    get_text(file, "vm", "socket", &c->socket);
    if (!get_window(file, "vm", &c->window, error)) {
        g_prefix_error(error, "%s: ", path);
        vm_config_free(c);
        return false;
    }
    return add(vms, d, c, path, error);
}

static bool load_folder(GHashTable *vms, const Defaults *d, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(d->vm_dir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(d->vm_dir, name, NULL);

        if (g_str_has_suffix(name, ".conf") && !load_vm(vms, d, path, error)) {
            return false;
        }
    }
    return true;
}

/* ---- All ---- */

static bool load_defaults(const char *path, Defaults *d, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();

    if (!path && !g_file_test(USUAL_FILE, G_FILE_TEST_EXISTS)) {
        return true;
    }
    path = path ?: USUAL_FILE;
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    get_text(file, "daemon", "ivshmem-dir", &d->ivshmem_dir);
    get_text(file, "daemon", "socket-dir", &d->socket_dir);
    get_text(file, "daemon", "vm-dir", &d->vm_dir);
    if (!get_mode(file, "ivshmem-mode", &d->ivshmem_mode, error) ||
        !get_mode(file, "socket-mode", &d->socket_mode, error) || !get_window(file, "window", &d->window, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    return true;
}

GHashTable *config_load(const char *path, char **names, GError **error)
{
    g_autoptr(GHashTable) vms = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, vm_config_free);
    Defaults d = {
        .ivshmem_dir = g_strdup("/run/rvmrpcd"),
        .socket_dir = g_strdup("/run/rvmrpc"),
        .vm_dir = g_strdup("/etc/rvmrpcd/vms.d"),
        .ivshmem_mode = 0660,
        .socket_mode = 0660,
        .window = { RVMRPC_WINDOW_SIZE_DEFAULT, RVMRPC_SLOTS_DEFAULT, RVMRPC_REQ_BYTES_DEFAULT,
                    RVMRPC_RES_BYTES_DEFAULT, 200 },
    };
    bool ok = load_defaults(path, &d, error) && load_folder(vms, &d, error);

    for (; ok && names && *names; names++) {
        ok = add(vms, &d, vm_config_new(&d, *names), "--vm", error);
    }
    g_free(d.ivshmem_dir);
    g_free(d.socket_dir);
    g_free(d.vm_dir);
    return ok ? g_steal_pointer(&vms) : NULL;
}
