/*
 * The rvmrpc command: ls, cat and cp
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A file is read by several calls at a time, each by a connection and a thread
 * of its own: what a guest's slots are for.  Where there are no more threads
 * they come one after the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "rvmrpc-cmd.h"

#define READ_MAX            (1u << 20)
#define BUSY_WAIT_US        2000        /* at first, and at last */
#define BUSY_WAIT_MAX_US    64000

/* ---- Reading ---- */

typedef struct Chunk {
    guint64 offset;             /* G_MAXUINT64: no more */
    guint32 length;
    GBytes *data;
    RvmrpcFileVersion version;
    GError *error;
} Chunk;

typedef struct Lane {
    RvmrpcConn *conn;
    const char *path;
    GAsyncQueue *wanted, *got;  /* of Chunk */
    GThread *thread;            /* NULL: whoever takes a chunk reads it */
} Lane;

gboolean busy_again(const GError *error, gint64 end, gulong *wait_us)
{
    if (!g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_BUSY) ||
        g_get_monotonic_time() >= end) {
        return FALSE;
    }
    *wait_us = CLAMP(*wait_us * 2, BUSY_WAIT_US, BUSY_WAIT_MAX_US);
    g_usleep(*wait_us);
    return TRUE;
}

/* As rvmrpc_read_file(), BUSY waited out. */
static GBytes *read_patiently(RvmrpcConn *conn, const char *path,
                              guint64 offset, guint32 length,
                              RvmrpcFileVersion *version, GError **error)
{
    const guint timeout = timeout_or(FILES_TIMEOUT_MS);
    const gint64 end = g_get_monotonic_time() + timeout * (gint64)1000;
    GError *err = NULL;
    gulong wait_us = 0;
    GBytes *data;

    do {
        g_clear_error(&err);
        data = rvmrpc_read_file(conn, path, offset, length, version, timeout,
                                options.cancellable, &err);
    } while (!data && busy_again(err, end, &wait_us));
    if (!data) {
        g_propagate_error(error, err);
    }
    return data;
}

guint lanes_of(RvmrpcConn *conn)
{
    g_autoptr(RvmrpcChannel) channel = rvmrpc_query(conn, TIMEOUT_MS,
                                                    options.cancellable, NULL);

    return channel && channel->slots > 3 ? MIN(channel->slots - 2, LANES_MAX) :
           1;
}

static void lane_read(Lane *lane, Chunk *chunk)
{
    chunk->data = read_patiently(lane->conn, lane->path, chunk->offset,
                                 chunk->length, &chunk->version,
                                 &chunk->error);
}

static void *lane_thread(void *data)
{
    Lane *lane = data;

    for (;;) {
        Chunk *chunk = g_async_queue_pop(lane->wanted);

        if (chunk->offset == G_MAXUINT64) {
            g_free(chunk);
            return NULL;
        }
        lane_read(lane, chunk);
        g_async_queue_push(lane->got, chunk);
    }
}

static void chunk_free(void *data)
{
    Chunk *chunk = data;

    g_clear_error(&chunk->error);
    g_clear_pointer(&chunk->data, g_bytes_unref);
    g_free(chunk);
}

static void lane_want(Lane *lane, guint64 offset, guint32 length)
{
    Chunk *chunk = g_new0(Chunk, 1);

    chunk->offset = offset;
    chunk->length = length;
    g_async_queue_push(lane->wanted, chunk);
}

/* The first that was wanted and was not taken. */
static Chunk *lane_take(Lane *lane)
{
    Chunk *chunk = g_async_queue_pop(lane->thread ? lane->got : lane->wanted);

    if (!lane->thread) {
        lane_read(lane, chunk);
    }
    return chunk;
}

static gboolean lane_begin(Lane *lane, RvmrpcVm *vm, const char *path,
                           GError **error)
{
    lane->conn = rvmrpc_connect(vm, timeout_or(TIMEOUT_MS),
                                options.cancellable, error);
    if (!lane->conn) {
        return FALSE;
    }
    lane->path = path;
    lane->wanted = g_async_queue_new_full(chunk_free);
    lane->got = g_async_queue_new_full(chunk_free);
    lane->thread = try_thread("lane", lane_thread, lane, NULL);
    return TRUE;
}

static void lane_end(Lane *lane)
{
    if (!lane->conn) {
        return;
    }
    if (lane->thread) {
        lane_want(lane, G_MAXUINT64, 0);
        g_thread_join(lane->thread);
    }
    g_async_queue_unref(lane->wanted);
    g_async_queue_unref(lane->got);
    rvmrpc_conn_free(lane->conn);
}

static gboolean write_bytes(int fd, GBytes *bytes, GError **error)
{
    gsize left;
    const char *at = g_bytes_get_data(bytes, &left);

    while (left) {
        ssize_t done = write(fd, at, left);

        if (done < 0 && errno != EINTR) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                        "cannot write: %s", g_strerror(errno));
            return FALSE;
        }
        if (done > 0) {
            at += done;
            left -= done;
        }
    }
    return TRUE;
}

