/*
 * The rvmrpc command: mount, a guest's files as a file system of this host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each of FUSE's threads makes its own calls, by a connection that it takes out
 * of a few: so the kernel's read-ahead has several slots in flight. Ours ask
 * anew what the kernel does not remember; nothing is kept here.
 */
#define FUSE_USE_VERSION 32

#include <errno.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include "rvmrpc-cmd.h"
#include "../common/stdio.h"

#define ATTRIBUTES_S        1.0         /* the kernel believes them for so long */
#define READAHEAD_BYTES     (1u << 20)
#define WATCH_MS            500
#define GONE_TIMES          4           /* in a row that nobody answered */

typedef struct Mount {
    RvmrpcVm *vm;
    const char *root;           /* in the guest, "" for all */
    GAsyncQueue *conns;         /* of RvmrpcConn: those that nobody uses */
    struct fuse *fuse;
    pthread_t loop;             /* thread that waits for the end */
    int ended;                  /* atomic: it has */
} Mount;

static Mount *this_mount(void)
{
    return fuse_get_context()->private_data;
}

/* ---- Errors ---- */

/* Frees the error. */
static int error_number(GError *error)
{
    static const struct {
        int code, number;
    } numbers[] = {
        { G_IO_ERROR_NOT_FOUND, ENOENT },
        { G_IO_ERROR_NOT_DIRECTORY, ENOTDIR },
        { G_IO_ERROR_NOT_REGULAR_FILE, EINVAL },
        { G_IO_ERROR_TOO_MANY_LINKS, ELOOP },
        { G_IO_ERROR_FILENAME_TOO_LONG, ENAMETOOLONG },
        { G_IO_ERROR_PERMISSION_DENIED, EACCES },
    };
    int number = EIO;

    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (g_error_matches(error, G_IO_ERROR, numbers[i].code)) {
            number = numbers[i].number;
        }
    }
    if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED)) {
        number = EACCES;
    } else if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT)) {
        number = ETIMEDOUT;
    }
    g_error_free(error);
    return number;
}

/* ---- Asking ---- */

static char *guest_path(const Mount *m, const char *path)
{
    if (m->root[0] && strcmp(path, "/") == 0) {
        return g_strdup(m->root);
    }
    return g_strconcat(m->root, path, NULL);
}

/* NULL and *number. */
static RvmrpcRecords *get_files(const char *path, guint32 procedure,
                                guint32 select, int *number)
{
    Mount *m = this_mount();
    g_autofree char *full = guest_path(m, path);
    RvmrpcConn *conn = g_async_queue_pop(m->conns);
    const guint timeout = timeout_or(FILES_TIMEOUT_MS);
    const gint64 end = g_get_monotonic_time() + timeout * (gint64)1000;
    RvmrpcRecords *records;
    GError *error = NULL;

    do {
        g_clear_error(&error);
        records = rvmrpc_get_files(conn, procedure, full, select, timeout,
                                   options.cancellable, &error);
    } while (!records && busy_again(error, end));
    g_async_queue_push(m->conns, conn);
    if (records && (!rvmrpc_records_get_count(records) ?
                    procedure != RVMRPC_FILES_LIST :
                    rvmrpc_records_get_cut(records) != NULL)) {
        g_clear_pointer(&records, rvmrpc_records_free);
        *number = EIO;
    } else if (!records) {
        *number = error_number(error);
    }
    return records;
}

static struct timespec time_of(const RvmrpcRecord *r, guint key)
{
    guint64 ns = 0;

    rvmrpc_record_get_u64(r, key, &ns);
    return (struct timespec) {
        .tv_sec = (gint64)ns / 1000000000 - ((gint64)ns % 1000000000 < 0),
        .tv_nsec = ((gint64)ns % 1000000000 + 1000000000) % 1000000000,
    };
}

static guint64 value_of(const RvmrpcRecord *r, guint key)
{
    guint64 value = 0;

    rvmrpc_record_get_u64(r, key, &value);
    return value;
}

static void fill_stat(const RvmrpcRecord *r, struct stat *st)
{
    const guint64 device = value_of(r, RVMRPC_FILE_DEVICE);

    *st = (struct stat) {
        .st_mode = value_of(r, RVMRPC_FILE_MODE),
        .st_size = value_of(r, RVMRPC_FILE_SIZE),
        .st_blocks = value_of(r, RVMRPC_FILE_ALLOCATED) / 512,
        .st_ino = value_of(r, RVMRPC_FILE_INODE),
        .st_nlink = value_of(r, RVMRPC_FILE_LINKS),
        .st_uid = value_of(r, RVMRPC_FILE_UID),
        .st_gid = value_of(r, RVMRPC_FILE_GID),
        .st_rdev = makedev(device >> 32, (guint32)device),
        .st_atim = time_of(r, RVMRPC_FILE_ACCESSED_NS),
        .st_mtim = time_of(r, RVMRPC_FILE_MODIFIED_NS),
        .st_ctim = time_of(r, RVMRPC_FILE_CHANGED_NS),
    };
}

