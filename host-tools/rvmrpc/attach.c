/*
 * The rvmrpc command: attach and detach
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * By virsh, as librvmrpc asks QEMU through libvirt: it knows the connection,
 * and nobody has to link libvirt who does not use it.  What a domain was
 * before is kept, so that detach gives it back to the byte.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include "rvmrpc-cmd.h"
#include "domain_xml.h"

#define STATE_DIR       "/var/lib/rvmrpc/attach"
#define DAEMON_CONF     "/etc/rvmrpcd/rvmrpcd.conf"
#define OUR_MARK        "# Made by rvmrpc attach; rvmrpc detach removes it.\n"
#define SOCKET_MS       5000    /* until rvmrpcd has read its VMs again */

typedef struct Domain {
    DomainFacts facts;
    DomainDevice device;
    gboolean running;
    char *before;               /* libvirt's text of what it starts with */
    char *place;                /* its name with rvmrpcd */
    char *socket;               /* QEMU's, see domain_xml_attach() */
    char *conf, *conf_text;     /* rvmrpcd's file of it */
} Domain;

static void domain_clear(Domain *d)
{
    domain_facts_clear(&d->facts);
    g_free(d->before);
    g_free(d->place);
    g_free(d->socket);
    g_free(d->conf);
    g_free(d->conf_text);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Domain, domain_clear)

/* ---- Programs ---- */

/* Its standard output; what it complains of is the error. */
static char *output_of(const char *const *argv, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = NULL;
    g_autoptr(GSubprocess) process = NULL;
    g_autofree char *out = NULL, *err = NULL;

    launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                                         G_SUBPROCESS_FLAGS_STDERR_PIPE);
    /* Answers are read. */
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    process = g_subprocess_launcher_spawnv(launcher, argv, error);
    if (!process) {
        g_prefix_error(error, "%s: ", argv[0]);
        return NULL;
    }
    if (!g_subprocess_communicate_utf8(process, NULL, options.cancellable,
                                       &out, &err, error)) {
        g_subprocess_force_exit(process);
        return NULL;
    }
    if (!g_subprocess_get_successful(process)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", argv[0],
                    *g_strstrip(err) ? err : "failed without a word");
        return NULL;
    }
    return g_steal_pointer(&out);
}

/* virsh -q COMMAND [WORD] -- VM [FILE], as far as they are given. */
static char *virsh(const char *command, const char *word, const char *vm,
                   const char *file, GError **error)
{
    const char *argv[8] = { "virsh", "-q", command };
    int n = 3;

    if (word) {
        argv[n++] = word;
    }
    argv[n++] = "--";
    if (vm) {
        argv[n++] = vm;
    }
    argv[n++] = file;
    return output_of(argv, error);
}

static gboolean virsh_with_text(const char *command, const char *word,
                                const char *vm, const char *text,
                                GError **error)
{
    g_autofree char *file = NULL, *out = NULL;
    int fd = g_file_open_tmp("rvmrpc-XXXXXX.xml", &file, error);

    if (fd < 0) {
        return FALSE;
    }
    close(fd);
    /* In the file that is there, which nobody else can read. */
    if (g_file_set_contents_full(file, text, -1, G_FILE_SET_CONTENTS_NONE,
                                 0600, error)) {
        out = virsh(command, word, vm, file, error);
    }
    g_unlink(file);
    return out != NULL;
}

/* ---- What there is ---- */

static gboolean emulator_has_device(const char *emulator, GError **error)
{
    const char *argv[] = { emulator, "-machine", "none", "-device", "help",
                           NULL };
    g_autofree char *out = output_of(argv, error);

    return out && strstr(out, "name \"rvmrpc\"");
}

static gboolean choose_device(Domain *d, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (g_strcmp0(options.device, "ivshmem") == 0) {
        d->device = DOMAIN_IVSHMEM;
    } else if (g_strcmp0(options.device, "rvmrpc") == 0) {
        d->device = DOMAIN_RVMRPC;
    } else if (d->facts.emulator &&
               emulator_has_device(d->facts.emulator, &why)) {
        d->device = DOMAIN_RVMRPC;
    } else if (why) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    "cannot find out which devices its emulator has (%s); "
                    "name one by --device", why->message);
        return FALSE;
    } else {
        d->device = DOMAIN_IVSHMEM;
    }
    return TRUE;
}