typedef struct Copy {
    RvmrpcVm *vm;
    const char *path;
    int fd;
    RvmrpcFileVersion version;  /* of the first part */
    gboolean changed;           /* a later one was of another, or is missing */
} Copy;

/* The parts from @offset on, each of @length bytes but the last. */
static gboolean copy_rest(Copy *copy, Lane *lanes, guint n, guint64 offset,
                          guint32 length, GError **error)
{
    gboolean end = FALSE;
    gsize got;

    for (guint i = 0; i < n; i++) {
        if (!lane_begin(&lanes[i], copy->vm, copy->path, error)) {
            return FALSE;
        }
        lane_want(&lanes[i], offset + i * (guint64)length, length);
    }
    for (guint i = 0; !end; i = (i + 1) % n) {
        Chunk *chunk = lane_take(&lanes[i]);
        gboolean good = chunk->data &&
                        write_bytes(copy->fd, chunk->data, &chunk->error);

        if (!good) {
            g_propagate_error(error, g_steal_pointer(&chunk->error));
            chunk_free(chunk);
            return FALSE;
        }
        got = g_bytes_get_size(chunk->data);
        end = got < length;
        /* A part that is too short may be of a guest whose slots are smaller now. */
        copy->changed |= (end && chunk->offset + got < chunk->version.size) ||
                         chunk->version.inode != copy->version.inode ||
                         chunk->version.modified_ns != copy->version.modified_ns;
        if (!end) {
            lane_want(&lanes[i], chunk->offset + n * (guint64)length, length);
        }
        chunk_free(chunk);
    }
    return TRUE;
}

/* All of it to copy->fd, in order. */
static gboolean copy_file(Copy *copy, GError **error)
{
    Lane lanes[LANES_MAX] = { 0 };
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autoptr(GBytes) first = NULL;
    gboolean good;
    gsize length;

    conn = rvmrpc_connect(copy->vm, timeout_or(TIMEOUT_MS),
                          options.cancellable, error);
    if (!conn) {
        return FALSE;
    }
    /* How much comes says how large a slot is. */
    first = read_patiently(conn, copy->path, 0, READ_MAX, &copy->version,
                           error);
    if (!first || !write_bytes(copy->fd, first, error)) {
        return FALSE;
    }
    length = g_bytes_get_size(first);
    if (!length || length == copy->version.size) {
        copy->changed = length != copy->version.size;
        return TRUE;
    }
    good = copy_rest(copy, lanes, lanes_of(conn), length, length, error);
    for (guint i = 0; i < LANES_MAX; i++) {
        lane_end(&lanes[i]);
    }
    return good;
}

/* What a copy comes to; frees the error. */
static int end_copy(const Copy *copy, GError *error)
{
    if (error) {
        return fail(error);
    }
    if (copy->changed) {
        fputs("rvmrpc: the file changed while it was read, or is not as long "
              "as the guest says: the copy may not be whole\n", stderr);
        return EXIT_NOT_NOW;
    }
    return EXIT_OK;
}

int cmd_cat(int argc, char **argv)
{
    GError *error = NULL;
    Copy copy = { .path = argv[1], .fd = STDOUT_FILENO };
    g_autoptr(RvmrpcVm) vm = rvmrpc_find_vm(argv[0], options.cancellable,
                                            &error);

    (void)argc;
    copy.vm = vm;
    if (vm) {
        copy_file(&copy, &error);
    }
    return end_copy(&copy, error);
}

/* ---- cp ---- */

/* It gets the name of what is there, which of a device or a FIFO nobody wants. */
static gboolean may_replace(const char *to, GError **error)
{
    struct stat st;

    if (stat(to, &st) < 0 || S_ISREG(st.st_mode)) {
        return TRUE;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                "%s is no regular file, and would be replaced by one: write "
                "there by 'rvmrpc cat'", to);
    return FALSE;
}

/* Under another name until it is whole. */
static gboolean copy_to(Copy *copy, const char *to, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.XXXXXX", to);
    const mode_t mask = umask(0);

    umask(mask);
    if (!may_replace(to, error)) {
        return FALSE;
    }
    copy->fd = g_mkstemp(name);
    if (copy->fd < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "cannot write %s: %s", to, g_strerror(errno));
        return FALSE;
    }
    if (!copy_file(copy, error)) {
        close(copy->fd);
        g_unlink(name);
        return FALSE;
    }
    if (fchmod(copy->fd, 0666 & ~mask) | close(copy->fd) ||
        g_rename(name, to)) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "cannot write %s: %s", to, g_strerror(errno));
        g_unlink(name);
        return FALSE;
    }
    return TRUE;
}

