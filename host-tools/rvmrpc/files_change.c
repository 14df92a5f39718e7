/*
 * The rvmrpc command: mkdir, mv and rm, and cp into a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "rvmrpc-cmd.h"

#define WRITE_MAX           (1u << 17)
#define WRITE_MIN           256
#define NAME_TRIES          10

/* ---- Calls ---- */

gboolean write_all_parts(RvmrpcConn *conn, RvmrpcFileChange *write,
                         GError **error)
{
    /* How large a request may be, which the guest's slots say. */
    static int request_max = WRITE_MAX;
    const gsize head = sizeof(struct rvmrpc_file_change_req) +
                       strlen(write->path);

    while (write->length) {
        const int max = g_atomic_int_get(&request_max);
        RvmrpcFileChange part = *write;
        guint32 written = 0;
        GError *err = NULL;

        part.length = MIN(part.length, MAX(max, (int)(head + WRITE_MIN)) - head);
        if (rvmrpc_change_file(conn, &part, &written,
                               timeout_or(FILES_TIMEOUT_MS),
                               options.cancellable, &err)) {
            if (!written) {
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                            "%s: the guest's file system takes no more",
                            write->path);
                return FALSE;
            }
            write->offset += written;
            write->data = (const char *)write->data + written;
            write->length -= written;
        } else if (g_error_matches(err, RVMRPC_ERROR, RVMRPC_ERROR_TOO_BIG) &&
                   part.length > WRITE_MIN) {
            g_error_free(err);
            g_atomic_int_compare_and_exchange(&request_max, max, max / 2);
        } else {
            g_propagate_error(error, err);
            return FALSE;
        }
    }
    return TRUE;
}

/* BUSY is waited out. */
static gboolean change_patiently(RvmrpcConn *conn, RvmrpcFileChange *change,
                                 GError **error)
{
    const guint timeout = timeout_or(FILES_TIMEOUT_MS);
    const gint64 end = g_get_monotonic_time() + timeout * (gint64)1000;
    GError *err = NULL;
    gulong wait_us = 0;
    gboolean done;

    do {
        g_clear_error(&err);
        done = change->procedure == RVMRPC_FILES_WRITE ?
            write_all_parts(conn, change, &err) :
            rvmrpc_change_file(conn, change, NULL, timeout,
                               options.cancellable, &err);
    } while (!done && busy_again(err, end, &wait_us));
    if (!done) {
        g_propagate_error(error, err);
    }
    return done;
}

/* ---- cp into a guest ---- */

static gboolean cannot(GError **error, const char *what, const char *name)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                "cannot %s %s: %s", what, name, g_strerror(errno));
    return FALSE;
}

/* FALSE, without an error: there is none of that name. */
static gboolean is_folder(RvmrpcConn *conn, const char *path, GError **error)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    GError *err = NULL;
    guint64 mode = 0;

    records = rvmrpc_get_files(conn, RVMRPC_FILES_STAT, path, 0,
                               timeout_or(FILES_TIMEOUT_MS),
                               options.cancellable, &err);
    if (records && rvmrpc_records_get_count(records)) {
        rvmrpc_record_get_u64(rvmrpc_records_get(records, 0), RVMRPC_FILE_MODE,
                              &mode);
    }
    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_NOT_FOUND)) {
        g_clear_error(&err);
    }
    if (err) {
        g_propagate_error(error, err);
    }
    return S_ISDIR(mode);
}

/* A name beside @to that nobody has; NULL and @error. */
static char *create_beside(RvmrpcConn *conn, const char *to, guint32 mode,
                           GError **error)
{
    for (guint tries = 0; ; tries++) {
        g_autofree char *name = g_strdup_printf("%s.%06x", to,
                                                g_random_int() & 0xffffff);
        RvmrpcFileChange create = {
            .procedure = RVMRPC_FILES_CREATE, .path = name, .mode = mode,
        };
        GError *err = NULL;

        if (change_patiently(conn, &create, &err)) {
            return g_steal_pointer(&name);
        }
        if (!g_error_matches(err, G_IO_ERROR, G_IO_ERROR_EXISTS) ||
            tries == NAME_TRIES) {
            g_propagate_error(error, err);
            return NULL;
        }
        g_error_free(err);
    }
}