/* ---- FUSE's operations ---- */

static int do_getattr(const char *path, struct stat *st,
                      struct fuse_file_info *info)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    int number;

    (void)info;
    records = get_files(path, RVMRPC_FILES_STAT, RVMRPC_FILES_NOFOLLOW,
                        &number);
    if (!records) {
        return -number;
    }
    fill_stat(rvmrpc_records_get(records, 0), st);
    return 0;
}

static int do_readlink(const char *path, char *text, size_t size)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    g_autoptr(GBytes) link = NULL;
    gsize length;
    int number;

    records = get_files(path, RVMRPC_FILES_STAT, RVMRPC_FILES_NOFOLLOW,
                        &number);
    if (!records) {
        return -number;
    }
    link = rvmrpc_record_get_bytes(rvmrpc_records_get(records, 0),
                                   RVMRPC_FILE_LINK);
    if (!link) {
        return -EINVAL;
    }
    length = MIN(g_bytes_get_size(link), size - 1);
    memcpy(text, g_bytes_get_data(link, NULL), length);
    text[length] = '\0';
    return 0;
}

/* A guest's name; NULL: it is none that a folder can have. */
static char *entry_name(const RvmrpcRecord *r)
{
    g_autoptr(GBytes) bytes = rvmrpc_record_get_bytes(r, RVMRPC_FILE_NAME);
    g_autofree char *name = NULL;
    gsize size;
    const char *data;

    if (!bytes) {
        return NULL;
    }
    data = g_bytes_get_data(bytes, &size);
    if (!size || memchr(data, '/', size) || memchr(data, '\0', size)) {
        return NULL;
    }
    name = g_strndup(data, size);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return NULL;
    }
    return g_steal_pointer(&name);
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill,
                      off_t offset, struct fuse_file_info *info,
                      enum fuse_readdir_flags flags)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    int number;

    (void)offset;
    (void)info;
    (void)flags;
    records = get_files(path, RVMRPC_FILES_LIST, 0, &number);
    if (!records) {
        return -number;
    }
    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        g_autofree char *name = entry_name(r);
        struct stat st;

        if (name) {
            fill_stat(r, &st);
            fill(buffer, name, &st, 0, FUSE_FILL_DIR_PLUS);
        }
    }
    return 0;
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset,
                   struct fuse_file_info *info)
{
    Mount *m = this_mount();
    g_autofree char *full = guest_path(m, path);
    RvmrpcConn *conn = g_async_queue_pop(m->conns);
    gsize done = 0, got = 1;
    GError *error = NULL;

    (void)info;
    while (done < size && got) {
        RvmrpcFileVersion version;
        g_autoptr(GBytes) bytes = read_patiently(conn, full, offset + done,
                                                 size - done, &version,
                                                 &error);

        if (!bytes) {
            break;
        }
        got = g_bytes_get_size(bytes);
        memcpy(buffer + done, g_bytes_get_data(bytes, NULL), got);
        done += got;
    }
    g_async_queue_push(m->conns, conn);
    return error ? -error_number(error) : (int)done;
}

static int do_statfs(const char *path, struct statvfs *st)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    const RvmrpcRecord *r;
    int number;

    records = get_files(path, RVMRPC_FILES_STATFS, 0, &number);
    if (!records) {
        return -number;
    }
    r = rvmrpc_records_get(records, 0);
    *st = (struct statvfs) {
        .f_bsize = 4096,
        .f_frsize = 4096,
        .f_blocks = value_of(r, RVMRPC_FS_SIZE) / 4096,
        .f_bfree = value_of(r, RVMRPC_FS_FREE) / 4096,
        .f_bavail = value_of(r, RVMRPC_FS_AVAILABLE) / 4096,
        .f_files = value_of(r, RVMRPC_FS_FILES),
        .f_ffree = value_of(r, RVMRPC_FS_FILES_FREE),
        .f_favail = value_of(r, RVMRPC_FS_FILES_FREE),
        .f_namemax = 255,
    };
    return 0;
}