/* VM:/PATH, newly allocated; FALSE: a file of this host. */
static gboolean guest_file(const char *arg, char **vm, const char **path)
{
    const char *colon = strstr(arg, ":/");

    /* As scp(1) has it. */
    if (!colon || colon == arg || memchr(arg, '/', colon - arg)) {
        return FALSE;
    }
    *vm = g_strndup(arg, colon - arg);
    *path = colon + 1;
    return TRUE;
}

static int copy_out(RvmrpcVm *vm, const char *from, const char *local)
{
    g_autofree char *base = g_path_get_basename(from);
    g_autofree char *to = g_file_test(local, G_FILE_TEST_IS_DIR) ?
        g_build_filename(local, base, NULL) : g_strdup(local);
    Copy copy = { .vm = vm, .path = from, .fd = -1 };
    GError *error = NULL;

    copy_to(&copy, to, &error);
    return end_copy(&copy, error);
}

int cmd_cp(int argc, char **argv)
{
    g_autofree char *from_vm = NULL, *to_vm = NULL;
    const char *from = argv[0], *to = argv[1];
    const gboolean out = guest_file(from, &from_vm, &from);
    const gboolean in = guest_file(to, &to_vm, &to);
    g_autoptr(RvmrpcVm) vm = NULL;
    GError *error = NULL;

    (void)argc;
    if (out == in) {
        return usage_error("one of '%s' and '%s' must be a VM:/PATH of a guest, "
                           "the other a file of this host", argv[0], argv[1]);
    }
    vm = rvmrpc_find_vm(out ? from_vm : to_vm, options.cancellable, &error);
    if (!vm) {
        return fail(error);
    }
    return out ? copy_out(vm, from, to) : copy_in(from, vm, to);
}

/* ---- ls ---- */

/* "drwxr-xr-x" */
static char *mode_text(guint64 mode)
{
    static const char types[] = "?pc?d?b?-?l?s???", bits[] = "rwxrwxrwx";
    char text[] = "----------";

    text[0] = types[mode >> 12 & 15];
    for (guint i = 0; i < 9; i++) {
        if (mode & 0400 >> i) {
            text[i + 1] = bits[i];
        }
    }
    if (mode & S_ISUID) {
        text[3] = mode & 0100 ? 's' : 'S';
    }
    if (mode & S_ISGID) {
        text[6] = mode & 010 ? 's' : 'S';
    }
    if (mode & S_ISVTX) {
        text[9] = mode & 01 ? 't' : 'T';
    }
    return g_strdup(text);
}

static void add_file(Table *t, const RvmrpcRecord *r, const char *path)
{
    g_autofree char *name = record_bytes_text(r, RVMRPC_FILE_NAME);
    guint64 mode = 0, modified = 0;
    g_autoptr(GDateTime) time = NULL;

    rvmrpc_record_get_u64(r, RVMRPC_FILE_MODE, &mode);
    rvmrpc_record_get_u64(r, RVMRPC_FILE_MODIFIED_NS, &modified);
    time = g_date_time_new_from_unix_local((gint64)modified / 1000000000);
    table_add(t, mode_text(mode));
    table_add_u64(t, r, RVMRPC_FILE_UID);
    table_add_u64(t, r, RVMRPC_FILE_GID);
    table_add_u64(t, r, RVMRPC_FILE_SIZE);
    table_add(t, time ? g_date_time_format(time, "%F %T") : g_strdup("-"));
    table_add(t, clean(name ?: path));
}

static int show_files(const RvmrpcRecords *records, const char *path)
{
    static const char *const heads[] = {
        "MODE", ">UID", ">GID", ">SIZE", "MODIFIED", "NAME", NULL
    };
    g_autofree char *text = NULL;
    JsonBuilder *b;
    Table *t;

    if (options.json) {
        b = begin_json();
        json_records(b, "files", records, RVMRPC_RECORD_FILE);
        json_records_state(b, records);
        end_json(b);
        return end_records(records);
    }
    t = table_new(heads);
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_FILE) {
            add_file(t, r, path);
        }
    }
    text = table_text(t, "");
    fputs(text, stdout);
    table_free(t);
    return end_records(records);
}

int cmd_ls(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcRecords) records = NULL;
    const guint timeout = timeout_or(FILES_TIMEOUT_MS);
    GError *error = NULL;

    (void)argc;
    if (!conn) {
        return code;
    }
    records = rvmrpc_get_files(conn, RVMRPC_FILES_LIST, argv[1], 0, timeout,
                               options.cancellable, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_DIRECTORY)) {
        g_clear_error(&error);
        records = rvmrpc_get_files(conn, RVMRPC_FILES_STAT, argv[1],
                                   RVMRPC_FILES_NOFOLLOW, timeout,
                                   options.cancellable, &error);
    }
    return records ? show_files(records, argv[1]) : fail(error);
}