static char *daemon_setting(const char *key, const char *otherwise)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    char *value = NULL;

    if (g_key_file_load_from_file(file, DAEMON_CONF, G_KEY_FILE_NONE, NULL)) {
        value = g_key_file_get_string(file, "daemon", key, NULL);
    }
    return value ?: g_strdup(otherwise);
}

static void find_places(Domain *d, gboolean is_attach)
{
    g_autofree char *dir = daemon_setting("ivshmem-dir", "/run/rvmrpcd");
    g_autofree char *vms = daemon_setting("vm-dir", "/etc/rvmrpcd/vms.d");

    d->place = domain_xml_place(&d->facts, !is_attach);
    d->socket = d->device == DOMAIN_IVSHMEM ?
                g_strdup_printf("%s/%s.ivshmem", dir, d->place) :
                g_strdup_printf("/run/rvmrpc/%s.sock", d->place);
    d->conf = g_strdup_printf("%s/%s.conf", vms, d->place);
    d->conf_text = g_strdup_printf(OUR_MARK "[vm]\nname=%s\nuuid=%s\n%s",
                                   d->place, d->facts.uuid,
                                   getgrnam("libvirt-qemu") ?
                                   "ivshmem-group=libvirt-qemu\n" : "");
}

/* What it starts with.  Passwords, too: without them define would drop them. */
static char *inactive_xml(const char *vm, GError **error)
{
    const char *argv[] = { "virsh", "-q", "dumpxml", "--inactive",
                           "--security-info", "--", vm, NULL };

    return output_of(argv, error);
}

/* Who is asked may take long to say yes. */
static gboolean is_unchanged(const Domain *d, GError **error)
{
    g_autofree char *now = inactive_xml(d->facts.uuid, error);

    if (now && strcmp(now, d->before) != 0) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                            "somebody else changed it meanwhile; nothing was "
                            "done: try again");
        return FALSE;
    }
    return now != NULL;
}

/* What libvirt says of a name that it does not know has a code of ours. */
static char *state_of(const char *vm, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *state = virsh("domstate", NULL, vm, NULL, &why);

    if (!state && strstr(why->message, "failed to get domain")) {
        g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                            "libvirt has no such domain ('virsh list --all'; "
                            "LIBVIRT_DEFAULT_URI names another connection)");
    } else if (!state) {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return state;
}

static gboolean read_domain(Domain *d, const char *vm, GError **error)
{
    g_autofree char *state = state_of(vm, error);
    g_autofree char *info = state ? virsh("dominfo", NULL, vm, NULL, error) :
                            NULL;

    if (!info) {
        return FALSE;
    }
    if (!g_regex_match_simple("^Persistent: +yes$", info, G_REGEX_MULTILINE,
                              0)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                            "it is transient: there is nothing to edit; "
                            "create it with the device (docs/libvirt.xml)");
        return FALSE;
    }
    d->running = strcmp(g_strstrip(state), "shut off") != 0 &&
                 strcmp(state, "crashed") != 0;
    d->before = inactive_xml(vm, error);
    if (!d->before || !domain_xml_facts(d->before, &d->facts, error)) {
        return FALSE;
    }
    if (!d->facts.name || !d->facts.uuid) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "libvirt tells neither its name nor its UUID");
        return FALSE;
    }
    /* virsh takes a number for its own id of a domain first. */
    if (strcmp(vm, d->facts.name) != 0 &&
        g_ascii_strcasecmp(vm, d->facts.uuid) != 0) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_VM,
                    "to virsh that is %s; name a domain by its name or UUID",
                    d->facts.name);
        return FALSE;
    }
    return TRUE;
}

/* ---- What was before ---- */

static char *state_file(const Domain *d, const char *which)
{
    return g_strdup_printf(STATE_DIR "/%s.%s", d->facts.uuid, which);
}

static gboolean keep(const Domain *d, const char *which, const char *text,
                     GError **error)
{
    g_autofree char *file = state_file(d, which);

    if (g_mkdir_with_parents(STATE_DIR, 0700) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    STATE_DIR ": %s", g_strerror(errno));
        return FALSE;
    }
    return g_file_set_contents_full(file, text, -1,
                                    G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                    error);
}