/* What the kernel has of a file ends when size or time are others at its opening. */
static void *do_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    conn->max_readahead = READAHEAD_BYTES;
    config->use_ino = 1;
    config->auto_cache = 1;
    config->attr_timeout = ATTRIBUTES_S;
    config->entry_timeout = ATTRIBUTES_S;
    config->ac_attr_timeout_set = 1;
    config->ac_attr_timeout = 0;
    return this_mount();
}

static const struct fuse_operations operations = {
    .init = do_init,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .readdir = do_readdir,
    .read = do_read,
    .statfs = do_statfs,
};

/* ---- Life ---- */

static void on_wake(int sig)
{
    (void)sig;
}

/* Whether the VM has gone: nobody answers by its way, and that for a while. */
static gboolean is_gone(RvmrpcConn *conn, guint *missed)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RvmrpcChannel) channel = NULL;

    channel = rvmrpc_query(conn, TIMEOUT_MS, options.cancellable, &error);
    *missed = channel ? 0 : *missed + 1;
    return *missed >= GONE_TIMES;
}

/* Ends the loop at a signal, and when the VM has gone. */
static void *watch_thread(void *data)
{
    Mount *m = data;
    RvmrpcConn *conn = rvmrpc_connect(m->vm, TIMEOUT_MS, NULL, NULL);
    guint missed = 0;

    while (conn && !g_atomic_int_get(&m->ended) &&
           !g_cancellable_is_cancelled(options.cancellable) &&
           !is_gone(conn, &missed)) {
        g_usleep(WATCH_MS * 1000);
    }
    fuse_exit(m->fuse);
    /* A signal that comes just before it waits is lost. */
    while (!g_atomic_int_get(&m->ended)) {
        pthread_kill(m->loop, SIGUSR1);
        g_usleep(WATCH_MS * 1000 / 10);
    }
    g_clear_pointer(&conn, rvmrpc_conn_free);
    return NULL;
}

static gboolean open_conns(Mount *m, GError **error)
{
    for (guint i = 0; i < LANES; i++) {
        RvmrpcConn *conn = rvmrpc_connect(m->vm, timeout_or(TIMEOUT_MS),
                                          options.cancellable, error);

        if (!conn) {
            return FALSE;
        }
        g_async_queue_push(m->conns, conn);
    }
    return TRUE;
}

static int run_loop(Mount *m, const char *name, const char *dir)
{
    const struct sigaction wake = { .sa_handler = on_wake };
    struct fuse_loop_config config = { .clone_fd = 0, .max_idle_threads = LANES };
    GThread *watch;
    int err;

    sigaction(SIGUSR1, &wake, NULL);
    m->loop = pthread_self();
    printf("%s is at %s\n", name, dir);
    stdio_flush();
    watch = g_thread_new("watch", watch_thread, m);
    err = fuse_loop_mt(m->fuse, &config);
    g_atomic_int_set(&m->ended, 1);
    g_thread_join(watch);
    return err < 0 ? EXIT_OTHER : EXIT_OK;
}

static int serve(Mount *m, const char *name, const char *dir)
{
    g_autofree char *clean_name = rvmrpc_escape(name, FALSE);
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int code = EXIT_OTHER;

    fuse_opt_add_arg(&args, "rvmrpc");
    fuse_opt_add_arg(&args, "-oro,nosuid,nodev,subtype=rvmrpc,fsname=rvmrpc");
    m->fuse = fuse_new(&args, &operations, sizeof(operations), m);
    /* Both say themselves what is wrong. */
    if (m->fuse && fuse_mount(m->fuse, dir) == 0) {
        code = run_loop(m, clean_name, dir);
        fuse_unmount(m->fuse);
    }
    g_clear_pointer(&m->fuse, fuse_destroy);
    fuse_opt_free_args(&args);
    return code;
}

int cmd_mount(int argc, char **argv)
{
    const char *colon = strstr(argv[0], ":/");
    g_autofree char *name = colon ? g_strndup(argv[0], colon - argv[0]) :
                            g_strdup(argv[0]);
    g_autoptr(RvmrpcVm) vm = NULL;
    Mount m = { .root = colon && colon[2] ? colon + 1 : "" };
    GError *error = NULL;
    RvmrpcConn *conn;
    int code;

    (void)argc;
    vm = rvmrpc_find_vm(name, options.cancellable, &error);
    m.vm = vm;
    m.conns = g_async_queue_new();
    code = vm && open_conns(&m, &error) ? serve(&m, argv[0], argv[1]) :
           fail(error);
    while ((conn = g_async_queue_try_pop(m.conns))) {
        rvmrpc_conn_free(conn);
    }
    g_async_queue_unref(m.conns);
    return code;
}
