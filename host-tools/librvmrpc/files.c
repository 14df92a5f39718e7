/*
 * librvmrpc: the guest's files
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "private.h"

/* The guest's reason, as GIO has it. */
static GError *file_error(const RvmrpcConn *conn, const char *path,
                          guint64 reason)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        [RVMRPC_FAILED_NOT_FOUND] = { G_IO_ERROR_NOT_FOUND,
            "no such file or directory" },
        [RVMRPC_FAILED_NOT_DIRECTORY] = { G_IO_ERROR_NOT_DIRECTORY,
            "not a directory" },
        [RVMRPC_FAILED_NOT_REGULAR] = { G_IO_ERROR_NOT_REGULAR_FILE,
            "not a regular file" },
        [RVMRPC_FAILED_LOOP] = { G_IO_ERROR_TOO_MANY_LINKS,
            "too many symbolic links" },
        [RVMRPC_FAILED_TOO_LONG] = { G_IO_ERROR_FILENAME_TOO_LONG,
            "file name too long" },
        [RVMRPC_FAILED_ACCESS] = { G_IO_ERROR_PERMISSION_DENIED,
            "the guest's kernel refuses it" },
        [RVMRPC_FAILED_IO] = { G_IO_ERROR_FAILED,
            "the guest's file system failed, or cannot do that" },
        [RVMRPC_FAILED_EXISTS] = { G_IO_ERROR_EXISTS, "it is there already" },
        [RVMRPC_FAILED_NOT_EMPTY] = { G_IO_ERROR_NOT_EMPTY,
            "the directory is not empty" },
        [RVMRPC_FAILED_IS_DIRECTORY] = { G_IO_ERROR_IS_DIRECTORY,
            "it is a directory" },
        [RVMRPC_FAILED_NO_SPACE] = { G_IO_ERROR_NO_SPACE,
            "no space left in the guest's file system" },
        [RVMRPC_FAILED_READ_ONLY] = { G_IO_ERROR_READ_ONLY,
            "the guest's file system is read-only" },
        [RVMRPC_FAILED_TOO_LARGE] = { G_IO_ERROR_MESSAGE_TOO_LARGE,
            "too large a file for the guest's file system" },
        [RVMRPC_FAILED_OTHER_MOUNT] = { G_IO_ERROR_WOULD_RECURSE,
            "the new name is in another file system: copy it" },
    };
    const guint i = reason < G_N_ELEMENTS(reasons) && reason ?
                    reason : RVMRPC_FAILED_IO;

    return g_error_new(G_IO_ERROR, reasons[i].code, "%s:%s: %s",
                       conn->vm->label, path, reasons[i].text);
}

/* A call's own error, with what it means for files.  Takes @err. */
static void tell(GError **error, GError *err, const RvmrpcConn *conn,
                 const char *path, gboolean change)
{
    if (g_error_matches(err, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED)) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED,
                    "%s:%s: not in a folder of the parameter%s of the guest's "
                    "driver, or a link or mount leads out of it%s",
                    conn->vm->label, path,
                    change ? "s 'fs_allow' and 'fs_write'" : " 'fs_allow'",
                    change ? ", or its parameter 'allow' has no 'files.*'" : "");
        g_error_free(err);
    } else {
        g_propagate_error(error, err);
    }
}

RvmrpcRecords *rvmrpc_get_files(RvmrpcConn *conn, guint32 procedure,
                                const char *path, guint32 select,
                                guint timeout_ms, GCancellable *cancellable,
                                GError **error)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_FILES,
        .procedure = procedure,
        .select = select,
        .path = path,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    guint64 reason = 0;
    GError *err = NULL;

    records = rvmrpc_get_records(conn, &what, timeout_ms, cancellable, &err);
    if (!records) {
        tell(error, err, conn, path, FALSE);
        return NULL;
    }
    /* Of a folder that goes away meanwhile it comes after names. */
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_FAILURE) {
            rvmrpc_record_get_u64(r, RVMRPC_FAILURE_REASON, &reason);
            g_propagate_error(error, file_error(conn, path, reason));
            return NULL;
        }
    }
    return g_steal_pointer(&records);
}

GBytes *files_parse_read(const RvmrpcConn *conn, const char *path,
                         GBytes *answer, guint32 length,
                         RvmrpcFileVersion *version, GError **error)
{
    const gsize size = g_bytes_get_size(answer);
    struct rvmrpc_file_res head;

    if (size < sizeof(head) || size - sizeof(head) > length) {
        g_propagate_error(error, malformed_error(conn->vm));
        return NULL;
    }
    memcpy(&head, g_bytes_get_data(answer, NULL), sizeof(head));
    if (head.failed) {
        g_propagate_error(error, file_error(conn, path, head.failed));
        return NULL;
    }
    *version = (RvmrpcFileVersion) {
        .size = head.size,
        .inode = head.inode,
        .modified_ns = head.modified_ns,
    };
    return g_bytes_new_from_bytes(answer, sizeof(head), size - sizeof(head));
}

