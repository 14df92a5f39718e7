/*
 * rvmrpcd: what systemd keeps for the next one
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's ivshmem cannot connect anew.  So the connection, the memory and both eventfds of each world outlive this
 * process in the manager's store (sd_notify(3), FDSTORE), from the moment that they are there: a SIGKILL loses nothing.
 * Names there are VM.WORLD.KIND.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "rvmrpcd.h"

static const char *const kinds[NFDS] = {
    [FD_CONNECTION] = "connection",
    [FD_MEMORY] = "memory",
    [FD_DOORBELL] = "doorbell",
    [FD_INTERRUPT] = "interrupt",
};

void fdstore_keep(const char *vm, unsigned world, const int fds[NFDS])
{
    for (int i = 0; i < NFDS; i++) {
        /* A connection that ended is for us to see, not for the manager to remove. */
        g_autofree char *state = g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=%s.%u.%s", vm, world, kinds[i]);
        int err = sd_pid_notify_with_fds(0, FALSE, state, &fds[i], 1);

        if (err < 0) {
            g_warning("systemd does not keep the %s of %s: %s; a restart will lose it", kinds[i], vm,
                      g_strerror(-err));
        }
    }
}

void fdstore_forget(const char *vm, unsigned world)
{
    for (int i = 0; i < NFDS; i++) {
        g_autofree char *state = g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=%s.%u.%s", vm, world, kinds[i]);

        sd_notify(FALSE, state);
    }
}

typedef struct Kept {
    int fds[NFDS];
} Kept;

/* Splits VM.WORLD.KIND; the kind, or -1.  @name is cut to VM.WORLD. */
static int parse(char *name)
{
    char *dot = strrchr(name, '.');

    for (int i = 0; dot && i < NFDS; i++) {
        if (strcmp(dot + 1, kinds[i]) == 0) {
            *dot = '\0';
            return i;
        }
    }
    return -1;
}

static void put(GHashTable *all, char *name, int fd)
{
    int kind = parse(name);
    Kept *kept = g_hash_table_lookup(all, name);

    if (kind < 0) {
        g_warning("systemd hands over '%s', which is none of ours", name);
        close(fd);
        return;
    }
    if (!kept) {
        kept = g_new(Kept, 1);
        memset(kept->fds, 0xff, sizeof(kept->fds));
        g_hash_table_insert(all, g_strdup(name), kept);
    }
    if (kept->fds[kind] >= 0) {
        close(kept->fds[kind]);
    }
    kept->fds[kind] = fd;
}

static void hand_over(char *name, const Kept *kept, FdstoreFound *found,
                      void *opaque)
{
    char *dot = strrchr(name, '.');
    unsigned world = dot ? g_ascii_strtoull(dot + 1, NULL, 10) : 0;

    if (dot) {
        *dot = '\0';
    }
    for (int i = 0; i < NFDS; i++) {
        if (kept->fds[i] < 0) {
            g_warning("systemd has no %s of %s any more: it has to be started anew", kinds[i], name);
            fdstore_forget(name, world);
            for (int j = 0; j < NFDS; j++) {
                if (kept->fds[j] >= 0) {
                    close(kept->fds[j]);
                }
            }
            return;
        }
    }
    found(name, world, kept->fds, opaque);
}

/* ---- What systemd hands over ---- */

static GHashTable *worlds;      /* Kept by VM.WORLD */
static GHashTable *listening;   /* descriptor + 1 by path */

/* The path at which a socket listens; NULL: it does not. */
static char *listening_path(int fd)
{
    struct sockaddr_un addr = { 0 };
    socklen_t length = sizeof(addr) - 1;

    if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &length) < 0 ||
        !addr.sun_path[0]) {
        return NULL;
    }
    return g_strdup(addr.sun_path);
}

void fdstore_take(void)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(TRUE, &names);

    worlds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    listening = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        char *path = listening_path(fd);

        if (path) {
            g_hash_table_insert(listening, path, GINT_TO_POINTER(fd + 1));
        } else {
            put(worlds, names[i], fd);
        }
        free(names[i]);
    }
    free(names);
}

int fdstore_listening(const char *path)
{
    int fd = GPOINTER_TO_INT(g_hash_table_lookup(listening, path)) - 1;

    g_hash_table_remove(listening, path);
    return fd;
}

void fdstore_restore(FdstoreFound *found, void *opaque)
{
    GHashTableIter iter;
    gpointer name, kept;

    g_hash_table_iter_init(&iter, listening);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        g_warning("systemd listens on '%s', which is no VM's", (char *)name);
    }
    g_hash_table_iter_init(&iter, worlds);
    while (g_hash_table_iter_next(&iter, &name, &kept)) {
        hand_over(name, kept, found, opaque);
    }
    g_clear_pointer(&worlds, g_hash_table_unref);
}