static gboolean write_file(RvmrpcConn *conn, int fd, const char *from,
                           const char *path, GError **error)
{
    g_autofree char *buffer = g_malloc(WRITE_MAX);
    guint64 offset = 0;
    ssize_t got;

    while ((got = read(fd, buffer, WRITE_MAX)) != 0) {
        RvmrpcFileChange write = {
            .procedure = RVMRPC_FILES_WRITE, .path = path, .offset = offset,
            .data = buffer, .length = MAX(got, 0),
        };

        if (got < 0 && errno != EINTR) {
            return cannot(error, "read", from);
        }
        if (!change_patiently(conn, &write, error)) {
            return FALSE;
        }
        offset = write.offset;
    }
    return TRUE;
}

/* Under another name until it is whole. */
static gboolean copy_whole(RvmrpcConn *conn, int fd, const char *from,
                           const char *to, guint32 mode, GError **error)
{
    g_autofree char *name = create_beside(conn, to, mode, error);
    RvmrpcFileChange rename = {
        .procedure = RVMRPC_FILES_RENAME, .path = name, .to = to,
    };
    const RvmrpcFileChange remove = {
        .procedure = RVMRPC_FILES_REMOVE, .path = name,
    };

    if (!name) {
        return FALSE;
    }
    if (write_file(conn, fd, from, name, error) &&
        change_patiently(conn, &rename, error)) {
        return TRUE;
    }
    /* A signal ends the copy, not this. */
    rvmrpc_change_file(conn, &remove, NULL, timeout_or(TIMEOUT_MS), NULL, NULL);
    return FALSE;
}

static gboolean copy_into(RvmrpcConn *conn, int fd, const char *from,
                          const char *to, GError **error)
{
    g_autofree char *base = g_path_get_basename(from), *name = NULL;
    GError *err = NULL;
    struct stat st;

    if (fstat(fd, &st)) {
        return cannot(error, "read", from);
    }
    if (S_ISDIR(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_IS_DIRECTORY,
                    "%s is a directory: mount the guest's files with --rw and "
                    "copy it there", from);
        return FALSE;
    }
    name = is_folder(conn, to, &err) ? g_build_filename(to, base, NULL) :
           g_strdup(to);
    if (err) {
        g_propagate_error(error, err);
        return FALSE;
    }
    return copy_whole(conn, fd, from, name, st.st_mode & 0777, error);
}

int copy_in(const char *from, RvmrpcVm *vm, const char *to)
{
    g_autoptr(RvmrpcConn) conn = NULL;
    GError *error = NULL;
    const int fd = open(from, O_RDONLY | O_CLOEXEC);
    gboolean done = FALSE;

    if (fd < 0) {
        cannot(&error, "read", from);
        return fail(error);
    }
    conn = rvmrpc_connect(vm, timeout_or(TIMEOUT_MS), options.cancellable,
                          &error);
    if (conn) {
        done = copy_into(conn, fd, from, to, &error);
    }
    close(fd);
    return done ? EXIT_OK : fail(error);
}

/* ---- mkdir, mv, rm ---- */

static int change_one(const char *vm, RvmrpcFileChange *change, GError **error)
{
    int code = EXIT_OK;
    g_autoptr(RvmrpcConn) conn = open_vm(vm, &code);

    if (conn) {
        change_patiently(conn, change, error);
        if (g_error_matches(*error, G_IO_ERROR, G_IO_ERROR_IS_DIRECTORY) &&
            change->procedure == RVMRPC_FILES_REMOVE) {
            g_clear_error(error);
            change->procedure = RVMRPC_FILES_RMDIR;
            change_patiently(conn, change, error);
        }
    }
    return *error ? fail(*error) : code;
}

int cmd_mkdir(int argc, char **argv)
{
    RvmrpcFileChange change = {
        .procedure = RVMRPC_FILES_MKDIR, .path = argv[1], .mode = 0755,
    };
    GError *error = NULL;

    (void)argc;
    return change_one(argv[0], &change, &error);
}

int cmd_mv(int argc, char **argv)
{
    RvmrpcFileChange change = {
        .procedure = RVMRPC_FILES_RENAME, .path = argv[1], .to = argv[2],
    };
    GError *error = NULL;

    (void)argc;
    return change_one(argv[0], &change, &error);
}

int cmd_rm(int argc, char **argv)
{
    RvmrpcFileChange change = {
        .procedure = RVMRPC_FILES_REMOVE, .path = argv[1],
    };
    GError *error = NULL;

    (void)argc;
    return change_one(argv[0], &change, &error);
}