static char *kept(const Domain *d, const char *which)
{
    g_autofree char *file = state_file(d, which);
    char *text = NULL;

    return g_file_get_contents(file, &text, NULL, NULL) ? text : NULL;
}

static void forget(const Domain *d)
{
    g_autofree char *before = state_file(d, "before");
    g_autofree char *after = state_file(d, "after");

    g_unlink(before);
    g_unlink(after);
}

/* ---- rvmrpcd ---- */

static void reload_daemon(void)
{
    const char *argv[] = { "systemctl", "reload-or-restart",
                           "rvmrpcd.service", NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *out = output_of(argv, &error);

    if (!out) {
        fprintf(stderr, "rvmrpc: rvmrpcd must read its VMs again (SIGHUP): "
                "%s\n", error->message);
    }
}

/* A file of the administrator's own that names this VM will do as well. */
static gboolean write_conf(const Domain *d, GError **error)
{
    g_autofree char *text = NULL;

    if (g_file_get_contents(d->conf, &text, NULL, NULL)) {
        if (strcmp(text, d->conf_text) == 0) {
            return TRUE;
        }
        if (!g_str_has_prefix(text, OUR_MARK)) {
            fprintf(stderr, "rvmrpc: %s is your own and stays as it is\n",
                    d->conf);
            return TRUE;
        }
    }
    if (!g_file_set_contents_full(d->conf, d->conf_text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT, 0644,
                                  error)) {
        g_prefix_error(error, "cannot tell rvmrpcd of it (is it installed?): ");
        return FALSE;
    }
    return TRUE;
}

static void remove_conf(const Domain *d)
{
    g_autofree char *text = NULL;

    if (g_file_get_contents(d->conf, &text, NULL, NULL) &&
        g_str_has_prefix(text, OUR_MARK)) {
        g_unlink(d->conf);
        reload_daemon();
    }
}

static gboolean wait_for_socket(const Domain *d, GError **error)
{
    for (int ms = 0; ms < SOCKET_MS; ms += 50) {
        if (g_file_test(d->socket, G_FILE_TEST_EXISTS)) {
            return TRUE;
        }
        g_usleep(50000);
    }
    g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_CONNECTED,
                "no %s: rvmrpcd does not run or refuses %s ('systemctl status "
                "rvmrpcd')", d->socket, d->conf);
    return FALSE;
}

/* ---- Asking ---- */

/* FALSE and *code: nothing shall be done. */
static gboolean confirm(const Domain *d, const char *after, int *code)
{
    g_autofree char *before = domain_xml_layout(d->before, NULL);
    g_autofree char *diff = text_diff(before, after);
    g_autofree char *shown = rvmrpc_escape(diff, TRUE);
    char line[16] = "";

    fputs(shown, stdout);
    fflush(stdout);
    *code = EXIT_OK;
    if (options.dry_run) {
        return FALSE;
    }
    if (options.yes) {
        return TRUE;
    }
    if (!isatty(STDIN_FILENO)) {
        *code = usage_error("nothing was done; --yes does it without asking");
        return FALSE;
    }
    fputs("Change the domain so? [y/N] ", stdout);
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin) || g_ascii_tolower(line[0]) != 'y') {
        *code = EXIT_REFUSED;
        return FALSE;
    }
    return TRUE;
}

/* ---- attach ---- */

static gboolean define(Domain *d, const char *after, GError **error)
{
    g_autofree char *now = NULL;

    if (!keep(d, "before", d->before, error)) {
        return FALSE;
    }
    if (!virsh_with_text("define", NULL, NULL, after, error)) {
        forget(d);
        return FALSE;
    }
    now = inactive_xml(d->facts.uuid, error);
    return now && keep(d, "after", now, error);
}