GBytes *rvmrpc_read_file(RvmrpcConn *conn, const char *path, guint64 offset,
                         guint32 length, RvmrpcFileVersion *version,
                         guint timeout_ms, GCancellable *cancellable,
                         GError **error)
{
    const struct rvmrpc_file_req req = { .offset = offset, .length = length };
    g_autoptr(GByteArray) arg = g_byte_array_new();
    g_autoptr(GBytes) bytes = NULL, answer = NULL;
    GError *err = NULL;

    g_byte_array_append(arg, (const guint8 *)&req, sizeof(req));
    g_byte_array_append(arg, (const guint8 *)path, strlen(path));
    bytes = g_byte_array_free_to_bytes(g_steal_pointer(&arg));
    answer = rvmrpc_call(conn, RVMRPC_MOD_FILES, RVMRPC_FILES_READ, bytes,
                         timeout_ms, NULL, cancellable, &err);
    if (!answer) {
        tell(error, err, conn, path, FALSE);
        return NULL;
    }
    return files_parse_read(conn, path, answer, length, version, error);
}

/* ---- Changes ---- */

/* The head that the procedure wants, and what follows it. */
static GBytes *change_arg(const RvmrpcFileChange *c)
{
    const struct rvmrpc_file_set_req set = {
        .set = c->set,
        .mode = c->set & RVMRPC_FILE_SET_MODE ? c->mode : 0,
        .uid = c->set & RVMRPC_FILE_SET_UID ? c->uid : 0,
        .gid = c->set & RVMRPC_FILE_SET_GID ? c->gid : 0,
        .size = c->set & RVMRPC_FILE_SET_SIZE ? c->size : 0,
        .accessed_ns = c->set & RVMRPC_FILE_SET_ACCESSED ? c->accessed_ns : 0,
        .modified_ns = c->set & RVMRPC_FILE_SET_MODIFIED ? c->modified_ns : 0,
    };
    const gboolean write = c->procedure == RVMRPC_FILES_WRITE;
    const gboolean rename = c->procedure == RVMRPC_FILES_RENAME;
    const gboolean makes = c->procedure == RVMRPC_FILES_CREATE ||
                           c->procedure == RVMRPC_FILES_MKDIR;
    const struct rvmrpc_file_change_req req = {
        .offset = write ? c->offset : 0,
        .path_bytes = strlen(c->path),
        .mode = makes ? c->mode : 0,
        .flags = rename && c->keep ? RVMRPC_FILE_KEEP : 0,
    };
    const gboolean is_set = c->procedure == RVMRPC_FILES_SET;
    GByteArray *arg = g_byte_array_new();

    g_byte_array_append(arg, is_set ? (const void *)&set : &req,
                        is_set ? sizeof(set) : sizeof(req));
    g_byte_array_append(arg, (const guint8 *)c->path, strlen(c->path));
    if (write) {
        g_byte_array_append(arg, c->data, c->length);
    } else if (rename) {
        g_byte_array_append(arg, (const guint8 *)c->to, strlen(c->to));
    }
    return g_byte_array_free_to_bytes(arg);
}

gboolean files_parse_change(const RvmrpcConn *conn,
                            const RvmrpcFileChange *change, GBytes *answer,
                            guint32 *written, GError **error)
{
    struct rvmrpc_file_change_res res = { .failed = RVMRPC_FAILED_NOT };
    const gsize max = change->procedure == RVMRPC_FILES_WRITE ?
                      change->length : 0;

    if (g_bytes_get_size(answer) == sizeof(res)) {
        memcpy(&res, g_bytes_get_data(answer, NULL), sizeof(res));
    }
    if (g_bytes_get_size(answer) != sizeof(res) || res.written > max) {
        g_propagate_error(error, malformed_error(conn->vm));
        return FALSE;
    }
    if (res.failed) {
        g_propagate_error(error, file_error(conn, change->path, res.failed));
        return FALSE;
    }
    if (written) {
        *written = res.written;
    }
    return TRUE;
}

gboolean rvmrpc_change_file(RvmrpcConn *conn, const RvmrpcFileChange *change,
                            guint32 *written, guint timeout_ms,
                            GCancellable *cancellable, GError **error)
{
    g_autoptr(GBytes) arg = change_arg(change), answer = NULL;
    GError *err = NULL;

    answer = rvmrpc_call(conn, RVMRPC_MOD_FILES, change->procedure, arg,
                         timeout_ms, NULL, cancellable, &err);
    if (!answer) {
        tell(error, err, conn, change->path, TRUE);
        return FALSE;
    }
    return files_parse_change(conn, change, answer, written, error);
}
