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
    };
    const guint i = reason < G_N_ELEMENTS(reasons) && reason ?
                    reason : RVMRPC_FAILED_IO;

    return g_error_new(G_IO_ERROR, reasons[i].code, "%s:%s: %s",
                       conn->vm->label, path, reasons[i].text);
}

/* A call's own error, with what it means for files.  Takes @err. */
static void tell(GError **error, GError *err, const RvmrpcConn *conn,
                 const char *path)
{
    if (g_error_matches(err, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED)) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED,
                    "%s:%s: not in a folder of the parameter 'fs_allow' of the "
                    "guest's driver, or a link or mount leads out of it",
                    conn->vm->label, path);
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
    const RvmrpcRecord *first;
    guint64 reason = 0;
    GError *err = NULL;

    records = rvmrpc_get_records(conn, &what, timeout_ms, cancellable, &err);
    if (!records) {
        tell(error, err, conn, path);
        return NULL;
    }
    if (!rvmrpc_records_get_count(records)) {
        return g_steal_pointer(&records);
    }
    first = rvmrpc_records_get(records, 0);
    if (rvmrpc_record_get_kind(first) == RVMRPC_RECORD_FAILURE) {
        rvmrpc_record_get_u64(first, RVMRPC_FAILURE_REASON, &reason);
        g_propagate_error(error, file_error(conn, path, reason));
        return NULL;
    }
    return g_steal_pointer(&records);
}

GBytes *rvmrpc_read_file(RvmrpcConn *conn, const char *path, guint64 offset,
                         guint32 length, RvmrpcFileVersion *version,
                         guint timeout_ms, GCancellable *cancellable,
                         GError **error)
{
    const struct rvmrpc_file_req req = { .offset = offset, .length = length };
    g_autoptr(GByteArray) arg = g_byte_array_new();
    g_autoptr(GBytes) bytes = NULL, answer = NULL;
    struct rvmrpc_file_res head;
    GError *err = NULL;
    gsize size;

    g_byte_array_append(arg, (const guint8 *)&req, sizeof(req));
    g_byte_array_append(arg, (const guint8 *)path, strlen(path));
    bytes = g_byte_array_free_to_bytes(g_steal_pointer(&arg));
    answer = rvmrpc_call(conn, RVMRPC_MOD_FILES, RVMRPC_FILES_READ, bytes,
                         timeout_ms, NULL, cancellable, &err);
    if (!answer) {
        tell(error, err, conn, path);
        return NULL;
    }
    size = g_bytes_get_size(answer);
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