/* Into the VM that runs. */
static int plug(const Domain *d)
{
    g_autofree char *live = virsh("dumpxml", NULL, d->facts.uuid, NULL, NULL);
    g_autofree char *has = live ? domain_xml_our_element(live) : NULL;
    g_autofree char *element = domain_xml_element(d->socket);
    GError *error = NULL;

    if (d->device == DOMAIN_RVMRPC) {
        printf("%s runs: it has the device from its next start on\n",
               d->facts.name);
        return EXIT_OK;
    }
    if (has || (wait_for_socket(d, &error) &&
                virsh_with_text("attach-device", "--live", d->facts.uuid,
                                element, &error))) {
        return EXIT_OK;
    }
    g_prefix_error(&error, "%s has the device from its next start on; not "
                   "now: ", d->facts.name);
    fail(error);
    return EXIT_NOT_NOW;
}

static int attach(Domain *d, GError **error)
{
    g_autofree char *after = domain_xml_attach(d->before, d->device, d->socket,
                                               error);
    g_autofree char *same = after ? domain_xml_layout(d->before, error) : NULL;
    gboolean has;
    int code;

    if (!same) {
        return EXIT_OTHER;
    }
    has = strcmp(after, same) == 0;
    if (has) {
        printf("%s has it already\n", d->facts.name);
    } else if (!confirm(d, after, &code)) {
        return code;
    }
    if (options.dry_run) {
        return EXIT_OK;
    }
    if (!has && !is_unchanged(d, error)) {
        return EXIT_OTHER;
    }
    if (d->device == DOMAIN_IVSHMEM) {
        if (!write_conf(d, error)) {
            return EXIT_OTHER;
        }
        reload_daemon();
    }
    if (!has && !define(d, after, error)) {
        return EXIT_OTHER;
    }
    return d->running ? plug(d) : EXIT_OK;
}

/* ---- detach ---- */

static int unplug(const Domain *d)
{
    GError *error = NULL;
    g_autofree char *live = virsh("dumpxml", NULL, d->facts.uuid, NULL,
                                  &error);
    g_autofree char *element = live ? domain_xml_our_element(live) : NULL;

    if (live && (!element ||
                 virsh_with_text("detach-device", "--live", d->facts.uuid,
                                 element, &error))) {
        return EXIT_OK;
    }
    g_prefix_error(&error, "%s keeps the device until it ends: ",
                   d->facts.name);
    fail(error);
    return EXIT_NOT_NOW;
}

static int detach(Domain *d, GError **error)
{
    g_autofree char *then = kept(d, "before"), *since = kept(d, "after");
    g_autofree char *after = domain_xml_detach(d->before, error);
    g_autofree char *same = after ? domain_xml_layout(d->before, error) : NULL;
    gboolean untouched = then && g_strcmp0(since, d->before) == 0;
    int code = EXIT_OK;

    if (!same) {
        return EXIT_OTHER;
    }
    if (strcmp(after, same) == 0) {
        printf("%s does not have it\n", d->facts.name);
    } else if (!confirm(d, after, &code)) {
        return code;
    }
    if (options.dry_run) {
        return EXIT_OK;
    }
    /* Nobody changed it since: libvirt's additions for the device go, too. */
    if (strcmp(after, same) != 0 &&
        (!is_unchanged(d, error) ||
         !virsh_with_text("define", NULL, NULL, untouched ? then : after,
                          error))) {
        return EXIT_OTHER;
    }
    if (d->running) {
        code = unplug(d);
    }
    remove_conf(d);
    forget(d);
    return code;
}

/* ---- Commands ---- */

static int edit(const char *vm, gboolean is_attach)
{
    g_auto(Domain) d = { .device = DOMAIN_IVSHMEM };
    GError *error = NULL;
    int code = EXIT_OTHER;

    if (options.device && strcmp(options.device, "ivshmem") != 0 &&
        strcmp(options.device, "rvmrpc") != 0) {
        return usage_error("--device must be ivshmem or rvmrpc");
    }
    if (read_domain(&d, vm, &error) &&
        (!is_attach || choose_device(&d, &error))) {
        find_places(&d, is_attach);
        code = is_attach ? attach(&d, &error) : detach(&d, &error);
    }
    if (error) {
        g_prefix_error(&error, "%s: ", vm);
        return fail(error);
    }
    return code;
}

int cmd_attach(int argc, char **argv)
{
    (void)argc;
    return edit(argv[0], TRUE);
}

int cmd_detach(int argc, char **argv)
{
    (void)argc;
    return edit(argv[0], FALSE);
}
